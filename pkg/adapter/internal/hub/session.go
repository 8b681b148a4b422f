package hub

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// Conn is a connection that embeds [Session]. Its methods are called by one goroutine.
type Conn interface {
	// Dial connects. It is called again for a while if it fails.
	Dial(ctx context.Context) error
	// Passing tells whether what Dial has returned may be over in a moment.
	Passing(err error) bool
	// Serve does the work, until Done is closed; ctx is done then. It returns when nothing of it runs.
	Serve(ctx context.Context)

	// Base is that of the Session.
	Base() *Session
}

// Session is one connection, from dialling to its end. It is not repaired: a fault ends it, and the buses on it, which then are
// opened again on the next one.
type Session struct {
	// set at construction
	forget  func()
	stop    context.CancelFunc
	trouble chan struct{} // closed when Dial has failed and is called again
	ready   chan struct{} // closed by Ready
	done    chan struct{} // closed when it has failed, or is not needed any more
	ended   chan struct{} // closed when nothing of it runs

	up, end   sync.Once
	fault     error // why Dial failed first; readable when trouble is closed
	err       error // why; readable when done is closed
	connected atomic.Bool
	users     int // guarded by the hub's mu
}

// NewSession returns what is to be embedded.
func NewSession() Session {
	return Session{trouble: make(chan struct{}), ready: make(chan struct{}), done: make(chan struct{})}
}

// Base returns what is embedded.
func (s *Session) Base() *Session { return s }

// Ready lets those go on that wait for the session.
func (s *Session) Ready() { s.up.Do(func() { close(s.ready) }) }

// Done is closed when the session has failed, or is not needed any more.
func (s *Session) Done() <-chan struct{} { return s.done }

// Err returns why, when Done is closed.
func (s *Session) Err() error { return s.err }

// Over tells whether Done is closed.
func (s *Session) Over() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

// Fail ends the session for a reason. It does not wait.
func (s *Session) Fail(err error) {
	s.end.Do(func() {
		s.err = err
		s.forget()
		close(s.done)
		s.stop()
	})
}

// run connects, after a pause, and ends after all others: those of the session, and those of the one before.
func run(ctx context.Context, c Conn, timeout, pause time.Duration, before <-chan struct{}) {
	s := c.Base()
	defer func() {
		<-before
		close(s.ended)
	}()
	if err := connect(ctx, c, timeout, pause); err != nil {
		s.Fail(err)
		return
	}
	s.connected.Store(true)
	c.Serve(ctx)
}

// The pauses between two attempts to connect.
const (
	minRedial = 50 * time.Millisecond
	maxRedial = 250 * time.Millisecond
)

// connect dials, after a pause, and for a while again if nobody answers: one who dials often spares all namespaces the longer
// pauses of their own.
func connect(ctx context.Context, c Conn, timeout, pause time.Duration) error {
	s := c.Base()
	timer := time.NewTimer(pause)
	defer timer.Stop()
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	for pause = minRedial; ; pause = min(2*pause, maxRedial) {
		select {
		case <-timer.C:
		case <-s.done:
			return s.err
		}
		err := c.Dial(ctx)
		if err == nil || !c.Passing(err) {
			return err
		}
		if until, _ := ctx.Deadline(); time.Until(until) < pause {
			return err
		}
		if s.fault == nil {
			s.fault = err
			close(s.trouble)
		}
		timer.Reset(pause/2 + rand.N(pause/2)) // not all nodes at the same time
	}
}
