package eio

import (
	"net"

	"github.com/seed-0b620db0/patchbay/internal/crew"
)

// Watch gives conn to the server's watcher.
func (srv *Server) Watch(conn net.Conn) net.Conn {
	if w := srv.watch(conn, crew.Func(func() {})); w != nil {
		return w
	}
	return nil
}
