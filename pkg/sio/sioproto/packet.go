package sioproto

import "strconv"

// Type is the type of a packet, with the protocol's own number.
type Type byte

// The types of packets. BinaryEvent and BinaryAck are seen on the wire only: in a Packet they are Event and Ack.
const (
	Connect Type = iota
	Disconnect
	Event
	Ack
	ConnectError
	BinaryEvent
	BinaryAck
)

var typeNames = [...]string{"CONNECT", "DISCONNECT", "EVENT", "ACK", "CONNECT_ERROR", "BINARY_EVENT", "BINARY_ACK"}

// String returns the protocol's name of the type.
func (t Type) String() string {
	if int(t) < len(typeNames) {
		return typeNames[t]
	}
	return "Type(" + strconv.Itoa(int(t)) + ")"
}

// A Packet is a Socket.IO packet in canonical form. It is read-only once it is shared.
type Packet struct {
	Type        Type   // never BinaryEvent or BinaryAck
	Namespace   string // with its leading slash and without a comma; "" means "/"
	ID          uint64 // the ack id, if HasID
	HasID       bool
	Payload     []byte   // compact JSON; nil if the packet has none
	Attachments [][]byte // what the placeholders of an Event's or Ack's payload stand for
}

// AppendText appends the text of p to dst. The attachments are not part of it: they follow it, in order, each as one
// binary message.
func (p *Packet) AppendText(dst []byte) []byte {
	t := p.Type
	if len(p.Attachments) > 0 {
		switch t {
		case Event:
			t = BinaryEvent
		case Ack:
			t = BinaryAck
		default: // the others have no attachments
		}
	}
	dst = append(dst, '0'+byte(t))
	if t == BinaryEvent || t == BinaryAck {
		dst = strconv.AppendInt(dst, int64(len(p.Attachments)), 10)
		dst = append(dst, '-')
	}
	if p.Namespace != "" && p.Namespace != "/" {
		dst = append(dst, p.Namespace...)
		dst = append(dst, ',')
	}
	if p.HasID {
		dst = strconv.AppendUint(dst, p.ID, 10)
	}
	return append(dst, p.Payload...)
}

// A Frame is one message of the transport below.
type Frame struct {
	Data   []byte
	Binary bool
}

// A Parser is an encoding of packets. Both ends of a connection must use the same one. Whatever it is, a Packet is in
// canonical form, with JSON for its payload. The methods may be called concurrently.
type Parser interface {
	// Encode returns the messages that carry p, to be sent without another packet's between them.
	Encode(p *Packet) []Frame
	// NewDecoder returns the decoder for one connection.
	NewDecoder(limits Limits) PacketDecoder
}

// A PacketDecoder turns the messages of one connection into packets. [Decoder] is the one of the default parser.
type PacketDecoder interface {
	// Add takes the next message. It returns nil and no error when the packet is not complete yet.
	// The decoder and its packets keep data, which must not change afterwards.
	Add(data []byte, binary bool) (*Packet, error)
}

// Default is the protocol's own parser: JSON text and binary attachments.
var Default Parser = textParser{}

type textParser struct{}

var _ PacketDecoder = (*Decoder)(nil)

func (textParser) NewDecoder(limits Limits) PacketDecoder { return NewDecoder(limits) }

func (textParser) Encode(p *Packet) []Frame {
	frames := make([]Frame, 1, 1+len(p.Attachments))
	// Type, dashes, counts and commas need less than 32 bytes, the ack id 20 at most.
	frames[0].Data = p.AppendText(make([]byte, 0, 52+len(p.Namespace)+len(p.Payload)))
	if p.Type == Event || p.Type == Ack {
		for _, a := range p.Attachments {
			frames = append(frames, Frame{Data: a, Binary: true})
		}
	}
	return frames
}
