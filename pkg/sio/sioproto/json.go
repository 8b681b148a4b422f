package sioproto

import (
	"bytes"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"unicode/utf8"
)

// The one file that imports encoding/json, so that its successor can take its place here.

type rawMessage = json.RawMessage

var (
	rawMessageType    = reflect.TypeFor[json.RawMessage]()
	marshalerType     = reflect.TypeFor[json.Marshaler]()
	textMarshalerType = reflect.TypeFor[encoding.TextMarshaler]()
)

func validJSON(src []byte) bool { return json.Valid(src) }

// compactJSON removes the white space of valid JSON.
func compactJSON(src []byte) []byte {
	var buf bytes.Buffer
	buf.Grow(len(src))
	_ = json.Compact(&buf, src) // fails on invalid JSON only
	return buf.Bytes()
}

func unquoteJSON(quoted []byte) (s string, err error) {
	err = json.Unmarshal(quoted, &s)
	return s, err
}

func unmarshalJSON(src []byte, dst any) error { return json.Unmarshal(src, dst) }

// marshalJSON encodes v without the escapes that encoding/json adds for HTML and JavaScript sources.
func marshalJSON(v any) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	out := unescapeSeparators(bytes.TrimSuffix(buf.Bytes(), []byte{'\n'}))
	if !utf8.Valid(out) { // a MarshalJSON may return what it likes
		out = bytes.ToValidUTF8(out, []byte("\ufffd"))
	}
	return out, nil
}

// unescapeSeparators undoes, in place, the escapes that SetEscapeHTML(false) leaves: of U+2028, U+2029 and U+FFFD.
func unescapeSeparators(src []byte) []byte {
	if !bytes.Contains(src, []byte(`\u`)) {
		return src
	}
	dst := src[:0]
	for i := 0; i < len(src); i++ {
		if src[i] != '\\' || i+1 == len(src) {
			dst = append(dst, src[i])
			continue
		}
		if i+6 <= len(src) && src[i+1] == 'u' {
			switch string(src[i+2 : i+6]) {
			case "2028":
				dst, i = append(dst, "\u2028"...), i+5
				continue
			case "2029":
				dst, i = append(dst, "\u2029"...), i+5
				continue
			case "fffd":
				dst, i = append(dst, "\ufffd"...), i+5
				continue
			}
		}
		dst = append(dst, src[i], src[i+1]) // of `\\u2028` the second backslash starts nothing
		i++
	}
	return dst
}

// Raw is an argument in its encoded form: JSON whose placeholders name attachments. It can be sent again beside other
// values, which renumbers the placeholders. Without attachments an object that looks like a placeholder is only that.
type Raw struct {
	JSON        json.RawMessage // nil means null
	Attachments [][]byte        // may hold more than JSON refers to
}

var errRawAttachments = errors.New("a Raw with attachments is no JSON text")

// MarshalJSON returns the JSON of a Raw without attachments. AppendArgs and AppendEvent know those with attachments.
func (r Raw) MarshalJSON() ([]byte, error) {
	if len(r.Attachments) > 0 {
		return nil, errRawAttachments
	}
	return r.JSON.MarshalJSON()
}

// UnmarshalJSON sets r to a copy of the text.
func (r *Raw) UnmarshalJSON(src []byte) error {
	*r = Raw{JSON: bytes.Clone(src)}
	return nil
}

// Decode decodes the argument into what dst points to. See [DecodeArgs].
func (r Raw) Decode(dst any) error {
	src := r.JSON
	if src == nil {
		src = json.RawMessage("null")
	}
	if err := decodeValue(src, r.Attachments, dst); err != nil {
		return fmt.Errorf("sioproto: decode: %w", err)
	}
	return nil
}

// parse returns the text of r in canonical form and its placeholders, if it has attachments.
func (r Raw) parse() (src []byte, refs []ref, err error) {
	if r.JSON == nil {
		return []byte("null"), nil, nil
	}
	if !utf8.Valid(r.JSON) {
		return nil, nil, errSyntax
	}
	src, err = canonical(r.JSON, anyDepth)
	if err == nil && len(r.Attachments) > 0 {
		refs, err = placeholders(src, len(r.Attachments))
	}
	return src, refs, err
}

// Split returns the elements of a payload that is an array. They share its memory.
func Split(payload []byte) ([]json.RawMessage, error) {
	if !isArray(payload) {
		return nil, fmt.Errorf("sioproto: %w: not an array", ErrPayload)
	}
	n := 0
	for range elements(payload) {
		n++
	}
	list := make([]json.RawMessage, 0, n)
	for _, e := range elements(payload) {
		list = append(list, e)
	}
	return list, nil
}
