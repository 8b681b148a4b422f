package eioproto_test

import (
	"bytes"
	"testing"

	"github.com/seed-0b620db0/patchbay/pkg/eio/eioproto"
)

func FuzzParseText(f *testing.F) {
	for _, s := range []string{"", "0{}", "1", "2probe", "4hello", "4\xff", "b", "bAQ", "bAQ==", "b!", "7"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		before := bytes.Clone(text)
		p, err := eioproto.ParseText(text)
		if !bytes.Equal(before, text) {
			t.Fatal("the input was changed")
		}
		if err != nil {
			if p.Data != nil || p.Binary || p.Type != 0 {
				t.Errorf("a packet beside an error: %+v", p)
			}
			return
		}
		if p.Type > eioproto.Noop || p.Binary && p.Type != eioproto.Message {
			t.Fatalf("impossible packet %+v", p)
		}
		again := p.AppendText(nil)
		if len(again) != p.TextLen() {
			t.Errorf("TextLen says %d of %q", p.TextLen(), again)
		}
		if !p.Binary && !bytes.Equal(again, text) { // base64 has more than one form
			t.Errorf("%q became %q", text, again)
		}
		q, err := eioproto.ParseText(again)
		if err != nil || !equal(p, q) {
			t.Errorf("%q: %+v became %+v, %v", text, p, q, err)
		}
	})
}

func FuzzPayload(f *testing.F) {
	for _, s := range []string{"", "4a\x1e4b", "4a\x1e\x1e", "4\x1ebAQ==\x1e2", "\x1e", "4a\x1e9\x1e4b"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var again []byte
		var all []eioproto.Packet
		failed := false
		for p, err := range eioproto.Payload(body) {
			if failed {
				t.Fatal("goes on after an error")
			}
			if failed = err != nil; failed {
				continue
			}
			if len(all) > 0 {
				again = append(again, eioproto.Separator)
			}
			again = p.AppendText(again)
			all = append(all, p)
		}
		if want := bytes.Count(body, []byte{eioproto.Separator}) + 1; !failed && len(all) != want {
			t.Fatalf("%d packets of %d", len(all), want)
		}
		if len(all) == 0 {
			return
		}
		i := 0
		for p, err := range eioproto.Payload(again) {
			if err != nil || i == len(all) || !equal(p, all[i]) {
				t.Fatalf("packet %d of %q came back as %+v, %v", i, body, p, err)
			}
			i++
		}
		if i != len(all) {
			t.Errorf("%d of %d packets came back", i, len(all))
		}
	})
}
