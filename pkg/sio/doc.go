// Package sio is a Socket.IO v5 server: namespaces, sockets, events with acknowledgements, rooms and broadcasts, and
// recovery of connections that were lost for a moment. Stock Socket.IO clients connect to it unchanged.
//
// # Use
//
// A [Server] is an [net/http.Handler]. Handlers belong to a [Namespace] and are set before it serves:
//
//	io := sio.NewServer(nil)
//	io.OnConnect(func(ctx context.Context, s *sio.Socket) error {
//		s.Join("lobby")
//		return s.Emit("welcome", s.ID())
//	})
//	io.On("message", sio.Reply(func(ctx context.Context, s *sio.Socket, m Message) (Receipt, error) {
//		return Receipt{m.ID}, s.To(m.Room).Emit(ctx, "message", m)
//	}))
//	http.ListenAndServe(":3000", io)
//
// Values are written as JSON; a []byte anywhere in them, in a map, a slice or a field of a struct, travels as a binary
// attachment and arrives as one. What a client sent is decoded when somebody asks for it ([Args]), and can be sent on
// without being decoded at all ([Args.Raw]).
//
// # Concurrency
//
// All methods may be called from any goroutine. What happens to one [Socket] happens one at a time and in order: its
// OnConnect, its events, its OnDisconnecting and OnDisconnect. Different sockets run at the same time. Acknowledgements
// pass that queue, so a handler may wait for one ([Socket.EmitWithAck]). The context of a handler ends when its socket is
// disconnected; context.Cause then is a [*DisconnectError] with the reason. A panic in a handler is reported
// ([Hooks.HandlerError]) and ends that socket only.
//
// No lock is held while a handler, a middleware or an adapter runs, so all of this API may be used in them. Hooks are for
// counting and logging: with recovery on, those of eio.Hooks that tell of the queue run under a lock.
//
// # Limits
//
// Everything that a client can make grow has a bound in [Options], beside those of [eio.Options]: attachments, nesting,
// namespaces of a connection, namespaces made on demand, events that wait for their handler, acknowledgements awaited, and
// what is kept for recovery.
//
// # Testing
//
// The server does no I/O but that of its http.Server, so that it runs inside testing/synctest over an in-memory listener.
package sio
