package eio

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
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

// departures are the polling sessions that were sent away a moment ago, for no fault of theirs. Requests that were on their way
// meanwhile are answered as if they had come in time: to a client an error is worse than the end that it is to hear of.
type departures struct {
	at    map[string]time.Time
	order []string // of the ids in at
}

func (d *departures) add(id string, now time.Time) {
	for len(d.order) > 0 && now.Sub(d.at[d.order[0]]) > lateness {
		delete(d.at, d.order[0])
		d.order = d.order[1:]
	}
	if d.at == nil {
		d.at = make(map[string]time.Time)
	}
	d.at[id] = now
	d.order = append(d.order, id)
}

// sentAway notes that the client of a polling session is about to hear that it has to come again, if that is what the reason
// means.
func (srv *Server) sentAway(id string, reason CloseReason) bool {
	if reason != ReasonShutdown && reason != ReasonConnectionAge {
		return false
	}
	srv.mu.Lock()
	defer srv.mu.Unlock()
	srv.departed.add(id, time.Now())
	return true
}

// late tells whether the request is one that came too late, for no fault of its client's.
func (srv *Server) late(r *http.Request, refused *ConnectionError) bool {
	if refused.Code != CodeSessionUnknown || isUpgrade(r) || r.Method != http.MethodPost && r.Method != http.MethodGet {
		return false
	}
	id := lastValues(r.URL.RawQuery).Get("sid")
	srv.mu.Lock()
	defer srv.mu.Unlock()
	at, ok := srv.departed.at[id]
	if r.Method == http.MethodGet { // once: it knows then
		delete(srv.departed.at, id)
	}
	return ok && time.Since(at) <= lateness
}

// answerLate answers a request that came too late: a poll gets the close packet.
func (srv *Server) answerLate(w http.ResponseWriter, r *http.Request) {
	contentType, body := "text/html", []byte("ok")
	if r.Method == http.MethodGet {
		contentType, body = "text/plain; charset=UTF-8", closeMessage.payload()
		if index := jsonpIndex(lastValues(r.URL.RawQuery)); index != "" {
			body = jsonpBody(index, body)
		}
	}
	_ = srv.writePolling(w, r, contentType, body, false) // the client may have gone
}

// Reroute has the client go on by another way, for a way of this transport that is about to close: a poll that waits is answered,
// so that the next one is made, and a WebSocket ends with [ReasonShutdown] after what is queued has gone out, and so does a
// session that is about to move to one: a client whose upgrade is cut may be done with polling already.
func (s *Session) Reroute(t Transport) {
	s.mu.Lock()
	over := t == WebSocket && (s.stream != nil || s.probe != nil)
	if t == Polling {
		s.answerPollLocked()
	}
	s.mu.Unlock()
	if over {
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
	each := max(time.Second/time.Duration(srv.opts.HandshakeRate), 1)
	if srv.shaken.Before(now) {
		srv.shaken = now
	}
	if ahead := (srv.shaken.Sub(now) + each - 1) / each; ahead >= time.Duration(srv.opts.HandshakeBurst) { // a product might overflow
		return false
	}
	srv.shaken = srv.shaken.Add(each)
	return true
}
