// Package redis carries a cluster over Redis, with the bytes of the official adapters, so that nodes of both kinds can meet.
//
// # Use
//
// [New] makes the adapter over plain pub/sub ("classic", @socket.io/redis-adapter), which needs Redis 6 or a Valkey, alone,
// behind sentinels or as a cluster, but not a goredis.Ring:
//
//	rdb := goredis.NewClient(&goredis.Options{Addr: "redis:6379"})
//	io := sio.NewServer(&sio.Options{Adapter: redis.New(rdb, nil)})
//
// One adapter is for one server. [NewSharded] uses sharded pub/sub (Redis 7), whose subscriptions can follow rooms;
// [NewStreams] uses a stream, which brings what a node has missed while it was not connected. [NewEmitter],
// [NewShardedEmitter] and [NewStreamsEmitter] are for processes that only emit.
//
// # Failure
//
// Everything that is subscribed to shares one connection. When it fails, all namespaces are down together, and subscribe
// again on the next, which is there some 100 ms after Redis is: meanwhile emissions reach the clients of this node, and fail
// with [adapter.ErrDown] beside that. Nothing is sent twice, so what was under way is lost.
//
// A canary, which the node sends itself, finds out what TCP does not: connections that swallow everything, and users that
// may not publish. A node that does not hear its canary is deaf. It says so ([adapter.Hooks.State]) and subscribes anew.
//
// # Concurrency
//
// All functions may be called from any goroutine. While a namespace is open there are four goroutines for a connection: one
// reads, one writes subscriptions, one sends canaries, one waits for the end; and one that publishes while there is something
// to publish. They end with the last namespace, whose Close waits for them, for [Options.Timeout] at the worst; those of a
// connection that failed before end within that time, too, and nobody waits for them. Messages are parsed by the goroutine of
// their namespace's bus.
//
// # Limits
//
// What waits to be published, or to be worked on, is bounded in bytes, as is each message: see [Options]. A full queue makes
// who publishes wait; a full inbox makes Redis wait, which cuts off who lets it wait too long (client-output-buffer-limit).
//
// Pub/sub does not store messages: a node that is not connected misses them.
//
// # Testing
//
// Tests run real servers (package redistest). What the official adapter and emitter publish is in testdata, by
// testdata/classic/capture.mjs and testdata/sharded-streams/capture.mjs.
package redis
