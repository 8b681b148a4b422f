package sioproto

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"time"
)

// encoding/json knows how to walk structs, but writes a []byte as base64. So binary passes through it in the shape of a
// sentinel: bytes that nobody can guess, followed by an index. On the way out the base64 text of a sentinel is swapped
// for a placeholder; on the way in a placeholder is swapped for that text, and found again in the decoded value.

const (
	nonceSize    = 18 // a multiple of three, so that its base64 text is a prefix of the sentinel's
	sentinelSize = nonceSize + 6
)

var (
	nonce     = newNonce()
	nonceText = base64.StdEncoding.EncodeToString(nonce)
	textSize  = base64.StdEncoding.EncodedLen(sentinelSize)
)

func newNonce() []byte {
	b := make([]byte, nonceSize)
	_, _ = rand.Read(b) // never fails: it says so
	return b
}

func sentinel(i int) []byte {
	b := append(make([]byte, 0, sentinelSize), nonce...)
	return append(b, 0, 0, byte(i>>24), byte(i>>16), byte(i>>8), byte(i))
}

// appendSentinel appends the JSON string of sentinel i.
func appendSentinel(dst []byte, i int) []byte {
	dst = append(dst, '"')
	dst = base64.StdEncoding.AppendEncode(dst, sentinel(i))
	return append(dst, '"')
}

// sentinelIndex returns the index in b if b is a sentinel of one of n blobs, else -1.
func sentinelIndex(b []byte, n int) int {
	if len(b) != sentinelSize || !bytes.Equal(b[:nonceSize], nonce) {
		return -1
	}
	i := 0
	for _, c := range b[nonceSize:] {
		i = i<<8 | int(c)
	}
	if i >= n {
		return -1
	}
	return i
}

// sentinelTextIndex is sentinelIndex for the base64 text.
func sentinelTextIndex(s string, n int) int {
	if len(s) != textSize || !strings.HasPrefix(s, nonceText) {
		return -1
	}
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		return -1
	}
	return sentinelIndex(b, n)
}

// replaceSentinels appends src to dst with the JSON string of each sentinel replaced by what put appends.
func replaceSentinels(dst, src []byte, n int, put func(dst []byte, i int) []byte) []byte {
	mark := []byte(`"` + nonceText)
	for {
		at := bytes.Index(src, mark)
		if at < 0 || len(src) < at+textSize+2 {
			return append(dst, src...)
		}
		dst = append(dst, src[:at]...)
		i := sentinelTextIndex(string(src[at+1:at+1+textSize]), n)
		if end := at + textSize + 2; i >= 0 && src[end-1] == '"' {
			dst = put(dst, i)
			src = src[end:]
		} else {
			dst = append(dst, src[at])
			src = src[at+1:]
		}
	}
}

var (
	rawType      = reflect.TypeFor[Raw]()
	holdsBinary  sync.Map // reflect.Type to bool
	errEmbedding = errors.New("binary behind an embedded pointer to an unexported struct")
)

// mayHoldBinary reports whether a value of type t may hold bytes that become an attachment.
func mayHoldBinary(t reflect.Type) bool {
	if known, ok := holdsBinary.Load(t); ok {
		return known == true
	}
	// Only the outermost answer is kept: inside a recursive type an inner one may rest on a guess.
	is := searchBinary(t, map[reflect.Type]bool{})
	holdsBinary.Store(t, is)
	return is
}

func searchBinary(t reflect.Type, seen map[reflect.Type]bool) bool {
	if t == rawType || t == reflect.PointerTo(rawType) {
		return true
	}
	if seen[t] || marshals(t) {
		return false
	}
	seen[t] = true
	switch t.Kind() {
	case reflect.Interface:
		return true
	case reflect.Slice:
		return isBytes(t) || searchBinary(t.Elem(), seen)
	case reflect.Array, reflect.Pointer, reflect.Map:
		return searchBinary(t.Elem(), seen)
	case reflect.Struct:
		for f := range t.Fields() {
			if isField(f) && searchBinary(f.Type, seen) {
				return true
			}
		}
	}
	return false
}

func marshals(t reflect.Type) bool {
	p := reflect.PointerTo(t)
	return p.Implements(marshalerType) || p.Implements(textMarshalerType) ||
		t.Implements(marshalerType) || t.Implements(textMarshalerType)
}

// isBytes reports whether encoding/json writes a value of type t as base64.
func isBytes(t reflect.Type) bool {
	return t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Uint8 && !marshals(t.Elem()) && !marshals(t)
}

// isField reports whether encoding/json looks at the field: it does at the exported ones, and for the sake of those
// inside it at an embedded struct.
func isField(f reflect.StructField) bool {
	if f.Tag.Get("json") == "-" || f.IsExported() {
		return f.Tag.Get("json") != "-"
	}
	t := f.Type
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return f.Anonymous && t.Kind() == reflect.Struct
}

// A detacher replaces the binary in a value by sentinels.
type detacher struct{ blobs [][]byte }

func (d *detacher) add(b []byte) int {
	d.blobs = append(d.blobs, b)
	return len(d.blobs) - 1
}

// detach changes v, which is a copy of the caller's value, and copies all that v points to before it changes it.
func (d *detacher) detach(v reflect.Value, depth int) error {
	t := v.Type()
	if !mayHoldBinary(t) {
		return nil
	}
	if depth > maxValueDepth {
		return ErrDepth
	}
	if t == rawType {
		return d.detachRaw(v)
	}
	depth++
	switch t.Kind() {
	case reflect.Struct:
		return d.detachFields(v, depth)
	case reflect.Array:
		for i := range v.Len() {
			if err := d.detach(v.Index(i), depth); err != nil {
				return err
			}
		}
		return nil
	}
	if v.IsNil() { // of the kinds that are left each can be
		return nil
	}
	switch t.Kind() {
	case reflect.Slice:
		if isBytes(t) {
			v.SetBytes(sentinel(d.add(v.Bytes())))
			return nil
		}
		c := reflect.MakeSlice(t, v.Len(), v.Len())
		reflect.Copy(c, v)
		v.Set(c)
		for i := range c.Len() {
			if err := d.detach(c.Index(i), depth); err != nil {
				return err
			}
		}
	case reflect.Map:
		c := reflect.MakeMapWithSize(t, v.Len())
		for key, value := range v.Seq2() {
			e, err := d.detachCopy(value, depth)
			if err != nil {
				return err
			}
			c.SetMapIndex(key, e)
		}
		v.Set(c)
	case reflect.Pointer:
		e, err := d.detachCopy(v.Elem(), depth)
		if err != nil {
			return err
		}
		v.Set(e.Addr())
	case reflect.Interface:
		// Values of no certain type are JavaScript's, as they are in a map[string]any.
		switch x := v.Interface().(type) {
		case time.Time:
			if t.NumMethod() == 0 {
				v.Set(reflect.ValueOf(rawMessage(appendTime(nil, x))))
			}
			return nil
		case float64:
			v.Set(reflect.ValueOf(rawMessage(appendFloat(nil, x, 64))))
			return nil
		}
		e, err := d.detachCopy(v.Elem(), depth)
		if err != nil {
			return err
		}
		v.Set(e)
	}
	return nil
}

func (d *detacher) detachCopy(v reflect.Value, depth int) (reflect.Value, error) {
	c := reflect.New(v.Type()).Elem()
	c.Set(v)
	return c, d.detach(c, depth)
}

func (d *detacher) detachFields(v reflect.Value, depth int) error {
	for f, field := range v.Fields() {
		if !isField(f) || !mayHoldBinary(f.Type) {
			continue
		}
		if f.Type.Kind() == reflect.Pointer && !f.IsExported() {
			if field.IsNil() {
				continue
			}
			return errEmbedding // the copy's pointer cannot be set, and what it points to is the caller's
		}
		if isBytes(f.Type) && field.Len() == 0 && strings.Contains(f.Tag.Get("json"), ",omitempty") {
			continue // a sentinel would not be empty
		}
		if err := d.detach(field, depth); err != nil {
			return err
		}
	}
	return nil
}

func (d *detacher) detachRaw(v reflect.Value) error {
	r, ok := reflect.TypeAssert[Raw](v)
	if !ok {
		panic("sioproto: not a Raw: " + v.Type().String())
	}
	src, refs, err := r.parse()
	if err != nil {
		return err
	}
	// An attachment that is referred to twice becomes one blob.
	first := make(map[int]int)
	src = splice(nil, src, refs, func(dst []byte, num int) []byte {
		i, ok := first[num]
		if !ok {
			i = d.add(r.Attachments[num])
			first[num] = i
		}
		return appendSentinel(dst, i)
	})
	v.Set(reflect.ValueOf(Raw{JSON: src}))
	return nil
}

// An attacher replaces the sentinels in a decoded value by attachments.
type attacher struct{ atts [][]byte }

var errStringAttachment = errors.New("cannot put an attachment in a string")

func (a attacher) attach(v reflect.Value, depth int) error {
	if depth > maxValueDepth {
		return ErrDepth
	}
	depth++
	switch v.Type() {
	case rawType:
		r, ok := reflect.TypeAssert[*Raw](v.Addr())
		if !ok {
			panic("sioproto: not a Raw: " + v.Type().String())
		}
		e, nums := encoder{}, make([]int, len(a.atts))
		text := replaceSentinels(nil, r.JSON, len(nums), func(dst []byte, i int) []byte { return e.once(dst, a.atts, nums, i) })
		if e.placeholders > 0 { // else it may be one from before that was not decoded into
			*r = Raw{JSON: text, Attachments: e.atts}
		}
		return nil
	case rawMessageType:
		v.SetBytes(replaceSentinels(nil, v.Bytes(), len(a.atts), appendPlaceholder))
		return nil
	}
	switch v.Kind() {
	case reflect.String:
		if sentinelTextIndex(v.String(), len(a.atts)) >= 0 {
			return errStringAttachment
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			if i := sentinelIndex(v.Bytes(), len(a.atts)); i >= 0 {
				v.SetBytes(a.atts[i])
			}
			return nil
		}
		fallthrough
	case reflect.Array:
		for i := range v.Len() {
			if err := a.attach(v.Index(i), depth); err != nil {
				return err
			}
		}
	case reflect.Map:
		for key, value := range v.Seq2() {
			e, err := a.attachCopy(value, depth)
			if err != nil {
				return err
			}
			v.SetMapIndex(key, e)
		}
	case reflect.Pointer:
		if !v.IsNil() {
			return a.attach(v.Elem(), depth)
		}
	case reflect.Interface:
		return a.attachInterface(v, depth)
	case reflect.Struct:
		for f, field := range v.Fields() {
			if !isField(f) {
				continue
			}
			if err := a.attach(field, depth); err != nil {
				return fmt.Errorf("field %s: %w", f.Name, err)
			}
		}
	}
	return nil
}

func (a attacher) attachCopy(v reflect.Value, depth int) (reflect.Value, error) {
	c := reflect.New(v.Type()).Elem()
	c.Set(v)
	return c, a.attach(c, depth)
}

func (a attacher) attachInterface(v reflect.Value, depth int) error {
	switch x := v.Interface().(type) {
	case nil, bool, float64:
		return nil
	case string:
		if i := sentinelTextIndex(x, len(a.atts)); i >= 0 {
			v.Set(reflect.ValueOf(a.atts[i]))
		}
		return nil
	}
	e, err := a.attachCopy(v.Elem(), depth)
	if err == nil {
		v.Set(e)
	}
	return err
}
