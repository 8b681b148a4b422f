package node

import (
	"context"
	"fmt"
	"maps"
	"slices"

	goredis "github.com/redis/go-redis/v9"

	"github.com/seed-0b620db0/patchbay/pkg/adapter/redis"
)

// emitter is a process that only emits.
type emitter struct {
	rdb  goredis.UniversalClient
	emit redis.Emitter
}

func (e *emitter) ops() map[string]op {
	ops := map[string]op{
		"emit": {f: func(ctx context.Context, p *params) (any, error) {
			return nil, e.target(p).Emit(ctx, p.Event, p.args()...)
		}},
		"socketsJoin": {f: func(ctx context.Context, p *params) (any, error) {
			return nil, e.target(p).SocketsJoin(ctx, p.Rooms...)
		}},
		"socketsLeave": {f: func(ctx context.Context, p *params) (any, error) {
			return nil, e.target(p).SocketsLeave(ctx, p.Rooms...)
		}},
		"disconnectSockets": {f: func(ctx context.Context, p *params) (any, error) {
			return nil, e.target(p).DisconnectSockets(ctx, p.Close)
		}},
		"serverSideEmit": {f: func(ctx context.Context, p *params) (any, error) {
			return nil, e.target(p).ServerSideEmit(ctx, p.Event, p.args()...)
		}},
		"close": {f: func(context.Context, *params) (any, error) { return nil, nil }},
	}
	names := slices.Sorted(maps.Keys(ops))
	ops["listen"] = op{f: func(_ context.Context, p *params) (any, error) {
		kit, ok := kits[p.Adapter]
		if !ok {
			return nil, fmt.Errorf("adapter %q: %w", p.Adapter, errUnsupported)
		}
		rdb, err := connect(p.Redis)
		if err != nil {
			return nil, err
		}
		e.rdb, e.emit = rdb, kit.emitter(rdb)
		return map[string]any{"ops": names}, nil
	}}
	return ops
}

// target returns the sockets that p selects.
func (e *emitter) target(p *params) redis.Emitter {
	t := e.emit.Of(p.Nsp).To(p.To...).Except(p.Except...)
	if p.Volatile {
		t = t.Volatile()
	}
	if p.Compress != nil {
		t = t.Compress(*p.Compress)
	}
	return t
}

func (e *emitter) close() {
	if e.rdb != nil {
		_ = e.rdb.Close() // the process ends here
	}
}
