package postgres

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
)

var (
	errNoTable   = errors.New("postgres: there is no table for attachments")
	errForbidden = errors.New("postgres: permission denied")
)

// prepare sees to it that there is a table, and that this node may use it.
func (l *link) prepare(ctx context.Context) error {
	exists, err := l.checkTable(ctx)
	if err != nil || exists {
		return err
	}
	create := "CREATE TABLE IF NOT EXISTS " + l.table + " (id bigserial UNIQUE, created_at timestamptz DEFAULT NOW(), payload bytea)"
	err = pgx.BeginFunc(ctx, l.pool, func(tx pgx.Tx) error {
		// IF NOT EXISTS does not keep two from creating it at a time, of which one fails.
		if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock($1)", l.key("create")); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, create)
		return err
	})
	switch {
	case err == nil:
	case states(err, statePermission):
		return fmt.Errorf("%w, and this user may not create it: run %q and grant INSERT, SELECT and DELETE: %w", errNoTable, create, err)
	case answered(err):
		return fmt.Errorf("postgres: create table: %w", err)
	default:
		return fmt.Errorf("postgres: connect: %w", err)
	}
	_, err = l.checkTable(ctx)
	return err
}

// checkTable tells whether there is a table; not to have the permissions for it is an error.
func (l *link) checkTable(ctx context.Context) (exists bool, err error) {
	var insert, read, sequence bool
	err = l.pool.QueryRow(ctx, `SELECT oid IS NOT NULL, coalesce(has_table_privilege(oid, 'INSERT'), true),
		coalesce(has_table_privilege(oid, 'SELECT'), true),
		oid IS NULL OR coalesce(has_sequence_privilege(pg_get_serial_sequence($1, 'id'), 'USAGE'), true)
		FROM (SELECT to_regclass($1)::oid AS oid) AS attachments`, l.table).Scan(&exists, &insert, &read, &sequence)
	if err != nil {
		return false, fmt.Errorf("postgres: look for table %s: %w", l.table, err)
	}
	if !insert || !read || !sequence {
		return exists, fmt.Errorf("%w: table %s needs INSERT, SELECT and DELETE, and USAGE of its sequence", errForbidden, l.table)
	}
	return exists, nil
}

// key returns what stands for the table in advisory locks.
func (l *link) key(purpose string) int64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte("patchbay " + purpose + " " + l.table)) // never fails
	return int64(h.Sum64())                                       //nolint:gosec // any number does
}

// maxDeleted bounds what one statement deletes, so that it does not take too long.
const maxDeleted = 1000

// clean deletes old attachments, again and again until ctx is done.
func (l *link) clean(ctx context.Context) {
	every := l.opts.CleanupInterval
	if every < 0 {
		return
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	<-timer.C
	for {
		timer.Reset(every/2 + rand.N(every)) // not all nodes at the same time
		select {
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		rows, err := l.deleteOld(ctx)
		if err != nil && ctx.Err() == nil {
			l.opts.Cluster.Logger.Warn("attachments_cleanup", "table", l.table, "error", err)
		}
		if hook := l.opts.Hooks.Cleaned; hook != nil && rows > 0 {
			hook(rows)
		}
	}
}

// deleteOld deletes what is old, unless another node is at it.
func (l *link) deleteOld(ctx context.Context) (rows int64, err error) {
	sql := "DELETE FROM " + l.table + " WHERE (SELECT pg_try_advisory_xact_lock($1)) AND id IN (SELECT id FROM " + l.table +
		" WHERE created_at < now() - make_interval(secs => $2) LIMIT $3)"
	for {
		exchange, cancel := context.WithTimeout(ctx, l.opts.Timeout)
		tag, err := l.pool.Exec(exchange, sql, l.key("clean"), l.opts.Retention.Seconds(), maxDeleted)
		cancel()
		rows += tag.RowsAffected()
		if err != nil || tag.RowsAffected() < maxDeleted {
			return rows, err
		}
	}
}
