package eio_test

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-0b620db0/patchbay/pkg/eio"
)

// A client is behind from a quarter of its queue on, until an eighth is left, and the hooks say so once.
func TestHooksOfTheQueue(t *testing.T) {
	opts := &eio.Options{MaxQueueBytes: 8000, HTTPCompressionThreshold: -1}
	send := func(t *testing.T, p *peer, n int) {
		t.Helper()
		if err := p.s.Send(text(strings.Repeat("x", n))); err != nil {
			t.Error(err)
		}
	}
	want := func(t *testing.T, l *lab, behind, caughtUp int) {
		t.Helper()
		synctest.Wait()
		if b, c := l.calls("behind"), l.calls("caught up"); b != behind || c != caughtUp {
			t.Errorf("behind %d times, caught up %d times; want %d and %d", b, c, behind, caughtUp)
		}
	}
	t.Run("polling", func(t *testing.T) {
		bubble(t, opts, func(t *testing.T, l *lab) {
			p := l.poller()
			send(t, p.peer, 1900)
			want(t, l, 0, 0)
			send(t, p.peer, 200)
			send(t, p.peer, 200)
			want(t, l, 1, 0)
			time.Sleep(3 * time.Second)
			p.poll()
			want(t, l, 1, 1)
			if l.calls("caught up after 3s") != 1 {
				t.Error("it took another time")
			}
			send(t, p.peer, 2100)
			want(t, l, 2, 1)
			p.peer.s.Close()
			want(t, l, 2, 1) // what waits may still be fetched
			p.poll()
			want(t, l, 2, 2)
		})
	})
	t.Run("websocket", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			l := newLab(t, opts, 256)
			c := l.ws()
			send(t, c.peer, 800) // stays with the writer, and counts
			synctest.Wait()
			send(t, c.peer, 800)
			want(t, l, 0, 0)
			send(t, c.peer, 800)
			want(t, l, 1, 0)
			for range 3 {
				c.text()
			}
			want(t, l, 1, 1)
		})
	})
	t.Run("closed for it", func(t *testing.T) {
		bubble(t, opts, func(t *testing.T, l *lab) {
			p := l.poller()
			send(t, p.peer, 3000)
			time.Sleep(2 * time.Second)
			if err := p.peer.s.Send(text(strings.Repeat("x", 6000))); !errors.Is(err, eio.ErrSlowConsumer) {
				t.Error(err)
			}
			err := p.peer.wantEnd(t, eio.ReasonSlowConsumer)
			slow, ok := errors.AsType[*eio.SlowConsumerError](err)
			if !ok || !errors.Is(err, eio.ErrSlowConsumer) || slow.Behind != 2*time.Second || slow.Queued < 3000 || slow.Message < 6000 ||
				!strings.HasPrefix(err.Error(), "eio: send queue full: ") {
				t.Errorf("end: %v, %+v", err, slow)
			}
			want(t, l, 1, 1)
		})
	})
	t.Run("at once", func(t *testing.T) {
		bubble(t, opts, func(t *testing.T, l *lab) {
			p := l.poller()
			send(t, p.peer, 100)
			if err := p.peer.s.Send(text(strings.Repeat("x", 9000))); !errors.Is(err, eio.ErrSlowConsumer) {
				t.Error(err)
			}
			slow, ok := errors.AsType[*eio.SlowConsumerError](p.peer.wantEnd(t, eio.ReasonSlowConsumer))
			if !ok || slow.Behind != 0 {
				t.Errorf("end: %+v", slow)
			}
			want(t, l, 0, 0)
		})
	})
}
