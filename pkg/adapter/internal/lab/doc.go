// Package lab has servers and clients in memory for tests of adapters.
//
// # Use
//
// [New] makes a lab, [Lab.Server] a server, which is one node of a cluster, and [Server.Client] a client of it, in one
// namespace. The test reads what the client gets as packets, and writes packets. All end with the test.
//
// # Concurrency
//
// A Client belongs to one goroutine at a time. A lab may be used in a bubble of testing/synctest.
//
// # Limits
//
// Every wait ends with a failed test: after siotest.Patience, or an hour of a bubble's time.
package lab
