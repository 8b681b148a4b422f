package postgres_test

import (
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/seed-0b620db0/patchbay/internal/pgtest"
	"github.com/seed-0b620db0/patchbay/internal/redistest"
	"github.com/seed-0b620db0/patchbay/internal/siotest"
	"github.com/seed-0b620db0/patchbay/pkg/adapter"
	"github.com/seed-0b620db0/patchbay/pkg/adapter/internal/lab"
	"github.com/seed-0b620db0/patchbay/pkg/adapter/postgres"
)

// node is a server of a cluster, with what its hooks were told.
type node struct {
	*lab.Node

	written, read, missed, recovered, cleaned atomic.Int64

	mu sync.Mutex
	// guarded by mu
	gaps  []time.Duration
	usage []float64
}

// newLab begins a test: it fails if goroutines are left behind.
func newLab(t testing.TB) *lab.Lab {
	t.Helper()
	siotest.LeakCheck(t)
	return lab.New(t, false)
}

// impatient has time-outs for tests.
func impatient() postgres.Options {
	return postgres.Options{
		CanaryInterval: 50 * time.Millisecond, CanaryTimeout: time.Second, Timeout: 500 * time.Millisecond,
		Cluster: adapter.Options{MaxBackoff: 200 * time.Millisecond},
	}
}

// startNode starts a server and does not wait for its bus.
func startNode(l *lab.Lab, pool *pgxpool.Pool, o postgres.Options) *node {
	n := &node{Node: l.NewNode()}
	o.Cluster.Hooks = n.Hooks()
	o.Hooks = postgres.Hooks{
		AttachmentWritten: func(string, int) { n.written.Add(1) },
		AttachmentRead:    func(string, int) { n.read.Add(1) },
		AttachmentMissed:  func(string) { n.missed.Add(1) },
		Recovered:         func(string) { n.recovered.Add(1) },
		Cleaned:           func(rows int64) { n.cleaned.Add(rows) },
		Gap: func(d time.Duration) {
			n.mu.Lock()
			defer n.mu.Unlock()
			n.gaps = append(n.gaps, d)
		},
		QueueUsage: func(fraction float64) {
			n.mu.Lock()
			defer n.mu.Unlock()
			n.usage = append(n.usage, fraction)
		},
	}
	n.Serve(postgres.New(pool, &o))
	return n
}

// newNode starts a server whose bus is up.
func newNode(l *lab.Lab, pool *pgxpool.Pool, o postgres.Options) *node {
	l.Helper()
	n := startNode(l, pool, o)
	n.AwaitUp("/")
	return n
}

func (n *node) gap() []time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.gaps
}

// through returns a pool that leads through a proxy.
func through(t testing.TB, s *pgtest.Server) (*pgxpool.Pool, *redistest.Proxy) {
	t.Helper()
	p := redistest.NewProxy(t, s.Addr())
	return pgtest.PoolOf(t, strings.Replace(s.URL(), s.Addr(), p.Addr(), 1)), p
}
