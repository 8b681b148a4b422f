package load

import (
	"context"
	"runtime"
	"time"
)

// Pace calls f perSecond times a second until ctx is done, with the number of the call and the time at which it was due.
// It is an open loop: a call that comes late keeps its time, and those after it are not put off.
func Pace(ctx context.Context, perSecond float64, f func(i int, due int64)) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	precise()
	begin := Now()
	for i := 0; ; i++ {
		due := begin + int64(float64(i)/perSecond*float64(time.Second))
		for wait := due - Now(); wait > 0; wait = due - Now() {
			if ctx.Err() != nil {
				return
			}
			pause(min(time.Duration(wait), 50*time.Millisecond))
		}
		if ctx.Err() != nil {
			return
		}
		f(i, due)
	}
}
