package postgres

import (
	"cmp"
	"context"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/seed-0b620db0/patchbay/pkg/adapter"
)

// Execer runs a statement: a [*pgxpool.Pool], a [*pgx.Conn], a [pgx.Tx].
type Execer interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
}

// EmitterOptions configure [NewEmitter]. The zero value of each field stands for its default; all but the last are as the
// servers have them.
type EmitterOptions struct {
	// ChannelPrefix begins the names of all channels. At most 39 bytes. Default "socket.io".
	ChannelPrefix string
	// Table is where messages go that are too long for NOTIFY, or binary. It must exist. Default "socket_io_attachments".
	Table string
	// Schema is that of the table. By default the search_path of the connection says where it is.
	Schema string
	// PayloadThreshold is how many bytes make a message too long for NOTIFY. Default and maximum 8000.
	PayloadThreshold int
	// MaxMessageBytes bounds a message. Larger ones are refused. Default 32 MiB, as servers do not read more.
	MaxMessageBytes int
}

// NewEmitter returns an emitter to servers with the adapter of [New], or the official one from 0.4 on: that does not hear
// @socket.io/postgres-emitter 0.1, which leaves out the namespace.
//
// In a transaction, that of a [pgx.Tx] or one that a [*pgx.Conn] is in, what is emitted is sent when that commits, and not if
// it does not:
//
//	err := pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
//		if _, err := tx.Exec(ctx, "INSERT INTO orders (shop, id) VALUES ($1, $2)", shop, id); err != nil {
//			return err
//		}
//		return postgres.NewEmitter(tx, nil).To(shop).Emit(ctx, "order", id)
//	})
//
// An emission that fails makes the transaction fail, as any statement does. What goes through the table is deleted when it is
// older than the servers' Retention, and so lost if the transaction lasts longer than that after it.
//
// Any number of goroutines may use an emitter that has a pool; else as many as may use db.
func NewEmitter(db Execer, opts *EmitterOptions) adapter.Emitter {
	var o EmitterOptions
	if opts != nil {
		o = *opts
	}
	e := &emitter{
		db: db, prefix: cmp.Or(o.ChannelPrefix, defaultPrefix), threshold: payloadThreshold(o.PayloadThreshold),
		maxBytes: cmp.Or(o.MaxMessageBytes, 32<<20), notify: notifySQL,
	}
	_, own := db.(*pgxpool.Pool)
	e.notifyAttachment = notifyAttachmentSQL(quotedTable(o.Schema, cmp.Or(o.Table, defaultTable)), own)
	if !own { // it may be in a transaction that has sent the same
		e.notify = notifyNumberedSQL
		e.threshold = min(e.threshold, maxPayload+1-maxNumber)
	}
	return adapter.NewEmitter(e.send)
}

type emitter struct {
	db                       Execer
	prefix                   string
	threshold, maxBytes      int
	notify, notifyAttachment string // SQL
}

func (e *emitter) send(ctx context.Context, m *adapter.Message, ns string) error {
	if err := checkPrefix(e.prefix); err != nil {
		return err
	}
	w := newWire(e.prefix, ns, adapter.EmitterID, e.threshold)
	out, err := w.encode(m)
	if err != nil {
		return err
	}
	if n := out.size(); n > e.maxBytes {
		return fmt.Errorf("%w to be published: %d bytes", errTooLong, n)
	}
	if out.attachment != nil {
		_, err = e.db.Exec(ctx, e.notifyAttachment, out.attachment, w.channel, out.head, out.tail)
	} else {
		_, err = e.db.Exec(ctx, e.notify, w.channel, out.payload)
	}
	if err != nil {
		return fmt.Errorf("postgres: emit: %w", explain(err))
	}
	return nil
}
