package sioproto

import (
	"bytes"
	"cmp"
	"fmt"
	"unicode/utf8"
)

// Limits bounds what a Decoder accepts. The zero value means the defaults.
type Limits struct {
	// Attachments of one packet; 0 means 10, as in the official parser; negative refuses them all.
	Attachments int
	// AttachmentBytes is the sum, in bytes, of the attachments held for one packet; 0 means 16 MiB.
	AttachmentBytes int
	// Depth is the nesting of arrays and objects in a payload; 0 means 256.
	Depth int
	// Size of a payload in bytes; 0 means no limit but the transport's own.
	Size int
}

// maxID is the largest ack id that a JavaScript peer sends back unchanged: Number.MAX_SAFE_INTEGER.
const maxID = 1<<53 - 1

// maxCachedNamespace keeps a peer from parking a long name in the decoder for as long as it is connected.
const maxCachedNamespace = 256

// A Decoder turns the messages of one connection into packets. It must not be used concurrently.
type Decoder struct {
	limits    Limits
	namespace string // the last one seen: most connections use a single one

	// The packet whose attachments are awaited, or nil.
	partial *Packet
	awaited int // attachments still to come
	room    int // bytes they may still take
}

// NewDecoder returns a Decoder for one connection.
func NewDecoder(limits Limits) *Decoder {
	limits.Attachments = cmp.Or(limits.Attachments, 10)
	limits.AttachmentBytes = cmp.Or(limits.AttachmentBytes, 16<<20)
	limits.Depth = cmp.Or(limits.Depth, 256)
	return &Decoder{limits: limits, namespace: "/"}
}

// Add takes the next message. It returns nil and no error while attachments are awaited. The Decoder and the packet keep
// data. After an error the Decoder holds nothing, and the messages to come have lost their meaning.
//
// In a packet with attachments every placeholder is known to be in range. Attachments that none refers to are kept.
func (d *Decoder) Add(data []byte, binary bool) (*Packet, error) {
	var p *Packet
	var err error
	if binary {
		p, err = d.addBinary(data)
	} else {
		p, err = d.addText(data)
	}
	if err != nil {
		d.partial = nil
		return nil, fmt.Errorf("sioproto: decode packet: %w", err)
	}
	return p, nil
}

func (d *Decoder) addText(data []byte) (*Packet, error) {
	if d.partial != nil {
		return nil, ErrPlaintext
	}
	p, n, err := d.text(data)
	if err != nil || n == 0 {
		return p, err
	}
	d.partial, d.awaited, d.room = p, n, d.limits.AttachmentBytes
	return nil, nil
}

func (d *Decoder) addBinary(data []byte) (*Packet, error) {
	p := d.partial
	if p == nil {
		return nil, ErrBinary
	}
	if len(data) > d.room {
		return nil, fmt.Errorf("%w: more than %d bytes", ErrAttachmentBytes, d.limits.AttachmentBytes)
	}
	p.Attachments = append(p.Attachments, data)
	d.room -= len(data)
	if d.awaited--; d.awaited > 0 {
		return nil, nil
	}
	d.partial = nil
	return p, nil
}

// text decodes the text of a packet and says how many attachments follow it.
func (d *Decoder) text(data []byte) (*Packet, int, error) {
	if len(data) == 0 || data[0] < '0' || data[0] > '0'+byte(BinaryAck) {
		return nil, 0, ErrType
	}
	if !utf8.Valid(data) {
		return nil, 0, ErrUTF8
	}
	p := &Packet{Type: Type(data[0] - '0'), Namespace: "/"}
	rest := data[1:]

	attachments := 0
	if p.Type == BinaryEvent || p.Type == BinaryAck {
		n, digits, ok := leadingUint(rest)
		if digits == 0 || digits == len(rest) || rest[digits] != '-' || ok && n == 0 {
			return nil, 0, ErrIllegalAttachments
		}
		if !ok || n > uint64(max(d.limits.Attachments, 0)) {
			return nil, 0, fmt.Errorf("%w: more than %d", ErrTooManyAttachments, d.limits.Attachments)
		}
		attachments = int(n)
		rest = rest[digits+1:]
		p.Type -= BinaryEvent - Event
	}

	if len(rest) > 0 && rest[0] == '/' {
		name, after, _ := bytes.Cut(rest, []byte{','})
		p.Namespace, rest = d.intern(name), after
	}

	if n, digits, ok := leadingUint(rest); digits > 0 {
		if !ok || n > maxID {
			return nil, 0, ErrID
		}
		p.ID, p.HasID = n, true
		rest = rest[digits:]
	}

	if len(rest) > 0 {
		payload, err := d.payload(p.Type, rest)
		if err != nil {
			return nil, 0, err
		}
		p.Payload = payload
	}
	if attachments > 0 && p.Payload != nil {
		if _, err := placeholders(p.Payload, attachments); err != nil {
			return nil, 0, err
		}
	}
	return p, attachments, nil
}

// payload checks the JSON of a packet and returns it in compact form.
func (d *Decoder) payload(t Type, src []byte) ([]byte, error) {
	if t == Disconnect {
		return nil, fmt.Errorf("%w: unexpected in %v", ErrPayload, t)
	}
	if d.limits.Size > 0 && len(src) > d.limits.Size {
		return nil, fmt.Errorf("%w: more than %d bytes", ErrPayload, d.limits.Size)
	}
	src, err := canonical(src, d.limits.Depth)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrPayload, err)
	}
	ok := false
	switch c := src[0]; t {
	case Connect:
		ok = c == '{'
	case ConnectError:
		ok = c == '{' || c == '"'
	case Ack:
		ok = c == '['
	case Event:
		if c != '[' {
			break
		}
		name := src[1:skipValue(src, 1)]
		if ok = len(name) > 0 && isNumber(name); !ok && len(name) > 0 && name[0] == '"' {
			if ok = !isReservedJSON(name); !ok {
				return nil, fmt.Errorf("%w: reserved event name %s", ErrPayload, name)
			}
		}
	default: // Disconnect has none, and the binary types have become the others
	}
	if !ok {
		return nil, fmt.Errorf("%w: wrong kind for %v", ErrPayload, t)
	}
	return src, nil
}

func (d *Decoder) intern(name []byte) string {
	if string(name) == d.namespace {
		return d.namespace
	}
	s := string(name)
	if len(s) <= maxCachedNamespace {
		d.namespace = s
	}
	return s
}

// leadingUint reads the digits that src starts with. It is not ok when their number does not fit.
func leadingUint(src []byte) (n uint64, digits int, ok bool) {
	ok = true
	for ; digits < len(src) && src[digits]-'0' <= 9; digits++ {
		// Anything above maxID is refused anyway, and this far from it nothing overflows.
		if ok = ok && n <= maxID; ok {
			n = n*10 + uint64(src[digits]-'0')
		}
	}
	return n, digits, ok
}
