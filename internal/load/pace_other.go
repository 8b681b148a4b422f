//go:build !linux

package load

import "time"

func precise() {}

func pause(d time.Duration) { time.Sleep(d) }
