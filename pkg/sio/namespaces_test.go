package sio_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-0b620db0/patchbay/pkg/sio"
)

func TestNamespacesOnOneConnection(t *testing.T) {
	bubble(t, nil, func(t *testing.T, l *lab) {
		var g log
		for _, name := range []string{"/", "/a", "/b"} {
			ns := l.Of(name)
			ns.On("e", func(context.Context, *sio.Socket, *sio.Event) error { g.add("%s e", name); return nil })
			ns.OnDisconnect(func(_ context.Context, s *sio.Socket, r sio.Reason) { g.add("%s %s", s.Namespace().Name(), r) })
		}
		c := l.ws()
		c.connect("/", "")
		c.connect("/a", "")
		c.connect("/b", "")
		c.send(`2/a,["e"]`)
		synctest.Wait()
		c.send(`2["e"]`)
		synctest.Wait()
		c.send("1/a,")
		synctest.Wait()
		c.send(`2/b,["e"]`)
		g.want(t, "/a e", "/ e", "/a client namespace disconnect", "/b e")
		_ = l.Of("/a").Emit(t.Context(), "not for it")
		_ = l.Of("/b").Emit(t.Context(), "x")
		c.want(`2/b,["x"]`)
		c.wantNone()
	})
}

// What was on its way when the client left a namespace, or was put out, is late and nothing worse.
func TestEventsCrossingADisconnect(t *testing.T) {
	bubble(t, nil, func(t *testing.T, l *lab) {
		var n atomic.Int64
		l.On("e", func(context.Context, *sio.Socket, *sio.Event) error { n.Add(1); return nil })
		l.Of("/other")
		c := l.ws()
		c.connect("/other", "")
		c.connect("/", "")
		c.send("1", `2["e"]`, "30[]", "1")
		c.wantAlive()
		c.connect("/", "")
		synctest.Wait()
		only(t, l.Of("/")).Disconnect(false)
		c.want("1")
		c.send(`2["e"]`)
		c.connect("/", "")
		c.send(`2["e"]`)
		synctest.Wait()
		if n.Load() != 1 {
			t.Errorf("%d events, want 1", n.Load())
		}
	})
}

func TestPacketForNamespaceNotJoined(t *testing.T) {
	for _, packet := range []string{`2/x,["e"]`, "1/x,", "3/x,0[]", "4{}", "4/x,{}"} {
		t.Run(packet, func(t *testing.T) {
			var hooked atomic.Int64
			opts := &sio.Options{Hooks: sio.Hooks{ProtocolError: func(error) { hooked.Add(1) }}}
			bubble(t, opts, func(t *testing.T, l *lab) {
				l.Of("/x")
				c := l.ws()
				c.connect("/", "")
				c.send(packet)
				c.wantGone()
				if hooked.Load() != 1 {
					t.Errorf("Hooks.ProtocolError was called %d times", hooked.Load())
				}
			})
		})
	}
}

func TestSecondConnect(t *testing.T) {
	for _, slow := range []bool{false, true} {
		t.Run(fmt.Sprint("while the middlewares run=", slow), func(t *testing.T) {
			bubble(t, nil, func(t *testing.T, l *lab) {
				if slow {
					l.Use(func(ctx context.Context, _ *sio.Socket) (context.Context, error) {
						<-ctx.Done()
						return ctx, nil
					})
				}
				c := l.ws()
				c.send("0", "0")
				c.wantGone()
			})
		})
	}
}

func TestMiddlewares(t *testing.T) {
	type key string
	bubble(t, nil, func(t *testing.T, l *lab) {
		var g log
		l.Use(func(ctx context.Context, s *sio.Socket) (context.Context, error) {
			g.add("1 connected=%v", s.Connected())
			s.Join("room")
			if err := s.Emit("early", 1); err != nil {
				t.Error(err)
			}
			return context.WithValue(ctx, key("a"), "A"), nil
		})
		l.Use(func(ctx context.Context, s *sio.Socket) (context.Context, error) {
			g.add("2 %v", ctx.Value(key("a")))
			var auth struct{ Token string }
			if err := s.Handshake().Auth(&auth); err != nil {
				return nil, err
			}
			switch auth.Token {
			case "plain":
				return nil, errors.New("no entry")
			case "data":
				return nil, &sio.ConnectError{Message: "denied", Data: map[string]int{"n": 1}}
			case "wrapped":
				return nil, fmt.Errorf("outer: %w", &sio.ConnectError{Message: "inner"})
			case "unencodable":
				return nil, &sio.ConnectError{Message: "bad data", Data: make(chan int)}
			}
			return nil, nil // the context stays
		}, func(ctx context.Context, _ *sio.Socket) (context.Context, error) {
			g.add("3 %v", ctx.Value(key("a")))
			return ctx, nil
		})
		l.OnConnect(func(ctx context.Context, s *sio.Socket) error {
			g.add("connect %v %v", ctx.Value(key("a")), s.Context().Value(key("a")))
			return nil
		})
		c := l.ws()
		for _, tc := range []struct{ token, want string }{
			{"plain", `4{"message":"no entry"}`},
			{"data", `4{"message":"denied","data":{"n":1}}`},
			{"wrapped", `4{"message":"inner"}`},
			{"unencodable", `4{"message":"bad data"}`},
		} {
			c.send(fmt.Sprintf(`0{"token":%q}`, tc.token))
			c.want(`2["early",1]`, tc.want)
			g.want(t, "1 connected=false", "2 A")
			g.lines = nil
			if n, rooms := sio.Users(l.Of("/")), sio.Rooms(l.Of("/")); n != 0 || len(rooms) != 0 {
				t.Errorf("%s: %d users, rooms %q", tc.token, n, rooms)
			}
		}
		c.send(`0{"token":1}`)
		c.want(`2["early",1]`)
		if got, _ := c.next(); !strings.HasPrefix(got, `4{"message":"sio: decode auth: `) {
			t.Errorf("got %q", got)
		}
		g.lines = nil
		c.send("0")
		c.want(`2["early",1]`)
		if got, _ := c.next(); !strings.HasPrefix(got, `0{"sid":`) {
			t.Errorf("got %q", got)
		}
		g.want(t, "1 connected=false", "2 A", "3 A", "connect A A")
		if !only(t, l.Of("/")).In("room") {
			t.Error("the room of the middleware was left")
		}
	})
}

func TestMiddlewareWhoseClientDisconnects(t *testing.T) {
	bubble(t, nil, func(t *testing.T, l *lab) {
		var g log
		l.Use(func(ctx context.Context, s *sio.Socket) (context.Context, error) {
			s.Join("room")
			<-ctx.Done()
			if e, ok := errors.AsType[*sio.DisconnectError](context.Cause(ctx)); ok {
				g.add("%s", e.Reason)
			}
			return ctx, nil // as if nothing had happened
		})
		l.OnConnect(func(context.Context, *sio.Socket) error { g.add("connect"); return nil })
		l.OnDisconnect(func(context.Context, *sio.Socket, sio.Reason) { g.add("disconnect") })
		c := l.ws()
		c.send("0")
		synctest.Wait()
		c.cut()
		g.want(t, "transport close")
		if n, rooms := sio.Users(l.Of("/")), sio.Rooms(l.Of("/")); n != 0 || len(rooms) != 0 || l.connected.Load() != 0 {
			t.Errorf("%d users, rooms %q, %d connected", n, rooms, l.connected.Load())
		}
	})
}

func TestConnectTimeout(t *testing.T) {
	for _, transport := range transports {
		t.Run(string(transport), func(t *testing.T) {
			bubble(t, nil, func(t *testing.T, l *lab) {
				l.Of("/refuses").Use(func(context.Context, *sio.Socket) (context.Context, error) { return nil, errors.New("no") })
				start := time.Now()
				idle, refused, left := l.open(transport), l.open(transport), l.open(transport)
				refused.send("0/refuses,")
				left.connect("/", "")
				left.send("1")
				idle.wantGone()
				refused.wantGone()
				if d := time.Since(start); d != 45*time.Second {
					t.Errorf("closed after %v", d)
				}
				time.Sleep(time.Hour) // a client that has joined once may stay without namespaces
				left.wantAlive()
			})
		})
	}
}

func TestDynamicNamespaces(t *testing.T) {
	var g log
	opts := &sio.Options{Hooks: sio.Hooks{
		NamespaceOpened: func(ns *sio.Namespace) { g.add("opened %s", ns.Name()) },
		NamespaceClosed: func(ns *sio.Namespace) { g.add("closed %s", ns.Name()) },
	}}
	bubble(t, opts, func(t *testing.T, l *lab) {
		var asked log
		l.OfFunc(func(_ context.Context, name string, auth json.RawMessage) (bool, error) {
			asked.add("func %s %s", name, auth)
			switch name {
			case "/error":
				return true, errors.New("does not know")
			case "/panic":
				panic("boom")
			}
			return name == "/func", nil
		}).On("who", sio.Reply(func(context.Context, *sio.Socket, any) (string, error) { return "func", nil }))
		first := l.OfRegexp(regexp.MustCompile(`^/room-\d+$`))
		first.On("who", sio.Reply(func(context.Context, *sio.Socket, any) (string, error) { return "first", nil }))
		second := l.OfRegexp(regexp.MustCompile(`^/(room|hall|error|panic)`))
		second.On("who", sio.Reply(func(_ context.Context, s *sio.Socket, _ any) (string, error) { return "second", nil }))
		l.Of("/static")
		c := l.ws()
		who := func(name, want string) {
			t.Helper()
			c.connect(name, "")
			c.send("2" + name + `,0["who"]`)
			c.want("3" + name + `,0["` + want + `"]`)
		}
		c.send(`0/nowhere,{"a":1}`)
		c.want(`4/nowhere,{"message":"Invalid namespace"}`)
		asked.want(t, `func /nowhere {"a":1}`)
		who("/func", "func")
		who("/room-1", "first")
		who("/room-x", "second")
		who("/error", "second")
		who("/panic", "second")
		c.connect("/static", "")
		if len(asked.all()) != 6 {
			t.Errorf("asked: %q", asked.all())
		}
		second.On("who", sio.Reply(func(context.Context, *sio.Socket, any) (string, error) { return "later", nil }))
		who("/hall", "later") // its handlers are those of now
		c.send(`2/room-x,0["who"]`)
		c.want(`3/room-x,0["second"]`)

		if ns := l.Of("room-1"); ns != l.Of("/room-1") || ns.Len() != 1 {
			t.Error("Of does not find the namespace that a client made")
		}
		static := l.Of("/room-7") // matches, and so belongs to the parent
		_ = first.Emit(t.Context(), "to first")
		c.want(`2/room-1,["to first"]`)
		d := l.ws()
		d.connect("/room-7", "")
		synctest.Wait()
		only(t, static).Join("r")
		_ = first.To("r").Emit(t.Context(), "r")
		d.want(`2/room-7,["r"]`)
		_ = first.Except("r").Emit(t.Context(), "not r")
		c.want(`2/room-1,["not r"]`)
		d.wantNone()
		g.want(t, "opened /", "opened /static", "opened /func", "opened /room-1", "opened /room-x", "opened /error",
			"opened /panic", "opened /hall", "opened /room-7")
	})
}

func TestCleanupOfEmptyNamespaces(t *testing.T) {
	for _, cleanup := range []bool{true, false} {
		t.Run(fmt.Sprint(cleanup), func(t *testing.T) {
			var g log
			opts := &sio.Options{
				CleanupEmptyChildNamespaces: cleanup,
				Hooks:                       sio.Hooks{NamespaceClosed: func(ns *sio.Namespace) { g.add("closed %s", ns.Name()) }},
			}
			bubble(t, opts, func(t *testing.T, l *lab) {
				p := l.OfRegexp(regexp.MustCompile("^/x"))
				p.Use(func(ctx context.Context, s *sio.Socket) (context.Context, error) {
					var auth struct{ Refuse bool }
					_ = s.Handshake().Auth(&auth)
					if auth.Refuse {
						return nil, errors.New("no")
					}
					return ctx, nil
				})
				l.Of("/x-static")
				c, d := l.ws(), l.ws()
				c.send(`0/x-refused,{"refuse":true}`)
				c.want(`4/x-refused,{"message":"no"}`)
				c.connect("/x-static", "")
				c.connect("/x-1", "")
				d.connect("/x-1", "")
				d.send(`0/x-2,{"refuse":true}`)
				d.want(`4/x-2,{"message":"no"}`)
				c.send("1/x-1,", "1/x-static,")
				synctest.Wait()
				if n := len(l.Namespaces()); cleanup && n != 3 || !cleanup && n != 5 {
					t.Errorf("%d namespaces", n)
				}
				d.cut()
				synctest.Wait()
				want, left := []string{"closed /x-refused", "closed /x-2", "closed /x-1"}, 0
				if !cleanup {
					want, left = nil, 3
				}
				g.want(t, want...)
				if made := sio.MadeNamespaces(l.Server); made != left {
					t.Errorf("%d namespaces count as made by clients, want %d", made, left)
				}
				c.connect("/x-1", "") // made again
			})
		})
	}
}

// The last one to leave a namespace may still want to tell the other nodes.
func TestCleanupComesAfterTheHandlers(t *testing.T) {
	var g log
	opts := &sio.Options{
		CleanupEmptyChildNamespaces: true,
		Hooks:                       sio.Hooks{NamespaceClosed: func(*sio.Namespace) { g.add("closed") }},
	}
	bubble(t, opts, func(t *testing.T, l *lab) {
		p := l.OfRegexp(regexp.MustCompile("^/x"))
		p.OnDisconnecting(func(context.Context, *sio.Socket, sio.Reason) { g.add("disconnecting") })
		p.OnDisconnect(func(context.Context, *sio.Socket, sio.Reason) { g.add("disconnect") })
		c := l.ws()
		c.connect("/x", "")
		c.send("1/x,")
		g.want(t, "disconnecting", "disconnect", "closed")
	})
}

func TestMaxNamespaces(t *testing.T) {
	bubble(t, &sio.Options{MaxNamespaces: 3}, func(t *testing.T, l *lab) {
		l.OfRegexp(regexp.MustCompile("^/x"))
		c := l.ws()
		c.connect("/x1", "")
		c.connect("/x2", "")
		for i := range 10 { // what was refused takes no place
			c.send(fmt.Sprintf("0/y%d,", i))
			c.want(fmt.Sprintf(`4/y%d,{"message":"Invalid namespace"}`, i))
		}
		c.connect("/x3", "")
		c.send("0/x4,")
		c.want(`4/x4,{"message":"Too many namespaces"}`)
		c.send("1/x1,")
		c.connect("/x1", "") // the place is its own
		c.send("0/x4,")
		c.want(`4/x4,{"message":"Too many namespaces"}`)
		synctest.Wait()
		if n := sio.Entries(only(t, l.Of("/x2"))); n != 3 {
			t.Errorf("%d entries", n)
		}
		l.ws().connect("/x4", "")
	})
}

// Beyond the limit nothing is made: an adapter may be a connection to a database.
func TestMaxChildNamespaces(t *testing.T) {
	var made, closed atomic.Int64
	opts := &sio.Options{
		MaxChildNamespaces: 2,
		Adapter:            func(*sio.Local) sio.Adapter { made.Add(1); return counted{closed: &closed} },
	}
	bubble(t, opts, func(t *testing.T, l *lab) {
		l.OfRegexp(regexp.MustCompile("^/x"))
		c := l.ws()
		c.connect("/x1", "")
		c.connect("/x2", "")
		for i := range 5 {
			c.send(fmt.Sprintf("0/x-%d,", i))
			c.want(fmt.Sprintf(`4/x-%d,{"message":"Too many namespaces"}`, i))
		}
		c.send("1/x1,")
		c.connect("/x1", "")
		if made.Load() != 3 || closed.Load() != 0 {
			t.Errorf("%d adapters were made for 3 namespaces, %d closed", made.Load(), closed.Load())
		}
	})
	if made.Load() != closed.Load() {
		t.Errorf("%d adapters made, %d closed", made.Load(), closed.Load())
	}
}

// counted counts calls of Close.
type counted struct {
	nothing
	closed *atomic.Int64
}

func (c counted) Close() error { c.closed.Add(1); return nil }

// Of and clients may ask for a namespace at the same time: there is one, with one open adapter.
func TestNamespaceIsMadeOnce(t *testing.T) {
	var made, closed atomic.Int64
	l := newLab(t, &sio.Options{Adapter: func(*sio.Local) sio.Adapter { made.Add(1); return counted{closed: &closed} }})
	l.OfRegexp(regexp.MustCompile("^/x"))
	for i := range 50 {
		name := fmt.Sprint("/x", i)
		var (
			wg  sync.WaitGroup
			got [4]*sio.Namespace
			c   = l.ws()
			j   joined
		)
		for k := range got {
			wg.Go(func() { got[k] = l.Of(name) })
		}
		j = c.connect(name, "")
		wg.Wait()
		if len(slices.Compact(got[:])) != 1 || j.SID == "" {
			t.Fatal("Of returned different namespaces")
		}
	}
	if n := made.Load() - closed.Load(); n != 51 {
		t.Errorf("%d open adapters for 51 namespaces", n)
	}
}

// A parent's namespaces are asked at the same time: one silent client must not keep the others from hearing of it.
func TestParentEmitWithAckAsksAllAtOnce(t *testing.T) {
	bubble(t, nil, func(t *testing.T, l *lab) {
		p := l.OfRegexp(regexp.MustCompile("^/x"))
		var clients []*client
		for i := range 3 {
			c := l.ws()
			c.connect(fmt.Sprint("/x", i), "")
			clients = append(clients, c)
		}
		synctest.Wait()
		done := make(chan struct{})
		go func() { // ends when the time is up
			defer close(done)
			for _, err := range p.To().Timeout(time.Minute).EmitWithAck(t.Context(), "e") {
				if !errors.Is(err, sio.ErrAckTimeout) {
					t.Errorf("got %v", err)
				}
			}
		}()
		synctest.Wait()
		for i, c := range clients {
			if got := c.drain(); len(got) != 1 {
				t.Errorf("client %d got %q", i, got)
			}
		}
		<-done
	})
}
