package postgres_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/seed-0b620db0/patchbay/pkg/adapter"
	"github.com/seed-0b620db0/patchbay/pkg/adapter/internal/envelope"
	"github.com/seed-0b620db0/patchbay/pkg/adapter/postgres"
	"github.com/seed-0b620db0/patchbay/pkg/sio"
)

func event(payload string, attachments ...[]byte) *sio.Outgoing {
	return &sio.Outgoing{Payload: []byte(payload), Attachments: attachments}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// equal takes any: messages hold the sockets of a namespace, and with these errors, which tests do not set.
func equal(a, b any) bool { return reflect.DeepEqual(a, b) }

// sized returns a broadcast of node a in namespace / whose JSON has n bytes.
func sized(t testing.TB, n int) *adapter.Message {
	t.Helper()
	const head = len(`{"type":3,"data":{"packet":{"type":2,"data":["ev",""]},"opts":{"rooms":[],"except":[],"flags":{}}},"uid":"a","nsp":"/"}`)
	if n < head {
		t.Fatal(n)
	}
	return &adapter.Message{Type: adapter.Broadcast, From: "a", Event: event(`["ev","` + strings.Repeat("x", n-head) + `"]`)}
}

// roundTrip encodes m as node a, and parses it as node b.
func roundTrip(t testing.TB, m *adapter.Message, ns string, threshold int) (got *adapter.Message, out postgres.Outgoing) {
	t.Helper()
	a, b := postgres.NewWire("p", ns, "a", threshold), postgres.NewWire("p", ns, "b", threshold)
	out, err := a.Encode(m)
	must(t, err)
	payload := out.Payload
	if out.Attachment != nil {
		payload = out.Head + "123456789012345678" + out.Tail
	}
	if in, err := a.Parse(payload); err != nil || !in.Own {
		t.Errorf("%s: node does not know what it sent: %+v %v", payload, in, err)
	}
	in, err := b.Parse(payload)
	switch {
	case err != nil || in.Own:
		t.Fatal(in, err)
	case out.Attachment == nil:
		return in.Message, out
	case in.Message != nil || in.ID != 123456789012345678 || in.From != "a" || in.Type != m.Type:
		t.Errorf("%s: %+v", payload, in)
	}
	got, named, err := b.ParseRow(out.Attachment)
	if err != nil || !named {
		t.Fatal(named, err)
	}
	return got, out
}

func TestWireThreshold(t *testing.T) {
	for n, want := range map[int]int{-1: 8000, 0: 8000, 1: 1, 7999: 7999, 8000: 8000, 8001: 8000} {
		if got := postgres.PayloadThreshold(n); got != want {
			t.Errorf("%d: %d", n, got)
		}
	}
	for _, c := range []struct {
		size, threshold int
		attached        bool
	}{
		{7999, 0, false},
		{8000, 0, true},
		{8001, 0, true},
		{20000, 0, true},
		{499, 500, false},
		{500, 500, true},
		{501, 500, true},
		{200, 1, true},
	} {
		m := sized(t, c.size)
		got, out := roundTrip(t, m, "/", c.threshold)
		if (out.Attachment != nil) != c.attached || !c.attached && len(out.Payload) != c.size {
			t.Errorf("%d bytes, threshold %d: payload of %d, attachment of %d", c.size, c.threshold, len(out.Payload), len(out.Attachment))
		}
		if !equal(got, m) {
			t.Errorf("%d bytes, threshold %d: changed on its way", c.size, c.threshold)
		}
	}
	bin := &adapter.Message{Type: adapter.Broadcast, From: "a", Event: event(`["ev",{"_placeholder":true,"num":0}]`, []byte{1})}
	if got, out := roundTrip(t, bin, "/", 0); out.Attachment == nil || !equal(got, bin) {
		t.Errorf("%+v %+v", out, got)
	}
	if _, err := postgres.NewWire("p", "/", "a", 0).Encode(&adapter.Message{Type: adapter.AllRooms}); err == nil {
		t.Error("encoded what has no form")
	}
}

func TestWireNamespaces(t *testing.T) {
	for _, ns := range []string{"/", "/admin", `/"\` + "\n\x00é", "/\xff", "/" + strings.Repeat("long", 100)} {
		for _, threshold := range []int{0, 1} {
			m := &adapter.Message{Type: adapter.SocketsJoin, From: "a", Rooms: []string{"r"}}
			if got, _ := roundTrip(t, m, ns, threshold); !equal(got, m) {
				t.Errorf("%q: %+v", ns, got)
			}
		}
	}
}

func TestWireParse(t *testing.T) {
	const data = `"type":4,"data":{"opts":{"rooms":[],"except":[],"flags":{}},"rooms":["attachmentId"]}`
	join := &adapter.Message{Type: adapter.SocketsJoin, From: "b", Rooms: []string{"attachmentId"}}
	own := postgres.Incoming{Own: true}
	for _, c := range []struct {
		payload string
		want    postgres.Incoming
		err     string
	}{
		{`{` + data + `,"uid":"b","nsp":"/n"}`, postgres.Incoming{Message: join}, ""},
		{`{` + data + `,"uid":"b","nsp":"/n"}` + " \t\r\n", postgres.Incoming{Message: join}, ""},
		{`{ "uid" : "b" , ` + data + `}`, postgres.Incoming{Message: join}, ""}, // 0.3, emitters
		{`{` + data + `,"uid":"b","nsp":"/m"}`, postgres.Incoming{}, "another namespace"},
		{`{` + data + `,"uid":"b","nsp":"/n"}"`, postgres.Incoming{}, "behind"},
		{`{` + data + `,"uid":"a","nsp":"/n"}`, own, ""},
		{`{` + data + `,"uid":"a","nsp":"/n"} `, own, ""},
		{`{"nsp":"/n","uid": "a",` + data + `}`, own, ""},
		{`{"uid":"b","type":3,"attachmentId":"12"}`, postgres.Incoming{ID: 12, From: "b", Type: adapter.Broadcast}, ""},
		{` {"uid":"b","type":3,"attachmentId":"12"}`, postgres.Incoming{}, "no object"},
		{`{"nodeId":{},"attachmentId":12,"type":200,"uid":"b","nsp":"/n"}`, postgres.Incoming{ID: 12, From: "b"}, ""},
		{`{"uid":"b","type":3,"attachmentId":"12","nsp":"/m"}`, postgres.Incoming{}, "another namespace"},
		{`{"uid":"a","type":3,"attachmentId":"12"}`, own, ""},
		{`{"type":3,"uid":"a","attachmentId":"12"}`, own, ""},
		{`{"uid":"b","type":3,"attachmentId":"x"}`, postgres.Incoming{}, "id of an attachment"},
		{`{"uid":"b","type":3,"attachmentId":"99999999999999999999"}`, postgres.Incoming{}, "id of an attachment"},
		{`{"uid":"b","type":3,"attachmentId":1.5}`, postgres.Incoming{}, "attachmentId"},
		{`{"uid":"b","type":3,"attachmentId":[]}`, postgres.Incoming{}, "attachment"},
		{`{"uid":"b","type":3,"attachmentId":null}`, postgres.Incoming{}, "no data"},
		{`{"uid":"b","type":3,"attachmentId":"12"`, postgres.Incoming{}, "postgres: "},
		{`{"uid":"b","type":99}`, postgres.Incoming{}, "unknown type"},
		{"", postgres.Incoming{}, "no object"},
		{"hello", postgres.Incoming{}, "no object"},
		{"\u07c0", postgres.Incoming{}, "no object"}, // begins as a map of MessagePack does
	} {
		got, err := postgres.NewWire("p", "/n", "a", 0).Parse(c.payload)
		if !equal(got, c.want) || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %+v %v", c.payload, got, err)
		}
		if (c.err == "another namespace") != errors.Is(err, postgres.ErrForeign) {
			t.Errorf("%s: %v", c.payload, err)
		}
	}
	var unknown *envelope.TypeError
	if _, err := postgres.NewWire("p", "/n", "a", 0).Parse(`{"uid":"b","type":99}`); !errors.As(err, &unknown) {
		t.Error(err)
	}
}

func TestDistinct(t *testing.T) {
	const payload = `{"a":1}`
	if got := postgres.Distinct(payload, 0); got != payload {
		t.Errorf("%q", got)
	}
	seen := map[string]bool{}
	for n := range 5000 {
		p := postgres.Distinct(payload, n)
		if seen[p] || !json.Valid([]byte(p)) || !strings.HasPrefix(p, payload) || len(p) > len(payload)+6 {
			t.Fatalf("%d: %q", n, p)
		}
		seen[p] = true
	}
}

// FuzzWireParse looks for panics, and for what is not the same when it is sent on.
func FuzzWireParse(f *testing.F) {
	for _, p := range []string{
		`{"type":1,"uid":"b","nsp":"/"}`, `{"uid":"b","type":3,"attachmentId":"1"}`, `{"uid":"a","type":1}`,
		`{"type":3,"data":{"packet":{"type":2,"data":["ev",1.0]},"opts":{"rooms":["r"],"except":[],"flags":{}}},"uid":"b"} `,
		`{"type":12,"data":{"requestId":"1","packet":{"type":"Buffer","data":[1]}},"uid":"\ud800","nsp":"/"}`, "\x82", "",
	} {
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, p string) {
		w := postgres.NewWire("p", "/", "a", 0)
		in, err := w.Parse(p)
		switch {
		case err != nil && in != postgres.Incoming{}, in.Own && in != postgres.Incoming{Own: true}:
			t.Fatal(in, err)
		case err != nil || in.Message == nil:
			return
		}
		again(t, w, in.Message)
	})
}

// FuzzWireRow is that for attachments.
func FuzzWireRow(f *testing.F) {
	for _, m := range []*adapter.Message{
		{Type: adapter.Broadcast, From: "b", Event: event(`["ev",{"_placeholder":true,"num":0}]`, []byte{1})},
		{Type: adapter.ServerSideEmit, From: "b", Event: event(`["ev",-1.5,{"a":[null]}]`)},
	} {
		out, err := postgres.NewWire("p", "/", "b", 1).Encode(m)
		must(f, err)
		f.Add(out.Attachment)
	}
	f.Add([]byte(`{"type":1,"uid":"b"}`))
	f.Fuzz(func(t *testing.T, row []byte) {
		w := postgres.NewWire("p", "/", "a", 0)
		m, named, err := w.ParseRow(row)
		switch {
		case (m == nil) != (err != nil):
			t.Fatal(m, named, err)
		case err == nil:
			again(t, w, m)
		}
	})
}

// again encodes what was parsed, and parses that.
func again(t *testing.T, w postgres.Wire, m *adapter.Message) {
	t.Helper()
	m.From = "b"
	out, err := w.Encode(m)
	if err != nil { // such as attachments that are repeated too often
		return
	}
	var got *adapter.Message
	if out.Attachment != nil {
		got, _, err = w.ParseRow(out.Attachment)
	} else {
		var in postgres.Incoming
		in, err = w.Parse(out.Payload)
		got = in.Message
	}
	if err != nil || got == nil {
		t.Fatalf("%+v: %+v %v", m, out, err)
	}
	if fmt.Sprint(got.Type, got.From, got.RequestID, got.Rooms) != fmt.Sprint(m.Type, m.From, m.RequestID, m.Rooms) {
		t.Errorf("%+v became %+v", m, got)
	}
}
