package redis_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/seed-0b620db0/patchbay/internal/redistest"
	"github.com/seed-0b620db0/patchbay/pkg/adapter/internal/lab"
	"github.com/seed-0b620db0/patchbay/pkg/adapter/redis"
)

// shardChannels returns what is subscribed of the rooms of the namespace "/", on all masters.
func shardChannels(t testing.TB, rdb goredis.UniversalClient) []string {
	t.Helper()
	var all []string
	var mu sync.Mutex
	ask := func(ctx context.Context, c *goredis.Client) error {
		got, err := c.PubSubShardChannels(ctx, "socket.io*").Result()
		mu.Lock()
		defer mu.Unlock()
		all = append(all, got...)
		return err
	}
	var err error
	switch rdb := rdb.(type) {
	case *goredis.ClusterClient:
		err = rdb.ForEachMaster(t.Context(), ask)
	case *goredis.Client:
		err = ask(t.Context(), rdb)
	}
	if err != nil {
		return nil
	}
	slices.Sort(all)
	return all
}

// Joins and leaves in any order end with what holds.
func TestShardsFollowRooms(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb func() goredis.UniversalClient) {
		l := lab.New(t, false)
		r := rdb()
		a := newSharded(l, r, redis.Dynamic)
		const clients, rooms, rounds = 4, 2000, 5
		var sockets []*lab.Client
		for range clients {
			sockets = append(sockets, a.Client("/"))
		}
		var churn sync.WaitGroup
		for _, c := range sockets {
			s := c.Socket()
			churn.Go(func() {
				for range rounds {
					for _, i := range rand.Perm(rooms) {
						if room := fmt.Sprint("room-", i); rand.IntN(2) == 0 {
							s.Join(room)
						} else {
							s.Leave(room)
						}
					}
				}
			})
		}
		churn.Wait()
		left := map[string]bool{}
		for _, c := range sockets {
			for room := range c.Socket().Rooms() {
				if room != c.ID {
					left["socket.io#/#"+room+"#"] = true
				}
			}
		}
		want := slices.Sorted(maps.Keys(left))
		own := func(channel string) bool { return !strings.HasPrefix(channel, "socket.io#/#room-") }
		l.Until("rooms and subscriptions agree", func() bool {
			return slices.Equal(slices.DeleteFunc(shardChannels(t, r), own), want)
		})
		for _, c := range sockets {
			c.Drop()
		}
		l.Until("no rooms, no subscriptions", func() bool { return len(slices.DeleteFunc(shardChannels(t, r), own)) == 0 })
	})
}

// A bus that is opened has the rooms that are there, thousands as well as one.
func TestShardsOpenWithRooms(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb func() goredis.UniversalClient) {
		const rooms = 5000
		l := lab.New(t, false)
		r := rdb()
		a := newSharded(l, r, redis.Dynamic)
		var names []string
		for i := range rooms {
			names = append(names, fmt.Sprint("room-", i))
		}
		a.Client("/", names...)
		const more = 3 // main, own, canary
		l.Until("all", func() bool { return len(shardChannels(t, r)) == rooms+more })
		kill := func(ctx context.Context, c *goredis.Client) error {
			return c.Do(ctx, "CLIENT", "KILL", "TYPE", "pubsub").Err()
		}
		for range 3 {
			before := len(a.Downs())
			if c, ok := r.(*goredis.ClusterClient); ok {
				if err := c.ForEachMaster(t.Context(), kill); err != nil {
					t.Fatal(err)
				}
			} else if err := r.Do(t.Context(), "CLIENT", "KILL", "TYPE", "pubsub").Err(); err != nil {
				t.Fatal(err)
			}
			l.Until("noticed", func() bool { return len(a.Downs()) > before })
			begin := time.Now()
			a.AwaitUp("/")
			if got := len(shardChannels(t, r)); got != rooms+more {
				t.Errorf("up, with %d of %d channels", got, rooms+more)
			}
			t.Log(time.Since(begin))
		}
	})
}

// shardTraffic emits to rooms from one node, and counts what their members get on another.
type shardTraffic struct {
	*lab.Lab
	rooms   []string
	clients []*lab.Client
	from    *node
	sending sync.WaitGroup
	stop    context.CancelFunc
}

func startTraffic(l *lab.Lab, from, to *node, rooms int) *shardTraffic {
	l.Helper()
	tr := &shardTraffic{Lab: l, from: from}
	for i := range rooms {
		room := fmt.Sprint("room-", i)
		tr.rooms = append(tr.rooms, room)
		tr.clients = append(tr.clients, to.Client("/", room))
	}
	ctx, stop := context.WithCancel(l.Context())
	tr.stop = stop
	tr.sending.Go(func() {
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for i := 0; ; i++ {
			_ = from.Of("/").To(tr.rooms[i%rooms]).Emit(ctx, "load") // may fail while the cluster changes
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
	})
	l.Cleanup(tr.end)
	return tr
}

func (tr *shardTraffic) end() {
	tr.stop()
	tr.sending.Wait()
}

// flows waits until each room, and the namespace, gets what is emitted from now on.
func (tr *shardTraffic) flows(what string) {
	tr.Helper()
	all := what + " all"
	for i, c := range tr.clients {
		seen := map[string]bool{}
		tr.Until(what+": "+tr.rooms[i], func() bool {
			for _, target := range []struct {
				name string
				room []string
			}{{what, tr.rooms[i : i+1]}, {all, []string{tr.rooms[i], "nobody"}}} {
				if !seen[target.name] {
					_ = tr.from.Of("/").To(target.room...).Emit(tr.Context(), target.name) // tried again
				}
			}
			for _, packet := range c.Take() {
				seen[strings.Trim(packet, `2[]"`)] = true
			}
			return seen[what] && seen[all]
		})
	}
}

// A slot that moves takes subscriptions with it. The bus stays up.
func TestShardsSlotMoves(t *testing.T) {
	l := newLab(t)
	cluster := redistest.StartCluster(t)
	a, b := newSharded(l, cluster.Client(t), redis.Dynamic), newSharded(l, cluster.Client(t), redis.Dynamic)
	tr := startTraffic(l, b, a, 12)
	tr.flows("before")
	channels := slices.DeleteFunc(shardChannels(t, cluster.Client(t)), func(c string) bool { return c == "socket.io#/#" })
	for _, channel := range append(channels[:6], "socket.io#/#") {
		slot := cluster.Slot(t, channel)
		cluster.MoveSlot(t, slot, (cluster.Owner(t, slot)+1)%3)
	}
	tr.flows("moved")
	n, err := b.Of("/").Adapter().ServerCount(t.Context())
	if n != 2 || err != nil {
		t.Error(n, err)
	}
	a.StayedUp()
	tr.end()
}

// Slots that move while rooms come and go: in the end there is what holds.
func TestShardsMoveAndChurn(t *testing.T) {
	l := newLab(t)
	cluster := redistest.StartCluster(t)
	rdb := cluster.Client(t)
	a := newSharded(l, rdb, redis.Dynamic)
	c := a.Client("/")
	const rooms = 40
	name := func(i int) string { return fmt.Sprintf("room-%d", i) }
	ctx, stop := context.WithCancel(t.Context())
	var churn sync.WaitGroup
	churn.Go(func() {
		for ctx.Err() == nil {
			if room := name(rand.IntN(rooms)); rand.IntN(2) == 0 {
				c.Socket().Join(room)
			} else {
				c.Socket().Leave(room)
			}
		}
	})
	t.Cleanup(func() { stop(); churn.Wait() })
	for i := range 10 {
		slot := cluster.Slot(t, "socket.io#/#"+name(i)+"#")
		cluster.MoveSlot(t, slot, (cluster.Owner(t, slot)+1)%3)
	}
	stop()
	churn.Wait()
	var want []string
	for room := range c.Socket().Rooms() {
		if room != c.ID {
			want = append(want, "socket.io#/#"+room+"#")
		}
	}
	slices.Sort(want)
	l.Until("rooms and subscriptions agree", func() bool {
		return slices.Equal(slices.DeleteFunc(shardChannels(t, rdb), func(c string) bool { return !strings.Contains(c, "room-") }), want)
	})
}

// What a dead master had goes to its replica.
func TestShardsMasterDies(t *testing.T) {
	l := newLab(t)
	cluster := redistest.StartCluster(t)
	a, b := newSharded(l, cluster.Client(t), redis.Dynamic), newSharded(l, cluster.Client(t), redis.Dynamic)
	tr := startTraffic(l, b, a, 12)
	tr.flows("before")
	dead := cluster.Owner(t, cluster.Slot(t, "socket.io#/#"))
	heir := cluster.Replicate(t, dead)
	cluster.Kill(dead)
	cluster.Await(t, cluster.Slot(t, "socket.io#/#"), heir)
	begin := time.Now()
	tr.flows("failed over")
	t.Log("after", time.Since(begin))

	dead = (dead + 1) % 3
	cluster.Kill(dead)
	cluster.Adopt(t, dead, heir)
	tr.flows("adopted")
	tr.end()
}

// A master that becomes a replica still sends, but is not asked who listens.
func TestShardsMasterDemoted(t *testing.T) {
	l := newLab(t)
	cluster := redistest.StartCluster(t)
	a, b := newSharded(l, cluster.Client(t), redis.Dynamic), newSharded(l, cluster.Client(t), redis.Dynamic)
	tr := startTraffic(l, b, a, 12)
	tr.flows("before")
	slot := cluster.Slot(t, "socket.io#/#")
	heir := cluster.Replicate(t, cluster.Owner(t, slot))
	if _, err := cluster.Servers[heir].Do("CLUSTER", "FAILOVER"); err != nil {
		t.Fatal(err)
	}
	cluster.Await(t, slot, heir)
	l.Until("counted on the new master", func() bool {
		n, err := b.Of("/").Adapter().ServerCount(t.Context())
		return n == 2 && err == nil
	})
	tr.flows("demoted")
	tr.end()
}

// A dead master holds up what is published to its own channels only.
func TestShardsDeadMasterDoesNotBlock(t *testing.T) {
	l := newLab(t)
	cluster := redistest.StartCluster(t)
	a, b := newSharded(l, cluster.Client(t), redis.Dynamic), newSharded(l, cluster.Client(t), redis.Dynamic)
	tr := startTraffic(l, b, a, 12)
	tr.flows("before")
	const dead = 1
	for _, channel := range shardChannels(t, cluster.Client(t)) {
		if slot := cluster.Slot(t, channel); !strings.Contains(channel, "room-") && cluster.Owner(t, slot) == dead {
			cluster.MoveSlot(t, slot, 0)
		}
	}
	tr.flows("moved")
	cluster.Kill(dead)
	for i, room := range tr.rooms {
		if cluster.Owner(t, cluster.Slot(t, "socket.io#/#"+room+"#")) == dead {
			continue
		}
		name := fmt.Sprint("still ", i)
		if err := b.Of("/").To(room).Emit(t.Context(), name); err != nil {
			t.Error(err)
		}
		l.Until(name, func() bool { return slices.Contains(tr.clients[i].Take(), `2["`+name+`"]`) })
	}
	a.StayedUp()
	tr.end()
}
