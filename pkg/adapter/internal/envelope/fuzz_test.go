package envelope_test

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/seed-0b620db0/patchbay/pkg/adapter"
	"github.com/seed-0b620db0/patchbay/pkg/adapter/internal/envelope"
	"github.com/seed-0b620db0/patchbay/pkg/sio/sioproto"
)

// FuzzParse: whatever comes, what parses is written again in both encodings, and parses to the same.
func FuzzParse(f *testing.F) {
	for _, c := range loadGolden(f) {
		if b, _ := c.bytes(f); !classic(c) && c.Type == 0 {
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		kept := bytes.Clone(b)
		m, ns, hasNS, err := envelope.Parse(b)
		if !bytes.Equal(b, kept) {
			t.Fatal("the message was changed")
		}
		if err != nil {
			if m != nil {
				t.Fatal("a message and an error")
			}
			return
		}
		again(t, m, func(b []byte) (*adapter.Message, error) {
			m, gotNS, gotHas, err := envelope.Parse(b)
			if gotNS != ns || gotHas != (hasNS && ns != "") { // an empty name is not written
				t.Fatalf("%q %v became %q %v", ns, hasNS, gotNS, gotHas)
			}
			return m, err
		}, func(m *adapter.Message) ([]byte, error) { return envelope.AppendJSON(nil, m, ns) },
			func(m *adapter.Message) ([]byte, error) { return envelope.AppendMsgpack(nil, m, ns) })
	})
}

// FuzzParseData does the same for data alone.
func FuzzParseData(f *testing.F) {
	for _, c := range loadGolden(f) {
		if b, _ := c.bytes(f); !classic(c) && c.Type != 0 {
			f.Add(uint8(c.Type), b)
		}
	}
	f.Fuzz(func(t *testing.T, typ uint8, b []byte) {
		m, err := envelope.ParseData(adapter.Type(typ), b)
		if err != nil {
			if m != nil {
				t.Fatal("a message and an error")
			}
			return
		}
		again(t, m, func(b []byte) (*adapter.Message, error) { return envelope.ParseData(adapter.Type(typ), b) },
			func(m *adapter.Message) ([]byte, error) { return envelope.AppendDataJSON(nil, m) },
			func(m *adapter.Message) ([]byte, error) { return envelope.AppendDataMsgpack(nil, m) })
	})
}

type (
	parser func([]byte) (*adapter.Message, error)
	writer func(*adapter.Message) ([]byte, error)
)

func again(t *testing.T, m *adapter.Message, parse parser, asJSON, asMsgpack writer) {
	t.Helper()
	bin, err := asMsgpack(m)
	if err != nil {
		t.Fatalf("%+v: %v", m, err)
	}
	got, err := parse(bin)
	if err != nil {
		t.Fatalf("%x: %v", bin, err)
	}
	// JSON that was received may be written in other ways: 1.0 or "\/". From here on it is as we write it.
	if !same(t, got, m) {
		t.Fatalf("%+v became %+v", m, got)
	}
	bin2, err := asMsgpack(got)
	if err != nil || !bytes.Equal(bin, bin2) {
		t.Fatalf("%x became %x, %v", bin, bin2, err)
	}
	text, err := asJSON(m)
	if err != nil || len(text) > 0 && !json.Valid(text) {
		t.Fatalf("%s, %v", text, err)
	}
	got, err = parse(text)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	if !envelope.HasBinary(m) && !equal(got, m) {
		t.Fatalf("%+v became %+v", m, got)
	}
}

// same compares messages by what their JSON means.
func same(t *testing.T, a, b *adapter.Message) bool {
	t.Helper()
	x, y := *a, *b
	if (x.Event == nil) != (y.Event == nil) || len(x.Sockets) != len(y.Sockets) {
		return false
	}
	if x.Event != nil {
		e, o := *x.Event, *y.Event
		if !sameJSON(sioproto.Raw{JSON: e.Payload, Attachments: e.Attachments}, sioproto.Raw{JSON: o.Payload, Attachments: o.Attachments}) ||
			e.Volatile != o.Volatile || e.NoCompress != o.NoCompress {
			return false
		}
	}
	if !sameJSON(x.Value, y.Value) {
		return false
	}
	for i := range x.Sockets {
		s, u := x.Sockets[i], y.Sockets[i]
		if !sameJSON(sioproto.Raw{JSON: s.Data}, sioproto.Raw{JSON: u.Data}) ||
			!sameJSON(sioproto.Raw{JSON: s.Handshake.Auth}, sioproto.Raw{JSON: u.Handshake.Auth}) {
			return false
		}
		s.Data, u.Data, s.Handshake.Auth, u.Handshake.Auth = nil, nil, nil, nil
		if !equal(s, u) {
			return false
		}
	}
	x.Event, x.Value, x.Sockets = nil, sioproto.Raw{}, nil
	y.Event, y.Value, y.Sockets = nil, sioproto.Raw{}, nil
	return equal(x, y)
}

func sameJSON(a, b sioproto.Raw) bool {
	if (a.JSON == nil) != (b.JSON == nil) {
		return false
	}
	var v, w any
	if a.Decode(&v) != nil || b.Decode(&w) != nil { // a number beyond a float64
		return true
	}
	return equal(v, w)
}

// FuzzReader: pieces in any order do not panic.
func FuzzReader(f *testing.F) {
	for _, c := range loadGolden(f) {
		if b, _ := c.bytes(f); classic(c) {
			f.Add(b, []byte{0, 1, 2, 3})
		}
	}
	f.Fuzz(func(t *testing.T, b, script []byte) {
		_, _ = readClassic(b)
		r := envelope.NewReader(b)
		open := []envelope.Members{{}}
		for _, c := range script {
			switch c % 16 {
			case 0:
				open = append(open, r.Object())
			case 1:
				open = append(open, r.Array())
			case 2:
				r.Next(&open[len(open)-1])
			case 3:
				r.Key()
			case 4:
				r.Skip()
			case 5:
				r = r.Later()
			case 6:
				r.Null()
			case 7:
				r.Text()
			case 8:
				r.Bool()
			case 9:
				r.Int()
			case 10:
				r.Float()
			case 11:
				r.Strings()
			case 12:
				r.Value()
			case 13:
				r.Event()
			case 14:
				r.Packet()
			case 15:
				r.Opts()
				r.Sockets()
			}
		}
		if r.Err() != nil && (r.Kind() != envelope.Invalid || r.Text() != "" || r.Int() != 0 || r.Value().JSON != nil || r.End() == nil) {
			t.Fatal("there is something behind an error")
		}
	})
}
