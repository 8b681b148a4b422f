package sio

// Users returns how many sockets are joining or joined.
func Users(ns *Namespace) int {
	ns.srv.mu.Lock()
	defer ns.srv.mu.Unlock()
	return ns.users
}

// Rooms returns the rooms in the index.
func Rooms(ns *Namespace) []string { return ns.index.rooms() }

// PendingAcks returns how many acknowledgements are awaited from s.
func PendingAcks(s *Socket) int {
	s.acks.mu.Lock()
	defer s.acks.mu.Unlock()
	return len(s.acks.wait)
}

// MadeNamespaces returns how many namespaces there are that clients asked for.
func MadeNamespaces(srv *Server) int {
	srv.mu.Lock()
	defer srv.mu.Unlock()
	return srv.made
}

// Entries returns how many namespaces the connection of s remembers.
func Entries(s *Socket) int {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	return len(s.conn.entries)
}

// RecoveryState returns what the memory adapter of ns keeps.
func RecoveryState(ns *Namespace) (live, sessions, packets, bytes int) {
	r, ok := ns.adapter.(*recovery)
	if !ok {
		panic("no recovery")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.sessions) != r.order.Len() {
		panic("sessions and their order differ")
	}
	return len(r.live), len(r.sessions), len(r.log), r.bytes
}
