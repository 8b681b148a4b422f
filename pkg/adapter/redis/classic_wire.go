package redis

import (
	"errors"
	"fmt"
	"strings"

	"github.com/seed-0b620db0/patchbay/pkg/adapter"
	"github.com/seed-0b620db0/patchbay/pkg/adapter/internal/envelope"
)

// The types of requests and responses.
const (
	classicSockets = iota
	classicAllRooms
	classicJoin
	classicLeave
	classicDisconnect
	classicFetch
	classicServerSideEmit
	classicBroadcast
	classicClientCount
	classicAck
)

// classicChannels are the channels of a namespace.
type classicChannels struct {
	broadcast string // a room's name and a # may follow
	request   string
	response  string
	own       string // responses to this node alone
}

func newClassicChannels(key, ns string, self adapter.NodeID) classicChannels {
	return classicChannels{
		broadcast: key + "#" + ns + "#",
		request:   key + "-request#" + ns + "#",
		response:  key + "-response#" + ns + "#",
		own:       key + "-response#" + ns + "#" + string(self) + "#",
	}
}

// broadcastTo returns the channel of a broadcast to rooms.
func (c *classicChannels) broadcastTo(rooms []string) string {
	if len(rooms) != 1 {
		return c.broadcast
	}
	return c.broadcast + rooms[0] + "#"
}

// room returns the room that a broadcast channel is of, or "".
func (c *classicChannels) room(channel string) string {
	return strings.TrimSuffix(channel[min(len(c.broadcast), len(channel)):], "#")
}

// pattern matches the broadcast channels, and more if the namespace's name begins that of another.
func (c *classicChannels) pattern() string { return globEscaper.Replace(c.broadcast) + "*" }

var globEscaper = strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`, `]`, `\]`)

func (c *classicChannels) topics() []topic {
	return []topic{{true, c.pattern()}, {false, c.response}, {false, c.own}, {false, c.request}}
}

var (
	errNotClassic = errors.New("it has no form on plain pub/sub")
	errNoEvent    = errors.New("it has no event")
)

// encode returns m as it is published, and where. The channel is empty if there is nothing to publish.
func (c *classicChannels) encode(m *adapter.Message, ns string, specific bool) (channel string, payload []byte, err error) {
	switch {
	case m.Type == adapter.InitialHeartbeat || m.Type == adapter.Heartbeat || m.Type == adapter.Close:
		return "", nil, nil // Redis knows who is there
	case m.Type == adapter.Broadcast && m.Event == nil:
		err = errNoEvent
	case m.Type.Response():
		channel = c.responseTo(m, specific)
		payload, err = encodeClassicResponse(m)
	case m.Type == adapter.Broadcast && m.RequestID == "":
		channel = c.broadcastTo(m.Target.Rooms)
		payload, err = encodeClassicBroadcast(m, ns)
	default:
		channel = c.request
		payload, err = encodeClassicRequest(m, ns)
	}
	if err != nil {
		return "", nil, fmt.Errorf("redis: encode %s: %w", m.Type, err)
	}
	return channel, payload, nil
}

// officialID is the length of the ids of official nodes.
const officialID = 6

// responseTo returns the channel of a response. Nodes of ours all listen on channels of their own, so that the others need
// not hear it.
func (c *classicChannels) responseTo(m *adapter.Message, specific bool) string {
	switch {
	case m.To == "" || m.To == adapter.EmitterID:
		return c.response
	case len(m.To) != officialID, specific && m.Type != adapter.ServerSideEmitResponse: // which they answer to all
		return c.response + string(m.To) + "#"
	default:
		return c.response
	}
}

// encodeClassicBroadcast returns [uid, packet, opts].
func encodeClassicBroadcast(m *adapter.Message, ns string) ([]byte, error) {
	w := envelope.NewWriter(make([]byte, 0, classicSize(m, ns)), true)
	w.Array(3)
	w.Text(string(m.From))
	w.Packet(m.Event, ns)
	w.Opts(classicOpts(m))
	w.EndArray()
	return w.Bytes()
}

// classicSize is about what a broadcast takes; if it takes more, that costs a copy.
func classicSize(m *adapter.Message, ns string) int {
	n := 80 + len(m.From) + len(ns) + len(m.Event.Payload)
	for _, a := range m.Event.Attachments {
		n += len(a)
	}
	for _, rooms := range [][]string{m.Target.Rooms, m.Target.Except} {
		for _, room := range rooms {
			n += 5 + len(room)
		}
	}
	return n
}

func classicOpts(m *adapter.Message) envelope.Opts {
	return envelope.Opts{
		Target: m.Target, Volatile: m.Event.Volatile, NoCompress: m.Event.NoCompress, Timeout: m.Timeout,
		FlagsFirst: m.From == adapter.EmitterID,
	}
}

// encodeClassicRequest returns a request. Official nodes send events to servers as JSON always, which does not know binary;
// but since 7.2 they read MessagePack as well.
func encodeClassicRequest(m *adapter.Message, ns string) ([]byte, error) {
	w := envelope.NewWriter(nil, m.Type == adapter.Broadcast || envelope.HasBinary(m))
	bare := envelope.Opts{Target: m.Target, NoFlags: true}
	switch m.Type {
	case adapter.SocketsJoin, adapter.SocketsLeave:
		kind := int64(classicJoin)
		if m.Type == adapter.SocketsLeave {
			kind = classicLeave
		}
		requestHead(&w, m, kind, 2)
		w.Key("opts")
		w.Opts(bare)
		w.Key("rooms")
		w.Strings(m.Rooms)
	case adapter.DisconnectSockets:
		requestHead(&w, m, classicDisconnect, 2)
		w.Key("opts")
		w.Opts(bare)
		w.Key("close")
		w.Bool(m.CloseTransport)
	case adapter.FetchSockets:
		requestHead(&w, m, classicFetch, 1)
		w.Key("opts")
		w.Opts(bare)
	case adapter.ServerSideEmit:
		requestHead(&w, m, classicServerSideEmit, 1)
		w.Key("data")
		w.Event(m.Event)
	case adapter.Broadcast:
		requestHead(&w, m, classicBroadcast, 2)
		w.Key("packet")
		w.Packet(m.Event, ns)
		w.Key("opts")
		w.Opts(classicOpts(m))
	default:
		return nil, errNotClassic
	}
	w.End()
	return w.Bytes()
}

// requestHead begins a request of uid, requestId and type, and more members. Emitters leave out the uid, but in events.
func requestHead(w *envelope.Writer, m *adapter.Message, kind int64, more int) {
	uid := m.From != adapter.EmitterID || kind == classicServerSideEmit
	n := 1 + more
	if uid {
		n++
	}
	if m.RequestID != "" {
		n++
	}
	w.Object(n)
	if uid {
		w.Key("uid")
		w.Text(string(m.From))
	}
	if m.RequestID != "" {
		w.Key("requestId")
		w.Text(m.RequestID)
	}
	w.Key("type")
	w.Int(kind)
}

// encodeClassicResponse writes what official nodes do, and the uid of who answers, which they ignore.
func encodeClassicResponse(m *adapter.Message) ([]byte, error) {
	w := envelope.NewWriter(nil, m.Type == adapter.BroadcastAck || envelope.HasBinary(m))
	typed := func(n int, kind int64) {
		w.Object(n)
		w.Key("type")
		w.Int(kind)
		w.Key("requestId")
		w.Text(m.RequestID)
	}
	plain := func(key string) {
		w.Object(3)
		w.Key("requestId")
		w.Text(m.RequestID)
		w.Key(key)
	}
	value := func(kind int64, key string) {
		if len(m.Value.JSON) == 0 { // undefined
			typed(3, kind)
			return
		}
		typed(4, kind)
		w.Key(key)
		w.Value(m.Value)
	}
	switch m.Type {
	case adapter.FetchSocketsResponse:
		plain("sockets")
		w.Sockets(m.Sockets)
	case adapter.AllSocketsResponse:
		plain("sockets")
		w.Strings(m.Rooms)
	case adapter.AllRoomsResponse:
		plain("rooms")
		w.Strings(m.Rooms)
	case adapter.ServerSideEmitResponse:
		value(classicServerSideEmit, "data")
	case adapter.BroadcastAck:
		value(classicAck, "packet")
	case adapter.BroadcastClientCount:
		typed(4, classicClientCount)
		w.Key("clientCount")
		w.Int(int64(m.Clients))
	default:
		return nil, errNotClassic
	}
	w.Key("uid")
	w.Text(string(m.From))
	w.End()
	return w.Bytes()
}

// encodeClassicDone returns the answer to the old forms of join, leave and disconnect.
func encodeClassicDone(requestID string, self adapter.NodeID) ([]byte, error) {
	w := envelope.NewWriter(nil, false)
	w.Object(2)
	w.Key("requestId")
	w.Text(requestID)
	w.Key("uid")
	w.Text(string(self))
	w.End()
	return w.Bytes()
}
