package postgres

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/seed-0b620db0/patchbay/pkg/adapter"
)

const (
	// maxReading bounds how many namespaces hold attachments that were read, and how many connections of the pool read.
	maxReading = 4
	// maxAhead and maxAheadBytes bound what is read at a time. What is larger is read alone.
	maxAhead      = 64
	maxAheadBytes = 4 << 20
	// minPause and maxPause are those between two attempts to read, and maxPersist bounds how long it is tried, in units of
	// Options.Timeout.
	minPause, maxPause = 50 * time.Millisecond, 250 * time.Millisecond
	maxPersist         = 3
)

var errMissed = errors.New("postgres: the attachment was deleted before it was read")

// row is an attachment, or why it is none.
type row struct {
	payload []byte
	err     error
}

// receiveRow reads an attachment and hands over what it holds.
func (b *bus) receiveRow(ctx context.Context, id int64, behind []letter) {
	if _, twice := b.recovered[id]; twice {
		delete(b.recovered, id)
		b.tookRow(id)
		return
	}
	r := b.row(ctx, id, func() []int64 { return b.wanted(behind) })
	defer b.tookRow(id)
	if ctx.Err() != nil {
		return
	}
	var m *adapter.Message
	if r.err == nil {
		m, _, r.err = b.wire.parseRow(r.payload)
	}
	hooks := &b.link.opts.Hooks
	if errors.Is(r.err, errMissed) && hooks.AttachmentMissed != nil {
		hooks.AttachmentMissed(b.ns)
	}
	switch {
	case r.err != nil:
		b.dropped(fmt.Errorf("attachment %d: %w", id, r.err))
	case m.From != b.wire.self:
		b.handOverRow(id, m, r)
	}
}

func (b *bus) handOverRow(id int64, m *adapter.Message, r row) {
	b.memory.add(id)
	if hook := b.link.opts.Hooks.AttachmentRead; hook != nil {
		hook(b.ns, len(r.payload))
	}
	b.handOver(m, len(r.payload))
}

// wanted returns the ids of letters that wait.
func (b *bus) wanted(letters []letter) (ids []int64) {
	for i := range letters {
		t := &letters[i]
		if len(ids) == maxAhead-1 {
			break
		}
		if id, ok := b.rowOf(t); ok {
			ids = append(ids, id)
		}
	}
	return ids
}

// rowOf returns which attachment a letter tells of, if it does.
func (b *bus) rowOf(t *letter) (id int64, ok bool) {
	if !strings.Contains(t.payload, `"attachmentId"`) {
		return 0, false
	}
	b.open(t)
	return t.in.id, t.err == nil && !t.in.own && t.in.message == nil
}

// row returns an attachment. If it was not read yet, it is read now, with others. It waits until others have done with theirs.
func (b *bus) row(ctx context.Context, id int64, others func() []int64) row {
	if r, ok := b.rows[id]; ok {
		return r
	}
	if !b.token {
		select {
		case b.link.reading <- struct{}{}:
			b.token = true
		case <-ctx.Done():
			return row{err: context.Cause(ctx)}
		}
	}
	if b.broken != nil && b.session.Over() { // what is left should not wait for one time-out after the other
		return row{err: b.broken}
	}
	ids := append([]int64{id}, others()...)
	b.broken = b.link.persist(ctx, b.session, func(ctx context.Context) error {
		rows, err := b.link.read(ctx, ids)
		maps.Copy(b.rows, rows)
		return err
	})
	if b.broken != nil {
		return row{err: b.broken}
	}
	return b.rows[id]
}

// tookRow forgets an attachment; with the last one others may read.
func (b *bus) tookRow(id int64) {
	delete(b.rows, id)
	if len(b.rows) == 0 {
		b.endReading()
	}
}

func (b *bus) endReading() {
	clear(b.rows)
	if b.token {
		b.token = false
		<-b.link.reading
	}
}

// persist calls f, and again for a while if PostgreSQL does not answer. It takes less time when the session has failed, and
// its end is to be told.
func (l *link) persist(ctx context.Context, s *session, f func(ctx context.Context) error) error {
	begin := time.Now()
	for pause := minPause; ; pause = min(2*pause, maxPause) {
		exchange, cancel := context.WithTimeout(ctx, l.opts.Timeout)
		err := f(exchange)
		cancel()
		limit := maxPersist * l.opts.Timeout
		if s.Over() {
			limit = l.opts.Timeout
		}
		if err == nil || !passing(err) || time.Since(begin)+pause > limit {
			return err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return err
		}
	}
}

// read reads attachments: the first, and of the others, in this order, what is not too many bytes.
func (l *link) read(ctx context.Context, ids []int64) (map[int64]row, error) {
	found, err := l.pool.Query(ctx, `SELECT id, bytes, CASE WHEN bytes <= $2::bigint AND before <= $3::bigint THEN payload END
		FROM (SELECT id, payload, octet_length(payload)::bigint AS bytes,
			coalesce(sum(octet_length(payload)) OVER (ORDER BY array_position($1::bigint[], id)
				ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS before
			FROM `+l.table+` WHERE id = ANY($1::bigint[])) AS attachments`,
		ids, l.opts.MaxMessageBytes, maxAheadBytes)
	if err != nil {
		return nil, fmt.Errorf("postgres: read attachments: %w", err)
	}
	defer found.Close()
	rows := make(map[int64]row, len(ids))
	for _, id := range ids {
		rows[id] = row{err: errMissed}
	}
	for found.Next() {
		var (
			id    int64
			bytes *int64 // NULL if the payload is
			r     row
		)
		if err := found.Scan(&id, &bytes, &r.payload); err != nil {
			return nil, fmt.Errorf("postgres: read attachments: %w", err)
		}
		switch {
		case bytes == nil:
			r.err = errMissed
		case *bytes > int64(l.opts.MaxMessageBytes):
			r.err = fmt.Errorf("%w to be read: %d bytes", errTooLong, *bytes)
		case r.payload == nil: // its turn comes
			delete(rows, id)
			continue
		}
		rows[id] = r
	}
	if err := found.Err(); err != nil {
		return nil, fmt.Errorf("postgres: read attachments: %w", err)
	}
	return rows, nil
}
