package sio

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"runtime/debug"
	"slices"
	"sync"

	"github.com/seed-0b620db0/patchbay/pkg/eio"
	"github.com/seed-0b620db0/patchbay/pkg/sio/sioproto"
)

type socketState uint8

const (
	socketJoining      socketState = iota // middlewares run
	socketConnected                       // the client knows
	socketDisconnected                    // or refused
)

// Socket is a client's presence in one namespace. Its methods may be called from any goroutine.
type Socket struct {
	// set before the middlewares run
	ns        *Namespace
	conn      *conn
	id, pid   string
	handshake Handshake
	recovered bool
	cancel    context.CancelCauseFunc

	acks    pendingAcks
	counted bool // Shutdown waits for who works through tasks; set by who makes that begin

	mu sync.Mutex
	// guarded by mu
	ctx      context.Context //nolint:containedctx // a socket's own: it ends with the socket
	state    socketState
	reason   Reason // why it ended
	rooms    roomSet
	left     bool // no rooms any more, not even its own
	data     any
	tasks    []task
	one      [1]task       // the first memory of tasks
	running  bool          // somebody works through tasks
	started  bool          // tasks may run: the client has been told that it is connected
	told     bool          // CONNECT has been sent
	close    bool          // when it has, and DISCONNECT too, the connection is to be closed
	welcomed bool          // broadcasts reach it; before that a recovered client gets them with what it missed
	room     chan struct{} // a reader waits for room in tasks
}

// ID returns the id of the socket. It is also the name of a room that this socket alone is in.
func (s *Socket) ID() string { return s.id }

// Namespace returns the namespace of the socket.
func (s *Socket) Namespace() *Namespace { return s.ns }

// Handshake tells how the client came.
func (s *Socket) Handshake() *Handshake { return &s.handshake }

// Recovered tells whether the client got back a session that it had lost.
func (s *Socket) Recovered() bool { return s.recovered }

// Session returns the Engine.IO session, which other namespaces of the same client share.
func (s *Socket) Session() *eio.Session { return s.conn.session }

// Context ends when the socket is disconnected, with a [*DisconnectError] as its cause. It has the values that the
// middlewares gave it.
func (s *Socket) Context() context.Context {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ctx
}

// Connected tells whether the client is connected, as far as this node knows.
func (s *Socket) Connected() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state == socketConnected
}

// Data returns what SetData was given.
func (s *Socket) Data() any {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.data
}

// SetData attaches a value to the socket, which other nodes see in [RemoteSocket.Data] as JSON, and which a recovered
// session keeps. v must not be changed afterwards.
func (s *Socket) SetData(v any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.data = v
}

// Join puts the socket into rooms. It does nothing once the socket is disconnected. What this node emits reaches the socket from
// then on, what other nodes emit may need a moment: see [Namespace.AwaitRooms].
func (s *Socket) Join(rooms ...string) {
	for _, room := range rooms {
		if room != s.id { // its own room, which it is always in
			s.ns.index.join(s, room)
		}
	}
}

// Leave takes the socket out of rooms.
func (s *Socket) Leave(rooms ...string) {
	for _, room := range rooms {
		s.ns.index.leave(s, room)
	}
}

// Rooms returns the rooms the socket is in, its own first. In OnDisconnecting they are those it was in, in OnDisconnect
// there are none.
func (s *Socket) Rooms() iter.Seq[string] {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.left {
		return slices.Values[[]string](nil)
	}
	rooms := s.rooms.names()
	slices.Sort(rooms)
	return slices.Values(slices.Insert(rooms, 0, s.id))
}

// In tells whether the socket is in a room.
func (s *Socket) In(room string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rooms.has(room) || room == s.id && !s.left
}

// stage tells whether the middlewares still run, and whether s has yet to get what it missed.
func (s *Socket) stage() (joining, waiting bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state == socketJoining, s.recovered && !s.welcomed
}

// noteRoom is called by the index, with the room's shard locked.
func (s *Socket) noteRoom(room string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state == socketDisconnected {
		return false
	}
	s.rooms.add(room)
	return true
}

func (s *Socket) forgetRoom(room string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state == socketDisconnected {
		return s.rooms.has(room)
	}
	return s.rooms.remove(room)
}

// Emit sends an event to the client. It queues and does not wait; an error says that the arguments could not be encoded or
// that the client is gone. See [sioproto.AppendArgs] for the values it takes.
func (s *Socket) Emit(event string, args ...any) error {
	return Emitter{s: s}.Emit(event, args...)
}

// EmitWithAck sends an event to the client and waits for its acknowledgement, until ctx or [Options.AckTimeout] ends the
// wait with [ErrAckTimeout], or the end of the socket with a [*DisconnectError].
func (s *Socket) EmitWithAck(ctx context.Context, event string, args ...any) (Args, error) {
	return Emitter{s: s}.EmitWithAck(ctx, event, args...)
}

// Volatile returns an emitter whose events are dropped when the client is not ready for them at that moment.
func (s *Socket) Volatile() Emitter { return Emitter{s: s}.Volatile() }

// Compress returns an emitter that chooses whether a polling response is compressed for its events; by default it is.
func (s *Socket) Compress(on bool) Emitter { return Emitter{s: s}.Compress(on) }

// To selects the sockets of rooms, without this one.
func (s *Socket) To(rooms ...string) Broadcast { return s.Broadcast().To(rooms...) }

// Except selects all sockets of the namespace but this one and those of rooms.
func (s *Socket) Except(rooms ...string) Broadcast { return s.Broadcast().Except(rooms...) }

// Broadcast selects all sockets of the namespace but this one.
func (s *Socket) Broadcast() Broadcast { return s.ns.Except(s.id) }

// Disconnect takes the client out of the namespace; a stock client does not come back by itself. With closeTransport it
// closes the connection too, and with it the client's sockets in other namespaces.
func (s *Socket) Disconnect(closeTransport bool) {
	if closeTransport {
		s.conn.disconnect()
		return
	}
	s.disconnect(nil)
}

// closeWhenTold tells whether the client does not know yet that it is connected. Then who tells it closes the connection: it has
// to hear first that it is out, or it would come again.
func (s *Socket) closeWhenTold() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.close = s.close || s.state == socketConnected && !s.told
	return s.close
}

// disconnect takes the client out of the namespace and tells it so.
func (s *Socket) disconnect(err error) {
	if s.Connected() { // else its middlewares run, which can refuse it
		s.endWith(ReasonServerDisconnect, err, &sioproto.Packet{Type: sioproto.Disconnect, Namespace: s.ns.name})
	}
}

// Emitter emits to one socket with flags. It is a value: each method returns a changed copy.
type Emitter struct {
	s *Socket
	f flags
}

// Volatile is like [Socket.Volatile].
func (e Emitter) Volatile() Emitter { e.f.volatile = true; return e }

// Compress is like [Socket.Compress].
func (e Emitter) Compress(on bool) Emitter { e.f.noCompress = !on; return e }

// Emit is like [Socket.Emit].
func (e Emitter) Emit(event string, args ...any) error {
	out, err := newOutgoing(event, args, e.f)
	if err != nil {
		return err
	}
	if r := e.s.ns.recoverer; r != nil {
		err = r.Send(e.s, out)
	} else {
		err = e.s.send(out, e.s.ns.message(out, nil))
	}
	if err == nil {
		e.s.ns.sentHook(out, 1)
	}
	return err
}

// EmitWithAck is like [Socket.EmitWithAck].
func (e Emitter) EmitWithAck(ctx context.Context, event string, args ...any) (Args, error) {
	out, err := newOutgoing(event, args, e.f)
	if err != nil {
		return Args{}, err
	}
	ctx, cancel := withAckTimeout(ctx, 0, e.s.ns.srv.opts.AckTimeout)
	defer cancel()
	type result struct {
		args Args
		err  error
	}
	got := make(chan result, 1) // completed once, if at all
	id := e.s.ns.ackID.Add(1) - 1
	done := func(args Args, err error) { got <- result{args, err} }
	if err := e.s.acks.add(id, e.s.ns.srv.opts.MaxPendingAcks, done); err != nil {
		return Args{}, err
	}
	if err := e.s.send(out, e.s.ns.message(out, &id)); err != nil {
		e.s.acks.take(id)
		return Args{}, err
	}
	e.s.ns.sentHook(out, 1)
	select {
	case r := <-got:
		return r.args, r.err
	case <-ctx.Done():
		if e.s.acks.take(id) == nil { // it came after all
			r := <-got
			return r.args, r.err
		}
		if f := e.s.ns.srv.opts.Hooks.AckTimedOut; f != nil {
			f(e.s.ns)
		}
		return Args{}, ackError(ctx)
	}
}

// send shows out to those who watch, and queues m, its encoded form.
func (s *Socket) send(out *Outgoing, m *eio.Message) error {
	s.observe(out)
	return s.queue(out, m, true)
}

func (s *Socket) observe(out *Outgoing) {
	for _, f := range s.ns.get().anyOutgoing {
		_ = s.guard("", func() error { f(s, out); return nil }) // guard has reported a panic
	}
}

// queue hands m to the transport. While middlewares run the client gets it ahead of its CONNECT, and keeps it till then.
// It calls no code of the application but hooks. A recovered socket that has not got yet what it missed gets out with that,
// unless it is early: meant to come before.
func (s *Socket) queue(out *Outgoing, m *eio.Message, early bool) error {
	s.mu.Lock()
	over, waits := s.state == socketDisconnected, s.recovered && !s.welcomed && !early
	s.mu.Unlock()
	switch {
	case over:
		return ErrDisconnected
	case waits:
		return nil
	}
	if out.Volatile {
		s.conn.session.SendVolatile(m)
		return nil
	}
	return sendError(s.conn.session.Send(m))
}

// receive takes a packet of the client; it runs on the connection's reader.
func (s *Socket) receive(p *sioproto.Packet) {
	switch p.Type {
	case sioproto.Event:
		name, err := sioproto.EventName(p.Payload)
		if err != nil { // an event without payload does nothing
			return
		}
		ev := &Event{name: name, args: Args{p.Payload, p.Attachments, 1}}
		if p.HasID {
			ev.socket, ev.id = s, p.ID
		}
		s.enqueue(ev)
	case sioproto.Ack:
		if !p.HasID {
			return
		}
		if done := s.acks.take(p.ID); done != nil {
			if f := s.ns.srv.opts.Hooks.Acked; f != nil {
				f(s.ns)
			}
			done(Args{p.Payload, p.Attachments, 0}, nil)
		}
	default: // the rest is the connection's
	}
}

// ack sends an acknowledgement. It passes the queue of events, and goes out even if the transport is upgrading.
func (s *Socket) ack(id uint64, values []any) error {
	if !s.Connected() {
		return ErrDisconnected
	}
	payload, atts, err := sioproto.AppendArgs(nil, nil, values...)
	if err != nil {
		return fmt.Errorf("%w: %w", errNotEncoded, err)
	}
	m := s.conn.srv.encode(&sioproto.Packet{
		Type: sioproto.Ack, Namespace: s.ns.name, ID: id, HasID: true, Payload: payload, Attachments: atts,
	})
	send := s.conn.session.Send
	if !s.busy() { // most likely the last for now; else it leaves together with what comes of the next event
		send = s.conn.session.SendNow
	}
	return sendError(send(m))
}

// guard runs code of the application. Its error is reported; a panic too, and ends the socket.
func (s *Socket) guard(event string, f func() error) error {
	err := caught(f)
	if err != nil {
		s.report(event, err)
	}
	if isPanic(err) {
		s.disconnect(err)
	}
	return err
}

// caught turns a panic of f into an error.
func caught(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	return f()
}

func isPanic(err error) bool {
	_, ok := errors.AsType[*PanicError](err)
	return ok
}

func (s *Socket) report(event string, err error) {
	log := s.ns.srv.opts.Logger
	if p, ok := errors.AsType[*PanicError](err); ok {
		log.Error("handler_panic", "namespace", s.ns.name, "event", event, "socket", s.id, "panic", p.Value, "stack", string(p.Stack))
	} else {
		log.Warn("handler_error", "namespace", s.ns.name, "event", event, "socket", s.id, "error", err)
	}
	if f := s.ns.srv.opts.Hooks.HandlerError; f != nil {
		f(s, event, err)
	}
}

// end takes the socket out of its namespace, once.
func (s *Socket) end(reason Reason, err error) { s.endWith(reason, err, nil) }

// endWith is end, with a last packet to the client.
func (s *Socket) endWith(reason Reason, err error, last *sioproto.Packet) {
	s.mu.Lock()
	was := s.state
	if was == socketDisconnected {
		s.mu.Unlock()
		return
	}
	s.state, s.reason = socketDisconnected, reason
	s.wakeLocked()
	rooms := s.rooms.names()
	session := &SocketState{ID: s.id, PID: s.pid, Rooms: rooms, Data: s.data}
	told := s.told
	s.mu.Unlock()

	if last != nil && told { // else welcome sends it
		_ = s.conn.send(last) // or it has gone already
	}
	cause := &DisconnectError{Reason: reason, Err: err}
	s.cancel(cause)
	s.acks.close(cause)
	s.ns.index.remove(s, rooms)
	if was == socketConnected {
		if r := s.ns.recoverer; r != nil {
			r.Persist(session, reason.recoverable())
		}
		if f := s.ns.srv.opts.Hooks.Disconnected; f != nil {
			f(s, reason)
		}
	}
	s.conn.left(s)
	if was == socketJoining {
		s.ns.release()
		return
	}
	s.mu.Lock()
	s.tasks = append(s.tasks, task{}) // it may leave before OnConnect was called: one thing after the other
	s.runUnlock(nil)
}

// RemoteSocket describes a socket of any node, and acts on it.
type RemoteSocket struct {
	ID        string          `json:"id"`
	Handshake HandshakeData   `json:"handshake"`
	Rooms     []string        `json:"rooms"`
	Data      json.RawMessage `json:"data"`

	ns *Namespace
}

func (s *Socket) describe() (RemoteSocket, error) {
	var data []byte
	err := caught(func() (err error) { // another node may have asked, and is no reason to end this one
		data, err = json.Marshal(s.Data())
		return err
	})
	if err != nil {
		return RemoteSocket{}, fmt.Errorf("sio: data of socket %s: %w", s.id, err)
	}
	if string(data) == "null" {
		data = []byte("{}") // what socket.data is in the official server when nothing was set
	}
	return RemoteSocket{
		ID: s.id, Handshake: s.handshake.Data(), Rooms: slices.Collect(s.Rooms()), Data: data, ns: s.ns,
	}, nil
}

// Emit sends an event to the socket.
func (r RemoteSocket) Emit(ctx context.Context, event string, args ...any) error {
	return r.ns.To(r.ID).Emit(ctx, event, args...)
}

// Join puts the socket into rooms.
func (r RemoteSocket) Join(ctx context.Context, rooms ...string) error {
	return r.ns.To(r.ID).SocketsJoin(ctx, rooms...)
}

// Leave takes the socket out of rooms.
func (r RemoteSocket) Leave(ctx context.Context, rooms ...string) error {
	return r.ns.To(r.ID).SocketsLeave(ctx, rooms...)
}

// Disconnect is like [Socket.Disconnect].
func (r RemoteSocket) Disconnect(ctx context.Context, closeTransport bool) error {
	return r.ns.To(r.ID).DisconnectSockets(ctx, closeTransport)
}
