package adapter

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-0b620db0/patchbay/pkg/sio"
)

// closePatience bounds how long Close waits for handlers of the application and for the bus.
const closePatience = 5 * time.Second

// Cluster makes the adapter of a node whose namespaces each have a bus of their own. opts may be nil. It is for one server:
// a second one would be the same node.
func Cluster(open Open, opts *Options) sio.NewAdapter {
	o := opts.WithDefaults()
	self := newNodeID(o.Node)
	return func(local *sio.Local) sio.Adapter {
		c := &cluster{
			opts: o, open: open, self: self, local: local, ns: local.Namespace(),
			wantBeat: make(chan struct{}, 1),
			seen:     make(map[NodeID]time.Time), pending: make(map[string]*request),
			events: make(map[NodeID][]*Message),
		}
		c.life, c.end = context.WithCancel(context.Background())
		c.link.Store(downLink(errNotOpen))
		ctx, stop := context.WithCancel(context.Background())
		c.stop = stop
		c.runner.Go(func() { c.run(ctx) }) // ends with Close
		return c
	}
}

// newNodeID returns a name that no node has had before: of the official form, or beginning with that of the node.
func newNodeID(name string) NodeID {
	if name == "" {
		return NodeID(newRequestID())
	}
	var b [6]byte
	_, _ = rand.Read(b[:]) // never fails
	return NodeID(name + "." + base64.RawURLEncoding.EncodeToString(b[:]))
}

func newRequestID() string {
	var b [8]byte
	_, _ = rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// cluster is the adapter of one namespace.
type cluster struct {
	// set at construction
	opts   Options
	open   Open
	self   NodeID
	local  *sio.Local
	ns     string
	life   context.Context //nolint:containedctx // the adapter's own: what works for it ends with it
	end    func()          // ends life
	stop   func()          // ends run
	runner sync.WaitGroup  // run
	served sync.WaitGroup  // what serve started

	link     atomic.Pointer[link] // stored with mu held
	wantBeat chan struct{}        // another node asks for a heartbeat

	mu sync.Mutex
	// guarded by mu; a request's own lock may be taken under it
	closed     bool
	serving    int                   // requests of other nodes
	answering  int                   // server events of other nodes
	relaying   int                   // broadcasts of other nodes that clients have yet to acknowledge
	seen       map[NodeID]time.Time  // the other nodes, and when each was last heard
	total      int                   // nodes at the last count, of a Census
	reported   int                   // nodes, to Hooks.Nodes
	reporting  bool                  // somebody is at it
	lastBeat   time.Time             // when this node last told all others that it lives
	pending    map[string]*request   // of this node
	changed    map[string]struct{}   // rooms, while a bus is being opened
	events     map[NodeID][]*Message // of other servers, to be handled; there is an entry while somebody is at them
	eventBytes int                   // of all of them
}

var (
	_ sio.Adapter       = (*cluster)(nil)
	_ sio.RoomWatcher   = (*cluster)(nil)
	_ sio.SocketWatcher = (*cluster)(nil)
	_ sio.RoomAwaiter   = (*cluster)(nil)
)

// Broadcast implements sio.Adapter.
func (c *cluster) Broadcast(ctx context.Context, out *sio.Outgoing, t sio.Target) error {
	c.local.Broadcast(out, t)
	if t.Local {
		return nil
	}
	return c.publish(ctx, &Message{Type: Broadcast, Target: t, Event: out})
}

// Join implements sio.Adapter.
func (c *cluster) Join(ctx context.Context, t sio.Target, rooms []string) error {
	c.local.Join(t, rooms)
	if t.Local {
		return nil
	}
	return c.publish(ctx, &Message{Type: SocketsJoin, Target: t, Rooms: rooms})
}

// Leave implements sio.Adapter.
func (c *cluster) Leave(ctx context.Context, t sio.Target, rooms []string) error {
	c.local.Leave(t, rooms)
	if t.Local {
		return nil
	}
	return c.publish(ctx, &Message{Type: SocketsLeave, Target: t, Rooms: rooms})
}

// Disconnect implements sio.Adapter.
func (c *cluster) Disconnect(ctx context.Context, t sio.Target, closeTransport bool) error {
	c.local.Disconnect(t, closeTransport)
	if t.Local {
		return nil
	}
	return c.publish(ctx, &Message{Type: DisconnectSockets, Target: t, CloseTransport: closeTransport})
}

// ServerSideEmit implements sio.Adapter.
func (c *cluster) ServerSideEmit(ctx context.Context, out *sio.Outgoing) error {
	return c.publish(ctx, &Message{Type: ServerSideEmit, Event: out})
}

// ServerCount implements sio.Adapter. With an error it is the number of nodes that this one has heard of.
func (c *cluster) ServerCount(ctx context.Context) (int, error) {
	alive, unnamed, err := c.survey(ctx, c.link.Load())
	return 1 + len(alive) + unnamed, err
}

// publish hands m to the bus. It waits no longer than PublishTimeout.
func (c *cluster) publish(ctx context.Context, m *Message) error {
	return c.publishTo(ctx, c.link.Load(), m)
}

func (c *cluster) publishTo(ctx context.Context, l *link, m *Message) error {
	m.From = c.self
	err := l.err
	if l.bus != nil {
		ctx, cancel := context.WithTimeout(ctx, c.opts.PublishTimeout)
		err = l.bus.Publish(ctx, m)
		cancel()
	}
	switch f := c.opts.Hooks.PublishFailed; {
	case err == nil:
		c.said(m)
	case f != nil:
		f(c.ns, m.Type, err)
	}
	return err
}

// Close implements sio.Adapter. It waits for what serves other nodes, says goodbye, and waits for the bus; should they not
// end, it returns nevertheless, with an error.
func (c *cluster) Close() error {
	c.mu.Lock()
	again, last := c.closed, c.link.Load()
	c.closed = true
	c.link.Store(&link{err: ErrClosed})
	c.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), closePatience)
	defer cancel()

	c.end()
	err := wait(ctx, &c.served)
	if !again && last.bus != nil && last.census == nil { // the last that others hear of this node
		_ = c.publishTo(ctx, last, &Message{Type: Close}) // else they find out
	}
	c.stop()
	if err = errors.Join(err, wait(ctx, &c.runner)); err != nil {
		return fmt.Errorf("adapter: close %s: %w", c.ns, err)
	}
	return nil
}

// wait waits for wg, but not for ever.
func wait(ctx context.Context, wg *sync.WaitGroup) error {
	done := make(chan struct{})
	go func() { // ends with what it waits for
		wg.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (c *cluster) dropped(m *Message, err error) {
	if f := c.opts.Hooks.Dropped; f != nil {
		f(c.ns, fmt.Errorf("adapter: %s of %q: %w", m.Type, m.From, err))
	}
}
