//go:build !linux

package load

import (
	"net"
	"syscall"
)

// loops exist on Linux only.
type loops struct{}

func (*loops) start(int) error { return nil }

func (*loops) stop() {}

func (g *Generator) read(w *websocket, conn net.Conn) error { return g.readStream(w, conn) }

func bindLate(_, _ string, _ syscall.RawConn) error { return nil }
