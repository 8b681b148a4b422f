package redis_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
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

// node is a server of a cluster, with what its hooks were told.
type node struct {
	*lab.Server
	lab *lab.Lab

	published, failed, received, dropped, canaries atomic.Int64
	lag                                            atomic.Int64 // the longest
	faults                                         lab.Log      // what was dropped, and why

	mu sync.Mutex
	// guarded by mu
	states map[string]error
	downs  []error // of "/", in turn
}

var errUnknown = errors.New("nothing was said")

// newLab begins a test: it fails if goroutines are left behind.
func newLab(t testing.TB) *lab.Lab {
	t.Helper()
	siotest.LeakCheck(t)
	return lab.New(t, false)
}

// client returns a client of a server, with short time-outs, as tests have no time.
func client(t testing.TB, addr string) *goredis.Client {
	t.Helper()
	c := goredis.NewClient(&goredis.Options{Addr: addr, DialerRetries: 1, PoolSize: 4})
	t.Cleanup(func() { _ = c.Close() }) // the test may have closed it
	return c
}

// startNode starts a server and does not wait for its bus.
func startNode(l *lab.Lab, rdb goredis.UniversalClient, o redis.Options) *node {
	n := &node{lab: l, states: map[string]error{}}
	n.Server = l.Server(&sio.Options{Adapter: redis.New(rdb, n.options(o)), CleanupEmptyChildNamespaces: true, MaxChildNamespaces: 1 << 16})
	return n
}

// options returns o with hooks that tell n.
func (n *node) options(o redis.Options) *redis.Options {
	o.Cluster.Hooks = adapter.Hooks{
		State: func(ns string, err error) {
			n.mu.Lock()
			defer n.mu.Unlock()
			n.states[ns] = err
			if ns == "/" && err != nil {
				n.downs = append(n.downs, err)
			}
		},
		Closed: func(ns string) {
			n.mu.Lock()
			defer n.mu.Unlock()
			delete(n.states, ns)
		},
		Published:     func(string, adapter.Type, int, time.Duration) { n.published.Add(1) },
		PublishFailed: func(string, adapter.Type, error) { n.failed.Add(1) },
		Received:      func(string, adapter.Type, int) { n.received.Add(1) },
		Dropped: func(_ string, err error) {
			n.dropped.Add(1)
			n.faults.Add(err.Error())
		},
		Lag: func(d time.Duration) {
			n.canaries.Add(1)
			n.lag.Store(max(n.lag.Load(), int64(d)))
		},
	}
	return &o
}

// newNode starts a server whose bus is up.
func newNode(l *lab.Lab, rdb goredis.UniversalClient, o redis.Options) *node {
	l.Helper()
	n := startNode(l, rdb, o)
	n.awaitUp("/")
	return n
}

func (n *node) state(ns string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	err, ok := n.states[ns]
	if !ok {
		return errUnknown
	}
	return err
}

func (n *node) awaitUp(ns string) {
	n.lab.Helper()
	n.lab.Until("the bus is up", func() bool { return n.state(ns) == nil })
}

// awaitDown waits until "/" has been down for the nth time, not counting the time before it was up first.
func (n *node) awaitDown(times int) error {
	n.lab.Helper()
	var err error
	n.lab.Until("the bus goes down", func() bool {
		n.mu.Lock()
		defer n.mu.Unlock()
		if len(n.downs) <= times {
			return false
		}
		err = n.downs[times]
		return true
	})
	return err
}

// stayedUp fails if "/" was down after it was up first.
func (n *node) stayedUp() {
	n.lab.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.downs) > 1 {
		n.lab.Error("it was down:", n.downs[1:])
	}
}

// awaitNodes waits until a node sees so many.
func (n *node) awaitNodes(want int) {
	n.lab.Helper()
	n.lab.Until(fmt.Sprintf("%d nodes", want), func() bool {
		got, err := n.ServerCount()
		return err == nil && got == want
	})
}

// ServerCount asks the adapter of "/".
func (n *node) ServerCount() (int, error) {
	ctx, cancel := context.WithTimeout(context.Background(), siotest.Patience)
	defer cancel()
	return n.Adapter().ServerCount(ctx)
}

// numbered is an event whose argument is a number.
const numbered = "n"

func number(packet string) (i int, ok bool) {
	_, err := fmt.Sscanf(packet, `2["n",%d]`, &i)
	return i, err == nil
}

// eventually emits numbers from one node until a client of another has one of them, and returns it.
func eventually(l *lab.Lab, from *node, to *lab.Client, start int) int {
	l.Helper()
	got := -1
	l.Until("delivery", func() bool {
		_ = from.Emit(l.Context(), numbered, start) // while it is down
		start++
		for _, p := range to.Take() {
			if i, ok := number(p); ok {
				got = i
			}
		}
		return got >= 0
	})
	return got
}

// pubsubClients returns the subscribing connections of a server.
func pubsubClients(t testing.TB, s *redistest.Server) (lines []string) {
	t.Helper()
	v, err := s.Do("CLIENT", "LIST", "TYPE", "pubsub")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(strings.TrimPrefix(fmt.Sprint(v), "txt:")) {
		if strings.Contains(line, "id=") {
			lines = append(lines, line)
		}
	}
	return lines
}
