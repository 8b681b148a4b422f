package node

import (
	"context"
	"fmt"

	goredis "github.com/redis/go-redis/v9"

	"github.com/seed-0b620db0/patchbay/pkg/adapter"
	"github.com/seed-0b620db0/patchbay/pkg/adapter/redis"
	"github.com/seed-0b620db0/patchbay/pkg/sio"
)

// kit makes what a fleet needs of one kind of adapter, from the URL of its bus.
type kit func(ctx context.Context, url string) (*bus, error)

type bus struct {
	adapter func(adapter.Options) sio.NewAdapter
	emitter func() adapter.Emitter
	close   func()
}

// kits go by the names that fleets have.
var kits = map[string]kit{
	"classic":                 classic(redis.Options{}),
	"classic-specific":        classic(redis.Options{SpecificResponseChannel: true}),
	"sharded":                 sharded(redis.Dynamic),
	"sharded-static":          sharded(redis.Static),
	"sharded-dynamic-private": sharded(redis.DynamicPrivate),
	"streams":                 streams(redis.StreamsOptions{}),
	"streams-sharded":         streams(redis.StreamsOptions{UseShardedPubSub: true}),
	"postgres":                onPostgres,
	"postgres-0.4":            onPostgres,
	"postgres-0.3":            onPostgres,
}

func open(ctx context.Context, p *params) (*bus, error) {
	kit, ok := kits[p.Adapter]
	if !ok {
		return nil, fmt.Errorf("adapter %q: %w", p.Adapter, errUnsupported)
	}
	return kit(ctx, p.Bus)
}

func onRedis(
	adapt func(goredis.UniversalClient, adapter.Options) sio.NewAdapter, emit func(goredis.UniversalClient) adapter.Emitter,
) kit {
	return func(_ context.Context, url string) (*bus, error) {
		o, err := goredis.ParseURL(url)
		if err != nil {
			return nil, err
		}
		rdb := goredis.NewClient(o)
		return &bus{
			adapter: func(o adapter.Options) sio.NewAdapter { return adapt(rdb, o) },
			emitter: func() adapter.Emitter { return emit(rdb) },
			close:   func() { _ = rdb.Close() }, // the process ends here
		}, nil
	}
}

func classic(opts redis.Options) kit {
	return onRedis(func(rdb goredis.UniversalClient, o adapter.Options) sio.NewAdapter {
		opts := opts
		opts.Cluster = o
		return redis.New(rdb, &opts)
	}, func(rdb goredis.UniversalClient) adapter.Emitter { return redis.NewEmitter(rdb, nil) })
}

func sharded(mode redis.Mode) kit {
	return onRedis(func(rdb goredis.UniversalClient, o adapter.Options) sio.NewAdapter {
		return redis.NewSharded(rdb, &redis.ShardedOptions{Cluster: o, Mode: mode})
	}, func(rdb goredis.UniversalClient) adapter.Emitter {
		return redis.NewShardedEmitter(rdb, &redis.ShardedEmitterOptions{Mode: mode})
	})
}

func streams(opts redis.StreamsOptions) kit {
	return onRedis(func(rdb goredis.UniversalClient, o adapter.Options) sio.NewAdapter {
		opts := opts
		opts.Cluster = o
		return redis.NewStreams(rdb, &opts)
	}, func(rdb goredis.UniversalClient) adapter.Emitter { return redis.NewStreamsEmitter(rdb, nil) })
}
