//go:build unix

package eio

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
)

// rawConn returns the system's side of a connection, or nil if it has none that may be read and written directly.
func rawConn(c net.Conn) syscall.RawConn {
	switch c := c.(type) {
	case *net.TCPConn:
		if raw, err := c.SyscallConn(); err == nil {
			return raw
		}
	case *net.UnixConn:
		if raw, err := c.SyscallConn(); err == nil {
			return raw
		}
	}
	return nil
}

// readNow reads what there is. With again there is nothing yet; without, and no bytes, err tells why.
func readNow(fd uintptr, p []byte) (n int, again bool, err error) {
	for {
		switch n, err = syscall.Read(int(fd), p); {
		case errors.Is(err, syscall.EINTR):
		case errors.Is(err, syscall.EAGAIN):
			return 0, true, nil
		case err != nil:
			return 0, false, &net.OpError{Op: "read", Net: "tcp", Err: os.NewSyscallError("read", err)}
		case n == 0:
			return 0, false, io.EOF
		default:
			return n, false, nil
		}
	}
}

// writeNow writes what fits.
func writeNow(fd uintptr, p []byte) (n int, err error) {
	for n < len(p) {
		m, err := syscall.Write(int(fd), p[n:])
		switch {
		case errors.Is(err, syscall.EINTR):
		case errors.Is(err, syscall.EAGAIN):
			return n, nil
		case err != nil:
			return n, &net.OpError{Op: "write", Net: "tcp", Err: os.NewSyscallError("write", err)}
		default:
			n += m
			if n < len(p) { // it would say so the next time
				return n, nil
			}
		}
	}
	return n, nil
}
