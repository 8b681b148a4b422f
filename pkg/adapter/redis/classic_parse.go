package redis

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/seed-0b620db0/patchbay/pkg/adapter"
	"github.com/seed-0b620db0/patchbay/pkg/adapter/internal/envelope"
	"github.com/seed-0b620db0/patchbay/pkg/sio"
)

var (
	errNotUs  = errors.New("redis: of this node, or for others") // no fault
	errShape  = errors.New("not of the expected form")
	errType   = errors.New("unknown type")
	errAbsent = errors.New("is missing")
)

// parseClassicBroadcast parses [uid, packet, opts].
func parseClassicBroadcast(b []byte, ns string, self adapter.NodeID) (*adapter.Message, error) {
	r := envelope.NewReader(b)
	if r.Kind() != envelope.Array {
		return nil, errShape
	}
	m := &adapter.Message{Type: adapter.Broadcast}
	var (
		p envelope.Packet
		o envelope.Opts
		n int
	)
	for a := r.Array(); r.Next(&a); n++ {
		switch n {
		case 0:
			if m.From = adapter.NodeID(r.Text()); m.From == self && r.Err() == nil {
				return nil, errNotUs
			}
		case 1:
			p = r.Packet()
		case 2:
			o = r.Opts()
		default:
			r.Skip()
		}
	}
	switch err := r.End(); {
	case err != nil:
		return nil, err
	case n < 3 || p.Event == nil:
		return nil, errShape
	case p.HasNS && p.NS != ns || !p.HasNS && ns != "/":
		return nil, errNotUs
	}
	setBroadcast(m, &p, &o)
	return m, nil
}

func setBroadcast(m *adapter.Message, p *envelope.Packet, o *envelope.Opts) {
	m.Event, m.Target, m.Timeout = p.Event, o.Target, o.Timeout
	m.Event.Volatile, m.Event.NoCompress = o.Volatile, o.NoCompress
}

// classicMember is a member of a request or response. Which of them count depends on the type, which may come last.
type classicMember uint8

const (
	classicOptsMember classicMember = iota
	classicRoomsMember
	classicCloseMember
	classicDataMember
	classicPacketMember
	classicSIDMember
	classicRoomMember
	classicSocketsMember
	classicCountMember
	classicMembers
)

var classicMemberNames = [classicMembers]string{
	"opts", "rooms", "close", "data", "packet", "sid", "room", "sockets", "clientCount",
}

// classicFields is a request or response whose members are to be read.
type classicFields struct {
	uid, id string
	kind    int64 // -1: none
	has     [classicMembers]bool
	later   [classicMembers]envelope.Reader
	fault   error
}

func readClassicFields(b []byte) (*classicFields, error) {
	r := envelope.NewReader(b)
	if r.Kind() != envelope.Object {
		return nil, errShape
	}
	f := &classicFields{kind: -1}
	for o := r.Object(); r.Next(&o); {
		switch key := r.Key(); string(key) {
		case "uid":
			f.uid = r.Text()
		case "requestId":
			f.id = r.Text()
		case "type":
			f.kind = r.Int()
		default:
			i := slices.Index(classicMemberNames[:], string(key))
			if i < 0 {
				r.Skip()
				continue
			}
			f.has[i], f.later[i] = true, r.Later()
		}
	}
	if err := r.End(); err != nil {
		return nil, err
	}
	return f, nil
}

// need returns the reader of a member that must be there.
func (f *classicFields) need(m classicMember) *envelope.Reader {
	if !f.has[m] {
		f.fail(fmt.Errorf("%s %w", classicMemberNames[m], errAbsent))
	}
	return &f.later[m]
}

func (f *classicFields) fail(err error) {
	if f.fault == nil {
		f.fault = err
	}
}

// err returns what was wrong with what was read.
func (f *classicFields) err() error {
	for i := range f.later {
		if f.has[i] && f.later[i].Err() != nil {
			f.fail(f.later[i].Err())
		}
	}
	return f.fault
}

// parseClassicRequest parses a request. With confirm it is of an old form, for one socket: the node that has it confirms.
func parseClassicRequest(b []byte, ns string, self adapter.NodeID) (m *adapter.Message, confirm bool, err error) {
	f, err := readClassicFields(b)
	if err != nil {
		return nil, false, err
	}
	m = &adapter.Message{From: adapter.EmitterID, RequestID: f.id}
	if f.uid != "" {
		m.From = adapter.NodeID(f.uid)
	}
	if m.From == self {
		return nil, false, errNotUs
	}
	switch f.kind {
	case classicSockets:
		m.Type = adapter.AllSockets
		f.needID()
		if f.has[classicRoomsMember] {
			m.Target.Rooms = f.need(classicRoomsMember).Strings()
		}
	case classicAllRooms:
		m.Type = adapter.AllRooms
		f.needID()
	case classicJoin, classicLeave:
		if m.Type = adapter.SocketsJoin; f.kind == classicLeave {
			m.Type = adapter.SocketsLeave
		}
		if confirm = f.whom(m); confirm {
			m.Rooms = []string{f.need(classicRoomMember).Text()}
		} else {
			m.Rooms = f.need(classicRoomsMember).Strings()
		}
	case classicDisconnect:
		m.Type = adapter.DisconnectSockets
		m.CloseTransport = f.has[classicCloseMember] && f.need(classicCloseMember).Bool()
		confirm = f.whom(m)
	case classicFetch:
		m.Type = adapter.FetchSockets
		f.needID()
		m.Target = f.need(classicOptsMember).Opts().Target
	case classicServerSideEmit:
		m.Type = adapter.ServerSideEmit
		m.Event = f.need(classicDataMember).Event()
	case classicBroadcast:
		m.Type = adapter.Broadcast
		f.needID()
		f.broadcast(m, ns)
	default:
		f.fail(fmt.Errorf("%w %d", errType, f.kind))
	}
	if err := f.err(); err != nil {
		return nil, false, err
	}
	return m, confirm, nil
}

func (f *classicFields) needID() {
	if f.id == "" {
		f.fail(fmt.Errorf("requestId %w", errAbsent))
	}
}

func (f *classicFields) broadcast(m *adapter.Message, ns string) {
	p, o := f.need(classicPacketMember).Packet(), f.need(classicOptsMember).Opts()
	switch {
	case p.Event == nil: // the reader knows why
		f.fail(f.later[classicPacketMember].Err())
	case p.HasNS && p.NS != ns:
		f.fail(errNotUs)
	default:
		setBroadcast(m, &p, &o)
	}
}

// whom sets the target. It returns true if that is one socket, by its id, as in old forms.
func (f *classicFields) whom(m *adapter.Message) bool {
	if f.has[classicOptsMember] {
		m.Target = f.need(classicOptsMember).Opts().Target
		return false
	}
	sid := f.need(classicSIDMember).Text()
	if sid == "" { // all would be meant
		f.fail(fmt.Errorf("sid %w", errAbsent))
	}
	m.Target.Rooms = []string{sid}
	return true
}

// parseClassicResponse parses a response. Official nodes do not say who they are, and not always what it is.
func parseClassicResponse(b []byte, self adapter.NodeID) (*adapter.Message, error) {
	f, err := readClassicFields(b)
	if err != nil {
		return nil, err
	}
	f.needID()
	m := &adapter.Message{From: adapter.NodeID(f.uid), To: self, RequestID: f.id}
	switch {
	case f.kind == classicClientCount:
		m.Type = adapter.BroadcastClientCount
		n := f.need(classicCountMember).Int()
		if n < 0 || n > math.MaxInt32 {
			f.fail(errShape)
		}
		m.Clients = int(n)
	case f.kind == classicAck:
		m.Type = adapter.BroadcastAck
		m.Value = f.value(classicPacketMember)
	case f.kind == classicServerSideEmit:
		m.Type = adapter.ServerSideEmitResponse
		m.Value = f.value(classicDataMember)
	case f.has[classicSocketsMember]:
		m.Type = adapter.FetchSocketsResponse
		r := f.need(classicSocketsMember)
		if first := *r; firstKind(&first) == envelope.Text { // ids: somebody has asked for all sockets
			f.fail(errNotUs)
			break
		}
		m.Sockets = r.Sockets()
	case f.kind < 0: // to what we do not ask: rooms, or the old form of a request
		f.fail(errNotUs)
	default:
		f.fail(fmt.Errorf("%w %d", errType, f.kind))
	}
	if err := f.err(); err != nil {
		return nil, err
	}
	return m, nil
}

// value reads a value that may be undefined, and so be missing.
func (f *classicFields) value(m classicMember) sio.Raw {
	if !f.has[m] {
		return sio.Raw{}
	}
	return f.need(m).Value()
}

// firstKind returns what the first element of an array is.
func firstKind(r *envelope.Reader) envelope.Kind {
	if a := r.Array(); r.Next(&a) {
		return r.Kind()
	}
	return envelope.Invalid
}
