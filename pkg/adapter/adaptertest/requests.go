package adaptertest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/seed-0b620db0/patchbay/pkg/adapter"
	"github.com/seed-0b620db0/patchbay/pkg/adapter/internal/lab"
	"github.com/seed-0b620db0/patchbay/pkg/sio"
)

// short is a deadline for tests in which somebody does not answer, and long enough for the others.
const short = 2 * time.Second

// roomsOfOthers has sockets of other nodes join and leave.
func roomsOfOthers(s *suite) {
	clients := append(s.one("/", "a"), s.client(s.nodes[1], "/", "b"))
	in := func(room string) (out []int) {
		for i, c := range clients {
			if c.Socket().In(room) {
				out = append(out, i)
			}
		}
		return out
	}
	for i, n := range s.nodes {
		room := fmt.Sprint("room", i)
		for _, step := range []struct {
			what string
			do   func() error
			want []int
		}{
			{"join by room", func() error { return n.To("a").SocketsJoin(s.ctx(), room, "x") }, []int{0, 1, 2}},
			{"join by id", func() error { return n.To(clients[3].ID).SocketsJoin(s.ctx(), room) }, []int{0, 1, 2, 3}},
			{"leave but room", func() error { return n.Except("b").SocketsLeave(s.ctx(), room) }, []int{3}},
			{"leave by id", func() error { return n.To(clients[3].ID).SocketsLeave(s.ctx(), "x", room) }, nil},
			{"join all", func() error { return n.SocketsJoin(s.ctx(), room) }, []int{0, 1, 2, 3}},
			{"leave local", func() error { return n.Local().SocketsLeave(s.ctx(), room) }, nil},
		} {
			s.must(step.do())
			s.got(n, "/")
			got := in(room)
			if step.what == "leave local" {
				for k, c := range clients {
					if here := n.Socket(c.ID) != nil; here == slices.Contains(got, k) {
						s.Errorf("%s of node %d: in the room are %v", step.what, i, got)
					}
				}
			} else if !slices.Equal(got, step.want) {
				s.Errorf("%s of node %d: in the room are %v, want %v", step.what, i, got, step.want)
			}
		}
		s.must(n.SocketsLeave(s.ctx(), room, "x"))
		s.got(n, "/")
	}
	// What was sent to a room before and after, by the same node, goes by where its command stands between.
	s.must(s.nodes[0].To(clients[3].ID).SocketsJoin(s.ctx(), "late"))
	s.reachable(clients[3], "/", "late")
	s.must(s.nodes[0].To("late").Emit(s.ctx(), "in"))
	s.must(s.nodes[0].SocketsLeave(s.ctx(), "late"))
	s.must(s.nodes[0].To("late").Emit(s.ctx(), "out"))
	s.reaches("join, emit, leave, emit", s.nodes[0], `2["in"]`, clients[3])
}

func disconnectOthers(s *suite) {
	byID, byRoom, closed, stays := s.client(s.nodes[1], "/"), s.client(s.nodes[2], "/", "out"), s.client(s.nodes[1], "/", "closed"), s.client(s.nodes[1], "/")
	n := s.nodes[0]
	s.must(n.To(byID.ID).DisconnectSockets(s.ctx(), false))
	s.must(n.To("out").DisconnectSockets(s.ctx(), false))
	s.must(n.To("closed").DisconnectSockets(s.ctx(), true))
	byID.Want("1")
	byRoom.Want("1")
	closed.Gone()
	for _, c := range []*lab.Client{byID, byRoom, closed} {
		s.forget(c)
	}
	s.must(n.Emit(s.ctx(), "e"))
	s.reaches("who is left", n, `2["e"]`, stays)
}

// sortByID puts sockets and their rooms in order.
func sortByID(sockets []sio.RemoteSocket) {
	slices.SortFunc(sockets, func(a, b sio.RemoteSocket) int { return strings.Compare(a.ID, b.ID) })
	for i := range sockets {
		slices.Sort(sockets[i].Rooms)
	}
}

// fetchSockets checks that other nodes describe a socket as its own does.
func fetchSockets(s *suite) {
	clients := append(s.one("/", "a", "ü #*"), s.client(s.nodes[1], "/", "b"))
	for i, data := range []any{
		map[string]any{"name": "ü", "list": []any{1, 2.5, nil}}, "text", 42, nil, // nil: nothing was set
	} {
		clients[i].Socket().SetData(data)
	}
	var want []sio.RemoteSocket
	for _, n := range s.nodes {
		got, err := n.Local().FetchSockets(s.ctx())
		s.must(err)
		want = append(want, got...)
	}
	sortByID(want)
	for i, n := range s.nodes {
		for _, target := range []struct {
			what string
			b    sio.Broadcast
			want []*lab.Client
		}{
			{"all", n.To(), clients},
			{"room", n.To("a"), clients[:3]},
			{"rooms", n.To("a", "b"), clients},
			{"except", n.Except("a"), clients[3:]},
			{"socket", n.To(clients[2].ID), clients[2:3]},
			{"nobody", n.To("none"), nil},
		} {
			got, err := target.b.FetchSockets(s.ctx())
			s.must(err)
			sortByID(got)
			var expected []sio.RemoteSocket
			for _, r := range want {
				if slices.ContainsFunc(target.want, func(c *lab.Client) bool { return c.ID == r.ID }) {
					expected = append(expected, r)
				}
			}
			if a, b := sockets(got), sockets(expected); !reflect.DeepEqual(a, b) {
				s.Errorf("node %d, %s: got\n%+v\nwant\n%+v", i, target.what, a, b)
			}
		}
	}
	h := want[0].Handshake
	if string(h.Auth) != lab.Auth || h.Query["EIO"] != "4" || h.Headers["user-agent"] == "" || h.Issued == 0 {
		s.Errorf("the test compares nothing: %+v", h)
	}
}

// sockets returns descriptions in a form to compare: JSON may be written otherwise.
func sockets(in []sio.RemoteSocket) []any {
	out := []any{}
	for _, r := range in {
		var data, auth any
		err := errors.Join(json.Unmarshal(r.Data, &data), json.Unmarshal(r.Handshake.Auth, &auth))
		r.Handshake.Auth = nil
		out = append(out, []any{r.ID, r.Rooms, data, auth, r.Handshake, err})
	}
	return out
}

// remoteSocket acts on what FetchSockets has found.
func remoteSocket(s *suite) {
	clients := s.one("/")
	s.reachable(clients[1], "/", clients[1].ID)
	got, err := s.nodes[0].To(clients[1].ID).FetchSockets(s.ctx())
	if err != nil || len(got) != 1 {
		s.Fatalf("got %v, %v", got, err)
	}
	r := got[0]
	s.must(r.Emit(s.ctx(), "direct", []byte("b")))
	s.must(r.Join(s.ctx(), "x", "y"))
	s.must(r.Leave(s.ctx(), "y"))
	here := s.got(s.nodes[0], "/")
	if !slices.Equal(here[clients[1]], []string{`51-["direct",{"_placeholder":true,"num":0}]`, "bin:b"}) || len(here[clients[0]])+len(here[clients[2]]) > 0 {
		s.Errorf("got %q, %q, %q", here[clients[0]], here[clients[1]], here[clients[2]])
	}
	if socket := clients[1].Socket(); !socket.In("x") || socket.In("y") {
		s.Errorf("rooms %q", slices.Collect(socket.Rooms()))
	}
	s.must(r.Disconnect(s.ctx(), false))
	clients[1].Want("1")
}

// serverEvents reach all other servers and no client.
func serverEvents(s *suite) {
	s.one("/")
	type m = map[string]any
	args := []any{"text", 1, m{"a": []any{nil, "ü"}}, []byte("binary"), m{"deep": []byte("binary too")}}
	local, err := json.Marshal(args)
	s.must(err)
	var heard lab.Log
	for i, n := range s.nodes {
		n.OnServerEvent("hello", func(_ context.Context, ev *sio.Event) error {
			var got [5]any
			if err := ev.Args().Decode(&got[0], &got[1], &got[2], &got[3], &got[4]); err != nil {
				return err
			}
			text, err := json.Marshal(got)
			if err != nil {
				return err
			}
			heard.Add(fmt.Sprintf("node %d, to acknowledge %v, as sent %v", i, ev.NeedsAck(), string(text) == string(local)))
			return nil
		})
	}
	s.must(s.nodes[1].ServerSideEmit(s.ctx(), "hello", args...))
	s.must(s.nodes[1].ServerSideEmit(s.ctx(), "nobody listens"))
	s.Until("both hear it", func() bool { return len(heard.All()) >= 2 })
	for range s.nodes {
		s.must(s.nodes[1].ServerSideEmit(s.ctx(), "hello", args...))
	}
	s.Until("again", func() bool { return len(heard.All()) >= 8 })
	for _, line := range heard.All() {
		if line != "node 0, to acknowledge false, as sent true" && line != "node 2, to acknowledge false, as sent true" {
			s.Errorf("heard %s", line)
		}
	}
	s.reaches("server events", s.nodes[1], "")
}

// serverEventsInOrder has two servers send more than a third one can handle at once: it gets all, those of each in order.
func serverEventsInOrder(s *suite) {
	const events = 700
	heard := make(chan [2]int, 2*events)
	s.nodes[0].OnServerEvent("n", func(_ context.Context, ev *sio.Event) error {
		var got [2]int
		err := ev.Args().Decode(&got[0], &got[1])
		heard <- got
		return err
	})
	var sending sync.WaitGroup
	for from, n := range s.nodes[1:] {
		sending.Go(func() {
			for i := range events {
				if err := n.ServerSideEmit(s.ctx(), "n", from, i); err != nil {
					s.Error(err)
				}
			}
		})
	}
	sending.Wait()
	s.Until("all are heard", func() bool { return len(heard) >= 2*events })
	var next [2]int
	for range 2 * events {
		got := <-heard
		if got[1] != next[got[0]] {
			s.Fatalf("got %d of server %d, want %d", got[1], got[0]+1, next[got[0]])
		}
		next[got[0]]++
	}
}

func serverEventsWithAck(s *suite) {
	for i, n := range s.nodes {
		n.OnServerEvent("value", func(_ context.Context, ev *sio.Event) error {
			return ev.Ack(map[string]any{"node": i, "ü": []any{nil, 1.5}}, "the second is not sent")
		})
		n.OnServerEvent("binary", func(_ context.Context, ev *sio.Event) error { return ev.Ack([]byte("b")) })
		n.OnServerEvent("nothing", func(_ context.Context, ev *sio.Event) error { return ev.Ack() })
		n.OnServerEvent("some", func(_ context.Context, ev *sio.Event) error {
			if i == 2 {
				return nil
			}
			return ev.Ack(i)
		})
	}
	ask := func(ctx context.Context, event string) (got []string, err error) {
		for args, e := range s.nodes[0].ServerSideEmitWithAck(ctx, event) {
			var v any
			switch {
			case e != nil:
				err = e
			case args.Decode(&v) == nil:
				got = append(got, fmt.Sprintf("%v", v))
			}
		}
		slices.Sort(got)
		return got, err
	}
	for event, want := range map[string][]string{
		"value": {"map[node:1 ü:[<nil> 1.5]]", "map[node:2 ü:[<nil> 1.5]]"}, "binary": {"[98]", "[98]"}, "nothing": {"<nil>", "<nil>"},
	} {
		if got, err := ask(s.ctx(), event); err != nil || !slices.Equal(got, want) {
			s.Errorf("%s: got %q, %v; want %q", event, got, err, want)
		}
	}
	for event, want := range map[string][]string{"some": {"1"}, "nobody listens": nil} {
		ctx, cancel := context.WithTimeout(s.ctx(), short)
		got, err := ask(ctx, event)
		cancel()
		p, ok := errors.AsType[*adapter.PartialError](err)
		if !ok || len(p.Silent)+p.Unnamed != 2-len(want) || !slices.Equal(got, want) {
			s.Errorf("%s: got %q, %v; want %q", event, got, err, want)
		}
	}
}

// gather returns what clients acknowledge.
func gather(ctx context.Context, b sio.Broadcast) (got []string, errs []error) {
	for args, err := range b.EmitWithAck(ctx, "q", "?") {
		if err != nil {
			errs = append(errs, err)
			continue
		}
		raw := args.Raw(0)
		var blob []byte
		text := string(raw.JSON)
		if len(raw.Attachments) > 0 && args.Decode(&blob) == nil {
			text = "bin:" + string(blob)
		}
		got = append(got, strings.TrimSuffix(text, "null")) // nothing may come as null
	}
	slices.Sort(got)
	return got, errs
}

const question = `["q","?"]`

func acks(s *suite) {
	clients := append(s.one("/", "room"), s.client(s.nodes[1], "/"))
	answers := []string{`["text"]`, `[{"n":1},"second"]`, `[]`, ``}
	for k, target := range []sio.Broadcast{s.nodes[0].To(), s.nodes[1].To("room"), s.nodes[2].Except("room"), s.nodes[0].To("none")} {
		want := [][]string{{"", `"text"`, "bin:b", `{"n":1}`}, {"", `"text"`, `{"n":1}`}, {"bin:b"}, nil}[k]
		asked := [][]*lab.Client{clients, clients[:3], clients[3:], nil}[k]
		done := make(chan struct{})
		go func() {
			defer close(done)
			if got, errs := gather(s.ctx(), target); !slices.Equal(got, want) || len(errs) != 0 {
				s.Errorf("target %d: got %q, %v; want %q", k, got, errs, want)
			}
		}()
		for _, c := range asked {
			i := slices.Index(clients, c)
			if id := c.Asked(question); answers[i] != "" {
				c.Send("3" + id + answers[i])
			} else {
				c.Send(`61-`+id+`[{"_placeholder":true,"num":0}]`, "bin:b")
			}
		}
		<-done
	}
	s.reaches("acknowledged", s.nodes[0], "")
}

// acksLate has one client that answers after the others, one that does not, and one that leaves.
func acksLate(s *suite) {
	clients := append(s.one("/"), s.client(s.nodes[1], "/"))
	ask := func(timeout time.Duration) <-chan []string {
		done := make(chan []string)
		go func() {
			got, errs := gather(s.ctx(), s.nodes[0].To().Timeout(timeout))
			for _, err := range errs {
				if p, ok := errors.AsType[*adapter.PartialError](err); ok || !errors.Is(err, sio.ErrAckTimeout) {
					s.Errorf("got %v, %v", err, p)
				}
				got = append(got, "timeout")
			}
			done <- got
		}()
		return done
	}
	want := func(done <-chan []string, want ...string) {
		if got := <-done; !slices.Equal(got, want) {
			s.Errorf("got %q, want %q", got, want)
		}
	}
	done := ask(time.Minute)
	for i, c := range clients[:3] {
		c.Answer(question, fmt.Sprint("[", i, "]"))
	}
	for range 3 { // meanwhile others are
		s.must(s.nodes[2].Emit(s.ctx(), "e"))
	}
	id := clients[3].Asked(question)
	clients[3].Want(`2["e"]`, `2["e"]`, `2["e"]`)
	clients[3].Send("3" + id + `["late"]`)
	want(done, `"late"`, "0", "1", "2")

	for _, c := range clients[:3] { // they come by another way than the next question
		for range 3 {
			c.Want(`2["e"]`)
		}
	}
	done = ask(short)
	for _, c := range clients[:3] {
		c.Answer(question, "[1]")
	}
	id = clients[3].Asked(question)
	want(done, "1", "1", "1", "timeout")
	clients[3].Send("3" + id + `["too late"]`)

	done = ask(short)
	for _, c := range clients[:3] {
		c.Answer(question, "[2]")
	}
	clients[3].Asked(question)
	clients[3].Drop()
	s.forget(clients[3])
	want(done, "2", "2", "2", "timeout")
	s.reaches("afterwards", s.nodes[0], "")
}
