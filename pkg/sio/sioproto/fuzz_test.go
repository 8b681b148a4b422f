package sioproto_test

import (
	"encoding/json"
	"errors"
	"reflect"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/seed-0b620db0/patchbay/pkg/sio/sioproto"
)

// FuzzDecode: whatever a peer sends, what is decoded encodes to something that decodes to the same.
func FuzzDecode(f *testing.F) {
	for _, c := range loadGolden(f).Decode {
		f.Add(c.Messages[0].Data, []byte{1}, uint8(len(c.Messages)-1))
	}
	f.Fuzz(func(t *testing.T, text, attachment []byte, n uint8) {
		d := sioproto.NewDecoder(sioproto.Limits{Depth: 64, AttachmentBytes: 64})
		p, err := d.Add(text, false)
		for ; p == nil && err == nil && n > 0; n-- {
			p, err = d.Add(attachment, true)
		}
		if err != nil {
			if p != nil {
				t.Fatal("a packet and an error")
			}
			return
		}
		if p == nil {
			return
		}
		if p.Payload != nil && (!json.Valid(p.Payload) || !utf8.Valid(p.Payload)) {
			t.Fatalf("payload %q", p.Payload)
		}
		again, err := feed(sioproto.NewDecoder(sioproto.Limits{Depth: 64}), sioproto.Default.Encode(p))
		if err != nil || !reflect.DeepEqual(again, p) {
			t.Fatalf("%+v became %+v, %v", p, again, err)
		}

		// The pieces can be taken apart and put together again.
		if p.Payload == nil || p.Type != sioproto.Event && p.Type != sioproto.Ack {
			return
		}
		var args []any
		for _, e := range sioproto.Elements(p.Payload) {
			args = append(args, sioproto.Raw{JSON: e, Attachments: p.Attachments})
		}
		payload, atts, err := sioproto.AppendArgs(nil, nil, args...)
		if err != nil {
			t.Fatalf("%s: %v", p.Payload, err)
		}
		if v, w := decodeAny(t, p.Payload, p.Attachments), decodeAny(t, payload, atts); !reflect.DeepEqual(v, w) {
			t.Fatalf("%s %v became %s %v", p.Payload, p.Attachments, payload, atts)
		}
		if p.Type == sioproto.Event {
			if _, err := sioproto.EventName(p.Payload); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// decodeAny returns nil for what no Go value can hold: numbers beyond a float64.
func decodeAny(t *testing.T, payload []byte, atts [][]byte) (v any) {
	t.Helper()
	err := sioproto.Raw{JSON: payload, Attachments: atts}.Decode(&v)
	if _, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return nil
	}
	if err != nil {
		t.Fatalf("%s: %v", payload, err)
	}
	return v
}

// FuzzLoose: functions that promise sense for valid payloads only still do not panic on others.
func FuzzLoose(f *testing.F) {
	for _, c := range loadGolden(f).Decode {
		f.Add(c.Messages[0].Data)
	}
	f.Add([]byte(`[{"a":[}`))
	f.Add([]byte(`["\`))
	f.Fuzz(func(t *testing.T, payload []byte) {
		list, err := sioproto.Split(payload)
		total := 0
		for _, e := range list {
			total += len(e)
		}
		if err == nil && total > len(payload) {
			t.Fatal("more than there was")
		}
		_, _ = sioproto.EventName(payload)
		atts := [][]byte{{1}}
		for _, dst := range []any{new(string), new(int), new(any), new([]byte), new(sioproto.Raw), new(file)} {
			_ = sioproto.DecodeArgs(payload, nil, dst)
			_ = sioproto.DecodeArgs(payload, atts, dst)
		}
		got, _, err := sioproto.AppendArgs(nil, nil, sioproto.Raw{JSON: payload, Attachments: atts}, json.RawMessage(payload))
		if err == nil && !json.Valid(got) {
			t.Fatalf("%q", got)
		}
		if valid := json.Valid(payload) && utf8.Valid(payload); err == nil && !valid {
			t.Fatalf("%q was accepted", payload)
		}
	})
}

// FuzzValues: values come back as they went, by the paths with and without reflection.
func FuzzValues(f *testing.F) {
	f.Add("a", "k", []byte{1}, 1.5, int64(1), true, int64(0))
	f.Add("\u2028<\xff\x00", "_placeholder", []byte{}, 1e21, int64(-1<<53), false, int64(1700000000123))
	f.Add(`{"_placeholder":true,"num":0}`, "", []byte(nil), 1e-7, int64(1<<62), true, int64(-1))
	f.Fuzz(func(t *testing.T, s, key string, b []byte, fl float64, n int64, yes bool, ms int64) {
		type record struct {
			S string
			B []byte
			F float64
			N int64
			A any
			L [][]byte
			M map[string]any
		}
		if fl != fl || fl > 1e308 || fl < -1e308 {
			fl = 0 // null for JavaScript, an error in a struct
		}
		in := record{s, b, fl, n, []any{s, b, fl, yes, nil}, [][]byte{b, b}, map[string]any{key: yes, "x" + key: b}}
		at := time.UnixMilli(ms)
		payload, atts, err := sioproto.AppendArgs(nil, nil, s, b, fl, n, yes, in, &in, in.A, in.M, at)
		if key == "_placeholder" && yes && b != nil {
			if !errors.Is(err, sioproto.ErrPlaceholder) {
				t.Fatal(err)
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		p := &sioproto.Packet{Type: sioproto.Ack, Namespace: "/n", ID: 1, HasID: true, Payload: payload, Attachments: atts}
		again, err := feed(sioproto.NewDecoder(sioproto.Limits{Attachments: 100}), sioproto.Default.Encode(p))
		if err != nil || !reflect.DeepEqual(again, p) {
			t.Fatalf("%+v became %+v, %v", p, again, err)
		}
		var (
			gotS         string
			gotB         []byte
			gotF         float64
			gotN         int64
			gotYes       bool
			one, another record
			gotA         any
			gotM         map[string]any
			gotAt        *time.Time
		)
		if err := sioproto.DecodeArgs(payload, atts, &gotS, &gotB, &gotF, &gotN, &gotYes, &one, &another, &gotA, &gotM, &gotAt); err != nil {
			t.Fatal(err)
		}
		if !utf8.ValidString(in.S) || !utf8.ValidString(key) {
			return // what was not UTF-8 is replaced
		}
		want := in
		if b == nil { // comes back as null without a type
			want.A, want.M = []any{s, nil, fl, yes, nil}, map[string]any{key: yes, "x" + key: nil}
		}
		if gotS != s || !reflect.DeepEqual(gotB, b) || gotF != fl || gotN != n || gotYes != yes ||
			!reflect.DeepEqual(one, want) || !reflect.DeepEqual(another, want) || !reflect.DeepEqual(gotA, want.A) || !reflect.DeepEqual(gotM, want.M) {
			t.Fatalf("%s became %+v %+v %v %v", payload, one, another, gotA, gotM)
		}
		if gotAt != nil && !gotAt.Equal(at) {
			t.Fatalf("%v became %v", at, gotAt)
		}
	})
}
