package sio

import (
	"context"
	"errors"
	"iter"
	"sync"
	"time"
)

// Broadcast selects sockets of a namespace, on all nodes. It is a value: each method returns a changed copy, so that a
// selection may be kept and refined.
type Broadcast struct {
	ns      *Namespace
	parent  *ParentNamespace // instead of ns: all its namespaces
	target  Target
	f       flags
	timeout time.Duration
}

// To adds rooms: the selection is the sockets that are in any of those added.
func (b Broadcast) To(rooms ...string) Broadcast {
	b.target.Rooms = appended(b.target.Rooms, rooms...)
	return b
}

// In is To.
func (b Broadcast) In(rooms ...string) Broadcast { return b.To(rooms...) }

// Except takes out the sockets that are in any of rooms.
func (b Broadcast) Except(rooms ...string) Broadcast {
	b.target.Except = appended(b.target.Except, rooms...)
	return b
}

// Local restricts the selection to sockets of this node.
func (b Broadcast) Local() Broadcast { b.target.Local = true; return b }

// Volatile drops the event for those clients that are not ready for it at that moment.
func (b Broadcast) Volatile() Broadcast { b.f.volatile = true; return b }

// Compress chooses whether polling responses are compressed for the event; by default they are.
func (b Broadcast) Compress(on bool) Broadcast { b.f.noCompress = !on; return b }

// Timeout bounds the wait of EmitWithAck, whatever the deadline of its context.
func (b Broadcast) Timeout(d time.Duration) Broadcast { b.timeout = d; return b }

func (b Broadcast) namespaces() []*Namespace {
	if b.parent != nil {
		return b.parent.children()
	}
	return []*Namespace{b.ns}
}

// each calls f for the adapters of the selection.
func (b Broadcast) each(f func(Adapter) error) error {
	var errs []error
	for _, ns := range b.namespaces() {
		errs = append(errs, f(ns.adapter))
	}
	return errors.Join(errs...)
}

// Emit sends an event to the selected sockets. Those of this node are served without fail; the error says that the arguments
// could not be encoded, or that other nodes may not have been reached.
func (b Broadcast) Emit(ctx context.Context, event string, args ...any) error {
	out, err := newOutgoing(event, args, b.f)
	if err != nil {
		return err
	}
	return b.each(func(a Adapter) error { return a.Broadcast(ctx, out, b.target) })
}

// EmitWithAck sends an event to the selected sockets and yields their acknowledgements as they come. It ends when all have
// answered or the time is up, with an error then ([ErrAckTimeout]) and for each client that left without an answer. It
// sends nothing before it is ranged over.
func (b Broadcast) EmitWithAck(ctx context.Context, event string, args ...any) iter.Seq2[Args, error] {
	out, err := newOutgoing(event, args, b.f)
	if err != nil {
		return func(yield func(Args, error) bool) { yield(Args{}, err) }
	}
	srv := b.server()
	return collect(ctx, srv.start, func(ctx context.Context, answer func(Args, error)) error {
		ctx, cancel := withAckTimeout(ctx, b.timeout, srv.opts.AckTimeout)
		defer cancel()
		var (
			all  sync.WaitGroup
			each = b.namespaces()
			errs = make([]error, len(each))
		)
		for i, ns := range each { // all at once: the time is the same for all
			all.Go(func() { errs[i] = ns.adapter.BroadcastWithAck(ctx, out, b.target, answer) })
		}
		all.Wait()
		return errors.Join(errs...)
	})
}

func (b Broadcast) server() *Server {
	if b.parent != nil {
		return b.parent.srv
	}
	return b.ns.srv
}

// SocketsJoin puts the selected sockets into rooms.
func (b Broadcast) SocketsJoin(ctx context.Context, rooms ...string) error {
	return b.each(func(a Adapter) error { return a.Join(ctx, b.target, rooms) })
}

// SocketsLeave takes the selected sockets out of rooms.
func (b Broadcast) SocketsLeave(ctx context.Context, rooms ...string) error {
	return b.each(func(a Adapter) error { return a.Leave(ctx, b.target, rooms) })
}

// DisconnectSockets disconnects the selected sockets, see [Socket.Disconnect].
func (b Broadcast) DisconnectSockets(ctx context.Context, closeTransport bool) error {
	return b.each(func(a Adapter) error { return a.Disconnect(ctx, b.target, closeTransport) })
}

// FetchSockets describes the selected sockets. With an error it returns those it heard of.
func (b Broadcast) FetchSockets(ctx context.Context) ([]RemoteSocket, error) {
	var (
		all  []RemoteSocket
		errs []error
	)
	for _, ns := range b.namespaces() {
		got, err := ns.adapter.FetchSockets(ctx, b.target)
		for i := range got {
			got[i].ns = ns
		}
		all, errs = append(all, got...), append(errs, err)
	}
	return all, errors.Join(errs...)
}
