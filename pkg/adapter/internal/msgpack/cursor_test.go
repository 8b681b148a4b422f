package msgpack_test

import (
	"bytes"
	"errors"
	"math"
	"testing"

	"github.com/seed-0b620db0/patchbay/pkg/adapter/internal/msgpack"
	"github.com/seed-0b620db0/patchbay/pkg/sio/sioproto"
)

func TestCursor(t *testing.T) {
	b := []byte("\x82\xa1a\x93\xc0\xc3\xc4\x01\x07\xa1b\xcb\x40\x00\x00\x00\x00\x00\x00\x00\x05\xd4\x00\x00\xd6\xff\x00\x00\x00\x01\xd4\x05\x00\xa2\xe2\x82")
	c := msgpack.NewCursor(b)
	kind := func(want msgpack.Kind) {
		t.Helper()
		if got := c.Kind(); got != want {
			t.Errorf("kind %v, want %v", got, want)
		}
	}
	ok := func(yes bool, err error) {
		t.Helper()
		if !yes || err != nil {
			t.Errorf("not what is there, %v", err)
		}
	}
	kind(msgpack.Map)
	n, err := c.MapHeader()
	ok(n == 2, err)
	kind(msgpack.String)
	s, err := c.Str()
	ok(string(s) == "a", err)
	kind(msgpack.Array)
	n, err = c.ArrayHeader()
	ok(n == 3, err)
	kind(msgpack.Nil)
	ok(!c.Undefined() && c.Nil() && !c.Nil(), nil)
	kind(msgpack.Bool)
	yes, err := c.Bool()
	ok(yes, err)
	kind(msgpack.Bin)
	bin, err := c.Bin()
	ok(bytes.Equal(bin, []byte{7}) && cap(bin) == 1, err)
	text, err := c.Text()
	ok(text == "b", err)
	kind(msgpack.Float)
	at := c
	i, err := c.Int()
	ok(i == 2, err)
	f, err := at.Float()
	ok(f == 2 && at.Len() == c.Len(), err)
	kind(msgpack.Int)
	f, err = c.Float()
	ok(f == 5, err)
	kind(msgpack.Nil)
	ok(c.Undefined() && c.Nil(), nil)
	kind(msgpack.Time)
	ok(true, c.Skip())
	kind(msgpack.Ext)
	v, err := c.Value()
	ok(bytes.Equal(v, []byte{0xd4, 5, 0}), err)
	ok(c.End() != nil, nil)
	text, err = c.Text()
	ok(text == "\ufffd", err)
	kind(msgpack.End)
	ok(c.Len() == 0, c.End())
}

func TestCursorErrors(t *testing.T) {
	mapHeader := func(c *msgpack.Cursor) error { _, err := c.MapHeader(); return err }
	arrayHeader := func(c *msgpack.Cursor) error { _, err := c.ArrayHeader(); return err }
	str := func(c *msgpack.Cursor) error { _, err := c.Str(); return err }
	text := func(c *msgpack.Cursor) error { _, err := c.Text(); return err }
	integer := func(c *msgpack.Cursor) error { _, err := c.Int(); return err }
	float := func(c *msgpack.Cursor) error { _, err := c.Float(); return err }
	boolean := func(c *msgpack.Cursor) error { _, err := c.Bool(); return err }
	bin := func(c *msgpack.Cursor) error { _, err := c.Bin(); return err }
	skip := func(c *msgpack.Cursor) error { return c.Skip() }
	json := func(c *msgpack.Cursor) error { _, _, err := c.AppendJSON(nil, nil); return err }
	buffer := func(c *msgpack.Cursor) error { _, err := c.AppendBufferJSON(nil); return err }
	end := func(c *msgpack.Cursor) error { return c.End() }
	for _, c := range []struct {
		name string
		f    func(*msgpack.Cursor) error
		in   string
		want error
	}{
		{"map", mapHeader, "\x90", msgpack.ErrKind},
		{"map", mapHeader, "\x81\x00", msgpack.ErrShort},
		{"map", mapHeader, "\xdf\x7f\xff\xff\xff", msgpack.ErrShort},
		{"map", mapHeader, "", msgpack.ErrShort},
		{"array", arrayHeader, "\x80", msgpack.ErrKind},
		{"array", arrayHeader, "\x91", msgpack.ErrShort},
		{"array", arrayHeader, "\xdd\xff\xff\xff\xff", msgpack.ErrShort},
		{"string", str, "\xc4\x00", msgpack.ErrKind},
		{"string", str, "\xa2a", msgpack.ErrShort},
		{"text", text, "\x00", msgpack.ErrKind},
		{"int", integer, "\xa1a", msgpack.ErrKind},
		{"int", integer, "\xcb\x3f\xf8\x00\x00\x00\x00\x00\x00", msgpack.ErrRange},
		{"int", integer, "\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00", msgpack.ErrRange},
		{"int", integer, "\xcb\x7f\xf0\x00\x00\x00\x00\x00\x00", msgpack.ErrRange},
		{"int", integer, "\xcb\x43\xe0\x00\x00\x00\x00\x00\x00", msgpack.ErrRange},
		{"int", integer, "\xcf\x80\x00\x00\x00\x00\x00\x00\x00", msgpack.ErrRange},
		{"int", integer, "\xcd\x00", msgpack.ErrShort},
		{"float", float, "\xc0", msgpack.ErrKind},
		{"float", float, "\xcb\x00", msgpack.ErrShort},
		{"bool", boolean, "\x01", msgpack.ErrKind},
		{"bin", bin, "\xa0", msgpack.ErrKind},
		{"bin", bin, "\xc6\xff\xff\xff\xff", msgpack.ErrShort},
		{"skip", skip, "\x92\x91\x01", msgpack.ErrShort},
		{"skip", skip, "\x81\xa1a", msgpack.ErrShort},
		{"skip", skip, "\x91\xc1", msgpack.ErrCode},
		{"json", json, "\x91\xc1", msgpack.ErrCode},
		{"json", json, "\x91\xd4\x05\x00", msgpack.ErrExt},
		{"json", json, "\x81\xc4\x00\x00", msgpack.ErrKey},
		{"json", json, "\x81\xa1a", msgpack.ErrShort},
		{"json", json, nestedBytes(msgpack.MaxDepth), nil},
		{"json", json, nestedBytes(msgpack.MaxDepth + 1), sioproto.ErrDepth},
		{"skip", skip, nestedBytes(100000), nil}, // without recursion
		{"buffer", buffer, nestedBytes(msgpack.MaxDepth + 1), sioproto.ErrDepth},
		{"end", end, "\x00", msgpack.ErrTrailing},
	} {
		cur := msgpack.NewCursor([]byte(c.in))
		if err := c.f(&cur); !errors.Is(err, c.want) {
			t.Errorf("%s of %.20x: %v, want %v", c.name, c.in, err, c.want)
		} else if err != nil && cur.Len() != len(c.in) {
			t.Errorf("%s of %.20x: went on in spite of the error", c.name, c.in)
		}
	}
}

func nestedBytes(depth int) string {
	return string(bytes.Repeat([]byte{0x91}, depth-1)) + "\x90"
}

func TestAttachmentsGiven(t *testing.T) {
	bin := []byte{0xc4, 1, 7}
	c := msgpack.NewCursor(bin)
	text, atts, err := c.AppendJSON([]byte("x"), [][]byte{{1}, {2}})
	if err != nil || string(text) != `x{"_placeholder":true,"num":2}` || len(atts) != 3 || !bytes.Equal(atts[2], []byte{7}) {
		t.Errorf("%s %v, %v", text, atts, err)
	}

	// An object of that look is one, until there are attachments.
	looks := append([]byte("\x82\xac_placeholder\xc3\xa3num\x00"), bin...)
	c = msgpack.NewCursor(looks)
	if text, _, err := c.AppendJSON(nil, nil); err != nil || string(text) != `{"_placeholder":true,"num":0}` {
		t.Errorf("%s, %v", text, err)
	}
	c = msgpack.NewCursor(looks)
	if _, _, err := c.AppendJSON(nil, [][]byte{{1}}); !errors.Is(err, sioproto.ErrPlaceholder) {
		t.Error(err)
	}
}

func TestAppendBufferJSON(t *testing.T) {
	c := msgpack.NewCursor([]byte("\x93\xc4\x03\x00\x7f\xff\xc4\x00\x81\xac_placeholder\xc3"))
	text, err := c.AppendBufferJSON([]byte("x"))
	if want := `x[{"type":"Buffer","data":[0,127,255]},{"type":"Buffer","data":[]},{"_placeholder":true}]`; err != nil || string(text) != want {
		t.Errorf("%s, %v, want %s", text, err, want)
	}
}

func TestNumberKeys(t *testing.T) {
	b := msgpack.AppendMapHeader(nil, 6)
	for _, f := range []float64{math.NaN(), math.Inf(1), math.Inf(-1), 1.5, 1e21, math.Copysign(0, -1)} {
		b = msgpack.AppendNil(msgpack.AppendFloat(b, f))
	}
	text, _ := decode(t, b)
	if want := `{"NaN":null,"Infinity":null,"-Infinity":null,"1.5":null,"1e+21":null,"0":null}`; string(text) != want {
		t.Errorf("%s, want %s", text, want)
	}
}
