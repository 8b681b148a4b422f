package msgpack

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strconv"
	"unicode/utf8"

	"github.com/seed-0b620db0/patchbay/pkg/adapter/internal/rawjson"
	"github.com/seed-0b620db0/patchbay/pkg/sio/sioproto"
)

// MaxDepth bounds the nesting of values, as that of the payloads of clients.
const MaxDepth = 256

// maxCopies bounds, on the average, how often an attachment may be referred to: each reference is written out.
const maxCopies = 16

var errCopies = errors.New("attachments are repeated too often")

// AppendJSON appends the MessagePack of one JSON value. If there are attachments, objects with "_placeholder":true give way
// to those that they name; without any they are objects.
//
// Whole numbers become integers as far as 64 bits reach, also where JavaScript would round them; other numbers float64. Half
// a surrogate pair and what is not UTF-8 becomes U+FFFD. Of several equal keys of an object all are kept.
//
// On an error dst is returned as it came.
func AppendJSON(dst, json []byte, attachments [][]byte) ([]byte, error) {
	e := encoder{src: json, dst: dst, atts: attachments}
	for _, a := range attachments {
		e.room += maxCopies * len(a)
	}
	err := e.value(MaxDepth)
	if err == nil && rawjson.Space(json, e.i) < len(json) {
		err = rawjson.ErrSyntax
	}
	if err != nil {
		return dst, fmt.Errorf("msgpack: encode: %w", err)
	}
	return e.dst, nil
}

type encoder struct {
	src, dst []byte
	i        int // in src
	atts     [][]byte
	room     int // bytes of attachments that may still be written
}

// peek returns the next byte that is no white space, or 0.
func (e *encoder) peek() byte {
	if e.i < len(e.src) && e.src[e.i] <= ' ' {
		e.i = rawjson.Space(e.src, e.i)
	}
	if e.i < len(e.src) {
		return e.src[e.i]
	}
	return 0
}

func (e *encoder) value(depth int) error {
	switch c := e.peek(); c {
	case '"':
		return e.string()
	case '[':
		return e.array(depth)
	case '{':
		return e.object(depth)
	case 't':
		return e.literal("true", codeTrue)
	case 'f':
		return e.literal("false", codeFalse)
	case 'n':
		return e.literal("null", codeNil)
	default:
		return e.number()
	}
}

func (e *encoder) literal(word string, code byte) error {
	end, err := rawjson.Literal(e.src, e.i, word)
	e.i, e.dst = end, append(e.dst, code)
	return err
}

func (e *encoder) string() error {
	end, escaped, err := rawjson.String(e.src, e.i)
	if err != nil {
		return err
	}
	s := e.src[e.i+1 : end-1]
	e.i = end
	if !escaped && utf8.Valid(s) {
		e.dst = append(appendStringHeader(e.dst, len(s)), s...)
		return nil
	}
	// Its length is known when it is written; the header is mostly that of what it is written from.
	start := len(e.dst)
	e.dst = appendStringHeader(e.dst, len(s))
	header := len(e.dst) - start
	e.dst = rawjson.AppendUnquoted(e.dst, s)
	n := len(e.dst) - start - header
	if n == len(s) {
		return nil
	}
	var buf [5]byte
	right := appendStringHeader(buf[:0], n)
	if len(right) != header {
		e.shift(start+header, len(right)-header)
	}
	copy(e.dst[start:], right)
	return nil
}

// shift moves what is written from dst[at] on by n bytes.
func (e *encoder) shift(at, n int) {
	end := len(e.dst)
	if n > 0 {
		e.dst = append(e.dst, make([]byte, n)...)
	}
	copy(e.dst[at+n:], e.dst[at:end])
	e.dst = e.dst[:end+n]
}

// count puts the header of an array or map, for which one byte was left at dst[start].
func (e *encoder) count(start, n int, fix, code byte) {
	if n < 0x10 {
		e.dst[start] = fix | byte(n)
		return
	}
	var buf [5]byte
	header := appendCount(buf[:0], n, fix, code)
	e.shift(start+1, len(header)-1)
	copy(e.dst[start:], header)
}

func (e *encoder) array(depth int) error {
	if depth <= 0 {
		return sioproto.ErrDepth
	}
	start := len(e.dst)
	e.dst = append(e.dst, fixarray)
	e.i++
	if e.peek() == ']' {
		e.i++
		return nil
	}
	for n := 1; ; n++ {
		if err := e.value(depth - 1); err != nil {
			return err
		}
		c := e.peek()
		e.i++
		switch c {
		case ',':
		case ']':
			e.count(start, n, fixarray, array16)
			return nil
		default:
			return rawjson.ErrSyntax
		}
	}
}

var canonicalPlaceholder = []byte(`{"_placeholder":true,"num":`)

func (e *encoder) object(depth int) error {
	if depth <= 0 {
		return sioproto.ErrDepth
	}
	if len(e.atts) > 0 {
		if ok, err := e.placeholder(); ok {
			return err
		}
	}
	start := len(e.dst)
	e.dst = append(e.dst, fixmap)
	e.i++
	if e.peek() == '}' {
		e.i++
		return nil
	}
	// As in JavaScript, the last of several equal keys counts.
	is, num := false, -1
	for n := 1; ; n++ {
		if e.peek() != '"' {
			return rawjson.ErrSyntax
		}
		keyAt := len(e.dst)
		if err := e.string(); err != nil {
			return err
		}
		key := e.dst[keyAt:]
		if e.peek() != ':' {
			return rawjson.ErrSyntax
		}
		e.i++
		e.peek()
		from := e.i
		if err := e.value(depth - 1); err != nil {
			return err
		}
		if len(e.atts) > 0 {
			switch string(key) {
			case "\xac_placeholder":
				is = e.src[from] == 't'
			case "\xa3num":
				num = attachmentNumber(e.src[from:e.i])
			}
		}
		c := e.peek()
		e.i++
		switch c {
		case ',':
		case '}':
			if is { // the whole object gives way, and what is in it
				e.dst = e.dst[:start]
				return e.attachment(num)
			}
			e.count(start, n, fixmap, map16)
			return nil
		default:
			return rawjson.ErrSyntax
		}
	}
}

// placeholder encodes a placeholder that is written as we write it, and whose number is in range.
func (e *encoder) placeholder() (ok bool, err error) {
	rest, ok := bytes.CutPrefix(e.src[e.i:], canonicalPlaceholder)
	if !ok {
		return false, nil
	}
	n, digits := 0, 0
	for digits < len(rest) && digits < 9 && rest[digits]-'0' <= 9 {
		n = n*10 + int(rest[digits]-'0')
		digits++
	}
	if digits == 0 || digits == len(rest) || rest[digits] != '}' || digits > 1 && rest[0] == '0' || n >= len(e.atts) {
		return false, nil
	}
	e.i += len(canonicalPlaceholder) + digits + 1
	return true, e.attachment(n)
}

func (e *encoder) attachment(num int) error {
	if num < 0 || num >= len(e.atts) {
		return sioproto.ErrIllegalAttachments
	}
	if e.room -= len(e.atts[num]); e.room < 0 {
		return errCopies
	}
	e.dst = AppendBin(e.dst, e.atts[num])
	return nil
}

// attachmentNumber reads the number of a placeholder: any JSON number that is a whole one, else -1.
func attachmentNumber(src []byte) int {
	f, err := strconv.ParseFloat(string(src), 64)
	if err != nil || f != math.Trunc(f) || f < 0 || f > math.MaxInt32 {
		return -1
	}
	return int(f)
}

// safeDigits of a number can never overflow an int64.
const safeDigits = 18

func (e *encoder) number() error {
	end, integer, err := rawjson.Number(e.src, e.i)
	if err != nil {
		return err
	}
	src := e.src[e.i:end]
	e.i = end
	if integer {
		if n, ok := parseInt(src); ok {
			e.dst = AppendInt(e.dst, n)
			return nil
		}
		if n, err := strconv.ParseUint(string(src), 10, 64); err == nil {
			e.dst = AppendUint(e.dst, n)
			return nil
		}
	}
	f, _ := strconv.ParseFloat(string(src), 64) // out of range: infinite, as in JavaScript
	e.dst = AppendFloat(e.dst, f)
	return nil
}

// parseInt reads the integer that src is, if it fits.
func parseInt(src []byte) (n int64, ok bool) {
	digits := src
	if src[0] == '-' {
		digits = src[1:]
	}
	if len(digits) > safeDigits {
		n, err := strconv.ParseInt(string(src), 10, 64)
		return n, err == nil
	}
	for _, c := range digits {
		n = n*10 + int64(c-'0')
	}
	if len(digits) < len(src) {
		n = -n
	}
	return n, true
}
