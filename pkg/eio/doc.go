// Package eio is an Engine.IO v4 server: sessions that carry messages over HTTP long-polling and WebSocket, and move from
// the first to the second without losing or reordering any. It knows no events, namespaces or rooms; package sio adds those.
//
// # Use
//
// A [Server] is an [net/http.Handler]. It calls its accept function once for each new session, and hands that session's
// messages to the [Handler] which accept returned:
//
//	srv := eio.NewServer(func(s *eio.Session) eio.Handler { return &echo{s} }, nil)
//	http.Handle("/engine.io/", srv)
//
// CORS and everything else that wraps HTTP handlers (authentication, compression of other pages, tracing) is ordinary
// middleware around the server: it sees each request of the transport, preflights and WebSocket upgrades included.
//
// # The life of a session
//
//	handshake ── open ──┬── upgrade (polling → WebSocket) ──┐
//	                    └───────────────────────────────────┴── closing ── closed
//
// Closing means that nothing new is taken and what is queued still goes out. Every session ends with exactly one call of
// Handler.Closed, which names the [CloseReason].
//
// # Concurrency
//
// All methods of Server and Session may be called from any goroutine. Calls of Handler.Message for one session never
// overlap and keep the order of the wire; Handler.Closed may come while a Message call still runs, so that the call can be
// released. No lock is held while a Handler, a hook or an option's function runs.
//
// An idle session costs no goroutine: a polling session between two polls never, a WebSocket on Linux without TLS neither. One
// with TLS, or on another system, costs one, which reads. At most one writer a core runs, and only while there is something
// to write; a client that does not take it gets one of its own. Timers are time.AfterFunc, one a session.
//
// A WebSocket's connection is taken over from the http.Server, on Linux with a descriptor of its own: a net.Conn that was
// kept from ConnContext or ConnState is closed by then. End sessions with [Session.Close]. What waits for the connections runs
// until [Server.Close].
//
// # Limits
//
// Everything a client can make grow has a bound in [Options]: sessions, bytes of a message or request body, packets of a
// payload, bytes queued to a client, and the time to finish an upgrade, to send a body, to take a write and to answer a ping.
//
// # Testing
//
// The server does no I/O but that of its http.Server, so that it runs inside testing/synctest over an in-memory listener.
package eio
