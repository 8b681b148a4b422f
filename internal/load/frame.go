package load

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Opcodes of RFC 6455, section 5.2.
const (
	opContinuation = 0
	opText         = 1
	opBinary       = 2
	opClose        = 8
	opPing         = 9
	opPong         = 10
)

// maskKey masks all that is sent. A browser must take unpredictable ones because of what pages could make it send.
const maskKey = 0xa9c4_17e2

const maxHeader = 14

// A frame is built behind room for its header, whose size depends on that of the payload.
func openFrame(dst []byte) []byte { return append(dst, make([]byte, maxHeader)...) }

// closeFrame masks the payload that was appended after openFrame, puts the header in front of it, and returns the frame.
func closeFrame(buf []byte, op byte) []byte {
	payload := buf[maxHeader:]
	mask(payload)
	var start int
	switch n := len(payload); {
	case n < 126:
		start = maxHeader - 6
		buf[start+1] = 0x80 | byte(n)
	case n < 1<<16:
		start = maxHeader - 8
		buf[start+1] = 0x80 | 126
		binary.BigEndian.PutUint16(buf[start+2:], uint16(n))
	default:
		start = 0
		buf[1] = 0x80 | 127
		binary.BigEndian.PutUint64(buf[2:], uint64(n))
	}
	buf[start] = 0x80 | op
	binary.LittleEndian.PutUint32(buf[maxHeader-4:], maskKey)
	return buf[start:]
}

func mask(p []byte) {
	const twice = maskKey<<32 | maskKey
	for len(p) >= 8 {
		binary.LittleEndian.PutUint64(p, binary.LittleEndian.Uint64(p)^twice)
		p = p[8:]
	}
	for i := range p {
		p[i] ^= byte(uint32(maskKey) >> (8 * (i & 3)))
	}
}

var errFrame = errors.New("malformed frame")

// frames cuts what comes from a server into messages and control frames.
type frames struct {
	rest []byte // of a frame that is not complete
	part []byte // of a message that is not complete
	op   byte   // of that message; 0: there is none
}

// feed calls handle for each message and control frame that data completes. The payload is only lent.
func (f *frames) feed(data []byte, handle func(op byte, payload []byte) error) error {
	if len(f.rest) > 0 {
		f.rest = append(f.rest, data...)
		data = f.rest
	}
	all := len(data)
	for {
		fin, op, payload, size, err := parseFrame(data)
		if err != nil {
			return err
		}
		if size == 0 {
			break
		}
		data = data[size:]
		switch {
		case op >= opClose:
			err = handle(op, payload)
		case (op == opContinuation) != (f.op != 0):
			err = errFrame
		case fin && f.op == 0:
			err = handle(op, payload)
		default:
			if len(f.part)+len(payload) > maxMessage {
				return errFrame
			}
			f.op, f.part = max(f.op, op), append(f.part, payload...)
			if fin {
				op, payload = f.op, f.part
				f.op, f.part = 0, nil
				err = handle(op, payload)
			}
		}
		if err != nil {
			return err
		}
	}
	if len(f.rest) == 0 || len(data) < all { // else rest holds it already
		f.rest = append(f.rest[:0], data...)
	}
	return nil
}

// parseFrame returns the first frame of data and its size, which is 0 if there is more to come.
func parseFrame(data []byte) (fin bool, op byte, payload []byte, size int, err error) {
	if len(data) < 2 {
		return false, 0, nil, 0, nil
	}
	if data[0]&0x70 != 0 || data[1]&0x80 != 0 {
		return false, 0, nil, 0, fmt.Errorf("%w: %#x %#x", errFrame, data[0], data[1])
	}
	n, head := uint64(data[1]), 2
	switch n {
	case 126:
		head = 4
	case 127:
		head = 10
	}
	if len(data) < head {
		return false, 0, nil, 0, nil
	}
	switch n {
	case 126:
		n = uint64(binary.BigEndian.Uint16(data[2:]))
	case 127:
		n = binary.BigEndian.Uint64(data[2:])
	}
	if n > maxMessage {
		return false, 0, nil, 0, fmt.Errorf("%w: %d bytes", errFrame, n)
	}
	size = head + int(n)
	if len(data) < size {
		return false, 0, nil, 0, nil
	}
	return data[0]&0x80 != 0, data[0] & 0x0f, data[head:size], size, nil
}
