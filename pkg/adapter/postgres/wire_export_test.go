package postgres

import "github.com/seed-0b620db0/patchbay/pkg/adapter"

// Errors and parts of the wire.
var (
	ErrForeign       = errForeign
	ErrTooLong       = errTooLong
	ErrPrefix        = errPrefix
	ChannelName      = channelName
	PayloadThreshold = payloadThreshold
	Distinct         = distinct
)

// Wire is a namespace's wire.
type Wire struct{ w *wire }

// NewWire returns the wire of a namespace.
func NewWire(prefix, ns string, self adapter.NodeID, threshold int) Wire {
	return Wire{newWire(prefix, ns, self, payloadThreshold(threshold))}
}

// Outgoing is what a message becomes.
type Outgoing struct {
	Payload    string
	Attachment []byte
	Head, Tail string
}

// Encode encodes m.
func (w Wire) Encode(m *adapter.Message) (Outgoing, error) {
	o, err := w.w.encode(m)
	return Outgoing{o.payload, o.attachment, o.head, o.tail}, err
}

// Incoming is what a notification holds.
type Incoming struct {
	Own     bool
	Message *adapter.Message
	ID      int64
	From    adapter.NodeID
	Type    adapter.Type
}

// Parse parses a notification.
func (w Wire) Parse(payload string) (Incoming, error) {
	in, err := w.w.parse(payload)
	return Incoming{in.own, in.message, in.id, in.from, in.kind}, err
}

// ParseRow parses an attachment.
func (w Wire) ParseRow(row []byte) (m *adapter.Message, named bool, err error) {
	return w.w.parseRow(row)
}
