package redis

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

// redialPause is the least time between the starts of two sessions. It matters when thousands of namespaces want one.
const redialPause = 50 * time.Millisecond

var (
	errUnused  = errors.New("redis: nobody listens any more")
	errRing    = errors.New("redis: a Ring spreads channels over servers that do not know each other")
	errTooLong = errors.New("redis: message is too long")
)

// link is what the namespaces of one server share: a session, and the queue of what is published. Both are there while
// somebody uses them.
type link struct {
	// set at construction
	rdb  goredis.UniversalClient
	opts Options

	mu sync.Mutex
	// guarded by mu
	session   *session      // nil if there is none, or the last one has failed
	key       string        // of the last session that was connected
	publisher *publisher    // nil if nobody uses the link
	started   time.Time     // when the last session was, or will be
	ended     chan struct{} // of the last session
}

func newLink(rdb goredis.UniversalClient, opts Options) *link {
	ended := make(chan struct{})
	close(ended)
	return &link{rdb: rdb, opts: opts, ended: ended}
}

// acquire returns a session that is up, to be released. Those who come at the same time share it.
func (l *link) acquire(ctx context.Context) (*session, error) {
	l.mu.Lock()
	s := l.session
	if s == nil {
		s = l.startLocked(ctx)
	}
	s.users++
	l.mu.Unlock()

	var err error
	select {
	case <-s.ready:
		return s, nil
	case <-s.done:
		err = s.err
	case <-ctx.Done():
		err = fmt.Errorf("redis: %w", context.Cause(ctx))
	}
	l.release(s)
	return nil, err
}

func (l *link) startLocked(ctx context.Context) *session {
	now := time.Now()
	pause := max(0, redialPause-now.Sub(l.started))
	l.started = now.Add(pause)
	if l.publisher == nil {
		l.publisher = newPublisher(l)
	}
	s := newSession(l)
	before := l.ended
	l.session, l.ended = s, s.ended
	ctx, s.stop = context.WithCancel(context.WithoutCancel(ctx)) // it outlives who came first
	go s.run(ctx, pause, before)                                 // ends after done is closed; who releases the session as the last waits for it
	return s
}

// release gives back what acquire returned. The last one closes the session, after everything was published.
func (l *link) release(s *session) {
	l.mu.Lock()
	s.users--
	if s.users > 0 || l.session != s { // others use it, or it has failed and ends by itself
		l.mu.Unlock()
		return
	}
	l.session = nil
	p := l.publisher
	l.publisher = nil
	l.mu.Unlock()
	p.outbox.Close()
	s.fail(errUnused)
	<-s.ended
}

// forget makes room for another session.
func (l *link) forget(s *session) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.session == s {
		l.session = nil
	}
}

// way returns what picks the master to publish through, which is that of the subscription: once the canary is heard, both
// ways are known to work. It also tells whether Redis was there a moment ago.
func (l *link) way() (key string, up bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.session
	if up = s != nil && s.connected.Load(); up {
		l.key = s.key
	}
	return l.key, up
}

// node returns the client of the server to use: the only one, or in a Redis Cluster a master that key picks. Plain pub/sub
// works over any; one and the same keeps the order.
func (l *link) node(ctx context.Context, key string) (goredis.UniversalClient, error) {
	switch rdb := l.rdb.(type) {
	case *goredis.ClusterClient:
		master, err := rdb.MasterForKey(ctx, key)
		if err != nil {
			return nil, fmt.Errorf("redis: find a master: %w", err)
		}
		return master, nil
	case *goredis.Ring:
		return nil, errRing
	default:
		return rdb, nil
	}
}

// bounded returns node with time-outs that are no longer than limit.
func bounded(node goredis.UniversalClient, limit time.Duration) goredis.UniversalClient {
	c, ok := node.(*goredis.Client)
	if !ok {
		return node
	}
	o := c.Options()
	if o.ReadTimeout > 0 {
		limit = min(limit, o.ReadTimeout)
	}
	if o.WriteTimeout > 0 {
		limit = min(limit, o.WriteTimeout)
	}
	return c.WithTimeout(limit)
}

// isMaster tells whether c, which node returned, still is one.
func (l *link) isMaster(ctx context.Context, node goredis.UniversalClient) (bool, error) {
	cluster, ok := l.rdb.(*goredis.ClusterClient)
	if !ok {
		return true, nil
	}
	var mu sync.Mutex
	found := false
	err := cluster.ForEachMaster(ctx, func(_ context.Context, master *goredis.Client) error {
		mu.Lock()
		defer mu.Unlock()
		found = found || master == node
		return nil
	})
	if err != nil {
		return false, fmt.Errorf("redis: find the masters: %w", err)
	}
	return found, nil
}

// numSub returns the number of subscribers of each channel. Those of a Redis Cluster's replicas count as well, if these can
// be asked: some clients subscribe there.
func (l *link) numSub(ctx context.Context, channels []string) (map[string]int64, error) {
	timeout := l.opts.Timeout
	if deadline, ok := ctx.Deadline(); ok { // which go-redis does not look at
		timeout = max(time.Millisecond, min(timeout, time.Until(deadline)))
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	cluster, ok := l.rdb.(*goredis.ClusterClient)
	if !ok {
		node, err := l.node(ctx, "")
		if err != nil {
			return nil, err
		}
		return numSub(ctx, "numsub", bounded(node, timeout), channels)
	}
	var mu sync.Mutex
	sum := make(map[string]int64, len(channels))
	count := func(ctx context.Context, c *goredis.Client) error {
		n, err := numSub(ctx, "numsub", bounded(c, timeout), channels)
		if err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		for channel, n := range n {
			sum[channel] += n
		}
		return nil
	}
	if err := cluster.ForEachMaster(ctx, count); err != nil {
		return nil, fmt.Errorf("redis: count: %w", err)
	}
	if err := cluster.ForEachSlave(ctx, func(ctx context.Context, c *goredis.Client) error {
		_ = count(ctx, c) // best effort
		return nil
	}); err != nil {
		return nil, fmt.Errorf("redis: count: %w", err)
	}
	return sum, nil
}

func numSub(ctx context.Context, verb string, c goredis.UniversalClient, channels []string) (map[string]int64, error) {
	args := make([]any, 0, 2+len(channels))
	args = append(args, "pubsub", verb)
	for _, channel := range channels {
		args = append(args, channel)
	}
	cmd := &countOnce{goredis.NewMapStringIntCmd(ctx, args...)}
	if err := c.Process(ctx, cmd); err != nil {
		return nil, fmt.Errorf("redis: count: %w", err)
	}
	return cmd.Val(), nil
}

// countOnce is a command that is not tried again when its connection fails: a retry would outlast the caller's patience.
type countOnce struct{ *goredis.MapStringIntCmd }

// NoRetry implements [goredis.Cmder].
func (countOnce) NoRetry() bool { return true }
