package sio

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync/atomic"

	"github.com/seed-0b620db0/patchbay/pkg/sio/sioproto"
)

// Raw is a value as it came over the wire. It can be decoded, and emitted as it is.
type Raw = sioproto.Raw

// Args are the arguments of an event or an acknowledgement, decoded when asked for. They are read-only and may be used
// from any goroutine.
type Args struct {
	payload     []byte // a JSON array
	attachments [][]byte
	skip        int // elements before the first argument: the event's name
}

// NewArgs returns the arguments of a payload, a JSON array, and the attachments that its placeholders stand for. It is for
// adapters, and keeps both.
func NewArgs(payload []byte, attachments [][]byte) Args { return Args{payload, attachments, 0} }

// Len returns the number of arguments.
func (a Args) Len() int {
	n := 0
	for range sioproto.Elements(a.payload) {
		n++
	}
	return max(0, n-a.skip)
}

// Decode decodes the arguments, in order, into what dst point to, as encoding/json does; a []byte, or an any, takes a binary
// argument, whose memory it shares. A dst without an argument is left as it is; surplus arguments are ignored; a nil dst
// skips one.
func (a Args) Decode(dst ...any) error {
	if a.skip == 1 {
		return sioproto.DecodeEvent(a.payload, a.attachments, dst...)
	}
	return sioproto.DecodeArgs(a.payload, a.attachments, dst...)
}

// Raw returns argument i, counted from 0, or null if there is none.
func (a Args) Raw(i int) Raw {
	for j, v := range a.All() {
		if j == i {
			return v
		}
	}
	return Raw{}
}

// All returns the arguments one by one.
func (a Args) All() iter.Seq2[int, Raw] {
	return func(yield func(int, Raw) bool) {
		for i, json := range sioproto.Elements(a.payload) {
			if i >= a.skip && !yield(i-a.skip, Raw{JSON: json, Attachments: a.attachments}) {
				return
			}
		}
	}
}

// Values returns the arguments as values to emit again.
func (a Args) Values() []any {
	out := []any{} // not nil, which would be written as null inside another value
	for _, v := range a.All() {
		out = append(out, v)
	}
	return out
}

// Event is an event that came in.
type Event struct {
	name  string
	args  Args
	acked atomic.Bool

	// How to acknowledge it: none of these if that was not asked for.
	socket *Socket
	id     uint64                   // of socket
	reply  func(values []any) error // to another server
}

// Name returns the name of the event.
func (e *Event) Name() string { return e.name }

// Args returns the arguments.
func (e *Event) Args() Args { return e.args }

// NeedsAck tells whether the sender waits for an acknowledgement.
func (e *Event) NeedsAck() bool { return e.socket != nil || e.reply != nil }

// Ack acknowledges the event, once. It does not wait. It may be called after the handler has returned.
func (e *Event) Ack(values ...any) error {
	switch {
	case !e.NeedsAck():
		return ErrNoAck
	case e.acked.Swap(true):
		return ErrAcked
	}
	var err error
	if e.socket != nil {
		err = e.socket.ack(e.id, values)
	} else {
		err = e.reply(values)
	}
	if errors.Is(err, errNotEncoded) { // nothing has gone out
		e.acked.Store(false)
	}
	return err
}

// Handler answers an event of a socket. Its error is reported to [Hooks.HandlerError] and the log; the client learns
// nothing of it and, without an acknowledgement, may send the event again if it was told to ("retries").
type Handler func(ctx context.Context, s *Socket, ev *Event) error

// Reply makes a Handler of a function from the event's first argument to its acknowledgement. Nothing is acknowledged on
// an error, nor if the client did not ask for it.
func Reply[In, Out any](f func(ctx context.Context, s *Socket, in In) (Out, error)) Handler {
	return func(ctx context.Context, s *Socket, ev *Event) error {
		var in In
		if err := decodeFirst(ev, &in); err != nil {
			return err
		}
		out, err := f(ctx, s, in)
		if err != nil || !ev.NeedsAck() {
			return err
		}
		return ev.Ack(out)
	}
}

// Receive makes a Handler of a function that takes the event's first argument. If the client waits for an
// acknowledgement, it gets an empty one when f returns without error.
func Receive[In any](f func(ctx context.Context, s *Socket, in In) error) Handler {
	return func(ctx context.Context, s *Socket, ev *Event) error {
		var in In
		if err := decodeFirst(ev, &in); err != nil {
			return err
		}
		if err := f(ctx, s, in); err != nil || !ev.NeedsAck() {
			return err
		}
		return ev.Ack()
	}
}

func decodeFirst(ev *Event, dst any) error {
	if err := ev.args.Decode(dst); err != nil {
		return fmt.Errorf("sio: decode %q: %w", ev.name, err)
	}
	return nil
}

// Outgoing is an event on its way to sockets: encoded once, shared, and read-only.
type Outgoing struct {
	Payload     []byte   // a JSON array: the name, then the arguments
	Attachments [][]byte // what the placeholders in Payload stand for
	Volatile    bool     // only for those who are ready at this moment
	NoCompress  bool
}

// newOutgoing encodes an event. See [sioproto.AppendEvent] for the values it takes.
func newOutgoing(event string, args []any, f flags) (*Outgoing, error) {
	payload, atts, err := sioproto.AppendEvent(nil, nil, event, args...)
	if err != nil {
		return nil, fmt.Errorf("sio: emit %q: %w", event, err)
	}
	return &Outgoing{Payload: payload, Attachments: atts, Volatile: f.volatile, NoCompress: f.noCompress}, nil
}

// Name returns the name of the event.
func (o *Outgoing) Name() string {
	name, _ := sioproto.EventName(o.Payload) // empty if it has none
	return name
}

// Args returns the arguments.
func (o *Outgoing) Args() Args { return Args{o.Payload, o.Attachments, 1} }

// withArg returns o with one more argument.
func (o *Outgoing) withArg(arg string) *Outgoing {
	c := *o
	c.Payload = sioproto.AppendArg(o.Payload, arg)
	return &c
}

func (o *Outgoing) size() int {
	n := len(o.Payload)
	for _, a := range o.Attachments {
		n += len(a)
	}
	return n
}

// flags of an emission.
type flags struct{ volatile, noCompress bool }
