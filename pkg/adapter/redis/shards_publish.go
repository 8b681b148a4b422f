package redis

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/seed-0b620db0/patchbay/pkg/adapter"
)

// mendPause is how long a server that did not answer is spared what waits for it.
const mendPause = time.Second

// posting is something on its way to Redis.
type posting interface {
	// server returns where it is to go; what is in one queue goes to one server.
	server(ctx context.Context) (goredis.UniversalClient, error)
	// command returns what is to be carried out, once.
	command(ctx context.Context) goredis.Cmder
	// sent is told what became of it; cmd is what command has returned, or nil.
	sent(cmd goredis.Cmder, err error)
}

// outlets are queues of what is sent to the masters of a Redis Cluster. There are several, so that a dead master does not
// hold up what is for others. What is in one keeps its order.
type outlets struct {
	// set at construction
	rdb      goredis.UniversalClient
	timeout  time.Duration
	maxBytes int // of each

	mu sync.Mutex
	// guarded by mu
	byName map[string]*outlet
	closed bool
}

// outlet is one of the queues.
type outlet struct {
	// set at construction
	all    *outlets
	outbox *adapter.Outbox[posting]

	// owned by the goroutine that sends
	broken error // why the last batch failed, if the server did not answer
	since  time.Time
	cmds   []goredis.Cmder
}

func newOutlets(rdb goredis.UniversalClient, opts *Options) *outlets {
	return &outlets{rdb: rdb, timeout: opts.Timeout, maxBytes: opts.MaxQueueBytes, byName: map[string]*outlet{}}
}

// locate returns the server that has the slot of a key or channel, as far as one knows, and its address in a Redis Cluster.
func locate(ctx context.Context, rdb goredis.UniversalClient, key string) (node goredis.UniversalClient, addr string, err error) {
	switch rdb := rdb.(type) {
	case *goredis.ClusterClient:
		master, err := rdb.MasterForKey(ctx, key)
		if err != nil {
			return nil, "", fmt.Errorf("redis: find a master: %w", err)
		}
		return master, master.Options().Addr, nil
	case *goredis.Ring:
		return nil, "", errRing
	default:
		return rdb, "", nil
	}
}

// refresh asks who has which slot. It returns the addresses of the masters, or nil if they are not known.
func refresh(ctx context.Context, rdb goredis.UniversalClient, timeout time.Duration) map[string]struct{} {
	cluster, ok := rdb.(*goredis.ClusterClient)
	if !ok {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var mu sync.Mutex
	masters := map[string]struct{}{}
	if err := cluster.ForEachMaster(ctx, func(_ context.Context, master *goredis.Client) error {
		mu.Lock()
		defer mu.Unlock()
		masters[master.Options().Addr] = struct{}{}
		return nil
	}); err != nil {
		return nil // what was known before is all there is
	}
	return masters
}

// put queues p in the outlet of a name, which is made if it is not there. Those that are not used any more stay until the
// end: there are not many. It waits only while the queue is full.
func (o *outlets) put(ctx context.Context, name string, p posting, size int) error {
	o.mu.Lock()
	w := o.byName[name]
	switch {
	case o.closed:
		o.mu.Unlock()
		return adapter.ErrClosed
	case w == nil:
		w = &outlet{all: o}
		w.outbox = adapter.NewOutbox(o.maxBytes, w.send)
		o.byName[name] = w
	}
	o.mu.Unlock()
	if err := w.outbox.Put(ctx, p, size); err != nil {
		return fmt.Errorf("redis: publish: %w", err)
	}
	return nil
}

// close waits until all is sent.
func (o *outlets) close() {
	o.mu.Lock()
	o.closed = true
	all := maps.Clone(o.byName)
	o.mu.Unlock()
	var closing sync.WaitGroup
	for _, w := range all {
		closing.Go(w.outbox.Close)
	}
	closing.Wait()
}

// send sends a batch, in one exchange; in a second one what is to go elsewhere by now.
func (w *outlet) send(batch []posting) {
	if w.broken != nil && time.Since(w.since) < mendPause {
		w.fail(batch, fmt.Errorf("%w: %w", adapter.ErrDown, w.broken))
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), w.all.timeout)
	defer cancel()
	node, err := batch[len(batch)-1].server(ctx)
	if err != nil {
		w.broken, w.since = err, time.Now()
		w.fail(batch, err)
		return
	}
	err = w.exchange(ctx, bounded(node, w.all.timeout), batch)
	cluster, ok := w.all.rdb.(*goredis.ClusterClient)
	if w.broken = err; answered(err) {
		w.broken = nil
	} else if w.since = time.Now(); ok {
		cluster.ReloadState(ctx) // does not wait; another may have taken over
	}
	var elsewhere []posting
	for i, p := range batch {
		if ok && redirects(w.cmds[i].Err()) {
			elsewhere = append(elsewhere, p)
		} else {
			p.sent(w.cmds[i], published(w.cmds[i].Err()))
		}
	}
	if len(elsewhere) == 0 {
		return
	}
	_ = w.exchange(ctx, cluster, elsewhere) // each command has its own error
	for i, p := range elsewhere {
		p.sent(w.cmds[i], published(w.cmds[i].Err()))
	}
}

func (w *outlet) fail(batch []posting, err error) {
	for _, p := range batch {
		p.sent(nil, err)
	}
}

func (w *outlet) exchange(ctx context.Context, node goredis.UniversalClient, batch []posting) error {
	clear(w.cmds)
	w.cmds = w.cmds[:0]
	pipe := node.Pipeline()
	for _, p := range batch {
		cmd := p.command(ctx)
		w.cmds = append(w.cmds, cmd)
		_ = pipe.Process(ctx, cmd) // queues it
	}
	_, err := pipe.Exec(ctx)
	return err
}

func published(err error) error {
	if err != nil {
		return fmt.Errorf("redis: publish: %w", err)
	}
	return nil
}

// redirects tells whether the slot is, or is about to be, on another server.
func redirects(err error) bool {
	var reply goredis.Error
	return errors.As(err, &reply) && (strings.HasPrefix(reply.Error(), "MOVED ") || strings.HasPrefix(reply.Error(), "ASK "))
}

// shardParcel is a message on its way to a shard channel.
type shardParcel struct {
	*parcel
	shards *shards
	node   goredis.UniversalClient
}

func (p shardParcel) server(context.Context) (goredis.UniversalClient, error) { return p.node, nil }

// publish queues p. It waits only while the queue is full. What goes to one master keeps its order; around the time when a
// slot moves that is not so.
func (s *shards) publish(ctx context.Context, p *parcel) error {
	if p.size() > s.opts.MaxMessageBytes {
		return fmt.Errorf("%w to be published: %d bytes", errTooLong, p.size())
	}
	node, addr, err := locate(ctx, s.rdb, p.channel)
	if err != nil {
		return err
	}
	p.since = time.Now()
	return s.outlets.put(ctx, addr, shardParcel{p, s, node}, p.size())
}

func (p shardParcel) command(ctx context.Context) goredis.Cmder {
	return publishOnce{goredis.NewIntCmd(ctx, "spublish", p.channel, p.payload)}
}

func (p shardParcel) sent(_ goredis.Cmder, err error) {
	if p.channel == p.shards.canary.channel {
		p.shards.canary.sent(err)
		return
	}
	p.shards.link.sent(p.parcel, err)
}
