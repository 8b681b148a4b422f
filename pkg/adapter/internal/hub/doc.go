// Package hub keeps what the buses of one server share while there are any: a session, which is one connection to listen on, and
// the queue of what is published.
//
// # Use
//
// A bus acquires the session from a [Hub] when it is opened, and releases it when it has run. Implementations embed [Session].
//
// # Concurrency
//
// All functions may be called from any goroutine. A session is run by one goroutine of the hub; who releases it as the last waits
// for that.
//
// # Limits
//
// There is one session at a time, and a pause between the starts of two.
//
// # Testing
//
// By the conformance and failure tests of the packages that use it.
package hub
