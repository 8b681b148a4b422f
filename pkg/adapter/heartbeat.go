package adapter

import (
	"context"
	"time"
)

// beatRetry is the pause after a heartbeat that could not be published.
const beatRetry = time.Second

// beat tells others that this node lives, and forgets those that do not say so, until ctx is done.
func (c *cluster) beat(ctx context.Context) {
	c.refresh()
	c.reportNodes()
	say := func(t Type) { _ = c.publish(ctx, &Message{Type: t}) } // PublishFailed has been called
	say(InitialHeartbeat)
	timer := time.NewTimer(min(c.sweep(), c.opts.HeartbeatInterval))
	defer timer.Stop()
	for {
		select {
		case <-c.wantBeat:
			say(Heartbeat)
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		if c.untilBeat() <= 0 {
			say(Heartbeat)
		}
		next := c.untilBeat()
		if next <= 0 {
			next = beatRetry
		}
		timer.Reset(min(next, c.sweep()))
	}
}

// refresh gives all nodes a new start: while there was no bus they had no way to be heard.
func (c *cluster) refresh() {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	for id := range c.seen {
		c.seen[id] = now
	}
}

// sweep forgets the nodes that have been silent, and returns when to look again.
func (c *cluster) sweep() time.Duration {
	next := c.opts.HeartbeatTimeout
	c.mu.Lock()
	for id, at := range c.seen {
		if left := c.opts.HeartbeatTimeout - time.Since(at); left > 0 {
			next = min(next, left)
		} else {
			c.goneLocked(id)
		}
	}
	c.mu.Unlock()
	c.reportNodes()
	return next
}

// said notes that m was published, if that makes a heartbeat unnecessary. What may go to some nodes only does not; nor does
// what the official servers do not count.
func (c *cluster) said(m *Message) {
	switch m.Type {
	case InitialHeartbeat, Heartbeat, FetchSockets, ServerSideEmit:
	case Broadcast:
		if m.RequestID == "" {
			return
		}
	default:
		return
	}
	c.mu.Lock()
	c.lastBeat = time.Now()
	c.mu.Unlock()
}

// untilBeat returns the time until the next heartbeat is due.
func (c *cluster) untilBeat() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.opts.HeartbeatInterval - time.Since(c.lastBeat)
}

// askedToBeat has beat send a heartbeat: one for all who have asked meanwhile.
func (c *cluster) askedToBeat() {
	select {
	case c.wantBeat <- struct{}{}:
	default:
	}
}
