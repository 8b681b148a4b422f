//go:build !linux

package eio

import (
	"net"

	"github.com/seed-0b620db0/patchbay/internal/crew"
)

// watcher is not available here: each connection has a goroutine that waits.
type watcher struct{}

func watchable(net.Conn) bool { return false }

func newWatcher(*crew.Crew) *watcher { return nil }

func (*watcher) add(net.Conn, watchedTask) watchedConn { return nil }

func (*watcher) close() {}
