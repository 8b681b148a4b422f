package postgres_test

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/seed-0b620db0/patchbay/pkg/adapter"
	"github.com/seed-0b620db0/patchbay/pkg/adapter/postgres"
	"github.com/seed-0b620db0/patchbay/pkg/sio"
)

// official is what one version of the official packages has sent: see testdata/official/capture.mjs.
type official struct {
	A, B, Admin, SID string
	Vectors          []vector
}

type vector struct{ Name, Channel, JSON, Row string }

func readOfficial(t testing.TB) (all map[string]*official) {
	t.Helper()
	b, err := os.ReadFile("testdata/official.json")
	must(t, err)
	must(t, json.Unmarshal(b, &all))
	if len(all) != 4 {
		t.Fatal(len(all), "senders")
	}
	return all
}

const (
	valuesJSON = `"text","snow ☃ 😀","",0,-1,127,128,255,256,65535,65536,4294967295,4294967296,9007199254740991,-32,-33,-128,-129,-32768,-32769,` +
		`-2147483648,-2147483649,1.5,-0.25,1e-7,true,false,null,[],{},[1,[2]],{"a":{"b":["c"]}}`
	holder0 = `{"_placeholder":true,"num":0}`
	holder1 = `{"_placeholder":true,"num":1}`
	holder2 = `{"_placeholder":true,"num":2}`
)

func target(rooms, except string) sio.Target {
	var t sio.Target
	if rooms != "" {
		t.Rooms = strings.Fields(rooms)
	}
	if except != "" {
		t.Except = strings.Fields(except)
	}
	return t
}

// sent returns what the messages of a name are, but for their senders, requests and handshakes.
func sent(name string) (m adapter.Message, ok bool) {
	one := func(json string) sio.Raw { return sio.Raw{JSON: []byte(json)} }
	broadcast, bare := adapter.Broadcast, event(`["ev"]`)
	m, ok = map[string]adapter.Message{
		"initial heartbeat":      {Type: adapter.InitialHeartbeat},
		"heartbeat":              {Type: adapter.Heartbeat},
		"close":                  {Type: adapter.Close},
		"broadcast":              {Type: broadcast, Event: event(`["ev",1,"two"]`)},
		"broadcast values":       {Type: broadcast, Event: event(`["ev",` + valuesJSON + `]`)},
		"broadcast undefined":    {Type: broadcast, Event: event(`["ev",null,{},null,null]`)},
		"broadcast date":         {Type: broadcast, Event: event(`["ev","2023-11-14T22:13:20.123Z"]`)},
		"broadcast room":         {Type: broadcast, Event: bare, Target: target("r1", "")},
		"broadcast rooms":        {Type: broadcast, Event: bare, Target: target("r1 r2", "r3")},
		"broadcast flags":        {Type: broadcast, Event: &sio.Outgoing{Payload: bare.Payload, Volatile: true, NoCompress: true}},
		"broadcast namespace":    {Type: broadcast, Event: bare, Target: target("r1", "")},
		"ack request":            {Type: broadcast, Event: event(`["ask",1]`), Target: target("r1", ""), Timeout: time.Second},
		"ack request plain":      {Type: broadcast, Event: event(`["nothing"]`), Target: target("r1", ""), Timeout: 2 * time.Second},
		"ack count":              {Type: adapter.BroadcastClientCount, Clients: 1},
		"ack count plain":        {Type: adapter.BroadcastClientCount, Clients: 1},
		"ack answer":             {Type: adapter.BroadcastAck, Value: sio.Raw{JSON: []byte(`{"bin":` + holder0 + `}`), Attachments: [][]byte{{1, 2}}}},
		"ack nothing":            {Type: adapter.BroadcastAck},
		"join":                   {Type: adapter.SocketsJoin, Target: target("none", "other"), Rooms: []string{"a", "b"}},
		"leave":                  {Type: adapter.SocketsLeave, Target: target("none", ""), Rooms: []string{"a"}},
		"disconnect":             {Type: adapter.DisconnectSockets, Target: target("none", "")},
		"disconnect close":       {Type: adapter.DisconnectSockets, Target: target("none", ""), CloseTransport: true},
		"fetch":                  {Type: adapter.FetchSockets, Target: target("r1", "")},
		"fetch answer":           {Type: adapter.FetchSocketsResponse},
		"fetch none":             {Type: adapter.FetchSockets, Target: target("none", "r1")},
		"fetch none answer":      {Type: adapter.FetchSocketsResponse},
		"event":                  {Type: adapter.ServerSideEmit, Event: event(`["hello","w",{"n":[1,null]}]`)},
		"event binary":           {Type: adapter.ServerSideEmit, Event: event(`["hello",`+holder0+`]`, []byte{1, 2})},
		"event ack":              {Type: adapter.ServerSideEmit, Event: event(`["hello","w"]`)},
		"event answer":           {Type: adapter.ServerSideEmitResponse, Value: one(`{"got":"w"}`)},
		"event ack binary":       {Type: adapter.ServerSideEmit, Event: event(`["bytes"]`)},
		"event answer binary":    {Type: adapter.ServerSideEmitResponse, Value: sio.Raw{JSON: []byte(holder0), Attachments: [][]byte{{1}}}},
		"event ack silent":       {Type: adapter.ServerSideEmit, Event: event(`["silent"]`)},
		"event answer undefined": {Type: adapter.ServerSideEmitResponse},
		"broadcast binary": {
			Type: broadcast, Event: event(`["ev",`+holder0+`,{"deep":[`+holder1+`]},`+holder2+`]`, []byte{1, 2, 3}, []byte("x"), []byte{9}),
		},
		"broadcast values and binary": {Type: broadcast, Event: event(`["ev",`+valuesJSON+`,`+holder0+`]`, []byte{1})},
	}[name]
	return m, ok
}

// fromEmitter is sent for the emitter, as far as it differs.
func fromEmitter(name string) (m adapter.Message, ok bool) {
	m, ok = map[string]adapter.Message{
		"broadcast room": {
			Type: adapter.Broadcast, Event: &sio.Outgoing{Payload: []byte(`["ev"]`), Volatile: true}, Target: target("r1", ""),
		},
		"broadcast rooms": {
			Type: adapter.Broadcast, Event: &sio.Outgoing{Payload: []byte(`["ev"]`), NoCompress: true}, Target: target("r1 r2", "r3"),
		},
		"join":       {Type: adapter.SocketsJoin, Target: target("none", ""), Rooms: []string{"z"}},
		"leave":      {Type: adapter.SocketsLeave, Target: target("none", "other"), Rooms: []string{"z"}},
		"disconnect": {Type: adapter.DisconnectSockets, Target: target("none", ""), CloseTransport: true},
		"event":      {Type: adapter.ServerSideEmit, Event: event(`["hello",1]`)},
	}[name]
	if !ok {
		return sent(name)
	}
	return m, ok
}

// TestGolden parses what the official packages send, and writes it as they do.
func TestGolden(t *testing.T) {
	for version, o := range readOfficial(t) {
		exact := 0
		for _, v := range o.Vectors {
			t.Run(version+"/"+v.Name, func(t *testing.T) {
				if testGolden(t, version, o, v) {
					exact++
				}
			})
		}
		t.Logf("%s: %d of %d are the same in both directions", version, exact, len(o.Vectors))
		if version >= "0.4" && version < "1" && exact < len(o.Vectors)-1 {
			t.Errorf("%s: only %d of %d", version, exact, len(o.Vectors))
		}
	}
}

// testGolden tells whether we write what v has byte by byte.
func testGolden(t *testing.T, version string, o *official, v vector) (exact bool) {
	t.Helper()
	ns := strings.TrimPrefix(v.Channel, "socket.io#")
	w := postgres.NewWire("socket.io", ns, "me", 0)
	in, err := w.Parse(v.JSON)
	must(t, err)
	got, named, from := in.Message, strings.HasSuffix(v.JSON, `,"nsp":"`+ns+`"}`), in.From
	if v.Row != "" {
		row, err := hex.DecodeString(v.Row)
		must(t, err)
		if in.ID == 0 || in.Message != nil {
			t.Fatalf("%+v", in)
		}
		got, named, err = w.ParseRow(row)
		must(t, err)
		if got.Type != in.Type || got.From != from {
			t.Errorf("notification says %v from %q, row %v from %q", in.Type, from, got.Type, got.From)
		}
	}
	if named != (version == "0.4" || version == "0.5") {
		t.Error("named:", named)
	}
	if string(got.From) != o.A && string(got.From) != o.B && string(got.From) != o.Admin {
		t.Errorf("from %q", got.From)
	}
	checkSent(t, version, o, v, *got)

	out, err := postgres.NewWire("socket.io", ns, got.From, 0).Encode(got)
	must(t, err)
	if v.Row == "" {
		exact = out.Payload == v.JSON
	} else {
		header := out.Head + strings.Split(strings.TrimPrefix(v.JSON, out.Head), `"`)[0] + out.Tail
		exact = hex.EncodeToString(out.Attachment) == v.Row && header == v.JSON
	}
	if !exact && (version == "0.4" || version == "0.5") {
		t.Logf("got  %s %x\nwant %s %s", out.Payload, out.Attachment, v.JSON, v.Row)
	}
	return exact
}

func checkSent(t *testing.T, version string, o *official, v vector, got adapter.Message) {
	t.Helper()
	if size, ok := strings.CutPrefix(v.Name, "broadcast of "); ok {
		long := size == "8001 bytes"
		if p := string(got.Event.Payload); got.Type != adapter.Broadcast || !strings.HasPrefix(p, `["ev","xxx`) || len(p) < 7700 || long != (v.Row != "") {
			t.Errorf("%s %.50s (%d bytes) %.50s", got.Type, p, len(p), v.Row)
		}
		if !long && len(v.JSON) != 7999 {
			t.Errorf("%d bytes", len(v.JSON))
		}
		return
	}
	want, ok := sent(v.Name)
	if version == "emitter" {
		want, ok = fromEmitter(v.Name)
	}
	if !ok {
		t.Fatal("no such message")
	}
	asks := want.Type == adapter.FetchSockets || want.Type.Response() || strings.Contains(v.Name, "ack request") || strings.Contains(v.Name, "event ack")
	if asks != (got.RequestID != "") {
		t.Errorf("request %q", got.RequestID)
	}
	want.RequestID, want.From = got.RequestID, got.From
	if v.Name == "fetch answer" {
		if len(got.Sockets) != 1 || got.Sockets[0].ID != o.SID || string(got.Sockets[0].Data) != `{"name":"Ann","n":1}` ||
			!reflect.DeepEqual(got.Sockets[0].Rooms, []string{o.SID, "r1", "r 2"}) {
			t.Errorf("%+v", got.Sockets)
		}
		want.Sockets = got.Sockets
	}
	if version == "0.3" {
		want.Timeout = 0
		got.Timeout = 0
	}
	if !equal(got, want) {
		t.Errorf("%s %s\ngot  %+v\nwant %+v", v.JSON, v.Row, got, want)
	}
}
