package sioproto_test

import (
	"fmt"
	"testing"

	"github.com/seed-0b620db0/patchbay/pkg/sio/sioproto"
)

// The costs of a small event, the packet that matters most. Encoding: the string, which becomes an interface value.
// Decoding: the packet.
func TestAllocs(t *testing.T) {
	buf := make([]byte, 0, 256)
	text := "hello, " + t.Name()
	encode := func() {
		payload, atts, err := sioproto.AppendEvent(buf[:0], nil, "chat message", text)
		if err != nil || atts != nil || len(payload) < 20 {
			t.Fatal(err)
		}
		p := sioproto.Packet{Type: sioproto.Event, Namespace: "/chat", Payload: payload}
		if out := p.AppendText(buf[128:128]); len(out) < 20 {
			t.Fatal(out)
		}
	}
	d := sioproto.NewDecoder(sioproto.Limits{})
	message := []byte(`2/chat,12["chat message","hello",{"a":1}]`)
	decode := func() {
		if _, err := d.Add(message, false); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name string
		want float64
		f    func()
	}{{"encode", 1, encode}, {"decode", 1, decode}} {
		// The least of several rounds: under the race detector encoding/json's sync.Pool forgets at random.
		got := testing.AllocsPerRun(10, c.f)
		for range 20 {
			got = min(got, testing.AllocsPerRun(10, c.f))
		}
		if got > c.want {
			t.Errorf("%s: %v allocations, want at most %v", c.name, got, c.want)
		}
	}
}

type point struct {
	X, Y float64
	Name string
}

var benchmarkValues = []struct {
	name  string
	value any
}{
	{"string", "hello, world"},
	{"map", map[string]any{"room": "lobby", "text": "hello, world", "n": 3, "tags": []any{"a", "b"}}},
	{"struct", point{1.5, -2, "p"}},
	{"bytes", make([]byte, 1024)},
	{"struct with bytes", file{Name: "f", Data: make([]byte, 1024)}},
}

func BenchmarkAppendEvent(b *testing.B) {
	for _, c := range benchmarkValues {
		b.Run("value="+c.name, func(b *testing.B) {
			b.ReportAllocs()
			var buf []byte
			var atts [][]byte
			var err error
			for b.Loop() {
				if buf, atts, err = sioproto.AppendEvent(buf[:0], atts[:0], "message", c.value); err != nil {
					b.Fatal(err)
				}
			}
			b.SetBytes(int64(len(buf)))
		})
	}
}

func BenchmarkDecoder(b *testing.B) {
	for _, c := range benchmarkValues {
		payload, atts, err := sioproto.AppendEvent(nil, nil, "message", c.value)
		if err != nil {
			b.Fatal(err)
		}
		messages := sioproto.Default.Encode(&sioproto.Packet{Type: sioproto.Event, Namespace: "/chat", Payload: payload, Attachments: atts})
		b.Run("value="+c.name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(messages[0].Data)))
			d := sioproto.NewDecoder(sioproto.Limits{})
			for b.Loop() {
				if p, err := feed(d, messages); p == nil || err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	for _, size := range []int{1 << 10, 1 << 16} {
		b.Run(fmt.Sprintf("value=long/bytes=%d", size), func(b *testing.B) {
			b.ReportAllocs()
			p := sioproto.Packet{Type: sioproto.Event, Payload: []byte(`["message","` + longText(size) + `"]`)}
			text := p.AppendText(nil)
			b.SetBytes(int64(len(text)))
			d := sioproto.NewDecoder(sioproto.Limits{})
			for b.Loop() {
				if _, err := d.Add(text, false); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func longText(n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = 'a' + byte(i%26)
	}
	return string(b)
}

func BenchmarkDecodeEvent(b *testing.B) {
	for _, c := range benchmarkValues {
		payload, atts, err := sioproto.AppendEvent(nil, nil, "message", c.value)
		if err != nil {
			b.Fatal(err)
		}
		for _, into := range []string{"any", "raw"} {
			b.Run("value="+c.name+"/into="+into, func(b *testing.B) {
				b.ReportAllocs()
				var v any
				var r sioproto.Raw
				dst := any(&v)
				if into == "raw" {
					dst = &r
				}
				for b.Loop() {
					if err := sioproto.DecodeEvent(payload, atts, dst); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
