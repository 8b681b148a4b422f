package node

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"regexp"
	"slices"
	"sync"
	"time"

	"github.com/seed-0b620db0/patchbay/pkg/adapter"
	"github.com/seed-0b620db0/patchbay/pkg/sio"
)

// server is a node.
type server struct {
	bus  *bus
	io   *sio.Server
	http *http.Server

	mu     sync.Mutex
	events map[string][]any // of other servers, each a list of arguments
}

func (s *server) ops() map[string]op {
	ops := map[string]op{
		"emit":        {f: s.emit},
		"emitWithAck": {f: s.emitWithAck, waits: true},
		"socketsJoin": {f: func(ctx context.Context, p *params) (any, error) {
			return nil, s.target(p).SocketsJoin(ctx, p.Rooms...)
		}},
		"socketsLeave": {f: func(ctx context.Context, p *params) (any, error) {
			return nil, s.target(p).SocketsLeave(ctx, p.Rooms...)
		}},
		"disconnectSockets": {f: func(ctx context.Context, p *params) (any, error) {
			return nil, s.target(p).DisconnectSockets(ctx, p.Close)
		}},
		"fetchSockets": {f: func(ctx context.Context, p *params) (any, error) {
			return list(s.target(p).FetchSockets(ctx))
		}, waits: true},
		"remote":        {f: s.remote, waits: true},
		"onServerEvent": {f: s.onServerEvent},
		"serverEvents":  {f: s.serverEvents},
		"serverSideEmit": {f: func(ctx context.Context, p *params) (any, error) {
			return nil, s.of(p).ServerSideEmit(ctx, p.Event, p.args()...)
		}},
		"serverSideEmitWithAck": {f: func(ctx context.Context, p *params) (any, error) {
			ctx, cancel := context.WithTimeout(ctx, 5*time.Second) // as the official server has
			defer cancel()
			return gather(s.of(p).ServerSideEmitWithAck(ctx, p.Event, p.args()...))
		}, waits: true},
		"serverCount": {f: func(ctx context.Context, p *params) (any, error) {
			return s.of(p).Adapter().ServerCount(ctx)
		}, waits: true},
		"sockets":  {f: s.sockets},
		"setRooms": {f: s.setRooms},
		"setData":  {f: s.setData},
		"close":    {f: func(ctx context.Context, _ *params) (any, error) { return nil, s.io.Shutdown(ctx) }, waits: true},
	}
	names := slices.Sorted(maps.Keys(ops))
	ops["listen"] = op{f: func(ctx context.Context, p *params) (any, error) { return s.listen(ctx, p, names) }}
	return ops
}

func (s *server) listen(ctx context.Context, p *params, ops []string) (any, error) {
	bus, err := open(ctx, p)
	if err != nil {
		return nil, err
	}
	s.bus = bus
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	hooks := adapter.Hooks{
		Dropped: func(ns string, err error) { log.Warn("dropped", "namespace", ns, "error", err) },
		PublishFailed: func(ns string, t adapter.Type, err error) {
			log.Warn("publish_failed", "namespace", ns, "type", t, "error", err)
		},
		Request: func(ns string, t adapter.Type, d time.Duration, err error) {
			if err != nil {
				log.Warn("request", "namespace", ns, "type", t, "took", d, "error", err)
			}
		},
	}
	opts := &sio.Options{Adapter: bus.adapter(adapter.Options{Hooks: hooks, Logger: log}), Logger: log}
	opts.Hooks.HandlerError = func(_ *sio.Socket, event string, err error) {
		log.Error("handler failed", "event", event, "err", err)
	}
	s.io = sio.NewServer(opts)
	s.install(s.io.Handlers)
	for _, name := range p.Namespaces {
		s.install(s.io.Of(name).Handlers)
	}
	for _, pattern := range p.Dynamic {
		re, err := regexp.Compile(pattern)
		if err != nil {
			return nil, err
		}
		s.install(s.io.OfRegexp(re).Handlers)
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s.http = &http.Server{Handler: s.io, ReadHeaderTimeout: timeout}
	go func() { // ends with close
		if err := s.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			log.Error("server failed", "err", err)
		}
	}()
	return map[string]any{"url": "http://" + l.Addr().String(), "ops": ops}, nil
}

func (s *server) close() {
	if s.io == nil {
		return
	}
	// The process ends here, and who wants to know how has asked for it before.
	_ = s.io.Close()
	_ = s.http.Close()
	s.bus.close()
}

// install sets the handlers that every namespace has.
func (s *server) install(h *sio.Handlers) {
	h.On("relay", func(ctx context.Context, socket *sio.Socket, ev *sio.Event) error {
		var p params
		var event string
		if err := ev.Args().Decode(&p, &event); err != nil {
			return err
		}
		if err := p.refine(socket.Broadcast()).Emit(ctx, event, ev.Args().Values()[2:]...); err != nil {
			return err
		}
		return ev.Ack()
	})
}

func (s *server) of(p *params) *sio.Namespace { return s.io.Of(p.Nsp) }

// target returns the sockets that p selects.
func (s *server) target(p *params) sio.Broadcast {
	if p.From != "" {
		if socket := s.of(p).Socket(p.From); socket != nil {
			return p.refine(socket.Broadcast())
		}
	}
	return p.refine(s.of(p).Compress(true))
}

func (p *params) refine(b sio.Broadcast) sio.Broadcast {
	b = b.To(p.To...).Except(p.Except...)
	if p.Local {
		b = b.Local()
	}
	if p.Volatile {
		b = b.Volatile()
	}
	if p.Compress != nil {
		b = b.Compress(*p.Compress)
	}
	return b
}

func (s *server) emit(ctx context.Context, p *params) (any, error) {
	return nil, s.target(p).Emit(ctx, p.Event, p.args()...)
}

func (s *server) emitWithAck(ctx context.Context, p *params) (any, error) {
	b := s.target(p).Timeout(time.Duration(p.Timeout) * time.Millisecond)
	return gather(b.EmitWithAck(ctx, p.Event, p.args()...))
}

// gather answers with what came, whether that is all or not.
func gather(answers iter.Seq2[sio.Args, error]) (any, error) {
	responses, timedOut := []any{}, false
	for args, err := range answers {
		switch {
		case err == nil:
			var v any
			if err := args.Raw(0).Decode(&v); err != nil {
				return nil, err
			}
			responses = append(responses, v)
		case errors.Is(err, sio.ErrAckTimeout), errors.Is(err, context.DeadlineExceeded):
			timedOut = true
		case !errors.Is(err, sio.ErrDisconnected):
			return nil, err
		}
	}
	return map[string]any{"timedOut": timedOut, "responses": responses}, nil
}

func list(sockets []sio.RemoteSocket, err error) (any, error) {
	if sockets == nil {
		sockets = []sio.RemoteSocket{}
	}
	return sockets, err
}

func (s *server) remote(ctx context.Context, p *params) (any, error) {
	sockets, err := s.of(p).In(p.Socket).FetchSockets(ctx)
	if err != nil {
		return nil, err
	}
	if len(sockets) != 1 {
		return nil, fmt.Errorf("found %d sockets", len(sockets))
	}
	r := sockets[0]
	switch p.Act {
	case "emit":
		err = r.Emit(ctx, p.Event, p.args()...)
	case "join":
		err = r.Join(ctx, p.Rooms...)
	case "leave":
		err = r.Leave(ctx, p.Rooms...)
	case "disconnect":
		err = r.Disconnect(ctx, p.Close)
	default:
		err = errUnsupported
	}
	return nil, err
}

func (s *server) onServerEvent(_ context.Context, p *params) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events[p.Event] = []any{}
	s.of(p).OnServerEvent(p.Event, func(_ context.Context, ev *sio.Event) error {
		args := []any{}
		for _, raw := range ev.Args().All() {
			var v any
			if err := raw.Decode(&v); err != nil {
				return err
			}
			args = append(args, v)
		}
		s.mu.Lock()
		s.events[p.Event] = append(s.events[p.Event], args)
		s.mu.Unlock()
		if !p.replies || !ev.NeedsAck() {
			return nil
		}
		return ev.Ack(values(p.Reply)...)
	})
	return nil, nil
}

func (s *server) serverEvents(_ context.Context, p *params) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.events[p.Event]), nil
}

func (s *server) sockets(_ context.Context, p *params) (any, error) {
	out := []any{}
	for socket := range s.of(p).Sockets() {
		rooms := slices.AppendSeq([]string{}, socket.Rooms()) // none if it is about to go
		out = append(out, map[string]any{"id": socket.ID(), "rooms": rooms, "data": socket.Data()})
	}
	return out, nil
}

func (s *server) socket(p *params) (*sio.Socket, error) {
	socket := s.of(p).Socket(p.Socket)
	if socket == nil {
		return nil, fmt.Errorf("no socket %q", p.Socket)
	}
	return socket, nil
}

func (s *server) setRooms(_ context.Context, p *params) (any, error) {
	socket, err := s.socket(p)
	if err != nil {
		return nil, err
	}
	for room := range socket.Rooms() {
		if room != socket.ID() && !slices.Contains(p.Rooms, room) {
			socket.Leave(room)
		}
	}
	socket.Join(p.Rooms...)
	return nil, nil
}

func (s *server) setData(_ context.Context, p *params) (any, error) {
	socket, err := s.socket(p)
	if err != nil {
		return nil, err
	}
	socket.SetData(p.Data.v)
	return nil, nil
}
