// Package protocol holds the raw-protocol suite: one test for each rule of the Engine.IO v4 and
// Socket.IO v5 protocols as the official server speaks them, named after the section of the protocol
// notes that states the rule.
//
// # Use
//
// The suite runs against a target, chosen by the environment variable PROTOCOL_TARGET: "ours", the
// default, or "official", the Node.js server in official/ (npm ci there first). An assertion that holds
// on the official server is proven; where ours is meant to differ the test asks differs(t, "slug")
// and states both expectations. Every slug has a heading in docs/compatibility.md.
//
// # Concurrency
//
// One fixture serves all tests that need the same options, in parallel; a test therefore looks only at
// its own sessions. Tests that end the server start one of their own.
//
// # Testing
//
// Timers are short here and machines are slow: a test states orders and lower bounds, never that
// something was quick.
package protocol
