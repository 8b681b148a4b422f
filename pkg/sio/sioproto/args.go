package sioproto

import (
	"bytes"
	"fmt"
	"iter"
	"reflect"
	"strconv"
	"unicode/utf8"
)

// EventName returns the name of an event: the first element of its payload. A number gives its text, as in JavaScript.
func EventName(payload []byte) (string, error) {
	if isArray(payload) {
		switch name := payload[1:skipValue(payload, 1)]; {
		case len(name) == 0:
		case name[0] == '"':
			if n := len(name) - 1; n > 0 && name[n] == '"' && plain(name[1:n]) {
				return string(name[1:n]), nil
			}
			var s string
			err := decodeValue(name, nil, &s)
			return s, err
		case isNumber(name):
			f, err := strconv.ParseFloat(string(name), 64)
			if err == nil {
				return string(appendFloat(nil, f, 64)), nil
			}
			return string(name), nil // beyond a float64
		}
	}
	return "", fmt.Errorf("sioproto: %w: no event name", ErrPayload)
}

// Elements iterates over the elements of a payload that a [Decoder] has passed, with their indexes. There are none if the
// payload is no array. The elements share its memory.
func Elements(payload []byte) iter.Seq2[int, []byte] {
	if !isArray(payload) {
		payload = nil
	}
	return elements(payload)
}

// DecodeEvent decodes the arguments of an event, which are the elements behind its name. See [DecodeArgs].
func DecodeEvent(payload []byte, attachments [][]byte, dst ...any) error {
	return decodeArgs(payload, attachments, 1, dst)
}

// DecodeArgs decodes the elements of an array into what the pointers dst point to, one each. What the payload does not
// have leaves its dst untouched, surplus elements are ignored, and a nil dst passes over its element.
//
// Values are decoded as [encoding/json] does. Where a placeholder stands, a []byte, a named type of such, or an interface
// gets the attachment itself, which stays shared; a *[Raw] gets its text and attachments, likewise shared. A string
// cannot take an attachment. A type with its own UnmarshalJSON sees some string there and should hold a Raw instead.
func DecodeArgs(payload []byte, attachments [][]byte, dst ...any) error {
	return decodeArgs(payload, attachments, 0, dst)
}

func decodeArgs(payload []byte, attachments [][]byte, skip int, dst []any) error {
	if payload == nil || len(dst) == 0 {
		return nil
	}
	if !isArray(payload) {
		return fmt.Errorf("sioproto: %w: not an array", ErrPayload)
	}
	for i, src := range elements(payload) {
		i -= skip
		if i < 0 || i < len(dst) && dst[i] == nil {
			continue
		}
		if i >= len(dst) {
			break
		}
		if err := decodeValue(src, attachments, dst[i]); err != nil {
			return fmt.Errorf("sioproto: decode argument %d: %w", i+1, err)
		}
	}
	return nil
}

// decodeValue has fast paths that give up, to encoding/json, on the slightest doubt.
func decodeValue(src []byte, atts [][]byte, dst any) error {
	switch d := dst.(type) {
	case *string:
		if n := len(src); n >= 2 && src[0] == '"' && src[n-1] == '"' && plain(src[1:n-1]) {
			*d = string(src[1 : n-1])
			return nil
		}
	case *bool:
		switch string(src) {
		case "true":
			*d = true
			return nil
		case "false":
			*d = false
			return nil
		}
	case *int:
		if n, ok := parseInt(src); ok && int64(int(n)) == n {
			*d = int(n)
			return nil
		}
	case *int64:
		if n, ok := parseInt(src); ok {
			*d = n
			return nil
		}
	case *float64:
		if n, ok := parseInt(src); ok && -maxID <= n && n <= maxID && src[0] != '-' {
			*d = float64(n)
			return nil
		}
	case *Raw:
		text, refs, err := Raw{JSON: src, Attachments: atts}.parse()
		if err != nil {
			return err
		}
		if len(refs) == 0 {
			atts = nil
		}
		*d = Raw{JSON: text, Attachments: atts}
		return nil
	}
	if len(atts) == 0 {
		return unmarshalJSON(src, dst)
	}
	src, refs, err := Raw{JSON: src, Attachments: atts}.parse()
	if err != nil {
		return err
	}
	if len(refs) == 0 {
		return unmarshalJSON(src, dst)
	}
	if d, ok := dst.(*[]byte); ok && refs[0].end-refs[0].start == len(src) {
		*d = atts[refs[0].num]
		return nil
	}
	// Long enough for all refs: a quoted sentinel takes 34 bytes, a placeholder 28 or more.
	text := splice(make([]byte, 0, len(src)+6*len(refs)), src, refs, appendSentinel)
	if err := unmarshalJSON(text, dst); err != nil {
		return err
	}
	return attacher{atts}.attach(reflect.ValueOf(dst).Elem(), 0)
}

// plain reports whether the inside of a JSON string is the string itself.
func plain(src []byte) bool {
	for _, c := range src {
		if c < 0x20 || c == '"' || c == '\\' {
			return false
		}
	}
	return utf8.Valid(src)
}

// parseInt reads what JSON allows as an integer: no plus sign and no leading zero.
func parseInt(src []byte) (int64, bool) {
	digits := bytes.TrimPrefix(src, []byte{'-'})
	if len(digits) == 0 || len(digits) > 1 && digits[0] == '0' || digits[0]-'0' > 9 {
		return 0, false
	}
	n, err := strconv.ParseInt(string(src), 10, 64)
	return n, err == nil
}
