package sio

// Hooks observe a server, for metrics and logs. Each may be nil. They are called without locks, from many goroutines at
// once, and must not block.
type Hooks struct {
	// Connected is called when a socket has joined its namespace, Disconnected when it has left.
	Connected    func(*Socket)
	Disconnected func(s *Socket, reason Reason)
	// Refused is called when a client was answered with a CONNECT_ERROR.
	Refused func(namespace string, err error)
	// Received is called for each event of a client, before its handlers.
	Received func(s *Socket, event string)
	// Sent is called for each event that was sent, with the number of sockets of this node that it went to.
	Sent func(ns *Namespace, event string, sockets int)
	// Acked is called for each acknowledgement of a client that somebody waited for; AckTimedOut for each that did not come.
	Acked, AckTimedOut func(ns *Namespace)
	// HandlerError is called with the error that a handler returned, or the [*PanicError] that it ended with. event is
	// empty for OnConnect and the like.
	HandlerError func(s *Socket, event string, err error)
	// ProtocolError is called when a connection is closed because of what the client sent.
	ProtocolError func(err error)
	// Recovery is called for each client that asked for its former session.
	Recovery func(ns *Namespace, recovered bool)
	// NamespaceOpened and NamespaceClosed are called as namespaces come and go ("new_namespace").
	NamespaceOpened, NamespaceClosed func(*Namespace)
}
