package envelope_test

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed-0b620db0/patchbay/pkg/adapter"
	"github.com/seed-0b620db0/patchbay/pkg/adapter/internal/envelope"
	"github.com/seed-0b620db0/patchbay/pkg/sio"
)

// captured is what an official adapter or emitter has published: see testdata/generate.mjs.
type captured struct {
	Name, Sender string
	Type         adapter.Type // of data alone
	Text         string
	Hex          string
}

// bytes returns what was published, and whether it was binary.
func (c captured) bytes(t testing.TB) (b []byte, msgpack bool) {
	t.Helper()
	if c.Hex == "" {
		return []byte(c.Text), false
	}
	b, err := hex.DecodeString(c.Hex)
	if err != nil {
		t.Fatal(err)
	}
	return b, true
}

func loadGolden(t testing.TB) (list []captured) {
	t.Helper()
	text, err := os.ReadFile("testdata/golden.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &list); err != nil {
		t.Fatal(err)
	}
	// What the PostgreSQL adapter says of an attachment is no envelope.
	return slices.DeleteFunc(list, func(c captured) bool { return strings.Contains(c.Text, `"attachmentId"`) })
}

// equal takes any: messages hold the sockets of a namespace, and with these errors, which tests do not set.
func equal(a, b any) bool { return reflect.DeepEqual(a, b) }

func classic(c captured) bool { return c.Sender == "classic" || c.Sender == "redis-emitter" }

const requestID = "0202020202020202"

func event(payload string, atts ...[]byte) *sio.Outgoing {
	return &sio.Outgoing{Payload: []byte(payload), Attachments: atts}
}

func flagged(volatile, noCompress bool, payload string) *sio.Outgoing {
	return &sio.Outgoing{Payload: []byte(payload), Volatile: volatile, NoCompress: noCompress}
}

func rooms(list ...string) sio.Target { return sio.Target{Rooms: list} }

const (
	ph0 = `{"_placeholder":true,"num":0}`
	ph1 = `{"_placeholder":true,"num":1}`
	ph2 = `{"_placeholder":true,"num":2}`
)

var (
	handshake = sio.HandshakeData{
		Headers: map[string]string{"host": "localhost:3000", "accept-language": "de<é"},
		Time:    "Tue Nov 14 2023 22:13:20 GMT+0000 (UTC)", Address: "127.0.0.1", Secure: true, Issued: 1700000000123,
		URL: "/socket.io/?EIO=4&transport=polling", Query: map[string]string{"EIO": "4", "transport": "polling"},
		Auth: json.RawMessage(`{"token":"x","list":[1,null]}`),
	}
	socketRooms = []string{"sid00000000000000001", "r1"}
	date        = `{"at":"2023-11-14T22:13:20.123Z"}`
	binary      = sio.Raw{JSON: json.RawMessage("[" + ph0 + `,{"x":` + ph1 + "}]"), Attachments: [][]byte{{1}, {2, 3}}}
)

// messages has those of generate.mjs, but for their sender.
var messages = map[string]adapter.Message{
	"initial heartbeat": {Type: adapter.InitialHeartbeat},
	"heartbeat":         {Type: adapter.Heartbeat},
	"close":             {Type: adapter.Close},

	"broadcast":              {Type: adapter.Broadcast, Event: event(`["ev",1,"é<` + "\u2028" + `\"",{"a":[null,true,-1.5]}]`)},
	"broadcast in namespace": {Type: adapter.Broadcast, Event: event(`["ev"]`)},
	"broadcast to room":      {Type: adapter.Broadcast, Event: event(`["ev"]`), Target: rooms("r1")},
	"broadcast to rooms":     {Type: adapter.Broadcast, Event: event(`["ev","x"]`), Target: sio.Target{Rooms: []string{"r1", "r2"}, Except: []string{"r3"}}},
	"broadcast to numbers":   {Type: adapter.Broadcast, Event: event(`["ev"]`), Target: rooms("1", "2.5")},
	"broadcast volatile":     {Type: adapter.Broadcast, Event: flagged(true, false, `["ev"]`)},
	"broadcast uncompressed": {Type: adapter.Broadcast, Event: flagged(false, true, `["ev"]`)},
	"broadcast with both":    {Type: adapter.Broadcast, Event: flagged(true, true, `["ev"]`)},
	"broadcast compressed":   {Type: adapter.Broadcast, Event: event(`["ev"]`)},
	"broadcast number":       {Type: adapter.Broadcast, Event: event(`[7,"x"]`)},
	"broadcast binary": {
		Type: adapter.Broadcast, Target: rooms("r1"),
		Event: event(`["ev",`+ph0+`,{"file":`+ph1+`,"list":[`+ph2+`]}]`, []byte{1, 2, 3}, []byte{}, []byte{255}),
	},
	"broadcast date":      {Type: adapter.Broadcast, Event: event(`["ev",` + date + `]`)},
	"broadcast undefined": {Type: adapter.Broadcast, Event: event(`["ev",null,{"b":1}]`)},
	"broadcast with ack":  {Type: adapter.Broadcast, Event: event(`["ev",1]`), RequestID: requestID, Target: rooms("r1"), Timeout: time.Second},
	"broadcast binary with ack": {
		Type: adapter.Broadcast, RequestID: requestID, Timeout: time.Second,
		Event: &sio.Outgoing{Payload: []byte(`["ev",` + ph0 + `]`), Attachments: [][]byte{{1}}, Volatile: true},
	},

	"join":                 {Type: adapter.SocketsJoin, Target: sio.Target{Rooms: []string{"r1"}, Except: []string{"r2"}}, Rooms: []string{"a", "b"}},
	"join all":             {Type: adapter.SocketsJoin, Rooms: []string{"a"}},
	"leave":                {Type: adapter.SocketsLeave, Target: rooms("r1", "r2"), Rooms: []string{"a"}},
	"disconnect":           {Type: adapter.DisconnectSockets, Target: rooms("r1")},
	"disconnect and close": {Type: adapter.DisconnectSockets, CloseTransport: true},

	"fetch":              {Type: adapter.FetchSockets, RequestID: requestID, Target: sio.Target{Rooms: []string{"r1"}, Except: []string{"r2"}}},
	"fetch with timeout": {Type: adapter.FetchSockets, RequestID: requestID, Timeout: 1500 * time.Millisecond},
	"fetch response": {
		Type: adapter.FetchSocketsResponse, RequestID: "r",
		Sockets: []sio.RemoteSocket{{ID: "sid00000000000000001", Handshake: handshake, Rooms: socketRooms, Data: json.RawMessage(`{}`)}},
	},
	"fetch response binary": {
		Type: adapter.FetchSocketsResponse, RequestID: "r",
		Sockets: []sio.RemoteSocket{{
			ID: "sid00000000000000001", Handshake: handshake, Rooms: socketRooms,
			Data: json.RawMessage(`{"b":{"type":"Buffer","data":[1,2]},"n":[1.5,` + date + `]}`),
		}},
	},
	"fetch response of none": {Type: adapter.FetchSocketsResponse, RequestID: "r"},

	"server side emit":          {Type: adapter.ServerSideEmit, Event: event(`["hello","w",{"a":1}]`)},
	"server side emit binary":   {Type: adapter.ServerSideEmit, Event: event(`["hello",`+ph0+`]`, []byte{1, 2})},
	"server side emit with ack": {Type: adapter.ServerSideEmit, RequestID: requestID, Event: event(`["hello","w"]`)},

	"emit": {Type: adapter.Broadcast, Event: event(`["fromEmitter",1]`)},
	"emit to room": {
		Type: adapter.Broadcast, Event: flagged(true, true, `["fromEmitter","x"]`), Target: sio.Target{Rooms: []string{"r1"}, Except: []string{"r2"}},
	},
	"emit in namespace":    {Type: adapter.Broadcast, Event: event(`["fromEmitter"]`)},
	"emit binary":          {Type: adapter.Broadcast, Event: event(`["fromEmitter",`+ph0+`]`, []byte{1, 2})},
	"emitter joins":        {Type: adapter.SocketsJoin, Target: rooms("r1"), Rooms: []string{"a"}},
	"emitter leaves":       {Type: adapter.SocketsLeave, Target: sio.Target{Rooms: []string{"r1"}, Except: []string{"r2"}}, Rooms: []string{"a"}},
	"emitter disconnects":  {Type: adapter.DisconnectSockets, CloseTransport: true},
	"emitter to servers":   {Type: adapter.ServerSideEmit, Event: event(`["hello",1]`)},
	"broadcast ack":        {Type: adapter.BroadcastAck, RequestID: "r", Value: raw(`{"got":"w"}`)},
	"broadcast ack null":   {Type: adapter.BroadcastAck, RequestID: "r", Value: raw(`null`)},
	"broadcast ack date":   {Type: adapter.BroadcastAck, RequestID: "r", Value: raw(date)},
	"broadcast ack binary": {Type: adapter.BroadcastAck, RequestID: "r", Value: binary},

	"broadcast ack undefined":             {Type: adapter.BroadcastAck, RequestID: "r"},
	"server side emit response":           {Type: adapter.ServerSideEmitResponse, RequestID: "r", Value: raw(`{"got":"w"}`)},
	"server side emit response undefined": {Type: adapter.ServerSideEmitResponse, RequestID: "r"},
	"server side emit response null":      {Type: adapter.ServerSideEmitResponse, RequestID: "r", Value: raw(`null`)},
	"server side emit response date":      {Type: adapter.ServerSideEmitResponse, RequestID: "r", Value: raw(date)},
	"server side emit response binary":    {Type: adapter.ServerSideEmitResponse, RequestID: "r", Value: binary},
}

func raw(text string) sio.Raw { return sio.Raw{JSON: json.RawMessage(text)} }

// oneWay has what we understand and write otherwise.
func oneWay(c captured) bool {
	switch {
	case c.Sender == "postgres-emitter": // has flags before except, or none, and no nsp but in the packet
		return true
	case c.Name == "broadcast to numbers", c.Name == "broadcast compressed": // rooms are strings; true is the default
		return true
	case strings.HasSuffix(c.Name, " date") && c.Hex != "": // an extension of MessagePack
		return true
	case c.Name == "fetch response binary" && c.Hex != "": // its data is JSON from then on
		return true
	}
	return false
}

func TestGolden(t *testing.T) {
	seen, exact := map[string]bool{}, 0
	for _, c := range loadGolden(t) {
		if classic(c) {
			continue
		}
		t.Run(c.Sender+"/"+c.Name, func(t *testing.T) {
			b, msgpack := c.bytes(t)
			seen[c.Name] = true
			want, ok := messages[c.Name]
			if !ok {
				t.Fatal("no such message")
			}
			if strings.HasSuffix(c.Name, " undefined") && c.Sender == "streams" && c.Type == 0 {
				want.Value = raw(`null`) // its encoder has no undefined
			}

			if c.Type != 0 {
				got, err := envelope.ParseData(c.Type, b)
				if err != nil || !equal(*got, want) {
					t.Fatalf("%+v, %v, want %+v", got, err, want)
				}
				if oneWay(c) {
					return
				}
				exact++
				checkBytes(t, b, msgpack, got, envelope.AppendDataJSON, envelope.AppendDataMsgpack)
				return
			}

			got, ns, hasNS, err := envelope.Parse(b)
			if err != nil {
				t.Fatal(err)
			}
			want.From = "0101010101010101"
			if c.Sender == "postgres-emitter" {
				want.From = adapter.EmitterID
			}
			if got.Type == adapter.BroadcastClientCount { // comes before the acknowledgement
				want = adapter.Message{Type: adapter.BroadcastClientCount, From: want.From, RequestID: "r", Clients: 1}
			}
			wantNS := "/"
			if strings.HasSuffix(c.Name, "in namespace") {
				wantNS = "/admin"
			}
			if c.Sender == "postgres-emitter" {
				wantNS = ""
			}
			if !equal(*got, want) || ns != wantNS || hasNS != (wantNS != "") {
				t.Fatalf("%+v in %q %v, want %+v", got, ns, hasNS, want)
			}
			if oneWay(c) {
				return
			}
			exact++
			if got.Type == adapter.Broadcast && c.Sender != "streams" && envelope.HasBinary(got) != msgpack {
				t.Errorf("has binary: %v", envelope.HasBinary(got))
			}
			checkBytes(t, b, msgpack, got,
				func(dst []byte, m *adapter.Message) ([]byte, error) { return envelope.AppendJSON(dst, m, ns) },
				func(dst []byte, m *adapter.Message) ([]byte, error) { return envelope.AppendMsgpack(dst, m, ns) })
		})
	}
	if len(seen) != len(messages) || exact < 95 {
		t.Errorf("%d of %d messages, %d the same in both directions", len(seen), len(messages), exact)
	}
}

func checkBytes(t *testing.T, want []byte, msgpack bool, m *adapter.Message, asJSON, asMsgpack func([]byte, *adapter.Message) ([]byte, error)) {
	t.Helper()
	f := asJSON
	if msgpack {
		f = asMsgpack
	}
	b, err := f([]byte("x"), m)
	if err != nil || string(b) != "x"+string(want) {
		t.Errorf("%q, %v, want %q", b, err, want)
	}
}
