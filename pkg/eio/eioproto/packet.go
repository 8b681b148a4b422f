// Package eioproto is the Engine.IO v4 wire: packets, and the payloads that carry several of them over long-polling.
//
// It is pure, bytes in and bytes out, and keeps no state; all functions may be called concurrently.
//
// The rules are those of the [protocol], sections "Packet encoding" and "HTTP long-polling".
//
// [protocol]: https://github.com/socketio/engine.io-protocol
package eioproto

import (
	"bytes"
	"encoding/base64"
	"errors"
	"iter"
)

// Type is the kind of a packet; on the wire its ASCII digit comes first.
type Type byte

// The packet types of Engine.IO v4.
const (
	Open Type = iota
	Close
	Ping
	Pong
	Message
	Upgrade
	Noop
)

// String returns the name that the protocol gives to t.
func (t Type) String() string {
	names := [...]string{"open", "close", "ping", "pong", "message", "upgrade", "noop"}
	if int(t) < len(names) {
		return names[t]
	}
	return "unknown"
}

// Separator stands between the packets of a polling payload (the record separator, U+001E).
const Separator = 0x1e

// base64Prefix opens a binary message in a place that can only hold text.
const base64Prefix = 'b'

// Errors of decoding.
var (
	ErrEmpty  = errors.New("eioproto: empty packet")
	ErrType   = errors.New("eioproto: unknown packet type")
	ErrBase64 = errors.New("eioproto: malformed base64")
)

// Packet is one unit of the protocol. Only a Message may be Binary.
type Packet struct {
	Type   Type
	Binary bool
	Data   []byte
}

// AppendText appends the text form of p: the digit and the data, or b and base64 for a binary message.
func (p Packet) AppendText(dst []byte) []byte {
	if p.Binary {
		dst = append(dst, base64Prefix)
		return base64.StdEncoding.AppendEncode(dst, p.Data)
	}
	return append(append(dst, '0'+byte(p.Type)), p.Data...)
}

// TextLen is the number of bytes that [Packet.AppendText] appends.
func (p Packet) TextLen() int {
	if p.Binary {
		return 1 + base64.StdEncoding.EncodedLen(len(p.Data))
	}
	return 1 + len(p.Data)
}

// ParseText decodes a packet from its text form. The data of a text packet shares the memory of text.
// Base64 is taken with or without padding, as the JavaScript decoders do.
func ParseText(text []byte) (Packet, error) {
	if len(text) == 0 {
		return Packet{}, ErrEmpty
	}
	if text[0] == base64Prefix {
		data, err := base64.RawStdEncoding.AppendDecode(nil, bytes.TrimRight(text[1:], "="))
		if err != nil {
			return Packet{}, ErrBase64
		}
		return Packet{Type: Message, Binary: true, Data: data}, nil
	}
	t := Type(text[0] - '0')
	if t > Noop {
		return Packet{}, ErrType
	}
	return Packet{Type: t, Data: text[1:]}, nil
}

// Payload yields the packets of a polling body one by one. It ends after the first error: what came before it counts.
func Payload(body []byte) iter.Seq2[Packet, error] {
	return func(yield func(Packet, error) bool) {
		for more := true; more; {
			var part []byte
			part, body, more = bytes.Cut(body, []byte{Separator})
			p, err := ParseText(part)
			if !yield(p, err) || err != nil {
				return
			}
		}
	}
}
