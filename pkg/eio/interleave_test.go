package eio_test

import (
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-0b620db0/patchbay/pkg/eio"
)

// throng is many who send messages of several frames to one client at the same time.
type throng struct {
	senders, each int
	size          int           // bytes of each message's last frame
	pause         time.Duration // between the messages of a sender
	pingPause     time.Duration // between the client's pings
	base64        bool
}

// run tries to make frames of different messages, and control frames, meet: the heartbeat sends too, and the library, or who
// writes in its place, answers the client's pings.
func (g throng) run(t *testing.T, w *wsClient, s *eio.Session) {
	t.Helper()
	var wg sync.WaitGroup
	for n := range g.senders {
		wg.Go(func() {
			for i := range g.each {
				id := fmt.Sprintf("%d.%d.", n, i)
				_ = s.Send(eio.NewMessage(
					eio.Frame{Data: []byte(id + "head")},
					eio.Frame{Data: []byte(id + strings.Repeat("1", 50*i)), Binary: true},
					eio.Frame{Data: []byte(id + strings.Repeat("2", g.size)), Binary: true}))
				time.Sleep(g.pause)
			}
		})
	}
	stop := make(chan struct{})
	defer func() {
		close(stop)
		_ = w.Close()
		wg.Wait()
	}()
	wg.Go(func() { // the client's pings
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			case <-time.After(g.pingPause):
				_ = w.write(opPing, fmt.Sprint("ping", i))
			}
		}
	})
	g.wantWhole(t, w)
}

// wantWhole reads all messages. Those of each sender have to come in order, and the frames of each with no packet in between.
func (g throng) wantWhole(t *testing.T, w *wsClient) {
	t.Helper()
	pongs, messages, id, at := 0, 0, "", 0
	next := make([]int, g.senders)
	for messages < g.senders*g.each {
		f, err := w.recv()
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case f.op == opPong:
			pongs++
		case f.op == opText && f.data == "2":
			if at != 0 {
				t.Fatal("a ping packet within a message")
			}
			_ = w.write(opText, "3")
		case at == 0:
			id = strings.TrimSuffix(strings.TrimPrefix(f.data, "4"), "head")
			var n, i int
			if _, err := fmt.Sscanf(id, "%d.%d.", &n, &i); err != nil {
				t.Fatalf("%v: %v", f, err)
			}
			if i != next[n] {
				t.Fatalf("sender %d: message %d, want %d", n, i, next[n])
			}
			next[n]++
			at = 1
		default:
			if g.base64 && !strings.HasPrefix(f.data, "b") || !g.base64 && !strings.HasPrefix(f.data, id) {
				t.Fatalf("frame %d of %q is %v", at, id, f)
			}
			if at++; at == 3 {
				at = 0
				messages++
			}
		}
	}
	if pongs == 0 {
		t.Error("no pongs came in between: the test tests nothing")
	}
}

func TestLesson9And20_MessagesAreNotInterleaved(t *testing.T) {
	for _, c := range []struct {
		name    string
		query   string
		opts    eio.Options
		headers []string
	}{
		{name: "plain", query: wsQuery},
		{name: "base64", query: wsQuery + "&b64=1"},
		{
			name: "deflate", query: wsQuery, opts: eio.Options{PerMessageDeflate: &eio.PerMessageDeflate{Threshold: 1 << 20}},
			headers: []string{"Sec-WebSocket-Extensions: permessage-deflate"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c.opts.PingInterval, c.opts.MaxQueueBytes = time.Millisecond, 64<<20
				l := newLab(t, &c.opts, 512) // small, so that writes stop half-way through a frame
				w, r := l.dial(c.query, c.headers...)
				if r.status != 101 {
					t.Fatal(r)
				}
				w.text()
				synctest.Wait()
				throng{
					senders: 20, each: 30, size: 700, pause: 100 * time.Microsecond, pingPause: 50 * time.Microsecond,
					base64: c.name == "base64",
				}.run(t, w, l.last().s)
			})
		})
	}
}

// The same over real sockets, where writes do not wait and break off wherever the system has no more room.
func TestLesson9And20_Sockets(t *testing.T) {
	opts := eio.Options{PingInterval: time.Millisecond, PingTimeout: time.Minute, MaxQueueBytes: 64 << 20}
	everyWay(t, opts, func(t *testing.T, s *site) {
		w, p := s.dial()
		if tcp, ok := w.Conn.(*net.TCPConn); ok {
			if err := tcp.SetReadBuffer(128 << 10); err != nil {
				t.Error(err)
			}
		}
		throng{senders: 20, each: 60, size: 5000}.run(t, w, p.s)
	})
}
