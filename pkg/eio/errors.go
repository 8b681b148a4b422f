package eio

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"
)

// Code is the number that a refused request carries in its body.
type Code int

// The codes of the official server.
const (
	CodeTransportUnknown    Code = 0
	CodeSessionUnknown      Code = 1
	CodeBadHandshakeMethod  Code = 2
	CodeBadRequest          Code = 3
	CodeForbidden           Code = 4
	CodeUnsupportedProtocol Code = 5
)

var codeMessages = [...]string{
	CodeTransportUnknown:    "Transport unknown",
	CodeSessionUnknown:      "Session ID unknown",
	CodeBadHandshakeMethod:  "Bad handshake method",
	CodeBadRequest:          "Bad request",
	CodeForbidden:           "Forbidden",
	CodeUnsupportedProtocol: "Unsupported protocol version",
}

// String returns the message that goes with c on the wire.
func (c Code) String() string {
	if c >= 0 && int(c) < len(codeMessages) {
		return codeMessages[c]
	}
	return fmt.Sprintf("code %d", int(c))
}

// ConnectionError says why a request was refused. Code and Message are what the client is told; Context is for us.
type ConnectionError struct {
	Code    Code
	Message string // empty: the code's own
	Context string // the official server's context name for code 3, for example "TRANSPORT_MISMATCH"; may be empty
	Status  int    // HTTP status
	Err     error  // cause; may be nil
}

func (e *ConnectionError) Error() string {
	msg := "eio: " + e.message()
	if e.Context != "" {
		msg += " (" + e.Context + ")"
	}
	if e.Err != nil {
		msg += ": " + e.Err.Error()
	}
	return msg
}

// Unwrap returns the cause.
func (e *ConnectionError) Unwrap() error { return e.Err }

func (e *ConnectionError) message() string {
	if e.Message != "" {
		return e.Message
	}
	return e.Code.String()
}

func refusal(code Code, context string, err error) *ConnectionError {
	status := http.StatusBadRequest
	if code == CodeForbidden {
		status = http.StatusForbidden
	}
	return &ConnectionError{Code: code, Context: context, Status: status, Err: err}
}

// unavailable refuses a handshake for reasons of ours: the client is right to come again.
func unavailable(message string, reason error) *ConnectionError {
	return &ConnectionError{Code: CodeBadRequest, Message: message, Context: "UNAVAILABLE", Status: http.StatusServiceUnavailable, Err: reason}
}

// CloseReason says why a session ended, in the words of the official server.
type CloseReason string

// The reasons. All but the last two are the official server's.
const (
	ReasonPingTimeout    CloseReason = "ping timeout"
	ReasonTransportError CloseReason = "transport error"
	ReasonTransportClose CloseReason = "transport close"
	ReasonParseError     CloseReason = "parse error"
	ReasonForcedClose    CloseReason = "forced close"         // Session.Close
	ReasonShutdown       CloseReason = "server shutting down" // Server.Shutdown
	ReasonSlowConsumer   CloseReason = "slow consumer"        // more queued than Options.MaxQueueBytes
	ReasonConnectionAge  CloseReason = "connection age"       // Options.MaxAge
)

// Why a server refuses handshakes with 503, as causes of a [ConnectionError].
var (
	ErrDraining        = errors.New("the server is shutting down")
	ErrTooManySessions = errors.New("there are MaxSessions")
	ErrHandshakeRate   = errors.New("there were HandshakeRate within the last second")
)

// Errors that Send returns or that Handler.Closed gets beside its reason.
var (
	// ErrClosed says that the session no longer takes messages. It also matches net.ErrClosed.
	ErrClosed error = closedError{}
	// ErrSlowConsumer says that the session was closed because the client did not read what was sent to it.
	ErrSlowConsumer = errors.New("eio: send queue full")

	errPollOverlap    = errors.New("overlap from client")
	errPostOverlap    = errors.New("data request overlap from client")
	errPollAborted    = errors.New("poll connection closed prematurely")
	errPostAborted    = errors.New("data request connection closed prematurely")
	errContent        = errors.New("invalid content")
	errPingDirection  = errors.New("invalid heartbeat direction")
	errUTF8           = errors.New("invalid UTF-8")
	errTooManyPackets = errors.New("too many packets in a payload")
	errCloseTimeout   = errors.New("client did not fetch the close packet")
)

// SlowConsumerError is what Handler.Closed and [Hooks.Closed] get with [ReasonSlowConsumer]. It matches [ErrSlowConsumer].
type SlowConsumerError struct {
	Queued  int           // bytes that waited for the client
	Message int           // bytes of the message that did not fit beside them
	Behind  time.Duration // how long the client had been behind, see [Hooks.Behind]
}

func (e *SlowConsumerError) Error() string {
	return fmt.Sprintf("%v: %d bytes do not fit beside %d", ErrSlowConsumer, e.Message, e.Queued)
}

// Unwrap returns ErrSlowConsumer.
func (e *SlowConsumerError) Unwrap() error { return ErrSlowConsumer }

type closedError struct{}

func (closedError) Error() string        { return "eio: session closed" }
func (closedError) Is(target error) bool { return target == net.ErrClosed }
