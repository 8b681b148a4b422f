package sioproto

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"
)

// maxValueDepth bounds the nesting of values that we walk ourselves, so that a cycle is an error.
const maxValueDepth = 1000

// AppendEvent appends to dst the payload of an event: the array of name and values. See [AppendArgs].
func AppendEvent(dst []byte, attachments [][]byte, name string, values ...any) (payload []byte, atts [][]byte, err error) {
	if IsReserved(name) {
		return dst, attachments, fmt.Errorf("sioproto: encode: %w %q", ErrReserved, name)
	}
	return appendArray(appendString(append(dst, '['), name), len(dst), attachments, values)
}

// AppendArgs appends to dst the array of values, as JavaScript writes it: <, > and & as they are, NaN and the infinities
// as null, 1e21 as 1e+21, a [time.Time] as a Date (in UTC, to the millisecond). The keys of a map are sorted.
//
// A []byte that is not nil, or a named type of such without a marshaling method, becomes a placeholder and is appended to
// attachments, wherever it stands: in maps, slices, structs, behind pointers and interfaces. It is not copied. A
// [Raw] is written as it is, with its attachments renumbered. A json.RawMessage must be valid JSON and is written
// compactly. All other types are encoded by [encoding/json], with its struct tags and marshaling methods; numbers and
// times of certain types inside them are written in its way, and NaN is an error there. A type with a marshaling method,
// be it of its pointer, decides on its own bytes.
//
// On an error dst and attachments are returned as they came.
func AppendArgs(dst []byte, attachments [][]byte, values ...any) (payload []byte, atts [][]byte, err error) {
	return appendArray(append(dst, '['), len(dst), attachments, values)
}

// AppendArg returns a new payload: the array with one more string at its end.
func AppendArg(payload []byte, arg string) []byte {
	dst := make([]byte, 0, len(payload)+len(arg)+len(`[,""]`))
	if !isArray(payload) {
		payload = []byte("[]")
	}
	dst = append(dst, payload[:len(payload)-1]...)
	if len(dst) > 1 {
		dst = append(dst, ',')
	}
	return append(appendString(dst, arg), ']')
}

// appendArray ends the array that was opened at dst[start].
func appendArray(dst []byte, start int, atts [][]byte, values []any) ([]byte, [][]byte, error) {
	e := encoder{dst: dst, atts: atts}
	for i, v := range values {
		if len(e.dst) > start+1 {
			e.dst = append(e.dst, ',')
		}
		if err := e.value(v, 0); err != nil {
			return dst[:start], atts, fmt.Errorf("sioproto: encode argument %d: %w", i+1, err)
		}
	}
	e.dst = append(e.dst, ']')
	if len(e.atts) > 0 && countPlaceholders(e.dst[start:]) != e.placeholders {
		return dst[:start], atts, fmt.Errorf("sioproto: encode: %w", ErrPlaceholder)
	}
	return e.dst, e.atts, nil
}

type encoder struct {
	dst          []byte
	atts         [][]byte
	placeholders int // written by us: there must be no others

	shared     [][]byte // the attachments of the packet that the last Raw came from
	sharedNums []int    // their numbers here, counted from 1; 0: not attached yet
}

func (e *encoder) value(v any, depth int) error {
	if depth > maxValueDepth {
		return ErrDepth
	}
	switch v := v.(type) {
	case nil:
		e.dst = append(e.dst, "null"...)
	case string:
		e.dst = appendString(e.dst, v)
	case bool:
		e.dst = strconv.AppendBool(e.dst, v)
	case int, int8, int16, int32, int64:
		e.dst = strconv.AppendInt(e.dst, reflect.ValueOf(v).Int(), 10)
	case uint, uint8, uint16, uint32, uint64:
		e.dst = strconv.AppendUint(e.dst, reflect.ValueOf(v).Uint(), 10)
	case float32:
		e.dst = appendFloat(e.dst, float64(v), 32)
	case float64:
		e.dst = appendFloat(e.dst, v, 64)
	case time.Time:
		e.dst = appendTime(e.dst, v)
	case []byte:
		e.binary(v)
	case []string:
		if v == nil {
			e.dst = append(e.dst, "null"...)
			break
		}
		e.dst = append(e.dst, '[')
		for i, s := range v {
			if i > 0 {
				e.dst = append(e.dst, ',')
			}
			e.dst = appendString(e.dst, s)
		}
		e.dst = append(e.dst, ']')
	case []any:
		return e.slice(v, depth)
	case map[string]any:
		return e.object(v, depth)
	case rawMessage:
		return e.raw(Raw{JSON: v})
	case Raw:
		return e.raw(v)
	case *Raw:
		if v == nil {
			e.dst = append(e.dst, "null"...)
			break
		}
		return e.raw(*v)
	default:
		return e.other(v)
	}
	return nil
}

func (e *encoder) slice(s []any, depth int) error {
	if s == nil {
		e.dst = append(e.dst, "null"...)
		return nil
	}
	e.dst = append(e.dst, '[')
	for i, v := range s {
		if i > 0 {
			e.dst = append(e.dst, ',')
		}
		if err := e.value(v, depth+1); err != nil {
			return err
		}
	}
	e.dst = append(e.dst, ']')
	return nil
}

func (e *encoder) object(m map[string]any, depth int) error {
	if m == nil {
		e.dst = append(e.dst, "null"...)
		return nil
	}
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	e.dst = append(e.dst, '{')
	for i, k := range keys {
		if i > 0 {
			e.dst = append(e.dst, ',')
		}
		e.dst = append(appendString(e.dst, k), ':')
		if err := e.value(m[k], depth+1); err != nil {
			return err
		}
	}
	e.dst = append(e.dst, '}')
	return nil
}

func (e *encoder) binary(b []byte) {
	if b == nil { // as in encoding/json
		e.dst = append(e.dst, "null"...)
		return
	}
	e.dst = e.placeholder(e.dst, b)
}

func (e *encoder) placeholder(dst, attachment []byte) []byte {
	e.placeholders++
	e.atts = append(e.atts, attachment)
	return appendPlaceholder(dst, len(e.atts)-1)
}

// once is placeholder for one of several blobs, which attaches it at its first appearance only.
// nums has the number of each blob's attachment plus one.
func (e *encoder) once(dst []byte, blobs [][]byte, nums []int, i int) []byte {
	if nums[i] > 0 {
		e.placeholders++
		return appendPlaceholder(dst, nums[i]-1)
	}
	dst = e.placeholder(dst, blobs[i])
	nums[i] = len(e.atts)
	return dst
}

// raw writes an argument of a received packet. The arguments of one packet share its attachments, each of which is attached
// once, however often it is referred to: what is sent on is no larger than what came.
func (e *encoder) raw(r Raw) error {
	src, refs, err := r.parse()
	if err != nil {
		return err
	}
	if len(refs) > 0 && (len(e.shared) != len(r.Attachments) || &e.shared[0] != &r.Attachments[0]) {
		e.shared, e.sharedNums = r.Attachments, make([]int, len(r.Attachments))
	}
	e.dst = splice(e.dst, src, refs, func(dst []byte, i int) []byte { return e.once(dst, e.shared, e.sharedNums, i) })
	return nil
}

// other encodes what has no fast path. Binary inside is first swapped for sentinels, in a copy.
func (e *encoder) other(v any) error {
	rv := reflect.ValueOf(v)
	if !mayHoldBinary(rv.Type()) {
		out, err := marshalJSON(v)
		e.dst = append(e.dst, out...)
		return err
	}
	if isBytes(rv.Type()) {
		e.binary(rv.Bytes())
		return nil
	}
	var d detacher
	c := reflect.New(rv.Type()).Elem()
	c.Set(rv)
	if err := d.detach(c, 0); err != nil {
		return err
	}
	out, err := marshalJSON(c.Interface())
	if err != nil {
		return err
	}
	nums := make([]int, len(d.blobs))
	e.dst = replaceSentinels(e.dst, out, len(nums), func(dst []byte, i int) []byte { return e.once(dst, d.blobs, nums, i) })
	return nil
}

const hexDigits = "0123456789abcdef"

// appendString appends s as JSON.stringify writes it; what is not UTF-8 becomes U+FFFD.
func appendString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= 0x20 && c != '"' && c != '\\' && c < utf8.RuneSelf {
			i++
			continue
		}
		if c >= utf8.RuneSelf {
			r, n := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && n == 1 {
				dst = append(dst, s[start:i]...)
				dst = append(dst, "\ufffd"...)
				start = i + 1
			}
			i += n
			continue
		}
		dst = append(dst, s[start:i]...)
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\b':
			dst = append(dst, '\\', 'b')
		case '\t':
			dst = append(dst, '\\', 't')
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\f':
			dst = append(dst, '\\', 'f')
		case '\r':
			dst = append(dst, '\\', 'r')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
		i++
		start = i
	}
	return append(append(dst, s[start:]...), '"')
}

// appendFloat appends f as JSON.stringify writes a number (ECMA-262, Number::toString).
func appendFloat(dst []byte, f float64, bits int) []byte {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return append(dst, "null"...)
	}
	if f == 0 {
		return append(dst, '0') // -0 too
	}
	small, large := 1e-6, 1e21
	if bits == 32 { // compared in the precision in which f is written
		small, large = float64(float32(1e-6)), float64(float32(1e21))
	}
	if abs := math.Abs(f); abs >= small && abs < large {
		return strconv.AppendFloat(dst, f, 'f', -1, bits)
	}
	dst = strconv.AppendFloat(dst, f, 'e', -1, bits)
	if n := len(dst); dst[n-2] == '0' && (dst[n-3] == '-' || dst[n-3] == '+') { // 1e-07 is 1e-7
		dst[n-2] = dst[n-1]
		dst = dst[:n-1]
	}
	return dst
}

// appendTime appends t as Date.prototype.toJSON writes it.
func appendTime(dst []byte, t time.Time) []byte {
	// The first and last millisecond of an ECMAScript Date.
	const maxMilli = 8.64e15
	t = t.UTC()
	if y := t.Year(); y < -271821 || y > 275760 || t.UnixMilli() < -maxMilli || t.UnixMilli() > maxMilli {
		return append(dst, "null"...)
	}
	dst = append(dst, '"')
	if y := t.Year(); y < 0 || y > 9999 {
		dst = fmt.Appendf(dst, "%+07d", y)
		dst = t.AppendFormat(dst, "-01-02T15:04:05.000Z")
	} else {
		dst = t.AppendFormat(dst, "2006-01-02T15:04:05.000Z")
	}
	return append(dst, '"')
}
