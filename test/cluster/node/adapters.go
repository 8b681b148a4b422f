package node

import (
	goredis "github.com/redis/go-redis/v9"

	"github.com/seed-0b620db0/patchbay/pkg/adapter"
	"github.com/seed-0b620db0/patchbay/pkg/adapter/redis"
	"github.com/seed-0b620db0/patchbay/pkg/sio"
)

// kit makes what a fleet needs of one kind of adapter.
type kit struct {
	adapter func(goredis.UniversalClient, adapter.Options) sio.NewAdapter
	emitter func(goredis.UniversalClient) redis.Emitter
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
}

func classic(opts redis.Options) kit {
	return kit{
		adapter: func(rdb goredis.UniversalClient, o adapter.Options) sio.NewAdapter {
			opts := opts
			opts.Cluster = o
			return redis.New(rdb, &opts)
		},
		emitter: func(rdb goredis.UniversalClient) redis.Emitter { return redis.NewEmitter(rdb, nil) },
	}
}

func sharded(mode redis.Mode) kit {
	return kit{
		adapter: func(rdb goredis.UniversalClient, o adapter.Options) sio.NewAdapter {
			return redis.NewSharded(rdb, &redis.ShardedOptions{Cluster: o, Mode: mode})
		},
		emitter: func(rdb goredis.UniversalClient) redis.Emitter {
			return redis.NewShardedEmitter(rdb, &redis.ShardedEmitterOptions{Mode: mode})
		},
	}
}

func streams(opts redis.StreamsOptions) kit {
	return kit{
		adapter: func(rdb goredis.UniversalClient, o adapter.Options) sio.NewAdapter {
			opts := opts
			opts.Cluster = o
			return redis.NewStreams(rdb, &opts)
		},
		emitter: func(rdb goredis.UniversalClient) redis.Emitter { return redis.NewStreamsEmitter(rdb, nil) },
	}
}
