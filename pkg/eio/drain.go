package eio

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"net/url"
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

// lateness is how long a request may take to get here that was sent before its client heard that it is sent away.
const lateness = 5 * time.Second

// departures are the polling sessions that were sent away a moment ago, for no fault of theirs. Posts that were on their way
// meanwhile are answered as if they had come in time: to a client an error is worse than the end that it is about to hear of.
type departures struct {
	ids   map[string]struct{}
	order []leftAt // those in ids
}

type leftAt struct {
	id string
	at time.Time
}

func (d *departures) add(id string, now time.Time) {
	for len(d.order) > 0 && now.Sub(d.order[0].at) > lateness {
		delete(d.ids, d.order[0].id)
		d.order = d.order[1:]
	}
	if d.ids == nil {
		d.ids = make(map[string]struct{})
	}
	d.ids[id] = struct{}{}
	d.order = append(d.order, leftAt{id, now})
}

// sentAway notes that the client of a polling session is about to hear that it has to come again.
func (srv *Server) sentAway(id string, reason CloseReason) {
	if reason != ReasonShutdown && reason != ReasonConnectionAge {
		return
	}
	srv.mu.Lock()
	defer srv.mu.Unlock()
	srv.departed.add(id, time.Now())
}

// late tells whether the request is a post that came too late, for no fault of its client's.
func (srv *Server) late(r *http.Request, query url.Values, refused *ConnectionError) bool {
	if refused.Code != CodeSessionUnknown || r.Method != http.MethodPost {
		return false
	}
	srv.mu.Lock()
	defer srv.mu.Unlock()
	_, ok := srv.departed.ids[query.Get("sid")]
	return ok
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
