package eioproto_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/seed-0b620db0/patchbay/pkg/eio/eioproto"
)

func message(s string) eioproto.Packet {
	return eioproto.Packet{Type: eioproto.Message, Data: []byte(s)}
}

func binary(b ...byte) eioproto.Packet {
	return eioproto.Packet{Type: eioproto.Message, Binary: true, Data: b}
}

func equal(a, b eioproto.Packet) bool {
	return a.Type == b.Type && a.Binary == b.Binary && bytes.Equal(a.Data, b.Data)
}

func TestText(t *testing.T) {
	for _, c := range []struct {
		text   string
		packet eioproto.Packet
	}{
		{`0{"sid":"lv_VI97HAXpY6yYWAAAC"}`, eioproto.Packet{Type: eioproto.Open, Data: []byte(`{"sid":"lv_VI97HAXpY6yYWAAAC"}`)}},
		{"1", eioproto.Packet{Type: eioproto.Close}},
		{"2", eioproto.Packet{Type: eioproto.Ping}},
		{"2probe", eioproto.Packet{Type: eioproto.Ping, Data: []byte("probe")}},
		{"3", eioproto.Packet{Type: eioproto.Pong}},
		{"3probe", eioproto.Packet{Type: eioproto.Pong, Data: []byte("probe")}},
		{"4", message("")},
		{"4hello", message("hello")},
		{"44", message("4")},
		{"4b64", message("b64")},
		{"4€", message("€")},
		{"5", eioproto.Packet{Type: eioproto.Upgrade}},
		{"6", eioproto.Packet{Type: eioproto.Noop}},
		{"b", binary()},
		{"bAQ==", binary(1)},
		{"bAQI=", binary(1, 2)},
		{"bAQIDBA==", binary(1, 2, 3, 4)},
		{"b+/8A", binary(0xfb, 0xff, 0)},
	} {
		t.Run(c.text, func(t *testing.T) {
			if got := string(c.packet.AppendText([]byte("before"))); got != "before"+c.text {
				t.Errorf("encoded: %q", got)
			}
			if got := c.packet.TextLen(); got != len(c.text) {
				t.Errorf("TextLen: %d", got)
			}
			if got, err := eioproto.ParseText([]byte(c.text)); err != nil || !equal(got, c.packet) {
				t.Errorf("decoded: %+v, %v", got, err)
			}
		})
	}
}

func TestParseTextUnpadded(t *testing.T) {
	for text, want := range map[string]eioproto.Packet{
		"bAQ": binary(1), "bAQI": binary(1, 2), "bAQIDBA": binary(1, 2, 3, 4), "bAQ=": binary(1),
	} {
		if got, err := eioproto.ParseText([]byte(text)); err != nil || !equal(got, want) {
			t.Errorf("%s: got %+v, %v", text, got, err)
		}
	}
}

func TestParseTextErrors(t *testing.T) {
	for text, want := range map[string]error{
		"":      eioproto.ErrEmpty,
		"7":     eioproto.ErrType,
		"9x":    eioproto.ErrType,
		"abc":   eioproto.ErrType,
		"/":     eioproto.ErrType,
		" 4":    eioproto.ErrType,
		"B":     eioproto.ErrType,
		"\x00":  eioproto.ErrType,
		"\xff4": eioproto.ErrType,
		"b!":    eioproto.ErrBase64,
		"bA":    eioproto.ErrBase64,
		"bAQ=A": eioproto.ErrBase64,
		"bA-_A": eioproto.ErrBase64,
	} {
		if got, err := eioproto.ParseText([]byte(text)); !errors.Is(err, want) {
			t.Errorf("%q: got %+v, %v, want %v", text, got, err, want)
		}
	}
}

func TestPayload(t *testing.T) {
	for _, c := range []struct {
		body string
		want string
		err  error
	}{
		{"4hello\x1e2\x1e4world", "message:hello ping: message:world", nil},
		{"4hello\x1ebAQIDBA==", "message:hello binary:01020304", nil},
		{"4", "message:", nil},
		{"", "", eioproto.ErrEmpty},
		{"\x1e4a", "", eioproto.ErrEmpty},
		{"4a\x1e", "message:a", eioproto.ErrEmpty},
		{"4a\x1e\x1e4b", "message:a", eioproto.ErrEmpty},
		{"4a\x1e9\x1e4b", "message:a", eioproto.ErrType},
		{"4a\x1eb*\x1e4b", "message:a", eioproto.ErrBase64},
	} {
		t.Run(c.body, func(t *testing.T) {
			var got []string
			var last error
			for p, err := range eioproto.Payload([]byte(c.body)) {
				switch {
				case last != nil:
					t.Error("goes on after an error")
				case err != nil:
					last = err
				case p.Binary:
					got = append(got, fmt.Sprintf("binary:%x", p.Data))
				default:
					got = append(got, fmt.Sprintf("%v:%s", p.Type, p.Data))
				}
			}
			if s := strings.Join(got, " "); s != c.want || !errors.Is(last, c.err) {
				t.Errorf("got %q, %v", s, last)
			}
		})
	}
}

func TestPayloadStopsWhenTold(t *testing.T) {
	n := 0
	for range eioproto.Payload([]byte("4a\x1e4b\x1e4c")) {
		if n++; n == 2 {
			break
		}
	}
	if n != 2 {
		t.Errorf("%d packets", n)
	}
}

func TestTypeString(t *testing.T) {
	var got []string
	for i := range eioproto.Type(8) {
		got = append(got, i.String())
	}
	want := []string{"open", "close", "ping", "pong", "message", "upgrade", "noop", "unknown"}
	if !slices.Equal(got, want) {
		t.Errorf("got %v", got)
	}
}

func TestAllocations(t *testing.T) {
	text, bin := message(strings.Repeat("x", 200)), binary(make([]byte, 200)...)
	buf := make([]byte, 0, 1024)
	line := text.AppendText(nil)
	base64 := bin.AppendText(nil)
	body := bytes.Repeat([]byte("4hello\x1e"), 50)
	body = append(body, '3')
	for _, c := range []struct {
		name string
		most float64
		f    func()
	}{
		{"encode text", 0, func() { buf = text.AppendText(buf[:0]) }},
		{"encode binary", 0, func() { buf = bin.AppendText(buf[:0]) }},
		{"decode text", 0, func() { _, _ = eioproto.ParseText(line) }},
		{"decode binary", 2, func() { _, _ = eioproto.ParseText(base64) }}, // one without the race detector
		{"payload of 51", 0, func() {
			for _, err := range eioproto.Payload(body) {
				if err != nil {
					t.Fatal(err)
				}
			}
		}},
	} {
		if got := testing.AllocsPerRun(100, c.f); got > c.most {
			t.Errorf("%s: %v allocations, want at most %v", c.name, got, c.most)
		}
	}
}

func BenchmarkEncode(b *testing.B) {
	for _, p := range []eioproto.Packet{message(strings.Repeat("x", 128)), binary(make([]byte, 128)...)} {
		b.Run(fmt.Sprintf("binary=%v/bytes=%d", p.Binary, len(p.Data)), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(p.Data)))
			buf := make([]byte, 0, p.TextLen())
			for b.Loop() {
				buf = p.AppendText(buf[:0])
			}
		})
	}
}

func BenchmarkPayload(b *testing.B) {
	for _, n := range []int{1, 100} {
		b.Run(fmt.Sprintf("packets=%d/bytes=128", n), func(b *testing.B) {
			part := message(strings.Repeat("x", 128)).AppendText(nil)
			body := bytes.Join(slices.Repeat([][]byte{part}, n), []byte{eioproto.Separator})
			b.ReportAllocs()
			b.SetBytes(int64(len(body)))
			for b.Loop() {
				for _, err := range eioproto.Payload(body) {
					if err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}
