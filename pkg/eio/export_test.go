package eio

// Snapshot returns the sessions of a server.
func (srv *Server) Snapshot() []*Session { return srv.snapshot() }

// Unwatch makes each WebSocket have a goroutine that waits. It is for before the first.
func (srv *Server) Unwatch() { srv.unwatched = true }

// Departed returns how many sessions are remembered that were sent away.
func (srv *Server) Departed() int {
	srv.mu.Lock()
	defer srv.mu.Unlock()
	return len(srv.departed.at)
}
