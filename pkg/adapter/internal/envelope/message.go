package envelope

import (
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/seed-0b620db0/patchbay/pkg/adapter"
	"github.com/seed-0b620db0/patchbay/pkg/sio"
)

// TypeError says that a message is of a type that is not known here.
type TypeError struct{ Type int64 }

func (e *TypeError) Error() string {
	return "envelope: unknown type of message: " + strconv.FormatInt(e.Type, 10)
}

var (
	errNoType = errors.New("no type")
	errNoData = errors.New("no data")
	errTwice  = errors.New("is there twice")
)

// known tells whether the official ClusterAdapter has the type.
func known(t adapter.Type) bool { return t >= adapter.InitialHeartbeat && t <= adapter.Close }

// HasData tells whether messages of the type have a data object.
func HasData(t adapter.Type) bool {
	return known(t) && t != adapter.InitialHeartbeat && t != adapter.Heartbeat && t != adapter.Close
}

// HasBinary tells whether m holds binary, for which the official adapters take MessagePack.
func HasBinary(m *adapter.Message) bool {
	switch m.Type {
	case adapter.Broadcast, adapter.ServerSideEmit:
		return m.Event != nil && len(m.Event.Attachments) > 0
	case adapter.ServerSideEmitResponse, adapter.BroadcastAck:
		return holdsBinary(m.Value)
	default: // the data of sockets is JSON
		return false
	}
}

// AppendJSON appends the envelope as JSON; without nsp if ns is empty. Binary is written as JSON.stringify writes a Buffer.
func AppendJSON(dst []byte, m *adapter.Message, ns string) ([]byte, error) {
	return appendEnvelope(dst, false, m, ns)
}

// AppendMsgpack appends the envelope as MessagePack; without nsp if ns is empty.
func AppendMsgpack(dst []byte, m *adapter.Message, ns string) ([]byte, error) {
	return appendEnvelope(dst, true, m, ns)
}

// AppendDataJSON is AppendJSON for the data object alone.
func AppendDataJSON(dst []byte, m *adapter.Message) ([]byte, error) {
	return appendData(dst, false, m)
}

// AppendDataMsgpack is AppendMsgpack for the data object alone.
func AppendDataMsgpack(dst []byte, m *adapter.Message) ([]byte, error) {
	return appendData(dst, true, m)
}

func appendEnvelope(dst []byte, msgpack bool, m *adapter.Message, ns string) ([]byte, error) {
	if !known(m.Type) {
		return dst, &TypeError{int64(m.Type)}
	}
	w := NewWriter(slices.Grow(dst, sizeHint(m)+len(ns)), msgpack)
	w.Object(2 + count(HasData(m.Type), ns != ""))
	w.Key("type")
	w.Int(int64(m.Type))
	if HasData(m.Type) {
		w.Key("data")
		w.data(m)
	}
	w.Key("uid")
	w.Text(string(m.From))
	if ns != "" {
		w.Key("nsp")
		w.Text(ns)
	}
	w.End()
	return finish(&w, dst)
}

func appendData(dst []byte, msgpack bool, m *adapter.Message) ([]byte, error) {
	if !known(m.Type) {
		return dst, &TypeError{int64(m.Type)}
	}
	if !HasData(m.Type) {
		return dst, nil
	}
	w := NewWriter(slices.Grow(dst, sizeHint(m)), msgpack)
	w.data(m)
	return finish(&w, dst)
}

func finish(w *Writer, dst []byte) ([]byte, error) {
	out, err := w.Bytes()
	if err != nil {
		return dst, err
	}
	return out, nil
}

// sizeHint saves growing step by step. It is no bound.
func sizeHint(m *adapter.Message) int {
	n := 160 + len(m.RequestID) + len(m.Value.JSON) + 512*len(m.Sockets)
	if m.Event != nil {
		n += len(m.Event.Payload)
		for _, a := range m.Event.Attachments {
			n += len(a)
		}
	}
	return n
}

// count returns how many of the keys are there.
func count(keys ...bool) int {
	n := 0
	for _, there := range keys {
		if there {
			n++
		}
	}
	return n
}

func (w *Writer) data(m *adapter.Message) {
	withID, withValue := m.RequestID != "", m.Value.JSON != nil
	switch m.Type {
	case adapter.Broadcast:
		w.Object(2 + count(withID))
		w.Key("packet")
		w.Packet(m.Event, "")
		w.requestID(m, withID)
		w.opts(m)
	case adapter.SocketsJoin, adapter.SocketsLeave:
		w.Object(2)
		w.opts(m)
		w.Key("rooms")
		w.Strings(m.Rooms)
	case adapter.DisconnectSockets:
		w.Object(2)
		w.opts(m)
		w.Key("close")
		w.Bool(m.CloseTransport)
	case adapter.FetchSockets:
		w.Object(2)
		w.opts(m)
		w.requestID(m, true)
	case adapter.FetchSocketsResponse:
		w.Object(2)
		w.requestID(m, true)
		w.Key("sockets")
		w.Sockets(m.Sockets)
	case adapter.ServerSideEmit:
		w.Object(1 + count(withID))
		w.requestID(m, withID)
		w.Key("packet")
		w.Event(m.Event)
	case adapter.ServerSideEmitResponse, adapter.BroadcastAck:
		w.Object(1 + count(withValue))
		w.requestID(m, true)
		if withValue {
			w.Key("packet")
			w.Value(m.Value)
		}
	case adapter.BroadcastClientCount:
		w.Object(2)
		w.requestID(m, true)
		w.Key("clientCount")
		w.Int(int64(m.Clients))
	default:
		w.fail(&TypeError{int64(m.Type)})
	}
	w.End()
}

func (w *Writer) requestID(m *adapter.Message, there bool) {
	if there {
		w.Key("requestId")
		w.Text(m.RequestID)
	}
}

func (w *Writer) opts(m *adapter.Message) {
	o := Opts{Target: m.Target, Timeout: m.Timeout}
	if m.Event != nil {
		o.Volatile, o.NoCompress = m.Event.Volatile, m.Event.NoCompress
	}
	w.Key("opts")
	w.Opts(o)
}

// Parse parses an envelope in either encoding. hasNS tells whether it has an nsp. A type that is not known is a
// [*TypeError].
func Parse(b []byte) (m *adapter.Message, ns string, hasNS bool, err error) {
	r := NewReader(b)
	s := new(slot)
	m = &s.Message
	var later Reader // data that comes before the type
	haveData := false
	for o := r.Object(); r.Next(&o); {
		switch string(r.Key()) {
		case "type":
			n := r.Int()
			switch {
			case r.err != nil:
			case n < 0 || n > int64(adapter.Close) || !known(adapter.Type(n)):
				return nil, "", false, &TypeError{n}
			case m.Type != 0:
				r.wrong(errTwice)
			}
			m.Type = adapter.Type(n)
		case "data":
			if haveData {
				r.wrong(errTwice)
			}
			if haveData = true; HasData(m.Type) {
				r.data(s)
			} else {
				later = r.Later()
			}
		case "uid":
			m.From = adapter.NodeID(r.Text())
		case "nsp":
			if hasNS = !r.Null(); hasNS {
				ns = r.Text()
			}
		default:
			r.Skip()
		}
	}
	if HasData(m.Type) && later.there() {
		later.data(s)
		r.fail(later.err)
	}
	switch err := r.End(); {
	case err != nil:
		return nil, "", false, err
	case m.Type == 0:
		return nil, "", false, fmt.Errorf("envelope: %w", errNoType)
	case HasData(m.Type) && !haveData:
		return nil, "", false, fmt.Errorf("envelope: %s: %w", m.Type, errNoData)
	}
	return m, ns, hasNS, nil
}

// ParseData parses the data object of a message of type t in either encoding. From is left to the caller.
func ParseData(t adapter.Type, b []byte) (*adapter.Message, error) {
	if !known(t) {
		return nil, &TypeError{int64(t)}
	}
	s := &slot{Message: adapter.Message{Type: t}}
	if !HasData(t) {
		return &s.Message, nil
	}
	r := NewReader(b)
	r.data(s)
	if err := r.End(); err != nil {
		return nil, err
	}
	return &s.Message, nil
}

// slot is a message with room for its event.
type slot struct {
	adapter.Message
	event sio.Outgoing
}

// data reads the data of a message whose type is known.
func (r *Reader) data(s *slot) {
	m := &s.Message
	must := required[m.Type]
	for o := r.Object(); r.Next(&o); {
		f := fieldOf(r.Key()) & (required[m.Type] | optional[m.Type])
		if f == 0 {
			r.Skip()
			continue
		}
		if f != valueField && r.Null() {
			continue
		}
		must &^= f
		switch f {
		case packetField:
			if m.Type == adapter.Broadcast {
				r.packet(&s.event)
			} else {
				r.event(&s.event)
			}
			m.Event = &s.event
		case valueField:
			m.Value = r.Value()
		case optsField:
			o := r.Opts()
			m.Target, m.Timeout = o.Target, o.Timeout
			s.event.Volatile, s.event.NoCompress = o.Volatile, o.NoCompress
		case idField:
			if m.RequestID = r.Text(); m.RequestID == "" {
				must |= f & required[m.Type] // it is how we say that there is none
			}
		case roomsField:
			m.Rooms = r.Strings()
		case socketsField:
			m.Sockets = r.Sockets()
		case closeField:
			m.CloseTransport = r.Bool()
		case clientsField:
			m.Clients = r.count()
		}
	}
	if must != 0 {
		r.fail(fmt.Errorf("envelope: %s: no %s", m.Type, must))
	}
}
