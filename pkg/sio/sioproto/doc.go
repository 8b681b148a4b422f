// Package sioproto is the packet encoding of Socket.IO v5: bytes in, packets out, and back.
//
// # Use
//
// A packet is a line of text, `<type>[<attachments>-][<namespace>,][<ack id>][<JSON>]`, followed by its attachments,
// each a binary message of its own. [Packet] is that packet in canonical form: the JSON as it stands on the wire and the
// attachments beside it, so that what was received can be sent on without being understood. [Decoder] makes packets of
// messages, [Packet.AppendText] makes the text again, and [Parser] is the seam behind which another encoding of the same
// packets may stand.
//
// [AppendEvent] and [AppendArgs] make a payload of Go values, written as JavaScript would write it, with every []byte
// moved to the attachments; [DecodeEvent] and [DecodeArgs] are the way back. [Raw] is one argument that stays encoded.
//
// Bytes are shared, never copied, unless a function says so: a decoded packet points into the messages it was made of,
// and attachments of an encoded one are the caller's slices. Treat both as read-only.
//
// # Concurrency
//
// A [Decoder] belongs to one connection and one goroutine at a time. All else is plain values and pure functions.
//
// # Limits
//
// [Limits] bounds what one packet of a peer may cost; every bound is checked before memory is spent on it. There is no
// bound on the number of attachments that are sent: the official clients refuse more than ten.
//
// # Testing
//
// testdata/golden.json was written by the official JavaScript parser: testdata/generate.mjs says how. Where we differ
// from it on purpose, golden_test.go names the reason. The decoder and the value encoder are fuzzed for round trips.
//
// The protocol: https://socket.io/docs/v4/socket-io-protocol/
package sioproto
