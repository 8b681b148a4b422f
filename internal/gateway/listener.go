package gateway

import (
	"net"
	"runtime"
	"time"
)

// acceptSlice is the time in which no more than acceptsPerCore connections are accepted for each core: 2,000 a second, which take
// half of it at most. What comes in a burst becomes as many goroutines at once, otherwise, and they run before those that do
// something for clients who are there already. The rest waits in the kernel's queue (net.core.somaxconn) a little longer.
const (
	acceptSlice    = 500 * time.Microsecond
	acceptsPerCore = 1
)

// pacedListener accepts connections at a bounded pace. Accept is for one goroutine.
type pacedListener struct {
	net.Listener
	most int // in a slice

	begun    time.Time // the slice
	accepted int       // in it
}

func paced(l net.Listener) *pacedListener {
	return &pacedListener{Listener: l, most: acceptsPerCore * runtime.GOMAXPROCS(0)}
}

// Accept implements net.Listener.
func (l *pacedListener) Accept() (net.Conn, error) {
	if l.accepted >= l.most {
		if rest := acceptSlice - time.Since(l.begun); rest > 0 {
			time.Sleep(rest)
		}
	}
	conn, err := l.Listener.Accept()
	if now := time.Now(); now.Sub(l.begun) >= acceptSlice {
		l.begun, l.accepted = now, 0
	}
	l.accepted++
	return conn, err
}
