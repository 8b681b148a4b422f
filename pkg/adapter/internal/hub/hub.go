package hub

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/seed-0b620db0/patchbay/pkg/adapter"
)

// redialPause is the least time between the starts of two sessions. It matters when thousands of namespaces want one.
const redialPause = 50 * time.Millisecond

// ErrUnused is why a session ends that is not needed any more.
var ErrUnused = errors.New("nobody listens any more")

// Hub is what the namespaces of one server share: a session, and the queue of what is published. Both are there while somebody
// uses them.
type Hub[C Conn, T any] struct {
	// set at construction
	name    string
	timeout time.Duration
	open    func() C
	outbox  func() *adapter.Outbox[T]
	state   func(ns string, err error) // adapter.Hooks.State, or nil

	mu sync.Mutex
	// guarded by mu
	current *C                 // nil if there is none, or the last one has failed
	queue   *adapter.Outbox[T] // nil if nobody uses the hub
	started time.Time          // when the last session was, or will be
	ended   chan struct{}      // of the last session
}

// New returns a hub that nobody uses. name begins errors, timeout bounds dialling, open makes a session, outbox a queue, and state,
// which may be nil, is told why that takes long.
func New[C Conn, T any](
	name string, timeout time.Duration, open func() C, outbox func() *adapter.Outbox[T], state func(ns string, err error),
) *Hub[C, T] {
	ended := make(chan struct{})
	close(ended)
	return &Hub[C, T]{name: name, timeout: timeout, open: open, outbox: outbox, state: state, ended: ended}
}

// Acquire returns a session that is up, to be released, for a namespace. Those who come at the same time share it.
func (h *Hub[C, T]) Acquire(ctx context.Context, ns string) (c C, err error) {
	h.mu.Lock()
	if h.current == nil {
		h.startLocked(ctx)
	}
	c = *h.current
	s := c.Base()
	s.users++
	h.mu.Unlock()

	if err = h.await(ctx, s, ns); err != nil {
		h.Release(c)
		var none C
		return none, err
	}
	return c, nil
}

// await waits until a session is up. Meanwhile it tells once what is in the way.
func (h *Hub[C, T]) await(ctx context.Context, s *Session, ns string) error {
	for trouble := s.trouble; ; trouble = nil {
		select {
		case <-s.ready:
			return nil
		case <-s.done:
			return s.err
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", h.name, context.Cause(ctx))
		case <-trouble:
			if h.state != nil {
				h.state(ns, s.fault)
			}
		}
	}
}

func (h *Hub[C, T]) startLocked(ctx context.Context) {
	now := time.Now()
	pause := max(0, redialPause-now.Sub(h.started))
	h.started = now.Add(pause)
	if h.queue == nil {
		h.queue = h.outbox()
	}
	c := h.open()
	before, s := h.ended, c.Base()
	h.current, h.ended = &c, make(chan struct{})
	s.ended = h.ended
	s.forget = func() { h.forget(s) }
	ctx, s.stop = context.WithCancel(context.WithoutCancel(ctx)) // it outlives who came first
	go run(ctx, c, h.timeout, pause, before)                     // ends after done is closed; who releases the session as the last waits for it
}

// Release gives back what Acquire returned. The last one ends the session, after everything was published.
func (h *Hub[C, T]) Release(c C) {
	s := c.Base()
	h.mu.Lock()
	s.users--
	if s.users > 0 || !h.isLocked(s) { // others use it, or it has failed and ends by itself
		h.mu.Unlock()
		return
	}
	h.current = nil
	queue := h.queue
	h.queue = nil
	h.mu.Unlock()
	queue.Close()
	s.Fail(fmt.Errorf("%s: %w", h.name, ErrUnused))
	<-s.ended
}

func (h *Hub[C, T]) isLocked(s *Session) bool { return h.current != nil && (*h.current).Base() == s }

// forget makes room for another session.
func (h *Hub[C, T]) forget(s *Session) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.isLocked(s) {
		h.current = nil
	}
}

// Connected returns the session if it has been connected, and not failed yet.
func (h *Hub[C, T]) Connected() (c C, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.current == nil || !(*h.current).Base().connected.Load() {
		return c, false
	}
	return *h.current, true
}

// Publish queues what a bus with a session has to send. It waits only while the queue is full.
func (h *Hub[C, T]) Publish(ctx context.Context, c C, item T, size int) error {
	if s := c.Base(); s.Over() {
		return fmt.Errorf("%w: %w", adapter.ErrDown, s.err)
	}
	h.mu.Lock()
	queue := h.queue
	h.mu.Unlock()
	if queue == nil {
		return adapter.ErrClosed
	}
	if err := queue.Put(ctx, item, size); err != nil {
		return fmt.Errorf("%s: publish: %w", h.name, err)
	}
	return nil
}
