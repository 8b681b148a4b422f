package eio_test

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-0b620db0/patchbay/pkg/eio"
)

func TestUpgrade(t *testing.T) {
	bubble(t, nil, func(t *testing.T, l *lab) {
		p := l.poller()
		if !slices.Equal(p.open.Upgrades, []string{"websocket"}) {
			t.Errorf("upgrades: %v", p.open.Upgrades)
		}
		poll := p.pollLater()
		w := p.probe()
		w.send("2probe")
		w.want("3probe")
		wantResponse(t, poll.wait(), 200, "6")
		if got := p.peer.s.Transport(); got != eio.Polling {
			t.Errorf("transport while upgrading: %s", got)
		}
		w.send("5", "4a")
		p.peer.wantMessages(t, "a")
		if got := p.peer.s.Transport(); got != eio.WebSocket || l.calls("upgraded") != 1 {
			t.Errorf("transport: %s, hook called %d times", got, l.calls("upgraded"))
		}
		_ = p.peer.s.Send(text("x"))
		_ = p.peer.s.Send(bin("y"))
		w.want("4x")
		w.wantFrame(opBinary, "y")
		for _, m := range []string{"GET", "POST"} { // from now on
			wantResponse(t, l.request(m, p.query(), nil, nil), 400, `{"code":3,"message":"Bad request"}`)
		}
		p.peer.wantOpen(t)
	})
}

func TestUpgradeWithAPollStillOpen(t *testing.T) {
	bubble(t, nil, func(t *testing.T, l *lab) {
		p := l.poller()
		w := p.probe()
		poll := p.pollLater()
		w.send("5") // a probe need not come before
		wantResponse(t, poll.wait(), 200, "1")
		w.send("4a")
		p.peer.wantMessages(t, "a")
	})
}

// Lesson: a noop that is sent once leaves the next poll hanging, and the client with it.
func TestLesson1_EveryPollDuringAnUpgradeGetsItsNoop(t *testing.T) {
	bubble(t, nil, func(t *testing.T, l *lab) {
		p := l.poller()
		w := p.probe()
		poll := p.pollLater()
		time.Sleep(time.Second) // nothing before the probe: the client is not ready for it
		if len(poll.done) != 0 {
			t.Fatal("a poll was answered before the probe")
		}
		w.send("2probe")
		w.want("3probe")
		wantResponse(t, poll.wait(), 200, "6")
		for range 50 { // the client polls again at once, for as long as it takes
			start := time.Now()
			p.wantPoll(t, "6")
			if d := time.Since(start); d > 100*time.Millisecond {
				t.Fatalf("a poll waited %v", d)
			}
		}
		w.send("5")
		w.send("4a")
		p.peer.wantMessages(t, "a")
		time.Sleep(time.Second) // and no noop after it
		_ = p.peer.s.Send(text("x"))
		w.want("4x")
	})
}

func TestNoNoopAfterAnUpgradeThatFailed(t *testing.T) {
	bubble(t, nil, func(t *testing.T, l *lab) {
		p := l.poller()
		w := p.probe()
		w.send("2probe")
		w.want("3probe")
		p.wantPoll(t, "6")
		w.Close()
		start := time.Now()
		poll := p.pollLater()
		time.Sleep(time.Second)
		if len(poll.done) != 0 {
			t.Fatalf("the poll was answered: %v", poll.wait())
		}
		wantResponse(t, poll.wait(), 200, "2")
		p.wantPost(t, "3")
		if time.Since(start) < 20*time.Second {
			t.Errorf("the poll was answered after %v", time.Since(start))
		}
	})
}

func TestMessagesFromTheServerDuringAnUpgrade(t *testing.T) {
	bubble(t, nil, func(t *testing.T, l *lab) {
		p := l.poller()
		const n = 3000
		go func() { // ends after n messages
			for i := range n {
				_ = p.peer.s.Send(text(fmt.Sprint(i)))
				if i%7 == 0 {
					time.Sleep(time.Millisecond)
				}
			}
		}()
		var got []string
		add := func(all []string) {
			for _, m := range all {
				if m != "2" {
					got = append(got, m)
				}
			}
		}
		add(packets(p.poll().body))
		w := p.probe()
		w.send("2probe")
		w.want("3probe")
		for range 20 { // as a client does that is slow to pause
			add(packets(p.poll().body))
		}
		w.send("5")
		onWebSocket := len(got)
		for len(got) < n {
			add([]string{w.text()})
		}
		for i, m := range got {
			if want := fmt.Sprint("4", i); m != want {
				t.Fatalf("message %d is %q, want %q", i, m, want)
			}
		}
		if onWebSocket == 0 || onWebSocket == n {
			t.Errorf("%d of %d came over polling: the test tests nothing", onWebSocket, n)
		}
	})
}

// With a poll still open when the upgrade ends, a message goes one way or the other, never both and never none.
func TestMessagesRacingWithTheEndOfAnUpgrade(t *testing.T) {
	bubble(t, nil, func(t *testing.T, l *lab) {
		for round := range 100 {
			p := l.poller()
			w := p.probe()
			w.send("2probe")
			w.want("3probe")
			poll := p.pollLater()
			const n = 5
			go func() {
				for i := range n {
					_ = p.peer.s.Send(text(fmt.Sprint(i)))
				}
			}()
			w.send("5")
			var got []string
			r := poll.wait()
			if r.status != 200 || r.body == "" {
				t.Fatalf("round %d: poll: %v", round, r)
			}
			for _, m := range packets(r.body) {
				if m != "1" {
					got = append(got, m)
				}
			}
			for len(got) < n {
				got = append(got, w.text())
			}
			if !slices.Equal(got, []string{"40", "41", "42", "43", "44"}) {
				t.Fatalf("round %d: %v", round, got)
			}
			w.Close()
			synctest.Wait()
		}
	})
}

func TestMessagesFromTheClientAroundAnUpgrade(t *testing.T) {
	bubble(t, nil, func(t *testing.T, l *lab) {
		p := l.poller()
		var want []string
		i := 0
		next := func() string {
			i++
			want = append(want, fmt.Sprint(i))
			return fmt.Sprint("4", i)
		}
		p.wantPost(t, next()+"\x1e"+next())
		w := p.probe()
		p.wantPost(t, next())
		w.send("2probe")
		w.want("3probe")
		p.wantPost(t, next()+"\x1e"+next())
		w.send("5")
		for range 100 {
			w.send(next())
		}
		p.peer.wantMessages(t, want...)
	})
}

// A POST whose packets are still with the handler comes before what follows over the WebSocket, and nothing is delivered
// once the session is closed.
func TestMessagesOfTwoTransportsAtOnce(t *testing.T) {
	bubble(t, nil, func(t *testing.T, l *lab) {
		running := 0
		l.accept = func(p *peer) {
			p.onMessage = func(string) {
				if running++; running != 1 { // a race detector's matter as well
					t.Error("two messages at once")
				}
				time.Sleep(time.Second)
				running--
			}
		}
		p := l.poller()
		post := p.postLater(bodyOf("4a"))
		w := p.upgrade()
		w.send("4b", "4c")
		p.peer.wantMessages(t, "a")
		wantResponse(t, post.wait(), 200, "ok")
		time.Sleep(2 * time.Second)
		p.peer.wantMessages(t, "a", "b", "c")
	})
}

func TestNoMessageAfterClosed(t *testing.T) {
	bubble(t, nil, func(t *testing.T, l *lab) {
		l.accept = func(p *peer) { p.onMessage = func(string) { time.Sleep(time.Second) } }
		p := l.poller()
		post := p.postLater(bodyOf("4a"))
		w := p.upgrade()
		w.send("4b") // waits for its turn
		synctest.Wait()
		p.peer.s.Close()
		post.wait()
		w.wantClose(1005)
		time.Sleep(5 * time.Second)
		p.peer.wantMessages(t, "a")
		p.peer.wantEnd(t, eio.ReasonForcedClose)
	})
}

// Lesson: what is queued when the session is closed during its upgrade is delivered all the same.
func TestLesson2_CloseWhileUpgrading(t *testing.T) {
	send := func(p *poller) {
		for _, m := range []string{"a", "b"} {
			_ = p.peer.s.Send(text(m))
		}
		p.peer.s.Close()
	}
	t.Run("to the poll", func(t *testing.T) {
		bubble(t, nil, func(t *testing.T, l *lab) {
			p := l.poller()
			w := p.probe()
			w.send("2probe")
			w.want("3probe")
			send(p)
			p.wantPoll(t, "4a\x1e4b")
			p.wantPoll(t, "1")
			w.wantClose(1005)
			p.peer.wantEnd(t, eio.ReasonForcedClose)
		})
	})
	t.Run("to the WebSocket", func(t *testing.T) {
		bubble(t, nil, func(t *testing.T, l *lab) {
			p := l.poller()
			w := p.probe()
			w.send("2probe")
			w.want("3probe")
			send(p)
			w.send("5")
			w.want("4a", "4b")
			w.wantClose(1005)
			p.peer.wantEnd(t, eio.ReasonForcedClose)
		})
	})
	t.Run("after the upgrade", func(t *testing.T) {
		bubble(t, nil, func(t *testing.T, l *lab) {
			p := l.poller()
			w := p.upgrade()
			synctest.Wait()
			send(p)
			w.want("4a", "4b")
			w.wantClose(1005)
			p.peer.wantEnd(t, eio.ReasonForcedClose)
		})
	})
}

// Lesson: a WebSocket request that comes to nothing must not take packets that wait for the poll.
func TestLesson3_RequestsThatAreNoUpgradeEatNothing(t *testing.T) {
	bubble(t, nil, func(t *testing.T, l *lab) {
		p := l.poller()
		_ = p.peer.s.Send(text("a"))
		const badRequest = `{"code":3,"message":"Bad request"}`
		sid := "&sid=" + p.sid
		wantResponse(t, l.request("GET", wsQuery+sid, nil, nil), 400, badRequest)
		wantResponse(t, l.request("POST", wsQuery+sid, nil, bodyOf("4x")), 400, badRequest)
		h := http.Header{"Upgrade": {"h2c"}, "Connection": {"Upgrade"}}
		wantResponse(t, l.request("GET", wsQuery+sid, h, nil), 400, badRequest)
		h = http.Header{"Upgrade": {"websocket"}, "Connection": {"Upgrade"}} // no key, no version
		if r := l.request("GET", wsQuery+sid, h, nil); r.status != 400 {
			t.Errorf("a WebSocket without a key: %v", r)
		}
		if _, r := l.dial(pollQuery + sid); r.status != 400 {
			t.Errorf("an upgrade with transport=polling: %v", r)
		}
		p.wantPoll(t, "4a")
		p.peer.wantOpen(t)
	})
}

func TestProbesThatAreRefused(t *testing.T) {
	t.Run("second probe", func(t *testing.T) {
		bubble(t, nil, func(t *testing.T, l *lab) {
			p := l.poller()
			first := p.probe()
			synctest.Wait()
			p.probe().wantClose(1005)
			first.send("2probe")
			first.want("3probe")
			first.send("5", "4a")
			p.peer.wantMessages(t, "a")
			p.probe().wantClose(1005) // upgraded already
			p.peer.wantOpen(t)
		})
	})
	for _, packet := range []string{"2", "4a", "3probe", "2probe2", "9", "", "1"} {
		t.Run(fmt.Sprintf("packet %q", packet), func(t *testing.T) {
			bubble(t, nil, func(t *testing.T, l *lab) {
				p := l.poller()
				w := p.probe()
				w.send(packet)
				w.wantClose(1005)
				p.peer.wantOpen(t)
				p.peer.wantMessages(t)
				w = p.upgrade() // the next one may do better
				w.send("4a")
				p.peer.wantMessages(t, "a")
			})
		})
	}
	t.Run("binary", func(t *testing.T) {
		bubble(t, nil, func(t *testing.T, l *lab) {
			p := l.poller()
			w := p.probe()
			_ = w.write(opBinary, "x")
			w.wantClose(1005)
			p.peer.wantOpen(t)
		})
	})
	t.Run("upgrades off", func(t *testing.T) {
		bubble(t, &eio.Options{DisableUpgrades: true}, func(t *testing.T, l *lab) {
			p := l.poller()
			if len(p.open.Upgrades) != 0 || !strings.Contains(p.first.body, `"upgrades":[]`) {
				t.Errorf("upgrades: %v", p.open.Upgrades)
			}
			// DisableUpgrades "keeps polling sessions on polling".
			if w, r := l.dial(wsQuery + "&sid=" + p.sid); r.status == http.StatusSwitchingProtocols {
				w.wantClose(1005)
			}
			p.peer.wantOpen(t)
		})
	})
}

func TestLesson4_UpgradeTimeout(t *testing.T) {
	for name, packet := range map[string]string{"silent": "", "probed": "2probe"} {
		t.Run(name, func(t *testing.T) {
			bubble(t, &eio.Options{UpgradeTimeout: 4 * time.Second}, func(t *testing.T, l *lab) {
				p := l.poller()
				w := p.probe()
				start := time.Now()
				if packet != "" {
					w.send(packet)
					w.want("3probe")
				}
				_ = p.peer.s.Send(text("a"))
				w.wantClose(1005)
				if got := time.Since(start); got != 4*time.Second || l.calls("upgrade failed: upgrade timed out") != 1 {
					t.Errorf("closed after %v, hook called %d times", got, l.calls("upgrade failed: upgrade timed out"))
				}
				p.wantPoll(t, "4a")
				p.peer.wantOpen(t)
				p.upgrade().send("4b")
				p.peer.wantMessages(t, "b")
			})
		})
	}
}

// Lesson: sessions whose upgrade starts and never ends.
func TestManyHalfOpenUpgrades(t *testing.T) {
	bubble(t, nil, func(t *testing.T, l *lab) {
		const n = 1000
		for i := range n {
			w := l.poller().probe()
			if i%2 == 0 {
				w.send("2probe")
			}
		}
		synctest.Wait()
		if l.Len() != n {
			t.Errorf("%d sessions", l.Len())
		}
		time.Sleep(20 * time.Second) // upgradeTimeout, and the closing handshake that nobody answers
		synctest.Wait()
		if l.Len() != n {
			t.Errorf("%d sessions after the upgrades failed: they go on with polling", l.Len())
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if l.Len() != 0 {
			t.Errorf("%d sessions that nobody uses", l.Len())
		}
		for _, p := range l.peers {
			p.wantEnd(t, eio.ReasonPingTimeout)
		}
	})
}

func TestTheSessionEndsWhileItIsProbed(t *testing.T) {
	bubble(t, nil, func(t *testing.T, l *lab) {
		p := l.poller()
		w := p.probe()
		w.send("2probe")
		w.want("3probe")
		p.wantPost(t, "1")
		p.peer.wantEnd(t, eio.ReasonTransportClose)
		w.wantClose(1005)
	})
}

func TestTheProbeIsLost(t *testing.T) {
	bubble(t, nil, func(t *testing.T, l *lab) {
		p := l.poller()
		w := p.probe()
		w.send("2probe")
		w.want("3probe")
		w.Close()
		p.wantPost(t, "4a")
		p.peer.wantMessages(t, "a")
		p.peer.wantOpen(t)
		l.mu.Lock()
		defer l.mu.Unlock()
		failed := 0
		for name, n := range l.hooks {
			if strings.HasPrefix(name, "upgrade failed") {
				failed += n
			}
		}
		if failed != 1 {
			t.Errorf("UpgradeFailed was called %d times: %v", failed, l.hooks)
		}
	})
}

func TestSendErrorsAreWhatTheySay(t *testing.T) {
	bubble(t, nil, func(t *testing.T, l *lab) {
		p := l.poller()
		p.peer.s.Close()
		err := p.peer.s.Send(text("x"))
		if !errors.Is(err, eio.ErrClosed) || !errors.Is(err, errNetClosed) {
			t.Errorf("send after close: %v", err)
		}
		p.wantPoll(t, "1")
	})
}
