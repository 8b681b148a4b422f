package sioproto_test

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/seed-0b620db0/patchbay/pkg/sio/sioproto"
)

const (
	placeholder0 = `{"_placeholder":true,"num":0}`
	placeholder1 = `{"_placeholder":true,"num":1}`
)

// TestWire has the examples of the protocol's specification and what was captured from an official server, both ways.
func TestWire(t *testing.T) {
	for _, c := range []struct {
		text   string
		packet sioproto.Packet
	}{
		{`0`, sioproto.Packet{Type: sioproto.Connect, Namespace: "/"}},
		{`0{"sid":"oSO0OpakMV_3jnilAAAA"}`, sioproto.Packet{Type: sioproto.Connect, Namespace: "/", Payload: []byte(`{"sid":"oSO0OpakMV_3jnilAAAA"}`)}},
		{`0{"sid":"a","pid":"b"}`, sioproto.Packet{Type: sioproto.Connect, Namespace: "/", Payload: []byte(`{"sid":"a","pid":"b"}`)}},
		{`0/admin,{"token":"123"}`, sioproto.Packet{Type: sioproto.Connect, Namespace: "/admin", Payload: []byte(`{"token":"123"}`)}},
		{`1/admin,`, sioproto.Packet{Type: sioproto.Disconnect, Namespace: "/admin"}},
		{`4{"message":"Not authorized"}`, sioproto.Packet{Type: sioproto.ConnectError, Namespace: "/", Payload: []byte(`{"message":"Not authorized"}`)}},
		{`4/err,{"message":"not authorized","data":{"content":"retry","n":1}}`, sioproto.Packet{Type: sioproto.ConnectError, Namespace: "/err", Payload: []byte(`{"message":"not authorized","data":{"content":"retry","n":1}}`)}},
		{`2["foo"]`, sioproto.Packet{Type: sioproto.Event, Namespace: "/", Payload: []byte(`["foo"]`)}},
		{`2/admin,["bar"]`, sioproto.Packet{Type: sioproto.Event, Namespace: "/admin", Payload: []byte(`["bar"]`)}},
		{`212["foo"]`, sioproto.Packet{Type: sioproto.Event, Namespace: "/", ID: 12, HasID: true, Payload: []byte(`["foo"]`)}},
		{`2/admin,1["tellme"]`, sioproto.Packet{Type: sioproto.Event, Namespace: "/admin", ID: 1, HasID: true, Payload: []byte(`["tellme"]`)}},
		{`30[]`, sioproto.Packet{Type: sioproto.Ack, Namespace: "/", HasID: true, Payload: []byte(`[]`)}},
		{`3/admin,13["bar"]`, sioproto.Packet{Type: sioproto.Ack, Namespace: "/admin", ID: 13, HasID: true, Payload: []byte(`["bar"]`)}},
		{`2`, sioproto.Packet{Type: sioproto.Event, Namespace: "/"}},
		{`31`, sioproto.Packet{Type: sioproto.Ack, Namespace: "/", ID: 1, HasID: true}},
		{`51-["baz",` + placeholder0 + `]`, sioproto.Packet{Type: sioproto.Event, Namespace: "/", Payload: []byte(`["baz",` + placeholder0 + `]`), Attachments: [][]byte{{1, 2, 3}}}},
		{`52-/admin,["baz",` + placeholder0 + `,` + placeholder1 + `]`, sioproto.Packet{Type: sioproto.Event, Namespace: "/admin", Payload: []byte(`["baz",` + placeholder0 + `,` + placeholder1 + `]`), Attachments: [][]byte{{1}, {2}}}},
		{`61-15["bar",` + placeholder0 + `]`, sioproto.Packet{Type: sioproto.Ack, Namespace: "/", ID: 15, HasID: true, Payload: []byte(`["bar",` + placeholder0 + `]`), Attachments: [][]byte{{1, 2, 3, 4}}}},
		{`62-7[` + placeholder0 + `,{"a":` + placeholder1 + `}]`, sioproto.Packet{Type: sioproto.Ack, Namespace: "/", ID: 7, HasID: true, Payload: []byte(`[` + placeholder0 + `,{"a":` + placeholder1 + `}]`), Attachments: [][]byte{{1}, {}}}},
		{`51-/n,12["b",` + placeholder0 + `]`, sioproto.Packet{Type: sioproto.Event, Namespace: "/n", ID: 12, HasID: true, Payload: []byte(`["b",` + placeholder0 + `]`), Attachments: [][]byte{{0}}}},
	} {
		if got := string(c.packet.AppendText([]byte("x"))); got != "x"+c.text {
			t.Errorf("%+v\nencoded %q\nwant    %q", c.packet, got[1:], c.text)
		}
		got, err := feed(sioproto.NewDecoder(sioproto.Limits{}), sioproto.Default.Encode(&c.packet))
		if err != nil || !reflect.DeepEqual(got, &c.packet) {
			t.Errorf("%s: decoded %+v, %v; want %+v", c.text, got, err, c.packet)
		}
	}
}

// feed gives messages to d until a packet or an error comes of them.
func feed(d sioproto.PacketDecoder, messages []sioproto.Frame) (*sioproto.Packet, error) {
	for _, m := range messages {
		if p, err := d.Add(m.Data, m.Binary); p != nil || err != nil {
			return p, err
		}
	}
	return nil, nil
}

func TestLesson21_DecoderRefuses(t *testing.T) {
	nest := func(n int) string {
		return `2["a",` + strings.Repeat("[", n) + strings.Repeat("]", n) + `]`
	}
	for _, c := range []struct {
		name, text string
		limits     sioproto.Limits
		want       error
	}{
		{"empty", "", sioproto.Limits{}, sioproto.ErrType},
		{"NUL", "\x00", sioproto.Limits{}, sioproto.ErrType},
		{"NUL in JSON", "2[\"a\x00\"]", sioproto.Limits{}, sioproto.ErrPayload},
		{"not UTF-8", "2[\"a\xff\"]", sioproto.Limits{}, sioproto.ErrUTF8},
		{"surrogate as UTF-8", "2[\"\xed\xa0\x80\"]", sioproto.Limits{}, sioproto.ErrUTF8},
		{"namespace not UTF-8", "0/\xc0,", sioproto.Limits{}, sioproto.ErrUTF8},
		{"100k levels", nest(100_000), sioproto.Limits{}, sioproto.ErrPayload},
		{"100k open brackets", "2" + strings.Repeat("[", 100_000), sioproto.Limits{}, sioproto.ErrPayload},
		{"100k open objects", `0` + strings.Repeat(`{"a":`, 100_000), sioproto.Limits{}, sioproto.ErrPayload},
		{"more than encoding/json can", nest(20_000), sioproto.Limits{Depth: 1 << 30}, sioproto.ErrPayload},
		{"one level too many", nest(4), sioproto.Limits{Depth: 4}, sioproto.ErrPayload},
		{"one byte too many", `2["a"]`, sioproto.Limits{Size: 4}, sioproto.ErrPayload},
		{"bomb", `5999999999999-["a"]`, sioproto.Limits{}, sioproto.ErrTooManyAttachments},
		{"bomb beyond 64 bits", `518446744073709551617-["a"]`, sioproto.Limits{}, sioproto.ErrTooManyAttachments},
		{"one attachment too many", `53-["a"]`, sioproto.Limits{Attachments: 2}, sioproto.ErrTooManyAttachments},
		{"no attachments allowed", `51-["a"]`, sioproto.Limits{Attachments: -1}, sioproto.ErrTooManyAttachments},
		{"huge ack id", `2` + strings.Repeat("9", 1000) + `["a"]`, sioproto.Limits{}, sioproto.ErrID},
		{"ack id of 2^64", `218446744073709551616["a"]`, sioproto.Limits{}, sioproto.ErrID},
		{"reserved", `2["disconnect"]`, sioproto.Limits{}, sioproto.ErrPayload},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, err := sioproto.NewDecoder(c.limits).Add([]byte(c.text), false)
			if p != nil || !errors.Is(err, c.want) {
				t.Fatalf("%v, %v; want %v", p, err, c.want)
			}
			if len(err.Error()) > 200 {
				t.Errorf("the error repeats what the peer sent: %d bytes", len(err.Error()))
			}
		})
	}
	for _, ok := range []struct {
		text   string
		limits sioproto.Limits
	}{
		{nest(3), sioproto.Limits{Depth: 4}},
		{`2["a"]`, sioproto.Limits{Size: 5}},
		{`2["[[[[[[\"[[["]`, sioproto.Limits{Depth: 1}},
		{nest(255), sioproto.Limits{}},
	} {
		if p, err := sioproto.NewDecoder(ok.limits).Add([]byte(ok.text), false); p == nil || err != nil {
			t.Errorf("%.20s: %v, %v", ok.text, p, err)
		}
	}
}

func TestAttachmentBytes(t *testing.T) {
	d := sioproto.NewDecoder(sioproto.Limits{AttachmentBytes: 10})
	head := []byte(`52-["a",` + placeholder0 + `,` + placeholder1 + `]`)
	add := func(data []byte, binary bool) (*sioproto.Packet, error) {
		t.Helper()
		return d.Add(data, binary)
	}
	for range 2 { // the room is that of one packet
		if p, err := add(head, false); p != nil || err != nil {
			t.Fatal(p, err)
		}
		if p, err := add(make([]byte, 7), true); p != nil || err != nil {
			t.Fatal(p, err)
		}
		if p, err := add(make([]byte, 3), true); err != nil || p == nil || len(p.Attachments) != 2 {
			t.Fatal(p, err)
		}
	}
	_, _ = add(head, false)
	_, _ = add(make([]byte, 7), true)
	if _, err := add(make([]byte, 4), true); !errors.Is(err, sioproto.ErrAttachmentBytes) {
		t.Fatal(err)
	}
	// Nothing is left of the packet.
	if _, err := add(nil, true); !errors.Is(err, sioproto.ErrBinary) {
		t.Fatal(err)
	}
}

func TestDecoderForgetsAfterError(t *testing.T) {
	d := sioproto.NewDecoder(sioproto.Limits{})
	if p, err := d.Add([]byte(`51-["a",`+placeholder0+`]`), false); p != nil || err != nil {
		t.Fatal(p, err)
	}
	if _, err := d.Add([]byte(`2["b"]`), false); !errors.Is(err, sioproto.ErrPlaintext) {
		t.Fatal(err)
	}
	if _, err := d.Add([]byte{1}, true); !errors.Is(err, sioproto.ErrBinary) {
		t.Fatal(err)
	}
	p, err := d.Add([]byte(`2["b"]`), false)
	if err != nil || string(p.Payload) != `["b"]` {
		t.Fatal(p, err)
	}
}

func TestDecoderCompactsAndShares(t *testing.T) {
	d := sioproto.NewDecoder(sioproto.Limits{})
	p, err := d.Add([]byte("2/n, [ \"a b\\n\" ,\t{ \"x\" : [ ] }\r\n]"), false)
	if err != nil || string(p.Payload) != `["a b\n",{"x":[]}]` {
		t.Fatalf("%s, %v", p.Payload, err)
	}
	text := []byte(`2["a"]`)
	if p, err = d.Add(text, false); err != nil || &p.Payload[0] != &text[1] {
		t.Error("the payload was copied")
	}
}

func TestDecoderLongNamespace(t *testing.T) {
	d := sioproto.NewDecoder(sioproto.Limits{})
	for _, name := range []string{"/a", "/" + strings.Repeat("b", 1000), "/a", "/"} {
		p, err := d.Add([]byte("0"+name+","), false)
		if err != nil || p.Namespace != name {
			t.Errorf("%q, %v", p.Namespace, err)
		}
	}
}

func TestTypeString(t *testing.T) {
	if got := fmt.Sprint(sioproto.Connect, sioproto.BinaryAck, sioproto.Type(9)); got != "CONNECT BINARY_ACK Type(9)" {
		t.Error(got)
	}
}

func TestAppendArg(t *testing.T) {
	for _, c := range [][3]string{
		{`["a"]`, "o", `["a","o"]`},
		{`[]`, "o", `["o"]`},
		{`["a",{"b":[]}]`, "<\"\u2028", `["a",{"b":[]},"<\"` + "\u2028" + `"]`},
		{``, "o", `["o"]`},
	} {
		payload := bytes.Clone([]byte(c[0]))
		if got := sioproto.AppendArg(payload, c[1]); string(got) != c[2] {
			t.Errorf("%s + %q = %s, want %s", c[0], c[1], got, c[2])
		}
		if string(payload) != c[0] {
			t.Errorf("%s was changed to %s", c[0], payload)
		}
	}
}
