//go:build !unix

package eio

import (
	"net"
	"syscall"
)

// rawConn returns nil: here connections are read and written in the usual way.
func rawConn(net.Conn) syscall.RawConn { return nil }

func readNow(uintptr, []byte) (int, bool, error) { panic("eio: no raw connections") }

func writeNow(uintptr, []byte) (int, error) { panic("eio: no raw connections") }
