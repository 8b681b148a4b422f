package sio

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"time"
)

// pendingAcks are the acknowledgements awaited from one socket. Each is completed once: with the answer, or with an error
// when the socket is disconnected.
type pendingAcks struct {
	mu     sync.Mutex
	wait   map[uint64]func(Args, error)
	closed bool
}

// add registers done, which must not block. It fails once the socket is disconnected.
func (p *pendingAcks) add(id uint64, limit int, done func(Args, error)) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.closed:
		return ErrDisconnected
	case len(p.wait) >= limit:
		return ErrTooManyAcks
	case p.wait == nil:
		p.wait = make(map[uint64]func(Args, error))
	}
	p.wait[id] = done
	return nil
}

// take removes and returns what waits for id, or nil.
func (p *pendingAcks) take(id uint64) func(Args, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	done := p.wait[id]
	delete(p.wait, id)
	return done
}

// close fails all that wait.
func (p *pendingAcks) close(err error) {
	p.mu.Lock()
	wait := p.wait
	p.wait, p.closed = nil, true
	p.mu.Unlock()
	for _, done := range wait {
		done(Args{}, err)
	}
}

// withAckTimeout gives ctx the deadline that a wait for acknowledgements must have.
func withAckTimeout(ctx context.Context, own, fallback time.Duration) (context.Context, context.CancelFunc) {
	if own > 0 {
		return context.WithTimeout(ctx, own)
	}
	if _, ok := ctx.Deadline(); ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, fallback)
}

// ackError turns the end of a wait into the error that tells of it.
func ackError(ctx context.Context) error {
	err := context.Cause(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%w: %w", ErrAckTimeout, err)
	}
	return err
}

// collect runs request, which calls answer for each answer, and yields these as they come. It ends request when the
// caller stops to range.
func collect(ctx context.Context, start func(func()) bool, request func(ctx context.Context, answer func(Args, error)) error) iter.Seq2[Args, error] {
	type result struct {
		args Args
		err  error
	}
	return func(yield func(Args, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		var (
			mu    sync.Mutex
			got   []result
			ended bool
			more  = make(chan struct{}, 1)
		)
		put := func(r result, last bool) {
			mu.Lock()
			if r.err != nil || !last {
				got = append(got, r)
			}
			ended = ended || last
			mu.Unlock()
			select {
			case more <- struct{}{}:
			default:
			}
		}
		started := start(func() {
			err := caught(func() error {
				return request(ctx, func(a Args, err error) { put(result{a, err}, false) })
			})
			put(result{err: err}, true)
		})
		if !started {
			yield(Args{}, ErrServerClosed)
			return
		}
		for {
			<-more
			mu.Lock()
			batch, last := got, ended
			got = nil
			mu.Unlock()
			for _, r := range batch {
				if !yield(r.args, r.err) {
					return
				}
			}
			if last {
				return
			}
		}
	}
}
