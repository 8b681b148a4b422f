package redis

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/seed-0b620db0/patchbay/pkg/adapter"
	"github.com/seed-0b620db0/patchbay/pkg/sio"
	"github.com/seed-0b620db0/patchbay/pkg/sio/sioproto"
)

// Emitter emits to the clients of a cluster, and acts on their sockets, from a process that is no server of it: a job, a
// script, another service. [NewEmitter], [NewShardedEmitter] and [NewStreamsEmitter] make one for each kind of adapter.
//
// It is a value that selects sockets of a namespace, as [sio.Broadcast] does: To, Except and the like return changed copies.
// It may be used from any goroutine, holds nothing but the Redis client, which the caller closes, and starts nothing.
//
// Emit and the others return when Redis has what they send, or with an error. Then it may or may not have been sent: it is
// not sent again, so that nothing arrives twice. How long Redis may take is set by the time-outs of the client and the
// deadline of the context. Nobody tells whether a server was there to receive it, and no acknowledgement can be asked for.
// What one goroutine emits arrives in order, save that in a Redis Cluster sharded channels may overtake each other.
type Emitter struct {
	way                  emitterWay
	namespace            string
	target               sio.Target
	volatile, noCompress bool
}

// emitterWay is how messages get to the servers.
type emitterWay interface {
	// send returns when Redis has m.
	send(ctx context.Context, m *adapter.Message, ns string) error
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
	m := &adapter.Message{Type: adapter.Broadcast, Target: e.target}
	var err error
	if m.Event, err = e.event(event, args); err != nil {
		return err
	}
	m.Event.Volatile, m.Event.NoCompress = e.volatile, e.noCompress
	return e.send(ctx, m)
}

// SocketsJoin puts the selected sockets into rooms.
func (e Emitter) SocketsJoin(ctx context.Context, rooms ...string) error {
	return e.send(ctx, &adapter.Message{Type: adapter.SocketsJoin, Target: e.target, Rooms: rooms})
}

// SocketsLeave takes the selected sockets out of rooms.
func (e Emitter) SocketsLeave(ctx context.Context, rooms ...string) error {
	return e.send(ctx, &adapter.Message{Type: adapter.SocketsLeave, Target: e.target, Rooms: rooms})
}

// DisconnectSockets disconnects the selected sockets, see [sio.Socket.Disconnect].
func (e Emitter) DisconnectSockets(ctx context.Context, closeTransport bool) error {
	return e.send(ctx, &adapter.Message{Type: adapter.DisconnectSockets, Target: e.target, CloseTransport: closeTransport})
}

// ServerSideEmit sends an event to all servers, for their namespace's OnServerEvent. The selection does not matter.
func (e Emitter) ServerSideEmit(ctx context.Context, event string, args ...any) error {
	switch event {
	case "connect", "connection", "new_namespace": // as servers refuse them
		return fmt.Errorf("redis: emit %q to servers: %w", event, sioproto.ErrReserved)
	}
	out, err := e.event(event, args)
	if err != nil {
		return err
	}
	return e.send(ctx, &adapter.Message{Type: adapter.ServerSideEmit, Event: out})
}

func (Emitter) event(event string, args []any) (*sio.Outgoing, error) {
	payload, attachments, err := sioproto.AppendEvent(nil, nil, event, args...)
	if err != nil {
		return nil, fmt.Errorf("redis: emit %q: %w", event, err)
	}
	return &sio.Outgoing{Payload: payload, Attachments: attachments}, nil
}

func (e Emitter) send(ctx context.Context, m *adapter.Message) error {
	m.From = adapter.Emitter
	return e.way.send(ctx, m, e.namespace)
}

// emitterClient carries out the commands of an emitter.
type emitterClient struct {
	rdb      goredis.UniversalClient
	maxBytes int
}

// do carries out cmd, which sends size bytes, on the server that has the slot of key. It is carried out once at most.
func (c *emitterClient) do(ctx context.Context, key string, cmd goredis.Cmder, size int) error {
	if size > c.maxBytes {
		return fmt.Errorf("%w to be published: %d bytes", errTooLong, size)
	}
	node, _, err := locate(ctx, c.rdb, key)
	if err != nil {
		return err
	}
	if deadline, ok := ctx.Deadline(); ok { // which go-redis does not look at
		node = bounded(node, max(time.Millisecond, time.Until(deadline)))
	}
	err = node.Process(ctx, cmd)
	if cluster, ok := c.rdb.(*goredis.ClusterClient); ok {
		switch {
		case redirects(err): // it was not carried out
			err = cluster.Process(ctx, cmd)
		case !answered(err):
			cluster.ReloadState(ctx) // does not wait; another may have taken over
		}
	}
	return published(err)
}
