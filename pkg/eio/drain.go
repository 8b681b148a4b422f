package eio

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/seed-0b620db0/patchbay/internal/drain"
)

// What keeps clients from coming, or coming back, all at once: the pace at which a server that shuts down ends its sessions,
// the age at which it ends them, and the rate at which it opens new ones.

// Shutdown refuses new sessions with 503 and ends those there are in an orderly way, spread over Options.DrainWindow: what is
// queued goes out first. It returns when all are gone and nothing runs any more, or, after closing the rest, when ctx is done.
func (srv *Server) Shutdown(ctx context.Context) error {
	srv.changed(func() { srv.draining = true })
	pace := drain.Pace{Window: srv.opts.DrainWindow, Rate: srv.opts.DrainRate}
	drain.Each(ctx, pace, srv.idle, srv.snapshot(), func(s *Session) { s.shut(ReasonShutdown) })
	var err error
	select {
	case <-srv.idle:
	case <-ctx.Done():
		err = ctx.Err()
	}
	return errors.Join(err, srv.Close())
}

func (srv *Server) isDraining() bool {
	srv.mu.Lock()
	defer srv.mu.Unlock()
	return srv.draining
}

// Reroute has the client go on by another way, for a way that is about to close: a poll that waits is answered, so that the next
// one is made, and a WebSocket ends with [ReasonShutdown] after what is queued has gone out.
func (s *Session) Reroute() {
	s.mu.Lock()
	stream := s.stream != nil
	if !stream {
		s.answerPollLocked()
	}
	s.mu.Unlock()
	if stream {
		s.shut(ReasonShutdown)
	}
}

// answerPollLocked answers a poll that waits, with nothing.
func (s *Session) answerPollLocked() {
	if s.poll != nil && len(s.queue) == 0 {
		// Not counted in Hooks.Queued: it is taken by the waiting poll at once.
		s.poll.finish(noopMessage)
		s.poll = nil
	}
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
