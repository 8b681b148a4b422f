package redis_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed-0b620db0/patchbay/internal/redistest"
	"github.com/seed-0b620db0/patchbay/pkg/adapter/internal/lab"
	"github.com/seed-0b620db0/patchbay/pkg/adapter/redis"
)

// subscribers returns the numbers of servers that somebody subscribes to, and how many.
func subscribers(t *testing.T, c *redistest.Cluster, alive ...int) map[int]int {
	t.Helper()
	found := map[int]int{}
	for _, i := range alive {
		if n := len(pubsubClients(t, c.Servers[i])); n > 0 {
			found[i] = n
		}
	}
	return found
}

func TestRedisCluster(t *testing.T) {
	l := newLab(t)
	c := redistest.StartCluster(t)
	var nodes []*node
	var clients []*lab.Client
	for len(nodes) < 6 || len(subscribers(t, c, 0, 1, 2)) < 2 {
		n := newNode(l, c.Client(t), redis.Options{CanaryInterval: 100 * time.Millisecond})
		nodes = append(nodes, n)
		clients = append(clients, n.Client("/", "r"))
	}
	all := func(next int) int {
		t.Helper()
		for _, from := range nodes {
			for _, to := range clients {
				next = l.Eventually(from, to, next) + 1
			}
		}
		return next
	}
	for _, n := range nodes {
		n.AwaitNodes(len(nodes))
	}
	next := all(0)
	must(t, nodes[0].To("r").Emit(t.Context(), "room"))
	must(t, nodes[0].Emit(t.Context(), "after"))
	for _, to := range clients {
		var got []string
		for len(got) < 2 {
			p, ok := to.Next()
			if !ok {
				t.Fatal("not delivered")
			}
			if _, ok := lab.Number(p); !ok { // those of other nodes may still come
				got = append(got, p)
			}
		}
		if !slices.Equal(got, []string{`2["room"]`, `2["after"]`}) {
			t.Errorf("got %q", got)
		}
	}
	if sockets, err := nodes[1].FetchSockets(t.Context()); err != nil || len(sockets) != len(nodes) {
		t.Errorf("%d sockets, %v", len(sockets), err)
	}
	for _, n := range nodes {
		n.StayedUp()
	}

	// A master dies; nobody takes its place yet.
	dead := 0
	for i := range subscribers(t, c, 0, 1, 2) {
		dead = i
	}
	c.Kill(dead)
	next = all(next)
	heir := (dead + 1) % 3
	c.Adopt(t, dead, heir)
	all(next)
	for _, n := range nodes {
		n.AwaitNodes(len(nodes))
	}
}

// TestRedisClusterFailover makes a replica of the master that the nodes subscribe to, which cuts nobody off.
func TestRedisClusterFailover(t *testing.T) {
	l := newLab(t)
	c := redistest.StartCluster(t)
	o := redis.Options{CanaryInterval: 50 * time.Millisecond}
	a, b := newNode(l, c.Client(t), o), newNode(l, c.Client(t), o)
	old := 0
	for i := range subscribers(t, c, 0, 1, 2) {
		old = i
	}
	replica := c.Replicate(t, old)
	if _, err := c.Servers[replica].Do("CLUSTER", "FAILOVER"); err != nil {
		t.Fatal(err)
	}
	l.Until("nobody subscribes to a replica", func() bool {
		role, err := c.Servers[old].Do("ROLE")
		roles, _ := role.([]any)
		return err == nil && len(roles) > 0 && roles[0] == "slave" && len(subscribers(t, c, old)) == 0
	})
	a.AwaitNodes(2)
	b.AwaitNodes(2)
	l.Eventually(a, b.Client("/"), 0)
	for _, n := range []*node{a, b} {
		for _, err := range n.Downs() {
			if !strings.Contains(err.Error(), "no master") {
				t.Error(err)
			}
		}
	}
}
