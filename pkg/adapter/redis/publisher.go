package redis

import (
	"context"
	"errors"
	"fmt"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/seed-0b620db0/patchbay/pkg/adapter"
)

// parcel is a message on its way to Redis.
type parcel struct {
	namespace string
	kind      adapter.Type
	channel   string
	payload   []byte
	since     time.Time

	canary *session // who sent it, if it is one
}

func (p *parcel) size() int { return len(p.channel) + len(p.payload) }

// publishOnce is a command that is not tried again when its connection fails: nobody knows whether it was carried out, and
// a message arrives at most once.
type publishOnce struct{ *goredis.IntCmd }

// NoRetry implements [goredis.Cmder].
func (publishOnce) NoRetry() bool { return true }

// publisher sends what waits to be published.
type publisher struct {
	link *link // set at construction

	// owned by the goroutine that sends
	node, bounded goredis.UniversalClient // the last one, and the same with our time-outs
	broken        error                   // why the last batch failed, if Redis did not answer
	cmds          []publishOnce
}

// publish queues p. It waits only while the queue is full.
func (l *link) publish(ctx context.Context, s *session, p *parcel) error {
	if p.size() > l.opts.MaxMessageBytes {
		return fmt.Errorf("%w to be published: %d bytes", errTooLong, p.size())
	}
	p.since = time.Now()
	return l.hub.Publish(ctx, s, p, p.size())
}

// send publishes a batch, in one exchange.
func (w *publisher) send(batch []*parcel) {
	key, up := w.link.way()
	if w.broken != nil && !up { // what is left of a queue should not wait for one time-out after the other
		w.fail(batch, fmt.Errorf("%w: %w", adapter.ErrDown, w.broken))
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), w.link.opts.Timeout)
	defer cancel()
	if err := w.find(ctx, key); err != nil {
		w.broken = err
		w.fail(batch, err)
		return
	}
	pipe := w.bounded.Pipeline()
	for _, p := range batch {
		cmd := publishOnce{goredis.NewIntCmd(ctx, "publish", p.channel, p.payload)}
		w.cmds = append(w.cmds, cmd)
		_ = pipe.Process(ctx, cmd) // queues it
	}
	_, err := pipe.Exec(ctx)
	if w.broken = err; answered(err) {
		w.broken = nil
	}
	for i, p := range batch {
		if err := w.cmds[i].Err(); err != nil {
			w.link.sent(p, fmt.Errorf("redis: publish: %w", err))
		} else {
			w.link.sent(p, nil)
		}
	}
	clear(w.cmds)
	w.cmds = w.cmds[:0]
}

func (w *publisher) fail(batch []*parcel, err error) {
	for _, p := range batch {
		w.link.sent(p, err)
	}
}

// find sets the client to publish through.
func (w *publisher) find(ctx context.Context, key string) error {
	node, err := w.link.node(ctx, key)
	if err == nil && node != w.node {
		w.node, w.bounded = node, bounded(node, w.link.opts.Timeout)
	}
	return err
}

// sent reports what became of p.
func (l *link) sent(p *parcel, err error) {
	h := &l.opts.Cluster.Hooks
	switch {
	case p.canary != nil:
		if err != nil {
			p.canary.mute(err)
		}
	case err != nil:
		if h.PublishFailed != nil {
			h.PublishFailed(p.namespace, p.kind, err)
		}
	case h.Published != nil:
		h.Published(p.namespace, p.kind, p.size(), time.Since(p.since))
	}
}

// answered tells whether Redis has answered, be it with an error.
func answered(err error) bool {
	var reply goredis.Error
	return err == nil || errors.As(err, &reply)
}
