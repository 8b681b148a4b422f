package load_test

import (
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/seed-0b620db0/patchbay/internal/load"
)

func TestHistogram(t *testing.T) {
	var h load.Histogram
	if h.Count() != 0 || h.Quantile(0.5) != 0 || h.Max() != 0 {
		t.Error("it is not empty at first")
	}
	rng := rand.New(rand.NewPCG(1, 2))
	values := []time.Duration{-1, 0, 1, 127, 128, 129, 255, 256, time.Hour}
	for range 10_000 {
		values = append(values, time.Duration(1)<<rng.IntN(40)+time.Duration(rng.IntN(1000)))
	}
	var wg sync.WaitGroup
	for part := range slices.Chunk(values, 2000) {
		wg.Go(func() {
			for _, v := range part {
				h.Record(v)
			}
		})
	}
	wg.Wait()
	slices.Sort(values)
	if got := h.Count(); got != uint64(len(values)) {
		t.Errorf("%d recorded, want %d", got, len(values))
	}
	if got, want := h.Max(), values[len(values)-1]; got != want {
		t.Errorf("max is %v, want %v", got, want)
	}
	for _, q := range []float64{0, 0.01, 0.5, 0.9, 0.99, 0.999, 1} {
		exact := max(values[min(int(q*float64(len(values))), len(values)-1)], 0)
		if got := h.Quantile(q); got < exact || got > exact+exact/64+1 {
			t.Errorf("quantile %g is %v, want %v", q, got, exact)
		}
	}
}

// A value is in a bucket whose highest value is not below it, and hardly above.
func TestHistogramAlone(t *testing.T) {
	for _, v := range []time.Duration{0, 1, 63, 64, 127, 128, 129, 1000, 65535, 65536, time.Millisecond, time.Second + 1, 2 * time.Hour, 100 * time.Hour} {
		var h load.Histogram
		h.Record(v)
		if got := h.Quantile(0.5); got != min(v, h.Max()) && got < v && v < time.Hour {
			t.Errorf("%d became %d", v, got)
		}
	}
}
