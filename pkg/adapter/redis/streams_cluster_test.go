package redis_test

import (
	"testing"
	"time"

	"github.com/seed-0b620db0/patchbay/internal/redistest"
	"github.com/seed-0b620db0/patchbay/pkg/adapter/internal/lab"
	"github.com/seed-0b620db0/patchbay/pkg/adapter/redis"
)

// A stream that moves is read on where it is then: nothing is lost, and nothing comes twice.
func TestStreamsSlotMoves(t *testing.T) {
	l := newLab(t)
	cluster := redistest.StartCluster(t)
	o := redis.StreamsOptions{UseShardedPubSub: true}
	a, b := newStreamsNode(l, cluster.Client(t), o), newStreamsNode(l, cluster.Client(t), o)
	c := a.Client("/")
	slot := cluster.Slot(t, "socket.io")
	const moves, each = 3, 200
	done := make(chan struct{})
	go func() { // ends with its loop, which is waited for
		defer close(done)
		for i := range (moves + 1) * each {
			if err := b.Emit(t.Context(), lab.Numbered, i); err != nil {
				t.Error(i, err)
			}
			time.Sleep(time.Millisecond) // a load, not a burst
		}
	}()
	for i := range moves {
		wantNumbers(t, c, i*each, (i+1)*each)
		cluster.MoveSlot(t, slot, (cluster.Owner(t, slot)+1)%3)
	}
	wantNumbers(t, c, moves*each, (moves+1)*each)
	<-done
	if a.Dropped.Load() > 0 || b.Failed.Load() > 0 {
		t.Error("dropped, failed:", a.Faults.All(), b.Failed.Load())
	}
	a.StayedUp()
}

// A stream whose master has died is read and written on its replica.
func TestStreamsMasterDies(t *testing.T) {
	l := newLab(t)
	cluster := redistest.StartCluster(t)
	o := redis.StreamsOptions{StreamCount: 3}
	a, b := newStreamsNode(l, cluster.Client(t), o), newStreamsNode(l, cluster.Client(t), o)
	c := a.Client("/")
	write, _ := redis.StreamNames(3, "/")
	slot := cluster.Slot(t, write)
	dead := cluster.Owner(t, slot)
	heir := cluster.Replicate(t, dead)
	i := l.Eventually(b, c, 0)
	cluster.Kill(dead)
	cluster.Await(t, slot, heir)
	l.Eventually(b, c, i+1)
	a.AwaitUp("/")
	b.AwaitUp("/")
	l.Until("both are counted", func() bool { n, err := a.ServerCount(); return n == 2 && err == nil })
}
