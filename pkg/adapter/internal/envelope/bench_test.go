package envelope_test

import (
	"testing"

	"github.com/seed-0b620db0/patchbay/pkg/adapter"
	"github.com/seed-0b620db0/patchbay/pkg/adapter/internal/envelope"
	"github.com/seed-0b620db0/patchbay/pkg/sio"
)

var broadcasts = []struct {
	name string
	m    adapter.Message
}{
	{"chat", adapter.Message{
		Type: adapter.Broadcast, From: "0123456789abcdef", Target: sio.Target{Rooms: []string{"lobby"}},
		Event: event(`["chat message",{"room":"lobby","from":"jane","text":"hello, world: how are you today?","at":1700000000123}]`),
	}},
	{"binary", adapter.Message{
		Type: adapter.Broadcast, From: "0123456789abcdef", Target: sio.Target{Rooms: []string{"lobby"}},
		Event: event(`["file","a.png",`+ph0+`]`, make([]byte, 4096)),
	}},
}

var encodings = []struct {
	name   string
	append func([]byte, *adapter.Message, string) ([]byte, error)
}{{"json", envelope.AppendJSON}, {"msgpack", envelope.AppendMsgpack}}

// A broadcast costs: to write, nothing. To read, the message, what From, the namespace and the room are, and the list that the
// room is in; of MessagePack also the payload and the list of attachments.
func TestAllocs(t *testing.T) {
	buf := make([]byte, 0, 1<<16)
	for _, b := range broadcasts {
		for _, e := range encodings {
			if b.name == "binary" && e.name == "json" {
				continue // is not sent
			}
			encoded, err := e.append(nil, &b.m, "/chat")
			if err != nil {
				t.Fatal(err)
			}
			want := 5.0
			if e.name == "msgpack" {
				want++
			}
			if b.name == "binary" {
				want++
			}
			if n := testing.AllocsPerRun(20, func() {
				if _, err := e.append(buf, &b.m, "/chat"); err != nil {
					t.Fatal(err)
				}
			}); n > 0 {
				t.Errorf("append %s %s: %v allocations", b.name, e.name, n)
			}
			if n := testing.AllocsPerRun(20, func() {
				if _, _, _, err := envelope.Parse(encoded); err != nil {
					t.Fatal(err)
				}
			}); n > want {
				t.Errorf("parse %s %s: %v allocations, want at most %v", b.name, e.name, n, want)
			}
		}
	}
}

func BenchmarkAppend(b *testing.B) {
	for _, c := range broadcasts {
		for _, e := range encodings {
			b.Run("value="+c.name+"/as="+e.name, func(b *testing.B) {
				b.ReportAllocs()
				var buf []byte
				var err error
				for b.Loop() {
					if buf, err = e.append(buf[:0], &c.m, "/chat"); err != nil {
						b.Fatal(err)
					}
				}
				b.SetBytes(int64(len(buf)))
			})
		}
	}
}

func BenchmarkParse(b *testing.B) {
	for _, c := range broadcasts {
		for _, e := range encodings {
			b.Run("value="+c.name+"/as="+e.name, func(b *testing.B) {
				b.ReportAllocs()
				encoded, err := e.append(nil, &c.m, "/chat")
				if err != nil {
					b.Fatal(err)
				}
				b.SetBytes(int64(len(encoded)))
				for b.Loop() {
					if _, _, _, err := envelope.Parse(encoded); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
