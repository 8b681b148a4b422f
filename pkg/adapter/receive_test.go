package adapter_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-0b620db0/patchbay/pkg/adapter"
	"github.com/seed-0b620db0/patchbay/pkg/adapter/adaptertest"
	"github.com/seed-0b620db0/patchbay/pkg/sio"
)

func event(payload string) *sio.Outgoing { return &sio.Outgoing{Payload: []byte(payload)} }

// inject hands messages to all nodes.
func (r *rig) inject(messages ...adapter.Message) {
	r.Helper()
	for _, m := range messages {
		if err := r.net.Inject(context.Background(), "/", &m); err != nil {
			r.Fatal(err)
		}
	}
	synctest.Wait()
}

// responses returns what was published since the last call, as text.
func (r *rig) responses() (out []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range r.published {
		rooms := slices.Sorted(slices.Values(m.Rooms))
		out = append(out, fmt.Sprintf("%s to %s %s %v %d %s", m.Type, m.To, m.RequestID, rooms, len(m.Sockets)+m.Clients, m.Value.JSON))
	}
	r.published = nil
	return out
}

func want(t *testing.T, got []string, lines ...string) {
	t.Helper()
	if !slices.Equal(got, lines) {
		t.Errorf("got\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(lines, "\n\t"))
	}
}

// TestMessagesOfOthers has all sorts of them come from a node x, and from emitters, which are none.
func TestMessagesOfOthers(t *testing.T) {
	bubble(t, adaptertest.NetworkOptions{Heartbeats: true}, 1, func(t *testing.T, r *rig) {
		c := r.nodes[0].Client("/", "room")
		other := r.nodes[0].Client("/")
		all := slices.Sorted(slices.Values([]string{c.ID, other.ID, "room"}))
		sockets := slices.Sorted(slices.Values([]string{c.ID, other.ID}))
		room := sio.Target{Rooms: []string{"room"}}
		want(t, r.responses(), "initial_heartbeat to   [] 0 ")
		r.inject(
			adapter.Message{Type: adapter.Broadcast, From: adapter.EmitterID, Event: event(`["a"]`), Target: room},
			adapter.Message{Type: adapter.SocketsJoin, From: "", Target: sio.Target{Except: []string{"room"}}, Rooms: []string{"other"}},
			adapter.Message{Type: adapter.Broadcast, From: "x", Event: event(`["b"]`), Target: sio.Target{Rooms: []string{"other"}}},
			adapter.Message{Type: adapter.SocketsLeave, From: "x", Rooms: []string{"other"}},
			adapter.Message{Type: adapter.Broadcast, From: "x", Event: event(`["c"]`), Target: sio.Target{Rooms: []string{"other"}}},
			adapter.Message{Type: adapter.Broadcast, From: "x", To: "y", Event: event(`["not for us"]`)},
		)
		want(t, c.Take(), `2["a"]`)
		want(t, other.Take(), `2["b"]`)
		want(t, r.responses())
		r.inject(adapter.Message{Type: adapter.AllRooms, From: "x", RequestID: "1"})
		r.inject(adapter.Message{Type: adapter.AllSockets, From: "x", RequestID: "2"})
		r.inject(adapter.Message{Type: adapter.AllSockets, From: "x", RequestID: "3", Target: room})
		r.inject(adapter.Message{Type: adapter.FetchSockets, From: "", RequestID: "4"})
		r.inject(adapter.Message{Type: adapter.InitialHeartbeat, From: "x"})
		want(t, r.responses(), fmt.Sprintf("all_rooms_response to x 1 %v 0 ", all),
			fmt.Sprintf("all_sockets_response to x 2 %v 0 ", sockets), fmt.Sprintf("all_sockets_response to x 3 [%s] 0 ", c.ID),
			"fetch_sockets_response to  4 [] 2 ", "heartbeat to   [] 0 ")
		r.inject(
			adapter.Message{Type: adapter.FetchSocketsResponse, From: "x", RequestID: "unknown"},
			adapter.Message{Type: adapter.DisconnectSockets, From: "x", Target: room},
		)
		want(t, c.Take(), "1")
		want(t, r.nodes[0].dropped.All())
		want(t, r.nodes[0].counts.All(), "1", "2") // x
		r.inject(adapter.Message{Type: adapter.Close, From: "x"})
		want(t, r.nodes[0].counts.All(), "1", "2", "1")
	})
}

func TestMalformedMessages(t *testing.T) {
	bothKinds(t, 2, func(t *testing.T, r *rig) {
		c := r.nodes[0].Client("/")
		for i := range 256 {
			for _, m := range []adapter.Message{{}, {From: "x"}, {From: "x", RequestID: "1"}, {RequestID: "1", To: "x"}, {From: adapter.EmitterID}} {
				if m.Type = adapter.Type(i); m.Type == adapter.DisconnectSockets {
					continue // it would be meant
				}
				r.inject(m)
			}
		}
		for i := range 2 * 4096 {
			r.inject(adapter.Message{Type: adapter.Heartbeat, From: adapter.NodeID(fmt.Sprint(i))})
		}
		if n, err := r.nodes[0].Adapter().ServerCount(t.Context()); n > 4097 || err != nil { // as many names as are kept
			t.Errorf("%d nodes, %v", n, err)
		}
		if err := r.nodes[1].Emit(t.Context(), "e"); err != nil {
			t.Error(err)
		}
		c.Want(`2["e"]`)
		dropped := r.nodes[0].dropped.All()
		for _, want := range []string{
			`adapter: broadcast of "x": malformed`, `adapter: type_255 of "": not expected`,
			`adapter: server_side_emit of "emitter": malformed`,
		} {
			if !slices.Contains(dropped, want) {
				t.Errorf("not dropped: %s", want)
			}
		}
	})
}

func TestServerEvents(t *testing.T) {
	bubble(t, adaptertest.NetworkOptions{}, 2, func(t *testing.T, r *rig) {
		n := r.nodes[1]
		n.OnServerEvent("later", func(_ context.Context, ev *sio.Event) error {
			time.AfterFunc(time.Second, func() { _ = ev.Ack(1, 2) })
			return nil
		})
		n.OnServerEvent("nothing", func(_ context.Context, ev *sio.Event) error { return ev.Ack() })
		n.OnServerEvent("binary", func(_ context.Context, ev *sio.Event) error { return ev.Ack([]byte("b")) })
		n.OnServerEvent("twice", func(_ context.Context, ev *sio.Event) error {
			_ = ev.Ack(1)
			return ev.Ack(2)
		})
		n.OnServerEvent("panics", func(context.Context, *sio.Event) error { panic("on purpose") })
		n.OnServerEvent("fails", func(context.Context, *sio.Event) error { return errors.New("on purpose") })
		for name, want := range map[string]string{"later": "1", "nothing": "", "binary": `{"_placeholder":true,"num":0}`, "twice": "1"} {
			var got []string
			for args, err := range r.nodes[0].ServerSideEmitWithAck(t.Context(), name) {
				var b []byte
				if name == "binary" && (args.Decode(&b) != nil || string(b) != "b") || err != nil {
					t.Errorf("%s: %q, %v", name, b, err)
				}
				got = append(got, text(args))
			}
			if !slices.Equal(got, []string{want}) {
				t.Errorf("%s: got %q", name, got)
			}
		}
		for _, name := range []string{"panics", "fails", "unknown"} { // who does not answer is not heard of
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			for _, err := range r.nodes[0].ServerSideEmitWithAck(ctx, name) {
				if p, ok := errors.AsType[*adapter.PartialError](err); !ok || !slices.Equal(names(p.Silent), []string{"n1"}) {
					t.Errorf("%s: %v", name, err)
				}
			}
			cancel()
		}
	})
}

// TestManyServerEvents of one node are handled in their order, while others are answered; too many bytes of them are dropped.
func TestManyServerEvents(t *testing.T) {
	bubble(t, adaptertest.NetworkOptions{}, 0, func(t *testing.T, r *rig) {
		n := r.add(adapter.Options{MaxRequests: 2})
		var got []int
		n.OnServerEvent("n", func(_ context.Context, ev *sio.Event) error {
			var i int
			err := ev.Args().Decode(&i)
			got = append(got, i)
			time.Sleep(time.Millisecond)
			if ev.NeedsAck() {
				return ev.Ack(i)
			}
			return err
		})
		synctest.Wait()
		r.types()
		const many = 1000
		for i := range many {
			r.inject(adapter.Message{Type: adapter.ServerSideEmit, From: "x", Event: event(fmt.Sprintf(`["n",%d]`, i)), RequestID: "1"})
		}
		r.inject(adapter.Message{Type: adapter.FetchSockets, From: "x", RequestID: "2"})
		if got := r.types(); !slices.Equal(got, []adapter.Type{adapter.FetchSocketsResponse}) {
			t.Errorf("published %v", got)
		}
		time.Sleep(many * time.Millisecond)
		synctest.Wait()
		if len(got) != many || !slices.IsSorted(got) {
			t.Errorf("handled %v", got)
		}
		if got := r.types(); len(got) != many {
			t.Errorf("%d were answered", len(got))
		}
		want(t, n.dropped.All())

		large := adapter.Message{Type: adapter.ServerSideEmit, From: "x", Event: event(`["n",0,"` + strings.Repeat("x", 1<<20) + `"]`)}
		for range 20 {
			r.inject(large)
		}
		if got := len(n.dropped.All()); got < 2 || got > 6 {
			t.Errorf("%d of 20 were dropped", got)
		}
	})
}

// TestLongNames are not kept: they would take as much memory as their sender likes.
func TestLongNames(t *testing.T) {
	bubble(t, adaptertest.NetworkOptions{Heartbeats: true}, 1, func(t *testing.T, r *rig) {
		r.inject(adapter.Message{Type: adapter.Heartbeat, From: "x"})
		r.inject(adapter.Message{Type: adapter.Heartbeat, From: adapter.NodeID(strings.Repeat("x", 1<<20))})
		if n, err := r.nodes[0].Adapter().ServerCount(t.Context()); n != 2 || err != nil {
			t.Errorf("%d nodes, %v", n, err)
		}
	})
}

type panics struct{}

func (panics) MarshalJSON() ([]byte, error) { panic("on purpose") }

// TestDataThatPanics hides its own socket only, from other nodes too.
func TestDataThatPanics(t *testing.T) {
	bubble(t, adaptertest.NetworkOptions{}, 2, func(t *testing.T, r *rig) {
		n := r.nodes[1]
		n.Client("/").Socket().SetData(panics{})
		c := n.Client("/")
		if got, err := r.nodes[0].FetchSockets(t.Context()); err != nil || !slices.Equal(ids(got), []string{c.ID}) {
			t.Errorf("fetched %v, %v", ids(got), err)
		}
		if got, err := n.Local().FetchSockets(t.Context()); err == nil || !slices.Equal(ids(got), []string{c.ID}) {
			t.Errorf("fetched here %v, %v", ids(got), err)
		}
	})
}

// TestTooManyRequests of other nodes: those beyond the bound are dropped, and the rest goes on.
func TestTooManyRequests(t *testing.T) {
	bubble(t, adaptertest.NetworkOptions{}, 0, func(t *testing.T, r *rig) {
		n := r.add(adapter.Options{MaxRequests: 10, AckTimeout: time.Minute})
		n.OnServerEvent("wait", func(ctx context.Context, _ *sio.Event) error {
			select {
			case <-time.After(time.Minute):
			case <-ctx.Done():
			}
			return nil
		})
		c := n.Client("/")
		synctest.Wait()
		for i := range 30 {
			m := adapter.Message{Type: adapter.ServerSideEmit, From: adapter.NodeID(fmt.Sprint("x", i)), Event: event(`["wait"]`)}
			if i%2 == 1 {
				m = adapter.Message{Type: adapter.Broadcast, From: "x", Event: event(`["q"]`), RequestID: fmt.Sprint(i)}
			}
			r.inject(m)
		}
		if got := n.dropped.All(); len(got) != 5 { // of the events; what waits for clients is no matter
			t.Errorf("%d were dropped", len(got))
		}
		for range 15 { // clients get what is emitted in any case
			c.Asked(`["q"]`)
		}
		r.inject(adapter.Message{Type: adapter.Broadcast, From: "x", Event: event(`["e"]`)})
		c.Want(`2["e"]`)
		time.Sleep(time.Minute + time.Millisecond)
		r.types()
		r.inject(adapter.Message{Type: adapter.FetchSockets, From: "x", RequestID: "1"})
		if got := r.types(); !slices.Equal(got, []adapter.Type{adapter.FetchSocketsResponse}) {
			t.Errorf("published %v", got)
		}
	})
}

// TestTooManyAcks: clients that do not acknowledge do not keep a node from working for others, until there are very many.
func TestTooManyAcks(t *testing.T) {
	bubble(t, adaptertest.NetworkOptions{}, 1, func(t *testing.T, r *rig) {
		n := r.nodes[0]
		n.Client("/")
		for i := range adapter.MaxRelays + 3 {
			r.inject(adapter.Message{Type: adapter.Broadcast, From: "x", Event: event(`["q"]`), RequestID: fmt.Sprint(i)})
		}
		if got := n.dropped.All(); len(got) != 3 {
			t.Errorf("%d were dropped", len(got))
		}
		r.types()
		r.inject(adapter.Message{Type: adapter.FetchSockets, From: "x", RequestID: "1"})
		if got := r.types(); !slices.Equal(got, []adapter.Type{adapter.FetchSocketsResponse}) {
			t.Errorf("published %v", got)
		}
	})
}

// TestAckTimeouts: how long clients are waited for is said by who asks, or is our own choice.
func TestAckTimeouts(t *testing.T) {
	bubble(t, adaptertest.NetworkOptions{}, 1, func(t *testing.T, r *rig) {
		c := r.nodes[0].Client("/")
		for _, timeout := range []time.Duration{10 * time.Second, 0} {
			patience := max(timeout, 30*time.Second)
			if timeout > 0 {
				patience = timeout
			}
			r.types()
			for range 2 {
				r.inject(adapter.Message{Type: adapter.Broadcast, From: "x", RequestID: "1", Event: event(`["q"]`), Timeout: timeout})
			}
			first, second := c.Asked(`["q"]`), c.Asked(`["q"]`)
			time.Sleep(patience - time.Millisecond)
			c.Send("3" + first + "[]")
			time.Sleep(2 * time.Millisecond)
			c.Send("3" + second + "[]")
			synctest.Wait()
			n := adapter.BroadcastClientCount
			if got := r.types(); !slices.Equal(got, []adapter.Type{n, n, adapter.BroadcastAck}) {
				t.Errorf("%v: %v", timeout, got)
			}
		}
	})
}
