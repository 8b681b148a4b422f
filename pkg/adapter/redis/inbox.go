package redis

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	goredis "github.com/redis/go-redis/v9"
)

// budget bounds the bytes that the inboxes of a session hold.
type budget struct {
	max  int64
	used atomic.Int64
	room chan struct{} // wakes a reader
}

func newBudget(maxBytes int) *budget {
	return &budget{max: int64(maxBytes), room: make(chan struct{}, 1)}
}

// wait waits for room. A message that is larger than the budget goes when there is no other.
func (b *budget) wait(n int64, done <-chan struct{}) {
	waited := false
	defer func() {
		if waited {
			b.awake() // another reader may wait too
		}
	}()
	for used := b.used.Load(); used > 0 && used+n > b.max; used = b.used.Load() {
		waited = true
		select {
		case <-b.room:
		case <-done:
			return
		}
	}
}

func (b *budget) free(n int64) {
	b.used.Add(-n)
	b.awake()
}

func (b *budget) awake() {
	select {
	case b.room <- struct{}{}:
	default: // it will look anyway
	}
}

// inbox holds what a session has read for one bus, until the bus has time for it: what one namespace has to do does not
// keep the others waiting.
type inbox struct {
	budget *budget
	wake   chan struct{}

	mu sync.Mutex
	// guarded by mu
	queue  []*goredis.Message
	closed bool
}

func newInbox(b *budget) *inbox { return &inbox{budget: b, wake: make(chan struct{}, 1)} }

var _ sink = (*inbox)(nil)

// cost of keeping m.
func cost(m *goredis.Message) int64 {
	return int64(len(m.Channel) + len(m.Pattern) + len(m.Payload) + 128)
}

func (in *inbox) take(m *goredis.Message, done <-chan struct{}) {
	n := cost(m)
	in.budget.wait(n, done)
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.closed {
		return
	}
	in.budget.used.Add(n)
	in.queue = append(in.queue, m)
	select {
	case in.wake <- struct{}{}:
	default: // it will look anyway
	}
}

// receive hands over what comes, until ctx is done, or failed is closed, for a reason, and all is handed over.
func (in *inbox) receive(ctx context.Context, failed <-chan struct{}, reason func() error, handle func(m *goredis.Message)) error {
	defer in.close()
	var batch []*goredis.Message
	for {
		in.mu.Lock()
		batch, in.queue = in.queue, batch[:0]
		in.mu.Unlock()
		for i, m := range batch {
			if ctx.Err() != nil {
				for _, m := range batch[i:] {
					in.budget.free(cost(m))
				}
				return fmt.Errorf("redis: %w", context.Cause(ctx))
			}
			handle(m)
			batch[i] = nil
			in.budget.free(cost(m))
		}
		if len(batch) > 0 {
			if cap(batch) > 1024 { // the memory of a burst
				batch = nil
			}
			continue
		}
		select {
		case <-in.wake:
		case <-failed:
			if in.empty() {
				return reason()
			}
		case <-ctx.Done():
			return fmt.Errorf("redis: %w", context.Cause(ctx))
		}
	}
}

func (in *inbox) empty() bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	return len(in.queue) == 0
}

// close lets go of what is left.
func (in *inbox) close() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.closed = true
	for _, m := range in.queue {
		in.budget.free(cost(m))
	}
	in.queue = nil
}
