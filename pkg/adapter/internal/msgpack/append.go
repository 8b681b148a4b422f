package msgpack

import (
	"encoding/binary"
	"math"
)

// The first bytes of values, by the names of the specification.
const (
	fixmap = 0x80 + iota*0x10
	fixarray
	fixstr
)

const (
	codeNil = 0xc0 + iota
	codeNever
	codeFalse
	codeTrue
	bin8
	bin16
	bin32
	ext8
	ext16
	ext32
	float32bit
	float64bit
	uint8bit
	uint16bit
	uint32bit
	uint64bit
	int8bit
	int16bit
	int32bit
	int64bit
	fixext1
	fixext2
	fixext4
	fixext8
	fixext16
	str8
	str16
	str32
	array16
	array32
	map16
	map32
	negative // and above: -32 to -1
)

// AppendNil appends nil.
func AppendNil(dst []byte) []byte { return append(dst, codeNil) }

// AppendBool appends a boolean.
func AppendBool(dst []byte, b bool) []byte {
	if b {
		return append(dst, codeTrue)
	}
	return append(dst, codeFalse)
}

// AppendInt appends an integer in its smallest form.
func AppendInt(dst []byte, n int64) []byte {
	switch {
	case n >= 0:
		return AppendUint(dst, uint64(n))
	case n >= -0x20:
		return append(dst, byte(n))
	case n >= math.MinInt8:
		return append(dst, int8bit, byte(n))
	case n >= math.MinInt16:
		return binary.BigEndian.AppendUint16(append(dst, int16bit), uint16(n))
	case n >= math.MinInt32:
		return binary.BigEndian.AppendUint32(append(dst, int32bit), uint32(n))
	default:
		return binary.BigEndian.AppendUint64(append(dst, int64bit), uint64(n))
	}
}

// AppendUint appends an integer in its smallest form.
func AppendUint(dst []byte, n uint64) []byte {
	switch {
	case n < fixmap:
		return append(dst, byte(n))
	case n <= math.MaxUint8:
		return append(dst, uint8bit, byte(n))
	case n <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(dst, uint16bit), uint16(n))
	case n <= math.MaxUint32:
		return binary.BigEndian.AppendUint32(append(dst, uint32bit), uint32(n))
	default:
		return binary.BigEndian.AppendUint64(append(dst, uint64bit), n)
	}
}

// AppendFloat appends a number as JavaScript's encoders do: whole ones as integers, as long as they are in reach of these.
func AppendFloat(dst []byte, f float64) []byte {
	if f == math.Trunc(f) { // which NaN is not
		switch {
		case f > -1<<63 && f < 0: // not the end: its text in JavaScript is of another number
			return AppendInt(dst, int64(f))
		case f >= 0 && f < 1<<64:
			return AppendUint(dst, uint64(f))
		}
	}
	return binary.BigEndian.AppendUint64(append(dst, float64bit), math.Float64bits(f))
}

// AppendString appends a string, which must be valid UTF-8 and shorter than 4 GiB.
func AppendString(dst []byte, s string) []byte { return append(appendStringHeader(dst, len(s)), s...) }

func appendStringHeader(dst []byte, n int) []byte {
	if n < 0x20 {
		return append(dst, fixstr|byte(n))
	}
	return appendLength(dst, n, str8)
}

// AppendBin appends binary of less than 4 GiB.
func AppendBin(dst, b []byte) []byte { return append(appendLength(dst, len(b), bin8), b...) }

// AppendArrayHeader begins an array of n elements: they are appended behind it.
func AppendArrayHeader(dst []byte, n int) []byte { return appendCount(dst, n, fixarray, array16) }

// AppendMapHeader begins a map of n pairs: each is a key and a value appended behind it.
func AppendMapHeader(dst []byte, n int) []byte { return appendCount(dst, n, fixmap, map16) }

func appendCount(dst []byte, n int, fix, code byte) []byte {
	switch {
	case n < 0x10:
		return append(dst, fix|byte(n))
	case n <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(dst, code), uint16(n))
	default:
		return binary.BigEndian.AppendUint32(append(dst, code+1), uint32(n))
	}
}

// appendLength appends the first of three codes, for one, two and four bytes, that n fits.
func appendLength(dst []byte, n int, code byte) []byte {
	switch {
	case n <= math.MaxUint8:
		return append(dst, code, byte(n))
	case n <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(dst, code+1), uint16(n))
	default:
		return binary.BigEndian.AppendUint32(append(dst, code+2), uint32(n))
	}
}
