// Package rawjson reads JSON text without decoding it, and writes strings as JavaScript does.
//
// # Use
//
// [Value], [String] and [Number] check a value and say where it ends. [AppendUnquoted] and [AppendQuoted] are the two
// directions of a string's inside.
//
// # Concurrency
//
// Pure functions.
//
// # Limits
//
// The caller bounds the nesting. No function spends more than a small multiple of its input.
//
// # Testing
//
// encoding/json is the oracle.
package rawjson
