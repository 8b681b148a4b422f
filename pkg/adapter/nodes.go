package adapter

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// maxPeers bounds the nodes that a namespace knows. It is far more than a cluster has, and there to be reached by someone
// who makes up names.
const maxPeers = 4096

// maxNodeID bounds their names, in bytes, for the same reason. Who has a longer one is not known by name.
const maxNodeID = 1 << 10

// heard notes that a node lives.
func (c *cluster) heard(id NodeID) {
	if id == "" || id == EmitterID || len(id) > maxNodeID {
		return
	}
	now := time.Now()
	c.mu.Lock()
	_, old := c.seen[id]
	if old || len(c.seen) < maxPeers {
		c.seen[id] = now
	}
	c.mu.Unlock()
	if !old {
		c.reportNodes()
	}
}

// known returns the nodes that were heard of.
func (c *cluster) known() []NodeID {
	c.mu.Lock()
	defer c.mu.Unlock()
	ids := make([]NodeID, 0, len(c.seen))
	for id := range c.seen {
		ids = append(ids, id)
	}
	return ids
}

// goneLocked forgets a node that left or died. No request waits for it any more.
func (c *cluster) goneLocked(id NodeID) {
	delete(c.seen, id)
	for _, r := range c.pending {
		r.writeOff(id)
	}
}

func (c *cluster) left(id NodeID) {
	c.mu.Lock()
	c.goneLocked(id)
	c.mu.Unlock()
	c.reportNodes()
}

// survey returns the nodes that get what is published: those that are known by name, and how many more. With an error it
// returns those that were heard of.
func (c *cluster) survey(ctx context.Context, l *link) (alive []NodeID, unnamed int, err error) {
	known := c.known()
	if l.bus == nil || l.census == nil {
		return known, 0, l.err
	}
	ctx, cancel := context.WithTimeout(ctx, c.opts.PublishTimeout)
	defer cancel()
	n, alive, err := l.census.Count(ctx, known)
	if err == nil && n < 1 { // it does not even see this node, so what it says of others means nothing
		err = errUncounted
	}
	if err != nil {
		return known, 0, fmt.Errorf("adapter: count nodes: %w", err)
	}
	c.mu.Lock()
	c.total = n
	for _, id := range known {
		if !slices.Contains(alive, id) {
			c.goneLocked(id)
		}
	}
	c.mu.Unlock()
	c.reportNodes()
	return alive, max(0, n-1-len(alive)), nil
}

// reportNodes calls Hooks.Nodes if their number has changed: without a lock, and with the last number last.
func (c *cluster) reportNodes() {
	f := c.opts.Hooks.Nodes
	if f == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.reporting { // who does will look again
		return
	}
	c.reporting = true
	for n := c.nodesLocked(); n != c.reported; n = c.nodesLocked() {
		c.reported = n
		c.mu.Unlock()
		f(c.ns, n)
		c.mu.Lock()
	}
	c.reporting = false
}

func (c *cluster) nodesLocked() int {
	if c.total > 0 {
		return c.total
	}
	return 1 + len(c.seen)
}
