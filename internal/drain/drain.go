// Package drain spreads the ends of many things over time.
package drain

import (
	"context"
	"math/rand/v2"
	"time"
)

// slice is the least time between two moments at which things end; all that are due by then end together.
const slice = 10 * time.Millisecond

// Pace is how fast things end.
type Pace struct {
	// Window is the time that the ends of all are spread over. Zero: they end at once.
	Window time.Duration
	// Rate, if not zero, is how many end a second; the window follows from it.
	Rate int
}

// window returns that of n things. What is left of ctx has to do for what comes after the last end, too.
func (p Pace) window(ctx context.Context, n int) time.Duration {
	w := p.Window
	if p.Rate > 0 {
		w = time.Duration(float64(n) / float64(p.Rate) * float64(time.Second))
	}
	if deadline, ok := ctx.Deadline(); ok {
		w = min(w, time.Until(deadline)*3/4)
	}
	return w
}

// Each calls end for each of the items, in random order: if there are n, each at a random moment of its n-th of the window.
// The window is shorter if ctx does not leave that much time; when ctx is done what is left ends at once. When enough is closed
// Each returns at once; a nil channel never is.
func Each[T any](ctx context.Context, pace Pace, enough <-chan struct{}, items []T, end func(T)) {
	rand.Shuffle(len(items), func(i, j int) { items[i], items[j] = items[j], items[i] })
	share := pace.window(ctx, len(items)) / time.Duration(max(len(items), 1))
	timer := time.NewTimer(0)
	defer timer.Stop()
	begun := time.Now()
	for i, item := range items {
		due := begun
		if share > 0 {
			due = due.Add(share*time.Duration(i) + rand.N(share))
		}
		if wait := time.Until(due); wait >= slice {
			timer.Reset(wait)
			select {
			case <-timer.C:
			case <-enough:
				return
			case <-ctx.Done():
			}
		}
		end(item)
	}
}
