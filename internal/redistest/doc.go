// Package redistest runs real Redis servers for tests, alone, under a sentinel or as a cluster, and puts faults between them
// and a client.
//
// # Use
//
// [Start] runs one server, [StartSentinel] a master and a replica that takes its place, [StartCluster] three masters; all are
// gone at the end of the test. [NewProxy] stands between a client and a server and cuts, refuses, delays or freezes what goes
// through. Where redis-server is missing, the test is skipped, or fails if SIO_TEST_REQUIRE is set.
//
// # Concurrency
//
// All methods may be called from any goroutine, save that those with a testing.TB belong to the goroutine of the test.
//
// # Limits
//
// Every wait ends after [Patience] with a failed test. The servers listen on loopback, keep nothing on disk and, on Linux,
// do not outlive the process of the test.
//
// # Testing
//
// The package has tests of its own faults; whether Redis works is not their subject.
package redistest
