package redis_test

import (
	"fmt"
	"strings"
	"testing"

	goredis "github.com/redis/go-redis/v9"

	"github.com/seed-0b620db0/patchbay/internal/redistest"
	"github.com/seed-0b620db0/patchbay/internal/siotest"
	"github.com/seed-0b620db0/patchbay/pkg/adapter/internal/lab"
	"github.com/seed-0b620db0/patchbay/pkg/adapter/redis"
)

// node is a server of a cluster, with what its hooks were told.
type node = lab.Node

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
	n := l.NewNode()
	o.Cluster.Hooks = n.Hooks()
	n.Serve(redis.New(rdb, &o))
	return n
}

// newNode starts a server whose bus is up.
func newNode(l *lab.Lab, rdb goredis.UniversalClient, o redis.Options) *node {
	l.Helper()
	n := startNode(l, rdb, o)
	n.AwaitUp("/")
	return n
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
