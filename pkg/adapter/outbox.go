package adapter

import (
	"context"
	"fmt"
	"slices"
	"sync"
)

// A batch is as large as what has piled up, but for these bounds. An item beyond maxBatchBytes is a batch of its own.
const (
	maxBatch      = 512
	maxBatchBytes = 1 << 20
)

// Outbox is a bounded queue of what is to be published, for a [Bus] to send it in batches: it is sent in order, by a
// goroutine that exists only while there is something to send. It may be used from any goroutine.
type Outbox[T any] struct {
	// set at construction
	maxBytes int
	send     func(batch []T)
	sender   sync.WaitGroup

	mu sync.Mutex
	// guarded by mu
	queue   []entry[T]
	bytes   int // of what is queued or being sent
	waiters []*waiter[T]
	sending bool
	closed  bool

	// owned by the goroutine that sends
	taken []entry[T]
	batch []T
}

type entry[T any] struct {
	item T
	size int
}

// waiter is a Put that found no room. It is served in its turn, so that a large item is not overtaken for ever.
type waiter[T any] struct {
	entry[T]
	done chan error // buffered
}

// NewOutbox returns an empty outbox for maxBytes. send is called for one batch after the other, must not keep the slice,
// and reports on its own what it could not send.
func NewOutbox[T any](maxBytes int, send func(batch []T)) *Outbox[T] {
	return &Outbox[T]{maxBytes: maxBytes, send: send}
}

// Put queues an item of so many bytes. While there is no room it waits, until ctx is done ([ErrFull]) or the outbox is
// closed ([ErrClosed]). An item that is larger than the outbox goes when all others have gone.
func (o *Outbox[T]) Put(ctx context.Context, item T, size int) error {
	o.mu.Lock()
	e := entry[T]{item, max(size, 1)}
	switch {
	case o.closed:
		o.mu.Unlock()
		return ErrClosed
	case len(o.waiters) == 0 && o.fitsLocked(e):
		o.putLocked(e)
		o.mu.Unlock()
		return nil
	}
	w := &waiter[T]{e, make(chan error, 1)}
	o.waiters = append(o.waiters, w)
	o.mu.Unlock()

	select {
	case err := <-w.done:
		return err
	case <-ctx.Done():
	}
	o.mu.Lock()
	i := slices.Index(o.waiters, w)
	if i >= 0 {
		o.waiters = slices.Delete(o.waiters, i, i+1)
		o.admitLocked() // those behind may have less to carry
	}
	o.mu.Unlock()
	if i < 0 { // it was served at that very moment
		return <-w.done
	}
	return fmt.Errorf("%w: %w", ErrFull, context.Cause(ctx))
}

func (o *Outbox[T]) fitsLocked(e entry[T]) bool { return o.bytes == 0 || o.bytes+e.size <= o.maxBytes }

func (o *Outbox[T]) putLocked(e entry[T]) {
	o.queue = append(o.queue, e)
	o.bytes += e.size
	if !o.sending {
		o.sending = true
		o.sender.Go(o.run) // ends when the queue is empty
	}
}

// admitLocked serves those that wait, as far as there is room.
func (o *Outbox[T]) admitLocked() {
	for len(o.waiters) > 0 && o.fitsLocked(o.waiters[0].entry) {
		w := o.waiters[0]
		o.waiters = slices.Delete(o.waiters, 0, 1)
		o.putLocked(w.entry)
		w.done <- nil
	}
}

// run sends until there is nothing left.
func (o *Outbox[T]) run() {
	for o.take() {
		for rest := o.taken; len(rest) > 0; {
			o.batch = o.batch[:0]
			bytes := 0
			for _, e := range rest[:min(len(rest), maxBatch)] {
				if bytes += e.size; bytes > maxBatchBytes && len(o.batch) > 0 {
					bytes -= e.size
					break
				}
				o.batch = append(o.batch, e.item)
			}
			rest = rest[len(o.batch):]
			o.send(o.batch)
			clear(o.batch) // do not hold on to what has been sent
			o.sent(bytes)
		}
	}
}

// take takes all that is queued, or tells that there is nothing.
func (o *Outbox[T]) take() bool {
	clear(o.taken)
	if cap(o.taken) > maxBatch { // the memory of a burst
		o.taken = nil
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.taken, o.queue = o.queue, o.taken[:0]
	o.sending = len(o.taken) > 0
	return o.sending
}

func (o *Outbox[T]) sent(bytes int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.bytes -= bytes
	o.admitLocked()
}

// Close refuses what comes and what waits for room, lets what is queued be sent, and waits for that. It must not be called
// from send.
func (o *Outbox[T]) Close() {
	o.mu.Lock()
	o.closed = true
	for _, w := range o.waiters {
		w.done <- ErrClosed
	}
	o.waiters = nil
	o.mu.Unlock()
	o.sender.Wait()
}
