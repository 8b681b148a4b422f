package adapter_test

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

	"github.com/seed-0b620db0/patchbay/pkg/adapter"
	"github.com/seed-0b620db0/patchbay/pkg/adapter/adaptertest"
	"github.com/seed-0b620db0/patchbay/pkg/adapter/internal/lab"
	"github.com/seed-0b620db0/patchbay/pkg/sio"
)

// TestLossyNetwork: whatever the bus does, what is emitted reaches the clients of this node, once and in order, requests end
// by their deadline with at least what this node knows, nothing stays behind, and when the faults are over all is well.
func TestLossyNetwork(t *testing.T) {
	seeds := uint64(40)
	if testing.Short() {
		seeds = 4
	}
	for seed := range seeds {
		rnd := random(seed)
		o := adaptertest.NetworkOptions{
			Seed: seed, Heartbeats: seed%2 == 0, Nameless: seed%3 == 0,
			Lose: rnd.Float64() / 4, Duplicate: rnd.Float64() / 4, Cut: rnd.Float64() / 50,
			Delay: time.Duration(rnd.Int64N(int64(time.Second))),
		}
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			bubble(t, o, 4, func(t *testing.T, r *rig) { lossy(t, r, rnd) })
		})
	}
}

func random(seed uint64) *rand.Rand {
	return rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // a test that can be had again
}

func lossy(t *testing.T, r *rig, rnd *rand.Rand) {
	t.Helper()
	r.serversReply()
	clients := r.clients()
	var all sync.WaitGroup
	for i, n := range r.nodes {
		pauses, asks := random(rnd.Uint64()), random(rnd.Uint64())
		all.Go(func() {
			for k := range 100 {
				_ = n.Emit(t.Context(), "e", i, k)
				time.Sleep(time.Duration(pauses.Int64N(int64(200 * time.Millisecond))))
			}
		})
		all.Go(func() {
			for range 20 {
				timeout := time.Duration(asks.Int64N(int64(2 * time.Second)))
				request(t, n, clients[i], asks.IntN(4), timeout)
				if asks.IntN(10) == 0 {
					heal := r.net.Cut(i)
					time.AfterFunc(time.Second, heal)
				}
			}
		})
	}
	all.Wait()
	r.net.Calm()
	time.Sleep(time.Minute) // so that who waits for a client gives up
	synctest.Wait()
	for i, n := range r.nodes {
		next := 0
		for _, p := range clients[i].Take() {
			if strings.HasPrefix(p, fmt.Sprintf(`2["e",%d,`, i)) {
				if p != fmt.Sprintf(`2["e",%d,%d]`, i, next) {
					t.Fatalf("node %d: got %s, want number %d", i, p, next)
				}
				next++
			}
		}
		if next != 100 {
			t.Errorf("node %d: the client got %d of 100", i, next)
		}
		if own, others := adapter.Pending(n.Adapter()); own != 0 || others != 0 {
			t.Errorf("node %d: %d requests of its own and %d of others are left", i, own, others)
		}
	}
	for i, n := range r.nodes {
		got, err := n.FetchSockets(t.Context())
		if err != nil || !slices.Equal(ids(got), clientIDs(clients...)) {
			t.Errorf("node %d: fetched %d, %v", i, len(got), err)
		}
	}
}

// request makes a request of some kind, and holds it to its deadline.
func request(t *testing.T, n *node, own *lab.Client, kind int, timeout time.Duration) {
	t.Helper()
	began := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	var err error
	switch kind {
	case 0:
		var got []sio.RemoteSocket
		if got, err = n.FetchSockets(ctx); !slices.Contains(ids(got), own.ID) {
			t.Errorf("its own client is not among %v", ids(got))
		}
	case 1:
		err = n.Adapter().ServerSideEmitWithAck(ctx, event(`["q"]`), func(sio.Args) {})
	case 2:
		err = n.Adapter().BroadcastWithAck(ctx, event(`["q"]`), sio.Target{}, func(sio.Args, error) {}) // which no client answers
		if err == nil {
			t.Error("its own client has not answered")
		}
	default:
		_, err = n.Adapter().ServerCount(ctx)
	}
	if d := time.Since(began); d > timeout {
		t.Errorf("request %d ended %v after its deadline", kind, d-timeout)
	}
	p, partial := errors.AsType[*adapter.PartialError](err)
	if partial && len(p.Silent)+p.Unnamed == 0 ||
		err != nil && !partial && !errors.Is(err, adapter.ErrDown) && !errors.Is(err, sio.ErrAckTimeout) && !errors.Is(err, adaptertest.ErrLost) {
		t.Errorf("request %d: %v", kind, err)
	}
}

// TestRace has everything happen at once, for the race detector and against deadlocks.
func TestRace(t *testing.T) {
	for name, o := range map[string]adaptertest.NetworkOptions{"census": {}, "heartbeats": {Heartbeats: true}} {
		t.Run(name, func(t *testing.T) {
			o.Cut, o.Seed = 0.002, 1
			r := newRig(t, o, false)
			for range 3 {
				r.add(adapter.Options{MaxBackoff: 60 * time.Millisecond, MaxRequests: 4})
			}
			r.serversReply()
			var all sync.WaitGroup
			for i, n := range r.nodes {
				c := n.Client("/")
				all.Go(func() {
					for p, ok := c.Next(); ok && p != "1"; p, ok = c.Next() {
						if id, asks := strings.CutSuffix(p, `["q"]`); asks {
							c.Send("3" + id[1:] + "[1]")
						}
					}
				})
				socket := c.Socket()
				for g := range 3 {
					all.Go(func() {
						rnd := random(uint64(3*i + g))
						for range 150 {
							act(t.Context(), n, rnd)
						}
						if g == 0 {
							_ = n.Of("/other").Adapter().Close()
							socket.Disconnect(true)
						}
					})
				}
			}
			all.Wait()
		})
	}
}

func act(ctx context.Context, n *node, rnd *rand.Rand) {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(rnd.IntN(20))*time.Millisecond)
	defer cancel()
	room := fmt.Sprint(rnd.IntN(3))
	switch rnd.IntN(8) {
	case 0:
		_ = n.To(room).SocketsLeave(ctx, room)
	case 1:
		_ = n.SocketsJoin(ctx, room)
	case 2:
		_, _ = n.FetchSockets(ctx)
	case 3:
		for range n.To(room).EmitWithAck(ctx, "q") {
			break
		}
	case 4:
		for range n.ServerSideEmitWithAck(ctx, "q") { // all of them
		}
	case 5:
		_ = n.ServerSideEmit(ctx, "q")
	case 6:
		_ = n.Of("/other").Emit(ctx, "e")
	default:
		_ = n.Except(room).Emit(ctx, "e")
	}
}
