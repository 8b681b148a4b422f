package sio_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-0b620db0/patchbay/pkg/eio"
	"github.com/seed-0b620db0/patchbay/pkg/sio"
)

func TestHandlersRunInOrder(t *testing.T) {
	for _, transport := range transports {
		t.Run(string(transport), func(t *testing.T) {
			bubble(t, nil, func(t *testing.T, l *lab) {
				var g log
				slow := func(what string) { // so that what follows would overtake it if it could
					time.Sleep(time.Second)
					g.add("%s", what)
				}
				l.OnConnect(func(context.Context, *sio.Socket) error { slow("connect 1"); return nil })
				l.OnConnect(func(context.Context, *sio.Socket) error { slow("connect 2"); return nil })
				l.On("e", sio.Receive(func(_ context.Context, _ *sio.Socket, n int) error { slow(fmt.Sprint("event ", n)); return nil }))
				l.OnDisconnecting(func(_ context.Context, s *sio.Socket, r sio.Reason) {
					slow(fmt.Sprint("disconnecting ", r, " ", len(slices.Collect(s.Rooms()))))
				})
				l.OnDisconnect(func(_ context.Context, s *sio.Socket, r sio.Reason) {
					slow(fmt.Sprint("disconnect ", r, " ", len(slices.Collect(s.Rooms()))))
				})
				c := l.open(transport)
				c.connect("/", "")
				synctest.Wait()
				only(t, l.Of("/")).Join("a", "b")
				c.send(`2["e",1]`, `2["e",2]`, `2["e",3]`, `1`)
				time.Sleep(time.Minute)
				g.want(t, "connect 1", "connect 2", "event 1", "event 2", "event 3",
					"disconnecting client namespace disconnect 3", "disconnect client namespace disconnect 0")
			})
		})
	}
}

// Each way to end a socket, as its handlers see it: the context ends with the reason as its cause.
func TestDisconnectReasons(t *testing.T) {
	for _, tc := range []struct {
		name      string
		transport eio.Transport
		end       func(l *lab, c *client, s *sio.Socket)
		want      sio.Reason
	}{
		{"41", eio.WebSocket, func(_ *lab, c *client, _ *sio.Socket) { c.send("1") }, sio.ReasonClientDisconnect},
		{"Disconnect(false)", eio.WebSocket, func(_ *lab, _ *client, s *sio.Socket) { s.Disconnect(false) }, sio.ReasonServerDisconnect},
		{"Disconnect(true)", eio.WebSocket, func(_ *lab, _ *client, s *sio.Socket) { s.Disconnect(true) }, sio.ReasonServerDisconnect},
		{"DisconnectSockets", eio.Polling, func(l *lab, _ *client, _ *sio.Socket) {
			_ = l.DisconnectSockets(context.Background(), true)
		}, sio.ReasonServerDisconnect},
		{"connection lost", eio.WebSocket, func(_ *lab, c *client, _ *sio.Socket) { c.cut() }, sio.ReasonTransportClose},
		{"poll aborted", eio.Polling, func(_ *lab, c *client, _ *sio.Socket) { c.cut() }, sio.ReasonTransportError},
		{"no pong", eio.WebSocket, func(_ *lab, c *client, _ *sio.Socket) { c.mute.Store(true); time.Sleep(time.Minute) }, sio.ReasonPingTimeout},
		{"bad packet", eio.WebSocket, func(_ *lab, c *client, _ *sio.Socket) { c.send("9") }, sio.ReasonForcedClose},
		{"bad packet, poll open", eio.Polling, func(_ *lab, c *client, _ *sio.Socket) { c.send("9") }, sio.ReasonForcedClose},
		{"Session.Close", eio.WebSocket, func(_ *lab, _ *client, s *sio.Socket) { s.Session().Close() }, sio.ReasonForcedClose},
		{"Shutdown", eio.WebSocket, func(l *lab, _ *client, _ *sio.Socket) { _ = l.Shutdown(context.Background()) }, sio.ReasonServerShuttingDown},
		{"Shutdown, polling", eio.Polling, func(l *lab, _ *client, _ *sio.Socket) { _ = l.Shutdown(context.Background()) }, sio.ReasonServerShuttingDown},
		{"Close", eio.WebSocket, func(l *lab, _ *client, _ *sio.Socket) { _ = l.Close() }, sio.ReasonServerShuttingDown},
		{"Close, polling", eio.Polling, func(l *lab, _ *client, _ *sio.Socket) { _ = l.Close() }, sio.ReasonServerShuttingDown},
	} {
		t.Run(tc.name, func(t *testing.T) {
			type key struct{}
			bubble(t, nil, func(t *testing.T, l *lab) {
				var g log
				l.Use(func(ctx context.Context, _ *sio.Socket) (context.Context, error) {
					return context.WithValue(ctx, key{}, "value"), nil
				})
				l.On("wait", func(ctx context.Context, _ *sio.Socket, _ *sio.Event) error {
					<-ctx.Done()
					cause := context.Cause(ctx)
					if e, ok := errors.AsType[*sio.DisconnectError](cause); ok {
						g.add("event: %s", e.Reason)
					}
					if !errors.Is(cause, sio.ErrDisconnected) || !errors.Is(cause, net.ErrClosed) {
						t.Errorf("the cause is %v", cause)
					}
					return nil
				})
				l.OnDisconnect(func(ctx context.Context, s *sio.Socket, r sio.Reason) {
					g.add("disconnect: %s, %v, %v, connected %v", r, ctx.Err(), ctx.Value(key{}), s.Connected())
				})
				c := l.open(tc.transport)
				c.connect("/", "")
				c.send(`2["wait"]`)
				synctest.Wait()
				s := only(t, l.Of("/"))
				tc.end(l, c, s)
				g.want(t, "event: "+string(tc.want), "disconnect: "+string(tc.want)+", <nil>, value, connected false")
				if err := s.Emit("late"); !errors.Is(err, sio.ErrDisconnected) {
					t.Errorf("Emit after the end: %v", err)
				}
				if _, err := s.EmitWithAck(t.Context(), "late"); !errors.Is(err, sio.ErrDisconnected) {
					t.Errorf("EmitWithAck after the end: %v", err)
				}
				s.Disconnect(true) // has nothing left to do
				s.Disconnect(false)
			})
		})
	}
}

// A polling client between two requests learns late; its sockets end at once.
func TestDisconnectReasonOfPollingWithoutPoll(t *testing.T) {
	bubble(t, nil, func(t *testing.T, l *lab) {
		var g log
		l.OnDisconnect(func(_ context.Context, _ *sio.Socket, r sio.Reason) { g.add("%s", r) })
		c := l.handshake()
		c.send("0")
		c.send("0")
		g.want(t, "forced server close")
		wantClose(t, c)
	})
}

func TestDisconnectTellsEachNamespaceInOrder(t *testing.T) {
	bubble(t, nil, func(t *testing.T, l *lab) {
		var g log
		for _, name := range []string{"/b", "/", "/a"} {
			l.Of(name).OnDisconnect(func(_ context.Context, s *sio.Socket, r sio.Reason) { g.add("%s", r) })
		}
		c := l.ws()
		c.connect("/b", "")
		c.connect("/", "")
		c.connect("/a", "")
		synctest.Wait()
		only(t, l.Of("/a")).Disconnect(true)
		c.want("1/b,", "1", "1/a,")
		c.wantGone()
		g.want(t, "server namespace disconnect", "server namespace disconnect", "server namespace disconnect")
	})
}

// A client may be told once only that it is out: the second DISCONNECT would hit the session it has by then.
func TestDisconnectOnce(t *testing.T) {
	var (
		opts  sio.Options
		delay bool
	)
	opts.Engine.Hooks.Queued = func(n int) {
		if delay && n > 0 {
			time.Sleep(time.Second) // stands for being put aside by the scheduler at that moment
		}
	}
	bubble(t, &opts, func(t *testing.T, l *lab) {
		c := l.ws()
		c.connect("/", "")
		synctest.Wait()
		s := only(t, l.Of("/"))
		delay = true
		done := make(chan struct{}, 2)
		for range 2 {
			go func() { // ends with the call
				s.Disconnect(false)
				done <- struct{}{}
			}()
		}
		<-done
		<-done
		c.want("1")
		c.wantNone()
	})
}

// slowConnect are options with which the server takes a second between sending CONNECT and what it does next. That stands
// for being put aside by the scheduler at that moment.
func slowConnect() *sio.Options {
	var (
		opts  sio.Options
		first atomic.Bool
	)
	opts.Hooks.Connected = func(*sio.Socket) { first.Store(true) }
	opts.Engine.Hooks.Queued = func(n int) {
		if n > 0 && first.Swap(false) {
			time.Sleep(time.Second)
		}
	}
	return &opts
}

// A client that knows that it is connected gets what is sent from then on.
func TestConnectedMeansVisible(t *testing.T) {
	bubble(t, slowConnect(), func(t *testing.T, l *lab) {
		c := l.ws()
		j := c.connect("/", "")
		_ = l.Emit(t.Context(), "e")
		_ = l.To(j.SID).Emit(t.Context(), "e")
		if got := c.drain(); len(got) != 2 {
			t.Errorf("got %q, want two events", got)
		}
	})
}

// A client may say what it has to say and leave before the server has come to call OnConnect.
func TestLeavesBeforeOnConnect(t *testing.T) {
	bubble(t, slowConnect(), func(t *testing.T, l *lab) {
		var g log
		l.Use(func(ctx context.Context, _ *sio.Socket) (context.Context, error) { return ctx, nil })
		l.OnConnect(func(context.Context, *sio.Socket) error { g.add("connect"); return nil })
		l.On("bye", func(context.Context, *sio.Socket, *sio.Event) error { g.add("bye"); return nil })
		l.OnDisconnect(func(_ context.Context, _ *sio.Socket, r sio.Reason) { g.add("%s", r) })
		c := l.ws()
		c.connect("/", "")
		c.send(`2["bye"]`, "1")
		time.Sleep(time.Minute)
		g.want(t, "connect", "bye", "client namespace disconnect")
	})
}

// A socket may be put out before its client knows that it is in. The client must not be left believing the contrary.
func TestDisconnectBeforeTheClientKnows(t *testing.T) {
	for _, recovery := range []*sio.RecoveryOptions{nil, {}} {
		t.Run(fmt.Sprint("recovery=", recovery != nil), func(t *testing.T) {
			opts := &sio.Options{Recovery: recovery}
			opts.Hooks.Connected = func(s *sio.Socket) { s.Disconnect(false) } // stands for anybody who found it in a room
			bubble(t, opts, func(t *testing.T, l *lab) {
				c := l.ws()
				c.send("0")
				got := c.drain()
				if l.Len() != 0 || len(got) == 0 || got[len(got)-1] != "1" {
					t.Errorf("%d sockets, and the client was told %q", l.Len(), got)
				}
			})
		})
	}
}

// Nor must one whose connection is closed believe that it was lost.
func TestCloseBeforeTheClientKnows(t *testing.T) {
	bubble(t, slowConnect(), func(t *testing.T, l *lab) {
		c := l.ws()
		c.connect("/", "") // it knows, but the server has not come to note that
		only(t, l.Of("/")).Disconnect(true)
		c.want("1")
		c.wantGone()
	})
}

func TestOnConnectError(t *testing.T) {
	bubble(t, nil, func(t *testing.T, l *lab) {
		var g log
		boom := errors.New("boom")
		l.OnConnect(func(context.Context, *sio.Socket) error { g.add("first"); time.Sleep(time.Second); return boom })
		l.OnConnect(func(context.Context, *sio.Socket) error { g.add("second"); return nil })
		l.On("e", func(context.Context, *sio.Socket, *sio.Event) error { g.add("event"); return nil })
		l.OnDisconnect(func(_ context.Context, _ *sio.Socket, r sio.Reason) { g.add("%s", r) })
		l.Of("/other")
		c := l.ws()
		c.connect("/other", "")
		c.connect("/", "")
		c.send(`2["e"]`)
		c.want("1")
		g.want(t, "first", "server namespace disconnect")
		if r := l.errors(); len(r) != 1 || !errors.Is(r[0].err, boom) || r[0].event != "" {
			t.Errorf("reported: %v", r)
		}
		c.wantAlive()
		only(t, l.Of("/other"))
	})
}

// A panic ends the socket that it happened for, nothing else.
func TestPanics(t *testing.T) {
	for _, tc := range []struct {
		name    string
		set     func(l *lab, boom func())
		provoke func(l *lab, c *client)
		packets []string
		event   string
	}{
		{"OnConnect", func(l *lab, boom func()) {
			l.OnConnect(func(context.Context, *sio.Socket) error { boom(); return nil })
		}, func(*lab, *client) {}, []string{"0*", "1"}, ""},
		{"handler", func(l *lab, boom func()) {
			l.On("e", func(context.Context, *sio.Socket, *sio.Event) error { boom(); return nil })
		}, func(_ *lab, c *client) { c.send(`20["e"]`) }, []string{"0*", "1"}, "e"},
		{"OnAny", func(l *lab, boom func()) {
			l.OnAny(func(context.Context, *sio.Socket, *sio.Event) { boom() })
		}, func(_ *lab, c *client) { c.send(`2["x"]`) }, []string{"0*", "1"}, "x"},
		{"event middleware", func(l *lab, boom func()) {
			l.UseEvent(func(sio.Handler) sio.Handler {
				return func(context.Context, *sio.Socket, *sio.Event) error { boom(); return nil }
			})
		}, func(_ *lab, c *client) { c.send(`2["x"]`) }, []string{"0*", "1"}, "x"},
		{"OnDisconnecting", func(l *lab, boom func()) {
			l.OnDisconnecting(func(context.Context, *sio.Socket, sio.Reason) { boom() })
		}, func(_ *lab, c *client) { c.send("1") }, []string{"0*"}, ""},
		{"OnDisconnect", func(l *lab, boom func()) {
			l.OnDisconnect(func(context.Context, *sio.Socket, sio.Reason) { boom() })
		}, func(_ *lab, c *client) { c.send("1") }, []string{"0*"}, ""},
		{"middleware", func(l *lab, boom func()) {
			l.Use(func(context.Context, *sio.Socket) (context.Context, error) { boom(); return nil, nil })
		}, func(*lab, *client) {}, []string{`4{"message":"Internal server error"}`}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			bubble(t, nil, func(t *testing.T, l *lab) {
				l.Of("/other").On("ping", sio.Reply(func(context.Context, *sio.Socket, any) (string, error) { return "pong", nil }))
				tc.set(l, func() { panic("boom") })
				var g log
				l.OnDisconnect(func(_ context.Context, _ *sio.Socket, r sio.Reason) { g.add("disconnect") })
				c := l.ws()
				c.connect("/other", "")
				c.send("0")
				synctest.Wait()
				tc.provoke(l, c)
				synctest.Wait()
				got := c.drain()
				if len(got) > 0 && strings.HasPrefix(got[0], `0{"sid"`) {
					got[0] = "0*"
				}
				if !slices.Equal(got, tc.packets) {
					t.Errorf("got packets %q, want %q", got, tc.packets)
				}
				if l.Len() != 0 {
					t.Error("the socket is still there")
				}
				if tc.name != "middleware" {
					g.want(t, "disconnect")
				}
				r := l.errors()
				if len(r) != 1 || r[0].event != tc.event {
					t.Fatalf("reported: %v", r)
				}
				p, ok := errors.AsType[*sio.PanicError](r[0].err)
				if !ok || p.Value != "boom" || !strings.Contains(string(p.Stack), "lifecycle_test.go") {
					t.Errorf("reported: %v", r[0].err)
				}
				c.send(`2/other,7["ping"]`)
				c.want(`3/other,7["pong"]`)
			})
		})
	}
}

// A server-side event is the application's code too: its panic must not reach the adapter, whose goroutine it runs on.
func TestPanicInServerEvent(t *testing.T) {
	var local *sio.Local
	bubble(t, &sio.Options{Adapter: func(l *sio.Local) sio.Adapter { local = l; return nothing{} }}, func(t *testing.T, l *lab) {
		l.OnServerEvent("e", func(context.Context, *sio.Event) error { panic("boom") })
		defer func() {
			if v := recover(); v != nil {
				t.Errorf("the adapter got the panic: %v", v)
			}
		}()
		handled, err := local.ServerEvent(t.Context(), &sio.Outgoing{Payload: []byte(`["e"]`)}, nil)
		if _, ok := errors.AsType[*sio.PanicError](err); !handled || !ok {
			t.Errorf("got %v, %v", handled, err)
		}
	})
}

// Lesson 23: the whole API may be used while a socket disconnects.
func TestLesson23_APIInsideOnDisconnect(t *testing.T) {
	for _, opts := range []*sio.Options{nil, recovering(sio.RecoveryOptions{})} {
		t.Run(fmt.Sprint("recovery=", opts != nil), func(t *testing.T) {
			bubble(t, opts, func(t *testing.T, l *lab) {
				all := func(ctx context.Context, s *sio.Socket) {
					s.Join("x")
					s.Leave("x")
					_ = s.Emit("e")
					_, _ = s.EmitWithAck(ctx, "e")
					_ = s.To("room").Emit(ctx, "gone", s.ID())
					for _, err := range s.To("room").EmitWithAck(ctx, "asked") {
						if err != nil && !errors.Is(err, sio.ErrAckTimeout) && !errors.Is(err, sio.ErrServerClosed) {
							t.Error(err)
						}
					}
					_, _ = l.FetchSockets(ctx)
					_ = l.SocketsJoin(ctx, "joined")
					_ = l.SocketsLeave(ctx, "joined")
					_ = l.To(s.ID()).DisconnectSockets(ctx, true)
					s.SetData(1)
					s.Disconnect(true)
				}
				var n int
				l.OnDisconnecting(func(ctx context.Context, s *sio.Socket, _ sio.Reason) { all(ctx, s); n++ })
				l.OnDisconnect(func(ctx context.Context, s *sio.Socket, _ sio.Reason) { all(ctx, s); n++ })
				clients, s := crowd(l, 2)
				clients[1].drain()
				s[1].Join("room")
				clients[0].cut()
				synctest.Wait()
				for _, p := range clients[1].drain() {
					var id int
					if i := strings.Index(p, `["asked"`); i > 0 {
						if err := json.Unmarshal([]byte(p[1:i]), &id); err != nil {
							t.Fatalf("%q: %v", p, err)
						}
						clients[1].send(fmt.Sprintf("3%d[]", id))
					}
				}
				synctest.Wait()
				clients[1].drain()
				time.Sleep(2 * time.Minute) // more than enough for the question that was not answered
				synctest.Wait()
				if n != 2 {
					t.Errorf("%d of 2 handlers ran", n)
				}
			})
		})
	}
}
