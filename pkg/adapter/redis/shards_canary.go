package redis

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

// shardCanary is a message that the node sends to itself, over a channel of its own, the way that all others go.
type shardCanary struct {
	shards  *shards
	channel string
	epoch   time.Time
	wake    chan struct{} // for who sings

	// guarded by shards.mu
	heard bool // since the channel was subscribed
	deaf  *time.Timer
	fault error // why the last one was not sent

	faults sync.Mutex // guards fault, which is set by outlets
}

var _ shardTaker = (*shardCanary)(nil)

func (c *shardCanary) init(s *shards) {
	c.shards = s
	c.channel = s.opts.Key + "-canary#" + randomID() + "#"
	c.epoch = time.Now()
	c.wake = make(chan struct{}, 1)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.enterLocked(c, c.channel)
}

func (c *shardCanary) close() {
	c.shards.mu.Lock()
	defer c.shards.mu.Unlock()
	c.calmLocked()
}

// sing sends canaries until ctx is done.
func (c *shardCanary) sing(ctx context.Context) {
	ticker := time.NewTicker(c.shards.opts.CanaryInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-c.wake:
		case <-ctx.Done():
			return
		}
		if c.up() {
			c.send(ctx)
		}
	}
}

func (c *shardCanary) send(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, c.shards.opts.Timeout)
	defer cancel()
	payload := strconv.AppendInt(nil, int64(time.Since(c.epoch)), 10)
	if err := c.shards.publish(ctx, &parcel{channel: c.channel, payload: payload}); err != nil {
		c.sent(err)
	}
}

// up tells whether the channel is subscribed.
func (c *shardCanary) up() bool {
	c.shards.mu.Lock()
	defer c.shards.mu.Unlock()
	return c.deaf != nil
}

// sent is told what became of a canary.
func (c *shardCanary) sent(err error) {
	c.faults.Lock()
	defer c.faults.Unlock()
	c.fault = err
}

// reason returns why none is heard.
func (c *shardCanary) reason() error {
	c.faults.Lock()
	defer c.faults.Unlock()
	err := fmt.Errorf("%w: no canary for %v", errDeaf, c.shards.opts.CanaryTimeout)
	if c.fault != nil {
		err = fmt.Errorf("%w; the last one was not sent: %w", err, c.fault)
	}
	return err
}

// Take hears a canary.
func (c *shardCanary) Take(m *goredis.Message, _ <-chan struct{}) {
	sent, err := strconv.ParseInt(m.Payload, 10, 64)
	lag := time.Since(c.epoch) - time.Duration(sent)
	if err != nil || lag < 0 {
		return // not ours
	}
	s := c.shards
	s.mu.Lock()
	if c.deaf != nil {
		c.deaf.Reset(s.opts.CanaryTimeout)
		if !c.heard {
			c.heard = true
			s.settledLocked()
		}
	}
	s.mu.Unlock()
	if s.opts.Cluster.Hooks.Lag != nil {
		s.opts.Cluster.Hooks.Lag(lag)
	}
}

func (c *shardCanary) subscribed(ch *shardChannel) {
	conn := ch.conn
	c.calmLocked()
	c.deaf = time.AfterFunc(c.shards.opts.CanaryTimeout, func() { conn.fail(c.reason()) })
	select {
	case c.wake <- struct{}{}:
	default: // one is about to be sent
	}
}

func (c *shardCanary) refused(*shardChannel, error) {}

func (c *shardCanary) lost(*shardChannel, error, bool) {
	c.calmLocked()
	c.heard = false
}

// calmLocked ends the watch.
func (c *shardCanary) calmLocked() {
	if c.deaf != nil {
		c.deaf.Stop()
		c.deaf = nil
	}
}
