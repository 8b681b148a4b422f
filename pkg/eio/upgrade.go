package eio

import (
	"bytes"
	"errors"
	"net/http"
	"time"

	"github.com/coder/websocket"

	"github.com/seed-0b620db0/patchbay/pkg/eio/eioproto"
)

// While a client moves from polling to WebSocket it first finishes the poll that it has open; so each such poll is answered
// with a noop, for as long as the upgrade lasts: one that was sent too early would leave the next poll hanging, and the
// client with it. The official server looks every 100 ms, starting after the first; we look once sooner, which is when the
// client mostly is ready.
const (
	firstNoop = 10 * time.Millisecond
	nextNoop  = 100 * time.Millisecond
)

var (
	errProbe          = errors.New("unexpected packet on a probing transport")
	errUpgradeTimeout = errors.New("upgrade timed out")
)

// serveUpgrade takes a WebSocket that names an existing session.
func (s *Session) serveUpgrade(w http.ResponseWriter, r *http.Request) {
	if s.srv.opts.DisableUpgrades {
		s.srv.refuse(w, r, refusal(CodeBadRequest, "TRANSPORT_MISMATCH", nil))
		return
	}
	if f := s.srv.opts.Headers; f != nil {
		f(w.Header(), r)
	}
	c, err := s.upgrade(w, r)
	if err != nil {
		s.srv.refused(r, refusal(CodeBadRequest, "TRANSPORT_HANDSHAKE_ERROR", err))
		return
	}
	s.mu.Lock()
	if s.state != stateOpen || s.stream != nil || s.probe != nil {
		s.mu.Unlock()
		c.close(s.srv)
		return
	}
	s.probe = c
	s.mu.Unlock()
	if !s.srv.start(func() { s.serveProbe(c) }) { //nolint:contextcheck // the session outlives the request
		c.abort()
	}
}

// serveProbe runs the upgrade (§"Upgrade" of the protocol), and then the session.
func (s *Session) serveProbe(c *wsConn) {
	begun := time.Now()
	timeout := time.AfterFunc(s.srv.opts.UpgradeTimeout, func() {
		if s.dropProbe(c, errUpgradeTimeout) {
			c.close(s.srv)
		}
	})
	defer timeout.Stop()
	for {
		p, err := c.read()
		if err == nil && p.Type == eioproto.Upgrade {
			timeout.Stop()
			if s.adopt(c, begun) {
				if !c.serve() {
					c.abort()
				}
				return
			}
			err = ErrClosed
		}
		if err == nil && (p.Type != eioproto.Ping || !bytes.Equal(p.Data, []byte("probe"))) {
			err = errProbe
		}
		if err == nil {
			_, err = c.write([]queued{{m: probeMessage}})
			s.startNoops(c)
		}
		if err != nil {
			s.dropProbe(c, err)
			c.goodbye(s.srv, websocket.StatusNoStatusRcvd) // returns when the connection is gone
			return
		}
	}
}

// dropProbe forgets a probe that came to nothing; the session goes on as it was.
func (s *Session) dropProbe(c *wsConn, err error) bool {
	s.mu.Lock()
	dropped := s.probe == c
	if dropped {
		s.probe = nil
		s.stopNoopLocked()
	}
	s.mu.Unlock()
	if f := s.srv.opts.Hooks.UpgradeFailed; f != nil && dropped {
		f(s, err)
	}
	return dropped
}

func (s *Session) startNoops(c *wsConn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.probe == c && s.noop == nil && s.state != stateClosed {
		s.noop = time.AfterFunc(firstNoop, s.sendNoop)
	}
}

func (s *Session) sendNoop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.noop == nil {
		return
	}
	s.answerPollLocked()
	s.noop.Reset(nextNoop)
}

func (s *Session) stopNoopLocked() {
	if s.noop != nil {
		s.noop.Stop()
		s.noop = nil
	}
}

// adopt makes c the transport of the session. Nothing is lost on the way: what was queued for polling goes out over c.
func (s *Session) adopt(c *wsConn, begun time.Time) bool {
	s.mu.Lock()
	if s.state == stateClosed || s.probe != c {
		s.mu.Unlock()
		return false
	}
	s.probe, s.stream = nil, c
	s.stopNoopLocked()
	if s.poll != nil { // under the lock: a poll that wakes up and is no longer the session's must find its last word
		s.poll.finish(closeMessage)
		s.poll = nil
	}
	if s.awaitPong { // the ping may have been lost with the old transport
		s.scheduleLocked(s.srv.opts.PingTimeout)
	}
	report := s.state == stateClosing
	if n := len(s.queue); report && n > 0 && s.queue[n-1].m == closeMessage {
		s.queue = s.queue[:n-1] // a WebSocket is closed by a frame, which the writer sends when it is done
		s.bytes -= closeMessage.size
		defer s.queuedHook(-closeMessage.size)
	}
	if len(s.queue) > 0 || report {
		s.kickLocked()
	}
	reason := s.endReason
	s.mu.Unlock()
	if f := s.srv.opts.Hooks.Upgraded; f != nil {
		f(s, time.Since(begun))
	}
	if report {
		s.report(reason, nil)
	}
	return true
}
