package eio_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-0b620db0/patchbay/pkg/eio"
)

func TestLesson26_HeartbeatWebSocket(t *testing.T) {
	bubble(t, nil, func(t *testing.T, l *lab) {
		start := time.Now()
		c := l.ws()
		for i := range 3 {
			c.want("2")
			if got, want := time.Since(start), 25*time.Second; got != want {
				t.Fatalf("ping %d after %v, want %v", i, got, want)
			}
			time.Sleep(5 * time.Second)
			c.send("3") // the period counts from here
			synctest.Wait()
			start = time.Now()
		}
		c.want("2")
		c.wantClose(1005)
		if got, want := time.Since(start), 45*time.Second; got != want {
			t.Errorf("closed %v after the pong, want %v", got, want)
		}
		c.peer.wantEnd(t, eio.ReasonPingTimeout)
	})
}

func TestHeartbeatPolling(t *testing.T) {
	bubble(t, nil, func(t *testing.T, l *lab) {
		p := l.poller()
		start := time.Now()
		p.wantPoll(t, "2")
		if got := time.Since(start); got != 25*time.Second {
			t.Errorf("ping after %v", got)
		}
		p.wantPost(t, "3")
		p.wantPoll(t, "2")
		if got := time.Since(start); got != 50*time.Second {
			t.Errorf("second ping after %v", got)
		}
		p.wantPoll(t, "1")
		if got := time.Since(start); got != 70*time.Second {
			t.Errorf("closed after %v", got)
		}
		p.peer.wantEnd(t, eio.ReasonPingTimeout)
		wantResponse(t, p.poll(), 400, `{"code":1,"message":"Session ID unknown"}`)
	})
}

func TestHeartbeatOfAPollingClientThatLeft(t *testing.T) {
	bubble(t, nil, func(t *testing.T, l *lab) {
		p := l.poller()
		time.Sleep(45*time.Second - 1)
		p.peer.wantOpen(t)
		time.Sleep(time.Nanosecond)
		p.peer.wantEnd(t, eio.ReasonPingTimeout)
	})
}

func TestPongThatWasNotAskedForRestartsTheInterval(t *testing.T) {
	bubble(t, nil, func(t *testing.T, l *lab) {
		c := l.ws()
		time.Sleep(20 * time.Second)
		start := time.Now()
		c.send("3")
		c.want("2")
		if got := time.Since(start); got != 25*time.Second {
			t.Errorf("ping %v after the pong", got)
		}
		c.peer.wantOpen(t)
	})
}

// engine.io 6.6.11: while a pong is awaited, the first other packet restarts the time-out, once a ping.
func TestHeartbeatGrace(t *testing.T) {
	bubble(t, nil, func(t *testing.T, l *lab) {
		c := l.ws()
		c.want("2")
		time.Sleep(time.Second)
		for range 10 { // from 26 s on
			_ = c.write(opText, "4x") // fails in the end
			time.Sleep(3 * time.Second)
		}
		c.peer.wantEnd(t, eio.ReasonPingTimeout)
		if n := len(c.peer.messages()); n != 7 { // the last at 44 s: the end came at 26 + 20 s
			t.Errorf("%d messages were taken before the end, want 7", n)
		}
	})
}

func TestHeartbeatGraceComesAnewWithEachPing(t *testing.T) {
	bubble(t, nil, func(t *testing.T, l *lab) {
		c := l.ws()
		for range 3 {
			c.want("2")
			time.Sleep(19 * time.Second)
			c.send("4x") // extends to 39 s after the ping
			time.Sleep(19 * time.Second)
			c.peer.wantOpen(t)
			c.send("3")
		}
	})
}

func TestAHandlerThatBlocksDoesNotTimeTheClientOut(t *testing.T) {
	t.Run("websocket", func(t *testing.T) {
		bubble(t, nil, func(t *testing.T, l *lab) {
			l.accept = func(p *peer) { p.onMessage = func(string) { time.Sleep(5 * time.Minute) } }
			c := l.ws()
			c.send("4a")
			c.want("2")
			c.send("3") // waits behind the message
			time.Sleep(4 * time.Minute)
			c.peer.wantOpen(t)
			time.Sleep(time.Minute)
			c.want("2")
			c.send("3")
			c.peer.wantOpen(t)
		})
	})
	t.Run("polling", func(t *testing.T) {
		bubble(t, nil, func(t *testing.T, l *lab) {
			l.accept = func(p *peer) { p.onMessage = func(string) { time.Sleep(5 * time.Minute) } }
			p := l.poller()
			post := p.postLater(bodyOf("4a"))
			p.wantPoll(t, "2")
			poll := p.pollLater()
			time.Sleep(4 * time.Minute)
			p.peer.wantOpen(t)
			wantResponse(t, post.wait(), 200, "ok")
			p.wantPost(t, "3") // only now: a client has one POST open at a time
			wantResponse(t, poll.wait(), 200, "2")
			p.wantPost(t, "3")
		})
	})
}

// The client could not be heard while the handler ran, so the time-out must leave it some time afterwards.
func TestAHandlerThatBlocksUntilJustBeforeTheDeadline(t *testing.T) {
	bubble(t, nil, func(t *testing.T, l *lab) {
		l.accept = func(p *peer) { p.onMessage = func(string) { time.Sleep(21*time.Second - time.Millisecond) } }
		p := l.poller()
		time.Sleep(24 * time.Second)
		post := p.postLater(bodyOf("4a"))
		p.wantPoll(t, "2")
		wantResponse(t, post.wait(), 200, "ok") // one millisecond before the deadline of 45 s
		time.Sleep(10 * time.Millisecond)       // on the way to the client and back
		p.wantPost(t, "3")
		p.peer.wantOpen(t)
	})
}

func TestHeartbeatGoesOnAfterTheUpgrade(t *testing.T) {
	bubble(t, nil, func(t *testing.T, l *lab) {
		p := l.poller()
		start := time.Now()
		time.Sleep(10 * time.Second)
		w := p.upgrade()
		w.want("2")
		if got := time.Since(start); got != 25*time.Second {
			t.Errorf("ping after %v: the upgrade does not change its time", got)
		}
		w.send("3")
		p.peer.wantOpen(t)
	})
}

func TestAPingInThePollingQueueMovesWithTheUpgrade(t *testing.T) {
	bubble(t, nil, func(t *testing.T, l *lab) {
		p := l.poller()
		time.Sleep(44 * time.Second) // the ping waits since 25 s
		w := p.upgrade()
		w.want("2")
		time.Sleep(19 * time.Second) // the time-out counts from the upgrade
		w.send("3")
		p.peer.wantOpen(t)
	})
}
