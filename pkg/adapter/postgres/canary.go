package postgres

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"time"
)

// canary is a message that a session sends to itself, over a channel of its own, the way that all others go: through the
// queue of what is published, the pool, PostgreSQL, and the listening connection.
type canary struct {
	session *session
	channel string
	epoch   time.Time

	mu sync.Mutex
	// guarded by mu
	deaf  *time.Timer
	heard time.Time     // when the last one that was heard was sent
	fault error         // why the last one was not sent
	next  chan struct{} // closed when one is heard; nil if nobody waits
}

func (c *canary) init(s *session) {
	c.session = s
	c.channel = s.link.opts.ChannelPrefix + "-canary#" + s.id
	c.epoch = time.Now()
}

// listen starts the watch: timer calls missed.
func (c *canary) listen(timer *time.Timer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deaf = timer
	if !c.heard.IsZero() {
		timer.Reset(c.session.link.opts.CanaryTimeout)
	}
}

// lastHeard returns the time up to which nothing was missed; zero if nothing was ever heard.
func (c *canary) lastHeard() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.heard
}

// sing sends canaries until ctx is done.
func (c *canary) sing(ctx context.Context) {
	s := c.session
	ticker := time.NewTicker(s.link.opts.CanaryInterval)
	defer ticker.Stop()
	for {
		if err := c.send(ctx); err != nil {
			s.mute(err)
		}
		if s.stalled() {
			s.Fail(fmt.Errorf("%w: no answer on the listening connection", errDeaf))
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// await sends one more canary, and returns when it was heard, and with it all that PostgreSQL was told before; or when ctx is done.
func (c *canary) await(ctx context.Context) {
	begin := time.Now()
	if c.send(ctx) != nil {
		return
	}
	for {
		c.mu.Lock()
		heard := !c.heard.Before(begin)
		if c.next == nil {
			c.next = make(chan struct{})
		}
		next := c.next
		c.mu.Unlock()
		if heard {
			return
		}
		select {
		case <-next:
		case <-c.session.Done():
			return
		case <-ctx.Done():
			return
		}
	}
}

func (c *canary) send(ctx context.Context) error {
	return c.session.link.publish(ctx, c.session, &parcel{
		channel: c.channel, canary: c.session,
		outgoing: outgoing{payload: strconv.FormatInt(int64(time.Since(c.epoch)), 10)},
	})
}

// askUsage asks how full the queue of notifications is. That also keeps the connection from being idle for too long
// (idle_session_timeout). It is not asked while a canary is under way: a pooler in transaction mode might let that through.
func (s *session) askUsage() {
	hook := s.link.opts.Hooks.QueueUsage
	s.ask(&command{sql: "SELECT pg_notification_queue_usage()", result: func(text string) {
		if usage, err := strconv.ParseFloat(text, 64); err == nil && hook != nil {
			hook(usage)
		}
	}})
}

// take hears a canary.
func (c *canary) take(payload string) {
	sent, err := strconv.ParseInt(payload, 10, 64)
	at := c.epoch.Add(time.Duration(sent))
	lag := time.Since(at)
	if err != nil || sent < 0 || lag < 0 {
		return // not ours
	}
	o := &c.session.link.opts
	c.mu.Lock()
	first := c.heard.IsZero()
	if c.heard.Before(at) {
		c.heard = at
	}
	c.fault = nil
	if c.next != nil {
		close(c.next)
		c.next = nil
	}
	if c.deaf != nil {
		c.deaf.Reset(o.CanaryTimeout)
	}
	c.mu.Unlock()
	c.session.askUsage()
	if o.Cluster.Hooks.Lag != nil {
		o.Cluster.Hooks.Lag(lag)
	}
	if first {
		c.session.heard()
	}
}

// missed ends the session: it has heard none for too long.
func (c *canary) missed() {
	c.mu.Lock()
	fault, never := c.fault, c.heard.IsZero()
	c.mu.Unlock()
	err := fmt.Errorf("%w: no canary for %v", errDeaf, c.session.link.opts.CanaryTimeout)
	switch {
	case fault != nil:
		err = fmt.Errorf("%w; the last one was not sent: %w", err, fault)
	case never:
		err = fmt.Errorf("%w, nor ever: LISTEN does not work through a pooler in transaction mode (see Options.Listen), "+
			"and both connections must lead to the same database", err)
	}
	c.session.Fail(err)
}

// mute is told why a canary was not sent.
func (s *session) mute(err error) {
	c := &s.canary
	c.mu.Lock()
	c.fault = err
	first := c.heard.IsZero()
	c.mu.Unlock()
	if first { // one who cannot publish should not seem to be up
		s.Fail(err)
	}
}
