package sio

import (
	"context"
	"errors"
)

// Target selects sockets of a namespace: those in any of Rooms, or all if there are none, but for those in any of Except.
// The id of a socket is a room that it alone is in.
type Target struct {
	Rooms, Except []string
	Local         bool // sockets of this node only
}

// NewAdapter makes the adapter of a namespace. It must not block: an adapter that needs connections opens them in the
// background, and until then behaves as it does when they are lost.
type NewAdapter func(local *Local) Adapter

// Adapter carries the emissions and requests of one namespace to its sockets: those of this node, through [Local], and
// those of other nodes. Its methods are called from many goroutines at once.
//
// Local delivery comes first and does not depend on other nodes: an error says that others may not have been reached.
// A method that asks other nodes returns, with its error, what it got.
type Adapter interface {
	// Broadcast sends out to the sockets of target.
	Broadcast(ctx context.Context, out *Outgoing, target Target) error
	// BroadcastWithAck does the same, calls answer for each acknowledgement, or with an error for each socket that will
	// not send one, and returns when there are no more to come or ctx is done. Calls of answer may overlap.
	BroadcastWithAck(ctx context.Context, out *Outgoing, target Target, answer func(Args, error)) error
	// Join, Leave and Disconnect act on the sockets of target.
	Join(ctx context.Context, target Target, rooms []string) error
	Leave(ctx context.Context, target Target, rooms []string) error
	Disconnect(ctx context.Context, target Target, closeTransport bool) error
	// FetchSockets describes the sockets of target.
	FetchSockets(ctx context.Context, target Target) ([]RemoteSocket, error)
	// ServerSideEmit sends out to the other servers, never to this one nor to clients.
	ServerSideEmit(ctx context.Context, out *Outgoing) error
	// ServerSideEmitWithAck does the same and calls answer for each server that acknowledges.
	ServerSideEmitWithAck(ctx context.Context, out *Outgoing, answer func(Args)) error
	// ServerCount returns the number of servers, this one included.
	ServerCount(ctx context.Context) (int, error)
	// Close lets go of everything; the namespace is gone.
	Close() error
}

// RoomWatcher is what an Adapter implements that wants to know which rooms have members on this node.
type RoomWatcher interface {
	// RoomChanged is called after a room got its first member or lost its last. Calls for one room may overlap and come
	// late: [Local.HasRoom] tells what holds now.
	RoomChanged(room string)
}

// SocketWatcher is what a RoomWatcher implements that wants to know of the rooms of single sockets, too.
type SocketWatcher interface {
	// SocketChanged is RoomChanged for the room that is a socket's own: the socket came, or went.
	SocketChanged(id string)
}

// RoomAwaiter is what a RoomWatcher implements that learns of rooms a moment after they have changed.
type RoomAwaiter interface {
	// AwaitRooms is [Namespace.AwaitRooms].
	AwaitRooms(ctx context.Context, rooms []string) error
}

// Recoverer is what an Adapter implements that can give a client its session back (§"Connection state recovery").
type Recoverer interface {
	// Restore takes out the session that a client claims, or returns nil. offset is that of the last event that the
	// client has seen, or empty.
	Restore(ctx context.Context, pid, offset string) (*SocketState, error)
	// Admit calls deliver at a moment when no emission is under way; what comes after it is sent to s too. From then on
	// the client of s may come back. For a restored session deliver gets the events that it has missed; Admit returns
	// false, without calling it, if some of them are lost. deliver puts s into its rooms: RoomChanged may be called in it.
	Admit(ctx context.Context, s *Socket, restored *SocketState, deliver func(missed []*Outgoing)) bool
	// Persist is called when an admitted socket was disconnected; recoverable tells whether its client may come back.
	Persist(s *SocketState, recoverable bool)
	// Send sends out to one socket of this node and keeps it in case the client has to come back for it. It must not
	// block.
	Send(s *Socket, out *Outgoing) error
}

// SocketState is what is kept of a socket for its client to come back to.
type SocketState struct {
	ID, PID string
	Rooms   []string // without the id
	Data    any

	start    uint64 // where in the log the socket joined
	position uint64 // up to where the client has seen the log
	restored uint64 // where the log ended when it was restored
}

// Local is this node's part of a namespace, for the use of its [Adapter].
type Local struct{ ns *Namespace }

// Namespace returns the name of the namespace, with its slash.
func (l *Local) Namespace() string { return l.ns.name }

// Broadcast sends out to the sockets of target on this node. It does not block.
func (l *Local) Broadcast(out *Outgoing, target Target) { l.ns.deliver(out, target) }

// BroadcastWithAck sends out to the sockets of target on this node and returns their number. For each of them answer is
// called once, with its acknowledgement or, if it is disconnected before, with an error; until cancel is called. It must
// not block.
func (l *Local) BroadcastWithAck(out *Outgoing, target Target, answer func(Args, error)) (n int, cancel func()) {
	return l.ns.deliverWithAck(out, target, answer)
}

// Join makes the sockets of target on this node join rooms.
func (l *Local) Join(target Target, rooms []string) {
	for _, s := range l.ns.index.find(target) {
		s.Join(rooms...)
	}
}

// Leave makes the sockets of target on this node leave rooms.
func (l *Local) Leave(target Target, rooms []string) {
	for _, s := range l.ns.index.find(target) {
		s.Leave(rooms...)
	}
}

// Disconnect disconnects the sockets of target on this node.
func (l *Local) Disconnect(target Target, closeTransport bool) {
	for _, s := range l.ns.index.find(target) {
		s.Disconnect(closeTransport)
	}
}

// FetchSockets describes the sockets of target on this node.
func (l *Local) FetchSockets(target Target) ([]RemoteSocket, error) {
	found := l.ns.index.find(target)
	out := make([]RemoteSocket, 0, len(found))
	var errs []error
	for _, s := range found {
		r, err := s.describe()
		if err != nil { // it does not hide the others
			errs = append(errs, err)
			continue
		}
		out = append(out, r)
	}
	return out, errors.Join(errs...)
}

// HasRoom tells whether a socket of this node is in the room.
func (l *Local) HasRoom(room string) bool { return l.ns.index.has(room) }

// Rooms returns the rooms that have members on this node, without the sockets' own.
func (l *Local) Rooms() []string { return l.ns.index.rooms() }

// IDs returns the ids of the sockets of target on this node.
func (l *Local) IDs(target Target) []string {
	found := l.ns.index.find(target)
	ids := make([]string, len(found))
	for i, s := range found {
		ids[i] = s.id
	}
	return ids
}

// ServerEvent hands an event of another server to the namespace's handler. answer, if not nil, is called with the
// acknowledgement. handled is false if there is no handler.
func (l *Local) ServerEvent(ctx context.Context, out *Outgoing, answer func(Args)) (handled bool, err error) {
	return l.ns.serverEvent(ctx, out, answer)
}
