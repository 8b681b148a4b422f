//go:build linux

package main

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/seed-0b620db0/patchbay/internal/pgtest"
)

// postgresSettings are PostgreSQL's own defaults, which pgtest's are not.
var postgresSettings = []string{"fsync=on", "full_page_writes=on", "synchronous_commit=on", "shared_buffers=128MB", "max_wal_size=1GB"}

// attachments is the table that official servers expect to be there.
const attachments = "CREATE TABLE socket_io_attachments (id bigserial UNIQUE, created_at timestamptz DEFAULT NOW(), payload bytea)"

func startPostgres(ctx context.Context) (*bus, error) {
	srv, err := pgtest.Run(postgresSettings...) //nolint:contextcheck // it takes none, and waits for a bounded time
	if err != nil {
		return nil, err
	}
	b := &bus{url: srv.URL(), stop: func() { _ = srv.Close() }} // what is left is in the temporary directory
	if err := b.preparePostgres(ctx); err != nil {
		b.stop()
		return nil, err
	}
	return b, nil
}

func (b *bus) preparePostgres(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, b.url)
	if err != nil {
		return err
	}
	if _, err = conn.Exec(ctx, attachments); err == nil {
		var postmaster int
		b.cpu = func() (time.Duration, error) { return familyCPU(postmaster) }
		err = conn.QueryRow(ctx, `SELECT split_part(pg_read_file('postmaster.pid'), E'\n', 1)::int,
			'PostgreSQL ' || current_setting('server_version')`).Scan(&postmaster, &b.product)
	}
	return errors.Join(err, conn.Close(ctx))
}

// postgresBroadcasts is clusterBroadcasts, with what it costs PostgreSQL.
func postgresBroadcasts(ctx context.Context, t *trial) error {
	published, err := clusterBroadcasts(ctx, t, "postgres")
	t.values["postgres/db"] = published.busEach(time.Microsecond)
	return err
}

// postgresRooms is clusterInFlight with many small rooms, where the bus has the most to do.
func postgresRooms(ctx context.Context, t *trial) error {
	published, err := clusterInFlight(ctx, t, "postgres/rooms", t.size.members/10, 32)
	t.values["postgres/publishes"], t.values["postgres/db-rooms"] = published.rate(), published.busEach(time.Microsecond)
	return err
}
