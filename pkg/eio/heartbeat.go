package eio

import "time"

// pingSlots is into how many moments an interval is divided; a ping may be late by one: 250 ms of 25 s.
const pingSlots = 100

// schedulePingLocked sets the timer for the next ping. Pings that are due at about the same time leave together, so that
// the timers of thousands of idle clients wake the process a few times a second only.
func (s *Session) schedulePingLocked() {
	s.scheduleLocked(s.srv.untilPing())
}

// untilPing returns when to ping a client that has been heard just now.
func (srv *Server) untilPing() time.Duration {
	d, grid := srv.opts.PingInterval, srv.opts.PingInterval/pingSlots
	if grid == 0 {
		return d
	}
	due := time.Now().Add(d)
	if over := due.Sub(due.Truncate(grid)); over > 0 {
		d += grid - over
	}
	return d
}

// scheduleLocked sets the one timer of the session.
func (s *Session) scheduleLocked(d time.Duration) {
	if s.state == stateClosed {
		return
	}
	s.deadline = time.Now().Add(d)
	s.timer.Reset(d)
}

// awaitsPong tells whether a pong is due.
func (s *Session) awaitsPong() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.awaitPong
}

// tick runs when the timer fires: a ping is due, unless the session has lasted for long enough, or a pong or the fetch of the
// close packet is overdue.
func (s *Session) tick() {
	s.mu.Lock()
	if s.state == stateClosed {
		s.mu.Unlock()
		return
	}
	if left := time.Until(s.deadline); left > 0 { // set anew after it had fired
		s.timer.Reset(left)
		s.mu.Unlock()
		return
	}
	switch {
	case s.state == stateClosing:
		reason, polling := s.endReason, s.stream == nil
		s.mu.Unlock()
		if polling {
			s.srv.sentAway(s.id, reason)
		}
		s.end(reason, errCloseTimeout, farewellAbort)
	case !s.awaitPong && s.oldLocked():
		s.mu.Unlock()
		s.shut(ReasonConnectionAge)
	case !s.awaitPong:
		s.awaitPong, s.grace = true, true
		s.pushLocked(queued{m: pingMessage})
		s.scheduleLocked(s.srv.opts.PingTimeout)
		s.mu.Unlock()
		s.queuedHook(pingMessage.size)
	case s.delivering: // its pongs wait to be read; without a ping now and then it would give us up
		s.pushLocked(queued{m: pingMessage})
		s.scheduleLocked(s.srv.opts.PingTimeout)
		s.mu.Unlock()
		s.queuedHook(pingMessage.size)
	default:
		s.mu.Unlock()
		s.end(ReasonPingTimeout, nil, farewellClose)
	}
}
