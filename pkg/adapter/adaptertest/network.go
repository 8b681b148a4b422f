package adaptertest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/seed-0b620db0/patchbay/pkg/adapter"
	"github.com/seed-0b620db0/patchbay/pkg/sio"
)

// inboxSize bounds the messages under way to a node.
const inboxSize = 1024

// NetworkOptions configure a [Network]. The zero value is one without faults that knows who listens.
type NetworkOptions struct {
	// Heartbeats makes buses that are no [adapter.Census].
	Heartbeats bool
	// Nameless takes the sender's name off responses, as classic Redis pub/sub does.
	Nameless bool
	// Tap is called for each message that is published.
	Tap func(m *adapter.Message)

	// The faults, by a generator with this seed: the probabilities that a message is lost or comes twice on its way to a
	// node, and that it takes the node's link with it; and the longest time that it takes.
	Seed                 uint64
	Lose, Duplicate, Cut float64
	Delay                time.Duration
}

// Network joins nodes of one process. It may be used in a bubble of testing/synctest.
type Network struct {
	mu sync.Mutex
	// guarded by mu
	opts  NetworkOptions
	rnd   *rand.Rand
	buses []*bus
	down  map[int]bool
	mute  map[int]bool
}

// NewNetwork returns a network without nodes. opts may be nil.
func NewNetwork(opts *NetworkOptions) *Network {
	n := &Network{down: make(map[int]bool), mute: make(map[int]bool)}
	if opts != nil {
		n.opts = *opts
	}
	n.rnd = rand.New(rand.NewPCG(n.opts.Seed, 1)) //nolint:gosec // faults that can be had again
	return n
}

// Errors of a link.
var (
	ErrCut  = errors.New("adaptertest: link is cut")
	ErrLost = errors.New("adaptertest: link was lost")
)

// Open returns the function that makes the buses of a node. Nodes are told apart by a number.
func (n *Network) Open(node int) adapter.Open {
	return func(_ context.Context, local *sio.Local, self adapter.NodeID) (adapter.Bus, error) {
		n.mu.Lock()
		defer n.mu.Unlock()
		b := &bus{
			net: n, node: node, self: self, ns: local.Namespace(), tap: n.opts.Tap, nameless: n.opts.Nameless,
			inbox: make(chan delivery, inboxSize), done: make(chan struct{}), cut: make(chan error, 1),
		}
		if n.down[node] {
			return nil, ErrCut
		}
		n.buses = append(n.buses, b)
		if n.opts.Heartbeats {
			return b, nil
		}
		return census{b}, nil
	}
}

// Cut breaks the links of a node, which cannot be opened again until heal is called.
func (n *Network) Cut(node int) (heal func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.down[node] = true
	for _, b := range n.buses {
		if b.node == node {
			b.breakWith(ErrCut)
		}
	}
	return func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		delete(n.down, node)
	}
}

// Mute loses what a node publishes, until it is called with false.
func (n *Network) Mute(node int, mute bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.mute[node] = mute
}

// Calm ends the faults, and mends what they have done.
func (n *Network) Calm() {
	n.mu.Lock()
	defer n.mu.Unlock()
	o := &n.opts
	o.Lose, o.Duplicate, o.Cut, o.Delay = 0, 0, 0, 0
	clear(n.down)
	clear(n.mute)
}

// Inject hands a message to all nodes of a namespace, or to node m.To, whatever is in it.
func (n *Network) Inject(ctx context.Context, namespace string, m *adapter.Message) error {
	return n.send(ctx, nil, namespace, m)
}

// send hands m to the inboxes of those that it is for.
func (n *Network) send(ctx context.Context, from *bus, ns string, m *adapter.Message) error {
	var err error
	for _, d := range n.route(from, ns, m) {
		select {
		case d.to.inbox <- d: // even if ctx is done
			continue
		default:
		}
		select {
		case d.to.inbox <- d:
		case <-d.to.done:
		case <-ctx.Done():
			err = fmt.Errorf("%w: %w", adapter.ErrFull, context.Cause(ctx))
		}
	}
	return err
}

// delivery is a message on its way to a node.
type delivery struct {
	m  *adapter.Message
	to *bus
	at time.Time
}

// route decides on what becomes of a message.
func (n *Network) route(from *bus, ns string, m *adapter.Message) []delivery {
	n.mu.Lock()
	defer n.mu.Unlock()
	if from != nil && n.mute[from.node] {
		return nil
	}
	o := &n.opts
	var out []delivery
	for _, to := range n.buses {
		if to == from || to.ns != ns || m.To != "" && m.To != to.self || n.chance(o.Lose) {
			continue
		}
		d := delivery{m, to, time.Now()}
		if o.Delay > 0 {
			d.at = d.at.Add(time.Duration(n.rnd.Int64N(int64(o.Delay))))
		}
		out = append(out, d)
		if n.chance(o.Duplicate) {
			out = append(out, d)
		}
		if n.chance(o.Cut) {
			to.breakWith(ErrLost)
		}
	}
	return out
}

func (n *Network) chance(p float64) bool { return p > 0 && n.rnd.Float64() < p }

// bus is a node's part of a network, for one namespace.
type bus struct {
	net      *Network
	node     int
	self     adapter.NodeID
	ns       string
	tap      func(*adapter.Message)
	nameless bool
	inbox    chan delivery
	cut      chan error
	done     chan struct{} // closed when Run has ended
}

var _ adapter.Bus = (*bus)(nil)

// Publish implements adapter.Bus.
func (b *bus) Publish(ctx context.Context, m *adapter.Message) error {
	select {
	case <-b.done:
		return ErrLost
	default:
	}
	if b.tap != nil {
		b.tap(m)
	}
	if b.nameless && m.Type.Response() {
		c := *m
		c.From = ""
		m = &c
	}
	return b.net.send(ctx, b, b.ns, m)
}

// Run implements adapter.Bus.
func (b *bus) Run(ctx context.Context, recv func(*adapter.Message)) error {
	defer b.leave()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		var d delivery
		select {
		case d = <-b.inbox:
		case err := <-b.cut:
			return err
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if wait := time.Until(d.at); wait > 0 {
			timer.Reset(wait)
			select {
			case <-timer.C:
			case err := <-b.cut:
				return err
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		recv(d.m)
	}
}

func (b *bus) leave() {
	close(b.done)
	b.net.mu.Lock()
	defer b.net.mu.Unlock()
	b.net.buses = slices.DeleteFunc(b.net.buses, func(other *bus) bool { return other == b })
}

func (b *bus) breakWith(err error) {
	select {
	case b.cut <- err:
	default: // it breaks already
	}
}

// census is a bus of a network that knows who listens.
type census struct{ *bus }

var _ adapter.Census = census{}

// Count implements adapter.Census.
func (b census) Count(_ context.Context, known []adapter.NodeID) (nodes int, alive []adapter.NodeID, err error) {
	b.net.mu.Lock()
	defer b.net.mu.Unlock()
	for _, other := range b.net.buses {
		if other.ns != b.ns {
			continue
		}
		nodes++
		if slices.Contains(known, other.self) {
			alive = append(alive, other.self)
		}
	}
	return nodes, alive, nil
}
