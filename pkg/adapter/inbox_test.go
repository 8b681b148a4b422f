package adapter_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/seed-0b620db0/patchbay/pkg/adapter"
)

// TestInboxEnds: what has come before the end is handed over, and what goes on coming does not put the end off.
func TestInboxEnds(t *testing.T) {
	in := adapter.NewInbox(adapter.NewBudget(1<<20), func(int) int { return 1 })
	failed := make(chan struct{})
	end := errors.New("the end")
	for i := range 3 {
		in.Take(i, failed)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	var got []int
	err := in.Receive(ctx, failed, func() error { return end }, func(items []int) {
		got = append(got, items[0])
		if items[0] == 1 {
			close(failed)
		}
		in.Take(len(got)+10, failed) // there is always one more
	})
	if !errors.Is(err, end) || len(got) < 3 || got[0] != 0 || got[1] != 1 || got[2] != 2 {
		t.Errorf("%v after %d: %v", err, len(got), got[:min(len(got), 10)])
	}
}
