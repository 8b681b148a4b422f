// Package load makes load for a Socket.IO server: many clients in one process, at so little cost that the server stays
// what is measured.
//
// # Use
//
// A Generator is made for one server; Connect adds a client to it and returns when the client has joined its namespace.
// What a client receives goes to its Handler, and so does the news that it was lost.
//
// The protocol is written out here and shares no code with the server's packages, so that a mistake of theirs is not
// repeated by what measures them. It is as much of a client as load needs: no reconnection, no compression.
//
// # Concurrency
//
// On Linux the WebSockets without TLS are read by a few loops over epoll, each with one buffer: an idle client has neither
// goroutine nor buffer. Others have a goroutine each. A client's handler is called for one packet at a time, from the
// loop or goroutine that reads it, and must not block. Send may be called from anywhere.
//
// # Limits
//
// A message is at most 64 MiB. What a server does not read is kept up to 16 MiB a client, which is lost beyond that. A
// client that hears nothing for a ping interval and timeout is lost too.
package load
