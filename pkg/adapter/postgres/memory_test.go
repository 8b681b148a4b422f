package postgres_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-0b620db0/patchbay/pkg/adapter/postgres"
)

// TestMemory forgets what was handed over long ago, and rather takes what it does not know for that than hand it over twice.
func TestMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := new(postgres.Memory)
		window := time.Minute
		check := func(id int64, want bool) {
			t.Helper()
			if got := m.Has(window)(id); got != want {
				t.Errorf("has %d: %v", id, got)
			}
		}
		check(1, false)
		for id := range int64(postgres.MaxMemory) {
			m.Add(2 + 2*id)
		}
		check(10, true)
		check(11, false)
		for id := range int64(100) {
			m.Add(2 + 2*(postgres.MaxMemory+id))
		}
		check(10, true)
		check(11, true)
		check(201, false)
		check(202, true)
		check(2*postgres.MaxMemory, true)
		time.Sleep(window + 1)
		check(10, false) // what is found is younger
		check(202, true)
	})
}
