package eio

import (
	"net"

	"github.com/seed-0b620db0/patchbay/internal/crew"
)

// watchedTask is who reads a connection that a [watcher] looks after.
type watchedTask interface {
	// Glance is called by the watcher itself when there is something to read, and must not wait for anything. It tells
	// whether Run has to be called.
	Glance() bool
	crew.Task
}

// watchedConn is a connection that a [watcher] looks after: nobody has to wait in it while the client is silent, so an idle
// client costs no goroutine. One reads and one writes at a time, as frameConn sees to; the rest may be called at any time.
type watchedConn interface {
	net.Conn

	// readNow reads what there is. With again there is nothing yet; without, and no bytes, err tells why.
	readNow(p []byte) (n int, again bool, err error)
	// writeNow writes what fits.
	writeNow(p []byte) (n int, err error)
	// awaitRead returns when readNow is worth trying.
	awaitRead() error
	// park has the task glance once when there is something to read, and run if it wants to or the connection is closed. It
	// refuses if that may be so already, which readNow tells.
	park() bool
	// unpark has the task run at once if the connection is parked.
	unpark()
}

// watch hands conn over to the server's watcher, which then calls task as told by park. It returns nil where that cannot be:
// the connection is no socket of the system (TLS, or a test's), or the system has no such thing.
func (srv *Server) watch(conn net.Conn, task watchedTask) watchedConn {
	if !watchable(conn) {
		return nil
	}
	srv.mu.Lock()
	if srv.watcher == nil && !srv.closed && !srv.unwatched {
		srv.watcher = newWatcher(&srv.crew)
	}
	w := srv.watcher
	srv.mu.Unlock()
	if w == nil {
		return nil
	}
	return w.add(conn, task)
}

// closeWatcher ends the watcher, when there are no connections any more.
func (srv *Server) closeWatcher() {
	srv.mu.Lock()
	w := srv.watcher
	srv.mu.Unlock()
	if w != nil {
		w.close()
	}
}
