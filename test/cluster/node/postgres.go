package node

import (
	"context"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/seed-0b620db0/patchbay/pkg/adapter"
	"github.com/seed-0b620db0/patchbay/pkg/adapter/postgres"
	"github.com/seed-0b620db0/patchbay/pkg/sio"
)

func onPostgres(ctx context.Context, url string) (*bus, error) {
	pool, err := pgxpool.New(ctx, url)
	if err != nil {
		return nil, err
	}
	return &bus{
		adapter: func(o adapter.Options) sio.NewAdapter { //nolint:contextcheck // a node outlives what starts it
			o.HeartbeatInterval, o.HeartbeatTimeout = heartbeatInterval, heartbeatTimeout
			return postgres.New(pool, &postgres.Options{Cluster: o})
		},
		emitter: func() adapter.Emitter { return postgres.NewEmitter(pool, nil) },
		close:   pool.Close,
	}, nil
}
