package adapter_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-0b620db0/patchbay/pkg/adapter"
	"github.com/seed-0b620db0/patchbay/pkg/adapter/adaptertest"
	"github.com/seed-0b620db0/patchbay/pkg/adapter/internal/lab"
	"github.com/seed-0b620db0/patchbay/pkg/sio"
)

// rig is a cluster over a network in memory.
type rig struct {
	*lab.Lab
	net   *adaptertest.Network
	nodes []*node

	mu        sync.Mutex
	published []adapter.Message
}

// node is a server of it, which keeps what its hooks were told.
type node struct {
	*lab.Server
	failed, dropped, states, requests, counts, closed lab.Log
}

// network returns options whose messages the rig keeps.
func (r *rig) tap(m *adapter.Message) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.published = append(r.published, *m)
}

// types returns what was published since the last call.
func (r *rig) types() []adapter.Type {
	r.mu.Lock()
	defer r.mu.Unlock()
	var types []adapter.Type
	for _, m := range r.published {
		types = append(types, m.Type)
	}
	r.published = nil
	return types
}

// bubble runs f with a cluster of n nodes, in a bubble.
func bubble(t *testing.T, o adaptertest.NetworkOptions, n int, f func(t *testing.T, r *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, o, true)
		for range n {
			r.add(adapter.Options{})
		}
		synctest.Wait()
		f(t, r)
	})
}

func newRig(t testing.TB, o adaptertest.NetworkOptions, inBubble bool) *rig {
	t.Helper()
	r := &rig{Lab: lab.New(t, inBubble)}
	o.Tap = r.tap
	r.net = adaptertest.NewNetwork(&o)
	return r
}

// add adds a node, whose name is "n" and its number.
func (r *rig) add(o adapter.Options) *node {
	i := len(r.nodes)
	o.Node = fmt.Sprintf("n%d", i)
	n := new(node)
	o.Hooks = n.hooks()
	n.Server = r.Server(&sio.Options{Adapter: adapter.Cluster(r.net.Open(i), &o), CleanupEmptyChildNamespaces: true})
	r.nodes = append(r.nodes, n)
	return n
}

func (n *node) hooks() adapter.Hooks {
	return adapter.Hooks{
		State:         func(ns string, err error) { n.states.Add(fmt.Sprintf("%s %v", ns, err)) },
		Closed:        n.closed.Add,
		PublishFailed: func(_ string, t adapter.Type, err error) { n.failed.Add(fmt.Sprintf("%s: %v", t, err)) },
		Dropped:       func(_ string, err error) { n.dropped.Add(err.Error()) },
		Request: func(_ string, t adapter.Type, d time.Duration, err error) {
			n.requests.Add(fmt.Sprintf("%s %v: %v", t, d, err))
		},
		Nodes: func(_ string, nodes int) { n.counts.Add(fmt.Sprint(nodes)) },
	}
}

// clients connects one client to each node.
func (r *rig) clients(rooms ...string) []*lab.Client {
	out := make([]*lab.Client, len(r.nodes))
	for i, n := range r.nodes {
		out[i] = n.Client("/", rooms...)
	}
	return out
}

// name returns the names of nodes without what makes them unique.
func names(ids []adapter.NodeID) []string {
	var out []string
	for _, id := range ids {
		name, _, _ := strings.Cut(string(id), ".")
		out = append(out, name)
	}
	return out
}

// gather calls EmitWithAck and returns what it yields, as text.
func gather(ctx context.Context, b sio.Broadcast, event string) (answers []string, errs []error) {
	for args, err := range b.EmitWithAck(ctx, event) {
		if err != nil {
			errs = append(errs, err)
			continue
		}
		answers = append(answers, text(args))
	}
	slices.Sort(answers)
	return answers, errs
}

func text(a sio.Args) string {
	var all []string
	for _, v := range a.All() {
		all = append(all, string(v.JSON))
	}
	return strings.Join(all, " ")
}

// ids returns the ids of sockets, sorted.
func ids(sockets []sio.RemoteSocket) []string {
	var out []string
	for _, s := range sockets {
		out = append(out, s.ID)
	}
	slices.Sort(out)
	return out
}

func clientIDs(clients ...*lab.Client) []string {
	var out []string
	for _, c := range clients {
		out = append(out, c.ID)
	}
	slices.Sort(out)
	return out
}

// bothKinds runs f over buses that know who listens, and over others.
func bothKinds(t *testing.T, n int, f func(t *testing.T, r *rig)) {
	t.Helper()
	for name, o := range map[string]adaptertest.NetworkOptions{"census": {}, "heartbeats": {Heartbeats: true}} {
		t.Run(name, func(t *testing.T) { bubble(t, o, n, f) })
	}
}
