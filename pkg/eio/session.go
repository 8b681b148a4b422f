package eio

import (
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/seed-0b620db0/patchbay/pkg/eio/eioproto"
)

// Handler takes what a session receives.
type Handler interface {
	// Message is called for each message, one call at a time, in the order of the wire. data belongs to the handler. While
	// a call blocks, nothing more is read from the client, and the client counts as alive.
	Message(data []byte, binary bool)
	// Closed is called once, at the end of the session, possibly while a Message call still runs. err may be nil.
	Closed(reason CloseReason, err error)
}

type state uint8

const (
	stateOpen    state = iota
	stateClosing       // takes nothing new, sends what is queued
	stateClosed
)

// closeTimeout is how long a polling client has to fetch the close packet (closeTimeout of the official server).
const closeTimeout = 30 * time.Second

// drainCloseTimeout is the same when the server shuts down.
const drainCloseTimeout = 5 * time.Second

// Session is one client's connection, whatever transport it is on. Its methods may be called from any goroutine.
type Session struct {
	// set at construction
	srv      *Server
	id       string
	req      *Request
	jsonp    string        // the JSONP callback index of the first request, "" for none
	lifetime time.Duration // how long it may last; 0: for ever

	mu sync.Mutex
	// guarded by mu
	handler    Handler
	endReason  CloseReason // why it is closing or closed
	endErr     error
	stream     *wsConn  // the transport, or nil while it is polling
	probe      *wsConn  // a WebSocket that wants to become the transport
	poll       *poll    // the GET that waits for packets
	post       *post    // the POST that is being read
	queue      []queued // in the order of sending; one is its first memory
	one        [1]queued
	bytes      int           // queued or being written
	behind     time.Duration // since when the client is, as the age of the server; 0: it is not
	state      state         // this and the next seven are one word
	reported   bool          // Handler.Closed has been called, or is about to be
	writing    bool          // a writer has it, or will
	slow       bool          // about to be closed for it
	streamed   bool          // what is delivered came over stream
	delivering bool          // Handler.Message runs
	awaitPong  bool
	grace      bool          // a packet other than the pong may still extend this ping's deadline
	turn       chan struct{} // closed when it has: two transports may receive at once during an upgrade
	timer      *time.Timer   // heartbeat, or the end of closing
	deadline   time.Time     // what the timer waits for
	noop       *time.Timer
}

type queued struct {
	m        *Message
	volatile bool
}

// ID returns the session id.
func (s *Session) ID() string { return s.id }

// Request returns what is kept of the first HTTP request.
func (s *Session) Request() *Request { return s.req }

// Transport returns the transport that the session is on now.
func (s *Session) Transport() Transport {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.transportLocked()
}

func (s *Session) transportLocked() Transport {
	if s.stream != nil {
		return WebSocket
	}
	return Polling
}

// Send queues m; it never blocks, and calls nothing but hooks. It returns [ErrClosed] when the session is over, and [ErrSlowConsumer] when m did not fit
// into the queue, which ends the session.
func (s *Session) Send(m *Message) error { return s.send(m, false) }

// Later has t run when the messages that the client has sent by now have been given to the handler. It runs on the goroutine
// that read them if that can go no further, which saves waking another one. Later may be called in [Handler.Message] only,
// and refuses if there is no such goroutine, or it has a task already. [Server.Close] does not wait for t.
func (s *Session) Later(t interface{ Run() }) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.delivering && s.streamed && s.stream.later.put(t)
}

// Sooner ends what Later puts off. It is for a [Handler.Message] that has to wait for it.
func (s *Session) Sooner() {
	s.mu.Lock()
	stream := s.stream
	s.mu.Unlock()
	if stream != nil {
		stream.runLater()
	}
}

// SendNow is Send for what is the last for now: if it can it writes m at once, and what else is queued, on the caller's
// goroutine, which saves waking another one. It does not wait for the client either, but must not be called under a lock that
// anything else needs soon: a write takes some microseconds.
func (s *Session) SendNow(m *Message) error { return s.send(m, true) }

func (s *Session) send(m *Message, now bool) error {
	s.mu.Lock()
	if s.state != stateOpen {
		s.mu.Unlock()
		return ErrClosed
	}
	fits, freed, dropped := s.makeRoomLocked(m)
	now = now && fits && s.stream != nil && !s.writing && s.stream.direct()
	switch {
	case fits:
		s.writing = s.writing || now // and so nobody else begins to
		s.pushLocked(queued{m: m})
		freed -= m.size
	case !s.slow: // not from here: the caller may hold locks that Handler.Closed needs
		reason := s.slowLocked(m)
		s.slow = s.srv.start(func() { s.fail(ReasonSlowConsumer, reason) })
	}
	change := s.paceLocked()
	s.mu.Unlock()
	s.queuedHook(-freed)
	s.paceHook(change)
	if f := s.srv.opts.Hooks.Dropped; f != nil {
		for range dropped {
			f(s)
		}
	}
	if now {
		s.srv.writers.writeNow(s)
	}
	if !fits {
		return ErrSlowConsumer
	}
	return nil
}

// SendVolatile queues m if the client is ready for it at this moment: a poll waits, or all that was sent over the WebSocket
// has been written. It tells whether it did (socket.io "volatile events").
func (s *Session) SendVolatile(m *Message) bool {
	s.mu.Lock()
	ready := s.state == stateOpen && len(s.queue) == 0 &&
		(s.stream != nil && !s.writing || s.stream == nil && s.poll != nil)
	if ready {
		s.pushLocked(queued{m, true})
	}
	s.mu.Unlock()
	if ready {
		s.queuedHook(m.size)
	} else if f := s.srv.opts.Hooks.Dropped; f != nil {
		f(s)
	}
	return ready
}

// Close ends the session with [ReasonForcedClose] after what is queued has gone out. It does not wait.
func (s *Session) Close() { s.shut(ReasonForcedClose) }

// makeRoomLocked tells whether m fits into the queue, if need be at the cost of the volatile messages in it, whose bytes
// and number it returns.
func (s *Session) makeRoomLocked(m *Message) (fits bool, freed, dropped int) {
	limit := s.srv.opts.MaxQueueBytes
	if s.slow {
		return false, 0, 0
	}
	if s.bytes == 0 || s.bytes+m.size <= limit {
		return true, 0, 0
	}
	s.queue = slices.DeleteFunc(s.queue, func(q queued) bool {
		if q.volatile {
			freed += q.m.size
			dropped++
		}
		return q.volatile
	})
	s.bytes -= freed
	return s.bytes == 0 || s.bytes+m.size <= limit, freed, dropped
}

// pushLocked queues q and sees to it that somebody sends it.
func (s *Session) pushLocked(q queued) {
	if s.queue == nil {
		s.queue = s.one[:0]
	}
	s.queue = append(s.queue, q)
	s.bytes += q.m.size
	s.kickLocked()
}

func (s *Session) kickLocked() {
	switch {
	case s.stream != nil:
		if !s.writing {
			s.writing = s.startWriterLocked()
		}
	case s.poll != nil:
		s.poll.signal()
	}
}

// startWriterLocked sees to it that what is queued for the stream is written.
func (s *Session) startWriterLocked() bool {
	if s.stream.direct() {
		return s.srv.writers.schedule(s)
	}
	return s.srv.start(s.write)
}

// takeLocked moves the queue behind dst, into the hands of whoever sends it, who then calls sent.
func (s *Session) takeLocked(dst []queued) []queued {
	dst = append(dst, s.queue...)
	s.one[0] = queued{}
	s.queue = s.one[:0]
	return dst
}

// sentLocked accounts for a batch that is out of our hands, and returns its bytes.
func (s *Session) sentLocked(batch []queued) int {
	n := 0
	for _, q := range batch {
		n += q.m.size
	}
	if s.state == stateClosed { // the rest was accounted for by end
		n = min(n, s.bytes)
	}
	s.bytes -= n
	return n
}

func (s *Session) sent(batch []queued) {
	s.mu.Lock()
	n := s.sentLocked(batch)
	change := s.paceLocked()
	s.mu.Unlock()
	s.queuedHook(-n)
	s.paceHook(change)
}

func (s *Session) queuedHook(delta int) {
	if f := s.srv.opts.Hooks.Queued; f != nil && delta != 0 {
		f(delta)
	}
}

// takeBatch moves the queue behind dst for a writer. If there is nothing to write, that one is done with s.
func (s *Session) takeBatch(dst []queued) []queued {
	s.mu.Lock()
	if len(s.queue) > 0 && s.state != stateClosed {
		defer s.mu.Unlock()
		return s.takeLocked(dst)
	}
	s.writing = false
	closing, reason := s.state == stateClosing, s.endReason
	s.mu.Unlock()
	if closing {
		s.srv.start(func() { s.end(reason, nil, farewellClose) }) // not from here, see written
	}
	return dst
}

// written notes that a batch has gone out, or failed to. It tells whether there is more to write; if not, the writer is done
// with s. After a failure nobody writes any more: s.writing stays as it is.
func (s *Session) written(batch []queued, bytes int, err error) bool {
	s.mu.Lock()
	n := s.sentLocked(batch)
	more := err == nil && (len(s.queue) > 0 || s.state == stateClosing) // which takeBatch sees to
	s.writing = more || err != nil
	change := s.paceLocked()
	s.mu.Unlock()
	s.queuedHook(-n)
	s.paceHook(change)
	if err == nil {
		s.sentHook(WebSocket, batch, bytes)
	} else {
		// Not from here: other clients wait for a writer, and who called SendNow may hold locks that Handler.Closed needs.
		// If the server is closed, Close ends the session.
		s.srv.start(func() { s.fail(ReasonTransportClose, err) })
	}
	return more
}

// write writes to a stream that may block, for as long as there is something to write.
func (s *Session) write() {
	for batch := s.takeBatch(nil); len(batch) > 0; batch = s.takeBatch(batch[:0]) {
		n, err := s.stream.write(batch)
		if !s.written(batch, n, err) {
			return
		}
	}
}

func (s *Session) sentHook(t Transport, batch []queued, bytes int) {
	f := s.srv.opts.Hooks.Sent
	if f == nil {
		return
	}
	messages := 0
	for _, q := range batch {
		if q.m.kind == eioproto.Message {
			messages++
		}
	}
	f(t, messages, bytes)
}

// receive handles a packet that came in over any transport. It returns false when the session takes no more of them.
func (s *Session) receive(t Transport, p eioproto.Packet) bool {
	s.mu.Lock()
	if s.state != stateOpen {
		s.mu.Unlock()
		return false
	}
	if p.Type == eioproto.Pong {
		s.awaitPong = false
		s.schedulePingLocked()
	} else if s.awaitPong && s.grace {
		// engine.io 6.6.11: the first other packet shows that the client lives and its pong is on the way.
		s.grace = false
		s.scheduleLocked(s.srv.opts.PingTimeout)
	}
	if p.Type == eioproto.Message {
		if f := s.srv.opts.Hooks.Received; f != nil {
			s.mu.Unlock()
			f(t, len(p.Data))
			s.mu.Lock()
		}
		s.deliverUnlock(t, p)
		return true
	}
	s.mu.Unlock()

	switch p.Type {
	case eioproto.Close:
		s.end(ReasonTransportClose, nil, farewellNoop)
		return false
	case eioproto.Ping:
		s.fail(ReasonTransportError, errPingDirection)
		return false
	default: // open, upgrade and noop have no meaning here and are ignored, as is a pong beyond the above
		return true
	}
}

// deliverUnlock calls the handler, with mu unlocked. A client is not blamed for silence while we keep it from being heard.
func (s *Session) deliverUnlock(t Transport, p eioproto.Packet) {
	begun := time.Now()
	for s.delivering {
		if s.turn == nil {
			s.turn = make(chan struct{})
		}
		turn, stream := s.turn, s.stream
		s.mu.Unlock()
		if t == WebSocket {
			stream.runLater() // or it would wait for the other transport, which may wait for it
		}
		<-turn
		s.mu.Lock()
	}
	h := s.handler
	if s.state != stateOpen { // it closed while this waited for its turn
		s.mu.Unlock()
		return
	}
	s.delivering, s.streamed = true, t == WebSocket
	s.mu.Unlock()
	defer s.delivered(begun)
	h.Message(p.Data, p.Binary)
}

// delivered is deferred by deliverUnlock.
func (s *Session) delivered(begun time.Time) {
	if v := recover(); v != nil {
		err := fmt.Errorf("eio: panic in Handler.Message: %v", v)
		s.srv.opts.Logger.Error("handler_panic", "panic", v, "stack", string(debug.Stack()))
		s.fail(ReasonTransportError, err)
	}
	s.mu.Lock()
	s.delivering = false
	if s.turn != nil {
		close(s.turn)
		s.turn = nil
	}
	if s.awaitPong { // it could not be heard
		s.scheduleLocked(time.Until(s.deadline) + time.Since(begun))
	}
	s.mu.Unlock()
}

// shut begins an orderly end: what is queued goes out, then the transport closes. The end is reported at once, except
// for a polling client that has no request open: it learns of it with its next one.
func (s *Session) shut(reason CloseReason) {
	defer s.srv.hold()()
	s.mu.Lock()
	if s.state != stateOpen {
		if s.state == stateClosing && reason == ReasonShutdown { // there is less time now
			s.scheduleLocked(s.srv.closeTimeout())
		}
		s.mu.Unlock()
		return
	}
	s.state, s.endReason = stateClosing, reason
	now, report, added := false, true, 0
	if s.stream != nil {
		now = !s.writing
	} else {
		report, added = s.poll != nil, closeMessage.size
		s.pushLocked(queued{m: closeMessage})
	}
	s.scheduleLocked(s.srv.closeTimeout())
	s.mu.Unlock()
	s.queuedHook(added)
	if report {
		s.report(reason, nil)
	}
	if now {
		s.end(reason, nil, farewellClose)
	}
}

// farewell is how the transport learns of the end of its session.
type farewell uint8

const (
	farewellClose farewell = iota // a close packet for a waiting poll, a close frame for a WebSocket
	farewellNoop                  // the same, but a noop for the poll: the client closed and expects nothing
	farewellNone                  // the caller closes the WebSocket
	farewellAbort                 // nobody listens
	farewellSent                  // the poll has it; a post that is on its way is taken in, as an error would be sooner there
)

// fail ends the session for a fault; what is queued is lost.
func (s *Session) fail(reason CloseReason, err error) { s.end(reason, err, farewellClose) }

// end takes the session out of service, once: the transport is told goodbye and let go, the queue dropped.
func (s *Session) end(reason CloseReason, err error, how farewell) {
	defer s.srv.hold()()
	s.mu.Lock()
	if s.state == stateClosed {
		s.mu.Unlock()
		return
	}
	s.state = stateClosed
	s.timer.Stop()
	stream, probe, pending, dropped := s.stream, s.probe, s.poll, s.bytes
	if p := s.post; p != nil && how != farewellSent && (!p.processing || errors.Is(err, errPostOverlap)) {
		p.abort() // under the lock, or it could meet the next request of that connection
	}
	if pending != nil { // under the lock: a poll that wakes up and is no longer the session's must find its last word
		last := closeMessage
		if how == farewellNoop {
			last = noopMessage
		}
		pending.finish(last)
	}
	s.probe, s.poll, s.bytes = nil, nil, 0
	s.queue, s.one[0] = nil, queued{}
	s.stopNoopLocked()
	change := s.paceLocked()
	s.mu.Unlock()

	s.srv.remove(s)
	s.queuedHook(-dropped)
	s.paceHook(change)
	if probe != nil {
		probe.close(s.srv)
	}
	if stream != nil {
		switch how {
		case farewellNone:
		case farewellAbort:
			stream.abort()
		default:
			stream.close(s.srv)
		}
	}
	s.report(reason, err)
}

// report calls Handler.Closed, once.
func (s *Session) report(reason CloseReason, err error) {
	s.mu.Lock()
	if s.reported {
		s.mu.Unlock()
		return
	}
	s.reported = true
	h := s.handler
	s.endReason, s.endErr = reason, err
	s.mu.Unlock()
	if f := s.srv.opts.Hooks.Closed; f != nil {
		f(s, reason, err)
	}
	if h != nil { // else setHandler does it
		h.Closed(reason, err)
	}
}

// setHandler gives the session its handler, and tells it if the session is over already.
func (s *Session) setHandler(h Handler) {
	s.mu.Lock()
	s.handler = h
	over, reason, err := s.reported, s.endReason, s.endErr
	s.mu.Unlock()
	if over {
		h.Closed(reason, err)
	}
}
