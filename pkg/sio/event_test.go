package sio_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/seed-0b620db0/patchbay/pkg/sio"
)

func TestReplyAndReceive(t *testing.T) {
	type point struct {
		X, Y int
		Blob []byte `json:",omitempty"`
	}
	refused := errors.New("refused")
	bubble(t, nil, func(t *testing.T, l *lab) {
		var g log
		l.On("double", sio.Reply(func(_ context.Context, _ *sio.Socket, p point) (point, error) {
			g.add("double %d %d %s", p.X, p.Y, p.Blob)
			return point{2 * p.X, 2 * p.Y, append(p.Blob, p.Blob...)}, nil
		}))
		l.On("fail", sio.Reply(func(context.Context, *sio.Socket, any) (int, error) { return 1, refused }))
		l.On("take", sio.Receive(func(_ context.Context, _ *sio.Socket, n int) error { g.add("take %d", n); return nil }))
		l.On("any", sio.Receive(func(_ context.Context, _ *sio.Socket, v any) error { g.add("any %v", v); return nil }))
		l.On("bad result", sio.Reply(func(context.Context, *sio.Socket, any) (chan int, error) { return nil, nil }))
		c := l.ws()
		c.connect("/", "")

		c.send(`20["double",{"X":1,"Y":2}]`, `2["double",{"X":3}]`)
		c.want(`30[{"X":2,"Y":4}]`)
		c.send(`51-1["double",{"Blob":{"_placeholder":true,"num":0}}]`, "bin:ab")
		c.want(`61-1[{"X":0,"Y":0,"Blob":{"_placeholder":true,"num":0}}]`, "bin:abab")
		c.send(`22["double"]`) // nothing to decode
		c.want(`32[{"X":0,"Y":0}]`)
		c.send(`23["take",7,"surplus"]`, `2["take"]`, `2["any",[1,{"a":null}]]`)
		c.want(`33[]`)
		g.want(t, "double 1 2 ", "double 3 0 ", "double 0 0 ab", "double 0 0 ", "take 7", "take 0", "any [1 map[a:<nil>]]")
		if r := l.errors(); len(r) != 0 {
			t.Errorf("reported: %v", r)
		}

		c.send(`24["double","x"]`, `25["take",{}]`, `26["fail"]`, `27["bad result"]`)
		c.wantNone() // no acknowledgement on an error
		c.wantAlive()
		r := l.errors()
		if len(r) != 4 || r[0].event != "double" || r[1].event != "take" || !errors.Is(r[2].err, refused) || r[3].err == nil {
			t.Fatalf("reported: %v", r)
		}
		for _, want := range []string{`sio: decode "double": `, `sio: decode "take": `} {
			if !slices.ContainsFunc(r, func(r report) bool { return bytes.Contains([]byte(r.err.Error()), []byte(want)) }) {
				t.Errorf("no error begins with %q: %v", want, r)
			}
		}
	})
}

// Binary data keeps its place, whatever it is in, and survives being passed on without being decoded.
func TestBinaryBothWays(t *testing.T) {
	type inner struct {
		Name string `json:"name"`
		Data []byte `json:"data"`
	}
	type outer struct {
		List []inner           `json:"list"`
		Map  map[string][]byte `json:"map"`
		Any  any               `json:"any"`
		None []byte            `json:"none"`
	}
	value := outer{
		List: []inner{{"a", []byte("1")}, {"b", []byte{}}},
		Map:  map[string][]byte{"k": []byte("2"), "l": []byte("3")},
		Any:  []any{map[string]any{"deep": []byte("4")}, 5},
	}
	const text = `{"list":[{"name":"a","data":{"_placeholder":true,"num":0}},{"name":"b","data":{"_placeholder":true,"num":1}}],` +
		`"map":{"k":{"_placeholder":true,"num":2},"l":{"_placeholder":true,"num":3}},` +
		`"any":[{"deep":{"_placeholder":true,"num":4}},5],"none":null}`
	blobs := []string{"bin:1", "bin:", "bin:2", "bin:3", "bin:4"}
	bubble(t, nil, func(t *testing.T, l *lab) {
		got := make(chan outer, 1)
		l.On("in", sio.Receive(func(_ context.Context, _ *sio.Socket, v outer) error { got <- v; return nil }))
		l.On("forward", func(ctx context.Context, s *sio.Socket, ev *sio.Event) error {
			var room string
			if err := ev.Args().Decode(&room); err != nil {
				return err
			}
			return s.To(room).Emit(ctx, "forwarded", ev.Args().Raw(1), room)
		})
		l.On("echo", func(_ context.Context, s *sio.Socket, ev *sio.Event) error { return ev.Ack(ev.Args().Values()...) })
		clients, sockets := crowd(l, 2)
		a, b := clients[0], clients[1]
		sockets[1].Join("r")

		if err := sockets[0].Emit("out", value, "end"); err != nil {
			t.Fatal(err)
		}
		a.want(append([]string{`55-["out",` + text + `,"end"]`}, blobs...)...)

		a.send(append([]string{`55-["in",` + text + `]`}, blobs...)...)
		v := <-got
		if fmt.Sprint(v) != fmt.Sprint(value) || v.None != nil {
			t.Errorf("got %v, want %v", v, value)
		}

		a.send(append([]string{`55-["forward","r",` + text + `]`}, blobs...)...)
		b.want(append([]string{`55-["forwarded",` + text + `,"r"]`}, blobs...)...)

		// In another order, one of them twice and one not at all.
		a.send(`53-8["echo",{"_placeholder":true,"num":2},[{"_placeholder":true,"num":0},{"_placeholder":true,"num":2}]]`, "bin:x", "bin:y", "bin:z")
		packet, _ := a.next()
		var rest []string
		for range 2 {
			p, _ := a.next()
			rest = append(rest, p)
		}
		slices.Sort(rest)
		if want := []string{"bin:x", "bin:z"}; !slices.Equal(rest, want) {
			t.Errorf("%s is followed by %q, want %q", packet, rest, want)
		}
		a.wantNone()
	})
}

func TestCatchAllAndEventMiddlewares(t *testing.T) {
	bubble(t, nil, func(t *testing.T, l *lab) {
		var g log
		wrap := func(name string) func(sio.Handler) sio.Handler {
			return func(next sio.Handler) sio.Handler {
				return func(ctx context.Context, s *sio.Socket, ev *sio.Event) error {
					g.add("%s in", name)
					if name == "inner" && ev.Name() == "refused" {
						return errors.New("refused")
					}
					err := next(ctx, s, ev)
					g.add("%s out %v", name, err)
					return err
				}
			}
		}
		l.OnAny(func(_ context.Context, _ *sio.Socket, ev *sio.Event) { g.add("any 1 %s", ev.Name()) })
		l.OnAny(func(_ context.Context, _ *sio.Socket, ev *sio.Event) { g.add("any 2 %d", ev.Args().Len()) })
		l.UseEvent(wrap("outer"))
		l.On("e", func(context.Context, *sio.Socket, *sio.Event) error { g.add("first"); return nil })
		l.On("e", func(context.Context, *sio.Socket, *sio.Event) error { g.add("handler"); return nil })
		l.On("refused", func(context.Context, *sio.Socket, *sio.Event) error { g.add("never"); return nil })
		l.UseEvent(wrap("inner"))
		c := l.ws()
		c.connect("/", "")
		check := func(packet string, want ...string) {
			t.Helper()
			g.lines = nil
			c.send(packet)
			g.want(t, want...)
		}
		check(`2["e",1,2]`, "any 1 e", "any 2 2", "outer in", "inner in", "handler", "inner out <nil>", "outer out <nil>")
		check(`2["refused"]`, "any 1 refused", "any 2 0", "outer in", "inner in", "outer out refused")
		check(`2["unknown",1]`, "any 1 unknown", "any 2 1", "outer in", "inner in", "inner out <nil>", "outer out <nil>")
		check(`2[1,2]`, "any 1 1", "any 2 1", "outer in", "inner in", "inner out <nil>", "outer out <nil>")
		check("2") // no payload: nothing happens
		if r := l.errors(); len(r) != 1 || r[0].event != "refused" || r[0].err.Error() != "refused" {
			t.Errorf("reported: %v", r)
		}
		c.wantAlive()
	})
}

func TestOnAnyOutgoing(t *testing.T) {
	for _, opts := range []*sio.Options{nil, recovering(sio.RecoveryOptions{})} {
		t.Run(fmt.Sprint("recovery=", opts != nil), func(t *testing.T) {
			bubble(t, opts, func(t *testing.T, l *lab) {
				var g log
				l.OnAnyOutgoing(func(s *sio.Socket, out *sio.Outgoing) {
					var v any
					_ = out.Args().Decode(&v)
					g.add("%s %v %d %v", out.Name(), v, out.Args().Len(), s != nil)
				})
				l.On("e", func(_ context.Context, _ *sio.Socket, ev *sio.Event) error { return ev.Ack("no event") })
				clients, sockets := crowd(l, 2)
				clients[0].send(`20["e"]`)
				synctest.Wait()
				_ = sockets[0].Emit("one", 1)
				_ = l.Emit(t.Context(), "all", 2, 3)
				_ = l.To(sockets[0].ID()).Emit(t.Context(), "room")
				_ = l.To("nobody").Emit(t.Context(), "none")
				_ = sockets[0].Volatile().Emit("volatile")
				g.want(t, "one 1 1 true", "all 2 2 true", "all 2 2 true", "room <nil> 0 true", "volatile <nil> 0 true")
			})
		})
	}
}

func TestEmitRefusesWhatCannotBeSent(t *testing.T) {
	bubble(t, nil, func(t *testing.T, l *lab) {
		c := l.ws()
		c.connect("/", "")
		synctest.Wait()
		s := only(t, l.Of("/"))
		for _, name := range []string{"connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"} {
			if s.Emit(name) == nil || l.Emit(t.Context(), name) == nil {
				t.Errorf("%s was sent", name)
			}
		}
		if s.Emit("e", make(chan int)) == nil || l.Emit(t.Context(), "e", func() {}) == nil {
			t.Error("a value without JSON was sent")
		}
		for _, name := range []string{"connect", "connection", "new_namespace"} {
			if l.ServerSideEmit(t.Context(), name) == nil {
				t.Errorf("%s was sent to the servers", name)
			}
		}
		c.wantNone()
	})
}

func TestArgs(t *testing.T) {
	out := &sio.Outgoing{Payload: []byte(`["name",1,"two",{"three":3}]`)}
	a := out.Args()
	if out.Name() != "name" || a.Len() != 3 {
		t.Errorf("%q with %d arguments", out.Name(), a.Len())
	}
	var three struct{ Three int }
	four := "as it was"
	if err := a.Decode(nil, nil, &three, &four); err != nil || three.Three != 3 || four != "as it was" {
		t.Errorf("decoded %v, %q, %v", three, four, err)
	}
	var n int
	if err := a.Decode(&n); err != nil || n != 1 {
		t.Errorf("decoded %d, %v", n, err)
	}
	if err := a.Decode(nil, &n); err == nil {
		t.Error("a string was decoded into an int")
	}
	if got := string(a.Raw(1).JSON); got != `"two"` {
		t.Errorf("Raw(1) is %s", got)
	}
	if got := a.Raw(3); got.JSON != nil {
		t.Errorf("Raw(3) is %s", got.JSON)
	}
	var none sio.Args
	if err := none.Decode(&n); err != nil || none.Len() != 0 || len(none.Values()) != 0 {
		t.Errorf("no arguments: %d, %v", none.Len(), err)
	}
	for i := range a.All() {
		if i > 0 {
			t.Error("All went on after a break")
		}
		break
	}
}
