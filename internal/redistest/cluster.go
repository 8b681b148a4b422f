package redistest

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	goredis "github.com/redis/go-redis/v9"

	"github.com/seed-0b620db0/patchbay/internal/daemon"
)

const slots = 16384

// Cluster is a Redis Cluster of masters without replicas, unless [Cluster.Replicate] adds some. Others take over the slots of
// one that died if they are told to, by [Cluster.Adopt]. A majority of the masters must live.
type Cluster struct {
	Servers []*Server // first the masters
	ids     []string
}

// StartCluster runs three masters, which share the slots equally, until the end of the test.
func StartCluster(t testing.TB) *Cluster {
	t.Helper()
	c := &Cluster{}
	const masters = 3
	for i := range masters {
		c.start(t)
		c.do(t, i, "CLUSTER", "SET-CONFIG-EPOCH", i+1)
		c.do(t, i, "CLUSTER", "ADDSLOTSRANGE", i*slots/masters, (i+1)*slots/masters-1)
		if i > 0 {
			c.meet(t, i)
		}
	}
	c.awaitOK(t)
	return c
}

// start adds a server that knows no other yet.
func (c *Cluster) start(t testing.TB) {
	t.Helper()
	bus, err := daemon.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	c.Servers = append(c.Servers, Start(t, "--cluster-enabled", "yes", "--cluster-port", strconv.Itoa(bus),
		"--cluster-node-timeout", "1000", "--cluster-require-full-coverage", "no", "--repl-diskless-sync-delay", "0",
		"--cluster-replica-validity-factor", "0"))
	id, ok := c.do(t, len(c.Servers)-1, "CLUSTER", "MYID").(string)
	if !ok {
		t.Fatal("redistest: a node without an id")
	}
	c.ids = append(c.ids, id)
}

// meet introduces server i to the first.
func (c *Cluster) meet(t testing.TB, i int) {
	t.Helper()
	v, err := c.Servers[i].Do("CONFIG", "GET", "cluster-port")
	if err != nil {
		t.Fatal(err)
	}
	m, _ := v.(map[any]any)
	c.do(t, 0, "CLUSTER", "MEET", loopback, c.Servers[i].port, m["cluster-port"])
}

// Client returns a client that is closed at the end of the test.
func (c *Cluster) Client(t testing.TB) *goredis.ClusterClient {
	t.Helper()
	var addrs []string
	for _, s := range c.Servers {
		addrs = append(addrs, s.Addr())
	}
	client := goredis.NewClusterClient(&goredis.ClusterOptions{Addrs: addrs})
	t.Cleanup(func() { _ = client.Close() }) // the test may have closed it
	return client
}

// Kill ends server i at once.
func (c *Cluster) Kill(i int) { c.Servers[i].Kill() }

// Replicate adds a replica of server i, which takes its place a second or two after it died, and returns its index.
func (c *Cluster) Replicate(t testing.TB, i int) int {
	t.Helper()
	c.start(t)
	n := len(c.Servers) - 1
	c.meet(t, n)
	c.awaitOK(t)
	c.do(t, n, "CLUSTER", "REPLICATE", c.ids[i])
	c.Servers[n].awaitInfo(t, "master_link_status:up")
	await(t, "replicate", func() error { // all know, or they would not vote for it
		return c.each(func(s *Server) error {
			nodes, err := s.Do("CLUSTER", "NODES")
			if text := fmt.Sprint(nodes); err == nil && !strings.Contains(text, "slave "+c.ids[i]) {
				err = errors.New(text)
			}
			return err
		})
	})
	return n
}

// Owner returns the index of the server that has the slot.
func (c *Cluster) Owner(t testing.TB, slot int) int {
	t.Helper()
	var owner int
	await(t, "owner of a slot", func() (err error) {
		owner, err = c.owner(slot)
		return err
	})
	return owner
}

// owner returns the server that has the slot in the eyes of all.
func (c *Cluster) owner(slot int) (int, error) {
	owner := -1
	err := c.each(func(s *Server) error {
		v, err := s.Do("CLUSTER", "SLOTS")
		if err != nil {
			return err
		}
		ranges, _ := v.([]any)
		for _, r := range ranges {
			// from, to, then the master: address, port, id
			r, _ := r.([]any)
			if len(r) < 3 {
				continue
			}
			from, _ := r[0].(int64)
			to, _ := r[1].(int64)
			node, _ := r[2].([]any)
			if int64(slot) < from || int64(slot) > to || len(node) < 3 {
				continue
			}
			id, _ := node[2].(string)
			i := slices.Index(c.ids, id)
			if i < 0 || owner >= 0 && owner != i {
				return fmt.Errorf("slot %d is of %d or of %d", slot, owner, i)
			}
			owner = i
			return nil
		}
		return fmt.Errorf("slot %d is of none", slot)
	})
	return owner, err
}

// MoveSlot moves a slot with its keys to server to, as redis-cli does.
func (c *Cluster) MoveSlot(t testing.TB, slot, to int) {
	t.Helper()
	from := c.Owner(t, slot)
	if from == to {
		return
	}
	c.do(t, to, "CLUSTER", "SETSLOT", slot, "IMPORTING", c.ids[from])
	c.do(t, from, "CLUSTER", "SETSLOT", slot, "MIGRATING", c.ids[to])
	for {
		keys, _ := c.do(t, from, "CLUSTER", "GETKEYSINSLOT", slot, 100).([]any)
		if len(keys) == 0 {
			break
		}
		c.do(t, from, append([]any{"MIGRATE", loopback, c.Servers[to].port, "", 0, Patience.Milliseconds(), "KEYS"}, keys...)...)
	}
	c.do(t, to, "CLUSTER", "SETSLOT", slot, "NODE", c.ids[to])
	c.do(t, from, "CLUSTER", "SETSLOT", slot, "NODE", c.ids[to])
	c.Await(t, slot, to)
}

// Await waits until all servers know that the slot is of server owner.
func (c *Cluster) Await(t testing.TB, slot, owner int) {
	t.Helper()
	await(t, "owner of a slot", func() error {
		i, err := c.owner(slot)
		if err == nil && i != owner {
			err = fmt.Errorf("slot %d is of %d", slot, i)
		}
		return err
	})
}

// Adopt gives the slots of server dead, which must not live, to server heir. Their keys are lost.
func (c *Cluster) Adopt(t testing.TB, dead, heir int) {
	t.Helper()
	var orphans []any
	nodes, _ := c.do(t, heir, "CLUSTER", "NODES").(string)
	for line := range strings.Lines(nodes) {
		fields := strings.Fields(line)
		if len(fields) < 9 || fields[0] != c.ids[dead] {
			continue
		}
		for _, r := range fields[8:] {
			from, to, ok := strings.Cut(r, "-")
			if !ok {
				to = from
			}
			orphans = append(orphans, from, to)
		}
	}
	if err := c.each(func(s *Server) error {
		_, err := s.Do(append([]any{"CLUSTER", "DELSLOTSRANGE"}, orphans...)...)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	c.do(t, heir, append([]any{"CLUSTER", "ADDSLOTSRANGE"}, orphans...)...)
	c.do(t, heir, "CLUSTER", "BUMPEPOCH")
	c.awaitOK(t)
}

// awaitOK waits until the servers that live agree that all slots are served.
func (c *Cluster) awaitOK(t testing.TB) {
	t.Helper()
	await(t, "cluster state", func() error {
		return c.each(func(s *Server) error {
			v, err := s.Do("CLUSTER", "INFO")
			if err != nil {
				return err
			}
			info := fmt.Sprint(v)
			for _, want := range []string{
				"cluster_state:ok", "cluster_slots_ok:" + strconv.Itoa(slots), "cluster_known_nodes:" + strconv.Itoa(len(c.Servers)),
			} {
				if !strings.Contains(info, want+"\r\n") {
					return errors.New(info)
				}
			}
			return nil
		})
	})
}

// each calls f for the servers that live, until one fails.
func (c *Cluster) each(f func(s *Server) error) error {
	for _, s := range c.Servers {
		if s.alive() {
			if err := f(s); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *Cluster) do(t testing.TB, i int, args ...any) any {
	t.Helper()
	v, err := c.Servers[i].Do(args...)
	if err != nil {
		t.Fatalf("redistest: %v on %d: %v", args, i, err)
	}
	return v
}

// Slot returns the slot of a key or channel.
func (c *Cluster) Slot(t testing.TB, key string) int {
	t.Helper()
	slot := -1
	if err := c.each(func(s *Server) error {
		v, err := s.Do("CLUSTER", "KEYSLOT", key)
		if n, ok := v.(int64); ok {
			slot = int(n)
		}
		return err
	}); err != nil || slot < 0 {
		t.Fatalf("redistest: slot %d: %v", slot, err)
	}
	return slot
}
