package eio_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-0b620db0/patchbay/pkg/eio"
)

func TestLesson10_SlowConsumer(t *testing.T) {
	fill := func(t *testing.T, p *peer) {
		t.Helper()
		m := text(strings.Repeat("x", 1000))
		var err error
		n := 0
		for ; err == nil && n < 1000; n++ {
			err = p.s.Send(m)
		}
		if !errors.Is(err, eio.ErrSlowConsumer) || n < 9 || n > 12 {
			t.Errorf("send %d: %v", n, err)
		}
		if err := p.s.Send(m); !errors.Is(err, eio.ErrSlowConsumer) && !errors.Is(err, eio.ErrClosed) {
			t.Errorf("send after it: %v", err)
		}
		if err := p.wantEnd(t, eio.ReasonSlowConsumer); !errors.Is(err, eio.ErrSlowConsumer) {
			t.Errorf("end: %v", err)
		}
		if err := p.s.Send(m); !errors.Is(err, eio.ErrClosed) {
			t.Errorf("send after the end: %v", err)
		}
	}
	opts := &eio.Options{MaxQueueBytes: 10 << 10}
	t.Run("polling", func(t *testing.T) {
		bubble(t, opts, func(t *testing.T, l *lab) { fill(t, l.poller().peer) })
	})
	t.Run("websocket", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			l := newLab(t, opts, 256)
			c := l.ws()
			_ = c.peer.s.Send(text(strings.Repeat("x", 1000))) // stays with the writer, and counts
			synctest.Wait()
			fill(t, c.peer)
		})
	})
}

func TestQueuedIsReturnedByEveryEnding(t *testing.T) {
	for name, end := range map[string]func(l *lab, p *poller){
		"left":     func(*lab, *poller) { time.Sleep(time.Minute) },
		"fetched":  func(_ *lab, p *poller) { p.poll() },
		"closed":   func(_ *lab, p *poller) { p.peer.s.Close(); p.poll() },
		"by fault": func(_ *lab, p *poller) { p.post("9") },
		"upgraded": func(_ *lab, p *poller) { w := p.upgrade(); w.text(); w.Close() },
		"lost":     func(_ *lab, p *poller) { p.upgrade().Close() },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, nil, func(t *testing.T, l *lab) {
				p := l.poller()
				for range 100 {
					_ = p.peer.s.Send(text("abc"))
				}
				if n := l.queued.Load(); n < 300 {
					t.Errorf("%d bytes are queued", n)
				}
				end(l, p)
				synctest.Wait()
				if len(p.peer.ends()) > 0 && l.queued.Load() != 0 {
					t.Errorf("%d bytes are queued after the end", l.queued.Load())
				}
			})
		})
	}
}

func TestALargeMessageAlone(t *testing.T) {
	opts := &eio.Options{MaxQueueBytes: 1000, HTTPCompressionThreshold: -1}
	large := strings.Repeat("x", 5000)
	t.Run("accepted", func(t *testing.T) {
		bubble(t, opts, func(t *testing.T, l *lab) {
			p, c := l.poller(), l.ws()
			for _, s := range []*eio.Session{p.peer.s, c.peer.s} {
				if err := s.Send(text(large)); err != nil {
					t.Error(err)
				}
			}
			p.wantPoll(t, "4"+large)
			c.want("4" + large)
		})
	})
	t.Run("beside a ping", func(t *testing.T) {
		bubble(t, opts, func(t *testing.T, l *lab) {
			p := l.poller()
			time.Sleep(26 * time.Second)
			if err := p.peer.s.Send(text(large)); err != nil {
				t.Errorf("a ping is no reason to call the client slow: %v", err)
			}
			p.wantPoll(t, "2\x1e4"+large)
		})
	})
	t.Run("beside another message", func(t *testing.T) {
		bubble(t, opts, func(t *testing.T, l *lab) {
			p := l.poller()
			_ = p.peer.s.Send(text("a"))
			if err := p.peer.s.Send(text(large)); !errors.Is(err, eio.ErrSlowConsumer) {
				t.Error(err)
			}
		})
	})
}

func TestSendVolatile(t *testing.T) {
	t.Run("polling", func(t *testing.T) {
		bubble(t, nil, func(t *testing.T, l *lab) {
			p := l.poller()
			if p.peer.s.SendVolatile(text("a")) || l.calls("dropped") != 1 {
				t.Error("sent without a poll")
			}
			poll := p.pollLater()
			if !p.peer.s.SendVolatile(text("b")) {
				t.Error("not sent to a waiting poll")
			}
			wantResponse(t, poll.wait(), 200, "4b")
			_ = p.peer.s.Send(text("c"))
			if p.peer.s.SendVolatile(text("d")) {
				t.Error("sent behind what waits")
			}
			p.wantPoll(t, "4c")
			p.peer.s.Close()
			if p.peer.s.SendVolatile(text("e")) {
				t.Error("sent after close")
			}
			p.wantPoll(t, "1")
			if n := l.calls("dropped"); n != 3 {
				t.Errorf("Dropped was called %d times", n)
			}
		})
	})
	t.Run("websocket", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			l := newLab(t, nil, 256)
			c := l.ws()
			if !c.peer.s.SendVolatile(text("a")) {
				t.Error("not sent to a client that waits")
			}
			c.want("4a")
			synctest.Wait()
			big := strings.Repeat("x", 1000)
			_ = c.peer.s.Send(text(big)) // of which the connection takes a quarter
			synctest.Wait()
			if c.peer.s.SendVolatile(text("b")) || l.calls("dropped") != 1 {
				t.Error("sent to a client that is not ready")
			}
			_ = c.peer.s.Send(text("c"))
			c.want("4"+big, "4c")
		})
	})
}

// Of volatile messages that are still in the queue, all go before the client is called slow; and each is counted.
func TestVolatileIsDroppedFirst(t *testing.T) {
	bubble(t, &eio.Options{MaxQueueBytes: 1000}, func(t *testing.T, l *lab) {
		p := l.poller()
		kept, dropped := 0, 0
		for range 200 { // the poll may have taken it before Send comes
			poll := p.pollLater()
			if !p.peer.s.SendVolatile(text(strings.Repeat("v", 500))) {
				t.Fatal("not ready")
			}
			if err := p.peer.s.Send(text(strings.Repeat("x", 900))); err != nil {
				kept++ // taken, but not yet written: it counts
				break
			}
			body := packets(poll.wait().body)
			if len(body) == 1 && strings.HasPrefix(body[0], "4x") {
				dropped++
			} else {
				p.poll()
			}
		}
		if got := l.calls("dropped"); got != dropped {
			t.Errorf("%d volatile messages were dropped, Dropped was called %d times", dropped, got)
		}
		if dropped+kept == 0 {
			t.Error("nothing was ever dropped: the test tests nothing")
		}
	})
}

func TestWriteTimeoutOfAWebSocket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, &eio.Options{WriteTimeout: 5 * time.Second}, 1024)
		c := l.ws()
		start := time.Now()
		_ = c.peer.s.Send(text(strings.Repeat("x", 100_000)))
		time.Sleep(5*time.Second - 1)
		c.peer.wantOpen(t)
		time.Sleep(time.Nanosecond)
		c.peer.wantEnd(t, eio.ReasonTransportClose)
		_ = start
	})
}

// A client that is slow but alive may take as long as it needs for a large message, and may ask for a pong meanwhile.
func TestWriteTimeoutLeavesASlowWebSocketTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, &eio.Options{WriteTimeout: 5 * time.Second, PingInterval: time.Hour}, 16<<10)
		c := l.ws()
		const size = 2 << 20
		_ = c.peer.s.Send(text(strings.Repeat("x", size)))
		synctest.Wait()
		_ = c.write(opPing, "still there?")
		c.Conn = &slowReader{c.Conn}
		c.br.Reset(c.Conn)
		c.want("4" + strings.Repeat("x", size)) // 20 s
		c.wantFrame(opPong, "still there?")
		c.peer.wantOpen(t)
	})
}

func TestMessagesAreSharedBetweenSessions(t *testing.T) {
	bubble(t, nil, func(t *testing.T, l *lab) {
		m := eio.NewMessage(eio.Frame{Data: []byte("head")}, eio.Frame{Data: []byte{1}, Binary: true})
		var all []*wsSession
		var polls []*poller
		for range 10 {
			all = append(all, l.ws())
			polls = append(polls, l.poller())
		}
		done := make(chan struct{})
		l.mu.Lock()
		for _, p := range l.peers {
			go func() {
				_ = p.s.Send(m)
				_ = p.s.Send(m.WithoutCompression())
				done <- struct{}{}
			}()
		}
		l.mu.Unlock()
		for range 20 {
			<-done
		}
		for _, c := range all {
			for range 2 {
				c.want("4head")
				c.wantFrame(opBinary, "\x01")
			}
		}
		for _, p := range polls {
			p.wantPoll(t, "4head\x1ebAQ==\x1e4head\x1ebAQ==")
		}
	})
}

func TestMessageWithoutFrames(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("NewMessage took no frames; the writer would have to find out")
		}
	}()
	_ = eio.NewMessage()
}

func TestOneSlowClientDoesNotDelayTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, &eio.Options{MaxQueueBytes: 1 << 20}, 1024)
		const n = 1000
		all := make([]*wsSession, n)
		for i := range all {
			all[i] = l.ws()
		}
		start := time.Now()
		for i := range 10 {
			m := text(fmt.Sprint(i, strings.Repeat("x", 500)))
			for _, c := range all {
				if err := c.peer.s.Send(m); err != nil {
					t.Fatal(err)
				}
			}
			for _, c := range all[1:] { // the first reads nothing
				if got := c.text(); !strings.HasPrefix(got, fmt.Sprint("4", i)) {
					t.Fatalf("got %.20q", got)
				}
			}
		}
		if d := time.Since(start); d != 0 { // of the bubble's clock: nobody waited for anything
			t.Errorf("the others waited %v", d)
		}
		time.Sleep(20 * time.Second)
		all[0].peer.wantEnd(t, eio.ReasonTransportClose)
	})
}
