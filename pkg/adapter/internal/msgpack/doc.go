// Package msgpack turns canonical JSON with attachments (see package sioproto) into MessagePack and back, from bytes to
// bytes.
//
// # Use
//
// [AppendJSON] writes a value as notepack.io 3 and @msgpack/msgpack 2.8 write what JSON.parse makes of it, with its
// attachments in the places of their placeholders; the other Append functions write the envelope around it. [Cursor] reads
// values one by one, and [Cursor.AppendJSON] makes one of them JSON again.
//
// What is read shares memory with what it was read from.
//
// # Concurrency
//
// Plain values and pure functions. A [Cursor] has one user at a time.
//
// # Limits
//
// Values may be nested [MaxDepth] deep. A length is checked against what is left before anything is allocated, and what
// comes out is no larger than a constant times what went in.
//
// # Testing
//
// testdata/golden.json was written by the two JavaScript encoders: testdata/generate.mjs says how. vmihailenco/msgpack is the
// oracle of another fuzz target.
//
// The format: https://github.com/msgpack/msgpack/blob/master/spec.md
package msgpack
