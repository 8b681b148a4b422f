package peers

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// postgresRegistry keeps each node in a row. The times are the server's own.
type postgresRegistry struct {
	pool   *pgxpool.Pool
	prefix string
	table  string // quoted
	create string
	list   string
	remove string
	living string
	prune  string
	upsert string
}

var (
	_ Registry = (*postgresRegistry)(nil)
	_ Trial    = (*postgresRegistry)(nil)
)

// postgresTable has the nodes of all prefixes.
const postgresTable = "patchbay_nodes"

// postgresLock makes registrations one after the other, as rows of other nodes are looked at and removed. It is held for one
// exchange.
const postgresLock = "SELECT pg_advisory_xact_lock(hashtextextended('" + postgresTable + "', 0))"

// NewPostgres returns a registry of the nodes with this prefix in the table patchbay_nodes, which is made when it is missing: in
// the schema, or where the search_path of the connections says.
func NewPostgres(pool *pgxpool.Pool, schema, prefix string) Registry {
	name := pgx.Identifier{postgresTable}
	if schema != "" {
		name = pgx.Identifier{schema, postgresTable}
	}
	r := &postgresRegistry{pool: pool, prefix: prefix, table: name.Sanitize()}
	r.create = "CREATE TABLE IF NOT EXISTS " + r.table + ` (
  prefix text NOT NULL,
  tag text NOT NULL,
  addr text NOT NULL,
  id text NOT NULL,
  started timestamptz NOT NULL,
  expires timestamptz NOT NULL,
  PRIMARY KEY (prefix, tag)
)`
	r.list = "SELECT tag, addr, id, started FROM " + r.table +
		" WHERE prefix = $1 AND expires > clock_timestamp() AND tag <> '' AND id <> '' LIMIT $2::bigint"
	r.remove = "DELETE FROM " + r.table + " WHERE prefix = $1 AND tag = $2 AND id = $3"
	r.living = "SELECT addr, id, started FROM " + r.table + " WHERE prefix = $1 AND tag = $2 AND expires > clock_timestamp()"
	r.prune = "DELETE FROM " + r.table + " WHERE expires <= clock_timestamp()"
	r.upsert = "INSERT INTO " + r.table + ` AS n (prefix, tag, addr, id, started, expires)
VALUES ($1, $2, $3, $4, $5, clock_timestamp() + $6::bigint * interval '1 millisecond')
ON CONFLICT (prefix, tag) DO UPDATE SET addr = excluded.addr, id = excluded.id, started = excluded.started, expires = excluded.expires
WHERE n.id = excluded.id OR $7::boolean AND n.addr = excluded.addr`
	return r
}

// Register implements Registry.
func (r *postgresRegistry) Register(ctx context.Context, n Node, ttl time.Duration, succeed bool) (renewed bool, err error) {
	renewed, err = r.register(ctx, n, ttl, succeed)
	if missingTable(err) {
		if err = r.createTable(ctx); err == nil {
			renewed, err = r.register(ctx, n, ttl, succeed)
		}
	}
	if err != nil {
		if _, taken := errors.AsType[*TakenError](err); taken {
			return false, err
		}
		return false, fmt.Errorf("registry: %w", err)
	}
	return renewed, nil
}

// register is one exchange, and so one transaction.
func (r *postgresRegistry) register(ctx context.Context, n Node, ttl time.Duration, succeed bool) (renewed bool, err error) {
	var old Node
	var entered int64
	batch := new(pgx.Batch)
	batch.Queue(postgresLock)
	batch.Queue(r.living, r.prefix, n.Tag).Query(func(rows pgx.Rows) error {
		_, err := pgx.ForEachRow(rows, []any{&old.Addr, &old.ID, &old.Started}, func() error { return nil })
		return err
	})
	batch.Queue(r.prune)
	batch.Queue(r.upsert, r.prefix, n.Tag, n.Addr, n.ID, n.Started, ttl.Milliseconds(), succeed).Exec(func(ct pgconn.CommandTag) error {
		entered = ct.RowsAffected()
		return nil
	})
	if err := r.pool.SendBatch(ctx, batch).Close(); err != nil {
		return false, err
	}
	if entered == 0 {
		old.Tag = n.Tag
		return false, &TakenError{By: old}
	}
	return old.ID == n.ID, nil
}

// Try implements Trial. A table that is missing is made, and taken back too.
func (r *postgresRegistry) Try(ctx context.Context) error {
	err := r.try(ctx, false)
	if missingTable(err) {
		err = r.try(ctx, true)
		if state(err) == "42501" { // insufficient_privilege
			return r.mayNotCreate(err)
		}
	}
	if err != nil {
		return fmt.Errorf("registry: %w", err)
	}
	return nil
}

func (r *postgresRegistry) try(ctx context.Context, create bool) error {
	tx, err := r.pool.Begin(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback(ctx) }() // else the server does it when the connection ends
	if create {
		if _, err := tx.Exec(ctx, r.create); err != nil {
			return err
		}
	}
	const tag = "/try" // no tag
	for _, s := range []struct {
		sql  string
		args []any
	}{
		{r.upsert, []any{r.prefix, tag, "", tag, time.Now(), int64(0), false}},
		{r.upsert, []any{r.prefix, tag, "", tag, time.Now(), int64(0), false}},
		{r.remove, []any{r.prefix, tag, tag}},
	} {
		if _, err := tx.Exec(ctx, s.sql, s.args...); err != nil {
			return err
		}
	}
	return nil
}

func (r *postgresRegistry) mayNotCreate(err error) error {
	return fmt.Errorf("the table %s is missing, and this user may not make it: %w; grant SELECT, INSERT, UPDATE and DELETE after: %s",
		r.table, err, strings.Join(strings.Fields(r.create), " "))
}

// createTable makes the table, which another node may do at the same time.
func (r *postgresRegistry) createTable(ctx context.Context) error {
	batch := new(pgx.Batch)
	batch.Queue(postgresLock)
	batch.Queue(r.create)
	err := r.pool.SendBatch(ctx, batch).Close()
	if state(err) == "42501" { // insufficient_privilege
		return r.mayNotCreate(err)
	}
	return err
}

// missingTable tells whether the error says so.
func missingTable(err error) bool { return state(err) == "42P01" } // undefined_table

// state returns the SQLSTATE of an error of the server.
func state(err error) string {
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		return e.Code
	}
	return ""
}

// Remove implements Registry.
func (r *postgresRegistry) Remove(ctx context.Context, n Node) error {
	if _, err := r.pool.Exec(ctx, r.remove, r.prefix, n.Tag, n.ID); err != nil && !missingTable(err) {
		return fmt.Errorf("registry: %w", err)
	}
	return nil
}

// List implements Registry.
func (r *postgresRegistry) List(ctx context.Context) ([]Node, error) {
	rows, err := r.pool.Query(ctx, r.list, r.prefix, maxNodes)
	var all []Node
	if err == nil {
		all, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (n Node, err error) {
			err = row.Scan(&n.Tag, &n.Addr, &n.ID, &n.Started)
			return n, err
		})
	}
	if err != nil && !missingTable(err) { // which nobody has entered anything into
		return nil, fmt.Errorf("registry: %w", err)
	}
	return all, nil
}
