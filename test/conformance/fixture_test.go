package conformance_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-0b620db0/patchbay/pkg/eio"
	"github.com/seed-0b620db0/patchbay/pkg/sio"
)

// serverOptions is an entry of servers.json; durations are in milliseconds.
type serverOptions struct {
	Engine                                                    bool
	Path                                                      string
	AddTrailingSlash                                          *bool
	Transports                                                []eio.Transport
	PingInterval, PingTimeout, UpgradeTimeout, ConnectTimeout int
	PerMessageDeflate                                         bool
	Recovery                                                  *struct{ MaxDisconnection int }
}

func ms(n int) time.Duration { return time.Duration(n) * time.Millisecond }

func (o serverOptions) engine() eio.Options {
	opts := eio.Options{
		Path:            o.Path,
		NoTrailingSlash: o.AddTrailingSlash != nil && !*o.AddTrailingSlash,
		Transports:      o.Transports,
		PingInterval:    ms(o.PingInterval),
		PingTimeout:     ms(o.PingTimeout),
		UpgradeTimeout:  ms(o.UpgradeTimeout),
		// The tests ask for bursts of megabytes, as the control, which has no bound, can send them.
		MaxQueueBytes: 64 << 20,
	}
	if o.PerMessageDeflate {
		opts.PerMessageDeflate = &eio.PerMessageDeflate{}
	}
	return opts
}

// startPatchbay starts our servers in this process and returns their URLs.
func startPatchbay(t *testing.T) map[string]string {
	t.Helper()
	var servers map[string]serverOptions
	if err := json.Unmarshal([]byte(readFile(t, "servers.json")), &servers); err != nil {
		t.Fatal(err)
	}
	f := &fixture{logs: map[string][]any{}, tries: map[string]int{}}
	urls := map[string]string{}
	for name, o := range servers {
		var handler interface {
			http.Handler
			Close() error
		}
		if o.Engine {
			opts := o.engine()
			handler = eio.NewServer(f.accept, &opts)
		} else {
			handler = f.socketIO(t, o)
		}
		srv := httptest.NewServer(handler)
		t.Cleanup(func() {
			if err := handler.Close(); err != nil {
				t.Errorf("server %s: %v", name, err)
			}
			srv.Close()
		})
		urls[name] = srv.URL
	}
	return urls
}

// fixture is what the servers of one target share.
type fixture struct {
	mu    sync.Mutex
	logs  map[string][]any
	tries map[string]int
}

func (f *fixture) record(key string, entry any) {
	if key == "" {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.logs[key] = append(f.logs[key], entry)
}

func (f *fixture) recorded(key string) []any {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]any{}, f.logs[key]...)
}

func (f *fixture) try(key string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.tries[key]++
	return f.tries[key]
}

func (f *fixture) socketIO(t *testing.T, o serverOptions) *sio.Server {
	t.Helper()
	opts := &sio.Options{Engine: o.engine(), ConnectTimeout: ms(o.ConnectTimeout), MaxNamespaces: 10_000}
	if o.Recovery != nil {
		opts.Recovery = &sio.RecoveryOptions{MaxDisconnection: ms(o.Recovery.MaxDisconnection), SkipMiddlewares: true}
	}
	opts.Hooks.HandlerError = func(_ *sio.Socket, event string, err error) {
		if p, ok := errors.AsType[*sio.PanicError](err); ok {
			t.Errorf("panic in %q: %v\n%s", event, p.Value, p.Stack)
		}
	}
	io := sio.NewServer(opts)
	f.install(io.Handlers)

	auth := io.Of("/auth")
	auth.Use(func(_ context.Context, s *sio.Socket) (context.Context, error) {
		var in struct{ Token any }
		if err := s.Handshake().Auth(&in); err != nil {
			return nil, err
		}
		switch in.Token {
		case "secret":
			return nil, nil
		case "plain":
			return nil, errors.New("plain refusal")
		}
		return nil, &sio.ConnectError{
			Message: "not authorized",
			Data:    map[string]any{"code": 401, "given": in.Token, "list": []any{1, nil, "é"}},
		}
	})
	f.install(auth.Handlers)

	greet := io.Of("/greet")
	greet.Use(func(_ context.Context, s *sio.Socket) (context.Context, error) { return nil, s.Emit("early", 1) })
	f.install(greet.Handlers)
	greet.OnConnect(func(_ context.Context, s *sio.Socket) error { return s.Emit("welcome", s.ID()) })

	slow := io.Of("/slow")
	slow.Use(func(ctx context.Context, _ *sio.Socket) (context.Context, error) {
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(100 * time.Millisecond):
			return nil, nil
		}
	})
	f.install(slow.Handlers)

	catchAll := io.Of("/any")
	f.install(catchAll.Handlers)
	catchAll.OnAny(func(_ context.Context, s *sio.Socket, ev *sio.Event) {
		f.record(logKey(s), []any{"in", ev.Name(), ev.Args().Values()})
	})
	catchAll.OnAnyOutgoing(func(s *sio.Socket, out *sio.Outgoing) {
		f.record(logKey(s), []any{"out", out.Name(), out.Args().Values()})
	})
	catchAll.UseEvent(func(next sio.Handler) sio.Handler {
		return func(ctx context.Context, s *sio.Socket, ev *sio.Event) error {
			if ev.Name() == "blocked" {
				return errors.New("blocked")
			}
			return next(ctx, s, ev)
		}
	})
	catchAll.On("blocked", func(_ context.Context, s *sio.Socket, _ *sio.Event) error {
		f.record(logKey(s), []any{"blocked ran"})
		return nil
	})

	dynamic := io.OfRegexp(regexp.MustCompile(`^/dynamic-\d+$`))
	dynamic.Use(func(_ context.Context, s *sio.Socket) (context.Context, error) {
		var in struct{ Refuse bool }
		if err := s.Handshake().Auth(&in); err != nil {
			return nil, err
		}
		if in.Refuse {
			return nil, &sio.ConnectError{Message: "refused", Data: map[string]any{"nsp": s.Namespace().Name()}}
		}
		return nil, nil
	})
	f.install(dynamic.Handlers)

	tenant := io.OfFunc(func(_ context.Context, name string, auth json.RawMessage) (bool, error) {
		var in struct{ Tenant *string }
		if len(auth) > 0 {
			if err := json.Unmarshal(auth, &in); err != nil {
				return false, err
			}
		}
		id, ok := strings.CutPrefix(name, "/tenant/")
		return ok && in.Tenant != nil && *in.Tenant == id, nil
	})
	f.install(tenant.Handlers)
	return io
}

func logKey(s *sio.Socket) string {
	var in struct{ Log string }
	if err := s.Handshake().Auth(&in); err != nil {
		return ""
	}
	return in.Log
}

// roomsOf returns the rooms of a socket, sorted, without its own.
func roomsOf(s *sio.Socket) []string {
	rooms := []string{}
	for room := range s.Rooms() {
		if room != s.ID() {
			rooms = append(rooms, room)
		}
	}
	slices.Sort(rooms)
	return rooms
}

// install sets the handlers that every namespace has.
func (f *fixture) install(h *sio.Handlers) {
	h.OnConnect(func(_ context.Context, s *sio.Socket) error {
		f.record(logKey(s), []any{"connect", s.Recovered()})
		return nil
	})
	h.OnDisconnecting(func(_ context.Context, s *sio.Socket, reason sio.Reason) {
		f.record(logKey(s), []any{"disconnecting", reason, roomsOf(s)})
	})
	h.OnDisconnect(func(_ context.Context, s *sio.Socket, reason sio.Reason) {
		f.record(logKey(s), []any{"disconnect", reason})
	})
	for event, handler := range f.handlers() {
		h.On(event, handler)
	}
}

func (f *fixture) handlers() map[string]sio.Handler {
	return map[string]sio.Handler{
		"echo": func(_ context.Context, s *sio.Socket, ev *sio.Event) error {
			return s.Emit("echo", ev.Args().Values()...)
		},
		"ack": func(_ context.Context, _ *sio.Socket, ev *sio.Event) error {
			return ev.Ack(ev.Args().Values()...)
		},
		"ackTwice": func(_ context.Context, _ *sio.Socket, ev *sio.Event) error {
			if err := ev.Ack(ev.Args().Raw(0)); err != nil {
				return err
			}
			return ev.Ack(ev.Args().Raw(1))
		},
		"ackLate": func(_ context.Context, _ *sio.Socket, ev *sio.Event) error {
			var delay int
			if err := ev.Args().Decode(&delay); err != nil {
				return err
			}
			time.AfterFunc(ms(delay), func() { _ = ev.Ack(ev.Args().Raw(1)) }) // the client may be gone by then
			return nil
		},
		"noAck": func(context.Context, *sio.Socket, *sio.Event) error { return nil },
		"nth": func(_ context.Context, _ *sio.Socket, ev *sio.Event) error {
			var key string
			var n int
			if err := ev.Args().Decode(&key, &n); err != nil {
				return err
			}
			if count := f.try(key); count >= n {
				return ev.Ack(count)
			}
			return nil
		},
		"values": func(_ context.Context, _ *sio.Socket, ev *sio.Event) error {
			return ev.Ack(nil, true, false, 0, -1, 1.5, 1e21, 1e-7, int64(9007199254740991), "", "</script>&<>", "\u2028\u2029",
				"\U0001f680é", []any{}, map[string]any{}, map[string]any{"a": []any{map[string]any{"b": nil}}},
				[]byte{0, 1, 2, 255}, struct {
					Nested [][]byte `json:"nested"`
				}{[][]byte{[]byte("x")}}, []byte{})
		},
		"handshake": handshake,
		"ask": func(ctx context.Context, s *sio.Socket, ev *sio.Event) error {
			var timeout int
			var event string
			if err := ev.Args().Decode(&timeout, &event); err != nil {
				return err
			}
			// Many questions are asked at once, as a server does that has its own goroutines.
			go func() { // ends with the answer, the timeout or the socket
				ctx, cancel := context.WithTimeout(ctx, ms(timeout))
				defer cancel()
				values, err := s.EmitWithAck(ctx, event, ev.Args().Values()[2:]...)
				if errors.Is(err, sio.ErrAckTimeout) {
					_ = ev.Ack(map[string]any{"timeout": true})
				} else if err == nil {
					_ = ev.Ack(map[string]any{"values": append([]any{}, values.Values()...)})
				}
			}()
			return nil
		},
		"record": func(_ context.Context, _ *sio.Socket, ev *sio.Event) error {
			var key string
			var value any
			if err := ev.Args().Decode(&key, &value); err != nil {
				return err
			}
			f.record(key, value)
			return acknowledge(ev)
		},
		"recorded": func(_ context.Context, _ *sio.Socket, ev *sio.Event) error {
			var key string
			if err := ev.Args().Decode(&key); err != nil {
				return err
			}
			return ev.Ack(f.recorded(key))
		},
		"join": func(_ context.Context, s *sio.Socket, ev *sio.Event) error {
			var rooms oneOrMany
			if err := ev.Args().Decode(&rooms); err != nil {
				return err
			}
			s.Join(rooms...)
			return ev.Ack()
		},
		"leave": func(_ context.Context, s *sio.Socket, ev *sio.Event) error {
			for _, raw := range ev.Args().All() {
				var room string
				if err := raw.Decode(&room); err != nil {
					return err
				}
				s.Leave(room)
			}
			return ev.Ack()
		},
		"rooms": func(_ context.Context, s *sio.Socket, ev *sio.Event) error { return ev.Ack(roomsOf(s)) },
		"setData": func(_ context.Context, s *sio.Socket, ev *sio.Event) error {
			var data any
			if err := ev.Args().Decode(&data); err != nil {
				return err
			}
			s.SetData(data)
			return ev.Ack()
		},
		"getData":   func(_ context.Context, s *sio.Socket, ev *sio.Event) error { return ev.Ack(s.Data()) },
		"namespace": func(_ context.Context, s *sio.Socket, ev *sio.Event) error { return ev.Ack(s.Namespace().Name()) },
		"send":      send,
		"burst": func(_ context.Context, s *sio.Socket, ev *sio.Event) error {
			var n, pad int
			if err := ev.Args().Decode(&n, &pad); err != nil {
				return err
			}
			return burst(s, n, strings.Repeat("x", pad))
		},
		"burstThenDisconnect": func(_ context.Context, s *sio.Socket, ev *sio.Event) error {
			var n int
			var closeTransport bool
			if err := ev.Args().Decode(&n, &closeTransport); err != nil {
				return err
			}
			defer s.Disconnect(closeTransport)
			return burst(s, n)
		},
		"emitTo": selected(func(ctx context.Context, b sio.Broadcast, ev *sio.Event) error {
			var spec selection
			var event string
			if err := ev.Args().Decode(&spec, &event); err != nil {
				return err
			}
			for range max(spec.Times, 1) {
				if err := b.Emit(ctx, event, ev.Args().Values()[2:]...); err != nil {
					return err
				}
			}
			return acknowledge(ev)
		}),
		"emitWithAckTo": selected(func(ctx context.Context, b sio.Broadcast, ev *sio.Event) error {
			var event string
			if err := ev.Args().Decode(nil, &event); err != nil {
				return err
			}
			responses, timeout := []any{}, false
			for args, err := range b.EmitWithAck(ctx, event, ev.Args().Values()[2:]...) {
				if err == nil {
					responses = append(responses, args.Raw(0))
				}
				timeout = timeout || errors.Is(err, sio.ErrAckTimeout)
			}
			return ev.Ack(map[string]any{"timeout": timeout, "responses": responses})
		}),
		"socketsJoin": selected(func(ctx context.Context, b sio.Broadcast, ev *sio.Event) error {
			return withRooms(ctx, ev, b.SocketsJoin)
		}),
		"socketsLeave": selected(func(ctx context.Context, b sio.Broadcast, ev *sio.Event) error {
			return withRooms(ctx, ev, b.SocketsLeave)
		}),
		"disconnectSockets": selected(func(ctx context.Context, b sio.Broadcast, ev *sio.Event) error {
			var closeTransport bool
			if err := ev.Args().Decode(nil, &closeTransport); err != nil {
				return err
			}
			if err := b.DisconnectSockets(ctx, closeTransport); err != nil {
				return err
			}
			return ev.Ack()
		}),
		"fetchSockets": selected(func(ctx context.Context, b sio.Broadcast, ev *sio.Event) error {
			sockets, err := b.FetchSockets(ctx)
			if err != nil {
				return err
			}
			list := []any{}
			for _, s := range sockets {
				rooms := slices.DeleteFunc(slices.Sorted(slices.Values(s.Rooms)), func(room string) bool { return room == s.ID })
				list = append(list, map[string]any{"id": s.ID, "rooms": rooms, "data": s.Data, "auth": s.Handshake.Auth})
			}
			return ev.Ack(list)
		}),
		"disconnectMe": func(_ context.Context, s *sio.Socket, ev *sio.Event) error {
			var closeTransport bool
			if err := ev.Args().Decode(&closeTransport); err != nil {
				return err
			}
			s.Disconnect(closeTransport)
			return nil
		},
	}
}

// acknowledge acknowledges an event whose sender may not ask for it.
func acknowledge(ev *sio.Event) error {
	if !ev.NeedsAck() {
		return nil
	}
	return ev.Ack()
}

func burst(s *sio.Socket, n int, pad ...any) error {
	for i := range n {
		if err := s.Emit("burst", append([]any{i}, pad...)...); err != nil {
			return err
		}
	}
	return nil
}

func handshake(_ context.Context, s *sio.Socket, ev *sio.Event) error {
	h := s.Handshake()
	target, err := url.Parse(h.URL())
	if err != nil {
		return err
	}
	query := map[string]string{}
	for name := range h.Query() {
		query[name] = h.Query().Get(name)
	}
	auth := json.RawMessage(`{}`)
	if err := h.Auth(&auth); err != nil {
		return err
	}
	out := map[string]any{
		"query": query, "header": nil, "auth": auth, "secure": h.Secure(), "xdomain": h.CrossDomain(),
		"issued": math.Abs(time.Since(h.Issued()).Seconds()) < 60, "path": target.Path,
	}
	if v := h.Header().Get("X-Conformance"); v != "" {
		out["header"] = v
	}
	return ev.Ack(out)
}

// oneOrMany is a string or an array of such.
type oneOrMany []string

func (o *oneOrMany) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		*o = make([]string, 1)
		return json.Unmarshal(b, &(*o)[0])
	}
	return json.Unmarshal(b, (*[]string)(o))
}

// selection says whom an emission is for, and how; README.md has its fields.
type selection struct {
	From           string
	To, In, Except []string
	Local          bool
	Volatile       bool
	Compress       *bool
	Timeout        int
	Times          int
}

// selected makes a handler of a function that acts on the sockets which the first argument selects.
func selected(f func(context.Context, sio.Broadcast, *sio.Event) error) sio.Handler {
	return func(ctx context.Context, s *sio.Socket, ev *sio.Event) error {
		var spec selection
		if err := ev.Args().Decode(&spec); err != nil {
			return err
		}
		b := s.Namespace().Compress(true)
		if spec.From == "others" {
			b = s.Broadcast()
		}
		b = b.To(spec.To...)
		for _, room := range spec.In {
			b = b.In(room)
		}
		b = b.Except(spec.Except...)
		if spec.Local {
			b = b.Local()
		}
		if spec.Volatile {
			b = b.Volatile()
		}
		if spec.Compress != nil {
			b = b.Compress(*spec.Compress)
		}
		if spec.Timeout > 0 {
			b = b.Timeout(ms(spec.Timeout))
		}
		return f(ctx, b, ev)
	}
}

func withRooms(ctx context.Context, ev *sio.Event, f func(context.Context, ...string) error) error {
	var rooms []string
	if err := ev.Args().Decode(nil, &rooms); err != nil {
		return err
	}
	if err := f(ctx, rooms...); err != nil {
		return err
	}
	return ev.Ack()
}

func send(_ context.Context, s *sio.Socket, ev *sio.Event) error {
	var spec selection
	var event string
	if err := ev.Args().Decode(&spec, &event); err != nil {
		return err
	}
	e := s.Compress(spec.Compress == nil || *spec.Compress)
	if spec.Volatile {
		e = e.Volatile()
	}
	return e.Emit(event, ev.Args().Values()[2:]...)
}

// accept answers the sessions of the server that speaks Engine.IO alone.
func (f *fixture) accept(s *eio.Session) eio.Handler {
	return &session{f: f, s: s, log: s.Request().Query().Get("log")}
}

type session struct {
	f   *fixture
	s   *eio.Session
	log string
}

func (h *session) send(data []byte, binary bool) {
	_ = h.s.Send(eio.NewMessage(eio.Frame{Data: data, Binary: binary})) // an error says that the client is gone
}

func (h *session) Message(data []byte, binary bool) {
	command, arg, _ := strings.Cut(string(data), ":")
	if binary {
		command = ""
	}
	n, _ := strconv.Atoi(arg) // commands that need no number have none
	switch command {
	case "close":
		h.s.Close()
	case "text":
		h.send([]byte(strings.Repeat("x", n)), false)
	case "binary":
		h.send([]byte(strings.Repeat("\a", n)), true)
	case "burst", "burstThenClose":
		for i := range n {
			h.send(fmt.Append(nil, i), false)
		}
		if command == "burstThenClose" {
			h.s.Close()
		}
	case "recorded":
		list, err := json.Marshal(h.f.recorded(arg))
		if err != nil {
			panic(err)
		}
		h.send(list, false)
	default:
		h.send(data, binary)
	}
}

func (h *session) Closed(reason eio.CloseReason, _ error) { h.f.record(h.log, reason) }
