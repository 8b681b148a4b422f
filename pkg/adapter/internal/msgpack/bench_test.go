package msgpack_test

import (
	"strings"
	"testing"

	"github.com/seed-0b620db0/patchbay/pkg/adapter/internal/msgpack"
)

var samples = []struct {
	name string
	text string
	atts [][]byte
}{
	{"chat", `["chat message",{"room":"lobby","from":"jane","text":"hello, world: how are you today?","at":1700000000123,"tags":["a","b"]}]`, nil},
	{"numbers", "[" + strings.Repeat("1234,-5,0.25,", 100) + "1]", nil},
	{"unicode", `["m","` + strings.Repeat(`日本語 👋\n`, 50) + `"]`, nil},
	{"long", `["m","` + strings.Repeat("abcdefghijklmnopqrstuvwxyz ", 400) + `"]`, nil},
	{"binary", `["file","a.png",{"_placeholder":true,"num":0}]`, [][]byte{make([]byte, 4096)}},
	{"nested", strings.Repeat(`[{"a":`, 20) + `[` + strings.Repeat(`"x",`, 19) + `"x"]` + strings.Repeat(`},null]`, 20), nil},
}

func TestAllocs(t *testing.T) {
	buf, text, atts := make([]byte, 0, 1<<16), make([]byte, 0, 1<<16), make([][]byte, 0, 4)
	for _, s := range samples {
		src := []byte(s.text)
		encode := func() {
			if _, err := msgpack.AppendJSON(buf, src, s.atts); err != nil {
				t.Fatal(err)
			}
		}
		encoded, err := msgpack.AppendJSON(nil, src, s.atts)
		if err != nil {
			t.Fatal(err)
		}
		decode := func() {
			c := msgpack.NewCursor(encoded)
			if _, _, err := c.AppendJSON(text, atts); err != nil || c.End() != nil {
				t.Fatal(err)
			}
		}
		for name, f := range map[string]func(){"encode": encode, "decode": decode} {
			if n := testing.AllocsPerRun(20, f); n > 0 {
				t.Errorf("%s %s: %v allocations", name, s.name, n)
			}
		}
	}
}

func BenchmarkAppendJSON(b *testing.B) {
	for _, s := range samples {
		b.Run("value="+s.name, func(b *testing.B) {
			b.ReportAllocs()
			src := []byte(s.text)
			b.SetBytes(int64(len(src)))
			var buf []byte
			var err error
			for b.Loop() {
				if buf, err = msgpack.AppendJSON(buf[:0], src, s.atts); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkCursorAppendJSON(b *testing.B) {
	for _, s := range samples {
		b.Run("value="+s.name, func(b *testing.B) {
			b.ReportAllocs()
			src, err := msgpack.AppendJSON(nil, []byte(s.text), s.atts)
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(len(src)))
			var text []byte
			var atts [][]byte
			for b.Loop() {
				c := msgpack.NewCursor(src)
				if text, atts, err = c.AppendJSON(text[:0], atts[:0]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkValue(b *testing.B) {
	src, err := msgpack.AppendJSON(nil, []byte(samples[0].text), nil)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		c := msgpack.NewCursor(src)
		if _, err := c.Value(); err != nil {
			b.Fatal(err)
		}
	}
}
