package adaptertest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-0b620db0/patchbay/internal/siotest"
	"github.com/seed-0b620db0/patchbay/pkg/adapter"
	"github.com/seed-0b620db0/patchbay/pkg/adapter/internal/lab"
	"github.com/seed-0b620db0/patchbay/pkg/sio"
)

// Backend is a cluster whose bus is under test.
type Backend struct {
	// Adapter makes the adapter of a node; nodes are counted from 0. The suite has its own hooks, names and timeouts.
	Adapter func(node int, opts adapter.Options) sio.NewAdapter
	// Cut, if not nil, breaks all links of a node, for good until heal is called. It is called once for a node.
	Cut func(node int) (heal func())
	// Hostile, if not nil, sends to the nodes of a namespace whatever can come over the wire: what they cannot make sense
	// of, and what they can but should not believe, as long as it is meant to do nothing.
	Hostile func(namespace string)
	// Nameless tells that responses do not say whose they are, so that it is not known whose clients have yet to answer.
	Nameless bool
}

// Run runs the suite. setup is called for each test.
func Run(t *testing.T, setup func(t *testing.T) Backend) {
	t.Helper()
	run(t, false, setup)
}

// RunInBubble runs the suite, each test in a bubble of testing/synctest, in which setup is called.
func RunInBubble(t *testing.T, setup func(t *testing.T) Backend) {
	t.Helper()
	run(t, true, setup)
}

var tests = map[string]func(*suite){
	"broadcast/targets":    broadcastTargets,
	"broadcast/values":     broadcastValues,
	"broadcast/odd rooms":  broadcastOddRooms,
	"broadcast/volatile":   broadcastVolatile,
	"broadcast/large":      broadcastLarge,
	"broadcast/order":      broadcastOrder,
	"rooms":                roomsOfOthers,
	"disconnect":           disconnectOthers,
	"fetch":                fetchSockets,
	"remote socket":        remoteSocket,
	"server events":        serverEvents,
	"server events/ack":    serverEventsWithAck,
	"server events/order":  serverEventsInOrder,
	"acks":                 acks,
	"acks/late":            acksLate,
	"namespaces":           namespaces,
	"namespaces/on demand": namespacesOnDemand,
	"node leaves":          nodeLeaves,
	"node comes":           nodeComes,
	"node dies":            nodeDies,
	"bus breaks":           busBreaks,
	"hostile":              hostile,
	"everything at a time": everything,
}

func run(t *testing.T, bubble bool, setup func(t *testing.T) Backend) {
	for _, name := range slices.Sorted(maps.Keys(tests)) {
		test := func(t *testing.T) {
			s := &suite{Lab: lab.New(t, bubble), ctx: t.Context, Backend: setup(t), clients: make(map[string][]*lab.Client)}
			s.start(3)
			tests[name](s)
		}
		t.Run(name, func(t *testing.T) {
			if bubble {
				synctest.Test(t, test)
				return
			}
			siotest.LeakCheck(t)
			test(t)
		})
	}
}

// suite is a cluster in a test. There may be clients in several namespaces; those of one are known, so that each can be
// asked what it got.
type suite struct {
	*lab.Lab
	Backend
	ctx     func() context.Context
	nodes   []*node
	clients map[string][]*lab.Client
	fences  int
}

type node struct {
	*lab.Server

	mu sync.Mutex
	// guarded by mu
	up      map[string]bool
	lost    int
	dropped []error
}

// start adds n nodes.
func (s *suite) start(n int) {
	for range n {
		n := &node{up: make(map[string]bool)}
		o := adapter.Options{
			Node: fmt.Sprintf("node-%d", len(s.nodes)), MaxBackoff: 200 * time.Millisecond,
			HeartbeatInterval: 500 * time.Millisecond, HeartbeatTimeout: 5 * time.Second,
			Hooks: adapter.Hooks{State: n.state, Dropped: n.drop},
		}
		n.Server = s.Server(&sio.Options{Adapter: s.Adapter(len(s.nodes), o), CleanupEmptyChildNamespaces: true})
		s.nodes = append(s.nodes, n)
	}
	s.ready("/")
}

func (n *node) state(ns string, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.up[ns] && err != nil {
		n.lost++
	}
	n.up[ns] = err == nil
}

func (n *node) drop(_ string, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.dropped = append(n.dropped, err)
}

func (n *node) isUp(ns string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.up[ns]
}

// ready waits until the nodes know each other in a namespace.
func (s *suite) ready(ns string) {
	s.Helper()
	s.readyNodes(ns, s.nodes...)
}

func (s *suite) readyNodes(ns string, nodes ...*node) {
	s.Helper()
	for _, n := range nodes {
		n.Of(ns)
	}
	for _, n := range nodes {
		s.Until(fmt.Sprintf("%d nodes in %s", len(nodes), ns), func() bool {
			got, err := n.Of(ns).Adapter().ServerCount(s.ctx())
			return err == nil && got == len(nodes) && n.isUp(ns)
		})
	}
}

// client connects a client to a node, and waits until all nodes reach it in its rooms.
func (s *suite) client(n *node, ns string, rooms ...string) *lab.Client {
	s.Helper()
	c := n.Client(ns, rooms...)
	s.clients[ns] = append(s.clients[ns], c)
	s.reachable(c, ns, rooms...)
	return c
}

// reachable waits until all nodes reach a client in rooms: a bus may have to subscribe to them.
func (s *suite) reachable(c *lab.Client, ns string, rooms ...string) {
	s.Helper()
	for _, room := range rooms {
		for _, n := range s.nodes {
			s.Until("a room is reachable", func() bool {
				_ = n.Of(ns).To(room).Emit(s.ctx(), "probe")
				return slices.Contains(s.got(n, ns)[c], `2["probe"]`)
			})
		}
	}
}

// one connects one client to each node.
func (s *suite) one(ns string, rooms ...string) []*lab.Client {
	s.Helper()
	var out []*lab.Client
	for _, n := range s.nodes {
		out = append(out, s.client(n, ns, rooms...))
	}
	return out
}

// forget takes a client out that has no connection any more.
func (s *suite) forget(c *lab.Client) {
	for ns, all := range s.clients {
		s.clients[ns] = slices.DeleteFunc(all, func(other *lab.Client) bool { return other == c })
	}
}

// got returns the packets that the clients of a namespace got before an event that it has n emit: all that n has sent
// before, at least.
func (s *suite) got(n *node, ns string) map[*lab.Client][]string {
	s.Helper()
	s.fences++
	if err := n.Of(ns).Emit(s.ctx(), "fence", s.fences); err != nil {
		s.Fatalf("fence: %v", err)
	}
	out := make(map[*lab.Client][]string)
	for i, c := range s.clients[ns] {
		for fence := fmt.Sprintf(`2["fence",%d]`, s.fences); ; {
			p, ok := c.Next()
			if !ok {
				s.Fatalf("client %d of %s got %q and then nothing", i, ns, out[c])
			}
			if p == fence {
				break
			}
			out[c] = append(out[c], p)
		}
	}
	return out
}

// reaches checks that of the clients of the main namespace those in want, and no others, get one packet from n.
func (s *suite) reaches(what string, n *node, packet string, want ...*lab.Client) {
	s.Helper()
	got := s.got(n, "/")
	for i, c := range s.clients["/"] {
		var expected []string
		if slices.Contains(want, c) {
			expected = []string{packet}
		}
		if !slices.Equal(got[c], expected) {
			s.Errorf("%s: client %d got %q, want %q", what, i, got[c], expected)
		}
	}
}

// must is for what may not fail.
func (s *suite) must(err error) {
	s.Helper()
	if err != nil {
		s.Error(err)
	}
}
