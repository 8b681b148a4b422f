// Package adapter makes many nodes one: it turns a [Bus] into a [sio.Adapter]. The messages are those of the official
// ClusterAdapter (socket.io-adapter 2.5.8).
//
// # Use
//
// Applications take a ready one: packages redis and postgres beside this one. [Cluster] is for those who bring their own
// bus; package adaptertest holds what each must pass, and [Outbox] is the queue in front of it.
//
// # Concurrency
//
// Local delivery comes first and never waits for the bus. What one node publishes is applied by each other in that order,
// but for requests, which run at once, each in a goroutine. The server events of one node are handled one after the other,
// beside all else. All functions may be called from any goroutine.
//
// # Limits
//
// A request ends when all nodes have answered that were there when it was sent and still are, or with its deadline: then the
// caller gets what came, and a [*PartialError] with the names of those that did not answer. A node that only knows of others
// by their heartbeats has heard of none in the first moment, and of a dead one for as long as HeartbeatTimeout. Where
// answers do not say whose they are, as those of official servers on classic Redis pub/sub, there are no names, and who
// answers twice is taken for two.
//
// [Options] bounds the rest. Nothing that comes over the bus makes a node keep more than it has asked for.
//
// # Testing
//
// adaptertest.NewNetwork is a bus within one process, which can lose, delay and repeat messages. The tests run in bubbles of
// testing/synctest over it.
package adapter
