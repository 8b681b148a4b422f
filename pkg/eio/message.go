package eio

import (
	"encoding/binary"
	"sync"

	"github.com/seed-0b620db0/patchbay/pkg/eio/eioproto"
)

// Frame is one message of the protocol: text, or binary.
type Frame struct {
	Data   []byte
	Binary bool
}

// Message is what Send takes: one frame, or several that must follow each other with nothing in between. It is encoded at
// most once for each transport, and may be sent to any number of sessions, from any goroutine. The data of its frames must
// not be changed after NewMessage.
type Message struct {
	frames     []Frame
	kind       eioproto.Type // of all frames; Message but for the packets of the protocol itself
	noCompress bool
	size       int

	// The encoded forms, made on first use.
	textOnce, wsOnce sync.Once
	text, ws         []byte

	one [1]Frame
}

// messageOverhead is counted for each queued message beside its data, so that empty messages have a bound too.
const messageOverhead = 64

// NewMessage returns the message of these frames.
func NewMessage(frames ...Frame) *Message {
	if len(frames) == 0 {
		panic("eio: a message without frames")
	}
	return newMessage(eioproto.Message, frames...)
}

// WithoutCompression returns m marked so that a polling response which holds nothing else is not compressed.
func (m *Message) WithoutCompression() *Message {
	return &Message{frames: m.frames, kind: m.kind, size: m.size, noCompress: true}
}

func newMessage(kind eioproto.Type, frames ...Frame) *Message {
	m := &Message{kind: kind}
	if len(frames) == 1 {
		m.one[0] = frames[0]
		m.frames = m.one[:]
	} else {
		m.frames = frames
	}
	if kind != eioproto.Message { // one of a kind at most: not counted, so that a ping takes no room from a message
		return m
	}
	m.size = messageOverhead
	for _, f := range m.frames {
		m.size += len(f.Data)
	}
	return m
}

// The packets of the protocol that carry no message.
var (
	closeMessage = newMessage(eioproto.Close, Frame{})
	pingMessage  = newMessage(eioproto.Ping, Frame{})
	noopMessage  = newMessage(eioproto.Noop, Frame{})
	probeMessage = newMessage(eioproto.Pong, Frame{Data: []byte("probe")})
)

// payload returns m as it stands in a polling payload.
func (m *Message) payload() []byte {
	m.textOnce.Do(m.encodePayload)
	return m.text
}

func (m *Message) encodePayload() {
	n := len(m.frames) - 1
	for _, f := range m.frames {
		n += m.packet(f).TextLen()
	}
	b := make([]byte, 0, n)
	for i, f := range m.frames {
		if i > 0 {
			b = append(b, eioproto.Separator)
		}
		b = m.packet(f).AppendText(b)
	}
	m.text = b
}

func (m *Message) packet(f Frame) eioproto.Packet {
	return eioproto.Packet{Type: m.kind, Binary: f.Binary, Data: f.Data}
}

// webSocketFrames returns m as unmasked WebSocket frames (RFC 6455, section 5.2), which are the same for every client.
func (m *Message) webSocketFrames() []byte {
	m.wsOnce.Do(m.encodeFrames)
	return m.ws
}

func (m *Message) encodeFrames() {
	const maxHeader = 10
	n := 0
	for _, f := range m.frames {
		n += maxHeader + 1 + len(f.Data)
	}
	b := make([]byte, 0, n)
	for _, f := range m.frames {
		if f.Binary {
			b = append(appendFrameHeader(b, opBinary, len(f.Data)), f.Data...)
		} else {
			b = m.packet(f).AppendText(appendFrameHeader(b, opText, 1+len(f.Data)))
		}
	}
	m.ws = b
}

const (
	opText   = 1
	opBinary = 2
	opPong   = 10
)

func appendFrameHeader(dst []byte, op byte, n int) []byte {
	const fin = 0x80
	switch {
	case n < 126:
		return append(dst, fin|op, byte(n))
	case n < 1<<16:
		return binary.BigEndian.AppendUint16(append(dst, fin|op, 126), uint16(n))
	default:
		return binary.BigEndian.AppendUint64(append(dst, fin|op, 127), uint64(n))
	}
}
