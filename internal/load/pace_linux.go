package load

import (
	"syscall"
	"time"
)

// precise asks for this thread to be woken on time; the system's habit is up to 50 µs late.
func precise() {
	const prSetTimerSlack = 29
	_, _, _ = syscall.Syscall(syscall.SYS_PRCTL, prSetTimerSlack, 1, 0) // without it the times are only less exact
}

// pause does what time.Sleep does, whose timers may be a millisecond late.
func pause(d time.Duration) {
	ts := syscall.NsecToTimespec(int64(d))
	_ = syscall.Nanosleep(&ts, nil) // the caller looks at the clock
}
