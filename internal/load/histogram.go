package load

import (
	"math/bits"
	"sync/atomic"
	"time"
)

const (
	perOctave = 64 // buckets for each power of two: none is wider than 1.6 % of its value
	octaves   = 38 // up to 2^43 ns, more than two hours
)

// Histogram counts durations. Its zero value is empty. Record may be called from many goroutines at once.
type Histogram struct {
	counts [octaves * perOctave]atomic.Uint64
	max    atomic.Int64
}

// Record counts d.
func (h *Histogram) Record(d time.Duration) {
	ns := max(int64(d), 0)
	h.counts[bucket(ns)].Add(1)
	for old := h.max.Load(); ns > old && !h.max.CompareAndSwap(old, ns); old = h.max.Load() {
	}
}

// bucket returns the index for ns: itself below 128, then the 7 highest bits with the number of those cut off.
func bucket(ns int64) int {
	if ns < 2*perOctave {
		return int(ns)
	}
	cut := bits.Len64(uint64(ns)) - 7
	return min(cut*perOctave+int(ns>>cut), octaves*perOctave-1)
}

// highest returns the highest value of a bucket.
func highest(i int) int64 {
	if i < 2*perOctave {
		return int64(i)
	}
	cut := i/perOctave - 1
	return int64(i%perOctave+perOctave+1)<<cut - 1
}

// Count returns how many durations were recorded.
func (h *Histogram) Count() uint64 {
	var n uint64
	for i := range h.counts {
		n += h.counts[i].Load()
	}
	return n
}

// Max returns the longest duration.
func (h *Histogram) Max() time.Duration { return time.Duration(h.max.Load()) }

// Quantile returns the duration that a share q of those recorded did not exceed, or at most 1.6 % more; 0 if there are
// none.
func (h *Histogram) Quantile(q float64) time.Duration {
	total := h.Count()
	if total == 0 {
		return 0
	}
	rank := min(uint64(q*float64(total))+1, total)
	var seen uint64
	for i := range h.counts {
		if seen += h.counts[i].Load(); seen >= rank {
			return min(time.Duration(highest(i)), h.Max())
		}
	}
	return h.Max()
}
