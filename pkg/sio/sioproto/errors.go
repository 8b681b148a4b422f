package sioproto

import "errors"

// Errors of a Decoder, which wraps them. Each means that the peer broke the protocol and that the connection should be
// closed. ErrIllegalAttachments is also what becomes of a Raw whose placeholders do not fit its attachments.
var (
	ErrType               = errors.New("unknown packet type")
	ErrUTF8               = errors.New("text is not valid UTF-8")
	ErrPlaintext          = errors.New("got plaintext data when reconstructing a packet")
	ErrBinary             = errors.New("got binary data when not reconstructing a packet")
	ErrIllegalAttachments = errors.New("illegal attachments")
	ErrTooManyAttachments = errors.New("too many attachments")
	ErrAttachmentBytes    = errors.New("attachments too large")
	ErrID                 = errors.New("ack id too large")
	ErrPayload            = errors.New("invalid payload")
)

// Errors of encoding values.
var (
	// ErrReserved refuses an event name that the protocol keeps for itself.
	ErrReserved = errors.New("reserved event name")
	// ErrPlaceholder refuses an object with "_placeholder":true beside real attachments. The protocol has no escape
	// for it, so the receiver would put an attachment in its place.
	ErrPlaceholder = errors.New("an object looks like an attachment's placeholder")
	// ErrDepth refuses a value that is nested too deeply, or without end.
	ErrDepth = errors.New("value is nested too deeply")
)

// IsReserved reports whether name cannot be an event's name.
func IsReserved(name string) bool {
	switch name {
	case "connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener":
		return true
	}
	return false
}
