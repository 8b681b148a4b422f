package sio

import (
	"errors"
	"fmt"
	"net"

	"github.com/seed-0b620db0/patchbay/pkg/eio"
)

// Reason says why a socket was disconnected, in the words of the official server.
type Reason string

// The reasons. The last two are ours.
const (
	ReasonClientDisconnect   Reason = "client namespace disconnect"
	ReasonServerDisconnect   Reason = "server namespace disconnect"
	ReasonForcedServerClose  Reason = "forced server close"
	ReasonForcedClose               = Reason(eio.ReasonForcedClose)
	ReasonServerShuttingDown        = Reason(eio.ReasonShutdown)
	ReasonPingTimeout               = Reason(eio.ReasonPingTimeout)
	ReasonTransportClose            = Reason(eio.ReasonTransportClose)
	ReasonTransportError            = Reason(eio.ReasonTransportError)
	ReasonParseError                = Reason(eio.ReasonParseError)
	ReasonSlowConsumer              = Reason(eio.ReasonSlowConsumer)
	ReasonConnectionAge             = Reason(eio.ReasonConnectionAge)
)

// recoverable tells whether a client may come back from r to the session it had (§"Connection state recovery").
func (r Reason) recoverable() bool {
	switch r {
	case ReasonTransportError, ReasonTransportClose, ReasonForcedClose, ReasonPingTimeout, ReasonServerShuttingDown,
		ReasonForcedServerClose, ReasonSlowConsumer, ReasonConnectionAge:
		return true
	default:
		return false
	}
}

// Errors to branch on.
var (
	// ErrDisconnected says that the socket is not connected any more. It also matches net.ErrClosed. Every
	// [*DisconnectError] matches it.
	ErrDisconnected error = disconnectedError{}
	// ErrAckTimeout says that an acknowledgement did not come in time. It also matches context.DeadlineExceeded if that
	// was what ended the wait.
	ErrAckTimeout = errors.New("sio: operation has timed out")
	// ErrTooManyAcks says that a socket already has Options.MaxPendingAcks acknowledgements outstanding.
	ErrTooManyAcks = errors.New("sio: too many pending acknowledgements")
	// ErrAcked says that the event has been acknowledged already, ErrNoAck that the client asked for no acknowledgement.
	ErrAcked = errors.New("sio: event is acknowledged already")
	ErrNoAck = errors.New("sio: no acknowledgement was asked for")
	// ErrServerClosed says that the server is shut down.
	ErrServerClosed = errors.New("sio: server closed")

	errTooManyNamespaces = &ConnectError{Message: "Too many namespaces"}

	errInvalidState     = errors.New("packet for a namespace that is not joined")
	errUnexpectedPacket = errors.New("packet that only servers send")
	errConnectTimeout   = errors.New("no namespace joined in time")
	errNotEncoded       = errors.New("sio: acknowledge")
	errMissed           = errors.New("missed events are no longer known")
	errBinaryData       = errors.New("binary data in a connect error")
)

type disconnectedError struct{}

func (disconnectedError) Error() string        { return "sio: socket is disconnected" }
func (disconnectedError) Is(target error) bool { return target == net.ErrClosed }

// DisconnectError is the cause that the context of a socket ends with.
type DisconnectError struct {
	Reason Reason
	Err    error // what broke the connection; may be nil
}

func (e *DisconnectError) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("sio: socket disconnected: %s: %v", e.Reason, e.Err)
	}
	return "sio: socket disconnected: " + string(e.Reason)
}

// Unwrap returns ErrDisconnected and the underlying error.
func (e *DisconnectError) Unwrap() []error {
	if e.Err == nil {
		return []error{ErrDisconnected}
	}
	return []error{ErrDisconnected, e.Err}
}

// ConnectError refuses a client: a middleware that returns one chooses what the client's connect_error shows. Other errors
// are sent as their text without data.
type ConnectError struct {
	Message string
	Data    any // becomes err.data in the client; nil: no data
}

func (e *ConnectError) Error() string { return "sio: connection refused: " + e.Message }

// PanicError is a handler's panic.
type PanicError struct {
	Value any
	Stack []byte
}

func (e *PanicError) Error() string { return fmt.Sprintf("sio: panic in a handler: %v", e.Value) }
