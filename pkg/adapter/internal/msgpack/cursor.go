package msgpack

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/seed-0b620db0/patchbay/pkg/adapter/internal/rawjson"
)

// Errors of reading.
var (
	ErrShort    = errors.New("message ends too early")
	ErrTrailing = errors.New("bytes behind the value")
	ErrKind     = errors.New("value of another kind")
	ErrRange    = errors.New("number out of range")
	ErrKey      = errors.New("key of a map is no string and no number")
	ErrExt      = errors.New("unknown extension")
	ErrCode     = errors.New("first byte of no value")
)

// Kind is what a value is.
type Kind uint8

// The kinds.
const (
	End    Kind = iota // no value is left, or not the whole of it
	Never              // the one code that begins no value
	Nil                // also what notepack 2 wrote for undefined: Undefined tells
	Bool               //
	Int                // of any size
	Float              // of either size
	String             //
	Bin                // also what notepack 2 wrote for an ArrayBuffer
	Array              //
	Map                //
	Time               // a timestamp, or what notepack 2 wrote for a Date
	Ext                // any other extension
)

// Cursor reads values one by one. What it returns shares memory with what it reads. An error leaves it where it was.
type Cursor struct {
	buf []byte
	off int
}

// NewCursor returns a Cursor at the start of b.
func NewCursor(b []byte) Cursor { return Cursor{buf: b} }

// head is the first part of a value.
type head struct {
	kind   Kind
	signed bool
	ext    int8
	size   int    // in bytes, with all lengths
	n      int    // bytes of a string, binary or extension; elements of an array; pairs of a map
	bits   uint64 // of a number
}

var be = binary.BigEndian

// head looks at the next value, which is known to have as many bytes as head says.
func (c *Cursor) head() (h head, err error) {
	b := c.buf[c.off:]
	if len(b) == 0 {
		return h, ErrShort
	}
	switch code := b[0]; {
	case code < fixmap:
		return head{kind: Int, size: 1, bits: uint64(code)}, nil
	case code >= negative:
		return head{kind: Int, signed: true, size: 1, bits: uint64(int64(int8(code)))}, nil
	case code < fixarray:
		h = head{kind: Map, size: 1, n: int(code & 0x0f)}
	case code < fixstr:
		h = head{kind: Array, size: 1, n: int(code & 0x0f)}
	case code < codeNil:
		h = head{kind: String, size: 1, n: int(code & 0x1f)}
	default:
		if h, err = longHead(b); err != nil {
			return head{}, err
		}
	}
	need := h.n
	switch h.kind {
	case Map:
		need *= 2
	case Int, Float: // their bytes are in the head
		need = 0
	default:
	}
	if need > len(b)-h.size {
		return head{}, ErrShort
	}
	return h, nil
}

// forms has the kind of values by their codes from codeNil on, and the size of the number that follows the code.
var forms = [...]struct {
	kind Kind
	size uint8
}{
	{Nil, 0},
	{Never, 0},
	{Bool, 0},
	{Bool, 0}, // 0xc0
	{Bin, 1},
	{Bin, 2},
	{Bin, 4},
	{Ext, 1},
	{Ext, 2},
	{Ext, 4},
	{Float, 4},
	{Float, 8}, // 0xca
	{Int, 1},
	{Int, 2},
	{Int, 4},
	{Int, 8},
	{Int, 1},
	{Int, 2},
	{Int, 4},
	{Int, 8},
	{Ext, 0},
	{Ext, 0},
	{Ext, 0},
	{Ext, 0},
	{Ext, 0}, // 0xd4
	{String, 1},
	{String, 2},
	{String, 4},
	{Array, 2},
	{Array, 4},
	{Map, 2},
	{Map, 4}, // up to 0xdf
}

// longHead is head for values that begin with codeNil and above.
func longHead(b []byte) (h head, err error) {
	code := b[0]
	form := forms[code-codeNil]
	h.kind, h.size = form.kind, 1+int(form.size)
	if len(b) < h.size {
		return h, ErrShort
	}
	switch form.size {
	case 1:
		h.bits = uint64(b[1])
	case 2:
		h.bits = uint64(be.Uint16(b[1:]))
	case 4:
		h.bits = uint64(be.Uint32(b[1:]))
	case 8:
		h.bits = be.Uint64(b[1:])
	}
	switch h.kind {
	case Never:
		return h, ErrCode
	case Bool:
		h.bits = uint64(code & 1)
	case Int:
		if h.signed = code >= int8bit; h.signed { // extend the sign
			unused := 64 - 8*uint(form.size)
			h.bits = uint64(int64(h.bits<<unused) >> unused)
		}
	case Float:
		if code == float32bit {
			h.bits = math.Float64bits(float64(math.Float32frombits(uint32(h.bits))))
		}
	case String, Bin, Array, Map:
		h.n, err = length(h.bits, len(b))
	case Ext:
		if form.size == 0 {
			h.bits = 1 << (code - fixext1)
		}
		if h.size++; len(b) < h.size {
			return h, ErrShort
		}
		h.ext = int8(b[h.size-1])
		h.n, err = length(h.bits, len(b))
		h.kind = extKind(code, h)
	default:
	}
	return h, err
}

// length refuses a number of elements that cannot be there.
func length(n uint64, limit int) (int, error) {
	if n > uint64(limit) {
		return 0, ErrShort
	}
	return int(n), nil
}

const timestamp = -1 // the extension type

// extKind returns what an extension stands for. Those of type 0 are notepack's of before its version 3.
func extKind(code byte, h head) Kind {
	switch {
	case h.ext == timestamp && (h.n == 4 || h.n == 8 || h.n == 12), h.ext == 0 && code == fixext8:
		return Time
	case h.ext == 0 && code == fixext1:
		return Nil
	case h.ext == 0 && code <= ext32:
		return Bin
	default:
		return Ext
	}
}

// body returns the bytes behind the head h of the next value, and goes behind them.
func (c *Cursor) body(h head) []byte {
	start := c.off + h.size
	c.off = start + h.n
	return c.buf[start:c.off:c.off]
}

// want returns the head of the next value and goes behind it, if it is of the kind.
func (c *Cursor) want(kind Kind) (head, error) {
	h, err := c.head()
	if err != nil {
		return h, err
	}
	if h.kind != kind {
		return h, ErrKind
	}
	c.off += h.size
	return h, nil
}

// Kind returns the kind of the next value.
func (c *Cursor) Kind() Kind {
	h, err := c.head()
	if errors.Is(err, ErrCode) {
		return Never
	}
	return h.kind // End if there was an error
}

const undefinedSize = 3

// Undefined tells whether the next value is what notepack 2 wrote for undefined.
func (c *Cursor) Undefined() bool {
	return c.Len() >= undefinedSize && c.buf[c.off] == fixext1 && c.buf[c.off+1] == 0
}

// Len returns the number of bytes left.
func (c *Cursor) Len() int { return len(c.buf) - c.off }

// End returns an error if there is more to read.
func (c *Cursor) End() error {
	if c.Len() > 0 {
		return fmt.Errorf("msgpack: %d %w", c.Len(), ErrTrailing)
	}
	return nil
}

// Nil reads a nil if there is one.
func (c *Cursor) Nil() bool {
	switch {
	case c.off < len(c.buf) && c.buf[c.off] == codeNil:
		c.off++
	case c.Undefined():
		c.off += undefinedSize
	default:
		return false
	}
	return true
}

// MapHeader reads the start of a map and returns how many pairs follow.
func (c *Cursor) MapHeader() (int, error) {
	h, err := c.want(Map)
	return h.n, wrap("map", err)
}

// ArrayHeader reads the start of an array and returns how many elements follow.
func (c *Cursor) ArrayHeader() (int, error) {
	h, err := c.want(Array)
	return h.n, wrap("array", err)
}

// Str reads a string, which may not be UTF-8.
func (c *Cursor) Str() ([]byte, error) {
	if b := c.buf[c.off:]; len(b) > 0 && b[0]-fixstr < 0x20 { // as most are
		if n := 1 + int(b[0]-fixstr); n <= len(b) {
			c.off += n
			return b[1:n:n], nil
		}
	}
	h, err := c.want(String)
	if err != nil {
		return nil, wrap("string", err)
	}
	h.size = 0
	return c.body(h), nil
}

// Text reads a string. What is not UTF-8 becomes U+FFFD.
func (c *Cursor) Text() (string, error) {
	b, err := c.Str()
	return rawjson.Text(b), err
}

// Bin reads binary.
func (c *Cursor) Bin() ([]byte, error) {
	h, err := c.want(Bin)
	if err != nil {
		return nil, wrap("binary", err)
	}
	h.size = 0
	return c.body(h), nil
}

// Bool reads a boolean.
func (c *Cursor) Bool() (bool, error) {
	h, err := c.want(Bool)
	return h.bits == 1, wrap("boolean", err)
}

// Int reads a whole number.
func (c *Cursor) Int() (int64, error) {
	h, err := c.head()
	if err != nil {
		return 0, wrap("integer", err)
	}
	n := int64(h.bits)
	switch h.kind {
	case Int:
		if !h.signed && n < 0 {
			return 0, wrap("integer", ErrRange)
		}
	case Float:
		f := math.Float64frombits(h.bits)
		if f != math.Trunc(f) || f < -1<<63 || f >= 1<<63 {
			return 0, wrap("integer", ErrRange)
		}
		n = int64(f)
	default:
		return 0, wrap("integer", ErrKind)
	}
	c.off += h.size
	return n, nil
}

// Float reads a number.
func (c *Cursor) Float() (float64, error) {
	h, err := c.head()
	if err != nil {
		return 0, wrap("number", err)
	}
	f, ok := h.float()
	if !ok {
		return 0, wrap("number", ErrKind)
	}
	c.off += h.size
	return f, nil
}

func (h head) float() (f float64, ok bool) {
	switch {
	case h.kind == Float:
		return math.Float64frombits(h.bits), true
	case h.kind != Int:
		return 0, false
	case h.signed:
		return float64(int64(h.bits)), true
	default:
		return float64(h.bits), true
	}
}

// Skip passes over the next value, whatever it is and however deep.
func (c *Cursor) Skip() error {
	_, err := c.Value()
	return err
}

// Value returns the bytes of the next value.
func (c *Cursor) Value() ([]byte, error) {
	at := *c
	for left := 1; left > 0; left-- {
		h, err := at.head()
		if err != nil {
			return nil, wrap("value", err)
		}
		switch h.kind {
		case Array:
			left += h.n
			at.off += h.size
		case Map:
			left += 2 * h.n
			at.off += h.size
		default:
			at.body(h)
		}
		if left-1 > at.Len() { // each takes a byte
			return nil, wrap("value", ErrShort)
		}
	}
	b := c.buf[c.off:at.off:at.off]
	c.off = at.off
	return b, nil
}

func wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("msgpack: read %s: %w", what, err)
}
