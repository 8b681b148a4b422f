package eio_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-0b620db0/patchbay/pkg/eio"
)

func TestCloseFlushesTheQueue(t *testing.T) {
	bubble(t, nil, func(t *testing.T, l *lab) {
		c := l.ws()
		for i := range 100 {
			_ = c.peer.s.Send(text(fmt.Sprint(i)))
		}
		c.peer.s.Close()
		for i := range 100 {
			c.want(fmt.Sprint("4", i))
		}
		c.wantClose(1005)
		c.peer.wantEnd(t, eio.ReasonForcedClose)
	})
}

func TestCloseOfAPollingSession(t *testing.T) {
	t.Run("with a poll", func(t *testing.T) {
		bubble(t, nil, func(t *testing.T, l *lab) {
			p := l.poller()
			poll := p.pollLater()
			p.peer.s.Close()
			wantResponse(t, poll.wait(), 200, "1")
			p.peer.wantEnd(t, eio.ReasonForcedClose)
		})
	})
	t.Run("between two polls", func(t *testing.T) {
		bubble(t, nil, func(t *testing.T, l *lab) {
			p := l.poller()
			_ = p.peer.s.Send(text("a"))
			p.peer.s.Close()
			p.peer.s.Close()
			p.wantPost(t, "4ignored") // the client does not know yet
			time.Sleep(20 * time.Second)
			p.wantPoll(t, "4a") // the close by itself: a client might not look at what shares a payload with it
			p.wantPoll(t, "1")
			p.peer.wantEnd(t, eio.ReasonForcedClose)
			p.peer.wantMessages(t)
		})
	})
	t.Run("of a client that has left", func(t *testing.T) {
		bubble(t, nil, func(t *testing.T, l *lab) {
			p := l.poller()
			_ = p.peer.s.Send(text("a"))
			p.peer.s.Close()
			time.Sleep(30*time.Second - 1)
			p.peer.wantOpen(t)
			time.Sleep(time.Nanosecond)
			p.peer.wantEnd(t, eio.ReasonForcedClose)
		})
	})
}

func TestTheClientCloses(t *testing.T) {
	for name, leave := range map[string]func(c *wsSession){
		"close frame":  func(c *wsSession) { _ = c.write(opClose, "\x03\xe8"); c.wantClose(1000) },
		"connection":   func(c *wsSession) { c.Close() },
		"close packet": func(c *wsSession) { c.send("1"); c.wantClose(1005) },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, nil, func(t *testing.T, l *lab) {
				c := l.ws()
				leave(c)
				c.peer.wantEnd(t, eio.ReasonTransportClose)
			})
		})
	}
}

func TestShutdown(t *testing.T) {
	shutdown := func(l *lab, timeout time.Duration) (time.Duration, error) {
		ctx, cancel := context.WithTimeout(context.Background(), timeout)
		defer cancel()
		start := time.Now()
		err := l.Shutdown(ctx)
		return time.Since(start), err
	}
	t.Run("idle", func(t *testing.T) {
		bubble(t, nil, func(t *testing.T, l *lab) {
			if d, err := shutdown(l, time.Minute); d != 0 || err != nil {
				t.Errorf("%v, %v", d, err)
			}
			wantResponse(t, l.request("GET", pollQuery, nil, nil), 503, `{"code":3,"message":"Server shutting down"}`)
			if _, r := l.dial(wsQuery); r.status != 503 || r.body != "Server shutting down" || r.header.Get("Retry-After") == "" {
				t.Errorf("%v", r)
			}
			if err := l.Shutdown(t.Context()); err != nil {
				t.Errorf("again: %v", err)
			}
		})
	})
	t.Run("clients that answer", func(t *testing.T) {
		bubble(t, nil, func(t *testing.T, l *lab) {
			c, p := l.ws(), l.poller()
			poll := p.pollLater()
			_ = c.peer.s.Send(text("last"))
			go func() {
				c.want("4last")
				c.wantClose(1005)
			}()
			if d, err := shutdown(l, time.Minute); d != 0 || err != nil {
				t.Errorf("%v, %v", d, err)
			}
			wantResponse(t, poll.wait(), 200, "1")
			c.peer.wantEnd(t, eio.ReasonShutdown)
			p.peer.wantEnd(t, eio.ReasonShutdown)
		})
	})
	t.Run("polling client between two polls", func(t *testing.T) {
		bubble(t, nil, func(t *testing.T, l *lab) {
			p, gone := l.poller(), l.poller()
			_ = p.peer.s.Send(text("last"))
			go func() {
				time.Sleep(time.Second)
				p.wantPoll(t, "4last")
				p.wantPoll(t, "1")
			}()
			if d, err := shutdown(l, time.Minute); d != 5*time.Second || err != nil {
				t.Errorf("%v, %v", d, err)
			}
			p.peer.wantEnd(t, eio.ReasonShutdown)
			gone.peer.wantEnd(t, eio.ReasonShutdown)
		})
	})
	t.Run("session that is closing already", func(t *testing.T) {
		bubble(t, nil, func(t *testing.T, l *lab) {
			p := l.poller()
			p.peer.s.Close() // 30 s for the client to fetch it, but for a shutdown
			if d, err := shutdown(l, time.Minute); d > 5*time.Second || err != nil {
				t.Errorf("%v, %v", d, err)
			}
			p.peer.wantEnd(t, eio.ReasonForcedClose)
		})
	})
	t.Run("WebSocket peer that does not answer the close frame", func(t *testing.T) {
		bubble(t, nil, func(t *testing.T, l *lab) {
			c := l.ws()
			if d, err := shutdown(l, time.Minute); d > 10*time.Second || err != nil {
				t.Errorf("%v, %v", d, err)
			}
			c.peer.wantEnd(t, eio.ReasonShutdown)
		})
	})
	t.Run("the same, with less patience", func(t *testing.T) {
		bubble(t, nil, func(t *testing.T, l *lab) {
			c := l.ws()
			if d, err := shutdown(l, time.Second); d != time.Second || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%v, %v", d, err)
			}
			c.peer.wantEnd(t, eio.ReasonShutdown)
		})
	})
	t.Run("during a handshake", func(t *testing.T) {
		bubble(t, nil, func(t *testing.T, l *lab) {
			l.accept = func(*peer) { time.Sleep(5 * time.Second) }
			r := make(chan response, 1)
			go func() { r <- l.request("GET", pollQuery, nil, nil) }()
			synctest.Wait()
			if d, err := shutdown(l, time.Minute); d < 5*time.Second || err != nil {
				t.Errorf("%v, %v", d, err)
			}
			<-r
			l.last().wantEnd(t, eio.ReasonShutdown)
		})
	})
}

// Close "returns when nothing of the server runs any more. It waits for Handler calls".
func TestCloseWaitsForHandlers(t *testing.T) {
	for name, run := range map[string]func(l *lab){
		"Message over WebSocket": func(l *lab) { l.ws().send("4a") },
		"Message over polling":   func(l *lab) { l.poller().postLater(bodyOf("4a")) },
		"Closed by the heartbeat": func(l *lab) {
			l.poller()
			time.Sleep(45 * time.Second)
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, nil, func(t *testing.T, l *lab) {
				var running atomic.Int32
				work := func() {
					running.Add(1)
					time.Sleep(time.Second)
					running.Add(-1)
				}
				l.accept = func(p *peer) {
					p.onMessage = func(string) { work() }
					p.onClosed = work
				}
				run(l)
				synctest.Wait()
				if running.Load() != 1 {
					t.Fatal("the handler does not run")
				}
				_ = l.Server.Close()
				if running.Load() != 0 {
					t.Error("a handler runs after Close")
				}
			})
		})
	}
}

func TestCloseInAccept(t *testing.T) {
	bubble(t, nil, func(t *testing.T, l *lab) {
		l.accept = func(p *peer) {
			_ = p.s.Send(text("bye"))
			p.s.Close()
		}
		p := l.poller()
		p.wantPoll(t, "4bye")
		p.wantPoll(t, "1")
		p.peer.wantEnd(t, eio.ReasonForcedClose)
		c := l.ws()
		c.want("4bye")
		c.wantClose(1005)
		c.peer.wantEnd(t, eio.ReasonForcedClose)
	})
}

func TestSendInAccept(t *testing.T) {
	bubble(t, &eio.Options{InitialPacket: text("initial")}, func(t *testing.T, l *lab) {
		l.accept = func(p *peer) { _ = p.s.Send(text("accepted")) }
		p := l.poller()
		if !strings.HasSuffix(p.first.body, "}\x1e4initial") {
			t.Errorf("handshake: %q", p.first.body)
		}
		p.wantPoll(t, "4accepted")
		l.ws().want("4initial", "4accepted")
	})
}

func TestPanicInMessage(t *testing.T) {
	bubble(t, nil, func(t *testing.T, l *lab) {
		l.accept = func(p *peer) { p.onMessage = func(string) { panic("boom") } }
		p := l.poller()
		poll := p.pollLater()
		wantResponse(t, p.post("4a\x1e4b"), 200, "ok")
		wantResponse(t, poll.wait(), 200, "1")
		if err := p.peer.wantEnd(t, eio.ReasonTransportError); err == nil || !strings.Contains(err.Error(), "boom") {
			t.Errorf("error: %v", err)
		}
		c := l.ws()
		c.send("4a", "4b")
		c.wantClose(1005)
		c.peer.wantEnd(t, eio.ReasonTransportError)
		c.peer.wantMessages(t, "a")
	})
}

func TestPanicWhileOpening(t *testing.T) {
	boom := true
	explode := func() {
		if boom {
			panic("boom")
		}
	}
	for name, o := range map[string]*eio.Options{
		"accept":         {},
		"GenerateID":     {GenerateID: func(*http.Request) (string, error) { explode(); return "id", nil }},
		"InitialHeaders": {InitialHeaders: func(http.Header, *http.Request) { explode() }},
		"Context": {Context: func(r *http.Request) context.Context {
			explode()
			return context.Background()
		}},
	} {
		t.Run(name, func(t *testing.T) {
			boom = true
			o.MaxSessions = 1
			synctest.Test(t, func(t *testing.T) {
				l := newLab(t, o, 0)
				panicked := name == "accept"
				l.accept = func(*peer) {
					if panicked {
						l.mu.Lock()
						l.peers = nil // it never had a handler
						l.mu.Unlock()
						l.opened.Add(-1)
						l.closedHook.Add(-1)
						panicked = false
						panic("boom")
					}
				}
				_ = l.request("GET", pollQuery, nil, nil)
				boom = false
				synctest.Wait()
				p := l.poller() // the place is free again
				p.wantPost(t, "4a")
			})
		})
	}
}

// However a session ends, and whatever else happens at that moment, its handler is told once. The lab checks it, and that
// nothing is left behind.
func TestClosedIsCalledOnce(t *testing.T) {
	for seed := range uint64(60) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			bubble(t, &eio.Options{MaxQueueBytes: 4 << 10}, func(t *testing.T, l *lab) {
				r := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // a test's choice
				pause := time.Duration(r.IntN(3)) * time.Second
				var steps []func()
				if r.IntN(2) == 0 {
					p := l.poller()
					s := p.peer.s
					steps = []func(){
						func() { p.poll() }, func() { p.poll() }, func() { p.post("4a\x1e4b") }, func() { p.post("1") },
						func() { p.post("9") }, func() { p.abortedPoll() }, func() { p.abortedPost() },
						func() { _, _ = l.dial(wsQuery + "&sid=" + p.sid) },
						func() {
							if w, res := l.dial(wsQuery + "&sid=" + p.sid); res.status == http.StatusSwitchingProtocols {
								_, _ = w.write(opText, "2probe"), w.write(opText, "5")
								time.Sleep(pause)
								w.Close()
							}
						},
						s.Close, func() { _ = s.Send(text("x")) }, func() { _ = s.SendVolatile(text("x")) },
					}
				} else {
					c := l.ws()
					s := c.peer.s
					steps = []func(){
						func() { _ = c.write(opText, "4a") }, func() { _ = c.write(opText, "1") }, func() { _ = c.write(opText, "") },
						func() { _ = c.write(opClose, "") }, func() { c.Conn.Close() },
						func() {
							for range 100 {
								_ = s.Send(text(strings.Repeat("x", 1000)))
							}
						},
						s.Close, func() { _ = s.Send(text("x")) },
					}
				}
				if r.IntN(4) == 0 {
					steps = append(steps, func() { _ = l.Shutdown(t.Context()) })
				}
				r.Shuffle(len(steps), func(i, j int) { steps[i], steps[j] = steps[j], steps[i] })
				done := make(chan struct{})
				for _, f := range steps {
					pause := time.Duration(r.IntN(3)) * time.Millisecond
					go func() {
						time.Sleep(pause)
						f()
						done <- struct{}{}
					}()
				}
				for range steps {
					<-done
				}
			})
		})
	}
}
