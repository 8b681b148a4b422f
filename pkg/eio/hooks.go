package eio

import (
	"net/http"
	"time"
)

// Hooks observe a server, for metrics and logs. Each may be nil. They are called without locks, from many goroutines at
// once, and must not block.
type Hooks struct {
	// Opened is called once a session, before its first message.
	Opened func(*Session)
	// Closed is called once a session that was opened, before Handler.Closed. err may be nil.
	Closed func(s *Session, reason CloseReason, err error)
	// Refused is called for each request that was answered with an error of the protocol.
	Refused func(*http.Request, *ConnectionError)
	// Upgraded is called when a session moved to another transport; took is the time since its probe began.
	Upgraded func(s *Session, took time.Duration)
	// UpgradeFailed is called when a probe ended without an upgrade; the session goes on as it was.
	UpgradeFailed func(s *Session, err error)
	// Received is called for each message packet that came in, with the bytes of its data.
	Received func(t Transport, bytes int)
	// Sent is called for each write, with the messages in it and the bytes on the wire before compression.
	Sent func(t Transport, messages, bytes int)
	// Queued is called with the change of the bytes that wait for clients, as positive and negative numbers.
	Queued func(delta int)
	// Behind is called when a client does not keep up: more than a quarter of [Options.MaxQueueBytes] waits for it. CaughtUp
	// is called when no more than an eighth is left, or the session has ended, with the time that it took. The two may be
	// called at the same time, in any order.
	Behind   func(*Session)
	CaughtUp func(s *Session, took time.Duration)
	// Dropped is called for each volatile message that was not sent because the client was not ready for it.
	Dropped func(*Session)
}
