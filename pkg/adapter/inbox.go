package adapter

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
)

// Budget bounds the bytes that inboxes hold together.
type Budget struct {
	max  int64
	used atomic.Int64
	room chan struct{} // wakes a reader
}

// NewBudget returns a budget of so many bytes.
func NewBudget(maxBytes int) *Budget {
	return &Budget{max: int64(maxBytes), room: make(chan struct{}, 1)}
}

// wait waits for room. What is larger than the budget goes when there is nothing else.
func (b *Budget) wait(n int64, done <-chan struct{}) {
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

func (b *Budget) free(n int64) {
	b.used.Add(-n)
	b.awake()
}

func (b *Budget) awake() {
	select {
	case b.room <- struct{}{}:
	default: // it will look anyway
	}
}

// Inbox holds what was read for one [Bus], until that has time for it: what one namespace has to do does not keep the others
// of a connection waiting. It may be used from any goroutine.
type Inbox[T any] struct {
	// set at construction
	budget *Budget
	cost   func(T) int
	wake   chan struct{}

	mu sync.Mutex
	// guarded by mu
	queue  []T
	closed bool
}

// NewInbox returns an empty inbox that shares a budget with others. cost returns the bytes that it takes to keep an item.
func NewInbox[T any](b *Budget, cost func(item T) int) *Inbox[T] {
	return &Inbox[T]{budget: b, cost: cost, wake: make(chan struct{}, 1)}
}

// Take puts an item into the inbox. While there is no room it waits, until done is closed.
func (in *Inbox[T]) Take(item T, done <-chan struct{}) {
	n := int64(in.cost(item))
	in.budget.wait(n, done)
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.closed {
		return
	}
	in.budget.used.Add(n)
	in.queue = append(in.queue, item)
	select {
	case in.wake <- struct{}{}:
	default: // it will look anyway
	}
}

// Each calls f for what waits. f must not use the inbox.
func (in *Inbox[T]) Each(f func(item *T)) {
	in.mu.Lock()
	defer in.mu.Unlock()
	for i := range in.queue {
		f(&in.queue[i])
	}
}

// Receive hands over what comes, until ctx is done, or failed is closed, for a reason, and all that came before is handed
// over. It closes the inbox. The first of items is the one to be handled; handle may look at, and change, those that wait behind it.
func (in *Inbox[T]) Receive(ctx context.Context, failed <-chan struct{}, reason func() error, handle func(items []T)) error {
	defer in.Close()
	var batch []T
	for {
		over := closed(failed) // before the last batch is taken
		in.mu.Lock()
		batch, in.queue = in.queue, batch[:0]
		in.mu.Unlock()
		for i := range batch {
			if ctx.Err() != nil {
				for _, item := range batch[i:] {
					in.budget.free(int64(in.cost(item)))
				}
				return fmt.Errorf("adapter: %w", context.Cause(ctx))
			}
			n := int64(in.cost(batch[i]))
			handle(batch[i:])
			clear(batch[i : i+1])
			in.budget.free(n)
		}
		if over {
			return reason()
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
		case <-ctx.Done():
			return fmt.Errorf("adapter: %w", context.Cause(ctx))
		}
	}
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// Close lets go of what is left, and takes no more.
func (in *Inbox[T]) Close() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.closed = true
	for _, item := range in.queue {
		in.budget.free(int64(in.cost(item)))
	}
	in.queue = nil
}
