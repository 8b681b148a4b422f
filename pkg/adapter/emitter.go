package adapter

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/seed-0b620db0/patchbay/pkg/sio"
	"github.com/seed-0b620db0/patchbay/pkg/sio/sioproto"
)

// Emitter emits to the clients of a cluster, and acts on their sockets, from a process that is no server of it: a job, a
// script, another service. The packages beside this one make them, each for its own kind of bus.
//
// It is a value that selects sockets of a namespace, as [sio.Broadcast] does: To, Except and the like return changed copies.
// It may be used from any goroutine, starts nothing, and holds nothing but what it sends through, which the caller closes.
//
// Emit and the others return when the bus has what they send, or with an error. Then it may or may not have been sent: it is
// not sent again, so that nothing arrives twice. Nobody tells whether a server was there to receive it, and no acknowledgement
// can be asked for. What one goroutine emits arrives in order, save where its package says otherwise.
type Emitter struct {
	way                  func(ctx context.Context, m *Message, namespace string) error
	namespace            string
	target               sio.Target
	volatile, noCompress bool
}

// NewEmitter returns an emitter to all sockets of namespace "/". It is for those who bring their own bus: send returns when
// that has m, which comes from [EmitterID].
func NewEmitter(send func(ctx context.Context, m *Message, namespace string) error) Emitter {
	return Emitter{way: send, namespace: "/"}
}

// Of selects a namespace; a slash is added to the name if it has none. The first is "/".
func (e Emitter) Of(namespace string) Emitter {
	if !strings.HasPrefix(namespace, "/") {
		namespace = "/" + namespace
	}
	e.namespace = namespace
	return e
}

// To adds rooms: the selection is the sockets that are in any of those added.
func (e Emitter) To(rooms ...string) Emitter {
	e.target.Rooms = append(slices.Clip(e.target.Rooms), rooms...)
	return e
}

// In is To.
func (e Emitter) In(rooms ...string) Emitter { return e.To(rooms...) }

// Except takes out the sockets that are in any of rooms.
func (e Emitter) Except(rooms ...string) Emitter {
	e.target.Except = append(slices.Clip(e.target.Except), rooms...)
	return e
}

// Volatile drops the event for those clients that are not ready for it at that moment.
func (e Emitter) Volatile() Emitter { e.volatile = true; return e }

// Compress chooses whether servers compress the event where they can; by default they do.
func (e Emitter) Compress(on bool) Emitter { e.noCompress = !on; return e }

// Emit sends an event to the selected sockets. The arguments are those that [sio.Broadcast.Emit] takes.
func (e Emitter) Emit(ctx context.Context, event string, args ...any) error {
	m := &Message{Type: Broadcast, Target: e.target}
	var err error
	if m.Event, err = e.event(event, args); err != nil {
		return err
	}
	m.Event.Volatile, m.Event.NoCompress = e.volatile, e.noCompress
	return e.send(ctx, m)
}

// SocketsJoin puts the selected sockets into rooms.
func (e Emitter) SocketsJoin(ctx context.Context, rooms ...string) error {
	return e.send(ctx, &Message{Type: SocketsJoin, Target: e.target, Rooms: rooms})
}

// SocketsLeave takes the selected sockets out of rooms.
func (e Emitter) SocketsLeave(ctx context.Context, rooms ...string) error {
	return e.send(ctx, &Message{Type: SocketsLeave, Target: e.target, Rooms: rooms})
}

// DisconnectSockets disconnects the selected sockets, see [sio.Socket.Disconnect].
func (e Emitter) DisconnectSockets(ctx context.Context, closeTransport bool) error {
	return e.send(ctx, &Message{Type: DisconnectSockets, Target: e.target, CloseTransport: closeTransport})
}

// ServerSideEmit sends an event to all servers, for their namespace's OnServerEvent. The selection does not matter.
func (e Emitter) ServerSideEmit(ctx context.Context, event string, args ...any) error {
	switch event {
	case "connect", "connection", "new_namespace": // as servers refuse them
		return fmt.Errorf("adapter: emit %q to servers: %w", event, sioproto.ErrReserved)
	}
	out, err := e.event(event, args)
	if err != nil {
		return err
	}
	return e.send(ctx, &Message{Type: ServerSideEmit, Event: out})
}

func (Emitter) event(event string, args []any) (*sio.Outgoing, error) {
	payload, attachments, err := sioproto.AppendEvent(nil, nil, event, args...)
	if err != nil {
		return nil, fmt.Errorf("adapter: emit %q: %w", event, err)
	}
	return &sio.Outgoing{Payload: payload, Attachments: attachments}, nil
}

func (e Emitter) send(ctx context.Context, m *Message) error {
	m.From = EmitterID
	return e.way(ctx, m, e.namespace)
}
