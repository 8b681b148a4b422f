package redis

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

// maxShardBatch bounds the changes of one exchange, of which a connection has one at a time.
const maxShardBatch = 1000

var (
	errOldRedis = errors.New("redis: sharded pub/sub needs Redis 7 or newer")
	errSilent   = errors.New("redis: nothing is heard of the server")
	errSlotLeft = errors.New("redis: the slot has left its server")
)

// shardConn is a subscription connection. It is not repaired: a fault ends it, and its channels go to another.
type shardConn struct {
	// set at construction
	shards *shards
	node   goredis.UniversalClient
	addr   string
	done   chan struct{} // closed when it has failed, or is not needed any more
	wake   chan struct{} // for the writer

	end sync.Once
	sub *goredis.PubSub // set before the reader starts

	heard atomic.Int64 // when the server was, last, in nanoseconds since shards.epoch

	// guarded by shards.mu
	channels map[*shardChannel]struct{} // those that are here, or about to be
	todo     []*shardChannel            // to be looked at
	batch    []*shardChannel            // asked for, until the pong
	number   int                        // of the batch
	asked    time.Time                  // when
	answer   error                      // the last refusal in the batch
	pings    bool                       // a ping is due
}

func newShardConn(s *shards, node goredis.UniversalClient, addr string) *shardConn {
	c := &shardConn{
		shards: s, node: node, addr: addr, done: make(chan struct{}), wake: make(chan struct{}, 1),
		channels: map[*shardChannel]struct{}{},
	}
	c.heard.Store(int64(time.Since(s.epoch)))
	return c
}

func (c *shardConn) awake() {
	select {
	case c.wake <- struct{}{}:
	default: // it will look anyway
	}
}

// lookLocked has the writer look at ch.
func (c *shardConn) lookLocked(ch *shardChannel) {
	if ch.asked == "" && !ch.queued { // else that is done with the answer
		ch.queued = true
		c.todo = append(c.todo, ch)
		c.awake()
	}
}

// inspect ends the connection if it is of no use, and else has the server say that it lives.
func (c *shardConn) inspect() {
	s := c.shards
	if time.Since(s.epoch)-time.Duration(c.heard.Load()) > s.opts.CanaryTimeout {
		c.fail(errSilent)
		return
	}
	s.mu.Lock()
	used, overdue, answer := len(c.channels) > 0, len(c.batch) > 0 && time.Since(c.asked) > s.opts.CanaryTimeout, c.answer
	c.pings = true
	s.mu.Unlock()
	switch {
	case !used:
		c.fail(errUnused)
	case overdue: // by a server that refuses to say that it lives: it is loading, for one
		c.fail(errors.Join(errSilent, answer))
	}
	c.awake()
}

// fail ends the connection, for a reason. It does not wait.
func (c *shardConn) fail(err error) {
	c.end.Do(func() {
		close(c.done)
		s := c.shards
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.byAddr[c.addr] == c {
			delete(s.byAddr, c.addr)
		}
		for ch := range c.channels {
			was := ch.subscribed
			ch.conn, ch.subscribed, ch.asked, ch.queued = nil, false, "", false
			switch {
			case len(ch.takers) == 0:
				delete(s.channels, ch.name)
				continue
			case was:
				for _, t := range ch.takers {
					t.lost(ch, err, false)
				}
			default:
				for _, t := range ch.takers {
					t.refused(ch, err)
				}
			}
			s.replaceLocked(ch)
		}
		c.channels = nil
		s.settledLocked()
	})
}

// run connects, and returns when the connection has ended. ctx bounds the former only.
func (c *shardConn) run(ctx context.Context) {
	if err := c.dial(ctx); err != nil {
		c.fail(fmt.Errorf("redis: connect: %w", err))
		return
	}
	var running sync.WaitGroup
	running.Go(c.read)
	running.Go(c.write)
	<-c.done
	_ = c.sub.Close() // unblocks the reader; what it says of a connection that is of no use does not matter
	running.Wait()
}

func (c *shardConn) dial(ctx context.Context) error {
	s := c.shards
	ctx, cancel := context.WithTimeout(ctx, s.opts.Timeout)
	defer cancel()
	c.sub = bounded(c.node, s.opts.Timeout).SSubscribe(ctx) // to nothing: it does not dial yet
	if err := c.sub.Ping(ctx, "dial"); err != nil {
		return errors.Join(err, c.sub.Close())
	}
	return nil
}

// write carries out what has to change, until the connection ends.
func (c *shardConn) write() {
	for {
		if err := c.exchange(); err != nil {
			c.fail(err)
			return
		}
		select {
		case <-c.wake:
		case <-c.done:
			return
		}
	}
}

// exchange writes a batch, unless one is to be answered first, or there is nothing to write.
func (c *shardConn) exchange() error {
	s := c.shards
	s.mu.Lock()
	var commands []*command
	ping := ""
	if len(c.batch) == 0 && len(c.todo) > 0 {
		commands = c.nextLocked()
	}
	switch {
	case len(commands) > 0:
		c.number++
		c.asked, c.answer = time.Now(), nil
		ping = strconv.Itoa(c.number)
	case c.pings:
		ping = "alive"
	}
	c.pings = false
	s.mu.Unlock()
	if ping == "" {
		return nil
	}
	ctx := stay(s.opts.Timeout)
	for _, cmd := range commands {
		f := c.sub.SSubscribe
		if cmd.verb == sunsubscribe {
			f = c.sub.SUnsubscribe
		}
		if err := f(ctx, cmd.names...); err != nil {
			return fmt.Errorf("redis: %s: %w", cmd.verb, err)
		}
	}
	if err := c.sub.Ping(ctx, ping); err != nil {
		return fmt.Errorf("redis: ping: %w", err)
	}
	return nil
}

const (
	ssubscribe   verb = "ssubscribe"
	sunsubscribe verb = "sunsubscribe"
)

// nextLocked takes the next batch of changes. A Redis Cluster refuses commands with channels of several slots.
func (c *shardConn) nextLocked() (commands []*command) {
	_, cluster := c.shards.rdb.(*goredis.ClusterClient)
	open := map[verb]*command{} // those that take more
	i := 0
	for ; i < len(c.todo) && len(c.batch) < maxShardBatch; i++ {
		ch := c.todo[i]
		if ch.conn != c || ch.asked != "" {
			continue
		}
		ch.queued = false
		want := len(ch.takers) > 0
		if want == ch.subscribed {
			if !want {
				c.forgetLocked(ch)
			}
			continue
		}
		ch.asked = ssubscribe
		if !want {
			ch.asked = sunsubscribe
		}
		c.batch = append(c.batch, ch)
		cmd := open[ch.asked]
		if cmd == nil || cluster || ch.alone {
			cmd = &command{verb: ch.asked}
			commands = append(commands, cmd)
			if !ch.alone {
				open[ch.asked] = cmd
			}
		}
		cmd.names = append(cmd.names, ch.name)
	}
	if c.todo = c.todo[i:]; len(c.todo) == 0 {
		c.todo = nil
	}
	return commands
}

// forgetLocked lets go of a channel that nobody wants.
func (c *shardConn) forgetLocked(ch *shardChannel) {
	delete(c.channels, ch)
	ch.conn = nil
	delete(c.shards.channels, ch.name)
}

func (c *shardConn) read() {
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // see stay; here without a deadline
	for {
		got, err := c.sub.Receive(ctx)
		if err != nil && !answered(err) {
			c.fail(fmt.Errorf("redis: subscription: %w", err))
			return
		}
		c.heard.Store(int64(time.Since(c.shards.epoch)))
		if m, ok := got.(*goredis.Message); ok {
			c.route(m)
		} else {
			c.book(got, err)
		}
	}
}

// book takes what the server says of subscriptions.
func (c *shardConn) book(got any, err error) {
	s := c.shards
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-c.done:
		return
	default:
	}
	if err != nil {
		if text := err.Error(); strings.HasPrefix(text, "ERR unknown command") {
			err = errOldRedis
		}
		c.answer = err
		return
	}
	switch got := got.(type) {
	case *goredis.Subscription:
		ch := s.channels[got.Channel]
		if ch == nil || ch.conn != c {
			return
		}
		ch.subscribed = verb(got.Kind) == ssubscribe
		if !ch.subscribed && ch.asked == "" { // Redis has taken it away
			c.lostLocked(ch)
		}
	case *goredis.Pong:
		if got.Payload == strconv.Itoa(c.number) {
			c.settleLocked()
		}
	}
}

// lostLocked has a channel moved to where its slot is now.
func (c *shardConn) lostLocked(ch *shardChannel) {
	delete(c.channels, ch)
	ch.conn, ch.queued = nil, false
	for _, t := range ch.takers {
		t.lost(ch, errSlotLeft, true)
	}
	if len(ch.takers) == 0 {
		delete(c.shards.channels, ch.name)
		return
	}
	c.shards.pause = 0
	c.shards.replaceLocked(ch)
}

// settleLocked ends a batch: all its commands are answered.
func (c *shardConn) settleLocked() {
	s := c.shards
	batch := c.batch
	c.batch = nil
	for _, ch := range batch {
		asked := ch.asked
		ch.asked = ""
		want := len(ch.takers) > 0
		switch {
		case want && ch.subscribed:
			ch.alone = false
			for _, t := range ch.takers {
				t.subscribed(ch)
			}
		case want && asked == ssubscribe:
			err := c.answer
			if err == nil {
				err = errSlotLeft
			}
			delete(c.channels, ch)
			ch.conn = nil
			s.refuseLocked(ch, fmt.Errorf("redis: subscribe to %.100q: %w", ch.name, err))
		case want || ch.subscribed:
			c.lookLocked(ch)
		default:
			c.forgetLocked(ch)
		}
	}
	s.settledLocked()
	c.awake()
}

func (c *shardConn) route(m *goredis.Message) {
	c.shards.mu.Lock()
	var takers []shardTaker
	if ch := c.shards.channels[m.Channel]; ch != nil {
		takers = ch.takers
	}
	c.shards.mu.Unlock()
	for _, t := range takers {
		t.Take(m, c.done)
	}
}
