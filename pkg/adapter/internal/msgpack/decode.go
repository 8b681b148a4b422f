package msgpack

import (
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/seed-0b620db0/patchbay/pkg/adapter/internal/rawjson"
	"github.com/seed-0b620db0/patchbay/pkg/sio/sioproto"
)

// AppendJSON appends the next value as compact JSON, as JSON.stringify writes what the JavaScript decoders make of it, but
// with integers exact to 64 bits. Binary is appended to attachments and a placeholder stands for it. A time becomes a string,
// NaN and the infinities null; undefined is null too, or not there in a map.
//
// An object that looks like a placeholder is an error beside attachments, those that came before included.
//
// On an error all is as it was.
func (c *Cursor) AppendJSON(dst []byte, attachments [][]byte) (json []byte, atts [][]byte, err error) {
	t := transcoder{c: *c, dst: dst, atts: attachments}
	if err := t.run(); err != nil {
		return dst, attachments, err
	}
	*c = t.c
	return t.dst, t.atts, nil
}

// AppendBufferJSON does the same with binary as JSON.stringify writes Node's Buffer: {"type":"Buffer","data":[1,2]}.
func (c *Cursor) AppendBufferJSON(dst []byte) (json []byte, err error) {
	t := transcoder{c: *c, dst: dst, buffers: true}
	if err := t.run(); err != nil {
		return dst, err
	}
	*c = t.c
	return t.dst, nil
}

type transcoder struct {
	c       Cursor
	dst     []byte
	atts    [][]byte
	buffers bool // binary stays in the text
	forged  bool // there is an object that looks like a placeholder
}

func (t *transcoder) run() error {
	err := t.value(MaxDepth)
	if err == nil && t.forged && len(t.atts) > 0 {
		err = sioproto.ErrPlaceholder
	}
	if err != nil {
		return fmt.Errorf("msgpack: decode: %w", err)
	}
	return nil
}

func (t *transcoder) value(depth int) error {
	h, err := t.c.head()
	if err != nil {
		return err
	}
	switch h.kind {
	case Nil:
		t.c.body(h)
		t.dst = append(t.dst, "null"...)
	case Bool:
		t.c.off += h.size
		t.dst = strconv.AppendBool(t.dst, h.bits == 1)
	case Int, Float:
		t.c.off += h.size
		t.number(h)
	case String:
		t.dst = rawjson.AppendQuoted(t.dst, t.c.body(h))
	case Bin:
		t.binary(t.c.body(h))
	case Array:
		return t.array(h, depth)
	case Map:
		return t.object(h, depth)
	case Time:
		t.time(t.c.body(h), h.ext)
	case Ext:
		return fmt.Errorf("%w %d", ErrExt, h.ext)
	default:
		return ErrCode
	}
	return nil
}

func (t *transcoder) number(h head) {
	switch {
	case h.kind == Float:
		t.dst = sioproto.AppendNumber(t.dst, math.Float64frombits(h.bits))
	case h.signed:
		t.dst = strconv.AppendInt(t.dst, int64(h.bits), 10)
	default:
		t.dst = strconv.AppendUint(t.dst, h.bits, 10)
	}
}

func (t *transcoder) binary(b []byte) {
	if !t.buffers {
		t.dst = append(t.dst, canonicalPlaceholder...)
		t.dst = strconv.AppendInt(t.dst, int64(len(t.atts)), 10)
		t.dst = append(t.dst, '}')
		t.atts = append(t.atts, b)
		return
	}
	t.dst = append(t.dst, `{"type":"Buffer","data":[`...)
	for i, c := range b {
		if i > 0 {
			t.dst = append(t.dst, ',')
		}
		t.dst = strconv.AppendUint(t.dst, uint64(c), 10)
	}
	t.dst = append(t.dst, "]}"...)
}

func (t *transcoder) array(h head, depth int) error {
	if depth <= 0 {
		return sioproto.ErrDepth
	}
	t.c.off += h.size
	t.dst = append(t.dst, '[')
	for i := range h.n {
		if i > 0 {
			t.dst = append(t.dst, ',')
		}
		if err := t.value(depth - 1); err != nil {
			return err
		}
	}
	t.dst = append(t.dst, ']')
	return nil
}

func (t *transcoder) object(h head, depth int) error {
	if depth <= 0 {
		return sioproto.ErrDepth
	}
	t.c.off += h.size
	t.dst = append(t.dst, '{')
	start := len(t.dst)
	for range h.n {
		before := len(t.dst)
		if before > start {
			t.dst = append(t.dst, ',')
		}
		suspect, err := t.key()
		if err != nil {
			return err
		}
		if t.c.Undefined() {
			t.c.Nil()
			t.dst = t.dst[:before]
			continue
		}
		t.dst = append(t.dst, ':')
		if suspect && t.c.off < len(t.c.buf) && t.c.buf[t.c.off] == codeTrue {
			t.forged = true
		}
		if err := t.value(depth - 1); err != nil {
			return err
		}
	}
	t.dst = append(t.dst, '}')
	return nil
}

// key writes the key of a pair and tells whether it is that of a placeholder.
func (t *transcoder) key() (suspect bool, err error) {
	h, err := t.c.head()
	if err != nil {
		return false, err
	}
	if h.kind == String {
		key := t.c.body(h)
		t.dst = rawjson.AppendQuoted(t.dst, key)
		return string(key) == "_placeholder", nil
	}
	f, ok := h.float()
	if !ok {
		return false, ErrKey
	}
	t.c.off += h.size
	t.dst = append(t.dst, '"')
	switch {
	case math.IsNaN(f):
		t.dst = append(t.dst, "NaN"...)
	case math.IsInf(f, 1):
		t.dst = append(t.dst, "Infinity"...)
	case math.IsInf(f, -1):
		t.dst = append(t.dst, "-Infinity"...)
	default:
		t.dst = sioproto.AppendNumber(t.dst, f)
	}
	t.dst = append(t.dst, '"')
	return false, nil
}

// maxMilli is the last millisecond of an ECMAScript Date.
const maxMilli = 8.64e15

// time writes what an extension of kind Time stands for: the milliseconds of notepack 2, or a timestamp.
func (t *transcoder) time(b []byte, ext int8) {
	var ms float64
	switch {
	case ext != timestamp:
		ms = float64(int64(be.Uint64(b)))
	case len(b) == 4:
		ms = float64(be.Uint32(b)) * 1e3
	case len(b) == 8:
		n := be.Uint64(b)
		ms = float64(n&(1<<34-1))*1e3 + float64(n>>34)/1e6
	default:
		ms = float64(int64(be.Uint64(b[4:])))*1e3 + float64(be.Uint32(b))/1e6
	}
	if math.Abs(ms) > maxMilli { // an invalid Date
		t.dst = append(t.dst, "null"...)
		return
	}
	t.dst = sioproto.AppendTime(t.dst, time.UnixMilli(int64(ms)))
}
