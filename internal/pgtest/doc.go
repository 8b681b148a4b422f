// Package pgtest runs real PostgreSQL servers for tests and benchmarks, and poolers in front of them.
//
// # Use
//
// [Start] runs a server until the end of the test, [Server.Standby] a read-only one that follows it, [Pooler] a PgBouncer in
// front of it. [Run] is for what is no test. Where a program is missing, the test is skipped, or fails if SIO_TEST_REQUIRE is
// set. Faults of the network are for redistest.NewProxy, which knows nothing of Redis.
//
// The superuser [Superuser] needs no password. All others need theirs, by SCRAM: see [Server.User].
//
// # Concurrency
//
// All methods may be called from any goroutine, save that those with a testing.TB belong to the goroutine of the test.
//
// # Limits
//
// The servers listen on loopback, on no socket of the file system. They do not wait for the disk: what a crash of the host
// would do is not their subject. PostgreSQL refuses to run as root: it is run as postgres, or nobody, then. The data
// directory is made once for a process, and copied.
//
// # Testing
//
// The package has tests of its own faults; whether PostgreSQL works is not their subject.
package pgtest
