package redis_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/seed-0b620db0/patchbay/internal/redistest"
	"github.com/seed-0b620db0/patchbay/pkg/adapter/internal/lab"
	"github.com/seed-0b620db0/patchbay/pkg/adapter/redis"
)

// BenchmarkClassic emits from one node to a client of another, which need not keep up.
func BenchmarkClassic(b *testing.B) {
	for _, bytes := range []int{16, 1024} {
		for _, room := range []string{"known", "unknown"} {
			b.Run(fmt.Sprintf("bytes=%d/room=%s", bytes, room), func(b *testing.B) {
				l := lab.New(b, false)
				s := redistest.Start(b)
				from, to := newNode(l, s.Client(b), redis.Options{}), newNode(l, s.Client(b), redis.Options{})
				c := to.Client("/", "known")
				data := strings.Repeat("x", bytes)
				b.ReportAllocs()
				for b.Loop() {
					if err := from.To(room).Volatile().Emit(context.Background(), "ev", data); err != nil {
						b.Fatal(err)
					}
				}
				l.Reach(from, c)
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msgs/s")
			})
		}
	}
}
