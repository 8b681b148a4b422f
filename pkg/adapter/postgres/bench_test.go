package postgres_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/seed-0b620db0/patchbay/internal/pgtest"
	"github.com/seed-0b620db0/patchbay/pkg/adapter/internal/lab"
	"github.com/seed-0b620db0/patchbay/pkg/adapter/postgres"
)

// pair returns a node, and a client of another.
func pair(b *testing.B) (*lab.Lab, *lab.Node, *lab.Client) {
	b.Helper()
	l := lab.New(b, false)
	s := pgtest.Start(b)
	from, to := newNode(l, s.Pool(b), postgres.Options{}), newNode(l, s.Pool(b), postgres.Options{})
	c := to.Client("/")
	from.AwaitNodes(2)
	return l, from.Node, c
}

// BenchmarkEmit emits from one node to another, as fast as it goes. The room is unknown there, so that no client has to keep up.
func BenchmarkEmit(b *testing.B) {
	for _, bytes := range []int{16, 1024, 16 << 10} {
		b.Run(fmt.Sprintf("bytes=%d", bytes), func(b *testing.B) {
			l, from, c := pair(b)
			data := strings.Repeat("x", bytes)
			b.ReportAllocs()
			for b.Loop() {
				if err := from.To("unknown").Emit(context.Background(), "ev", data); err != nil {
					b.Fatal(err)
				}
			}
			l.Reach(from, c)
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msgs/s")
		})
	}
}

// BenchmarkRoundTrip waits for each message before it sends the next: no batches.
func BenchmarkRoundTrip(b *testing.B) {
	for _, bytes := range []int{16, 16 << 10} {
		b.Run(fmt.Sprintf("bytes=%d", bytes), func(b *testing.B) {
			_, from, c := pair(b)
			data := strings.Repeat("x", bytes)
			b.ReportAllocs()
			for b.Loop() {
				if err := from.Emit(context.Background(), "ev", data); err != nil {
					b.Fatal(err)
				}
				if _, ok := c.Next(); !ok {
					b.Fatal("it does not come")
				}
			}
		})
	}
}
