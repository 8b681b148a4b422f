// Package siotest speaks the Engine.IO and Socket.IO protocols by hand, so that tests can send what a
// client library would never send and see every byte that a server answers.
//
// # Use
//
// [New] makes a [Client] for one session over long-polling; [Client.Dial] opens a WebSocket, which is a
// new session or, once the client has a sid, the probe of an upgrade. [Listen] gives a listener in
// memory whose connections may be used inside a testing/synctest bubble. [LeakCheck] fails a test that
// leaves goroutines behind. [NodeJS] and [Pipes] start scripts of stock clients and of official servers.
//
// # Concurrency
//
// A Client and a WS belong to the goroutine of their test; [Client.GetAsync] and [Client.PostAsync]
// are the only ways to have two requests at once. Listener and its connections are safe for any use
// that net.Listener and net.Conn allow.
//
// # Limits
//
// Every wait ends after [Patience] with a failed test.
//
// # Testing
//
// The client is proven by test/protocol, which runs it against the official server; the listener and
// the leak check have tests here.
package siotest
