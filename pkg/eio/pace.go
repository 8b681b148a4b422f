package eio

import "time"

// A client is behind when more than a quarter of what may wait for it does, and has caught up when no more than an eighth is
// left. That it is behind is known before it is closed for it.
const (
	behindShare = 4
	caughtShare = 8
)

// pace is a change of whether a client keeps up.
type pace struct {
	changed, behind bool
	took            time.Duration // how long it was behind
}

// paceLocked is called when what waits for the client has changed; paceHook is to be called with what it returns.
func (s *Session) paceLocked() pace {
	limit := s.srv.opts.MaxQueueBytes
	switch {
	case s.behind == 0 && s.bytes > limit/behindShare:
		s.behind = s.srv.age()
		return pace{changed: true, behind: true}
	case s.behind != 0 && s.bytes <= limit/caughtShare:
		took := s.srv.age() - s.behind
		s.behind = 0
		return pace{changed: true, took: took}
	default:
		return pace{}
	}
}

func (s *Session) paceHook(p pace) {
	if !p.changed {
		return
	}
	hooks := &s.srv.opts.Hooks
	if p.behind && hooks.Behind != nil {
		hooks.Behind(s)
	}
	if !p.behind && hooks.CaughtUp != nil {
		hooks.CaughtUp(s, p.took)
	}
}

// slowLocked returns why the session is closed when m does not fit.
func (s *Session) slowLocked(m *Message) *SlowConsumerError {
	e := &SlowConsumerError{Queued: s.bytes, Message: m.size}
	if s.behind != 0 {
		e.Behind = s.srv.age() - s.behind
	}
	return e
}

// age returns the time since the server was made; it is never zero.
func (srv *Server) age() time.Duration { return time.Since(srv.made) + 1 }
