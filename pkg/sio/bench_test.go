package sio_test

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/coder/websocket"

	"github.com/seed-0b620db0/patchbay/pkg/sio"
)

// The broadcast itself costs a fixed number of allocations, whatever the number of members: encoded once, one list.
func TestLesson28_BroadcastAllocs(t *testing.T) {
	l := newLab(t, nil)
	for range 100 {
		c := l.handshake() // no poll is open: nothing runs but what is measured
		c.send("0")
	}
	until(t, "all are in", func() bool { return l.Len() == 100 })
	for s := range l.Sockets() {
		s.Join("room")
	}
	text := strings.Repeat("x", 100)
	b := l.To("room").Volatile()
	got := testing.AllocsPerRun(200, func() {
		if err := b.Emit(t.Context(), "e", text); err != nil {
			t.Error(err)
		}
	})
	if got > 12 {
		t.Errorf("%v allocations for a broadcast to 100 members, want at most 12", got)
	}
}

func TestEmitAllocs(t *testing.T) {
	l := newLab(t, nil)
	c := l.handshake()
	c.send("0")
	until(t, "it is in", func() bool { return l.Len() == 1 })
	s := only(t, l.Of("/"))
	got := testing.AllocsPerRun(200, func() {
		if err := s.Volatile().Emit("e", "text"); err != nil {
			t.Error(err)
		}
	})
	if got > 8 {
		t.Errorf("%v allocations for an event to one socket, want at most 8", got)
	}
}

func BenchmarkBroadcast(b *testing.B) {
	for _, members := range []int{10, 100, 1000} {
		for _, size := range []int{16, 128, 4096} {
			b.Run(fmt.Sprintf("members=%d/bytes=%d", members, size), func(b *testing.B) {
				var queued atomic.Int64
				opts := &sio.Options{}
				opts.Engine.MaxQueueBytes = 64 << 20
				opts.Engine.Hooks.Queued = func(n int) { queued.Add(int64(n)) }
				l := newLab(b, opts)
				for range members {
					c := l.drained(b)
					b.Cleanup(func() { c.Close() })
				}
				until(b, "all are in", func() bool { return l.Len() == members })
				text := strings.Repeat("x", size)
				b.SetBytes(int64(members * size))
				b.ReportAllocs()
				for b.Loop() {
					if err := l.Emit(b.Context(), "e", text); err != nil {
						b.Fatal(err)
					}
					for queued.Load() > 16<<20 { // as fast as it goes out, not as it comes in
						runtime.Gosched()
					}
				}
				b.ReportMetric(float64(members)*float64(b.N)/b.Elapsed().Seconds(), "deliveries/s")
			})
		}
	}
}

// drained connects a client that takes whatever comes and does nothing with it.
func (l *lab) drained(b *testing.B) io.Closer {
	b.Helper()
	conn, err := l.listener.Dial(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	ws, _, err := websocket.Dial(b.Context(), base+"websocket", &websocket.DialOptions{HTTPClient: oneConn(conn)})
	if err != nil {
		b.Fatal(err)
	}
	if err := ws.Write(b.Context(), websocket.MessageText, []byte("40")); err != nil {
		b.Fatal(err)
	}
	go func() { _, _ = io.Copy(io.Discard, conn) }() // ends with the connection
	return conn
}

func BenchmarkEventAck(b *testing.B) {
	for _, size := range []int{16, 4096} {
		b.Run(fmt.Sprintf("bytes=%d", size), func(b *testing.B) {
			l := newLab(b, nil)
			l.On("e", sio.Reply(func(_ context.Context, _ *sio.Socket, s string) (int, error) { return len(s), nil }))
			c := l.ws()
			c.connect("/", "")
			event, answer := fmt.Sprintf(`21["e",%q]`, strings.Repeat("x", size)), fmt.Sprintf("31[%d]", size)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				c.send(event)
				c.want(answer)
			}
		})
	}
}

func BenchmarkJoinLeave(b *testing.B) {
	l := newLab(b, nil)
	c := l.ws()
	c.connect("/", "")
	until(b, "it is in", func() bool { return l.Len() == 1 })
	s := only(b, l.Of("/"))
	b.ReportAllocs()
	for b.Loop() {
		s.Join("room")
		s.Leave("room")
	}
}
