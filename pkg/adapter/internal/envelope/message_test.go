package envelope_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/seed-0b620db0/patchbay/pkg/adapter"
	"github.com/seed-0b620db0/patchbay/pkg/adapter/internal/envelope"
	"github.com/seed-0b620db0/patchbay/pkg/adapter/internal/msgpack"
	"github.com/seed-0b620db0/patchbay/pkg/sio"
	"github.com/seed-0b620db0/patchbay/pkg/sio/sioproto"
)

const opts = `"opts":{"rooms":[],"except":[]}`

// inBoth calls f with a JSON text and the same as MessagePack.
func inBoth(t *testing.T, text string, f func(t *testing.T, b []byte)) {
	t.Helper()
	f(t, []byte(text))
	b, err := msgpack.AppendJSON(nil, []byte(text), nil)
	if err != nil {
		t.Fatal(err)
	}
	f(t, b)
}

func TestParse(t *testing.T) {
	for _, c := range []struct {
		text string
		want adapter.Message
	}{
		// Whatever the order, whatever else there is.
		{
			`{"x":[1,{"y":null}],"nsp":"/a","data":{"z":{},"opts":{"q":1,"flags":{"broadcast":true,"volatile":true},"except":["e"],"rooms":["r"]},"packet":{"id":1,"nsp":"/b","data":["ev"],"type":2}},"uid":"u","type":3}`,
			adapter.Message{Type: adapter.Broadcast, From: "u", Event: flagged(true, false, `["ev"]`), Target: sio.Target{Rooms: []string{"r"}, Except: []string{"e"}}},
		},
		{
			`{ "type" : 3 , "data" : { "packet" : { "type" : 2.0 , "data" : [ "ev" , { "a" : [ 1 , 2 ] } ] } , "opts" : { } } , "nsp" : "\u002fa" } `,
			adapter.Message{Type: adapter.Broadcast, Event: event(`["ev",{"a":[1,2]}]`)},
		},
		// The last of equal keys of data counts.
		{
			`{"nsp":"/a","type":4,"data":{"rooms":["x"],` + opts + `,"rooms":["y"]}}`,
			adapter.Message{Type: adapter.SocketsJoin, Rooms: []string{"y"}},
		},
		// Null is as good as nothing.
		{
			`{"nsp":"/a","type":3,"data":{"requestId":null,"packet":{"type":5,"data":["ev"],"nsp":null},"opts":{"rooms":null,"except":null,"flags":null}}}`,
			adapter.Message{Type: adapter.Broadcast, Event: event(`["ev"]`)},
		},
		{
			`{"nsp":"/a","type":6,"data":{"opts":{"flags":{"timeout":2000}},"close":null}}`,
			adapter.Message{Type: adapter.DisconnectSockets, Timeout: 2 * time.Second},
		},
		// Flags of another kind are not set; times are at least whole milliseconds.
		{
			`{"nsp":"/a","type":7,"data":{"requestId":"r","opts":{"flags":{"volatile":1,"compress":null,"timeout":0.25}}}}`,
			adapter.Message{Type: adapter.FetchSockets, RequestID: "r", Timeout: time.Millisecond},
		},
		{
			`{"nsp":"/a","type":7,"data":{"requestId":"r","opts":{"flags":{"timeout":"soon"}}}}`,
			adapter.Message{Type: adapter.FetchSockets, RequestID: "r"},
		},
		{
			`{"nsp":"/a","type":7,"data":{"requestId":"r","opts":{"flags":{"timeout":-5}}}}`,
			adapter.Message{Type: adapter.FetchSockets, RequestID: "r"},
		},
		{
			`{"nsp":"/a","type":7,"data":{"requestId":"r","opts":{"flags":{"timeout":1e300}}}}`,
			adapter.Message{Type: adapter.FetchSockets, RequestID: "r", Timeout: 9223372036854 * time.Millisecond},
		},
		// A type without data may have some.
		{`{"nsp":"/a","type":2,"data":{"x":1}}`, adapter.Message{Type: adapter.Heartbeat}},
		{`{"nsp":"/a","type":13,"data":null}`, adapter.Message{Type: adapter.Close}},
		// Names that only clients do not take.
		{`{"nsp":"/a","type":9,"data":{"packet":["disconnect"]}}`, adapter.Message{Type: adapter.ServerSideEmit, Event: event(`["disconnect"]`)}},
		// Not a placeholder without binary.
		{
			`{"nsp":"/a","type":9,"data":{"packet":["e",{"_placeholder":true,"num":0}]}}`,
			adapter.Message{Type: adapter.ServerSideEmit, Event: event(`["e",{"_placeholder":true,"num":0}]`)},
		},
		// What a handshake may look like in JavaScript.
		{
			`{"nsp":"/a","type":8,"data":{"requestId":"r","sockets":[
				{"id":"a","rooms":[1],"handshake":{"headers":{"set-cookie":["a","b"],"n":1},"query":{"a":["1","2"],"b":[],"c":[7]},"time":5,"issued":1.5,"url":null,"secure":"yes","xdomain":true,"auth":null,"session":{}}},
				{"id":"b","handshake":null,"rooms":[],"data":null},
				{"id":"c","handshake":{"headers":[],"auth":"x","issued":1e300},"data":[1, 2]}]}}`,
			adapter.Message{Type: adapter.FetchSocketsResponse, RequestID: "r", Sockets: []sio.RemoteSocket{
				{ID: "a", Rooms: []string{"1"}, Handshake: sio.HandshakeData{
					Headers: map[string]string{"set-cookie": "a, b", "n": "1"}, Query: map[string]string{"a": "2", "b": "", "c": "7"}, Issued: 1, XDomain: true,
				}},
				{ID: "b", Handshake: sio.HandshakeData{Headers: map[string]string{}, Query: map[string]string{}}, Data: json.RawMessage("null")},
				{ID: "c", Handshake: sio.HandshakeData{Headers: map[string]string{}, Query: map[string]string{}, Auth: json.RawMessage(`"x"`)}, Data: json.RawMessage("[1,2]")},
			}},
		},
	} {
		inBoth(t, c.text, func(t *testing.T, b []byte) {
			got, ns, hasNS, err := envelope.Parse(b)
			if err != nil || !equal(*got, c.want) || ns != "/a" && ns != "" || hasNS != (ns != "") {
				t.Errorf("%.80s: %+v in %q, %v, want %+v", c.text, got, ns, err, c.want)
			}
		})
	}
}

func TestParseErrors(t *testing.T) {
	packet := `"packet":{"type":2,"data":["ev"]}`
	for _, text := range []string{
		`{}`, `{"type":null}`, `{"type":"3"}`, `{"type":3.5}`, `{"type":3}`, `{"type":3,"data":null}`, `{"type":3,"data":[]}`, `{"type":3,"data":{}}`,
		`{"type":2,"type":2}`, `{"type":13,"data":{},"data":{}}`, `{"data":{},"type":3}`, `{"data":null,"type":3}`, `{"data":{"packet":["connect"]},"type":"9"}`,
		`{"type":2,"uid":1}`, `{"type":2,"nsp":1}`,
		`{"type":3,"data":{` + packet + `}}`, `{"type":3,"data":{` + opts + `}}`, `{"type":3,"data":{"packet":[],` + opts + `}}`,
		`{"type":3,"data":{"packet":{"data":["ev"]},` + opts + `}}`, `{"type":3,"data":{"packet":{"type":2},` + opts + `}}`,
		`{"type":3,"data":{"packet":{"type":3,"data":["ev"]},` + opts + `}}`, `{"type":3,"data":{"packet":{"type":"2","data":["ev"]},` + opts + `}}`,
		`{"type":3,"data":{"packet":{"type":2,"data":[]},` + opts + `}}`, `{"type":3,"data":{"packet":{"type":2,"data":[null]},` + opts + `}}`,
		`{"type":3,"data":{"packet":{"type":2,"data":{}},` + opts + `}}`, `{"type":3,"data":{"packet":{"type":2,"data":["connect"]},` + opts + `}}`,
		`{"type":3,"data":{"packet":{"type":2,"data":["d\u0069sconnect",1]},` + opts + `}}`, `{"type":3,"data":{` + packet + `,"opts":[]}}`,
		`{"type":3,"data":{` + packet + `,"opts":{"rooms":"r"}}}`, `{"type":3,"data":{` + packet + `,"opts":{"rooms":[null]}}}`,
		`{"type":3,"data":{` + packet + `,"opts":{"except":[[]]}}}`, `{"type":3,"data":{` + packet + `,` + opts + `,"requestId":1}}`,
		`{"type":4,"data":{` + opts + `}}`, `{"type":4,"data":{"rooms":["a"]}}`, `{"type":5,"data":{` + opts + `,"rooms":{}}}`,
		`{"type":6,"data":{"close":true}}`, `{"type":6,"data":{` + opts + `,"close":1}}`,
		`{"type":7,"data":{` + opts + `}}`, `{"type":7,"data":{"requestId":"r"}}`, `{"type":7,"data":{` + opts + `,"requestId":""}}`,
		`{"type":8,"data":{"requestId":"r"}}`, `{"type":8,"data":{"sockets":[]}}`, `{"type":8,"data":{"requestId":"r","sockets":{}}}`,
		`{"type":8,"data":{"requestId":"r","sockets":["a"]}}`, `{"type":8,"data":{"requestId":"r","sockets":[{}]}}`, `{"type":8,"data":{"requestId":"r","sockets":[{"id":1}]}}`,
		`{"type":8,"data":{"requestId":"r","sockets":[{"id":"a","rooms":1}]}}`,
		`{"type":9,"data":{}}`, `{"type":9,"data":{"packet":"ev"}}`, `{"type":9,"data":{"packet":[true]}}`, `{"type":10,"data":{}}`, `{"type":12,"data":{"packet":1}}`,
		`{"type":11,"data":{"requestId":"r"}}`, `{"type":11,"data":{"clientCount":1}}`, `{"type":11,"data":{"requestId":"r","clientCount":-1}}`,
		`{"type":11,"data":{"requestId":"r","clientCount":1e10}}`, `{"type":11,"data":{"requestId":"r","clientCount":"1"}}`,
		`{"type":2,"x":` + strings.Repeat("[", 257) + strings.Repeat("]", 257) + `}`,
	} {
		check := func(t *testing.T, b []byte) {
			t.Helper()
			if m, _, _, err := envelope.Parse(b); err == nil || m != nil || !strings.HasPrefix(err.Error(), "envelope: ") {
				t.Errorf("%.100s: %+v, %v", text, m, err)
			}
		}
		if strings.Contains(text, "[[[") { // MessagePack is skipped without recursion
			check(t, []byte(text))
			continue
		}
		inBoth(t, text, check)
	}
	for _, text := range []string{
		"", "{", "[", "[]", "{]", `{"type"}`, `{"type":2`, `{"type":2,}`, `{"type":2}}`, `{"type":2} 1`, `{"type":2 "uid":"u"}`, `{"type" 2}`, `{"type":02}`, "{\"type\":2,\"uid\":\"\xff\"}",
		`{"type":2,"x":nul}`, `{"type":6,"data":{` + opts + `,"close":tru}}`, `{1:2}`, "{\"type\":2,\"uid\":\"a\nb\"}", "\x00", "\x81", "\x81\xa4type", "\x81\xa4type\x02\x00", "\x81\xc0\x00", "\xc1", "\x90",
	} {
		if m, _, _, err := envelope.Parse([]byte(text)); err == nil || m != nil {
			t.Errorf("%q: %+v, %v", text, m, err)
		}
	}
}

func TestUnknownType(t *testing.T) {
	for _, text := range []string{`{"type":0}`, `{"type":14}`, `{"type":-1}`, `{"type":259,"data":{}}`, `{"type":9007199254740991}`} {
		inBoth(t, text, func(t *testing.T, b []byte) {
			_, _, _, err := envelope.Parse(b)
			if e, ok := errors.AsType[*envelope.TypeError](err); !ok || !strings.Contains(text, strings.TrimPrefix(e.Error(), "envelope: unknown type of message: ")) {
				t.Errorf("%s: %v", text, err)
			}
		})
	}
	for _, typ := range []adapter.Type{0, adapter.AllRooms, adapter.AllSocketsResponse, 255} {
		m := &adapter.Message{Type: typ}
		_, err := envelope.AppendJSON(nil, m, "/")
		_, err2 := envelope.AppendDataMsgpack(nil, m)
		_, err3 := envelope.ParseData(typ, []byte(`{}`))
		for _, err := range []error{err, err2, err3} {
			if _, ok := errors.AsType[*envelope.TypeError](err); !ok {
				t.Errorf("%v: %v", typ, err)
			}
		}
		if envelope.HasData(typ) {
			t.Errorf("%v has data", typ)
		}
	}
}

func TestData(t *testing.T) {
	for _, typ := range []adapter.Type{adapter.InitialHeartbeat, adapter.Heartbeat, adapter.Close} {
		b, err := envelope.AppendDataJSON([]byte("x"), &adapter.Message{Type: typ})
		if err != nil || string(b) != "x" || envelope.HasData(typ) {
			t.Errorf("%v: %q, %v", typ, b, err)
		}
		if m, err := envelope.ParseData(typ, nil); err != nil || m.Type != typ {
			t.Errorf("%v: %+v, %v", typ, m, err)
		}
	}
	if _, err := envelope.ParseData(adapter.SocketsJoin, []byte(`{`+opts+`,"rooms":[]} x`)); err == nil {
		t.Error("bytes behind the data were accepted")
	}
	if _, err := envelope.ParseData(adapter.SocketsJoin, nil); err == nil {
		t.Error("no data was accepted")
	}
	// The redis-streams-emitter: nsp in the packet, flags before except.
	m, err := envelope.ParseData(adapter.Broadcast, []byte(`{"packet":{"type":2,"data":["e"],"nsp":"/"},"opts":{"rooms":[],"flags":{},"except":[]}}`))
	if err != nil || string(m.Event.Payload) != `["e"]` {
		t.Errorf("%+v, %v", m, err)
	}
}

func TestAppendErrors(t *testing.T) {
	for _, m := range []adapter.Message{
		{Type: adapter.Broadcast},
		{Type: adapter.ServerSideEmit, Event: &sio.Outgoing{}},
		{Type: adapter.Broadcast, Event: event(`["e",{"_placeholder":true,"num":1}]`, []byte{1})},
		{Type: adapter.BroadcastAck, RequestID: "r", Value: sio.Raw{JSON: []byte("["), Attachments: [][]byte{{1}}}},
		{Type: adapter.FetchSocketsResponse, RequestID: "r", Sockets: []sio.RemoteSocket{{Handshake: sio.HandshakeData{Auth: json.RawMessage("{")}}}},
	} {
		for _, f := range []func([]byte, *adapter.Message, string) ([]byte, error){envelope.AppendJSON, envelope.AppendMsgpack} {
			if b, err := f([]byte("x"), &m, "/"); err == nil || string(b) != "x" || !strings.HasPrefix(err.Error(), "envelope: ") {
				t.Errorf("%+v: %q, %v", m, b, err)
			}
		}
	}
}

// As JSON alone, binary is what JSON.stringify makes of a Buffer.
func TestBinaryAsJSON(t *testing.T) {
	m := &adapter.Message{Type: adapter.Broadcast, From: "u", Event: event(`["e",`+ph1+`,`+ph0+`]`, []byte{1}, []byte{2, 255})}
	b, err := envelope.AppendJSON(nil, m, "/")
	want := `{"type":3,"data":{"packet":{"type":2,"data":["e",{"type":"Buffer","data":[2,255]},{"type":"Buffer","data":[1]}]},` +
		`"opts":{"rooms":[],"except":[],"flags":{}}},"uid":"u","nsp":"/"}`
	if err != nil || string(b) != want {
		t.Errorf("%s, %v, want %s", b, err, want)
	}
}

func TestHasBinary(t *testing.T) {
	spare := sio.Raw{JSON: json.RawMessage(`{"a":1}`), Attachments: [][]byte{{1}}} // those of the packet that it came in
	for _, c := range []struct {
		m    adapter.Message
		want bool
	}{
		{adapter.Message{Type: adapter.Broadcast, Event: event(`["e"]`)}, false},
		{adapter.Message{Type: adapter.Broadcast}, false},
		{adapter.Message{Type: adapter.Broadcast, Event: event(`["e",`+ph0+`]`, nil)}, true},
		{adapter.Message{Type: adapter.ServerSideEmit, Event: event(`["e",`+ph0+`]`, nil)}, true},
		{adapter.Message{Type: adapter.BroadcastAck, Value: spare}, false},
		{adapter.Message{Type: adapter.BroadcastAck, Value: binary}, true},
		{adapter.Message{Type: adapter.ServerSideEmitResponse, Value: binary}, true},
		{adapter.Message{Type: adapter.SocketsJoin, Event: event(`["e",`+ph0+`]`, nil)}, false},
	} {
		if got := envelope.HasBinary(&c.m); got != c.want {
			t.Errorf("%+v: %v", c.m, got)
		}
	}
	b, err := envelope.AppendJSON(nil, &adapter.Message{Type: adapter.BroadcastAck, RequestID: "r", Value: spare}, "")
	if want := `{"type":12,"data":{"requestId":"r","packet":{"a":1}},"uid":""}`; err != nil || string(b) != want {
		t.Errorf("%s, %v", b, err)
	}
}

// A peer must not hand out attachments that it does not have.
func TestForgedPlaceholder(t *testing.T) {
	b := msgpack.AppendMapHeader(nil, 2)
	b = msgpack.AppendInt(msgpack.AppendString(b, "type"), int64(adapter.ServerSideEmit))
	b = msgpack.AppendMapHeader(msgpack.AppendString(b, "data"), 1)
	b = msgpack.AppendArrayHeader(msgpack.AppendString(b, "packet"), 3)
	b = msgpack.AppendBin(msgpack.AppendString(b, "ev"), []byte{1})
	b = msgpack.AppendMapHeader(b, 2)
	b = msgpack.AppendBool(msgpack.AppendString(b, "_placeholder"), true)
	b = msgpack.AppendInt(msgpack.AppendString(b, "num"), 7)
	if _, _, _, err := envelope.Parse(b); !errors.Is(err, sioproto.ErrPlaceholder) {
		t.Error(err)
	}
}
