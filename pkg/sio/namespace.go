package sio

import (
	"context"
	"fmt"
	"iter"
	"sync/atomic"

	"github.com/seed-0b620db0/patchbay/pkg/eio"
	"github.com/seed-0b620db0/patchbay/pkg/sio/sioproto"
)

// Namespace is a channel of its own on the clients' connections, with its own handlers, sockets and rooms.
type Namespace struct {
	*Handlers

	// set at construction
	srv       *Server
	name      string
	parent    *ParentNamespace // nil for a namespace that the application named
	index     *index
	adapter   Adapter
	recoverer Recoverer // the adapter, if it can and recovery is on

	ackID atomic.Uint64 // one counter for all sockets: a broadcast asks them all with the same id

	// guarded by Server.mu
	users    int  // sockets joining or joined
	onDemand bool // made because a client asked for it
}

func newNamespace(srv *Server, name string, parent *ParentNamespace) *Namespace {
	ns := &Namespace{srv: srv, name: name, parent: parent, index: newIndex()}
	if parent != nil {
		ns.Handlers = newHandlers(parent.get())
	} else {
		ns.Handlers = newHandlers(nil)
	}
	ns.adapter = srv.opts.Adapter(&Local{ns})
	if w, ok := ns.adapter.(RoomWatcher); ok {
		ns.index.watch = w.RoomChanged
	}
	if w, ok := ns.adapter.(SocketWatcher); ok {
		ns.index.watchOwn = w.SocketChanged
	}
	if r, ok := ns.adapter.(Recoverer); ok && srv.opts.Recovery != nil {
		ns.recoverer = r
	}
	return ns
}

// Name returns the name, which begins with a slash.
func (ns *Namespace) Name() string { return ns.name }

// Len returns the number of sockets on this node.
func (ns *Namespace) Len() int { return ns.index.len() }

// Socket returns the socket of this node with the id, or nil.
func (ns *Namespace) Socket(id string) *Socket { return ns.index.get(id) }

// Sockets returns the sockets of this node.
func (ns *Namespace) Sockets() iter.Seq[*Socket] {
	return func(yield func(*Socket) bool) {
		for _, s := range ns.index.appendAll(nil) {
			if !yield(s) {
				return
			}
		}
	}
}

// Adapter returns the adapter.
func (ns *Namespace) Adapter() Adapter { return ns.adapter }

// AwaitRooms returns when what other nodes emit to rooms reaches the sockets of this node that have joined them. With most
// adapters that is at once. With an error, that of ctx or of the adapter, it may not hold yet: the adapter goes on trying.
func (ns *Namespace) AwaitRooms(ctx context.Context, rooms ...string) error {
	if w, ok := ns.adapter.(RoomAwaiter); ok {
		return w.AwaitRooms(ctx, rooms)
	}
	return nil
}

func (ns *Namespace) all() Broadcast { return Broadcast{ns: ns} }

// To selects the sockets of rooms.
func (ns *Namespace) To(rooms ...string) Broadcast { return ns.all().To(rooms...) }

// In is To.
func (ns *Namespace) In(rooms ...string) Broadcast { return ns.all().To(rooms...) }

// Except selects all sockets but those of rooms.
func (ns *Namespace) Except(rooms ...string) Broadcast { return ns.all().Except(rooms...) }

// Local selects the sockets of this node.
func (ns *Namespace) Local() Broadcast { return ns.all().Local() }

// Volatile is [Broadcast.Volatile] for all sockets.
func (ns *Namespace) Volatile() Broadcast { return ns.all().Volatile() }

// Compress is [Broadcast.Compress] for all sockets.
func (ns *Namespace) Compress(on bool) Broadcast { return ns.all().Compress(on) }

// Emit is [Broadcast.Emit] to all sockets.
func (ns *Namespace) Emit(ctx context.Context, event string, args ...any) error {
	return ns.all().Emit(ctx, event, args...)
}

// EmitWithAck is [Broadcast.EmitWithAck] to all sockets.
func (ns *Namespace) EmitWithAck(ctx context.Context, event string, args ...any) iter.Seq2[Args, error] {
	return ns.all().EmitWithAck(ctx, event, args...)
}

// FetchSockets describes all sockets.
func (ns *Namespace) FetchSockets(ctx context.Context) ([]RemoteSocket, error) {
	return ns.all().FetchSockets(ctx)
}

// SocketsJoin puts all sockets into rooms.
func (ns *Namespace) SocketsJoin(ctx context.Context, rooms ...string) error {
	return ns.all().SocketsJoin(ctx, rooms...)
}

// SocketsLeave takes all sockets out of rooms.
func (ns *Namespace) SocketsLeave(ctx context.Context, rooms ...string) error {
	return ns.all().SocketsLeave(ctx, rooms...)
}

// DisconnectSockets disconnects all sockets.
func (ns *Namespace) DisconnectSockets(ctx context.Context, closeTransport bool) error {
	return ns.all().DisconnectSockets(ctx, closeTransport)
}

// ServerSideEmit sends an event to the other servers of the cluster, see [Handlers.OnServerEvent].
func (ns *Namespace) ServerSideEmit(ctx context.Context, event string, args ...any) error {
	out, err := newServerEvent(event, args)
	if err != nil {
		return err
	}
	return ns.adapter.ServerSideEmit(ctx, out)
}

// ServerSideEmitWithAck does the same and yields the acknowledgements of the other servers.
func (ns *Namespace) ServerSideEmitWithAck(ctx context.Context, event string, args ...any) iter.Seq2[Args, error] {
	out, err := newServerEvent(event, args)
	if err != nil {
		return func(yield func(Args, error) bool) { yield(Args{}, err) }
	}
	return collect(ctx, ns.srv.start, func(ctx context.Context, answer func(Args, error)) error {
		ctx, cancel := withAckTimeout(ctx, 0, ns.srv.opts.AckTimeout)
		defer cancel()
		return ns.adapter.ServerSideEmitWithAck(ctx, out, func(a Args) { answer(a, nil) })
	})
}

func newServerEvent(event string, args []any) (*Outgoing, error) {
	switch event {
	case "connect", "connection", "new_namespace": // what the official server's namespaces emit themselves
		return nil, fmt.Errorf("sio: emit %q to servers: %w", event, sioproto.ErrReserved)
	}
	return newOutgoing(event, args, flags{})
}

func (ns *Namespace) serverEvent(ctx context.Context, out *Outgoing, answer func(Args)) (bool, error) {
	f := ns.get().server[out.Name()]
	if f == nil {
		return false, nil
	}
	ev := &Event{name: out.Name(), args: out.Args()}
	if answer != nil {
		ev.reply = func(values []any) error {
			payload, atts, err := sioproto.AppendArgs(nil, nil, values...)
			if err != nil {
				return fmt.Errorf("%w: %w", errNotEncoded, err)
			}
			answer(Args{payload, atts, 0})
			return nil
		}
	}
	return true, caught(func() error { return f(ctx, ev) })
}

// message encodes an event for the sockets of the namespace.
func (ns *Namespace) message(out *Outgoing, id *uint64) *eio.Message {
	p := sioproto.Packet{Type: sioproto.Event, Namespace: ns.name, Payload: out.Payload, Attachments: out.Attachments}
	if id != nil {
		p.ID, p.HasID = *id, true
	}
	m := ns.srv.encode(&p)
	if out.NoCompress {
		m = m.WithoutCompression()
	}
	return m
}

// deliver sends out to the sockets of target on this node.
func (ns *Namespace) deliver(out *Outgoing, target Target) {
	ns.observe(out, ns.queue(out, target))
}

// queue does the part of deliver that calls no code of the application.
func (ns *Namespace) queue(out *Outgoing, target Target) []*Socket {
	found := ns.index.find(target)
	if len(found) > 0 {
		m := ns.message(out, nil)
		for _, s := range found {
			_ = s.queue(out, m, false) // who has gone meanwhile does not miss it
		}
	}
	return found
}

func (ns *Namespace) observe(out *Outgoing, sockets []*Socket) {
	if len(sockets) == 0 {
		return
	}
	if len(ns.get().anyOutgoing) > 0 {
		for _, s := range sockets {
			s.observe(out)
		}
	}
	ns.sentHook(out, len(sockets))
}

func (ns *Namespace) deliverWithAck(out *Outgoing, target Target, answer func(Args, error)) (int, func()) {
	id := ns.ackID.Add(1) - 1
	found := ns.index.find(target)
	if len(found) == 0 {
		return 0, func() {}
	}
	m := ns.message(out, &id)
	for _, s := range found {
		if err := s.acks.add(id, ns.srv.opts.MaxPendingAcks, answer); err != nil {
			answer(Args{}, err)
			continue
		}
		if err := s.send(out, m); err != nil && s.acks.take(id) != nil {
			answer(Args{}, err)
		}
	}
	ns.sentHook(out, len(found))
	return len(found), func() {
		for _, s := range found {
			s.acks.take(id)
		}
	}
}

func (ns *Namespace) sentHook(out *Outgoing, sockets int) {
	if f := ns.srv.opts.Hooks.Sent; f != nil {
		f(ns, out.Name(), sockets)
	}
}

// release gives back what Server.acquire took.
func (ns *Namespace) release() { ns.srv.release(ns) }
