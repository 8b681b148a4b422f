package envelope

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/seed-0b620db0/patchbay/pkg/adapter/internal/rawjson"
	"github.com/seed-0b620db0/patchbay/pkg/sio"
	"github.com/seed-0b620db0/patchbay/pkg/sio/sioproto"
)

// What the messages of all adapters are made of.

var (
	errNoEvent  = errors.New("no event")
	errPacket   = errors.New("not the packet of an event")
	errReserved = errors.New("reserved name of an event")
)

// Opts are the options of an emission or a request: {rooms, except, flags}.
type Opts struct {
	Target     sio.Target // its Local is not sent
	Volatile   bool
	NoCompress bool
	Timeout    time.Duration // 0: not said; it is sent in milliseconds, rounded up
	NoFlags    bool          // do not write flags: classic requests have none
	FlagsFirst bool          // write flags before except, as emitters do
}

// Event writes the name and the arguments of out, as an array.
func (w *Writer) Event(out *sio.Outgoing) {
	if out == nil || len(out.Payload) == 0 {
		w.fail(fmt.Errorf("envelope: %w", errNoEvent))
		return
	}
	w.raw(out.Payload, out.Attachments)
}

// eventPacket is the type of the one packet that is broadcast.
const eventPacket = int64(sioproto.Event)

// Packet writes {type, data, nsp}; without nsp if ns is empty.
func (w *Writer) Packet(out *sio.Outgoing, ns string) {
	w.Object(2 + count(ns != ""))
	w.Key("type")
	w.Int(eventPacket)
	w.Key("data")
	w.Event(out)
	if ns != "" {
		w.Key("nsp")
		w.Text(ns)
	}
	w.End()
}

// Opts writes o.
func (w *Writer) Opts(o Opts) {
	w.Object(2 + count(!o.NoFlags))
	w.Key("rooms")
	w.Strings(o.Target.Rooms)
	if o.FlagsFirst {
		w.flags(&o)
	}
	w.Key("except")
	w.Strings(o.Target.Except)
	if !o.FlagsFirst {
		w.flags(&o)
	}
	w.End()
}

func (w *Writer) flags(o *Opts) {
	if o.NoFlags {
		return
	}
	w.Key("flags")
	w.Object(count(o.Volatile, o.NoCompress, o.Timeout > 0))
	if o.Volatile {
		w.Key("volatile")
		w.Bool(true)
	}
	if o.NoCompress {
		w.Key("compress")
		w.Bool(false)
	}
	if o.Timeout > 0 {
		w.Key("timeout")
		w.Int(milliseconds(o.Timeout))
	}
	w.End()
}

// Event reads an array that begins with the name of an event: a string, or a number as in JavaScript.
func (r *Reader) Event() *sio.Outgoing {
	out := new(sio.Outgoing)
	if r.event(out); r.err != nil {
		return nil
	}
	return out
}

func (r *Reader) event(out *sio.Outgoing) {
	if r.err != nil {
		return
	}
	b, atts, err := r.raw()
	if err == nil && !named(b) {
		err = errNoEvent
	}
	if err != nil {
		r.wrong(err)
		return
	}
	out.Payload, out.Attachments = b, atts
}

// named tells whether compact JSON is an array that begins with a string or a number.
func named(b []byte) bool {
	return len(b) > 1 && b[0] == '[' && (b[1] == '"' || b[1] == '-' || b[1]-'0' <= 9)
}

// Packet is a packet on its way to clients: {type, data, nsp}.
type Packet struct {
	Event *sio.Outgoing
	NS    string
	HasNS bool // there is an nsp
}

// Packet reads a packet. Events that clients would not take are errors.
func (r *Reader) Packet() Packet {
	out := new(sio.Outgoing)
	ns, ok := r.packet(out)
	if r.err != nil {
		return Packet{}
	}
	return Packet{Event: out, NS: ns, HasNS: ok}
}

func (r *Reader) packet(out *sio.Outgoing) (ns string, hasNS bool) {
	haveType, haveData := false, false
	for o := r.Object(); r.Next(&o); {
		switch string(r.Key()) {
		case "type":
			haveType = true
			// Older emitters have a type of its own for events with binary.
			if t := r.Int(); t != eventPacket && t != int64(sioproto.BinaryEvent) {
				r.wrong(errPacket)
			}
		case "data":
			haveData = true
			r.event(out)
		case "nsp":
			if hasNS = !r.Null(); hasNS {
				ns = r.Text()
			}
		default:
			r.Skip()
		}
	}
	switch {
	case r.err != nil:
	case !haveType || !haveData:
		r.fail(fmt.Errorf("envelope: packet: %w", errPacket))
	case reserved(out.Payload):
		r.fail(fmt.Errorf("envelope: packet: %w", errReserved))
	}
	return ns, hasNS
}

// longestReserved is that of the reserved names, if every letter of it is escaped.
const longestReserved = len(`removeListener`) * len(`\u0000`)

// reserved tells whether an event has one of the protocol's own names.
func reserved(payload []byte) bool {
	if payload[1] != '"' {
		return false
	}
	end, escaped, err := rawjson.String(payload, 1)
	if err != nil || end-3 > longestReserved {
		return false
	}
	name := payload[2 : end-1]
	if escaped {
		name = rawjson.AppendUnquoted(nil, name)
	}
	return sioproto.IsReserved(string(name))
}

// Opts reads options.
func (r *Reader) Opts() (o Opts) {
	o.NoFlags = true
	for m := r.Object(); r.Next(&m); {
		switch string(r.Key()) {
		case "rooms":
			o.Target.Rooms = r.Strings()
		case "except":
			o.Target.Except = r.Strings()
		case "flags":
			r.flags(&o)
		default:
			r.Skip()
		}
	}
	if r.err != nil {
		return Opts{}
	}
	return o
}

// flags reads those that we know. One of another kind than ours is not set.
func (r *Reader) flags(o *Opts) {
	if r.Kind() != Object {
		r.Skip()
		return
	}
	o.NoFlags = false
	for m := r.Object(); r.Next(&m); {
		switch key := r.Key(); {
		case string(key) == "volatile" && r.Kind() == Bool:
			o.Volatile = r.Bool()
		case string(key) == "compress" && r.Kind() == Bool:
			o.NoCompress = !r.Bool()
		case string(key) == "timeout" && r.Kind() == Number:
			o.Timeout = duration(r.Float())
		default:
			r.Skip()
		}
	}
}

// milliseconds rounds up.
func milliseconds(d time.Duration) int64 {
	ms := int64(d / time.Millisecond)
	if d%time.Millisecond > 0 {
		ms++
	}
	return ms
}

// duration makes whole milliseconds of a number of these; what is no time at all is none.
func duration(ms float64) time.Duration {
	const most = math.MaxInt64 / int64(time.Millisecond)
	switch {
	case !(ms > 0): // NaN too
		return 0
	case ms >= float64(most):
		return time.Duration(most) * time.Millisecond
	default:
		return time.Duration(math.Ceil(ms)) * time.Millisecond
	}
}
