package redis

import (
	"cmp"
	"context"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/seed-0b620db0/patchbay/pkg/adapter"
	"github.com/seed-0b620db0/patchbay/pkg/sio"
)

// Options configure the adapters of this package. The zero value of each field stands for its default.
type Options struct {
	// Cluster is what they have in common with all others.
	Cluster adapter.Options
	// Key begins the names of all channels. It is the same for all nodes and emitters. Default "socket.io".
	Key string
	// SpecificResponseChannel makes this node answer on a channel that only who asked listens to, rather than on one that
	// all do ("publishOnSpecificResponseChannel"). Nodes may differ in it; official ones older than 7.1 do not listen.
	SpecificResponseChannel bool
	// Timeout bounds one exchange with Redis: dialling, subscribing, sending a batch, counting. The client's own bounds
	// hold if they are shorter. Default 3 s.
	Timeout time.Duration
	// MaxQueueBytes bounds what waits to be published. When that is full, publishing waits: see
	// [adapter.Options.PublishTimeout]. Default 16 MiB.
	MaxQueueBytes int
	// MaxInboxBytes bounds what was received and not worked on yet. When that is full, nothing more is read; Redis keeps it
	// for us or, if it is too much, cuts us off. Default 16 MiB.
	MaxInboxBytes int
	// MaxMessageBytes bounds a message. Larger ones are neither published nor read. Default 32 MiB: with its own defaults
	// Redis cuts off whoever is to receive more at once.
	MaxMessageBytes int
	// CanaryInterval is how often the node sends itself a message; when none has come for CanaryTimeout, it subscribes
	// anew. Defaults 5 s and 15 s.
	CanaryInterval, CanaryTimeout time.Duration
}

func (o *Options) withDefaults() Options {
	var out Options
	if o != nil {
		out = *o
	}
	out.Cluster = out.Cluster.WithDefaults()
	out.Key = cmp.Or(out.Key, "socket.io")
	out.Timeout = cmp.Or(out.Timeout, 3*time.Second)
	out.MaxQueueBytes = cmp.Or(out.MaxQueueBytes, 16<<20)
	out.MaxInboxBytes = cmp.Or(out.MaxInboxBytes, 16<<20)
	out.MaxMessageBytes = cmp.Or(out.MaxMessageBytes, 32<<20)
	out.CanaryInterval = cmp.Or(out.CanaryInterval, 5*time.Second)
	out.CanaryTimeout = cmp.Or(out.CanaryTimeout, 15*time.Second)
	return out
}

// New returns the adapter for one [sio.Server] over the plain pub/sub of Redis 6 or newer. The caller closes rdb, after the
// server.
func New(rdb goredis.UniversalClient, opts *Options) sio.NewAdapter {
	l := newLink(rdb, opts.withDefaults())
	return adapter.Cluster(func(ctx context.Context, local *sio.Local, self adapter.NodeID) (adapter.Bus, error) {
		return openClassic(ctx, l, local, self)
	}, &l.opts.Cluster)
}
