package eio

// Snapshot returns the sessions of a server.
func (srv *Server) Snapshot() []*Session { return srv.snapshot() }
