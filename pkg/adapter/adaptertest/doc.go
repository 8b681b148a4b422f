// Package adaptertest holds what every bus of a cluster must do, and a network of one process to test clusters with.
//
// # Use
//
// The test of a bus calls [Run] with a function that makes a [Backend]: a cluster of its own for each test. [RunInBubble]
// is for a bus that needs nothing but memory.
//
//	func TestConformance(t *testing.T) {
//		adaptertest.Run(t, func(t *testing.T) adaptertest.Backend {
//			key := t.Name() // so that tests do not meet
//			return adaptertest.Backend{Adapter: func(node int, o adapter.Options) sio.NewAdapter {
//				return mybus.New(connect(t), &mybus.Options{Key: key, Cluster: o})
//			}}
//		})
//	}
//
// [NewNetwork] makes a [Network], whose nodes can be cut off and muted, and which can lose, delay and repeat messages, by a
// seeded generator.
//
// # Concurrency
//
// The functions of a Backend are called from one goroutine at a time, those of a Network from any.
//
// # Limits
//
// Nothing is slept for: a condition is awaited for 20 s at most. That something does not come is known from what comes after
// it, as messages of one sender stay in order.
package adaptertest
