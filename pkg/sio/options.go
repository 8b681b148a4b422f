package sio

import (
	"cmp"
	"log/slog"
	"time"

	"github.com/seed-0b620db0/patchbay/pkg/eio"
	"github.com/seed-0b620db0/patchbay/pkg/sio/sioproto"
)

// Options configure a [Server]. The zero value of each field stands for its default.
type Options struct {
	// Engine configures the transports. Its Path is "/socket.io" by default.
	Engine eio.Options

	// ConnectTimeout is the time a client has to join a namespace, after which it is closed. Default 45 s.
	ConnectTimeout time.Duration
	// AckTimeout ends the wait for an acknowledgement when the caller set no deadline. Default 30 s.
	AckTimeout time.Duration

	// MaxAttachments bounds the binary attachments of one packet. Default 10.
	MaxAttachments int
	// MaxDepth bounds the nesting of arrays and objects in a packet. Default 256.
	MaxDepth int
	// MaxEvents bounds the events of a socket that wait for their handler. When it is reached, nothing more is read from
	// the client until there is room again. Default 256.
	MaxEvents int
	// MaxPendingAcks bounds the acknowledgements that are awaited from one socket. Default 10,000.
	MaxPendingAcks int
	// MaxNamespaces bounds the namespaces that one connection joins, counting those it has left. Default 100.
	MaxNamespaces int
	// MaxChildNamespaces bounds the namespaces that exist because a client asked for them. Default 10,000.
	MaxChildNamespaces int

	// CleanupEmptyChildNamespaces forgets a namespace made on demand when its last socket leaves.
	CleanupEmptyChildNamespaces bool
	// Recovery turns on connection state recovery. Default nil: off.
	Recovery *RecoveryOptions

	// Parser encodes packets; clients must use the same. Default sioproto.Default.
	Parser sioproto.Parser
	// Adapter makes the adapter of each namespace. Default: this node is alone.
	Adapter NewAdapter

	Hooks  Hooks
	Logger *slog.Logger // also for Engine, unless that has its own. Default slog.DiscardHandler.
}

// RecoveryOptions configure connection state recovery.
type RecoveryOptions struct {
	// MaxDisconnection is the time a client has to come back. Default 2 min.
	MaxDisconnection time.Duration
	// SkipMiddlewares admits a recovered client without asking the namespace's middlewares again.
	SkipMiddlewares bool
	// MaxPackets and MaxBytes bound the packets that a namespace keeps for those who come back; the oldest go first.
	// Default 10,000 and 16 MiB.
	MaxPackets, MaxBytes int
	// MaxSessions bounds the sessions that a namespace keeps; the oldest go first. Default 100,000.
	MaxSessions int
}

func (o *Options) withDefaults() Options {
	var out Options
	if o != nil {
		out = *o
	}
	out.ConnectTimeout = cmp.Or(out.ConnectTimeout, 45*time.Second)
	out.AckTimeout = cmp.Or(out.AckTimeout, 30*time.Second)
	out.MaxAttachments = cmp.Or(out.MaxAttachments, 10)
	out.MaxDepth = cmp.Or(out.MaxDepth, 256)
	out.MaxEvents = cmp.Or(out.MaxEvents, 256)
	out.MaxPendingAcks = cmp.Or(out.MaxPendingAcks, 10_000)
	out.MaxNamespaces = cmp.Or(out.MaxNamespaces, 100)
	out.MaxChildNamespaces = cmp.Or(out.MaxChildNamespaces, 10_000)
	if out.Recovery != nil {
		r := *out.Recovery
		r.MaxDisconnection = cmp.Or(r.MaxDisconnection, 2*time.Minute)
		r.MaxPackets = cmp.Or(r.MaxPackets, 10_000)
		r.MaxBytes = cmp.Or(r.MaxBytes, 16<<20)
		r.MaxSessions = cmp.Or(r.MaxSessions, 100_000)
		out.Recovery = &r
	}
	if out.Parser == nil {
		out.Parser = sioproto.Default
	}
	if out.Logger == nil {
		out.Logger = slog.New(slog.DiscardHandler)
	}
	if out.Engine.Logger == nil {
		out.Engine.Logger = out.Logger
	}
	out.Engine.Path = cmp.Or(out.Engine.Path, "/socket.io")
	out.Engine.PingInterval = cmp.Or(out.Engine.PingInterval, 25*time.Second)
	out.Engine.PingTimeout = cmp.Or(out.Engine.PingTimeout, 20*time.Second)
	if out.Adapter == nil {
		recovery := out.Recovery
		// A client may be gone for as long as a ping takes to fail before we know of it: packets are kept for that much
		// longer than sessions.
		grace := out.Engine.PingInterval + out.Engine.PingTimeout
		out.Adapter = func(l *Local) Adapter { return newMemory(l, recovery, grace) }
	}
	return out
}

func (o *Options) limits() sioproto.Limits {
	return sioproto.Limits{Attachments: o.MaxAttachments, Depth: o.MaxDepth}
}
