// Package redistest runs real Redis servers for tests, alone or as a cluster, and puts faults between them and a client.
//
// # Use
//
// [Start] runs one server, [StartCluster] three masters; both are gone at the end of the test. [NewProxy] stands between a
// client and a server and cuts, refuses, delays or freezes what goes through. Where redis-server is missing, the test is
// skipped, or fails if SIO_TEST_REQUIRE is set.
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
