package gateway

import (
	"errors"
	"sync"
	"time"

	"github.com/seed-0b620db0/patchbay/pkg/eio"
)

// slowLines is how many clients that were too slow are named in the log within slowInterval. What is too much for one is
// often too much for all of them.
const (
	slowLines    = 10
	slowInterval = 10 * time.Second
	maxForwarded = 200 // bytes of a header in the log
)

// logSlow names a client that was closed because it was too slow.
func (m *metrics) logSlow(s *eio.Session, err error) {
	ok, silent := m.slowLogged.allow(time.Now())
	if !ok {
		return
	}
	forwarded := s.Request().Header().Get("X-Forwarded-For")
	slow := new(eio.SlowConsumerError)
	errors.As(err, &slow)
	m.log.Warn("slow_client_closed", "session", s.ID(), "remote_addr", s.Request().RemoteAddr(),
		"forwarded_for", forwarded[:min(len(forwarded), maxForwarded)], "transport", string(s.Transport()),
		"queued_bytes", slow.Queued, "message_bytes", slow.Message, "behind", slow.Behind.Round(time.Millisecond).String(), "not_logged", silent)
}

// slowLimit bounds the lines of logSlow.
type slowLimit struct {
	mu sync.Mutex
	// guarded by mu
	begun       time.Time // of the interval
	lines, held int       // logged in it; not logged since the last line
}

// allow tells whether there may be a line, and how many there were not since the last one.
func (l *slowLimit) allow(now time.Time) (ok bool, silent int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now.Sub(l.begun) >= slowInterval {
		l.begun, l.lines = now, 0
	}
	if l.lines == slowLines {
		l.held++
		return false, 0
	}
	l.lines++
	silent, l.held = l.held, 0
	return true, silent
}
