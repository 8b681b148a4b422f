package adapter_test

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-0b620db0/patchbay/pkg/adapter"
	"github.com/seed-0b620db0/patchbay/pkg/adapter/adaptertest"
	"github.com/seed-0b620db0/patchbay/pkg/adapter/internal/lab"
	"github.com/seed-0b620db0/patchbay/pkg/sio"
)

// TestLocalDeliveryDoesNotNeedTheBus: whatever is wrong with it, or with the caller's context.
func TestLocalDeliveryDoesNotNeedTheBus(t *testing.T) {
	bothKinds(t, 2, func(t *testing.T, r *rig) {
		n, c := r.nodes[0], r.nodes[0].Client("/", "room")
		far := r.nodes[1].Client("/", "room")
		socket := c.Socket()
		heal := r.net.Cut(0)
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		for what, f := range map[string]func() error{
			"broadcast":        func() error { return n.Emit(ctx, "e") },
			"join":             func() error { return n.SocketsJoin(ctx, "joined") },
			"leave":            func() error { return n.SocketsLeave(ctx, "room") },
			"server_side_emit": func() error { return n.ServerSideEmit(ctx, "e") },
			"fetch_sockets": func() error {
				got, err := n.FetchSockets(ctx)
				if !slices.Equal(ids(got), clientIDs(c)) {
					t.Errorf("fetched %v", ids(got))
				}
				return err
			},
			"server_side_emit with ack": func() error {
				return n.Adapter().ServerSideEmitWithAck(ctx, &sio.Outgoing{Payload: []byte(`["e"]`)}, nil)
			},
			"server count": func() error {
				_, err := n.Adapter().ServerCount(ctx)
				return err
			},
		} {
			if err := f(); !errors.Is(err, adapter.ErrDown) || !strings.Contains(err.Error(), "link is cut") {
				t.Errorf("%s: %v", what, err)
			}
		}
		c.Want(`2["e"]`)
		if !socket.In("joined") || socket.In("room") {
			t.Error("the socket's rooms are those it had")
		}
		go c.Answer(`["q"]`, `["yes"]`)
		answers, errs := gather(t.Context(), n.To(), "q")
		if !slices.Equal(answers, []string{`"yes"`}) || len(errs) != 1 || !errors.Is(errs[0], adapter.ErrDown) {
			t.Errorf("answers %v, errors %v", answers, errs)
		}
		if err := n.DisconnectSockets(t.Context(), false); !errors.Is(err, adapter.ErrDown) {
			t.Error(err)
		}
		c.Want("1")
		if failed := n.failed.All(); len(failed) != 8 {
			t.Errorf("hooks: %q", failed)
		}
		heal()
		r.Until("the link is up", func() bool { return n.Emit(t.Context(), "back") == nil })
		far.Want(`2["back"]`)
	})
}

func TestLocalTarget(t *testing.T) {
	bothKinds(t, 2, func(t *testing.T, r *rig) {
		n, c := r.nodes[0], r.nodes[0].Client("/")
		far := r.nodes[1].Client("/")
		r.types()
		local := n.Local()
		go c.Answer(`["q"]`, `[1]`)
		if answers, errs := gather(t.Context(), local, "q"); len(answers) != 1 || len(errs) != 0 {
			t.Errorf("answers %v, errors %v", answers, errs)
		}
		got, err := local.FetchSockets(t.Context())
		if len(got) != 1 {
			t.Errorf("fetched %v", ids(got))
		}
		err = errors.Join(err, local.Emit(t.Context(), "e"), local.SocketsJoin(t.Context(), "a"),
			local.SocketsLeave(t.Context(), "a"), local.DisconnectSockets(t.Context(), false))
		if err != nil {
			t.Error(err)
		}
		c.Want(`2["e"]`, "1")
		synctest.Wait()
		if types := r.types(); len(types) != 0 || len(far.Take()) != 0 {
			t.Errorf("published: %v", types)
		}
		if all := n.requests.All(); len(all) != 0 {
			t.Errorf("requests: %q", all)
		}
	})
}

// TestBackoff has a bus that cannot be opened, and one that is lost at once.
func TestBackoff(t *testing.T) {
	for _, opens := range []bool{false, true} {
		t.Run(fmt.Sprint(opens), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var opened []time.Time
				broken := errors.New("broken")
				var n node
				o := adapter.Options{Hooks: n.hooks(), MaxBackoff: 400 * time.Millisecond}
				srv := lab.New(t, true).Server(&sio.Options{Adapter: adapter.Cluster(
					func(context.Context, *sio.Local, adapter.NodeID) (adapter.Bus, error) {
						opened = append(opened, time.Now())
						if opens {
							return failing{broken}, nil
						}
						return nil, broken
					}, &o)})
				time.Sleep(3 * time.Second)
				if err := srv.Close(); err != nil {
					t.Error(err)
				}
				most := 50 * time.Millisecond
				for i := range opened[1:] {
					if d := opened[i+1].Sub(opened[i]); d < most/2 || d > most {
						t.Errorf("pause %d: %v, want at most %v", i, d, most)
					}
					most = min(2*most, o.MaxBackoff)
				}
				states, up := n.states.All(), 0
				for _, s := range states[1:] {
					if s == "/ <nil>" {
						up++
					} else if s != "/ broken" {
						t.Errorf("state %q", s)
					}
				}
				if states[0] != "/ not open yet" || opens && up != len(opened) || !opens && up != 0 {
					t.Errorf("%d states up of %d: %q", up, len(opened), states)
				}
				if got := n.closed.All(); !slices.Equal(got, []string{"/"}) {
					t.Errorf("closed: %q", got)
				}
			})
		})
	}
}

// failing is a bus that ends at once.
type failing struct{ err error }

func (b failing) Publish(context.Context, *adapter.Message) error         { return b.err }
func (b failing) Run(ctx context.Context, _ func(*adapter.Message)) error { return b.err }
func (failing) Count(context.Context, []adapter.NodeID) (int, []adapter.NodeID, error) {
	return 0, nil, nil
}

func TestNodeID(t *testing.T) {
	for name, want := range map[string]string{"": `^[0-9a-f]{16}$`, "gw-1": `^gw-1\.[A-Za-z0-9_-]{8}$`} {
		var got []adapter.NodeID
		for range 2 {
			synctest.Test(t, func(t *testing.T) {
				srv := sio.NewServer(&sio.Options{Adapter: adapter.Cluster(
					func(_ context.Context, _ *sio.Local, self adapter.NodeID) (adapter.Bus, error) {
						got = append(got, self)
						return nil, errors.New("no bus")
					}, &adapter.Options{Node: name})})
				synctest.Wait()
				srv.Of("/other")
				synctest.Wait()
				_ = srv.Close()
			})
		}
		if len(got) != 4 || got[0] != got[1] || got[1] == got[2] || !regexp.MustCompile(want).MatchString(string(got[0])) {
			t.Errorf("%q: got %q", name, got)
		}
	}
}

// TestClose: other nodes know at once, who waits is told, and nothing can be published any more.
func TestClose(t *testing.T) {
	bothKinds(t, 3, func(t *testing.T, r *rig) {
		a := r.nodes[0].Adapter()
		r.net.Mute(1, true) // it would answer
		r.net.Mute(2, true)
		r.nodes[2].OnServerEvent("wait", func(ctx context.Context, _ *sio.Event) error {
			<-ctx.Done() // it ends with its node
			return nil
		})
		var wg sync.WaitGroup
		out := &sio.Outgoing{Payload: []byte(`["wait"]`)}
		wg.Go(func() {
			_, err := a.FetchSockets(t.Context(), sio.Target{})
			p, ok := errors.AsType[*adapter.PartialError](err)
			if !errors.Is(err, adapter.ErrClosed) || !ok || len(p.Silent)+p.Unnamed != 2 {
				t.Errorf("fetch: %v", err)
			}
		})
		wg.Go(func() {
			err := a.BroadcastWithAck(t.Context(), out, sio.Target{}, nil)
			if !errors.Is(err, adapter.ErrClosed) || errors.Is(err, sio.ErrAckTimeout) {
				t.Errorf("broadcast: %v", err)
			}
		})
		if err := a.ServerSideEmit(t.Context(), out); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		r.types()
		began := time.Now()
		r.nodes[2].Stop()
		r.net.Mute(1, false)
		r.nodes[0].Stop()
		wg.Wait()
		if d := time.Since(began); d != 0 {
			t.Errorf("it took %v", d)
		}
		if err := a.Broadcast(t.Context(), out, sio.Target{}); !errors.Is(err, adapter.ErrClosed) {
			t.Errorf("afterwards: %v", err)
		}
		if _, err := a.FetchSockets(t.Context(), sio.Target{}); !errors.Is(err, adapter.ErrClosed) {
			t.Errorf("afterwards: %v", err)
		}
		if err := a.Close(); err != nil {
			t.Errorf("again: %v", err)
		}
		for _, m := range r.types() {
			if m != adapter.Close {
				t.Errorf("published: %v", m)
			}
		}
		if n, err := r.nodes[1].Adapter().ServerCount(t.Context()); err != nil || n > 2 { // 2: the goodbye of node 2 was lost
			t.Errorf("%d nodes are left, %v", n, err)
		}
		if got := r.nodes[0].closed.All(); !slices.Equal(got, []string{"/"}) {
			t.Errorf("closed: %q", got)
		}
	})
}

// TestCloseIsBounded has a handler, and then a bus, that do not end.
func TestCloseIsBounded(t *testing.T) {
	bubble(t, adaptertest.NetworkOptions{}, 2, func(t *testing.T, r *rig) {
		release := make(chan struct{})
		defer close(release)
		r.nodes[1].OnServerEvent("e", func(context.Context, *sio.Event) error { <-release; return nil })
		if err := r.nodes[0].ServerSideEmit(t.Context(), "e"); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		began := time.Now()
		if err := r.nodes[1].Adapter().Close(); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != 5*time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
	})
}

var errAwaited = errors.New("not yet")

// roomBus is a bus that subscribes to rooms, and takes its time to open.
type roomBus struct {
	failing
	open  chan struct{}
	rooms lab.Log
}

func (b *roomBus) RoomChanged(room string) { b.rooms.Add(room) }

func (b *roomBus) AwaitRooms(_ context.Context, rooms []string) error {
	b.rooms.Add("await " + strings.Join(rooms, ","))
	return errAwaited
}

func (b *roomBus) Run(ctx context.Context, _ func(*adapter.Message)) error {
	<-ctx.Done()
	return ctx.Err()
}

// TestRoomsThatChangeWhileTheBusIsOpened are not lost between Local.Rooms and RoomChanged.
func TestRoomsThatChangeWhileTheBusIsOpened(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &roomBus{open: make(chan struct{})}
		var before []string
		srv := lab.New(t, true).Server(&sio.Options{Adapter: adapter.Cluster(
			func(_ context.Context, local *sio.Local, _ adapter.NodeID) (adapter.Bus, error) {
				if before == nil {
					before = []string{}
					return nil, errors.New("not now")
				}
				before = local.Rooms()
				<-b.open
				return b, nil
			}, nil)})
		c := srv.Client("/", "before", "left")
		time.Sleep(time.Second)
		if err := srv.Of("/").AwaitRooms(t.Context(), "before"); !errors.Is(err, adapter.ErrDown) {
			t.Error(err)
		}
		c.Socket().Join("meanwhile")
		c.Socket().Leave("left")
		close(b.open)
		synctest.Wait()
		got := b.rooms.All()
		slices.Sort(got)
		slices.Sort(before)
		if !slices.Equal(before, []string{"before", "left"}) || !slices.Equal(got, []string{"left", "meanwhile"}) {
			t.Errorf("in Open %q, then %q", before, got)
		}
		c.Socket().Join("after")
		if got := b.rooms.All(); got[len(got)-1] != "after" {
			t.Errorf("then %q", got)
		}
		if err := srv.Of("/").AwaitRooms(t.Context(), "a", "b"); !errors.Is(err, errAwaited) {
			t.Error(err)
		}
		if got := b.rooms.All(); got[len(got)-1] != "await a,b" {
			t.Errorf("then %q", got)
		}
	})
}
