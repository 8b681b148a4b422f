package sio_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-0b620db0/patchbay/pkg/eio"
	"github.com/seed-0b620db0/patchbay/pkg/sio"
)

// comeBack cuts c, lets f do what it does meanwhile, and connects p again.
func comeBack(l *lab, p *player, c *client, f func()) *client {
	l.t.Helper()
	c.cut()
	synctest.Wait()
	f()
	c = l.ws()
	if !p.join(c) {
		l.t.Fatal("not connected again")
	}
	p.drain(c)
	return c
}

func TestRecoveryBeforeTheFirstEvent(t *testing.T) {
	bubble(t, recovering(sio.RecoveryOptions{}), func(t *testing.T, l *lab) {
		emit(t, l, "before it came")
		c := l.ws()
		p := l.player(c)
		comeBack(l, p, c, func() { emit(t, l, "1") })
		if !p.recovered {
			t.Error("not recovered")
		}
		p.wantGot(t, "1")
	})
}

func TestRecoveryAfterVolatile(t *testing.T) {
	bubble(t, recovering(sio.RecoveryOptions{}), func(t *testing.T, l *lab) {
		c := l.ws()
		p := l.player(c)
		synctest.Wait()                               // it is ready for it
		_ = l.Volatile().Emit(t.Context(), "e", "v1") // before any other
		p.drain(c)
		c = comeBack(l, p, c, func() { emit(t, l, "1") })
		if !p.recovered {
			t.Error("not recovered")
		}
		synctest.Wait()
		_ = l.Volatile().Emit(t.Context(), "e", "v2")
		p.drain(c)
		comeBack(l, p, c, func() {
			_ = l.Volatile().Emit(t.Context(), "e", "nobody is there")
			emit(t, l, "2")
		})
		if !p.recovered {
			t.Error("not recovered")
		}
		p.wantGot(t, "v1", "1", "v2", "2")
	})
}

// Events that want an acknowledgement are not part of it: they have no offset and are not repeated.
func TestRecoveryOfEventsWithAck(t *testing.T) {
	bubble(t, recovering(sio.RecoveryOptions{}), func(t *testing.T, l *lab) {
		c := l.ws()
		p := l.player(c)
		done := gather(l.Except(), 0)
		c.send("3" + c.wantAsked(`["q"]`) + `["yes"]`)
		if r := <-done; !slices.Equal(r.answers, []string{"yes"}) {
			t.Errorf("got %v", r)
		}
		comeBack(l, p, c, func() { <-gather(l.Except(), 0); emit(t, l, "1") })
		p.wantGot(t, "1")
	})
}

func TestRecoveryOnce(t *testing.T) {
	bubble(t, recovering(sio.RecoveryOptions{}), func(t *testing.T, l *lab) {
		c := l.ws()
		p := l.player(c)
		thief := *p
		comeBack(l, p, c, func() {})
		only(t, l.Of("/")).Disconnect(false) // an end for good
		d := l.ws()
		thief.join(d)
		if !p.recovered || thief.recovered || thief.sid == p.sid {
			t.Errorf("recovered %v, and again %v (%s, %s)", p.recovered, thief.recovered, p.sid, thief.sid)
		}
	})
}

func TestRecoveryExpires(t *testing.T) {
	bubble(t, recovering(sio.RecoveryOptions{MaxDisconnection: time.Minute}), func(t *testing.T, l *lab) {
		c, d := l.ws(), l.ws()
		p, q := l.player(c), l.player(d)
		c = comeBack(l, p, c, func() { time.Sleep(time.Minute - time.Millisecond) })
		if !p.recovered {
			t.Error("too early to forget")
		}
		d.cut()
		time.Sleep(30 * time.Second)
		comeBack(l, p, c, func() {
			time.Sleep(time.Minute + time.Millisecond)
			if _, sessions, _, _ := sio.RecoveryState(l.Of("/")); sessions != 0 {
				t.Errorf("%d sessions are kept", sessions)
			}
		})
		q.join(l.ws())
		if p.recovered || q.recovered {
			t.Error("too late to remember")
		}
	})
}

func TestRecoveryBounds(t *testing.T) {
	text := strings.Repeat("x", 1000)
	for _, tc := range []struct {
		name string
		opts sio.RecoveryOptions
		n    int // events that may be missed
	}{
		{"packets", sio.RecoveryOptions{MaxPackets: 5}, 5},
		{"bytes", sio.RecoveryOptions{MaxBytes: 5 * 1100}, 5},
	} {
		t.Run(tc.name, func(t *testing.T) {
			bubble(t, recovering(tc.opts), func(t *testing.T, l *lab) {
				c := l.ws()
				p := l.player(c)
				send := func(n int) func() {
					return func() {
						for range n {
							emit(t, l, text)
						}
						if _, _, packets, bytes := sio.RecoveryState(l.Of("/")); packets > tc.n || bytes > 5*1100 {
							t.Errorf("%d packets, %d bytes are kept", packets, bytes)
						}
					}
				}
				c = comeBack(l, p, c, send(tc.n))
				if !p.recovered || len(p.got) != tc.n {
					t.Errorf("recovered %v, %d events", p.recovered, len(p.got))
				}
				comeBack(l, p, c, send(tc.n+1))
				if p.recovered || len(p.got) != tc.n {
					t.Errorf("recovered %v, %d events", p.recovered, len(p.got))
				}
			})
		})
	}
	t.Run("one event above all bytes", func(t *testing.T) {
		bubble(t, recovering(sio.RecoveryOptions{MaxBytes: 100}), func(t *testing.T, l *lab) {
			c := l.ws()
			p := l.player(c)
			comeBack(l, p, c, func() { emit(t, l, text) })
			if _, _, packets, bytes := sio.RecoveryState(l.Of("/")); p.recovered || packets != 0 || bytes != 0 {
				t.Errorf("recovered %v; %d packets, %d bytes are kept", p.recovered, packets, bytes)
			}
		})
	})
	t.Run("sessions", func(t *testing.T) {
		bubble(t, recovering(sio.RecoveryOptions{MaxSessions: 2}), func(t *testing.T, l *lab) {
			var p [3]player
			for i := range p {
				c := l.ws()
				p[i].join(c)
				c.cut()
				synctest.Wait()
			}
			if _, sessions, _, _ := sio.RecoveryState(l.Of("/")); sessions != 2 {
				t.Errorf("%d sessions are kept", sessions)
			}
			for i := range p {
				if p[i].join(l.ws()); p[i].recovered != (i > 0) {
					t.Errorf("player %d: recovered %v", i, p[i].recovered)
				}
			}
		})
	})
	t.Run("time", func(t *testing.T) { // what nobody can miss any more goes when the next event comes
		bubble(t, recovering(sio.RecoveryOptions{MaxDisconnection: time.Minute}), func(t *testing.T, l *lab) {
			emit(t, l, "1", "2", "3")
			time.Sleep(time.Minute + 46*time.Second)
			emit(t, l, "4")
			if _, _, packets, _ := sio.RecoveryState(l.Of("/")); packets != 1 {
				t.Errorf("%d packets are kept", packets)
			}
		})
	})
}

func TestRecoveryClaims(t *testing.T) {
	bubble(t, recovering(sio.RecoveryOptions{}), func(t *testing.T, l *lab) {
		for _, tc := range []struct {
			auth string
			want bool
		}{
			{`{"pid":"PID","offset":"OFFSET"}`, true},
			{`{"pid":"PID","offset":"OFFSET","token":"of the application"}`, true},
			{`{"pid":"PID","offset":"xxxxxxxx.1"}`, true}, // of another process: it has seen nothing since it joined
			{`{"pid":"PID"}`, true},                       // likewise
			{`{"pid":"PID","offset":"junk"}`, false},
			{`{"pid":"PID","offset":"room.7"}`, false},
			{`{"pid":"PID","offset":"OFFSET999999"}`, false}, // from the future
			{`{"pid":"PID","offset":5}`, false},
			{`{"pid":"nobody","offset":"OFFSET"}`, false},
			{`{"pid":5,"offset":"OFFSET"}`, false},
			{`{"pid":null,"offset":null}`, false},
			{`{}`, false},
			{``, false},
		} {
			p := l.missing(l.ws())
			auth := strings.NewReplacer("PID", p.pid, "OFFSET", p.offset).Replace(tc.auth)
			c := l.ws()
			c.send("0" + auth)
			synctest.Wait()
			if s := only(t, l.Of("/")); s.Recovered() != tc.want || tc.want != (s.ID() == p.sid) {
				t.Errorf("%s: recovered %v", auth, s.Recovered())
			}
			c.send("1")
			synctest.Wait()
			c.cut()
		}
	})
}

func TestRecoveryOffsetOfAnEarlierProcess(t *testing.T) {
	bubble(t, recovering(sio.RecoveryOptions{}), func(t *testing.T, l *lab) {
		p := &player{pid: "AAAAAAAAAAAAAAAAAAAA", offset: "xxxxxxxx.7"} // from then
		c := l.ws()
		p.join(c)
		if p.recovered {
			t.Error("recovered from nothing")
		}
		comeBack(l, p, c, func() { emit(t, l, "1") }) // it still has that offset
		if !p.recovered {
			t.Error("not recovered")
		}
		p.wantGot(t, "1")
	})
}

func TestRecoveryReasons(t *testing.T) {
	for _, tc := range []struct {
		name string
		end  func(c *client, s *sio.Socket)
		want bool
	}{
		{"client namespace disconnect", func(c *client, _ *sio.Socket) { c.send("1") }, false},
		{"server namespace disconnect", func(_ *client, s *sio.Socket) { s.Disconnect(true) }, false},
		{"parse error", func(c *client, _ *sio.Socket) { _, _ = c.raw.Write([]byte("\x81\x81\x00\x00\x00\x009")) }, false},
		{"forced close", func(c *client, _ *sio.Socket) { c.send("9") }, true},
		{"transport close", func(c *client, _ *sio.Socket) { c.cut() }, true},
		{"ping timeout", func(c *client, _ *sio.Socket) { c.mute.Store(true); time.Sleep(time.Minute) }, true},
		{"connection age", func(*client, *sio.Socket) { time.Sleep(time.Minute) }, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			opts := recovering(sio.RecoveryOptions{})
			if tc.name == "connection age" {
				opts.Engine.MaxAge = 50 * time.Second
			}
			bubble(t, opts, func(t *testing.T, l *lab) {
				var g log
				l.OnDisconnect(func(_ context.Context, _ *sio.Socket, r sio.Reason) { g.add("%s", r) })
				c := l.ws()
				p := l.player(c)
				synctest.Wait()
				tc.end(c, only(t, l.Of("/")))
				g.want(t, tc.name)
				p.join(l.ws())
				if p.recovered != tc.want {
					t.Errorf("recovered: %v", p.recovered)
				}
			})
		})
	}
}

func TestLesson25_MiddlewaresOnRecovery(t *testing.T) {
	for _, skip := range []bool{false, true} {
		t.Run(fmt.Sprint("skip=", skip), func(t *testing.T) {
			opts := recovering(sio.RecoveryOptions{SkipMiddlewares: skip})
			var hooked []bool
			opts.Hooks.Recovery = func(_ *sio.Namespace, ok bool) { hooked = append(hooked, ok) }
			bubble(t, opts, func(t *testing.T, l *lab) {
				var banned bool
				var asked int
				l.Use(func(ctx context.Context, _ *sio.Socket) (context.Context, error) {
					if asked++; banned {
						return nil, errors.New("banned")
					}
					return ctx, nil
				})
				c := l.ws()
				p := l.player(c)
				c = comeBack(l, p, c, func() {})
				want := 2
				if skip {
					want = 1
				}
				if !p.recovered || asked != want {
					t.Errorf("recovered %v, asked %d times", p.recovered, asked)
				}
				c.cut()
				synctest.Wait()
				banned = true
				c = l.ws()
				c.send("0" + p.auth())
				packet, _ := c.next()
				if _, in := parseConnect("/", packet); in != skip {
					t.Errorf("got %q", packet)
				}
				if !slices.Equal(hooked, []bool{true, true}) {
					t.Errorf("Hooks.Recovery: %v", hooked)
				}
			})
		})
	}
}

// Whatever happens to its connections, and whenever: a client gets each event once and in order.
func TestLesson24_RecoveryProperty(t *testing.T) {
	for seed := range uint64(12) {
		for _, transport := range transports {
			t.Run(fmt.Sprintf("%s/seed=%d", transport, seed), func(t *testing.T) {
				bubble(t, recovering(sio.RecoveryOptions{}), func(t *testing.T, l *lab) { recoveryRun(t, l, seed, transport) })
			})
		}
	}
}

func recoveryRun(t *testing.T, l *lab, seed uint64, transport eio.Transport) {
	t.Helper()
	// Each goroutine has a source of its own, so that a seed says all there is to say.
	server, client, gate := rand.New(rand.NewPCG(seed, 1)), rand.New(rand.NewPCG(seed, 2)), rand.New(rand.NewPCG(seed, 3))
	pause := func(r *rand.Rand, most time.Duration) { time.Sleep(time.Duration(r.Int64N(int64(most)))) }
	var mu sync.Mutex // two connections may be at the gate
	l.Use(func(ctx context.Context, s *sio.Socket) (context.Context, error) {
		s.Join("user")
		mu.Lock()
		d := time.Duration(gate.Int64N(int64(10 * time.Millisecond)))
		mu.Unlock()
		time.Sleep(d)
		return ctx, nil
	})
	l.OnConnect(func(_ context.Context, s *sio.Socket) error { s.Join("room"); return nil })

	c := l.open(transport)
	p := l.player(c)
	synctest.Wait()
	first, sid := only(t, l.Of("/")), p.sid

	var want []string
	const events = 200
	for n := range events {
		want = append(want, fmt.Sprint(n))
	}
	emitted := make(chan struct{})
	ctx, stop := context.WithCancel(context.Background())
	defer func() {
		stop()
		<-emitted
	}()
	go func() { // ends when all is sent
		defer close(emitted)
		for _, v := range want {
			if ctx.Err() != nil {
				return
			}
			pause(server, 4*time.Millisecond)
			switch server.IntN(8) {
			case 0:
				_ = l.To("user").Emit(ctx, "e", v)
			case 1:
				_ = l.To(sid).Emit(ctx, "e", v)
			case 2:
				_ = l.To("room", "user").Except("x").Emit(ctx, "e", v)
			case 3:
				_ = l.Volatile().Emit(ctx, "e", "volatile")
				_ = l.To("room").Emit(ctx, "e", v)
			case 4:
				_ = l.To("x").Emit(ctx, "e", "not for it")
				_ = l.Except("room").Emit(ctx, "e", "not for it")
				_ = l.Emit(ctx, "e", v)
			case 5:
				if s := l.Socket(sid); s != nil {
					_ = s.Emit("e", v)
				} else {
					_ = first.To().In(sid).Emit(ctx, "e", v) // excludes itself
					_ = l.To(sid).Emit(ctx, "e", v)
				}
			default:
				_ = l.Emit(ctx, "e", v)
			}
		}
	}()

	losses := 0
	for {
		sending := true
		select {
		case <-emitted:
			sending = false
		default:
		}
		if sending {
			cut := time.AfterFunc(time.Duration(client.Int64N(int64(30*time.Millisecond))), c.cut)
			if client.IntN(3) == 0 { // gives the connection up while the server believes in it
				cut.Stop()
				until := time.Now().Add(time.Duration(client.Int64N(int64(30 * time.Millisecond))))
				for time.Now().Before(until) {
					time.Sleep(time.Millisecond)
					p.drain(c)
				}
			} else {
				for packet, ok := c.next(); ok; packet, ok = c.next() {
					p.take(packet)
				}
			}
			cut.Stop()
			losses++
			pause(client, 20*time.Millisecond)
			for c = l.open(transport); ; c = l.open(transport) {
				early := time.AfterFunc(time.Duration(client.Int64N(int64(40*time.Millisecond))), c.cut)
				joined := p.join(c)
				early.Stop()
				if joined {
					break
				}
			}
			if !p.recovered || p.sid != sid {
				t.Fatalf("loss %d: recovered %v, %s is now %s", losses, p.recovered, sid, p.sid)
			}
			continue
		}
		p.drain(c)
		break
	}
	got := slices.DeleteFunc(p.got, func(v string) bool { return v == "volatile" })
	if !slices.Equal(got, want) {
		t.Errorf("after %d losses: got %q", losses, got)
	}
	if losses < 5 {
		t.Errorf("only %d losses", losses)
	}
}
