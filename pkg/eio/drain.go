package eio

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"
)

// What keeps clients from coming, or coming back, all at once: the pace at which a server that shuts down ends its sessions,
// the age at which it ends them, and the rate at which it opens new ones.

// drainSlice is the least time between two moments at which sessions are ended; all that are due by then end together.
const drainSlice = 10 * time.Millisecond

// Shutdown refuses new sessions with 503 and ends those there are in an orderly way, spread over Options.DrainWindow: what is
// queued goes out first. It returns when all are gone and nothing runs any more, or, after closing the rest, when ctx is done.
func (srv *Server) Shutdown(ctx context.Context) error {
	srv.changed(func() { srv.draining = true })
	srv.drain(ctx)
	var err error
	select {
	case <-srv.idle:
	case <-ctx.Done():
		err = ctx.Err()
	}
	return errors.Join(err, srv.Close())
}

// drain tells the sessions to end. Of n sessions each ends at a random moment of its n-th of the window.
func (srv *Server) drain(ctx context.Context) {
	sessions := srv.snapshot()
	rand.Shuffle(len(sessions), func(i, j int) { sessions[i], sessions[j] = sessions[j], sessions[i] })
	n := time.Duration(len(sessions))
	window := srv.opts.drainWindow(len(sessions))
	if deadline, ok := ctx.Deadline(); ok { // the last have to end in an orderly way, too
		window = min(window, time.Until(deadline)*3/4)
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	begun := time.Now()
	for i, s := range sessions {
		due := begun
		if window >= n {
			due = due.Add(window/n*time.Duration(i) + rand.N(window/n))
		}
		if wait := time.Until(due); wait >= drainSlice {
			timer.Reset(wait)
			select {
			case <-timer.C:
			case <-srv.idle: // the clients have gone by themselves
				return
			case <-ctx.Done():
			}
		}
		s.shut(ReasonShutdown)
	}
}

// drainWindow is what n sessions are ended in.
func (o *Options) drainWindow(n int) time.Duration {
	if o.DrainRate > 0 {
		return time.Duration(float64(n) / float64(o.DrainRate) * float64(time.Second))
	}
	return o.DrainWindow
}

func (srv *Server) isDraining() bool {
	srv.mu.Lock()
	defer srv.mu.Unlock()
	return srv.draining
}

// lifetime is how long a session may last; 0: for ever.
func (o *Options) lifetime() time.Duration {
	return o.MaxAge - time.Duration(o.MaxAgeJitter*rand.Float64()*float64(o.MaxAge))
}

// oldLocked tells whether the session has reached the end of its lifetime.
func (s *Session) oldLocked() bool { return s.lifetime > 0 && time.Since(s.req.time) >= s.lifetime }

// reserve takes a place for a new session.
func (srv *Server) reserve() *ConnectionError {
	srv.mu.Lock()
	defer srv.mu.Unlock()
	switch {
	case srv.draining:
		return unavailable("Server shutting down", ErrDraining)
	case len(srv.sessions)+srv.opening >= srv.opts.MaxSessions:
		return unavailable("Too many sessions", ErrTooManySessions)
	case !srv.inTimeLocked(time.Now()):
		return unavailable("Too many handshakes", ErrHandshakeRate)
	}
	srv.opening++
	return nil
}

// inTimeLocked counts a handshake, unless it comes too early (the generic cell rate algorithm).
func (srv *Server) inTimeLocked(now time.Time) bool {
	if srv.opts.HandshakeRate == 0 {
		return true
	}
	each := time.Second / time.Duration(srv.opts.HandshakeRate)
	if srv.shaken.Before(now) {
		srv.shaken = now
	}
	if srv.shaken.Sub(now) > each*time.Duration(srv.opts.HandshakeBurst-1) {
		return false
	}
	srv.shaken = srv.shaken.Add(each)
	return true
}
