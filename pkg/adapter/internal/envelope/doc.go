// Package envelope is the encoding of [adapter.Message] that the official cluster adapters use on their buses, as JSON text
// and as MessagePack.
//
// # Use
//
// Adapters derived from the official ClusterAdapter send {type, data, uid, nsp}: [AppendJSON], [AppendMsgpack], [Parse]. Redis
// Streams carry data alone: [AppendDataJSON], [AppendDataMsgpack], [ParseData]. The classic Redis adapter has objects of its
// own that are made of the same parts: [Writer] and [Reader] know these, in both encodings.
//
// What is parsed shares memory with what it was parsed from, which must not change afterwards.
//
// # Concurrency
//
// Plain values and pure functions. A [Reader] or [Writer] has one user at a time.
//
// # Limits
//
// Every value in a message may be nested as deep as the payload of a client; the size of a message is for the caller to bound.
//
// # Testing
//
// testdata/golden.json was captured from the official adapters and emitters: testdata/generate.mjs says how.
package envelope
