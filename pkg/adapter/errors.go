package adapter

import (
	"errors"
	"fmt"
	"strings"
)

// Errors to branch on.
var (
	// ErrDown says that the bus is not connected; the reason is wrapped beside it.
	ErrDown = errors.New("adapter: bus is down")
	// ErrFull says that a message was not sent, as too many were under way.
	ErrFull = errors.New("adapter: too many messages wait to be published")
	// ErrClosed says that the namespace, or the server, is closed.
	ErrClosed = errors.New("adapter: closed")

	errNotOpen   = errors.New("not open yet")
	errEnded     = errors.New("ended without an error")
	errUncounted = errors.New("this node is not among them")

	// why a message was dropped
	errMalformed  = errors.New("malformed")
	errUnexpected = errors.New("not expected")
	errTooMany    = errors.New("too many requests at a time")
)

// PartialError says that some nodes did not answer a request in time. What the others answered is beside it.
type PartialError struct {
	Silent  []NodeID // those that are known by name
	Unnamed int      // how many more
	Err     error    // why the wait ended
}

func (e *PartialError) Error() string {
	names := make([]string, 0, len(e.Silent)+1)
	for _, n := range e.Silent {
		names = append(names, string(n))
	}
	if e.Unnamed > 0 {
		names = append(names, fmt.Sprintf("%d of unknown name", e.Unnamed))
	}
	return fmt.Sprintf("adapter: no answer from %s: %v", strings.Join(names, ", "), e.Err)
}

// Unwrap returns the reason.
func (e *PartialError) Unwrap() error { return e.Err }
