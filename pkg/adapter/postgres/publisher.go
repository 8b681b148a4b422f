package postgres

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/seed-0b620db0/patchbay/pkg/adapter"
)

// parcel is a message on its way to PostgreSQL.
type parcel struct {
	outgoing
	namespace string
	kind      adapter.Type
	channel   string
	since     time.Time

	canary *session // who sent it, if it is one
}

func (p *parcel) size() int { return len(p.channel) + p.outgoing.size() }

// publisher sends what waits to be published.
type publisher struct {
	// set at construction
	link   *link
	insert string // notifyAttachmentSQL

	// owned by the goroutine that sends
	broken error // why the last batch failed, if PostgreSQL did not answer
	seen   map[notification]int
}

// notification is what PostgreSQL makes one of if it is there twice in a transaction.
type notification struct{ channel, payload string }

// What follows another statement in a transaction.
const (
	notifyNextSQL = `SELECT pg_notify($1::text, $2::text)`
	// notifyManySQL is for many, in this order.
	notifyManySQL = `SELECT set_config('synchronous_commit', 'off', true), count(pg_notify(channel, payload))
FROM unnest($1::text[], $2::text[]) AS notification (channel, payload)`
	// minMany is how many it takes for that to cost PostgreSQL less than one statement for each.
	minMany = 6
)

func newPublisher(l *link) *publisher {
	return &publisher{link: l, seen: map[notification]int{}, insert: notifyAttachmentSQL(l.table, true)}
}

// send publishes a batch.
func (w *publisher) send(batch []*parcel) {
	for len(batch) > 0 {
		n := w.fit(batch)
		w.exchange(batch[:n])
		batch = batch[n:]
	}
}

// fit returns how many of batch go into one transaction, and makes them differ from each other.
func (w *publisher) fit(batch []*parcel) int {
	if len(batch) == 1 {
		return 1
	}
	clear(w.seen)
	for i, p := range batch {
		if p.attachment != nil { // the id makes it different
			continue
		}
		key := notification{p.channel, p.payload}
		n := w.seen[key]
		w.seen[key] = n + 1
		payload := distinct(p.payload, n)
		if len(payload) > maxPayload && n > 0 {
			return i
		}
		p.payload = payload
	}
	return len(batch)
}

// exchange publishes batch in one transaction, and in several if there is something in it that PostgreSQL does not take.
func (w *publisher) exchange(batch []*parcel) {
	if _, up := w.link.hub.Connected(); w.broken != nil && !up { // what is left of a queue should not wait for one time-out after the other
		w.sent(batch, fmt.Errorf("%w: %w", adapter.ErrDown, w.broken))
		return
	}
	err := w.try(batch)
	if half := len(batch) / 2; half > 0 && divisible(batch, err) { // nothing of it was carried out
		w.exchange(batch[:half])
		w.exchange(batch[half:])
		return
	}
	if w.broken = err; answered(err) && !isFatal(err) {
		w.broken = nil
	}
	if err != nil {
		err = fmt.Errorf("postgres: publish: %w", explain(err))
	}
	w.sent(batch, err)
}

// divisible tells whether PostgreSQL may take a part of batch, as err is the fault of one message, or of the table.
func divisible(batch []*parcel, err error) bool {
	if states(err, statesOfData) {
		return true
	}
	if err == nil || !answered(err) || isFatal(err) || states(err, stateTooMuch, statesOfConnection, statesOfObjects, statesOfOperator) {
		return false
	}
	first := batch[0].attachment == nil
	return slices.ContainsFunc(batch, func(p *parcel) bool { return (p.attachment == nil) != first })
}

// maxTries bounds how often a transaction is begun: connections of the pool may have died while nobody used them.
const maxTries = 3

// try does not try again what may have been carried out: a message arrives at most once.
func (w *publisher) try(batch []*parcel) error {
	ctx, cancel := context.WithTimeout(context.Background(), w.link.opts.Timeout)
	defer cancel()
	var err error
	for range maxTries {
		err = w.transact(ctx, batch)
		again := pgconn.SafeToRetry(err) || states(err, stateTooMuch) && w.hasRoom(ctx)
		if err == nil || !again || ctx.Err() != nil {
			break
		}
	}
	return err
}

// hasRoom tells whether PostgreSQL's queue has room after all. What all listeners have read is let go of by who sends, which
// nobody can any more once it is full; but it is also when one asks how full it is.
func (w *publisher) hasRoom(ctx context.Context) bool {
	var usage float64
	err := w.link.pool.QueryRow(ctx, "SELECT pg_notification_queue_usage()").Scan(&usage)
	return err == nil && usage < 1
}

// transact carries out batch: one exchange, which is one transaction.
func (w *publisher) transact(ctx context.Context, batch []*parcel) error {
	var statements pgx.Batch
	for len(batch) > 0 {
		if p := batch[0]; p.attachment != nil {
			statements.Queue(w.insert, p.attachment, p.channel, p.head, p.tail)
			batch = batch[1:]
			continue
		}
		n := slices.IndexFunc(batch, func(p *parcel) bool { return p.attachment != nil })
		if n < 0 {
			n = len(batch)
		}
		queueNotifications(&statements, batch[:n])
		batch = batch[n:]
	}
	if len(statements.QueuedQueries) > 1 {
		return w.link.pool.SendBatch(ctx, &statements).Close()
	}
	only := statements.QueuedQueries[0]
	_, err := w.link.pool.Exec(ctx, only.SQL, only.Arguments...)
	return err
}

func queueNotifications(statements *pgx.Batch, batch []*parcel) {
	if len(batch) < minMany {
		for _, p := range batch {
			sql := notifySQL
			if statements.Len() > 0 {
				sql = notifyNextSQL
			}
			statements.Queue(sql, p.channel, p.payload)
		}
		return
	}
	channels, payloads := make([]string, len(batch)), make([]string, len(batch))
	for i, p := range batch {
		channels[i], payloads[i] = p.channel, p.payload
	}
	statements.Queue(notifyManySQL, channels, payloads)
}

// sent reports what became of a batch.
func (w *publisher) sent(batch []*parcel, err error) {
	cluster, own := &w.link.opts.Cluster.Hooks, &w.link.opts.Hooks
	for _, p := range batch {
		switch {
		case p.canary != nil:
			if err != nil {
				p.canary.mute(err)
			}
			continue
		case err != nil:
			if cluster.PublishFailed != nil {
				cluster.PublishFailed(p.namespace, p.kind, err)
			}
			continue
		}
		if cluster.Published != nil {
			cluster.Published(p.namespace, p.kind, p.size(), time.Since(p.since))
		}
		if p.attachment != nil && own.AttachmentWritten != nil {
			own.AttachmentWritten(p.namespace, len(p.attachment))
		}
	}
}
