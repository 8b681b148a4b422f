package sio

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/seed-0b620db0/patchbay/pkg/eio"
	"github.com/seed-0b620db0/patchbay/pkg/sio/sioproto"
)

// conn is one client's connection, shared by the namespaces it joins.
type conn struct {
	// set at construction
	srv     *Server
	session *eio.Session

	decoder sioproto.PacketDecoder // owned by the reader

	mu sync.Mutex
	// guarded by mu
	timer   *time.Timer // ends the connection if no namespace is joined; nil when one was
	entries []entry     // a handful: most clients join one
	closed  bool
}

// entry is a namespace that the client has asked for.
type entry struct {
	name   string
	socket *Socket                 // nil while middlewares run, and once the client has left
	cancel context.CancelCauseFunc // ends the middlewares
	left   bool
}

var _ eio.Handler = (*conn)(nil)

func (srv *Server) accept(session *eio.Session) eio.Handler {
	c := &conn{srv: srv, session: session, decoder: srv.opts.Parser.NewDecoder(srv.opts.limits())}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.timer = time.AfterFunc(srv.opts.ConnectTimeout, func() { c.close(ReasonForcedServerClose, errConnectTimeout) })
	return c
}

// Message implements eio.Handler.
func (c *conn) Message(data []byte, binary bool) {
	p, err := c.decoder.Add(data, binary)
	if err != nil {
		c.fail(ReasonForcedClose, err)
		return
	}
	if p != nil {
		c.receive(p)
	}
}

func (c *conn) receive(p *sioproto.Packet) {
	switch p.Type {
	case sioproto.Connect:
		c.connect(p)
		return
	case sioproto.ConnectError:
		c.fail(ReasonForcedServerClose, errUnexpectedPacket)
		return
	default:
	}
	e, ok := c.find(p.Namespace)
	switch {
	case ok && e.left:
		// It crossed the DISCONNECT of either side. The official server closes the connection, and with it the
		// client's other namespaces.
	case !ok || e.socket == nil:
		c.fail(ReasonForcedServerClose, fmt.Errorf("%w: %s for %q", errInvalidState, p.Type, p.Namespace))
	case p.Type == sioproto.Disconnect:
		e.socket.end(ReasonClientDisconnect, nil)
	default:
		e.socket.receive(p)
	}
}

func (c *conn) find(name string) (entry, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if i := c.indexLocked(name); i >= 0 {
		return c.entries[i], true
	}
	return entry{}, false
}

func (c *conn) indexLocked(name string) int {
	return slices.IndexFunc(c.entries, func(e entry) bool { return e.name == name })
}

// fail ends the connection because of what the client sent.
func (c *conn) fail(reason Reason, err error) {
	c.srv.opts.Logger.Debug("protocol_error", "session", c.session.ID(), "error", err)
	if f := c.srv.opts.Hooks.ProtocolError; f != nil {
		f(err)
	}
	c.close(reason, err)
}

// close ends the connection from our side. Over polling without an open request its end takes a while; the sockets end
// now.
func (c *conn) close(reason Reason, err error) {
	c.session.Close()
	c.end(reason, err)
}

// Closed implements eio.Handler.
func (c *conn) Closed(reason eio.CloseReason, err error) { c.end(Reason(reason), err) }

// end disconnects all sockets, once.
func (c *conn) end(reason Reason, err error) {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return
	}
	c.closed = true
	c.stopTimerLocked()
	entries := slices.Clone(c.entries)
	c.mu.Unlock()
	for _, e := range entries {
		if e.socket != nil {
			e.socket.end(reason, err)
		} else {
			e.cancel(&DisconnectError{Reason: reason, Err: err})
		}
	}
}

// lost ends a connection that its client has given up already, as far as we know.
func (c *conn) lost() {
	c.end(ReasonTransportClose, nil)
	c.session.Close()
}

// disconnect takes the client out of all namespaces, tells it so, and closes the connection.
func (c *conn) disconnect() {
	c.mu.Lock()
	entries := slices.Clone(c.entries)
	c.mu.Unlock()
	later := false
	for _, e := range entries {
		if e.socket != nil {
			later = e.socket.closeWhenTold() || later
			e.socket.disconnect(nil)
		}
	}
	if !later {
		c.close(ReasonForcedServerClose, nil)
	}
}

// left notes that a socket has ended. Its place stays, so that what its client had under way is known to be late.
func (c *conn) left(s *Socket) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if i := c.indexLocked(s.ns.name); i >= 0 && c.entries[i].socket == s {
		c.entries[i].socket, c.entries[i].left = nil, true
	}
}

// send queues a packet.
func (c *conn) send(p *sioproto.Packet) error {
	return sendError(c.session.Send(c.srv.encode(p)))
}

func sendError(err error) error {
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDisconnected, err)
	}
	return nil
}

// connect begins to admit the client to a namespace.
func (c *conn) connect(p *sioproto.Packet) {
	ctx, cancel := context.WithCancelCause(c.session.Request().Context())
	c.mu.Lock()
	i := c.indexLocked(p.Namespace)
	full := i < 0 && len(c.entries) >= c.srv.opts.MaxNamespaces
	again := i >= 0 && !c.entries[i].left
	closed := c.closed
	if i < 0 && !full {
		i, c.entries = len(c.entries), append(c.entries, entry{name: p.Namespace})
	}
	if !closed && !full && !again {
		c.entries[i].left, c.entries[i].cancel = false, cancel
	}
	c.mu.Unlock()
	switch {
	case closed:
		cancel(ErrDisconnected)
	case again: // it is joined, or about to be
		cancel(errInvalidState)
		c.fail(ReasonForcedServerClose, fmt.Errorf("%w: second CONNECT for %q", errInvalidState, p.Namespace))
	case full:
		cancel(errTooManyNamespaces)
		c.refuse(p.Namespace, errTooManyNamespaces)
	case c.srv.simple(p.Namespace):
		c.admit(ctx, cancel, p)
	default:
		c.srv.start(func() { c.admit(ctx, cancel, p) })
	}
}

// admit finds the namespace, asks its middlewares, and joins the client or refuses it.
func (c *conn) admit(ctx context.Context, cancel context.CancelCauseFunc, p *sioproto.Packet) {
	ns, err := c.srv.acquire(ctx, p.Namespace, p.Payload)
	if err != nil {
		cancel(err)
		c.forget(p.Namespace)
		c.refuse(p.Namespace, err)
		return
	}
	s := &Socket{
		ns: ns, conn: c, ctx: ctx, cancel: cancel,
		handshake: Handshake{req: c.session.Request(), auth: p.Payload},
	}
	restored := s.identify(ctx)
	if err := s.askMiddlewares(ctx); err != nil {
		s.end(ReasonServerDisconnect, err)
		if restored != nil { // it may come again, with a new token
			ns.recoverer.Persist(restored, true)
		}
		c.forget(p.Namespace)
		c.refuse(p.Namespace, err)
		return
	}
	if !c.join(s) { // the connection has ended meanwhile
		s.end(ReasonTransportClose, nil)
		if restored != nil {
			ns.recoverer.Persist(restored, true)
		}
		return
	}
	if f := c.srv.opts.Hooks.Connected; f != nil {
		f(s)
	}
	if r := ns.recoverer; r == nil {
		s.welcome(nil, nil)
	} else if !r.Admit(ctx, s, restored, func(missed []*Outgoing) { s.welcome(restored, missed) }) {
		// So much was sent since the middlewares were asked that not all of it could be kept. The client comes again.
		c.close(ReasonForcedServerClose, errMissed)
		ns.release() // there will be no last task to do it
		return
	}
	s.mu.Lock()
	out := s.close
	s.mu.Unlock()
	if out {
		c.close(ReasonForcedServerClose, nil)
	}
	s.start()
}

// identify gives s the identity of the session that its client claims, or a new one.
func (s *Socket) identify(ctx context.Context) *SocketState {
	s.id = newID()
	r := s.ns.recoverer
	if r == nil {
		return nil
	}
	s.pid = newID()
	var claim struct{ PID, Offset *string }
	if s.handshake.auth == nil || json.Unmarshal(s.handshake.auth, &claim) != nil || claim.PID == nil {
		return nil
	}
	offset := ""
	if claim.Offset != nil {
		offset = *claim.Offset
	}
	restored, err := r.Restore(ctx, *claim.PID, offset)
	if err != nil {
		s.ns.srv.opts.Logger.Warn("recovery_failed", "namespace", s.ns.name, "error", err)
	}
	if f := s.ns.srv.opts.Hooks.Recovery; f != nil {
		f(s.ns, restored != nil)
	}
	if restored != nil {
		s.id, s.pid, s.data, s.recovered = restored.ID, restored.PID, restored.Data, true
	}
	return restored
}

func (s *Socket) askMiddlewares(ctx context.Context) error {
	if s.recovered && s.ns.srv.opts.Recovery.SkipMiddlewares {
		return nil
	}
	for _, m := range s.ns.get().use {
		next, err := s.ask(ctx, m)
		if err != nil {
			return err
		}
		ctx = next //nolint:fatcontext // a handful of middlewares, each of which may add values
	}
	s.mu.Lock()
	s.ctx = ctx
	s.mu.Unlock()
	return nil
}

func (s *Socket) ask(ctx context.Context, m Middleware) (next context.Context, err error) {
	err = caught(func() (err error) {
		next, err = m(ctx, s) //nolint:fatcontext // it is the middleware's to derive
		return err
	})
	if isPanic(err) {
		s.report("", err)
	}
	if next == nil {
		next = ctx
	}
	return next, err
}

// join gives s its place in the connection, unless that has ended.
func (c *conn) join(s *Socket) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := c.indexLocked(s.ns.name)
	if c.closed || i < 0 {
		return false
	}
	s.mu.Lock()
	s.state = socketConnected
	s.mu.Unlock()
	c.entries[i].socket = s
	c.stopTimerLocked()
	return true
}

// stopTimerLocked lets go of the timer, so that it costs nothing while the client is connected.
func (c *conn) stopTimerLocked() {
	if c.timer != nil {
		c.timer.Stop()
		c.timer = nil
	}
}

// welcome sends what a recovered client has missed, tells the client that it is connected, and makes the socket visible.
// It calls no code of the application: the adapter may hold a lock.
func (s *Socket) welcome(restored *SocketState, missed []*Outgoing) {
	s.mu.Lock()
	s.welcomed = true
	s.mu.Unlock()
	for _, out := range missed {
		_ = s.queue(out, s.ns.message(out, nil), true) // an ended connection is noticed elsewhere
	}
	if restored != nil {
		s.Join(restored.Rooms...)
	}
	reply := struct {
		SID string `json:"sid"`
		PID string `json:"pid,omitempty"`
	}{s.id, s.pid}
	payload, err := json.Marshal(reply)
	if err != nil {
		panic("sio: " + err.Error()) // strings
	}
	s.ns.index.add(s) // before the client knows: from then on it counts on being reached
	_ = s.conn.send(&sioproto.Packet{Type: sioproto.Connect, Namespace: s.ns.name, Payload: payload})
	s.mu.Lock()
	s.told = true
	out := s.state == socketDisconnected && s.reason == ReasonServerDisconnect
	s.mu.Unlock()
	if out { // who put it out could not say so before the client knew that it was in
		_ = s.conn.send(&sioproto.Packet{Type: sioproto.Disconnect, Namespace: s.ns.name})
	}
	if !s.Connected() { // it ended meanwhile, and may have missed itself in the index
		s.ns.index.remove(s, nil)
	}
}

// forget takes back the place of a namespace that the client was refused.
func (c *conn) forget(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if i := c.indexLocked(name); i >= 0 && c.entries[i].socket == nil {
		c.entries = slices.Delete(c.entries, i, i+1)
	}
}

// refuse answers with a CONNECT_ERROR; the connection stays.
func (c *conn) refuse(name string, err error) {
	if f := c.srv.opts.Hooks.Refused; f != nil {
		f(name, err)
	}
	var body struct {
		Message string `json:"message"`
		Data    any    `json:"data,omitempty"`
	}
	body.Message = err.Error()
	if e, ok := errors.AsType[*ConnectError](err); ok {
		body.Message, body.Data = e.Message, e.Data
	} else if isPanic(err) {
		body.Message = "Internal server error" // what went wrong is not the client's to know
	}
	payload, atts, err := sioproto.AppendArgs(nil, nil, body)
	if len(atts) > 0 {
		err = errBinaryData
	}
	if err != nil { // Data cannot be encoded
		c.srv.opts.Logger.Error("connect_error_data", "namespace", name, "error", err)
		body.Data = nil
		payload, _, _ = sioproto.AppendArgs(nil, nil, body)
	}
	payload = payload[1 : len(payload)-1] // one value, not an array
	_ = c.send(&sioproto.Packet{Type: sioproto.ConnectError, Namespace: name, Payload: payload})
}
