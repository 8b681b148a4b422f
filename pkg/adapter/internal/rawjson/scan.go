package rawjson

import (
	"encoding/binary"
	"errors"
	"math/bits"
)

// Errors of a scan.
var (
	ErrSyntax = errors.New("not valid JSON")
	ErrDepth  = errors.New("JSON is nested too deeply")
)

const (
	ones  = 0x0101010101010101
	highs = 0x80 * ones
)

// Plain returns how many bytes at the start of src stand for themselves inside a JSON string: up to the first quote,
// backslash or control character. It does not look at UTF-8.
func Plain(src []byte) int {
	i := 0
	for ; i+8 <= len(src); i += 8 {
		w := binary.LittleEndian.Uint64(src[i:])
		// The lowest bit set marks the first such byte: borrows reach only what is above it.
		quote, slash := w^'"'*ones, w^'\\'*ones
		if m := ((w-0x20*ones)&^w | (quote-ones)&^quote | (slash-ones)&^slash) & highs; m != 0 {
			return i + bits.TrailingZeros64(m)/8
		}
	}
	for ; i < len(src); i++ {
		if c := src[i]; c < 0x20 || c == '"' || c == '\\' {
			break
		}
	}
	return i
}

// String returns the index behind the string that starts at src[i], with its quote, and whether it has escapes.
func String(src []byte, i int) (end int, escaped bool, err error) {
	if i >= len(src) || src[i] != '"' {
		return i, false, ErrSyntax
	}
	for i++; ; {
		i += Plain(src[i:])
		switch {
		case i >= len(src) || src[i] < 0x20:
			return i, false, ErrSyntax
		case src[i] == '"':
			return i + 1, escaped, nil
		}
		escaped = true
		if i += 2; i > len(src) {
			return i, false, ErrSyntax
		}
		switch src[i-1] {
		case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		case 'u':
			if _, ok := hex4(src, i); !ok {
				return i, false, ErrSyntax
			}
			i += 4
		default:
			return i, false, ErrSyntax
		}
	}
}

// Number returns the index behind the number that starts at src[i], and whether it is written without a fraction and an
// exponent.
func Number(src []byte, i int) (end int, integer bool, err error) {
	if i < len(src) && src[i] == '-' {
		i++
	}
	switch {
	case i < len(src) && src[i] == '0':
		i++
	case digits(src, i) == i:
		return i, false, ErrSyntax
	default:
		i = digits(src, i)
	}
	integer = true
	if i < len(src) && src[i] == '.' {
		integer = false
		end := digits(src, i+1)
		if end == i+1 {
			return end, false, ErrSyntax
		}
		i = end
	}
	if i < len(src) && src[i]|0x20 == 'e' {
		integer = false
		i++
		if i < len(src) && (src[i] == '+' || src[i] == '-') {
			i++
		}
		end := digits(src, i)
		if end == i {
			return end, false, ErrSyntax
		}
		i = end
	}
	return i, integer, nil
}

func digits(src []byte, i int) int {
	for i < len(src) && src[i]-'0' <= 9 {
		i++
	}
	return i
}

// Space returns the index of the first byte from i on that is no white space.
func Space(src []byte, i int) int {
	for i < len(src) && (src[i] == ' ' || src[i] == '\t' || src[i] == '\r' || src[i] == '\n') {
		i++
	}
	return i
}

// Literal returns the index behind the word that starts at src[i].
func Literal(src []byte, i int, word string) (end int, err error) {
	end = i + len(word)
	if end > len(src) || string(src[i:end]) != word {
		return i, ErrSyntax
	}
	return end, nil
}

// Value returns the index behind the value that starts at src[i], and whether there is white space in it. Arrays and
// objects may be nested up to depth.
func Value(src []byte, i, depth int) (end int, spaced bool, err error) {
	s := scanner{src: src}
	end, err = s.value(i, depth)
	return end, s.spaced, err
}

// Check tells whether src is one value and no more, and whether there is white space in it.
func Check(src []byte, depth int) (spaced bool, err error) {
	start := Space(src, 0)
	end, spaced, err := Value(src, start, depth)
	if err != nil {
		return false, err
	}
	if rest := Space(src, end); rest != len(src) {
		return false, ErrSyntax
	}
	return spaced || start > 0 || end < len(src), nil
}

type scanner struct {
	src    []byte
	spaced bool
}

func (s *scanner) value(i, depth int) (end int, err error) {
	if i >= len(s.src) {
		return i, ErrSyntax
	}
	switch s.src[i] {
	case '"':
		end, _, err = String(s.src, i)
	case '[':
		end, err = s.array(i, depth)
	case '{':
		end, err = s.object(i, depth)
	case 't':
		end, err = Literal(s.src, i, "true")
	case 'f':
		end, err = Literal(s.src, i, "false")
	case 'n':
		end, err = Literal(s.src, i, "null")
	default:
		end, _, err = Number(s.src, i)
	}
	return end, err
}

// peek returns the first byte from i on that is no white space, and its index; 0 at the end.
func (s *scanner) peek(i int) (int, byte) {
	if i < len(s.src) && s.src[i] <= ' ' {
		start := i
		i = Space(s.src, i)
		s.spaced = s.spaced || i > start
	}
	if i >= len(s.src) {
		return i, 0
	}
	return i, s.src[i]
}

func (s *scanner) array(i, depth int) (int, error) {
	if depth <= 0 {
		return i, ErrDepth
	}
	i, c := s.peek(i + 1)
	if c == ']' {
		return i + 1, nil
	}
	for {
		end, err := s.value(i, depth-1)
		if err != nil {
			return end, err
		}
		switch i, c = s.peek(end); c {
		case ',':
			i, _ = s.peek(i + 1)
		case ']':
			return i + 1, nil
		default:
			return i, ErrSyntax
		}
	}
}

func (s *scanner) object(i, depth int) (int, error) {
	if depth <= 0 {
		return i, ErrDepth
	}
	i, c := s.peek(i + 1)
	if c == '}' {
		return i + 1, nil
	}
	for {
		end, _, err := String(s.src, i)
		if err != nil {
			return end, err
		}
		if i, c = s.peek(end); c != ':' {
			return i, ErrSyntax
		}
		i, _ = s.peek(i + 1)
		if end, err = s.value(i, depth-1); err != nil {
			return end, err
		}
		switch i, c = s.peek(end); c {
		case ',':
			i, _ = s.peek(i + 1)
		case '}':
			return i + 1, nil
		default:
			return i, ErrSyntax
		}
	}
}
