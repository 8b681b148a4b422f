package postgres

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

const (
	// maxMemory bounds the attachments that are remembered as handed over, of a namespace.
	maxMemory = 1 << 14
	// maxRecovered bounds those that are looked for when a bus is open again.
	maxRecovered = 10_000
)

var errTooManyMissed = fmt.Errorf("postgres: more than %d attachments were missed", maxRecovered)

// memory is what is known of a namespace from one bus to the next.
type memory struct {
	mu sync.Mutex
	// guarded by mu
	lost  time.Time // since when attachments may have been missed
	ring  []handed
	next  int    // place in ring, when that is full
	floor handed // what is not remembered any more: all that is not greater
}

// handed is an attachment that was handed over.
type handed struct {
	id int64
	at time.Time
}

// add notes that an attachment was handed over.
func (m *memory) add(id int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	h := handed{id, time.Now()}
	if len(m.ring) < maxMemory {
		m.ring = append(m.ring, h)
		return
	}
	old := m.ring[m.next]
	m.floor = handed{max(m.floor.id, old.id), old.at}
	m.ring[m.next] = h
	m.next = (m.next + 1) % maxMemory
}

// has returns those that were, or may have been, handed over, of those that are not older than window.
func (m *memory) has(window time.Duration) func(id int64) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	ids := make(map[int64]struct{}, len(m.ring))
	for _, h := range m.ring {
		ids[h.id] = struct{}{}
	}
	floor := m.floor
	if time.Since(floor.at) > window {
		floor.id = 0
	}
	return func(id int64) bool {
		_, ok := ids[id]
		return ok || id <= floor.id
	}
}

// loses notes that a bus has heard nothing since a time.
func (m *memory) loses(since time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.lost.IsZero() {
		m.lost = since
	}
}

// since returns what loses was told, until caughtUp.
func (m *memory) since() time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.lost
}

func (m *memory) caughtUp() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lost = time.Time{}
}

// remember returns the memory of a namespace, which is kept until ctx is done.
func (l *link) remember(ctx context.Context, ns string) *memory {
	l.mu.Lock()
	defer l.mu.Unlock()
	m := l.memories[ns]
	if m != nil {
		return m
	}
	m = new(memory)
	l.memories[ns] = m
	context.AfterFunc(ctx, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.memories[ns] == m {
			delete(l.memories, ns)
		}
	})
	return m
}

// catchUp hands over the attachments that were missed while the bus was down.
func (b *bus) catchUp(ctx context.Context) {
	lost := b.memory.since()
	if lost.IsZero() {
		return
	}
	// Rows are as old as the transaction that has written them, which may have begun before.
	window := min(time.Since(lost)+2*b.link.opts.Timeout, b.link.opts.Retention)
	ids, err := b.missed(ctx, window)
	if err != nil && !b.again(ctx) {
		b.dropped(fmt.Errorf("what was missed for %v: %w", time.Since(lost), err))
	}
	ids = slices.DeleteFunc(ids, b.memory.has(window))
	if len(ids) > 0 {
		ids = slices.DeleteFunc(ids, b.coming(ctx))
	}
	for chunk := range slices.Chunk(ids, maxAhead) {
		for i, id := range chunk {
			r := b.row(ctx, id, func() []int64 { return chunk[i+1:] })
			if b.again(ctx) {
				return
			}
			b.recover(id, r)
		}
	}
	if !b.again(ctx) {
		b.memory.caughtUp()
	}
}

// coming returns those of what PostgreSQL has shown by now that are in the inbox. They keep their place among what their senders
// have sent beside them.
func (b *bus) coming(ctx context.Context) func(id int64) bool {
	ctx, cancel := context.WithTimeout(ctx, b.link.opts.Timeout)
	defer cancel()
	b.session.canary.await(ctx) // or not: if the inbox is full, nothing more is heard
	ids := make(map[int64]struct{})
	b.inbox.Each(func(t *letter) {
		if id, ok := b.rowOf(t); ok {
			ids[id] = struct{}{}
		}
	})
	return func(id int64) bool {
		_, ok := ids[id]
		return ok
	}
}

// again tells that the next bus, if there is one, will try to catch up.
func (b *bus) again(ctx context.Context) bool { return ctx.Err() != nil || b.session.Over() }

// missed returns the ids of what may be for this bus, of the last window, in the order in which one sender has written them.
func (b *bus) missed(ctx context.Context, window time.Duration) (ids []int64, err error) {
	sql := "SELECT id FROM " + b.link.table + " WHERE created_at >= now() - make_interval(secs => $1) " +
		"AND position($2::bytea IN payload) > 0 ORDER BY id DESC LIMIT $3"
	err = b.link.persist(ctx, b.session, func(ctx context.Context) error {
		rows, err := b.link.pool.Query(ctx, sql, window.Seconds(), namespaceMark(b.wire.ns), maxRecovered)
		if err != nil {
			return fmt.Errorf("postgres: look for attachments: %w", err)
		}
		defer rows.Close()
		ids = ids[:0]
		for rows.Next() {
			var id int64
			if err := rows.Scan(&id); err != nil {
				return fmt.Errorf("postgres: look for attachments: %w", err)
			}
			ids = append(ids, id)
		}
		if err := rows.Err(); err != nil {
			return fmt.Errorf("postgres: look for attachments: %w", err)
		}
		return nil
	})
	if err == nil && len(ids) == maxRecovered {
		err = errTooManyMissed
	}
	slices.Reverse(ids)
	return ids, err
}

// namespaceMark returns what a message with the namespace in it has as MessagePack. Others may have it too.
func namespaceMark(ns string) []byte {
	b := []byte("\xa3nsp")
	switch n := len(ns); {
	case n < 1<<5:
		b = append(b, 0xa0|byte(n))
	case n < 1<<8:
		b = append(b, 0xd9, byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 0xda), uint16(n))
	default:
		b = binary.BigEndian.AppendUint32(append(b, 0xdb), uint32(n)) //nolint:gosec // no name is that long
	}
	return append(b, ns...)
}

// recover hands over an attachment that catchUp has found.
func (b *bus) recover(id int64, r row) {
	defer b.tookRow(id)
	switch {
	case errors.Is(r.err, errMissed): // it was deleted a moment ago
		return
	case r.err != nil:
		b.dropped(fmt.Errorf("attachment %d: %w", id, r.err))
		return
	}
	m, named, err := b.wire.parseRow(r.payload)
	if err != nil || !named || m.From == b.wire.self { // somebody else's
		return
	}
	b.recovered[id] = struct{}{}
	if hook := b.link.opts.Hooks.Recovered; hook != nil {
		hook(b.ns)
	}
	b.handOverRow(id, m, r)
}
