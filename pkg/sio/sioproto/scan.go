package sioproto

import (
	"bytes"
	"errors"
	"fmt"
	"iter"
	"math"
	"strconv"
)

// What is needed of JSON without decoding it. Only canonical looks at arbitrary bytes; placeholder search wants what
// canonical has passed; the rest never panics, and gives nonsense for nonsense.

var errSyntax = errors.New("not valid JSON")

// anyDepth leaves the bound to encoding/json, which has one of its own at 10000.
const anyDepth = math.MaxInt

// canonical checks that src is JSON and returns it without white space, in place when there is none.
// The depth is measured first, in one cheap pass, so that a hostile nest of brackets costs nothing more.
func canonical(src []byte, maxDepth int) ([]byte, error) {
	depth, spaced := 0, false
	for i := 0; i < len(src); i++ {
		switch src[i] {
		case '"':
			i = skipString(src, i) - 1
		case '[', '{':
			if depth++; depth > maxDepth {
				return nil, fmt.Errorf("nested deeper than %d", maxDepth)
			}
		case ']', '}':
			depth--
		case ' ', '\t', '\r', '\n':
			spaced = true
		}
	}
	if !validJSON(src) {
		return nil, errSyntax
	}
	if spaced {
		return compactJSON(src), nil
	}
	return src, nil
}

// skipString returns the index behind the string that starts at src[i].
func skipString(src []byte, i int) int {
	for i++; i < len(src); i++ {
		switch src[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(src)
}

// skipValue returns the index behind the value that starts at src[i]: of a comma, a closing bracket, or the end.
func skipValue(src []byte, i int) int {
	for depth := 0; i < len(src); i++ {
		switch src[i] {
		case '"':
			i = skipString(src, i) - 1
		case '[', '{':
			depth++
		case ']', '}':
			if depth--; depth < 0 {
				return i
			}
		case ',':
			if depth == 0 {
				return i
			}
		}
	}
	return i
}

// elements iterates over the elements of a compact array.
func elements(array []byte) iter.Seq2[int, []byte] {
	return func(yield func(int, []byte) bool) {
		if len(array) <= 2 {
			return
		}
		for n, i := 0, 1; i < len(array); n++ {
			end := skipValue(array, i)
			if !yield(n, array[i:end:end]) {
				return
			}
			i = end + 1
		}
	}
}

func isArray(src []byte) bool {
	return len(src) >= 2 && src[0] == '[' && src[len(src)-1] == ']'
}

func isNumber(src []byte) bool { return src[0] == '-' || src[0]-'0' <= 9 }

// equalKey reports whether quoted is the JSON string of s, however it is escaped.
func equalKey(quoted []byte, s string) bool {
	if bytes.IndexByte(quoted, '\\') < 0 {
		return len(quoted) >= 2 && string(quoted[1:len(quoted)-1]) == s
	}
	got, err := unquoteJSON(quoted)
	return err == nil && got == s
}

func isReservedJSON(quoted []byte) bool {
	if bytes.IndexByte(quoted, '\\') < 0 {
		return len(quoted) >= 2 && IsReserved(string(quoted[1:len(quoted)-1]))
	}
	name, err := unquoteJSON(quoted)
	return err != nil || IsReserved(name)
}

// A ref is a placeholder in a text: where it stands and which attachment it wants (-1 if it does not say so properly).
type ref struct{ start, end, num int }

// placeholders finds the outermost placeholders in canonical JSON. All of them must name one of n attachments.
func placeholders(src []byte, n int) ([]ref, error) {
	f := finder{src: src, limit: n}
	f.value(0)
	if f.illegal {
		return nil, ErrIllegalAttachments
	}
	return f.refs, nil
}

// countPlaceholders counts the objects in canonical JSON that a receiver takes for placeholders, nested ones too.
func countPlaceholders(src []byte) int {
	f := finder{src: src}
	f.value(0)
	return f.total
}

type finder struct {
	src     []byte
	limit   int
	refs    []ref
	total   int
	illegal bool
}

// value looks through the value at src[i] and returns the index behind it. It recurses as deep as the value is nested,
// which the validation of src has bounded.
func (f *finder) value(i int) int {
	switch f.src[i] {
	case '"':
		return skipString(f.src, i)
	case '[':
		if f.src[i+1] == ']' {
			return i + 2
		}
		for f.src[i] != ']' {
			i = f.value(i + 1)
		}
		return i + 1
	case '{':
		return f.object(i)
	}
	for i < len(f.src) && f.src[i] != ',' && f.src[i] != ']' && f.src[i] != '}' {
		i++
	}
	return i
}

func (f *finder) object(start int) int {
	if f.src[start+1] == '}' {
		return start + 2
	}
	// As in JavaScript, the last of several equal keys counts.
	is, num, inner := false, -1, len(f.refs)
	i := start
	for f.src[i] != '}' {
		colon := skipString(f.src, i+1)
		key := f.src[i+1 : colon]
		i = f.value(colon + 1)
		switch value := f.src[colon+1 : i]; {
		case equalKey(key, "_placeholder"):
			is = string(value) == "true"
		case equalKey(key, "num"):
			num = attachmentNumber(value)
		}
	}
	i++
	if is {
		f.total++
		f.illegal = f.illegal || num < 0 || num >= f.limit
		f.refs = append(f.refs[:inner], ref{start, i, num}) // the whole object gives way, and what is in it
	}
	return i
}

// attachmentNumber reads the number of a placeholder: any JSON number that is a whole one, else -1.
func attachmentNumber(src []byte) int {
	if !isNumber(src) {
		return -1
	}
	f, err := strconv.ParseFloat(string(src), 64)
	if err != nil || f != math.Trunc(f) || f < 0 || f > math.MaxInt32 {
		return -1
	}
	return int(f)
}

// splice appends src to dst with each ref replaced by what put appends for its number.
func splice(dst, src []byte, refs []ref, put func(dst []byte, num int) []byte) []byte {
	at := 0
	for _, r := range refs {
		dst = append(dst, src[at:r.start]...)
		dst = put(dst, r.num)
		at = r.end
	}
	return append(dst, src[at:]...)
}

func appendPlaceholder(dst []byte, num int) []byte {
	dst = append(dst, `{"_placeholder":true,"num":`...)
	dst = strconv.AppendInt(dst, int64(num), 10)
	return append(dst, '}')
}
