package rawjson

import (
	"unicode/utf16"
	"unicode/utf8"
)

const hexDigits = "0123456789abcdef"

func hex4(src []byte, i int) (r rune, ok bool) {
	if i+4 > len(src) {
		return 0, false
	}
	for _, c := range src[i : i+4] {
		r <<= 4
		switch {
		case c-'0' <= 9:
			r |= rune(c - '0')
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			r |= rune(c|0x20-'a') + 10
		default:
			return 0, false
		}
	}
	return r, true
}

// AppendUnquoted appends what src stands for, the inside of a string that [String] has passed. Half a surrogate pair, and
// what is not UTF-8, becomes U+FFFD.
func AppendUnquoted(dst, src []byte) []byte {
	for {
		n := Plain(src)
		dst = AppendUTF8(dst, src[:n])
		if src = src[n:]; len(src) < 2 {
			return dst
		}
		c := src[1]
		src = src[2:]
		switch c {
		case 'b':
			c = '\b'
		case 'f':
			c = '\f'
		case 'n':
			c = '\n'
		case 'r':
			c = '\r'
		case 't':
			c = '\t'
		case 'u':
			r, _ := hex4(src, 0)
			src = src[min(4, len(src)):]
			if utf16.IsSurrogate(r) {
				low := rune(0)
				if len(src) >= 6 && src[0] == '\\' && src[1] == 'u' {
					low, _ = hex4(src, 2)
				}
				if r = utf16.DecodeRune(r, low); r != utf8.RuneError {
					src = src[6:]
				}
			}
			dst = utf8.AppendRune(dst, r)
			continue
		}
		dst = append(dst, c)
	}
}

// AppendQuoted appends s as JSON.stringify writes it; what is not UTF-8 becomes U+FFFD.
func AppendQuoted(dst, s []byte) []byte {
	dst = append(dst, '"')
	if !utf8.Valid(s) {
		s = AppendUTF8(nil, s)
	}
	for {
		n := Plain(s)
		dst = append(dst, s[:n]...)
		if n == len(s) {
			return append(dst, '"')
		}
		switch c := s[n]; c {
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
		s = s[n+1:]
	}
}

// AppendUTF8 appends s with what is not UTF-8 replaced as JavaScript's TextDecoder does: each longest start of a character
// by one U+FFFD.
func AppendUTF8(dst, s []byte) []byte {
	for !utf8.Valid(s) {
		start := 0
		for {
			r, n := utf8.DecodeRune(s[start:])
			if r == utf8.RuneError && n == 1 {
				break
			}
			start += n
		}
		dst = append(dst, s[:start]...)
		dst = append(dst, "\ufffd"...)
		s = s[start+broken(s[start:]):]
	}
	return append(dst, s...)
}

// broken returns the length of the longest start of a character at the start of s, which has no whole one there.
func broken(s []byte) int {
	low, high, size := byte(0x80), byte(0xbf), 0
	switch c := s[0]; {
	case c >= 0xc2 && c <= 0xdf:
		size = 2
	case c >= 0xe0 && c <= 0xef:
		size = 3
		switch c {
		case 0xe0:
			low = 0xa0 // below: overlong
		case 0xed:
			high = 0x9f // above: surrogates
		}
	case c >= 0xf0 && c <= 0xf4:
		size = 4
		switch c {
		case 0xf0:
			low = 0x90
		case 0xf4:
			high = 0x8f // above: beyond Unicode
		}
	}
	n := 1
	for ; n < size && n < len(s) && s[n] >= low && s[n] <= high; n++ {
		low, high = 0x80, 0xbf
	}
	return n
}

// Text returns b as a string, with what is not UTF-8 replaced.
func Text(b []byte) string {
	if !utf8.Valid(b) {
		b = AppendUTF8(nil, b)
	}
	return string(b)
}
