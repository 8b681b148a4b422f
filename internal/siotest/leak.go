package siotest

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// runtimeOwned names functions whose goroutines live as long as the process and are nobody's leak.
var runtimeOwned = []string{
	"testing.tRunner(", "testing.(*T).Run(", "testing.(*M).", "testing.runFuzzing(", "testing.runTests(",
	"os/signal.signal_recv(", "os/signal.loop(", "runtime.ensureSigM(", "runtime/pprof.", "runtime/trace.",
	"runtime.goparkunlock(", "runtime.runfinq(", "runtime.runFinalizers(", "runtime.runCleanups(",
}

var checked sync.Map // the tests that run with LeakCheck

// LeakCheck fails the test when goroutines that it started are still there at its end, after a while in
// which they may leave. It goes first in a test, so that its check runs after all other clean-ups. It
// cannot tell tests apart that run in parallel: use it in those that do not. The first call in a test counts: what is there at
// another one works on.
func LeakCheck(t testing.TB) {
	t.Helper()
	if _, again := checked.LoadOrStore(t, struct{}{}); again {
		return
	}
	before := goroutines()
	t.Cleanup(func() {
		checked.Delete(t)
		if left := await(before, Patience/4); len(left) > 0 {
			t.Errorf("%d goroutines left behind:\n\n%s", len(left), strings.Join(left, "\n\n"))
		}
	})
}

func await(before map[string]string, patience time.Duration) []string {
	deadline := time.Now().Add(patience)
	for pause := time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		var left []string
		for id, stack := range goroutines() {
			if _, old := before[id]; !old {
				left = append(left, stack)
			}
		}
		if len(left) == 0 || time.Now().After(deadline) {
			slices.Sort(left)
			return left
		}
		time.Sleep(pause) // the only way to see goroutines leave is to look again
	}
}

// goroutines maps the id of every goroutine that could leak to its stack.
func goroutines() map[string]string {
	buf := make([]byte, 1<<20)
	for {
		n := runtime.Stack(buf, true)
		if n < len(buf) {
			buf = buf[:n]
			break
		}
		buf = make([]byte, 2*len(buf))
	}
	all := map[string]string{}
	for stack := range strings.SplitSeq(string(buf), "\n\n") {
		var id string
		if _, err := fmt.Sscanf(stack, "goroutine %s", &id); err != nil || owned(stack) {
			continue
		}
		all[id] = stack
	}
	return all
}

func owned(stack string) bool {
	return slices.ContainsFunc(runtimeOwned, func(f string) bool { return strings.Contains(stack, "\n"+f) })
}
