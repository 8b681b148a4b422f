package adapter_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-0b620db0/patchbay/pkg/adapter"
	"github.com/seed-0b620db0/patchbay/pkg/adapter/adaptertest"
	"github.com/seed-0b620db0/patchbay/pkg/adapter/internal/lab"
	"github.com/seed-0b620db0/patchbay/pkg/sio"
)

// TestHeartbeats: one after each interval in which nothing was published that counts for one.
func TestHeartbeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var said lab.Log
		began := time.Now()
		net := adaptertest.NewNetwork(&adaptertest.NetworkOptions{Heartbeats: true, Tap: func(m *adapter.Message) {
			said.Add(fmt.Sprint(time.Since(began).Milliseconds(), " ", m.Type))
		}})
		srv := lab.New(t, true).Server(&sio.Options{Adapter: adapter.Cluster(net.Open(0), nil)})
		ctx := t.Context()
		time.Sleep(12 * time.Second)
		_ = srv.Emit(ctx, "plain")
		_ = srv.SocketsJoin(ctx, "room")
		time.Sleep(time.Second)
		_ = srv.ServerSideEmit(ctx, "e")
		time.Sleep(6 * time.Second)
		heal := net.Cut(0)
		time.Sleep(20 * time.Second)
		heal()
		time.Sleep(3 * time.Second)
		srv.Stop()
		got := said.All()
		if len(got) == 0 || got[len(got)-1] != "42000 close" {
			t.Errorf("no goodbye: %q", got)
		}
		want(t, got[:min(7, len(got))], "0 initial_heartbeat", "5000 heartbeat", "10000 heartbeat", "12000 broadcast", "12000 sockets_join",
			"13000 server_side_emit", "18000 heartbeat")
	})
}

// TestMembership: who is silent for too long is forgotten, who leaves at once, and who was not heard because there was no
// bus is not taken for silent.
func TestMembership(t *testing.T) {
	bubble(t, adaptertest.NetworkOptions{Heartbeats: true}, 3, func(t *testing.T, r *rig) {
		count := func(n *node) int {
			got, err := n.Adapter().ServerCount(context.Background())
			if err != nil {
				t.Error(err)
			}
			return got
		}
		for _, n := range r.nodes {
			if got := count(n); got != 3 {
				t.Errorf("%d nodes", got)
			}
		}
		time.Sleep(time.Minute)
		r.net.Mute(2, true)
		time.Sleep(4900 * time.Millisecond)
		if a, b := count(r.nodes[0]), count(r.nodes[2]); a != 3 || b != 3 {
			t.Errorf("%d and %d nodes", a, b)
		}
		time.Sleep(5100 * time.Millisecond)
		synctest.Wait()
		if a, b := count(r.nodes[0]), count(r.nodes[2]); a != 2 || b != 3 {
			t.Errorf("after the timeout %d and %d nodes", a, b)
		}
		r.net.Mute(2, false)
		time.Sleep(5001 * time.Millisecond)
		if got := count(r.nodes[0]); got != 3 {
			t.Errorf("heard again: %d nodes", got)
		}
		heal := r.net.Cut(0)
		time.Sleep(time.Minute)
		heal()
		time.Sleep(time.Second + time.Millisecond)
		synctest.Wait()
		if a, b := count(r.nodes[0]), count(r.nodes[1]); a != 3 || b != 3 {
			t.Errorf("healed: %d and %d nodes", a, b)
		}
		r.nodes[1].Stop()
		synctest.Wait()
		if got := count(r.nodes[0]); got != 2 {
			t.Errorf("one has left: %d nodes", got)
		}
		counts := r.nodes[0].counts.All() // the first ones at once
		want(t, counts[len(counts)-4:], "3", "2", "3", "2")
	})
}
