package redis

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/seed-0b620db0/patchbay/pkg/adapter"
	"github.com/seed-0b620db0/patchbay/pkg/adapter/internal/hub"
)

var (
	errUnused  = errors.New("redis: nobody listens any more")
	errRing    = errors.New("redis: a Ring spreads channels over servers that do not know each other")
	errTooLong = errors.New("redis: message is too long")
)

// link is what the namespaces of one server share.
type link struct {
	// set at construction
	rdb  goredis.UniversalClient
	opts Options
	hub  *hub.Hub[*session, *parcel]

	mu  sync.Mutex
	key string // of the last session that was connected; guarded by mu
}

func newLink(rdb goredis.UniversalClient, opts Options) *link {
	l := &link{rdb: rdb, opts: opts}
	l.hub = hub.New("redis", opts.Timeout, func() *session { return newSession(l) }, func() *adapter.Outbox[*parcel] {
		return adapter.NewOutbox(opts.MaxQueueBytes, (&publisher{link: l}).send)
	}, opts.Cluster.Hooks.State)
	return l
}

// way returns what picks the master to publish through, which is that of the subscription: once the canary is heard, both
// ways are known to work. It also tells whether Redis was there a moment ago.
func (l *link) way() (key string, up bool) {
	s, up := l.hub.Connected()
	l.mu.Lock()
	defer l.mu.Unlock()
	if up {
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
