package crew_test

import (
	"runtime"
	"testing"
	"testing/synctest"

	"github.com/seed-0b620db0/patchbay/internal/crew"
)

func TestGoroutinesAreKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c crew.Crew
		before := runtime.NumGoroutine()
		ran := 0
		for range 100 {
			c.Go(crew.Func(func() { ran++ }))
			synctest.Wait()
		}
		if ran != 100 {
			t.Errorf("%d of 100 tasks ran", ran)
		}
		if n := runtime.NumGoroutine() - before; n != 1 {
			t.Errorf("%d goroutines for one task at a time", n)
		}
		c.Close() // or the bubble would not end
	})
}

// Tasks that wait for each other all run, and of their goroutines a bounded number stays.
func TestGoroutinesAreNotLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c crew.Crew
		before := runtime.NumGoroutine()
		release := make(chan struct{})
		for range 500 {
			c.Go(crew.Func(func() { <-release }))
		}
		synctest.Wait()
		if n := runtime.NumGoroutine() - before; n != 500 {
			t.Errorf("%d of 500 tasks run", n)
		}
		close(release)
		synctest.Wait()
		if n := runtime.NumGoroutine() - before; n > 64 {
			t.Errorf("%d goroutines are kept", n)
		}
		c.Close()
	})
}

func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c crew.Crew
		before := runtime.NumGoroutine()
		release := make(chan struct{})
		c.Go(crew.Func(func() { <-release }))
		c.Go(crew.Func(func() {}))
		synctest.Wait()
		c.Close()
		synctest.Wait()
		if n := runtime.NumGoroutine() - before; n != 1 {
			t.Errorf("%d goroutines after Close, one is at work", n)
		}
		late := false
		c.Go(crew.Func(func() { late = true })) // what a server still has to do while it closes
		close(release)
		synctest.Wait()
		if n := runtime.NumGoroutine() - before; n != 0 || !late {
			t.Errorf("%d goroutines at the end; the last task ran: %v", n, late)
		}
		c.Close()
	})
}
