// Package postgres carries a cluster over PostgreSQL (LISTEN and NOTIFY), with the bytes of the official adapter
// (@socket.io/postgres-adapter), so that nodes of both kinds can meet.
//
// # Use
//
// [New] makes the adapter of one server:
//
//	pool, err := pgxpool.New(ctx, "postgres://app@db/app")
//	io := sio.NewServer(&sio.Options{Adapter: postgres.New(pool, nil)})
//
// It listens on a connection of its own and publishes through the pool, which may lead through a pooler; the listening
// connection may not, if the pooler gives out connections for a transaction only: [Options.Listen] says where it goes then.
// [NewEmitter] is for processes that only emit, in a transaction if they like; [EmitFunctionSQL] for those that know SQL only.
//
// What NOTIFY does not take, because it is binary or has 8,000 bytes, goes through a table, which New creates if it is not
// there and may be created. All nodes delete what is older than [Options.Retention]. Official servers delete what is older
// than their own cleanupInterval, 30 s if nobody has set it, in a table that they share.
//
// Nodes of versions 0.3 and older, and emitters of 0.1, do not say which namespace they mean: it is that of the channel.
// Official nodes from 0.4 on do not understand these; this one does.
//
// # Names
//
// A channel is ChannelPrefix + "#" + the namespace. PostgreSQL takes 63 bytes: longer ones, and what is no UTF-8, have a
// digest for a name, which official nodes do not know. They cannot use such a namespace.
//
// # Failure
//
// Everything that is listened to shares one connection. When it fails, all namespaces are down together, and listen again on
// the next, which is there some 100 ms after PostgreSQL is: meanwhile emissions reach the clients of this node, and fail with
// [adapter.ErrDown] beside that. Nothing is sent twice, so what was under way when a connection failed is lost, and counted
// ([adapter.Hooks.PublishFailed]).
//
// Notifications are not stored: a node that is not connected misses them ([Hooks.Gap]), save those that are in the table.
// These are handed over late, but before all that comes then ([Hooks.Recovered]); of nodes that do not name the namespace
// they are not found.
//
// A canary, which the node sends itself, finds out what TCP does not: connections that swallow everything, users that may not
// publish, poolers that do not pass notifications on, a full queue of notifications. A node that does not hear its canary is
// deaf. It says so ([adapter.Hooks.State]) and listens anew.
//
// # Concurrency
//
// All functions may be called from any goroutine. While a namespace is open there are five goroutines for the connection: one
// reads, one writes LISTEN, one sends canaries, one deletes old attachments, one waits for the end; and one that publishes
// while there is something to publish. They end with the last namespace, whose Close waits for them, for [Options.Timeout] at
// the worst. Messages are parsed, and attachments read, by the goroutine of their namespace's bus: at most four read at a time.
//
// # Order
//
// What one node publishes arrives in that order, also between what goes through the table and what does not: messages wait for
// the attachments before them, which are read together.
//
// # Limits
//
// What waits to be published, or to be worked on, is bounded in bytes, as is each message: see [Options]. A full queue makes
// who publishes wait; a full inbox makes PostgreSQL wait, until the node is deaf for that reason. Of attachments that were
// missed at most 10,000 are handed over in a namespace.
//
// # Testing
//
// Tests run real servers (package pgtest). What the official adapter and emitter publish is in testdata.
package postgres
