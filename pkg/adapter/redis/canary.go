package redis

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

var errDeaf = errors.New("redis: the node is deaf")

// canary is a message that a session sends to itself, over a channel of its own, the way that all others go: through the
// queue of what is published, Redis, and the subscription.
type canary struct {
	session    *session
	channel    string
	epoch      time.Time
	subscribed chan error // takes what Redis says to that, once

	mu sync.Mutex
	// guarded by mu
	deaf  *time.Timer
	heard bool
	fault error // why the last one was not sent
}

func (c *canary) init(s *session) {
	c.session = s
	c.channel = s.link.opts.Key + "-canary#" + s.id + "#"
	c.epoch = time.Now()
	c.subscribed = make(chan error, 1)
	s.sinks[topic{name: c.channel}] = []sink{c}
}

// listen starts the watch: timer calls missed.
func (c *canary) listen(timer *time.Timer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deaf = timer
	if c.heard {
		timer.Reset(c.session.link.opts.CanaryTimeout)
	}
}

// sing sends canaries until ctx is done; the first one when it is sure to be heard.
func (c *canary) sing(ctx context.Context) {
	select {
	case err := <-c.subscribed:
		if err != nil {
			c.session.Fail(err)
			return
		}
	case <-ctx.Done():
		return
	}
	o := &c.session.link.opts
	ticker := time.NewTicker(o.CanaryInterval)
	defer ticker.Stop()
	for {
		p := &parcel{
			channel: c.channel, canary: c.session,
			payload: strconv.AppendInt(nil, int64(time.Since(c.epoch)), 10),
		}
		if err := c.session.link.publish(ctx, c.session, p); err != nil {
			c.session.mute(err)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		if ok, err := c.session.link.isMaster(ctx, c.session.node); err == nil && !ok {
			c.session.Fail(fmt.Errorf("%w: its server is no master any more, where others do not count it", errDeaf))
			return
		}
	}
}

// Take hears a canary.
func (c *canary) Take(m *goredis.Message, _ <-chan struct{}) {
	sent, err := strconv.ParseInt(m.Payload, 10, 64)
	lag := time.Since(c.epoch) - time.Duration(sent)
	if err != nil || lag < 0 {
		return // not ours
	}
	o := &c.session.link.opts
	c.mu.Lock()
	c.heard, c.fault = true, nil
	if c.deaf != nil {
		c.deaf.Reset(o.CanaryTimeout)
	}
	c.mu.Unlock()
	if o.Cluster.Hooks.Lag != nil {
		o.Cluster.Hooks.Lag(lag)
	}
	c.session.Ready()
}

// missed ends the session: it has heard none for too long.
func (c *canary) missed() {
	c.mu.Lock()
	fault := c.fault
	c.mu.Unlock()
	err := fmt.Errorf("%w: no canary for %v", errDeaf, c.session.link.opts.CanaryTimeout)
	if fault != nil {
		err = fmt.Errorf("%w; the last one was not sent: %w", err, fault)
	}
	c.session.Fail(err)
}

// mute is told why a canary was not sent.
func (s *session) mute(err error) {
	c := &s.canary
	c.mu.Lock()
	c.fault = err
	first := !c.heard
	c.mu.Unlock()
	if first { // one who cannot publish should not seem to be up
		s.Fail(err)
	}
}
