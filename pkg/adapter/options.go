package adapter

import (
	"cmp"
	"log/slog"
	"time"
)

// Options configure a cluster. The zero value of each field stands for its default.
type Options struct {
	// Node begins the [NodeID] of this node, so that errors and logs tell nodes apart by a name. Default: none.
	Node string
	// RequestTimeout bounds the wait for other nodes when the caller's context has no deadline. Default 5 s, as in the
	// official adapters.
	RequestTimeout time.Duration
	// PublishTimeout bounds how long an emission waits for room in a bus that does not keep up. Default 1 s.
	PublishTimeout time.Duration
	// AckTimeout is how long clients of this node are waited for on behalf of another node that does not say. Default 30 s.
	AckTimeout time.Duration
	// HeartbeatInterval and HeartbeatTimeout are for buses that are no [Census]: how often a node says that it lives, and
	// after which silence it is forgotten. Defaults 5 s and 10 s.
	HeartbeatInterval, HeartbeatTimeout time.Duration
	// MaxRequests bounds the requests of other nodes that are worked on at a time in a namespace; more are dropped. All
	// server events of one node count as one. Default 256.
	MaxRequests int
	// MaxBackoff bounds the pause before a lost bus is opened again. The first is 50 ms; they double, with jitter.
	// Default 1 s.
	MaxBackoff time.Duration

	Hooks  Hooks
	Logger *slog.Logger // Default slog.DiscardHandler.
}

// Hooks observe a cluster, for metrics and health. Each may be nil. They are called without locks, from many goroutines at
// once, and must not block.
type Hooks struct {
	// State is called when the bus of a namespace is up (nil), and with the reason when it is not, at first as well; it may be
	// called again when more is known of that.
	State func(namespace string, err error)
	// Closed is called when the namespace is gone.
	Closed func(namespace string)
	// Published is called by the bus for each message that it has sent, with its size in bytes and the time that this took.
	Published func(namespace string, t Type, bytes int, d time.Duration)
	// PublishFailed is called for each message that other nodes do not get: by the bus, unless Publish returned the error.
	PublishFailed func(namespace string, t Type, err error)
	// Received is called by the bus for each message of another node.
	Received func(namespace string, t Type, bytes int)
	// Dropped is called for each message that was received and not used: it was malformed, or not expected, or there were
	// too many.
	Dropped func(namespace string, err error)
	// Request is called when a request to other nodes has ended; err matches a [*PartialError] if some did not answer.
	Request func(namespace string, t Type, d time.Duration, err error)
	// Lag is called by the bus with the time from publishing a canary to hearing it.
	Lag func(d time.Duration)
	// Nodes is called with the number of nodes known in a namespace, this one included, when it has changed.
	Nodes func(namespace string, n int)
}

// WithDefaults returns o, which may be nil, with its defaults.
func (o *Options) WithDefaults() Options {
	var out Options
	if o != nil {
		out = *o
	}
	out.RequestTimeout = cmp.Or(out.RequestTimeout, 5*time.Second)
	out.PublishTimeout = cmp.Or(out.PublishTimeout, time.Second)
	out.AckTimeout = cmp.Or(out.AckTimeout, 30*time.Second)
	out.HeartbeatInterval = cmp.Or(out.HeartbeatInterval, 5*time.Second)
	out.HeartbeatTimeout = cmp.Or(out.HeartbeatTimeout, 10*time.Second)
	out.MaxRequests = cmp.Or(out.MaxRequests, 256)
	out.MaxBackoff = cmp.Or(out.MaxBackoff, time.Second)
	if out.Logger == nil {
		out.Logger = slog.New(slog.DiscardHandler)
	}
	return out
}
