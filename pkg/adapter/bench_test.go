package adapter_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/seed-0b620db0/patchbay/pkg/adapter"
	"github.com/seed-0b620db0/patchbay/pkg/adapter/adaptertest"
	"github.com/seed-0b620db0/patchbay/pkg/sio"
)

// sink is a bus that takes everything and brings nothing.
type sink struct{}

func (sink) Publish(context.Context, *adapter.Message) error { return nil }

func (sink) Run(ctx context.Context, _ func(*adapter.Message)) error {
	<-ctx.Done()
	return ctx.Err()
}

// heartbeatless makes it a bus without them.
type heartbeatless struct{ sink }

func (heartbeatless) Count(_ context.Context, known []adapter.NodeID) (int, []adapter.NodeID, error) {
	return 1 + len(known), known, nil
}

// alone is a cluster's adapter, of a server without clients, over such a bus.
func alone(tb testing.TB) sio.Adapter {
	tb.Helper()
	up := make(chan struct{}, 1)
	srv := sio.NewServer(&sio.Options{Adapter: adapter.Cluster(
		func(context.Context, *sio.Local, adapter.NodeID) (adapter.Bus, error) { return heartbeatless{}, nil },
		&adapter.Options{Hooks: adapter.Hooks{State: func(_ string, err error) {
			if err == nil {
				up <- struct{}{}
			}
		}}})})
	tb.Cleanup(func() {
		if err := srv.Close(); err != nil {
			tb.Error(err)
		}
	})
	<-up
	return srv.Adapter()
}

var benchEvent = event(`["message",{"room":"room","text":"hello"}]`)

// TestAllocs gates what a message costs on its way through the cluster, without the bus and the clients.
func TestAllocs(t *testing.T) {
	a, ctx := alone(t), t.Context()
	room := sio.Target{Rooms: []string{"room"}}
	m := &adapter.Message{Type: adapter.Broadcast, From: "x", Event: benchEvent, Target: room}
	heartbeat := &adapter.Message{Type: adapter.Heartbeat, From: "x"}
	adapter.Receive(a, m)
	for name, c := range map[string]struct {
		most float64
		f    func()
	}{
		"publish":   {6, func() { _ = a.Broadcast(ctx, benchEvent, room) }}, // the message, and a context with its timer
		"receive":   {1, func() { adapter.Receive(a, m) }},                  // the list of sockets
		"heartbeat": {0, func() { adapter.Receive(a, heartbeat) }},
	} {
		if got := testing.AllocsPerRun(1000, c.f); got > c.most {
			t.Errorf("%s: %v allocations, want at most %v", name, got, c.most)
		}
	}
}

func BenchmarkPublish(b *testing.B) {
	a := alone(b)
	b.ReportAllocs()
	for b.Loop() {
		if err := a.Broadcast(b.Context(), benchEvent, sio.Target{}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkReceive(b *testing.B) {
	for _, peers := range []int{1, 100} {
		b.Run(fmt.Sprintf("peers=%d", peers), func(b *testing.B) {
			a := alone(b)
			messages := make([]*adapter.Message, peers)
			for i := range messages {
				messages[i] = &adapter.Message{Type: adapter.Broadcast, From: adapter.NodeID(fmt.Sprint(i)), Event: benchEvent}
			}
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				adapter.Receive(a, messages[i])
				i = (i + 1) % peers
			}
		})
	}
}

// BenchmarkRequest is FetchSockets with as many nodes that each have one socket.
func BenchmarkRequest(b *testing.B) {
	for _, nodes := range []int{2, 5} {
		b.Run(fmt.Sprintf("nodes=%d", nodes), func(b *testing.B) {
			r := newRig(b, adaptertest.NetworkOptions{}, false)
			for range nodes {
				r.add(adapter.Options{})
			}
			r.Until("all are up", func() bool {
				n, err := r.nodes[0].Adapter().ServerCount(b.Context())
				return n == nodes && err == nil
			})
			r.clients()
			b.ReportAllocs()
			for b.Loop() {
				if got, err := r.nodes[0].FetchSockets(b.Context()); err != nil || len(got) != nodes {
					b.Fatal(len(got), err)
				}
			}
		})
	}
}
