package eio

// Snapshot returns the sessions of a server.
func (srv *Server) Snapshot() []*Session { return srv.snapshot() }

// Unwatch makes each WebSocket have a goroutine that waits. It is for before the first.
func (srv *Server) Unwatch() { srv.unwatched = true }
