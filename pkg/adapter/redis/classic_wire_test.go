package redis_test

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed-0b620db0/patchbay/pkg/adapter"
	"github.com/seed-0b620db0/patchbay/pkg/adapter/redis"
	"github.com/seed-0b620db0/patchbay/pkg/sio"
)

// golden is what official nodes a and b, and an emitter, have published: testdata/classic/capture.mjs.
type golden struct {
	A, B    adapter.NodeID
	SID     string
	Vectors []*vector
}

type vector struct{ Name, Channel, JSON, Msgpack string }

func readGolden(t testing.TB) *golden {
	t.Helper()
	b, err := os.ReadFile("testdata/classic.json")
	if err != nil {
		t.Fatal(err)
	}
	var g golden
	if err := json.Unmarshal(b, &g); err != nil {
		t.Fatal(err)
	}
	return &g
}

func (v *vector) payload(t testing.TB) []byte {
	t.Helper()
	if v.JSON != "" {
		return []byte(v.JSON)
	}
	b, err := hex.DecodeString(v.Msgpack)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (v *vector) kind() redis.ClassicKind {
	switch {
	case strings.HasPrefix(v.Channel, "socket.io-request#"):
		return redis.ClassicRequest
	case strings.HasPrefix(v.Channel, "socket.io-response#"):
		return redis.ClassicResponse
	default:
		return redis.ClassicBroadcast
	}
}

func (v *vector) ns() string {
	_, rest, _ := strings.Cut(v.Channel, "#")
	ns, _, _ := strings.Cut(rest, "#")
	return ns
}

func event(payload string, attachments ...string) *sio.Outgoing {
	out := &sio.Outgoing{Payload: []byte(payload)}
	for _, a := range attachments {
		out.Attachments = append(out.Attachments, []byte(a))
	}
	return out
}

func volatile(out *sio.Outgoing, noCompress bool) *sio.Outgoing {
	out.Volatile, out.NoCompress = true, noCompress
	return out
}

func uncompressed(out *sio.Outgoing) *sio.Outgoing {
	out.NoCompress = true
	return out
}

const placeholder0 = `{"_placeholder":true,"num":0}`

// valuesPayload is what all of capture.mjs' values are as JSON.
const valuesPayload = `["ev","text","snow ☃ 😀","",0,1,-1,127,128,255,256,65535,65536,4294967296,-32,-33,-129,-32769,-2147483649,` +
	`9007199254740991,1.5,-0.25,1e-7,true,false,null,[],{},[1,[2,[3]]],{"a":{"b":["c"]},"":1}]`

// expected returns the messages that the vectors stand for; nil are those that are not for a node of ours.
func (g *golden) expected() map[string]*adapter.Message {
	const (
		broadcast = adapter.Broadcast
		emitter   = adapter.EmitterID
	)
	rooms := func(rooms ...string) sio.Target { return sio.Target{Rooms: rooms} }
	bare := event(`["ev"]`)
	hello := event(`["hello","w"]`)
	raw := func(json string, attachments ...string) sio.Raw {
		return sio.Raw{JSON: []byte(json), Attachments: event("", attachments...).Attachments}
	}
	return map[string]*adapter.Message{
		"broadcast":           {Type: broadcast, From: g.A, Event: event(`["ev",1,"two"]`)},
		"broadcast values":    {Type: broadcast, From: g.A, Event: event(valuesPayload)},
		"broadcast undefined": {Type: broadcast, From: g.A, Event: event(`["ev",null,{},null,null]`)},
		"broadcast binary": {Type: broadcast, From: g.A, Event: event(
			`["ev",`+placeholder0+`,{"deep":[{"_placeholder":true,"num":1}]},{"_placeholder":true,"num":2}]`, "\x01\x02\x03", "x", "\x09")},
		"broadcast date": {Type: broadcast, From: g.A, Event: event(`["ev","2023-11-14T22:13:20.000Z","2023-11-14T22:13:20.123Z"]`)},
		"broadcast room": {Type: broadcast, From: g.A, Event: bare, Target: rooms("r1")},
		"broadcast rooms": {
			Type: broadcast, From: g.A, Event: bare, Target: sio.Target{Rooms: []string{"r1", "r2"}, Except: []string{"r3"}},
		},
		"broadcast except":      {Type: broadcast, From: g.A, Event: bare, Target: sio.Target{Except: []string{"r1", "r2"}}},
		"broadcast flags":       {Type: broadcast, From: g.A, Event: volatile(event(`["ev"]`), true)},
		"broadcast namespace":   {Type: broadcast, Event: bare, Target: rooms("r1")}, // of another uid
		"broadcast from socket": {Type: broadcast, From: g.B, Event: bare, Target: sio.Target{Rooms: []string{"r1"}, Except: []string{g.SID}}},
		"ack request": {
			Type: broadcast, From: g.A, Event: event(`["ask",1,`+placeholder0+`]`, "\x07"), Target: rooms("r1"), Timeout: time.Second,
		},
		"ack count":         {Type: adapter.BroadcastClientCount, Clients: 1},
		"ack answer":        {Type: adapter.BroadcastAck, Value: raw(`{"bin":`+placeholder0+`}`, "\x01\x02")},
		"ack request plain": {Type: broadcast, From: g.A, Event: event(`["nothing"]`), Timeout: 2 * time.Second},
		"ack count plain":   {Type: adapter.BroadcastClientCount, Clients: 1},
		"ack nothing":       {Type: adapter.BroadcastAck},
		"join": {
			Type: adapter.SocketsJoin, From: g.A, Target: sio.Target{Rooms: []string{"none"}, Except: []string{"other"}},
			Rooms: []string{"a", "b"},
		},
		"leave":             {Type: adapter.SocketsLeave, From: g.A, Target: rooms("none"), Rooms: []string{"a"}},
		"disconnect":        {Type: adapter.DisconnectSockets, From: g.A, Target: rooms("none")},
		"disconnect close":  {Type: adapter.DisconnectSockets, From: g.A, Target: rooms("none"), CloseTransport: true},
		"fetch":             {Type: adapter.FetchSockets, From: g.A, Target: rooms("r1")},
		"fetch none":        {Type: adapter.FetchSockets, From: g.A, Target: sio.Target{Rooms: []string{"none"}, Except: []string{"r1"}}},
		"fetch none answer": {Type: adapter.FetchSocketsResponse},
		"all rooms":         {Type: adapter.AllRooms, From: g.A},
		"all rooms answer":  nil,

		"event":        {Type: adapter.ServerSideEmit, From: g.B, Event: event(`["hello","w",{"n":[1,null]}]`)},
		"event binary": {Type: adapter.ServerSideEmit, From: g.B, Event: event(`["hello",{"type":"Buffer","data":[1,2]}]`)},

		"event ack":              {Type: adapter.ServerSideEmit, From: g.B, Event: hello},
		"event answer":           {Type: adapter.ServerSideEmitResponse, Value: raw(`{"got":"w"}`)},
		"event ack silent":       {Type: adapter.ServerSideEmit, From: g.B, Event: event(`["silent"]`)},
		"event answer undefined": {Type: adapter.ServerSideEmitResponse},

		"old sockets":           {Type: adapter.AllSockets, From: "OLDNOD", Target: rooms("r1")},
		"old sockets answer 1":  nil,
		"old sockets answer 2":  {Type: adapter.FetchSocketsResponse}, // nobody can tell
		"old join":              {Type: adapter.SocketsJoin, From: "OLDNOD", Target: rooms(g.SID), Rooms: []string{"x"}},
		"old join answer":       nil,
		"old leave":             {Type: adapter.SocketsLeave, From: "OLDNOD", Target: rooms(g.SID), Rooms: []string{"x"}},
		"old leave answer":      nil,
		"old disconnect":        {Type: adapter.DisconnectSockets, From: "OLDNOD", Target: rooms(g.SID), CloseTransport: true},
		"old disconnect answer": nil,

		"emitter broadcast": {Type: broadcast, From: emitter, Event: event(`["ev",1,`+placeholder0+`]`, "\x01")},
		"emitter room":      {Type: broadcast, From: emitter, Event: volatile(event(`["ev"]`), false), Target: rooms("r1")},
		"emitter rooms": {
			Type: broadcast, From: emitter, Event: uncompressed(event(`["ev"]`)),
			Target: sio.Target{Rooms: []string{"r1", "r2"}, Except: []string{"r3"}},
		},
		"emitter join":       {Type: adapter.SocketsJoin, From: emitter, Target: rooms("none"), Rooms: []string{"z"}},
		"emitter leave":      {Type: adapter.SocketsLeave, From: emitter, Target: rooms("none"), Rooms: []string{"z"}},
		"emitter disconnect": {Type: adapter.DisconnectSockets, From: emitter, Target: rooms("none"), CloseTransport: true},
		"emitter event":      {Type: adapter.ServerSideEmit, From: emitter, Event: event(`["hello",1]`)},
	}
}

// withRequestID tells whether a vector has one.
func withRequestID(name string) bool {
	return strings.HasPrefix(name, "ack") || strings.HasPrefix(name, "old") || strings.HasPrefix(name, "fetch") ||
		strings.HasPrefix(name, "all") || strings.HasPrefix(name, "event a")
}

func TestClassicParse(t *testing.T) {
	g := readGolden(t)
	expected := g.expected()
	for _, v := range g.Vectors {
		t.Run(v.Name, func(t *testing.T) {
			m, confirm, err := redis.ParseClassic(v.kind(), v.payload(t), v.ns(), "me")
			want, known := expected[v.Name]
			if want == nil && known {
				if !errors.Is(err, redis.ErrNotUs) {
					t.Fatalf("got %+v, %v; want it to be for others", m, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if old := strings.HasPrefix(v.Name, "old") && want.Type != adapter.AllSockets && v.kind() == redis.ClassicRequest; confirm != old {
				t.Errorf("to be confirmed: %v", confirm)
			}
			if (m.RequestID != "") != withRequestID(v.Name) {
				t.Errorf("request id %q", m.RequestID)
			}
			m.RequestID = ""
			if v.kind() == redis.ClassicResponse {
				if m.To != "me" {
					t.Errorf("to %q", m.To)
				}
				m.To = ""
			}
			if v.Name == "fetch answer" {
				checkFetched(t, g, m)
				return
			}
			if want == nil {
				t.Fatalf("unexpected: %+v", m)
			}
			if v.Name == "broadcast namespace" {
				m.From = ""
			}
			if got, want := show(m), show(want); got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
	for name := range expected {
		if !slices.ContainsFunc(g.Vectors, func(v *vector) bool { return v.Name == name }) {
			t.Errorf("no vector %q", name)
		}
	}
}

func checkFetched(t *testing.T, g *golden, m *adapter.Message) {
	t.Helper()
	if len(m.Sockets) != 1 {
		t.Fatalf("%d sockets", len(m.Sockets))
	}
	s := m.Sockets[0]
	if s.ID != g.SID || string(s.Data) != `{"name":"Ann","n":1}` || !slices.Equal(s.Rooms, []string{g.SID, "r1", "r 2"}) {
		t.Errorf("socket %+v", s)
	}
	if got := s.Handshake.Headers["sec-websocket-version"]; got != "13" {
		t.Errorf("header %q of %v", got, s.Handshake)
	}
}

// show returns all of a message as text.
func show(m *adapter.Message) string {
	c := *m
	c.Event = nil
	line := fmt.Sprintf("%+v value %s %q", c, c.Value.JSON, c.Value.Attachments)
	if e := m.Event; e != nil {
		line += fmt.Sprintf(" event %s %q %v %v", e.Payload, e.Attachments, e.Volatile, e.NoCompress)
	}
	return line
}

// TestClassicEncode makes the messages of official nodes byte for byte; but responses say who answers.
func TestClassicEncode(t *testing.T) {
	g := readGolden(t)
	for _, v := range g.Vectors {
		switch {
		case v.Name == "broadcast undefined", v.Name == "broadcast date": // values that we do not have
			continue
		case strings.HasPrefix(v.Name, "emitter") && v.kind() == redis.ClassicBroadcast: // in another order
			continue
		case strings.HasPrefix(v.Name, "old"), strings.HasPrefix(v.Name, "all"): // which we do not send
			continue
		case v.Name == "fetch answer": // has headers, in their order
			continue
		}
		t.Run(v.Name, func(t *testing.T) {
			asked := g.A
			if strings.HasPrefix(v.Name, "event") {
				asked = g.B
			}
			want := v.payload(t)
			m, _, err := redis.ParseClassic(v.kind(), want, v.ns(), asked)
			if v.kind() != redis.ClassicResponse {
				m, _, err = redis.ParseClassic(v.kind(), want, v.ns(), "me")
			}
			if err != nil {
				t.Fatal(err)
			}
			if v.kind() == redis.ClassicResponse {
				m.From = "me"
				want = withUID(want, "me")
			}
			channel, got, err := redis.EncodeClassic(m, v.ns(), "me", true)
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != string(want) {
				t.Errorf("got\n%s\nwant\n%s", text(got), text(want))
			}
			if channel != v.Channel {
				t.Errorf("channel %q, want %q", channel, v.Channel)
			}
		})
	}
}

// withUID adds a last member to an object.
func withUID(b []byte, uid string) []byte {
	b = slices.Clone(b)
	if b[0] == '{' {
		return append(b[:len(b)-1], `,"uid":"`+uid+`"}`...)
	}
	b[0]++ // the number of members
	b = append(b, "\xa3uid"...)
	return append(append(b, 0xa0+byte(len(uid))), uid...)
}

func text(b []byte) string {
	if len(b) > 0 && b[0] == '{' {
		return string(b)
	}
	return hex.Dump(b)
}

func TestClassicChannels(t *testing.T) {
	for _, c := range []struct{ key, ns, want string }{
		{"socket.io", "/", `socket.io#/#* socket.io-response#/# socket.io-response#/#me# socket.io-request#/#`},
		{"k", "/a", `k#/a#* k-response#/a# k-response#/a#me# k-request#/a#`},
		{`k*`, `/a[b]?\`, `k\*#/a\[b\]\?\\#* k*-response#/a[b]?\# k*-response#/a[b]?\#me# k*-request#/a[b]?\#`},
	} {
		if got := strings.Join(redis.ClassicNames(c.key, c.ns, "me"), " "); got != c.want {
			t.Errorf("%q %q: got\n%s\nwant\n%s", c.key, c.ns, got, c.want)
		}
	}
	for channel, room := range map[string]string{
		"socket.io#/#": "", "socket.io#/#r#": "r", "socket.io#/#a#b#": "a#b", "socket.io#/#a##": "a#", "socket.io#/##": "",
	} {
		if got := redis.ClassicRoom("/", channel); got != room {
			t.Errorf("%q: got room %q, want %q", channel, got, room)
		}
	}
}

// TestClassicResponseChannel answers official nodes as they are set up, and ours on channels of their own.
func TestClassicResponseChannel(t *testing.T) {
	for _, c := range []struct {
		to       adapter.NodeID
		kind     adapter.Type
		specific bool
		want     string
	}{
		{"abcdef", adapter.FetchSocketsResponse, false, "socket.io-response#/#"},
		{"abcdef", adapter.FetchSocketsResponse, true, "socket.io-response#/#abcdef#"},
		{"abcdef", adapter.ServerSideEmitResponse, true, "socket.io-response#/#"},
		{"0123456789abcdef", adapter.FetchSocketsResponse, false, "socket.io-response#/#0123456789abcdef#"},
		{"0123456789abcdef", adapter.ServerSideEmitResponse, false, "socket.io-response#/#0123456789abcdef#"},
		{adapter.EmitterID, adapter.AllRoomsResponse, true, "socket.io-response#/#"},
		{"", adapter.BroadcastAck, true, "socket.io-response#/#"},
	} {
		m := &adapter.Message{Type: c.kind, From: "me", To: c.to, RequestID: "1"}
		if got, _, err := redis.EncodeClassic(m, "/", "me", c.specific); err != nil || got != c.want {
			t.Errorf("%s to %q, specific %v: got %q, %v; want %q", c.kind, c.to, c.specific, got, err, c.want)
		}
	}
}

func TestClassicNothingToSay(t *testing.T) {
	for _, kind := range []adapter.Type{adapter.InitialHeartbeat, adapter.Heartbeat, adapter.Close} {
		if channel, b, err := redis.EncodeClassic(&adapter.Message{Type: kind, From: "me"}, "/", "me", false); channel+string(b) != "" || err != nil {
			t.Errorf("%s: %q %q %v", kind, channel, b, err)
		}
	}
	for _, kind := range []adapter.Type{adapter.AllRooms, adapter.AllSockets, adapter.Broadcast, adapter.ServerSideEmit, 99} {
		if _, _, err := redis.EncodeClassic(&adapter.Message{Type: kind, From: "me"}, "/", "me", false); err == nil {
			t.Errorf("%s is sent", kind)
		}
	}
}

// TestClassicIgnored has messages that are in order, but for others.
func TestClassicIgnored(t *testing.T) {
	for _, c := range []struct {
		kind    redis.ClassicKind
		payload string
		ns      string
	}{
		{redis.ClassicBroadcast, "\x93\xa2me", "/"}, // own: the rest is not looked at
		{redis.ClassicBroadcast, `["a",{"type":2,"data":["ev"],"nsp":"/b"},{"rooms":[],"except":[]}]`, "/a"},
		{redis.ClassicBroadcast, `["a",{"type":2,"data":["ev"]},{"rooms":[],"except":[]}]`, "/a"}, // which is for /
		{redis.ClassicRequest, `{"uid":"me","type":6,"data":["ev"]}`, "/"},
		{redis.ClassicRequest, `{"uid":"a","requestId":"1","type":7,"packet":{"type":2,"data":["ev"],"nsp":"/b"},"opts":{}}`, "/a"},
		{redis.ClassicResponse, `{"requestId":"1"}`, "/"},
		{redis.ClassicResponse, `{"requestId":"1","rooms":["a"]}`, "/"},
		{redis.ClassicResponse, `{"requestId":"1","sockets":["a"]}`, "/"},
	} {
		if m, _, err := redis.ParseClassic(c.kind, []byte(c.payload), c.ns, "me"); !errors.Is(err, redis.ErrNotUs) {
			t.Errorf("%q: got %+v, %v", c.payload, m, err)
		}
	}
	m, _, err := redis.ParseClassic(redis.ClassicBroadcast, []byte(`["a",{"type":2,"data":["ev"]},{"rooms":[],"except":[]}]`), "/", "me")
	if err != nil || m.Event == nil {
		t.Error("a packet without a namespace is not for /:", err)
	}
}

// TestClassicMalformed has what is reported and dropped.
func TestClassicMalformed(t *testing.T) {
	const b, q, p = redis.ClassicBroadcast, redis.ClassicRequest, redis.ClassicResponse
	for _, c := range []struct {
		kind    redis.ClassicKind
		payload string
	}{
		{b, ""},
		{b, "\xc1"},
		{b, "\x93"},
		{b, "\x92\xa1a\x80"},
		{b, "\xdf\xff\xff\xff\xff"},
		{b, "\xdd\xff\xff\xff\xff"},
		{b, "{}"},
		{b, "[]"},
		{b, `[1,{"type":2,"data":["ev"],"nsp":"/"},{}]`},
		{b, `["a",{"type":3,"data":["ev"],"nsp":"/"},{}]`},
		{b, `["a",{"type":2,"data":"ev","nsp":"/"},{}]`},
		{b, `["a",{"type":2,"data":["disconnect"],"nsp":"/"},{}]`},
		{b, `["a",{"type":2,"data":["ev"],"nsp":1},{}]`},
		{b, `["a",{"type":2,"data":["ev"],"nsp":"/"},{"rooms":{}}]`},
		{b, `["a",{"type":2,"data":["ev"],"nsp":"/"},{}] ` + "x"},
		{b, strings.Repeat("[", 100_000)},
		{b, strings.Repeat("\x91", 100_000)},
		{q, ""},
		{q, "["},
		{q, "{"},
		{q, "{}"},
		{q, `{"type":6}`},
		{q, `{"uid":"a"}`},
		{q, `{"type":-1}`},
		{q, `{"type":8,"requestId":"1"}`},
		{q, `{"type":99}`},
		{q, `{"type":"6","data":["ev"]}`},
		{q, `{"type":6,"data":[]}`},
		{q, `{"type":6,"data":{}}`},
		{q, `{"type":6,"data":["ev"],"uid":{}}`},
		{q, `{"type":2,"opts":{}}`},
		{q, `{"type":2,"opts":1,"rooms":[]}`},
		{q, `{"type":2,"rooms":["a"]}`},
		{q, `{"type":2,"sid":"","room":"a"}`},
		{q, `{"type":2,"sid":"a"}`},
		{q, `{"type":4}`},
		{q, `{"type":4,"close":true,"sid":""}`},
		{q, `{"type":4,"opts":{},"close":1}`},
		{q, `{"type":5,"requestId":"1"}`},
		{q, `{"type":5,"opts":{}}`},
		{q, `{"type":0}`},
		{q, `{"type":1}`},
		{q, `{"type":7,"requestId":"1","opts":{}}`},
		{q, `{"type":7,"requestId":"1","packet":{"type":2,"data":["ev"]}}`},
		{q, `{"type":7,"packet":{"type":2,"data":["ev"]},"opts":{}}`},
		{p, ""},
		{p, "[]"},
		{p, "{}"},
		{p, `{"type":8,"requestId":"1"}`},
		{p, `{"type":8,"requestId":"1","clientCount":-1}`},
		{p, `{"type":8,"requestId":"1","clientCount":1e300}`},
		{p, `{"type":7,"requestId":"1"}`},
		{p, `{"sockets":[]}`},
		{p, `{"requestId":"1","sockets":{}}`},
		{p, `{"requestId":"1","sockets":[1]}`},
		{p, `{"requestId":1,"sockets":[]}`},
		{p, `{"requestId":"1","sockets":[{"id":"a"},"b"]}`},
	} {
		m, _, err := redis.ParseClassic(c.kind, []byte(c.payload), "/", "me")
		if err == nil || errors.Is(err, redis.ErrNotUs) {
			t.Errorf("%.80q: got %+v, %v", c.payload, m, err)
		}
	}
}

func FuzzClassic(f *testing.F) {
	for _, v := range readGolden(f).Vectors {
		f.Add(int(v.kind()), v.payload(f))
	}
	f.Fuzz(func(t *testing.T, kind int, b []byte) {
		m, _, err := redis.ParseClassic(redis.ClassicKind(kind), b, "/", "me")
		if err != nil {
			return
		}
		if m.Type == adapter.AllRooms || m.Type == adapter.AllSockets { // which we do not send
			return
		}
		_, again, err := redis.EncodeClassic(m, "/", "me", true)
		if err != nil {
			t.Fatalf("%s: encode: %v", show(m), err)
		}
		twice, _, err := redis.ParseClassic(redis.ClassicKind(kind), again, "/", "me")
		if err != nil {
			t.Fatalf("%s: parse again: %v", text(again), err)
		}
		if first, second := show(m), show(twice); first != second {
			t.Fatalf("got\n%s\nthen\n%s", first, second)
		}
	})
}
