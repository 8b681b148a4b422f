package sioproto_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/seed-0b620db0/patchbay/pkg/sio/sioproto"
)

// golden is what the official parser wrote: see testdata/generate.mjs.
type golden struct {
	Encode []struct {
		Name     string
		Messages []message
	}
	Decode []struct {
		Messages []message
		Packets  []struct {
			Type sioproto.Type
			Nsp  string
			ID   *float64
			Data any // nil if there is none: no packet has null
		}
		Error string
	}
}

// message is a text or {"$bytes": base64}.
type message sioproto.Frame

func (m *message) UnmarshalJSON(src []byte) error {
	var text string
	if json.Unmarshal(src, &text) == nil {
		*m = message{Data: []byte(text)}
		return nil
	}
	var binary struct {
		Bytes []byte `json:"$bytes"`
	}
	err := json.Unmarshal(src, &binary)
	*m = message{Data: binary.Bytes, Binary: true}
	return err
}

func loadGolden(t testing.TB) golden {
	t.Helper()
	text, err := os.ReadFile("testdata/golden.json")
	if err != nil {
		t.Fatal(err)
	}
	var g golden
	if err := json.Unmarshal(text, &g); err != nil {
		t.Fatal(err)
	}
	return g
}

type file struct {
	Name  string            `json:"name"`
	Data  []byte            `json:"data"`
	Parts []blob            `json:"parts"`
	Meta  map[string][]byte `json:"meta"`
	Next  *file             `json:"next"`
}

type blob []byte

type marshaler struct{}

func (marshaler) MarshalJSON() ([]byte, error) { return []byte(`{ "b": 1 }`), nil }

var ms = time.UnixMilli

// goldenValues has the values of generate.mjs: a packet without its payload, and what the payload is made of.
var goldenValues = map[string]struct {
	packet sioproto.Packet
	json   string // of packets that are no events
	event  string
	args   []any
}{
	"connect":                     {packet: sioproto.Packet{Type: sioproto.Connect}},
	"connect with sid":            {packet: sioproto.Packet{Type: sioproto.Connect, Namespace: "/"}, json: `{"sid":"abc"}`},
	"connect to namespace":        {packet: sioproto.Packet{Type: sioproto.Connect, Namespace: "/a"}},
	"connect with auth":           {packet: sioproto.Packet{Type: sioproto.Connect, Namespace: "/a"}, json: `{"token":"x"}`},
	"disconnect":                  {packet: sioproto.Packet{Type: sioproto.Disconnect}},
	"disconnect from namespace":   {packet: sioproto.Packet{Type: sioproto.Disconnect, Namespace: "/a"}},
	"connect error":               {packet: sioproto.Packet{Type: sioproto.ConnectError, Namespace: "/err"}, json: `{"message":"no","data":{"n":1}}`},
	"connect error string":        {packet: sioproto.Packet{Type: sioproto.ConnectError}, json: `"no"`},
	"event without arguments":     {event: "e"},
	"empty name":                  {event: ""},
	"event with id":               {packet: sioproto.Packet{HasID: true}, event: "e", args: []any{1}},
	"event in namespace with id":  {packet: sioproto.Packet{Namespace: "/a/b", ID: 123, HasID: true}, event: "e", args: []any{"x"}},
	"ack":                         {packet: sioproto.Packet{Type: sioproto.Ack, HasID: true}},
	"ack with values":             {packet: sioproto.Packet{Type: sioproto.Ack, Namespace: "/n", ID: 1<<53 - 1, HasID: true}, args: []any{"a", nil, false}},
	"scalars":                     {event: "e", args: []any{nil, true, false, 0, int8(-1), int32(2147483647), uint64(9007199254740991), "s"}},
	"floats":                      {event: "e", args: []any{0.1, negativeZero, 1.5, 1e21, -1e21, 1e20, 123456789012345680000.0, 1e-6, 1e-7, -1.5e-9, 5e-324, 1.7976931348623157e308, 1e-10, 1e100, 100.0, 0.000001234}},
	"not numbers":                 {event: "e", args: []any{nan, inf, -inf, []any{nan}, map[string]any{"x": inf}}},
	"controls":                    {event: "e", args: []any{controls() + "\x7f\"\\/"}},
	"html":                        {event: "e", args: []any{"<a href='x'>&amp;</a>"}},
	"separators":                  {event: "e", args: []any{"a\u2028b\u2029c", `\u2028`}},
	"unicode":                     {event: "é", args: []any{"日本語 👋 \ufffd\ufeff\u00a0"}},
	"dates":                       {event: "e", args: []any{ms(0), ms(1700000000123), ms(0).Add(-1), ms(-62198755200000), ms(253402300800000), ms(8.64e15), ms(-8.64e15), map[string]any{"at": ms(1)}}},
	"nested":                      {event: "e", args: []any{[]any{1, []any{2, []any{3, []any{}}}}, map[string]any{"a": map[string]any{"b": map[string]any{"c": map[string]any{}}}, "d": []any{nil, map[string]string{"e": "f"}}}}},
	"struct":                      {event: "e", args: []any{tagged{"<x>\u2028", 3, []string{"a", "b"}}}},
	"binary":                      {event: "e", args: []any{[]byte{1, 2, 3}}},
	"empty binary":                {event: "e", args: []any{[]byte{}}},
	"binary in namespace with id": {packet: sioproto.Packet{Namespace: "/n", ID: 12, HasID: true}, event: "b", args: []any{blob{255}}},
	"binary ack":                  {packet: sioproto.Packet{Type: sioproto.Ack, ID: 7, HasID: true}, args: []any{[]byte{1}, map[string][]byte{"a": {2}}}},
	"binary everywhere": {event: "e", args: []any{
		[]any{[]byte{1}, "x", [][]byte{{2}}}, map[string]any{"a": map[string]any{"b": new([]byte{3})}, "c": []any{nil, blob{4}}}, []byte{5}, 6,
	}},
	"binary twice":               {event: "e", args: []any{[]byte{1, 2}, []byte{1, 2}}},
	"binary in struct":           {event: "e", args: []any{file{Name: "f", Data: []byte{1}, Parts: []blob{{2}, {3}}, Meta: map[string][]byte{"k": {4}}, Next: &file{Name: "g", Data: []byte{5}}}}},
	"toJSON":                     {event: "e", args: []any{marshaler{}}},
	"placeholder without binary": {event: "e", args: []any{map[string]any{"_placeholder": true, "num": 0}}},
}

type tagged struct {
	Name string   `json:"name"`
	N    int      `json:"n"`
	Tags []string `json:"tags"`
}

func TestGoldenEncode(t *testing.T) {
	seen := 0
	for _, c := range loadGolden(t).Encode {
		v, ok := goldenValues[c.Name]
		if !ok {
			t.Errorf("%s: no such values", c.Name)
			continue
		}
		seen++
		t.Run(c.Name, func(t *testing.T) {
			p := v.packet
			if p.Type == 0 && (v.event != "" || c.Name == "empty name") {
				p.Type = sioproto.Event
			}
			var err error
			switch p.Type {
			case sioproto.Event:
				p.Payload, p.Attachments, err = sioproto.AppendEvent(nil, nil, v.event, v.args...)
			case sioproto.Ack:
				p.Payload, p.Attachments, err = sioproto.AppendArgs(nil, nil, v.args...)
			default:
				p.Payload = []byte(v.json)
			}
			if err != nil {
				t.Fatal(err)
			}
			got := sioproto.Default.Encode(&p)
			if len(got) != len(c.Messages) {
				t.Fatalf("%d messages, want %d", len(got), len(c.Messages))
			}
			for i, want := range c.Messages {
				if string(got[i].Data) != string(want.Data) || got[i].Binary != want.Binary {
					t.Errorf("message %d: %q, want %q", i, got[i].Data, want.Data)
				}
			}
		})
	}
	if seen != len(goldenValues) {
		t.Errorf("%d cases for %d values", seen, len(goldenValues))
	}
}

// deviations has what the official parser accepts, or refuses in other words, and we refuse with these errors.
var deviations = map[string]error{
	"":                                       sioproto.ErrType, // Number("") is 0
	" ":                                      sioproto.ErrType, // and so is Number(" ")
	`2 1["a"]`:                               sioproto.ErrPayload,
	"2\ufeff[\"a\"]":                         sioproto.ErrPayload, // white space for Number, hence an ack id
	`29007199254740992["a"]`:                 sioproto.ErrID,      // the id would not come back as it was
	`218446744073709551616["a"]`:             sioproto.ErrID,
	"2" + strings.Repeat("9", 400) + `["a"]`: sioproto.ErrID,
	`51.0-["a"]`:                             sioproto.ErrIllegalAttachments, // anything that Number takes for a whole number
	`51e0-["a"]`:                             sioproto.ErrIllegalAttachments,
	`50x1-["a"]`:                             sioproto.ErrIllegalAttachments,
	`5 1-["a"]`:                              sioproto.ErrIllegalAttachments,
	`5+1-["a"]`:                              sioproto.ErrIllegalAttachments,
	`51-["a",{"_placeholder":true,"num":0.5}]`:                                 sioproto.ErrIllegalAttachments, // buffers[0.5] is undefined
	`51-["a",{"_placeholder":true,"num":0,"x":{"_placeholder":true,"num":9}}]`: sioproto.ErrIllegalAttachments, // hidden in another
	"5" + strings.Repeat("9", 400) + `-["a"]`:                                  sioproto.ErrTooManyAttachments, // infinity is no integer
}

// spaceIDs are accepted by both, but the official parser takes the space for the ack id 0.
var spaceIDs = map[string]bool{`2 ["a"]`: true, "2\t[\"a\"]": true}

// errorText gives the official parser's words for ours.
var errorText = map[error]string{
	sioproto.ErrType:               "unknown packet type",
	sioproto.ErrPayload:            "invalid payload",
	sioproto.ErrIllegalAttachments: "illegal attachments",
	sioproto.ErrTooManyAttachments: "too many attachments",
	sioproto.ErrPlaintext:          "got plaintext data when reconstructing a packet",
	sioproto.ErrBinary:             "got binary data when not reconstructing a packet",
}

func TestGoldenDecode(t *testing.T) {
	differences := 0
	for _, c := range loadGolden(t).Decode {
		name := string(c.Messages[0].Data)
		t.Run(name[:min(len(name), 60)], func(t *testing.T) {
			var got []*sioproto.Packet
			var failure error
			d := sioproto.NewDecoder(sioproto.Limits{})
			for _, m := range c.Messages {
				p, err := d.Add(m.Data, m.Binary)
				if err != nil {
					failure = err
					break
				}
				if p != nil {
					got = append(got, p)
				}
			}
			if want := deviations[name]; want != nil {
				differences++
				if !errors.Is(failure, want) {
					t.Fatalf("error %v, want %v", failure, want)
				}
				return
			}
			if c.Error != "" || failure != nil {
				for err, text := range errorText {
					if errors.Is(failure, err) && strings.HasPrefix(strings.ToLower(c.Error), text) {
						return
					}
				}
				t.Fatalf("error %v, want %q", failure, c.Error)
			}
			if len(got) != len(c.Packets) {
				t.Fatalf("%d packets, want %d", len(got), len(c.Packets))
			}
			for i, want := range c.Packets {
				p := got[i]
				if p.Type != want.Type || p.Namespace != want.Nsp {
					t.Errorf("%v %q, want %v %q", p.Type, p.Namespace, want.Type, want.Nsp)
				}
				if spaceIDs[name] {
					differences++
					want.ID = nil
				}
				if p.HasID != (want.ID != nil) || p.HasID && float64(p.ID) != *want.ID {
					t.Errorf("ack id %v %d, want %v", p.HasID, p.ID, want.ID)
				}
				var data any
				if p.Payload != nil {
					if err := (sioproto.Raw{JSON: p.Payload, Attachments: p.Attachments}).Decode(&data); err != nil {
						t.Fatal(err)
					}
				}
				if data = withBase64(data); !reflect.DeepEqual(data, want.Data) {
					t.Errorf("payload %v, want %v", data, want.Data)
				}
			}
		})
	}
	if differences != len(deviations)+len(spaceIDs) {
		t.Errorf("%d cases differ from the official parser, %d are expected to", differences, len(deviations)+len(spaceIDs))
	}
}

// withBase64 writes binary as generate.mjs does.
func withBase64(v any) any {
	switch v := v.(type) {
	case []byte:
		return map[string]any{"$bytes": base64.StdEncoding.EncodeToString(v)}
	case []any:
		for i := range v {
			v[i] = withBase64(v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = withBase64(v[k])
		}
	}
	return v
}
