package envelope

import (
	"fmt"
	"strconv"
	"unicode/utf8"

	"github.com/seed-0b620db0/patchbay/pkg/adapter/internal/msgpack"
	"github.com/seed-0b620db0/patchbay/pkg/adapter/internal/rawjson"
	"github.com/seed-0b620db0/patchbay/pkg/sio"
)

// Writer writes a value in either encoding. JSON that it is given must be in canonical form: in MessagePack what is no JSON is
// an error, in JSON it is not looked at. The first error stays.
type Writer struct {
	buf     []byte
	msgpack bool
	comma   bool // JSON: another value or key was written before
	err     error
}

// NewWriter returns a Writer that appends to dst.
func NewWriter(dst []byte, msgpack bool) Writer { return Writer{buf: dst, msgpack: msgpack} }

// Bytes returns what was written.
func (w *Writer) Bytes() ([]byte, error) { return w.buf, w.err }

func (w *Writer) fail(err error) {
	if w.err == nil {
		w.err = err
	}
}

// next begins a value.
func (w *Writer) next() {
	if !w.msgpack && w.comma {
		w.buf = append(w.buf, ',')
	}
	w.comma = true
}

func (w *Writer) open(c byte) {
	w.next()
	w.buf = append(w.buf, c)
	w.comma = false
}

func (w *Writer) close(c byte) {
	if !w.msgpack {
		w.buf = append(w.buf, c)
	}
	w.comma = true
}

// Object begins an object of n members, each a Key and a value, to which End is the end.
func (w *Writer) Object(n int) {
	if w.msgpack {
		w.buf = msgpack.AppendMapHeader(w.buf, n)
		return
	}
	w.open('{')
}

// End ends an object.
func (w *Writer) End() { w.close('}') }

// Array begins an array of n elements, to which EndArray is the end.
func (w *Writer) Array(n int) {
	if w.msgpack {
		w.buf = msgpack.AppendArrayHeader(w.buf, n)
		return
	}
	w.open('[')
}

// EndArray ends an array.
func (w *Writer) EndArray() { w.close(']') }

// Key begins a member. It is written as it is: no quotes, no backslashes, no control characters.
func (w *Writer) Key(k string) {
	if w.msgpack {
		w.buf = msgpack.AppendString(w.buf, k)
		return
	}
	w.next()
	w.buf = append(w.buf, '"')
	w.buf = append(w.buf, k...)
	w.buf = append(w.buf, '"', ':')
	w.comma = false
}

// Text writes a string. What is not UTF-8 becomes U+FFFD.
func (w *Writer) Text(s string) {
	if !utf8.ValidString(s) {
		s = rawjson.Text([]byte(s))
	}
	if w.msgpack {
		w.buf = msgpack.AppendString(w.buf, s)
		return
	}
	w.next()
	start := len(w.buf)
	w.buf = append(w.buf, '"')
	w.buf = append(w.buf, s...)
	if rawjson.Plain(w.buf[start+1:]) == len(s) {
		w.buf = append(w.buf, '"')
		return
	}
	w.buf = rawjson.AppendQuoted(w.buf[:start], []byte(s))
}

// Int writes an integer.
func (w *Writer) Int(n int64) {
	if w.msgpack {
		w.buf = msgpack.AppendInt(w.buf, n)
		return
	}
	w.next()
	w.buf = strconv.AppendInt(w.buf, n, 10)
}

// Bool writes a boolean.
func (w *Writer) Bool(b bool) {
	if w.msgpack {
		w.buf = msgpack.AppendBool(w.buf, b)
		return
	}
	w.next()
	w.buf = strconv.AppendBool(w.buf, b)
}

// Strings writes an array of strings.
func (w *Writer) Strings(list []string) {
	w.Array(len(list))
	for _, s := range list {
		w.Text(s)
	}
	w.EndArray()
}

// Value writes v, or null if it has no JSON.
func (w *Writer) Value(v sio.Raw) {
	if v.JSON == nil {
		v.JSON = []byte("null")
	}
	w.raw(v.JSON, v.Attachments)
}

// raw writes canonical JSON with attachments. As JSON alone, binary is written as JSON.stringify writes a Buffer.
func (w *Writer) raw(json []byte, atts [][]byte) {
	switch {
	case w.msgpack:
		out, err := msgpack.AppendJSON(w.buf, json, atts)
		if err != nil {
			w.fail(fmt.Errorf("envelope: %w", err))
		}
		w.buf = out
	case len(atts) == 0:
		w.next()
		w.buf = append(w.buf, json...)
	default:
		w.next()
		bin, err := msgpack.AppendJSON(nil, json, atts)
		if err == nil {
			c := msgpack.NewCursor(bin)
			w.buf, err = c.AppendBufferJSON(w.buf)
		}
		if err != nil {
			w.fail(fmt.Errorf("envelope: %w", err))
		}
	}
}

// holdsBinary tells whether placeholders in v stand for attachments: it may have more of these than it needs.
func holdsBinary(v sio.Raw) bool {
	if len(v.Attachments) == 0 {
		return false
	}
	var own sio.Raw
	return v.Decode(&own) == nil && len(own.Attachments) > 0
}
