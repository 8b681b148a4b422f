package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/seed-0b620db0/patchbay/pkg/adapter"
	"github.com/seed-0b620db0/patchbay/pkg/sio"
)

var errTableName = errors.New("postgres: name of a table or schema is not UTF-8 of at most 63 bytes")

// Options configure the adapter. The zero value of each field stands for its default.
type Options struct {
	// Cluster is what it has in common with all others.
	Cluster adapter.Options
	// ChannelPrefix begins the names of all channels. It is the same for all nodes and emitters. Default "socket.io"; at most
	// 39 bytes.
	ChannelPrefix string
	// Table is where messages go that NOTIFY does not take, and Schema where the table is. It is created if it is missing.
	// Defaults "socket_io_attachments", and what the search_path says. Names are quoted, which official servers do not do: to
	// them "Chat" is "chat".
	Table, Schema string
	// PayloadThreshold is how many bytes a message must have to go through the table. Default and maximum 8000.
	PayloadThreshold int
	// Retention is how long messages stay in the table. Default 60 s, and no less than it takes to notice that a node is
	// deaf and to open its bus again: CanaryTimeout and four times Timeout.
	Retention time.Duration
	// CleanupInterval is how often older ones are deleted, by one of the nodes at a time. Default 30 s; negative: this node
	// deletes none.
	CleanupInterval time.Duration
	// Listen is where to listen, if it is not where the pool connects to: a pooler in transaction mode does not do. Default:
	// as the pool, with its BeforeConnect.
	Listen *pgx.ConnConfig
	// Timeout bounds one exchange with PostgreSQL: connecting, sending a batch, reading attachments. The pool's own bounds
	// hold if they are shorter. A pool with several hosts should have a connect_timeout that leaves time for the second.
	// Default 3 s.
	Timeout time.Duration
	// MaxQueueBytes bounds what waits to be published. When that is full, publishing waits: see
	// [adapter.Options.PublishTimeout]. Default 16 MiB.
	MaxQueueBytes int
	// MaxInboxBytes bounds what was received and not worked on yet. When that is full, nothing more is read, and PostgreSQL
	// keeps it for all its listeners. Default 16 MiB.
	MaxInboxBytes int
	// MaxMessageBytes bounds a message. Larger ones are neither published nor read. Default 32 MiB.
	MaxMessageBytes int
	// CanaryInterval is how often the node sends itself a message; when none has come for CanaryTimeout, it listens anew.
	// Defaults 5 s and 15 s.
	CanaryInterval, CanaryTimeout time.Duration

	Hooks Hooks
}

// Hooks observe what only this bus has. Each may be nil. They are called without locks, from many goroutines at once, and
// must not block.
type Hooks struct {
	// AttachmentWritten and AttachmentRead are called for each message that went through the table, with its size there.
	AttachmentWritten, AttachmentRead func(namespace string, bytes int)
	// AttachmentMissed is called for each message that was deleted before this node has read it, beside
	// [adapter.Hooks.Dropped].
	AttachmentMissed func(namespace string)
	// Recovered is called for each message that was found in the table after the node was deaf.
	Recovered func(namespace string)
	// Gap is called when the node hears again, with the time for which it was deaf: messages that were not in the table are
	// lost to it.
	Gap func(d time.Duration)
	// QueueUsage is called about every CanaryInterval with how full PostgreSQL's queue of notifications is, from 0 to 1.
	QueueUsage func(fraction float64)
	// Cleaned is called when this node has deleted old attachments.
	Cleaned func(rows int64)
}

func (o *Options) withDefaults() Options {
	var out Options
	if o != nil {
		out = *o
	}
	out.Cluster = out.Cluster.WithDefaults()
	out.ChannelPrefix = cmp.Or(out.ChannelPrefix, defaultPrefix)
	out.Table = cmp.Or(out.Table, defaultTable)
	out.PayloadThreshold = payloadThreshold(out.PayloadThreshold)
	out.Timeout = cmp.Or(out.Timeout, 3*time.Second)
	out.MaxQueueBytes = cmp.Or(out.MaxQueueBytes, 16<<20)
	out.MaxInboxBytes = cmp.Or(out.MaxInboxBytes, 16<<20)
	out.MaxMessageBytes = cmp.Or(out.MaxMessageBytes, 32<<20)
	out.CanaryInterval = cmp.Or(out.CanaryInterval, 5*time.Second)
	out.CanaryTimeout = cmp.Or(out.CanaryTimeout, 15*time.Second)
	out.Retention = max(cmp.Or(out.Retention, time.Minute), out.CanaryTimeout+4*out.Timeout)
	out.CleanupInterval = cmp.Or(out.CleanupInterval, 30*time.Second)
	return out
}

// check returns what is wrong with names that do not come from clients.
func (o *Options) check() error {
	if err := checkPrefix(o.ChannelPrefix); err != nil {
		return err
	}
	for _, name := range []string{o.Table, o.Schema} {
		if len(name) > maxChannelBytes || !isName(name) {
			return fmt.Errorf("%w: %.100q", errTableName, name)
		}
	}
	return nil
}

func isName(s string) bool { return utf8.ValidString(s) && strings.IndexByte(s, 0) < 0 }

// New returns the adapter for one [sio.Server]. The caller closes pool, after the server.
func New(pool *pgxpool.Pool, opts *Options) sio.NewAdapter {
	l := newLink(pool, opts.withDefaults())
	return adapter.Cluster(func(ctx context.Context, local *sio.Local, self adapter.NodeID) (adapter.Bus, error) {
		return openBus(ctx, l, local.Namespace(), self)
	}, &l.opts.Cluster)
}
