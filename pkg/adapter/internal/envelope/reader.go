package envelope

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"unicode/utf8"

	"github.com/seed-0b620db0/patchbay/pkg/adapter/internal/msgpack"
	"github.com/seed-0b620db0/patchbay/pkg/adapter/internal/rawjson"
	"github.com/seed-0b620db0/patchbay/pkg/sio"
	"github.com/seed-0b620db0/patchbay/pkg/sio/sioproto"
)

var (
	errUTF8     = errors.New("text is not valid UTF-8")
	errTrailing = errors.New("bytes behind the value")
	errKind     = errors.New("value of another kind")
	errRange    = errors.New("number out of range")
)

// Kind is what a value is.
type Kind uint8

// The kinds.
const (
	Invalid Kind = iota
	Null         // also undefined
	Bool
	Number
	Text // also a time, which Value reads
	Binary
	Array
	Object
)

// Reader reads a value in either encoding, piece by piece:
//
//	r := envelope.NewReader(b)
//	for o := r.Object(); r.Next(&o); {
//		switch string(r.Key()) {
//		case "uid":
//			uid = r.Text()
//		default:
//			r.Skip()
//		}
//	}
//	return r.End()
//
// Each member and element must be read, or skipped. After an error, which stays, all methods return zero values.
type Reader struct {
	msgpack bool
	c       msgpack.Cursor
	src     []byte // JSON
	i       int    // in src
	key     []byte
	err     error
}

// NewReader tells JSON, an object or an array, from MessagePack by the first byte. All that is read shares memory with b.
func NewReader(b []byte) Reader {
	if len(b) == 0 || b[0] != '{' && b[0] != '[' {
		return Reader{msgpack: true, c: msgpack.NewCursor(b)}
	}
	r := Reader{src: b}
	if !utf8.Valid(b) {
		r.fail(fmt.Errorf("envelope: %w", errUTF8))
	}
	return r
}

// Err returns the error.
func (r *Reader) Err() error { return r.err }

// End returns the error, which is that more bytes follow if there is no other.
func (r *Reader) End() error {
	switch {
	case r.err != nil:
	case r.msgpack:
		if err := r.c.End(); err != nil {
			r.fail(fmt.Errorf("envelope: %w", err))
		}
	case rawjson.Space(r.src, r.i) < len(r.src):
		r.fail(fmt.Errorf("envelope: %w", errTrailing))
	}
	return r.err
}

func (r *Reader) fail(err error) {
	if r.err == nil {
		r.err = err
	}
}

// wrong is fail for the value of the current key, or of one around it.
func (r *Reader) wrong(err error) {
	switch {
	case r.err != nil || err == nil:
	case len(r.key) == 0:
		r.err = fmt.Errorf("envelope: %w", err)
	default:
		r.err = fmt.Errorf("envelope: %.32q: %w", r.key, err)
	}
}

// peek returns the next byte of JSON that is no white space, or 0.
func (r *Reader) peek() byte {
	if r.i < len(r.src) && r.src[r.i] <= ' ' {
		r.i = rawjson.Space(r.src, r.i)
	}
	if r.i < len(r.src) {
		return r.src[r.i]
	}
	return 0
}

// Kind returns the kind of the next value.
func (r *Reader) Kind() Kind {
	if r.err != nil {
		return Invalid
	}
	if r.msgpack {
		switch r.c.Kind() {
		case msgpack.Nil:
			return Null
		case msgpack.Bool:
			return Bool
		case msgpack.Int, msgpack.Float:
			return Number
		case msgpack.String, msgpack.Time:
			return Text
		case msgpack.Bin:
			return Binary
		case msgpack.Array:
			return Array
		case msgpack.Map:
			return Object
		default:
			return Invalid
		}
	}
	switch c := r.peek(); c {
	case 'n':
		return Null
	case 't', 'f':
		return Bool
	case '"':
		return Text
	case '[':
		return Array
	case '{':
		return Object
	default:
		if c == '-' || c-'0' <= 9 {
			return Number
		}
		return Invalid
	}
}

// Members counts through an object or an array.
type Members struct {
	left  int // MessagePack
	first bool
	end   byte // JSON
	array bool
}

// Object begins to read an object.
func (r *Reader) Object() Members { return r.open('{', '}') }

// Array begins to read an array.
func (r *Reader) Array() Members { return r.open('[', ']') }

func (r *Reader) open(start, end byte) (m Members) {
	if r.err != nil {
		return m
	}
	m = Members{first: true, end: end, array: end == ']'}
	var err error
	switch {
	case r.msgpack && m.array:
		m.left, err = r.c.ArrayHeader()
	case r.msgpack:
		m.left, err = r.c.MapHeader()
	case r.peek() != start:
		err = errKind
	default:
		r.i++
	}
	r.wrong(err)
	return m
}

// Next goes to the next member or element, if there is one.
func (r *Reader) Next(m *Members) bool {
	if r.err != nil {
		return false
	}
	if r.msgpack {
		if m.left == 0 {
			return false
		}
		m.left--
		return m.array || r.readKey()
	}
	c := r.peek()
	if c == m.end {
		r.i++
		return false
	}
	if !m.first {
		if c != ',' {
			r.wrong(rawjson.ErrSyntax)
			return false
		}
		r.i++
		r.peek()
	}
	m.first = false
	return m.array || r.readKey()
}

func (r *Reader) readKey() bool {
	var err error
	switch {
	case !r.msgpack:
		var s []byte
		if s, err = r.string(); err == nil && r.peek() != ':' {
			err = rawjson.ErrSyntax
		}
		r.key = s
		r.i++
	default:
		if r.key, err = r.c.Str(); errors.Is(err, msgpack.ErrKind) { // a number, which is none of ours
			err = r.c.Skip()
		}
	}
	r.wrong(err)
	return err == nil
}

// Key returns the key of the member that Next went to. It must not be changed.
func (r *Reader) Key() []byte { return r.key }

// string reads a string of JSON.
func (r *Reader) string() ([]byte, error) {
	if r.peek() != '"' {
		return nil, errKind
	}
	end, escaped, err := rawjson.String(r.src, r.i)
	if err != nil {
		return nil, err
	}
	s := r.src[r.i+1 : end-1]
	r.i = end
	if escaped {
		s = rawjson.AppendUnquoted(nil, s)
	}
	return s, nil
}

// span passes over the next value of JSON and returns it, compact.
func (r *Reader) span() ([]byte, error) {
	r.peek()
	end, spaced, err := rawjson.Value(r.src, r.i, msgpack.MaxDepth)
	if err != nil {
		return nil, err
	}
	b := r.src[r.i:end:end]
	r.i = end
	if spaced {
		var buf bytes.Buffer
		buf.Grow(len(b))
		err = json.Compact(&buf, b)
		b = buf.Bytes()
	}
	return b, err
}

// Skip passes over the next value.
func (r *Reader) Skip() { r.Later() }

// Later returns a Reader for the next value, which is passed over here.
func (r *Reader) Later() Reader {
	if r.err != nil {
		return Reader{err: r.err}
	}
	later := Reader{msgpack: r.msgpack, key: r.key}
	var err error
	if r.msgpack {
		var b []byte
		b, err = r.c.Value()
		later.c = msgpack.NewCursor(b)
	} else {
		later.src, err = r.span()
	}
	r.wrong(err)
	later.err = r.err
	return later
}

// there tells whether r is anything.
func (r *Reader) there() bool { return r.msgpack || r.src != nil }

// Null reads a null, or undefined, if there is one.
func (r *Reader) Null() bool {
	switch {
	case r.err != nil:
		return false
	case r.msgpack:
		return r.c.Nil()
	case r.peek() != 'n':
		return false
	}
	r.Skip()
	return r.err == nil
}

// Text reads a string.
func (r *Reader) Text() (s string) {
	if r.err != nil {
		return ""
	}
	var err error
	if r.msgpack {
		s, err = r.c.Text()
	} else {
		var b []byte
		b, err = r.string()
		s = string(b)
	}
	r.wrong(err)
	return s
}

// Bool reads a boolean.
func (r *Reader) Bool() (b bool) {
	if r.err != nil {
		return false
	}
	var err error
	if r.msgpack {
		b, err = r.c.Bool()
	} else {
		word := "false"
		if b = r.peek() == 't'; b {
			word = "true"
		}
		r.i, err = rawjson.Literal(r.src, r.i, word)
	}
	r.wrong(err)
	return b && err == nil
}

// number reads a number of JSON.
func (r *Reader) number() ([]byte, error) {
	r.peek()
	end, _, err := rawjson.Number(r.src, r.i)
	if err != nil {
		return nil, errKind
	}
	b := r.src[r.i:end]
	r.i = end
	return b, nil
}

// Float reads a number.
func (r *Reader) Float() (f float64) {
	if r.err != nil {
		return 0
	}
	var err error
	if r.msgpack {
		f, err = r.c.Float()
	} else {
		var b []byte
		if b, err = r.number(); err == nil {
			f, _ = strconv.ParseFloat(string(b), 64) // out of range: infinite, as in JavaScript
		}
	}
	r.wrong(err)
	return f
}

// Int reads a whole number.
func (r *Reader) Int() (n int64) {
	if r.err != nil {
		return 0
	}
	if r.msgpack {
		n, err := r.c.Int()
		r.wrong(err)
		return n
	}
	b, err := r.number()
	if err != nil {
		r.wrong(err)
		return 0
	}
	if n, err = strconv.ParseInt(string(b), 10, 64); err == nil {
		return n
	}
	f, err := strconv.ParseFloat(string(b), 64)
	if err != nil || f != math.Trunc(f) || f < -1<<63 || f >= 1<<63 {
		r.wrong(errRange)
		return 0
	}
	return int64(f)
}

// count reads a number of things.
func (r *Reader) count() int {
	n := r.Int()
	if n < 0 || n > math.MaxInt32 {
		r.wrong(errRange)
		return 0
	}
	return int(n)
}

// Strings reads an array of strings, or of numbers, which become their text: rooms may be such in JavaScript. Null is an
// empty one, and that is nil.
func (r *Reader) Strings() (list []string) {
	if r.Null() {
		return nil
	}
	for a := r.Array(); r.Next(&a); {
		if r.Kind() == Number {
			list = append(list, string(sioproto.AppendNumber(nil, r.Float())))
		} else {
			list = append(list, r.Text())
		}
	}
	if r.err != nil {
		return nil
	}
	return list
}

// Value reads any value. Undefined is a Raw without JSON.
func (r *Reader) Value() sio.Raw {
	if r.err != nil {
		return sio.Raw{}
	}
	if r.msgpack && r.c.Undefined() {
		r.c.Nil()
		return sio.Raw{}
	}
	b, atts, err := r.raw()
	if err != nil {
		r.wrong(err)
		return sio.Raw{}
	}
	return sio.Raw{JSON: b, Attachments: atts}
}

// raw reads the next value as canonical JSON.
func (r *Reader) raw() (b []byte, atts [][]byte, err error) {
	if !r.msgpack {
		b, err = r.span()
		return b, nil, err
	}
	// Text takes about as much room in both encodings; binary needs none.
	return r.c.AppendJSON(make([]byte, 0, min(r.c.Len()+16, 1024)), nil)
}
