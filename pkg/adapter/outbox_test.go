package adapter_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-0b620db0/patchbay/pkg/adapter"
)

// post is a place to send to, which takes one batch for each token in gate, or any if that is nil.
type post struct {
	gate chan struct{}

	mu      sync.Mutex
	batches [][]int
}

func (p *post) send(batch []int) {
	if p.gate != nil {
		<-p.gate
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.batches = append(p.batches, slices.Clone(batch))
}

func (p *post) all() []int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Concat(p.batches...)
}

func TestOutboxSendsWhatPiledUpInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &post{gate: make(chan struct{}, 1000)}
		o := adapter.NewOutbox(1<<30, p.send)
		for i := range 1000 {
			if err := o.Put(t.Context(), i, 1); err != nil {
				t.Fatal(err)
			}
			if i == 0 {
				synctest.Wait() // it is being sent
			}
		}
		large := []int{1 << 19, 1 << 19, 1, 1 << 22, 1}
		for i, size := range large {
			if err := o.Put(t.Context(), 1000+i, size); err != nil {
				t.Fatal(err)
			}
		}
		for range 10 {
			p.gate <- struct{}{}
		}
		o.Close()
		var sizes []int
		for _, b := range p.batches {
			sizes = append(sizes, len(b))
		}
		if want := []int{1, 512, 488, 2, 1, 1}; !slices.Equal(sizes, want) {
			t.Errorf("batches of %v, want %v", sizes, want)
		}
		if got := p.all(); len(got) != 1005 || !slices.IsSorted(got) {
			t.Errorf("got %v", got)
		}
		if err := o.Put(t.Context(), 0, 1); !errors.Is(err, adapter.ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
		o.Close()
	})
}

func TestOutboxIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &post{gate: make(chan struct{})}
		o := adapter.NewOutbox(100, p.send)
		put := func(item, size int, patience time.Duration) <-chan error {
			done := make(chan error, 1)
			go func() {
				ctx, cancel := context.WithTimeoutCause(t.Context(), patience, errors.New("impatient"))
				defer cancel()
				done <- o.Put(ctx, item, size)
			}()
			synctest.Wait()
			return done
		}
		for _, done := range []<-chan error{put(0, 60, 0), put(1, 40, 0)} { // what has room does not wait
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		huge, impatient, small := put(2, 1000, time.Hour), put(3, 1, time.Second), put(4, 1, time.Hour)
		if err := <-impatient; !errors.Is(err, adapter.ErrFull) || err.Error() != adapter.ErrFull.Error()+": impatient" {
			t.Errorf("got %v", err)
		}
		p.gate <- struct{}{}
		synctest.Wait()
		if len(huge)+len(small) != 0 {
			t.Error("a small one overtakes")
		}
		p.gate <- struct{}{}
		synctest.Wait()
		if err := <-huge; err != nil || len(small) != 0 {
			t.Errorf("huge: %v; small has gone: %d", err, len(small))
		}
		p.gate <- struct{}{}
		if err := <-small; err != nil {
			t.Error(err)
		}
		p.gate <- struct{}{}
		synctest.Wait()
		if got := p.all(); !slices.Equal(got, []int{0, 1, 2, 4}) {
			t.Errorf("got %v", got)
		}

		// Who gives up lets those behind go on, if they fit.
		_, wide, narrow := put(5, 50, 0), put(6, 80, time.Second), put(7, 50, time.Hour)
		if err := <-wide; !errors.Is(err, adapter.ErrFull) {
			t.Errorf("got %v", err)
		}
		if err := <-narrow; err != nil {
			t.Error(err)
		}
		waits := put(8, 100, time.Hour)
		closed := make(chan struct{})
		go func() {
			o.Close()
			close(closed)
		}()
		if err := <-waits; !errors.Is(err, adapter.ErrClosed) {
			t.Errorf("got %v", err)
		}
		synctest.Wait()
		select {
		case <-closed:
			t.Error("Close does not wait")
		default:
		}
		close(p.gate)
		<-closed
		if got := p.all(); !slices.Equal(got, []int{0, 1, 2, 4, 5, 7}) {
			t.Errorf("got %v", got)
		}
	})
}

// TestOutboxRace checks that, whatever the schedule, what Put has taken is sent, once and in order.
func TestOutboxRace(t *testing.T) {
	const senders, each = 8, 2000
	var p post
	o := adapter.NewOutbox(64, p.send)
	var wg sync.WaitGroup
	for s := range senders {
		wg.Go(func() {
			for i := range each {
				ctx, cancel := context.WithCancel(t.Context())
				if i%3 == 0 {
					cancel()
				}
				err := o.Put(ctx, s*each+i, 1+i%80)
				cancel()
				for ; err != nil; err = o.Put(t.Context(), s*each+i, 1+i%80) {
					if !errors.Is(err, adapter.ErrFull) {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	wg.Wait()
	o.Close()
	got := p.all()
	next := make([]int, senders)
	for _, v := range got {
		if v%each != next[v/each] {
			t.Fatalf("sender %d: %d, want %d", v/each, v%each, next[v/each])
		}
		next[v/each]++
	}
	if len(got) != senders*each {
		t.Errorf("%d were sent, want %d", len(got), senders*each)
	}
}

func BenchmarkOutbox(b *testing.B) {
	o := adapter.NewOutbox(1<<20, func([]int) {})
	defer o.Close()
	b.ReportAllocs()
	for b.Loop() {
		if err := o.Put(b.Context(), 1, 100); err != nil {
			b.Fatal(err)
		}
	}
}
