// Package adapter makes many nodes one: it turns a [Bus] into a [sio.Adapter].
//
// # Use
//
// Applications take a ready one: packages redis and postgres beside this one. [Cluster] is for those who bring their own
// bus; package adaptertest holds what each must pass.
//
// # Concurrency
//
// Local delivery comes first and never waits for the bus. All functions may be called from any goroutine.
//
// # Limits
//
// A request ends when all nodes have answered that were there when it was sent and still are, or with its deadline: then the
// caller gets what came, and a [*PartialError] with the names of those that did not answer. [Options] bounds the rest.
//
// The messages are those of the official ClusterAdapter (socket.io-adapter 2.5.8).
package adapter
