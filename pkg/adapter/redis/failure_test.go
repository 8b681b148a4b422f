package redis_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/seed-0b620db0/patchbay/internal/redistest"
	"github.com/seed-0b620db0/patchbay/internal/siotest"
	"github.com/seed-0b620db0/patchbay/pkg/adapter"
	"github.com/seed-0b620db0/patchbay/pkg/adapter/internal/lab"
	"github.com/seed-0b620db0/patchbay/pkg/adapter/redis"
)

func TestRestart(t *testing.T) {
	l := newLab(t)
	s := redistest.Start(t)
	a, b := newNode(l, client(t, s.Addr()), redis.Options{}), newNode(l, client(t, s.Addr()), redis.Options{})
	local, remote := a.Client("/"), b.Client("/")
	g := a.Load(local)
	l.Increasing(remote, -1, 100)

	s.Kill()
	a.AwaitDown(1)
	b.AwaitDown(1)
	outage := 5 * time.Second
	time.Sleep(outage) // this is the test
	remote.Take()      // what came before
	begin := time.Now()
	s.Restart(t)
	first, ok := remote.Next()
	d := time.Since(begin)
	i, isNumber := lab.Number(first)
	if !ok || !isNumber || d > time.Second+siotest.Patience/20 {
		t.Errorf("got %q %v after Redis came back", first, d)
	}
	slowest := time.Duration(g.Slowest.Load())
	t.Logf("delivery resumed %v after Redis came back, the slowest emission took %v", d, slowest)
	l.Increasing(remote, i, i+100)
	g.End()
	if slowest > 2*time.Second {
		t.Errorf("an emission took %v", slowest)
	}
	if a.Failed.Load() < 1000 || a.Published.Load() < 100 {
		t.Errorf("%d of %d failed", a.Failed.Load(), g.Emitted.Load())
	}
}

func TestConnectionsAreKilled(t *testing.T) {
	l := newLab(t)
	s := redistest.Start(t)
	a, b := newNode(l, client(t, s.Addr()), redis.Options{}), newNode(l, client(t, s.Addr()), redis.Options{})
	local, remote := a.Client("/"), b.Client("/")
	g := a.Load(local)
	last := -1
	for i := range 5 {
		for _, kind := range []string{"pubsub", "normal"} {
			if _, err := s.Do("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes"); err != nil {
				t.Fatal(err)
			}
			if kind == "pubsub" {
				a.AwaitDown(i + 1)
				b.AwaitDown(i + 1)
			}
			last += 50
			for got := -1; got <= last; { // numbers never come twice, nor in another order
				p, _ := remote.Next()
				n, ok := lab.Number(p)
				if !ok || n <= got {
					t.Fatalf("got %q after %d", p, got)
				}
				got = n
			}
			last = int(g.Emitted.Load())
		}
	}
	g.End()
	t.Logf("%d of %d failed", a.Failed.Load(), g.Emitted.Load())
}

// TestOverflow lets Redis cut off a node that does not read fast enough.
func TestOverflow(t *testing.T) {
	l := newLab(t)
	s := redistest.Start(t, "--client-output-buffer-limit", "pubsub 1mb 1mb 1")
	p := redistest.NewProxy(t, s.Addr())
	a, b := newNode(l, client(t, s.Addr()), redis.Options{}), newNode(l, client(t, p.Addr()), redis.Options{})
	remote := b.Client("/")
	p.FreezeServer(true)
	large := strings.Repeat("x", 200<<10)
	l.Until("Redis cuts it off", func() bool {
		if err := a.To("nobody").Emit(t.Context(), "large", large); err != nil {
			t.Fatal(err)
		}
		n, err := a.ServerCount()
		return err == nil && n == 1
	})
	p.FreezeServer(false)
	if err := b.AwaitDown(1); errors.Is(err, redis.ErrDeaf) {
		t.Error("it should not take a canary:", err)
	}
	l.Eventually(a, remote, 0)
	a.AwaitNodes(2)
}

// TestDeaf has connections that seem to be fine while nothing goes through.
func TestDeaf(t *testing.T) {
	l := newLab(t)
	s := redistest.Start(t)
	a := newNode(l, client(t, s.Addr()), redis.Options{})
	o := redis.Options{CanaryInterval: 50 * time.Millisecond, CanaryTimeout: time.Second, Timeout: 300 * time.Millisecond}
	p := redistest.NewProxy(t, s.Addr())
	b := newNode(l, client(t, p.Addr()), o)
	remote := b.Client("/")
	next := l.Eventually(a, remote, 0) + 1
	down := 1
	for name, freeze := range map[string]func(bool){
		"both directions": p.Freeze, "the subscription": p.FreezeServer, "what is sent": p.FreezeClient,
	} {
		begin := time.Now()
		freeze(true)
		if err := b.AwaitDown(down); !errors.Is(err, redis.ErrDeaf) {
			t.Errorf("%s: %v", name, err)
		}
		d := time.Since(begin)
		freeze(false)
		next = l.Eventually(a, remote, next) + 1
		b.AwaitUp("/")
		down = len(b.Downs()) + 1
		t.Logf("%s: deaf after %v", name, d)
		if d < o.CanaryTimeout-2*o.CanaryInterval || d > o.CanaryTimeout+siotest.Patience/10 {
			t.Errorf("%s: deaf after %v", name, d)
		}
	}
	a.StayedUp()

	canaries := b.Canaries.Load()
	p.Delay(30 * time.Millisecond)
	l.Until("canaries come late", func() bool {
		return b.Canaries.Load() > canaries+5 && b.Lag.Load() > int64(50*time.Millisecond)
	})
	if err := b.State("/"); err != nil {
		t.Error("slow is not deaf:", err)
	}
	p.Delay(0)
	p.HalfClose()
	b.AwaitDown(down)
	l.Eventually(a, remote, next)
}

// TestMute has a node that may not publish: it should not seem to be up.
func TestMute(t *testing.T) {
	l := newLab(t)
	s := redistest.Start(t)
	if _, err := s.Do("ACL", "SETUSER", "mute", "on", ">secret", "+@all", "-publish", "~*", "&*"); err != nil {
		t.Fatal(err)
	}
	rdb := goredis.NewClient(&goredis.Options{Addr: s.Addr(), Username: "mute", Password: "secret"})
	t.Cleanup(func() { _ = rdb.Close() })
	n := startNode(l, rdb, redis.Options{})
	if err := n.AwaitDown(1); !strings.Contains(err.Error(), "NOPERM") || !strings.Contains(err.Error(), "publish") {
		t.Error(err)
	}
	c := n.Client("/")
	if err := n.Emit(t.Context(), "local"); !errors.Is(err, adapter.ErrDown) {
		t.Error(err)
	}
	c.Want(`2["local"]`)
	if _, err := s.Do("ACL", "SETUSER", "mute", "+publish"); err != nil {
		t.Fatal(err)
	}
	n.AwaitUp("/")
}

// TestForbiddenNamespace must not take the others with it.
func TestForbiddenNamespace(t *testing.T) {
	l := newLab(t)
	s := redistest.Start(t)
	if _, err := s.Do("ACL", "SETUSER", "user", "on", ">secret", "+@all", "~*", "&socket.io#/#*", "&socket.io-*#/#*", "&socket.io-canary#*"); err != nil {
		t.Fatal(err)
	}
	rdb := goredis.NewClient(&goredis.Options{Addr: s.Addr(), Username: "user", Password: "secret"})
	t.Cleanup(func() { _ = rdb.Close() })
	n := newNode(l, rdb, redis.Options{})
	n.Of("/forbidden")
	l.Until("the reason is known", func() bool {
		err := n.State("/forbidden")
		return err != nil && strings.Contains(err.Error(), "NOPERM")
	})
	remote := newNode(l, rdb, redis.Options{}).Client("/")
	l.Eventually(n, remote, 0)
	n.StayedUp()
}

func TestPassword(t *testing.T) {
	l := newLab(t)
	s := redistest.Start(t)
	if _, err := s.Do("CONFIG", "SET", "requirepass", "secret"); err != nil {
		t.Fatal(err)
	}
	for password, want := range map[string]string{"": "NOAUTH", "wrong": "WRONGPASS"} {
		rdb := goredis.NewClient(&goredis.Options{Addr: s.Addr(), Password: password})
		t.Cleanup(func() { _ = rdb.Close() })
		n := startNode(l, rdb, redis.Options{})
		if err := n.AwaitDown(1); !strings.Contains(err.Error(), want) {
			t.Errorf("password %q: %v", password, err)
		}
	}
	rdb := goredis.NewClient(&goredis.Options{Addr: s.Addr(), Password: "secret"})
	t.Cleanup(func() { _ = rdb.Close() })
	newNode(l, rdb, redis.Options{})
}

// TestNobodyThere opens, publishes and closes while there is no Redis at all, or one that does not answer.
func TestNobodyThere(t *testing.T) {
	l := newLab(t)
	s := redistest.Start(t)
	p := redistest.NewProxy(t, redistest.Start(t).Addr())
	p.Freeze(true)
	s.Kill()
	waiting := startNode(l, client(t, s.Addr()), redis.Options{Timeout: siotest.Patience}) // dials all the time
	waiting.Says("refused")
	waiting.Stop()
	for name, addr := range map[string]string{"dead": s.Addr(), "silent": p.Addr()} {
		n := startNode(l, client(t, addr), redis.Options{Timeout: 300 * time.Millisecond})
		c := n.Client("/")
		begin := time.Now()
		for i := range 100 {
			if err := n.Emit(t.Context(), lab.Numbered, i); !errors.Is(err, adapter.ErrDown) {
				t.Errorf("%s: %v", name, err)
			}
			c.Want(fmt.Sprintf(`2["n",%d]`, i))
		}
		if d := time.Since(begin); d > 5*time.Second {
			t.Errorf("%s: it took %v to fail", name, d)
		}
		err := n.AwaitDown(1)
		t.Logf("%s: %v", name, err)
		begin = time.Now()
		n.Stop()
		if d := time.Since(begin); d > 4*time.Second {
			t.Errorf("%s: it took %v to close", name, d)
		}
	}
	ring := goredis.NewRing(&goredis.RingOptions{Addrs: map[string]string{"a": p.Addr()}})
	t.Cleanup(func() { _ = ring.Close() })
	n := startNode(l, ring, redis.Options{})
	if err := n.AwaitDown(1); !strings.Contains(err.Error(), "Ring") {
		t.Error(err)
	}
}

// TestPublishIsBounded publishes through connections that swallow everything: in memory and time, and all is counted.
func TestPublishIsBounded(t *testing.T) {
	l := newLab(t)
	s := redistest.Start(t)
	p := redistest.NewProxy(t, s.Addr())
	n := newNode(l, client(t, p.Addr()), redis.Options{
		MaxQueueBytes: 1 << 20, Timeout: 500 * time.Millisecond, Cluster: adapter.Options{PublishTimeout: 50 * time.Millisecond},
		CanaryTimeout: time.Second, CanaryInterval: 100 * time.Millisecond,
	})
	c := n.Client("/")
	p.Freeze(true)
	payload := strings.Repeat("x", 100<<10)
	begin := time.Now()
	full, down := 0, 0
	emitted := int64(0)
	for down == 0 {
		err := n.Emit(t.Context(), "large", payload)
		emitted++
		switch {
		case errors.Is(err, adapter.ErrFull):
			full++
		case errors.Is(err, adapter.ErrDown):
			down++
		}
		if p, ok := c.Next(); !ok || !strings.HasPrefix(p, `2["large"`) {
			t.Fatalf("local delivery: %.20q", p)
		}
		if time.Since(begin) > siotest.Patience {
			t.Fatal("it never goes down")
		}
	}
	if full == 0 {
		t.Error("the queue takes everything")
	}
	l.Until("all is counted", func() bool { return n.Published.Load()+n.Failed.Load() == emitted })
	t.Logf("%d of %d failed, %d of them as the queue was full", n.Failed.Load(), emitted, full)
	begin = time.Now()
	n.Stop()
	if d := time.Since(begin); d > 4*time.Second {
		t.Errorf("it took %v to close", d)
	}
}

// TestGhost loses a connection in a way that Redis does not notice: the node must not count twice.
func TestGhost(t *testing.T) {
	canaries := redis.Options{CanaryInterval: 50 * time.Millisecond, CanaryTimeout: time.Second, Timeout: 300 * time.Millisecond}
	for name, start := range map[string]func(l *lab.Lab, rdb goredis.UniversalClient) *node{
		"classic": func(l *lab.Lab, rdb goredis.UniversalClient) *node { return startNode(l, rdb, canaries) },
		"sharded": func(l *lab.Lab, rdb goredis.UniversalClient) *node {
			return startSharded(l, rdb, redis.ShardedOptions{
				CanaryInterval: canaries.CanaryInterval, CanaryTimeout: canaries.CanaryTimeout, Timeout: canaries.Timeout,
			})
		},
		"streams": func(l *lab.Lab, rdb goredis.UniversalClient) *node {
			return startStreams(l, rdb, redis.StreamsOptions{Timeout: canaries.Timeout})
		},
	} {
		t.Run(name, func(t *testing.T) { testGhost(t, start) })
	}
}

func testGhost(t *testing.T, start func(l *lab.Lab, rdb goredis.UniversalClient) *node) {
	t.Helper()
	l := newLab(t)
	s := redistest.Start(t)
	p := redistest.NewProxy(t, s.Addr())
	var addr atomic.Pointer[string]
	addr.Store(new(p.Addr()))
	rdb := goredis.NewClient(&goredis.Options{
		Addr: s.Addr(),
		Dialer: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, *addr.Load())
		},
	})
	t.Cleanup(func() { _ = rdb.Close() })
	a, b := start(l, client(t, s.Addr())), start(l, rdb)
	a.AwaitUp("/")
	b.AwaitUp("/")
	l.Eventually(a, b.Client("/"), 0)
	if _, err := a.FetchSockets(t.Context()); err != nil { // from now on they know each other
		t.Fatal(err)
	}
	if _, err := b.FetchSockets(t.Context()); err != nil {
		t.Fatal(err)
	}

	p.Freeze(true)
	addr.Store(new(s.Addr()))
	b.AwaitDown(1)
	b.AwaitUp("/")
	if n := len(pubsubClients(t, s)); n != 3 {
		t.Fatalf("%d subscribers: there is no ghost", n)
	}
	for _, n := range []*node{a, b} {
		n.AwaitNodes(2) // the client has to find out what is lost
		l.Until("all answer", func() bool {
			sockets, err := n.FetchSockets(t.Context())
			return len(sockets) == 1 && err == nil
		})
	}
	p.Freeze(false)
}

// TestSlowSubscription has Redis hear of the subscription after what is published over another connection: the first canary
// must not be lost.
func TestSlowSubscription(t *testing.T) {
	l := newLab(t)
	s := redistest.Start(t)
	p := redistest.NewProxy(t, s.Addr())
	p.Delay(50 * time.Millisecond)
	var dialled atomic.Int64
	rdb := goredis.NewClient(&goredis.Options{
		Addr: s.Addr(),
		Dialer: func(ctx context.Context, network, addr string) (net.Conn, error) {
			if dialled.Add(1) == 1 {
				addr = p.Addr()
			}
			return new(net.Dialer).DialContext(ctx, network, addr)
		},
	})
	t.Cleanup(func() { _ = rdb.Close() })
	n := newNode(l, rdb, redis.Options{CanaryInterval: time.Hour, CanaryTimeout: 2 * time.Hour})
	n.StayedUp()
}
