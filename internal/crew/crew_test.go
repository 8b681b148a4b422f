package crew_test

import (
	"bytes"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/seed-0b620db0/patchbay/internal/crew"
)

// In each test the end of the bubble shows that the goroutines end with Close.

func TestGoroutinesAreKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c crew.Crew
		defer c.Close()
		who := map[string]int{}
		for range 100 {
			c.Go(crew.Func(func() {
				buf := make([]byte, 64)
				name, _, _ := bytes.Cut(buf[:runtime.Stack(buf, false)], []byte("["))
				who[string(name)]++
			}))
			synctest.Wait()
		}
		if len(who) != 1 {
			t.Errorf("one task at a time, run by %v", who)
		}
	})
}

// Tasks that wait for each other all run, and of their goroutines a bounded number stays.
func TestGoroutinesAreNotLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c crew.Crew
		defer c.Close()
		var running atomic.Int64
		release := make(chan struct{})
		for range 500 {
			c.Go(crew.Func(func() { running.Add(1); <-release }))
		}
		synctest.Wait()
		if n := running.Load(); n != 500 {
			t.Errorf("%d of 500 tasks run", n)
		}
		close(release)
		synctest.Wait()
		if n := c.Idle(); n == 0 || n > 256 {
			t.Errorf("%d goroutines are kept", n)
		}
	})
}

func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c crew.Crew
		release, late := make(chan struct{}), false
		c.Go(crew.Func(func() { <-release }))
		c.Go(crew.Func(func() {}))
		synctest.Wait()
		c.Close()
		c.Go(crew.Func(func() { late = true })) // what a server still has to do while it closes
		close(release)
		synctest.Wait()
		if n := c.Idle(); n != 0 || !late {
			t.Errorf("%d goroutines are kept after Close; the last task ran: %v", n, late)
		}
		c.Close()
	})
}
