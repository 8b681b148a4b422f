package lab

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-0b620db0/patchbay/internal/siotest"
	"github.com/seed-0b620db0/patchbay/pkg/adapter"
	"github.com/seed-0b620db0/patchbay/pkg/sio"
)

// ErrUnknown says that a node has not told anything of a namespace.
var ErrUnknown = errors.New("nothing was said")

// Node is a server of a cluster, with what its hooks were told. Its methods may be called from any goroutine.
type Node struct {
	*Server
	lab *Lab

	Published, Failed, Received, Dropped, Canaries atomic.Int64
	Lag                                            atomic.Int64 // the longest of a canary, in ns
	Faults                                         Log          // what was dropped or not sent, and why

	mu sync.Mutex
	// guarded by mu
	states map[string]error
	wasUp  bool    // "/"
	downs  []error // of "/", in turn, since it was up first, if it was
}

// NewNode returns a node whose server is yet to be started, with an adapter that has its hooks.
func (l *Lab) NewNode() *Node { return &Node{lab: l, states: map[string]error{}} }

// Serve starts the server, and does not wait for its bus.
func (n *Node) Serve(a sio.NewAdapter) {
	n.Server = n.lab.Server(&sio.Options{Adapter: a, CleanupEmptyChildNamespaces: true, MaxChildNamespaces: 1 << 16})
}

// Hooks returns those that tell the node.
func (n *Node) Hooks() adapter.Hooks {
	return adapter.Hooks{
		State: func(ns string, err error) {
			n.mu.Lock()
			defer n.mu.Unlock()
			_, known := n.states[ns]
			n.states[ns] = err
			switch {
			case ns != "/" || !known: // not open yet
			case err != nil:
				n.downs = append(n.downs, err)
			case !n.wasUp: // by now: a server may have taken its time
				n.wasUp, n.downs = true, nil
			}
		},
		Closed: func(ns string) {
			n.mu.Lock()
			defer n.mu.Unlock()
			delete(n.states, ns)
		},
		Published: func(string, adapter.Type, int, time.Duration) { n.Published.Add(1) },
		PublishFailed: func(_ string, _ adapter.Type, err error) {
			n.Failed.Add(1)
			n.Faults.Add(err.Error())
		},
		Received: func(string, adapter.Type, int) { n.Received.Add(1) },
		Dropped: func(_ string, err error) {
			n.Dropped.Add(1)
			n.Faults.Add(err.Error())
		},
		Lag: func(d time.Duration) {
			n.Canaries.Add(1)
			n.Lag.Store(max(n.Lag.Load(), int64(d)))
		},
	}
}

// State returns what was last said of a namespace's bus.
func (n *Node) State(ns string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	err, ok := n.states[ns]
	if !ok {
		return ErrUnknown
	}
	return err
}

// AwaitUp waits until the bus of a namespace is up.
func (n *Node) AwaitUp(ns string) {
	n.lab.Helper()
	n.lab.Until("the bus is up", func() bool { return n.State(ns) == nil })
}

// Downs returns why "/" was down, each time since it was up first. Of one that never was it says what was in the way.
func (n *Node) Downs() []error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.downs)
}

// Says waits until the bus of "/" is down for a reason that has text.
func (n *Node) Says(text string) {
	n.lab.Helper()
	n.lab.Until("down: "+text, func() bool { err := n.State("/"); return err != nil && strings.Contains(err.Error(), text) })
}

// AwaitDown waits until Downs tells of the nth time, and returns the reason.
func (n *Node) AwaitDown(times int) error {
	n.lab.Helper()
	n.lab.Until("the bus goes down", func() bool { return len(n.Downs()) >= times })
	return n.Downs()[times-1]
}

// StayedUp fails if "/" was down after it was up first.
func (n *Node) StayedUp() {
	n.lab.Helper()
	if downs := n.Downs(); len(downs) > 0 {
		n.lab.Error("it was down:", downs)
	}
}

// ServerCount asks the adapter of "/".
func (n *Node) ServerCount() (int, error) {
	ctx, cancel := context.WithTimeout(context.Background(), siotest.Patience)
	defer cancel()
	return n.Adapter().ServerCount(ctx)
}

// AwaitNodes waits until a node sees so many.
func (n *Node) AwaitNodes(want int) {
	n.lab.Helper()
	n.lab.Until(fmt.Sprintf("%d nodes", want), func() bool {
		got, err := n.ServerCount()
		return err == nil && got == want
	})
}

// Numbered is an event whose argument is a number.
const Numbered = "n"

// Number returns the number of such an event.
func Number(packet string) (i int, ok bool) {
	_, err := fmt.Sscanf(packet, `2["n",%d]`, &i)
	return i, err == nil
}

// Eventually emits numbers from one node, from start, until a client of another has one of them, and returns the last. What comes
// late of those before start does not count, so the next call is to start above that.
func (l *Lab) Eventually(from *Node, to *Client, start int) (last int) {
	l.Helper()
	last = start - 1
	l.Until("delivery", func() bool {
		last++
		_ = from.Emit(l.Context(), Numbered, last) // while it is down
		return slices.ContainsFunc(to.Take(), func(p string) bool {
			i, ok := Number(p)
			return ok && i >= start
		})
	})
	return last
}

// Increasing takes numbers until one is over limit, and fails unless each is larger than the one before.
func (l *Lab) Increasing(c *Client, from, limit int) {
	l.Helper()
	for last := from; last <= limit; {
		p, _ := c.Next()
		i, ok := Number(p)
		if !ok || i <= last {
			l.Fatalf("got %q after %d", p, last)
		}
		last = i
	}
}

// Reach emits from a node, and reads until a client has that.
func (l *Lab) Reach(from *Node, c *Client) {
	l.Helper()
	if err := from.Emit(context.Background(), "end"); err != nil {
		l.Fatal(err)
	}
	for p, ok := c.Next(); p != `2["end"]`; p, ok = c.Next() {
		if !ok {
			l.Fatal("the end does not come")
		}
	}
}
