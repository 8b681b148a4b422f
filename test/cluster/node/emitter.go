package node

import (
	"context"
	"maps"
	"slices"

	"github.com/seed-0b620db0/patchbay/pkg/adapter"
)

// emitter is a process that only emits.
type emitter struct {
	bus  *bus
	emit adapter.Emitter
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
	ops["listen"] = op{f: func(ctx context.Context, p *params) (any, error) {
		bus, err := open(ctx, p)
		if err != nil {
			return nil, err
		}
		e.bus, e.emit = bus, bus.emitter()
		return map[string]any{"ops": names}, nil
	}}
	return ops
}

// target returns the sockets that p selects.
func (e *emitter) target(p *params) adapter.Emitter {
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
	if e.bus != nil {
		e.bus.close()
	}
}
