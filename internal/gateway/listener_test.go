package gateway_test

import (
	"net"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-0b620db0/patchbay/internal/gateway"
)

// crowd is a listener at which somebody always waits, until it is closed.
type crowd struct {
	net.Listener
	closed bool
}

func (c *crowd) Accept() (net.Conn, error) {
	if c.closed {
		return nil, net.ErrClosed
	}
	return nil, nil
}

// A crowd is let in at a pace, and whoever comes alone at once.
func TestPacedListener(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := new(crowd)
		l := gateway.Paced(c)
		const n = 1000
		begun := time.Now()
		for range n {
			if _, err := l.Accept(); err != nil {
				t.Fatal(err)
			}
		}
		rate := float64(n) / time.Since(begun).Seconds()
		if want := 2000 * float64(runtime.GOMAXPROCS(0)); rate < .9*want || rate > 1.1*want {
			t.Errorf("%.0f a second, want %.0f", rate, want)
		}
		time.Sleep(time.Second)
		begun = time.Now()
		if _, err := l.Accept(); err != nil || time.Since(begun) > 0 {
			t.Errorf("alone: %v after %v", err, time.Since(begun))
		}
		c.closed = true
		for range 10 {
			if _, err := l.Accept(); err == nil {
				t.Error("closed, and goes on")
			}
		}
	})
}
