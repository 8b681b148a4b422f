package drain_test

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-0b620db0/patchbay/internal/drain"
)

// run returns the order in which n items end, and when.
func run(ctx context.Context, pace drain.Pace, enough <-chan struct{}, n int) (order []int, when []time.Duration) {
	items := make([]int, n)
	for i := range items {
		items[i] = i
	}
	begun := time.Now()
	drain.Each(ctx, pace, enough, items, func(i int) {
		order, when = append(order, i), append(when, time.Since(begun))
	})
	return order, when
}

func TestEach(t *testing.T) {
	for name, c := range map[string]struct {
		pace    drain.Pace
		timeout time.Duration
		n       int
		window  time.Duration
	}{
		"at once":           {drain.Pace{}, 0, 100, 0},
		"window":            {drain.Pace{Window: 10 * time.Second}, 0, 100, 10 * time.Second},
		"rate":              {drain.Pace{Window: time.Hour, Rate: 20}, 0, 100, 5 * time.Second},
		"rate below one":    {drain.Pace{Rate: 1}, 0, 3, 3 * time.Second},
		"context":           {drain.Pace{Window: time.Hour}, time.Minute, 100, 45 * time.Second},
		"rate and context":  {drain.Pace{Rate: 1}, 20 * time.Second, 100, 15 * time.Second},
		"more than a slice": {drain.Pace{Window: time.Second}, 0, 10_000, time.Second},
		"less than a ns":    {drain.Pace{Window: 10}, 0, 100, 0},
		"one":               {drain.Pace{Window: time.Second}, 0, 1, time.Second},
		"none":              {drain.Pace{Window: time.Second}, 0, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx := t.Context()
				if c.timeout > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, c.timeout)
					defer cancel()
				}
				order, when := run(ctx, c.pace, nil, c.n)
				if len(order) != c.n {
					t.Fatalf("%d have ended", len(order))
				}
				for i, at := range when {
					from := c.window * time.Duration(i) / time.Duration(c.n)
					to := c.window * time.Duration(i+1) / time.Duration(c.n)
					if at < from-10*time.Millisecond || at > to+time.Millisecond {
						t.Fatalf("%d of %d has ended at %v, want %v to %v", i+1, c.n, at, from, to)
					}
				}
				if c.n > 20 && slices.IsSorted(order) {
					t.Error("the order is that of the items")
				}
				if slices.Sort(order); c.n > 0 && (order[0] != 0 || order[c.n-1] != c.n-1 || len(slices.Compact(order)) != c.n) {
					t.Error("not each has ended once")
				}
			})
		})
	}
}

func TestEachStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		enough := make(chan struct{})
		time.AfterFunc(time.Second, func() { close(enough) })
		begun := time.Now()
		if order, _ := run(t.Context(), drain.Pace{Window: 10 * time.Second}, enough, 100); len(order) < 8 || len(order) > 12 {
			t.Errorf("%d have ended", len(order))
		}
		if took := time.Since(begun); took != time.Second {
			t.Errorf("it took %v", took)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		begun := time.Now()
		if order, _ := run(ctx, drain.Pace{Window: 10 * time.Second}, nil, 100); len(order) != 100 {
			t.Errorf("%d have ended", len(order))
		}
		if took := time.Since(begun); took != time.Second {
			t.Errorf("it took %v", took)
		}
	})
}
