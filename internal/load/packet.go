package load

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
)

// Type is the kind of a Message.
type Type byte

// The kinds of messages that a Handler sees and Send takes. With attachments they travel as their binary forms.
const (
	Event Type = '2'
	Ack   Type = '3'
)

// NoAck is the ID of an event that asks for no acknowledgement.
const NoAck = -1

// Message is an event or an acknowledgement.
type Message struct {
	Type        Type
	ID          int    // of the acknowledgement, or NoAck
	Data        []byte // JSON array of the arguments, for an event after its name
	Attachments [][]byte
}

const (
	maxMessage     = 64 << 20
	maxAttachments = 1000
)

var errMalformed = errors.New("malformed packet")

// appendPacket appends the Engine.IO message that carries m in a namespace; prefix is that of the namespace, "" or "/x,".
func appendPacket(dst []byte, prefix string, m *Message) []byte {
	dst = append(dst, '4')
	if n := len(m.Attachments); n > 0 {
		dst = append(dst, byte(m.Type)+3)
		dst = append(strconv.AppendInt(dst, int64(n), 10), '-')
	} else {
		dst = append(dst, byte(m.Type))
	}
	dst = append(dst, prefix...)
	if m.ID != NoAck {
		dst = strconv.AppendInt(dst, int64(m.ID), 10)
	}
	return append(dst, m.Data...)
}

// packet is a Socket.IO packet whose attachments are still to come.
type packet struct {
	kind        byte // '0' to '6'
	attachments int
	id          int
	data        []byte
}

// parsePacket parses a packet of the namespace with this prefix.
func parsePacket(p []byte, prefix string) (packet, error) {
	if len(p) == 0 {
		return packet{}, errMalformed
	}
	out := packet{kind: p[0], id: NoAck}
	p = p[1:]
	if out.kind == '5' || out.kind == '6' {
		n, rest, ok := bytes.Cut(p, []byte("-"))
		count, err := strconv.Atoi(string(n))
		if !ok || err != nil || count < 1 || count > maxAttachments {
			return packet{}, errMalformed
		}
		out.attachments, p = count, rest
	}
	if prefix != "" {
		if rest, ok := bytes.CutPrefix(p, []byte(prefix)); ok {
			p = rest
		} else if !bytes.Equal(p, []byte(prefix[:len(prefix)-1])) {
			return packet{}, fmt.Errorf("packet of another namespace: %.50q", p)
		} else {
			p = nil
		}
	}
	for i := 0; i < len(p) && '0' <= p[i] && p[i] <= '9'; i++ {
		out.id = max(out.id, 0)*10 + int(p[i]-'0')
		if out.id < 0 || i > 17 {
			return packet{}, errMalformed
		}
	}
	if out.id != NoAck {
		p = bytes.TrimLeft(p, "0123456789")
	}
	out.data = p
	return out, nil
}
