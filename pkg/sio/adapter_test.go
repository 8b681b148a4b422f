package sio_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-0b620db0/patchbay/pkg/sio"
)

// hub joins servers of one process, to show that the seam suffices for a cluster.
type hub struct {
	mu    sync.Mutex
	nodes []*hubNode
}

// hubNode is a server's adapter of one namespace.
type hubNode struct {
	hub   *hub
	local *sio.Local
	rooms log // calls of RoomChanged
}

var (
	_ sio.Adapter     = (*hubNode)(nil)
	_ sio.RoomWatcher = (*hubNode)(nil)
)

func (h *hub) adapter(l *sio.Local) sio.Adapter {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := &hubNode{hub: h, local: l}
	h.nodes = append(h.nodes, n)
	return n
}

// peers returns the other nodes of the namespace.
func (n *hubNode) peers() (out []*hubNode) {
	n.hub.mu.Lock()
	defer n.hub.mu.Unlock()
	for _, p := range n.hub.nodes {
		if p != n && p.local.Namespace() == n.local.Namespace() {
			out = append(out, p)
		}
	}
	return out
}

// reached returns the nodes that target is for, this one first.
func (n *hubNode) reached(t sio.Target) []*hubNode {
	if t.Local {
		return []*hubNode{n}
	}
	return append([]*hubNode{n}, n.peers()...)
}

func (n *hubNode) RoomChanged(room string) { n.rooms.add("%s %v", room, n.local.HasRoom(room)) }

func (n *hubNode) Broadcast(_ context.Context, out *sio.Outgoing, t sio.Target) error {
	for _, p := range n.reached(t) {
		p.local.Broadcast(out, t)
	}
	return nil
}

func (n *hubNode) BroadcastWithAck(ctx context.Context, out *sio.Outgoing, t sio.Target, answer func(sio.Args, error)) error {
	answers := make(chan func(), 16)
	var clients int
	for _, p := range n.reached(t) {
		count, cancel := p.local.BroadcastWithAck(out, t, func(a sio.Args, err error) {
			select {
			case answers <- func() { answer(a, err) }:
			case <-ctx.Done():
			}
		})
		defer cancel()
		clients += count
	}
	for range clients {
		select {
		case f := <-answers:
			f()
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", sio.ErrAckTimeout, ctx.Err())
		}
	}
	return nil
}

func (n *hubNode) Join(_ context.Context, t sio.Target, rooms []string) error {
	for _, p := range n.reached(t) {
		p.local.Join(t, rooms)
	}
	return nil
}

func (n *hubNode) Leave(_ context.Context, t sio.Target, rooms []string) error {
	for _, p := range n.reached(t) {
		p.local.Leave(t, rooms)
	}
	return nil
}

func (n *hubNode) Disconnect(_ context.Context, t sio.Target, closeTransport bool) error {
	for _, p := range n.reached(t) {
		p.local.Disconnect(t, closeTransport)
	}
	return nil
}

func (n *hubNode) FetchSockets(_ context.Context, t sio.Target) (all []sio.RemoteSocket, err error) {
	for _, p := range n.reached(t) {
		got, e := p.local.FetchSockets(t)
		all, err = append(all, got...), errors.Join(err, e)
	}
	return all, err
}

func (n *hubNode) ServerSideEmit(ctx context.Context, out *sio.Outgoing) (err error) {
	for _, p := range n.peers() {
		_, e := p.local.ServerEvent(ctx, out, nil)
		err = errors.Join(err, e)
	}
	return err
}

func (n *hubNode) ServerSideEmitWithAck(ctx context.Context, out *sio.Outgoing, answer func(sio.Args)) error {
	answers := make(chan sio.Args, 16)
	var servers int
	for _, p := range n.peers() {
		if handled, _ := p.local.ServerEvent(ctx, out, func(a sio.Args) { answers <- a }); handled {
			servers++
		}
	}
	for range servers {
		select {
		case a := <-answers:
			answer(a)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func (n *hubNode) ServerCount(context.Context) (int, error) { return 1 + len(n.peers()), nil }

func (n *hubNode) Close() error {
	n.hub.mu.Lock()
	defer n.hub.mu.Unlock()
	n.hub.nodes = slices.DeleteFunc(n.hub.nodes, func(p *hubNode) bool { return p == n })
	return nil
}

// pair is a cluster of two with one client each.
type pair struct {
	hub    *hub
	lab    [2]*lab
	client [2]*client
	socket [2]*sio.Socket
}

func cluster(t *testing.T, f func(t *testing.T, p *pair)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		p := &pair{hub: new(hub)}
		for i := range p.lab {
			p.lab[i] = newLab(t, &sio.Options{Adapter: p.hub.adapter})
			p.lab[i].patience = time.Hour
			p.client[i] = p.lab[i].ws()
			j := p.client[i].connect("/", "")
			synctest.Wait()
			p.socket[i] = p.lab[i].Socket(j.SID)
		}
		f(t, p)
	})
}

func TestAdapterOfTwoServers(t *testing.T) {
	cluster(t, func(t *testing.T, p *pair) {
		ctx := t.Context()
		a, b := p.lab[0], p.lab[1]
		_ = a.Emit(ctx, "all", []byte("x"))
		for _, c := range p.client {
			c.want(`51-["all",{"_placeholder":true,"num":0}]`, "bin:x")
		}
		_ = a.Local().Emit(ctx, "local")
		p.client[0].want(`2["local"]`)
		_ = p.socket[0].Broadcast().Emit(ctx, "others")
		p.client[1].want(`2["others"]`)
		_ = a.To(p.socket[1].ID()).SocketsJoin(ctx, "far")
		if !p.socket[1].In("far") {
			t.Error("the remote socket did not join")
		}
		_ = a.Except("far").Emit(ctx, "not far")
		p.client[0].want(`2["not far"]`)
		p.socket[1].SetData("b")
		all, err := a.FetchSockets(ctx)
		if err != nil || len(all) != 2 {
			t.Fatalf("got %v, %v", all, err)
		}
		for _, r := range all {
			if r.ID == p.socket[1].ID() {
				if string(r.Data) != `"b"` || !slices.Contains(r.Rooms, "far") {
					t.Errorf("remote socket: %+v", r)
				}
				_ = r.Leave(ctx, "far")
				_ = r.Emit(ctx, "direct")
			}
		}
		p.client[1].want(`2["direct"]`)
		if p.socket[1].In("far") {
			t.Error("the remote socket did not leave")
		}
		if n, err := b.Adapter().ServerCount(ctx); n != 2 || err != nil {
			t.Errorf("%d servers, %v", n, err)
		}
		_ = b.To(p.socket[0].ID()).DisconnectSockets(ctx, true)
		p.client[0].want("1")
		p.client[0].wantGone()
		for _, c := range p.client {
			c.wantNone()
		}
	})
}

func TestAdapterBroadcastWithAckAcrossServers(t *testing.T) {
	cluster(t, func(t *testing.T, p *pair) {
		done := gather(p.lab[0].Except(), 0)
		for i, c := range p.client {
			c.send(fmt.Sprintf(`3%s["c%d"]`, c.wantAsked(`["q"]`), i))
		}
		if r := <-done; !slices.Equal(r.answers, []string{"c0", "c1"}) || len(r.errs) != 0 {
			t.Errorf("got %v", r)
		}
		done = gather(p.lab[1].Except().Timeout(time.Second), 0)
		p.client[0].send(fmt.Sprintf(`3%s["c0"]`, p.client[0].wantAsked(`["q"]`)))
		if r := <-done; !slices.Equal(r.answers, []string{"c0"}) || len(r.errs) != 1 || !errors.Is(r.errs[0], sio.ErrAckTimeout) {
			t.Errorf("one is silent: %v", r)
		}
		synctest.Wait()
		for i, s := range p.socket {
			if n := sio.PendingAcks(s); n != 0 {
				t.Errorf("server %d: %d acknowledgements awaited", i, n)
			}
		}
	})
}

func TestServerSideEmit(t *testing.T) {
	cluster(t, func(t *testing.T, p *pair) {
		var g log
		for i, l := range p.lab {
			l.OnServerEvent("hello", func(_ context.Context, ev *sio.Event) error {
				var s string
				var blob []byte
				if err := ev.Args().Decode(&s, &blob); err != nil {
					return err
				}
				g.add("%d %s %s ack=%v", i, s, blob, ev.NeedsAck())
				if !ev.NeedsAck() {
					return nil
				}
				if err := ev.Ack("from", i, []byte("b")); err != nil {
					return err
				}
				if err := ev.Ack(); !errors.Is(err, sio.ErrAcked) {
					t.Errorf("twice: %v", err)
				}
				return nil
			})
		}
		p.lab[1].OnServerEvent("silent", func(context.Context, *sio.Event) error { return nil })
		if err := p.lab[0].ServerSideEmit(t.Context(), "hello", "x", []byte("y")); err != nil {
			t.Error(err)
		}
		g.want(t, "1 x y ack=false")
		n := 0
		for args, err := range p.lab[1].ServerSideEmitWithAck(t.Context(), "hello", "z") {
			var from string
			var id int
			var blob []byte
			if err != nil || args.Decode(&from, &id, &blob) != nil || from != "from" || id != 0 || string(blob) != "b" {
				t.Errorf("got %s %d %s, %v", from, id, blob, err)
			}
			n++
		}
		if n != 1 {
			t.Errorf("%d answers, want 1", n)
		}
		for _, err := range p.lab[0].ServerSideEmitWithAck(t.Context(), "unknown") {
			t.Errorf("somebody answered: %v", err)
		}
		start := time.Now()
		var errs []error
		for _, err := range p.lab[0].ServerSideEmitWithAck(t.Context(), "silent") {
			errs = append(errs, err)
		}
		if len(errs) != 1 || !errors.Is(errs[0], context.DeadlineExceeded) || time.Since(start) != 30*time.Second {
			t.Errorf("no answer: %v after %v", errs, time.Since(start))
		}
		for _, c := range p.client {
			c.wantNone() // it is nothing that clients see
		}
	})
}

func TestRoomWatcher(t *testing.T) {
	cluster(t, func(t *testing.T, p *pair) {
		n, ok := p.lab[0].Adapter().(*hubNode)
		if !ok {
			t.Fatal("not our adapter")
		}
		c := p.lab[0].ws()
		j := c.connect("/", "")
		synctest.Wait()
		s := []*sio.Socket{p.socket[0], p.lab[0].Socket(j.SID)}
		s[0].Join("a", "b")
		s[1].Join("a")
		s[0].Join("a")
		s[0].Leave("a", "never")
		s[1].Leave("a")
		s[1].Join("a")
		if got := n.local.Rooms(); !slices.Equal(slices.Sorted(slices.Values(got)), []string{"a", "b"}) {
			t.Errorf("rooms %q", got)
		}
		if !n.local.HasRoom(s[0].ID()) || n.local.HasRoom("never") {
			t.Error("HasRoom is wrong")
		}
		c.cut()
		p.client[0].cut()
		synctest.Wait()
		got := n.rooms.all()
		want := []string{"a true", "b true", "a false", "a true"}
		if len(got) != 6 || !slices.Equal(got[:4], want) || !slices.Contains(got[4:], "a false") || !slices.Contains(got[4:], "b false") {
			t.Errorf("calls of RoomChanged: %q", got)
		}
	})
}

// nothing is an adapter that does nothing.
type nothing struct{}

var _ sio.Adapter = nothing{}

func (nothing) Broadcast(context.Context, *sio.Outgoing, sio.Target) error { return nil }
func (nothing) BroadcastWithAck(context.Context, *sio.Outgoing, sio.Target, func(sio.Args, error)) error {
	return nil
}
func (nothing) Join(context.Context, sio.Target, []string) error   { return nil }
func (nothing) Leave(context.Context, sio.Target, []string) error  { return nil }
func (nothing) Disconnect(context.Context, sio.Target, bool) error { return nil }
func (nothing) FetchSockets(context.Context, sio.Target) ([]sio.RemoteSocket, error) {
	return nil, nil
}
func (nothing) ServerSideEmit(context.Context, *sio.Outgoing) error { return nil }
func (nothing) ServerSideEmitWithAck(context.Context, *sio.Outgoing, func(sio.Args)) error {
	return nil
}
func (nothing) ServerCount(context.Context) (int, error) { return 1, nil }
func (nothing) Close() error                             { return nil }
