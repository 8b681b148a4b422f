package redis_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/seed-0b620db0/patchbay/internal/redistest"
	"github.com/seed-0b620db0/patchbay/internal/siotest"
	"github.com/seed-0b620db0/patchbay/pkg/adapter"
	"github.com/seed-0b620db0/patchbay/pkg/adapter/internal/lab"
	"github.com/seed-0b620db0/patchbay/pkg/adapter/redis"
	"github.com/seed-0b620db0/patchbay/pkg/sio"
)

// startSharded starts a server over sharded pub/sub and does not wait for its bus.
func startSharded(l *lab.Lab, rdb goredis.UniversalClient, o redis.ShardedOptions) *node {
	n := l.NewNode()
	o.Cluster = adapter.Options{Hooks: n.Hooks()}
	o.CanaryInterval, o.CanaryTimeout = cmp.Or(o.CanaryInterval, 100*time.Millisecond), cmp.Or(o.CanaryTimeout, 2*time.Second)
	n.Serve(redis.NewSharded(rdb, &o))
	n.Of("/")
	return n
}

func newSharded(l *lab.Lab, rdb goredis.UniversalClient, mode redis.Mode) *node {
	l.Helper()
	n := startSharded(l, rdb, redis.ShardedOptions{Mode: mode})
	n.AwaitUp("/")
	return n
}

// awaitListeners waits until n nodes listen to a channel.
func awaitListeners(l *lab.Lab, rdb goredis.UniversalClient, channel string, n int64) {
	l.Helper()
	l.Until(fmt.Sprintf("%d on %s", n, channel), func() bool { return shardNumSub(l, rdb, channel) == n })
}

func shardNumSub(t testing.TB, rdb goredis.UniversalClient, channel string) int64 {
	t.Helper()
	var node goredis.Cmdable = rdb
	if c, ok := rdb.(*goredis.ClusterClient); ok {
		sum := int64(0)
		var mu sync.Mutex
		if err := c.ForEachMaster(t.Context(), func(ctx context.Context, m *goredis.Client) error {
			got, err := m.PubSubShardNumSub(ctx, channel).Result()
			mu.Lock()
			defer mu.Unlock()
			sum += got[channel]
			return err
		}); err != nil {
			return -1 // one is dead
		}
		return sum
	}
	got, err := node.PubSubShardNumSub(t.Context(), channel).Result()
	if err != nil {
		return -1
	}
	return got[channel]
}

func eachRedis(t *testing.T, f func(t *testing.T, rdb func() goredis.UniversalClient)) {
	t.Run("standalone", func(t *testing.T) {
		siotest.LeakCheck(t)
		s := redistest.Start(t)
		f(t, func() goredis.UniversalClient { return s.Client(t) })
	})
	t.Run("cluster", func(t *testing.T) {
		siotest.LeakCheck(t)
		c := redistest.StartCluster(t)
		f(t, func() goredis.UniversalClient { return c.Client(t) })
	})
}

func TestShardedModes(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb func() goredis.UniversalClient) {
		for _, mode := range []redis.Mode{redis.Dynamic, redis.DynamicPrivate, redis.Static} {
			t.Run(mode.String(), func(t *testing.T) {
				l := lab.New(t, false)
				r := rdb()
				a, b := newSharded(l, r, mode), newSharded(l, rdb(), mode)
				const twenty = "exactly-twenty-chars"
				c, d := a.Client("/", "r"), b.Client("/", "r", twenty)
				want := map[redis.Mode][3]int64{redis.Dynamic: {2, 0, 0}, redis.DynamicPrivate: {2, 1, 1}, redis.Static: {0, 0, 0}}[mode]
				awaitListeners(l, r, "socket.io#/#r#", want[0])
				awaitListeners(l, r, "socket.io#/#"+twenty+"#", want[1])
				awaitListeners(l, r, "socket.io#/#"+d.ID+"#", want[2])

				ctx, ns := t.Context(), a.Of("/")
				for _, emit := range []struct {
					name string
					to   *sio.Broadcast
				}{
					{"all", new(a.Of("/").To())},
					{"room", new(a.To("r"))},
					{"twenty", new(a.To(twenty))},
					{"own", new(a.To(d.ID))},
					{"two", new(a.To("r", twenty).Except(c.ID))},
				} {
					if err := emit.to.Emit(ctx, emit.name, []byte{1}); err != nil {
						t.Fatal(emit.name, err)
					}
					d.Want(`51-["`+emit.name+`",{"_placeholder":true,"num":0}]`, "bin:\x01")
					if err := emit.to.Emit(ctx, emit.name, 1); err != nil {
						t.Fatal(emit.name, err)
					}
					d.Want(`2["` + emit.name + `",1]`)
				}
				n, err := ns.Adapter().ServerCount(ctx)
				if n != 2 || err != nil {
					t.Error(n, err)
				}
				found, err := ns.FetchSockets(ctx)
				if len(found) != 2 || err != nil {
					t.Error(found, err)
				}

				c.Socket().Leave("r")
				d.Drop()
				awaitListeners(l, r, "socket.io#/#r#", 0)
				awaitListeners(l, r, "socket.io#/#"+d.ID+"#", 0)
				a.Stop()
				awaitListeners(l, r, "socket.io#/#", 1)
			})
		}
	})
}

// What a peer publishes may be anything.
func TestShardedHostileMessages(t *testing.T) {
	l := newLab(t)
	srv := redistest.Start(t)
	rdb := srv.Client(t)
	a := newSharded(l, rdb, redis.Dynamic)
	c := a.Client("/", "r")
	awaitListeners(l, rdb, "socket.io#/#r#", 1)
	publish := func(channel, payload string) {
		t.Helper()
		if n, err := rdb.SPublish(t.Context(), channel, payload).Result(); n != 1 || err != nil {
			t.Fatal(n, err)
		}
	}
	bad := []string{
		"", "{", "{}", "[]", "null", "\xc1", "\xdf\xff\xff\xff\xff", `{"type":99,"uid":"x","nsp":"/"}`, `{"type":"3","uid":"x","nsp":"/"}`,
		`{"type":3,"uid":"x","nsp":"/"}`, `{"type":3,"data":{},"uid":"x","nsp":"/"}`, `{"type":3,"data":[],"uid":"x","nsp":"/"}`,
		`{"type":3,"data":{"packet":{"type":2,"data":[]},"opts":{"rooms":[],"except":[],"flags":{}}},"uid":"x","nsp":"/"}`,
		`{"type":3,"data":{"packet":{"type":2,"data":[1]},"opts":{"rooms":"r","except":[],"flags":{}}},"uid":"x","nsp":"/"}`,
		strings.Repeat("[", 1<<20), strings.Repeat("\x91", 1<<20),
	}
	for _, payload := range bad {
		publish("socket.io#/#", payload)
		publish("socket.io#/#r#", payload)
	}
	const event = `{"type":3,"data":{"packet":{"type":2,"data":["%s"]},"opts":{"rooms":[],"except":[],"flags":{}}},"uid":"x"%s}`
	publish("socket.io#/#", fmt.Sprintf(event, "foreign", `,"nsp":"/other"`))
	publish("socket.io#/#", fmt.Sprintf(event, "nowhere", ""))
	publish("socket.io#/#", `{"type":8,"data":{"requestId":"unknown","sockets":[]},"uid":"x","nsp":"/"}`)
	publish("socket.io#/#", fmt.Sprintf(event, "fine", `,"nsp":"/"`))
	c.Want(`2["fine"]`)
	if got := a.Faults.All(); len(got) != 2*len(bad) {
		t.Errorf("%d of %d messages are reported: %q", len(got), 2*len(bad), got)
	}
	if n := a.Received.Load(); n != 2 { // the last, and a response to nothing
		t.Errorf("received %d", n)
	}
}

func TestShardedNeedsRedis7(t *testing.T) {
	l := newLab(t)
	srv := redistest.Start(t, "--rename-command", "SSUBSCRIBE", "")
	startSharded(l, srv.Client(t), redis.ShardedOptions{Timeout: 200 * time.Millisecond}).Says(redis.ErrOldRedis.Error())
}

// allowChannels has Redis refuse all channels but those that a namespace cannot be without, and more.
func allowChannels(t *testing.T, srv *redistest.Server, more ...any) {
	t.Helper()
	if _, err := srv.Do(append([]any{
		"ACL", "SETUSER", "default", "resetchannels", "&socket.io#/#", "&socket.io#/#????????????????#",
		"&socket.io-canary*",
	}, more...)...); err != nil {
		t.Fatal(err)
	}
}

// A channel that Redis refuses does not take others with it.
func TestShardedRefusedRoom(t *testing.T) {
	l := newLab(t)
	srv := redistest.Start(t)
	allowChannels(t, srv, "&socket.io#/#good*#")
	rdb := srv.Client(t)
	a := newSharded(l, rdb, redis.Dynamic)
	c := a.Client("/")
	for i := range 50 {
		c.Socket().Join(fmt.Sprint("good", i), fmt.Sprint("bad", i))
	}
	for i := range 50 {
		awaitListeners(l, rdb, fmt.Sprintf("socket.io#/#good%d#", i), 1)
	}
	a.StayedUp()
	if _, err := srv.Do("ACL", "SETUSER", "default", "allchannels"); err != nil {
		t.Fatal(err)
	}
	awaitListeners(l, rdb, "socket.io#/#bad7#", 1)
}

// Who has waited for a room misses nothing that is said in it from then on.
func TestShardedAwaitRooms(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb func() goredis.UniversalClient) {
		for _, mode := range []redis.Mode{redis.Dynamic, redis.DynamicPrivate, redis.Static} {
			t.Run(mode.String(), func(t *testing.T) {
				l := lab.New(t, false)
				a, b := newSharded(l, rdb(), mode), newSharded(l, rdb(), mode)
				c, ctx := a.Client("/"), t.Context()
				for i := range 200 {
					room := fmt.Sprint("room-", i)
					c.Socket().Join(room, "and another")
					if err := a.Of("/").AwaitRooms(ctx, room, "and another", c.ID, "nobody's"); err != nil {
						t.Fatal(err)
					}
					if err := b.To(room).Emit(ctx, room); err != nil {
						t.Fatal(err)
					}
					c.Want(`2["` + room + `"]`)
					c.Socket().Leave("and another")
				}
			})
		}
	})
}

// Nobody waits for a room that has been left again.
func TestShardedAwaitRoomsThatAreLeft(t *testing.T) {
	l := newLab(t)
	a := newSharded(l, redistest.Start(t).Client(t), redis.Dynamic)
	s := a.Client("/").Socket()
	ctx, cancel := context.WithTimeout(t.Context(), siotest.Patience)
	defer cancel()
	for range 2000 {
		s.Join("room")
		done := make(chan error, 1)
		go func() { done <- a.Of("/").AwaitRooms(ctx, "room") }()
		runtime.Gosched()
		s.Leave("room")
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
}

// It ends with the wish, with the membership, and with the server.
func TestShardedAwaitRoomsInVain(t *testing.T) {
	l := newLab(t)
	srv := redistest.Start(t)
	allowChannels(t, srv)
	a := newSharded(l, srv.Client(t), redis.Dynamic)
	s := a.Client("/").Socket()
	s.Join("bad")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := a.Of("/").AwaitRooms(ctx, "bad"); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), `"bad"`) {
		t.Error(err)
	}
	refused := func() (n int) {
		stats, err := srv.Do("INFO", "commandstats")
		must(t, err)
		_, subscribe, _ := strings.Cut(fmt.Sprint(stats), "cmdstat_ssubscribe:")
		_, count, _ := strings.Cut(subscribe, "rejected_calls=")
		if _, err := fmt.Sscan(count, &n); err != nil {
			t.Fatalf("%v: %s", err, stats)
		}
		return n
	}
	for _, end := range []struct {
		what string
		do   func()
		want error
	}{
		{"left", func() { s.Leave("bad") }, nil},
		{"killed", srv.Kill, adapter.ErrDown},
	} {
		s.Join("bad")
		got := make(chan error, 1)
		go func() { got <- a.Of("/").AwaitRooms(t.Context(), "bad") }()
		before := refused()
		l.Until("refused again, and again", func() bool { return refused() > before+1 })
		select {
		case err := <-got:
			t.Fatalf("until it is %s: %v", end.what, err)
		default:
		}
		end.do()
		if err := <-got; !errors.Is(err, end.want) {
			t.Errorf("%s: %v", end.what, err)
		}
	}
}

// A server that does not say that all was done is not waited for for ever.
func TestShardedNoPing(t *testing.T) {
	l := newLab(t)
	srv := redistest.Start(t)
	if _, err := srv.Do("ACL", "SETUSER", "default", "-ping"); err != nil {
		t.Fatal(err)
	}
	a := startSharded(l, srv.Client(t), redis.ShardedOptions{
		CanaryInterval: 50 * time.Millisecond, CanaryTimeout: 200 * time.Millisecond,
	})
	a.Says("NOPERM")
	if _, err := srv.Do("ACL", "SETUSER", "default", "+ping"); err != nil {
		t.Fatal(err)
	}
	a.AwaitUp("/")
}

// What is lost with the connection is there again when that is.
func TestShardedReconnects(t *testing.T) {
	l := newLab(t)
	srv := redistest.Start(t)
	proxy := redistest.NewProxy(t, srv.Addr())
	behind := goredis.NewClient(&goredis.Options{Addr: proxy.Addr()})
	t.Cleanup(func() { _ = behind.Close() })
	rdb := srv.Client(t)
	a, b := newSharded(l, behind, redis.Dynamic), newSharded(l, rdb, redis.Dynamic)
	c := a.Client("/", "r")
	works := func(what string) {
		t.Helper()
		l.Until(what, func() bool {
			return a.State("/") == nil && shardNumSub(t, rdb, "socket.io#/#r#") == 1 && shardNumSub(t, rdb, "socket.io#/#") == 2
		})
		l.Until(what, func() bool { return b.Of("/").To("r").Emit(t.Context(), what) == nil })
		c.Want(`2["` + what + `"]`)
	}
	works("at first")
	for _, fault := range []struct {
		what   string
		strike func()
		mend   func()
	}{
		{"killed", func() { srv.Do("CLIENT", "KILL", "TYPE", "pubsub") }, func() {}},
		{"cut", proxy.Cut, func() {}},
		{"half closed", proxy.HalfClose, func() {}},
		{"frozen", func() { proxy.Freeze(true) }, func() { proxy.Freeze(false) }},
		{"refused", func() { proxy.Refuse(true); proxy.Cut() }, func() { proxy.Refuse(false) }},
		{"restarted", srv.Kill, func() { srv.Restart(t) }},
	} {
		before := len(a.Downs())
		fault.strike()
		l.Until(fault.what+": noticed", func() bool { return len(a.Downs()) > before })
		c.Socket().Join("late")
		c.Socket().Leave("late")
		fault.mend()
		works(fault.what)
	}
}

func TestShardedRing(t *testing.T) {
	l := newLab(t)
	ring := goredis.NewRing(&goredis.RingOptions{})
	defer ring.Close()
	startSharded(l, ring, redis.ShardedOptions{}).Says("Ring")
}
