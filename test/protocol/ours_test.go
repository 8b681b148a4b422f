package protocol_test

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"sync"
	"time"

	rscors "github.com/rs/cors"

	"github.com/seed-0b620db0/patchbay/internal/siotest"
	"github.com/seed-0b620db0/patchbay/pkg/eio"
	"github.com/seed-0b620db0/patchbay/pkg/sio"
)

// ours is our server in this process, with the same handlers and the same control as the fixture of the
// official one.
type ours struct{}

type ourFixture struct {
	opts   options           // set at construction
	engine *eio.Server       // set at construction
	io     *sio.Server       // set at construction; nil in engine mode
	labels map[string]*group // set at construction
	wg     sync.WaitGroup    // goroutines of handlers and of a shutdown

	mu      sync.Mutex
	state   state
	open    map[string]*eio.Session
	events  map[string][]string // by socket id
	label   map[string]string   // by socket id
	waiting map[string]chan struct{}
	polls   map[string]bool // a poll waits, by sid
}

// notePolls notes which sessions have a poll that waits.
func (f *ourFixture) notePolls(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if q := r.URL.Query(); r.Method == http.MethodGet && q.Get("transport") == "polling" {
			set := func(waits bool) {
				f.mu.Lock()
				defer f.mu.Unlock()
				f.polls[q.Get("sid")] = waits
			}
			r = r.WithContext(pollContext{r.Context(), func() { set(true) }})
			defer set(false)
		}
		next.ServeHTTP(w, r)
	})
}

// pollContext is that of a poll: the server asks when it ends once the session has the poll, and it waits.
type pollContext struct {
	context.Context //nolint:containedctx // it is one
	asked           func()
}

func (c pollContext) Done() <-chan struct{} {
	c.asked()
	return c.Context.Done()
}

// group is a namespace or a parent of some.
type group struct {
	to     func(rooms ...string) sio.Broadcast
	except func(rooms ...string) sio.Broadcast
}

func ms(n int) time.Duration { return time.Duration(n) * time.Millisecond }

func (ours) start(o options) (running, error) {
	f := &ourFixture{
		opts: o, open: map[string]*eio.Session{}, events: map[string][]string{}, label: map[string]string{},
		waiting: map[string]chan struct{}{}, polls: map[string]bool{}, labels: map[string]*group{},
	}
	f.state.Closed, f.state.Received = map[string]closed{}, map[string][]any{}
	var handler http.Handler
	var closeServer func() error
	if o.Mode == "engine" {
		f.engine = eio.NewServer(f.echo, new(f.engineOptions()))
		handler, closeServer = f.engine, f.engine.Close
	} else {
		f.startSocketIO()
		handler, closeServer = f.io, f.io.Close
	}
	if c := o.CORS; c != nil {
		origins, ok := c.Origin.([]string)
		if one, is := c.Origin.(string); is {
			origins, ok = []string{one}, true
		}
		if !ok {
			return running{}, fmt.Errorf("cors origin %v", c.Origin)
		}
		handler = rscors.New(rscors.Options{
			AllowedOrigins: origins, AllowCredentials: c.Credentials, AllowedHeaders: []string{"*"},
			AllowedMethods: []string{http.MethodGet, http.MethodPost},
		}).Handler(handler)
	}
	public, control := httptest.NewServer(f.notePolls(handler)), httptest.NewServer(http.HandlerFunc(f.serveControl))
	return running{public.URL, control.URL, func() {
		f.mu.Lock()
		for _, c := range f.waiting {
			close(c)
		}
		clear(f.waiting)
		f.mu.Unlock()
		_ = closeServer() // says no more than that it was closed before
		f.wg.Wait()
		public.CloseClientConnections()
		public.Close()
		control.Close()
	}}, nil
}

func (f *ourFixture) engineOptions() eio.Options {
	o := f.opts
	e := eio.Options{
		Path:           o.Path,
		PingInterval:   ms(o.PingInterval),
		PingTimeout:    ms(o.PingTimeout),
		UpgradeTimeout: ms(o.UpgradeTimeout),

		MaxHTTPBufferSize: o.MaxHTTPBufferSize,
		NoTrailingSlash:   o.AddTrailingSlash != nil && !*o.AddTrailingSlash,
		DisableUpgrades:   o.AllowUpgrades != nil && !*o.AllowUpgrades,
		Hooks: eio.Hooks{
			Opened: func(s *eio.Session) {
				f.mu.Lock()
				defer f.mu.Unlock()
				f.open[s.ID()] = s
			},
			Closed: func(s *eio.Session, reason eio.CloseReason, err error) {
				f.mu.Lock()
				defer f.mu.Unlock()
				f.state.Closed[s.ID()] = closed{string(reason), fmt.Sprint(err)}
			},
			Refused: func(_ *http.Request, e *eio.ConnectionError) {
				f.mu.Lock()
				defer f.mu.Unlock()
				message := e.Message
				if message == "" {
					message = e.Code.String()
				}
				f.state.Errors = append(f.state.Errors, connectionError{int(e.Code), message, e.Context})
			},
		},
	}
	for _, t := range o.Transports {
		e.Transports = append(e.Transports, eio.Transport(t))
	}
	if o.HTTPCompression != nil {
		e.HTTPCompressionThreshold = *o.HTTPCompression
	}
	if o.PerMessageDeflate != nil {
		e.PerMessageDeflate = &eio.PerMessageDeflate{Threshold: *o.PerMessageDeflate}
	}
	if c := o.Cookie; c != nil {
		e.Cookie = &http.Cookie{Name: c.Name, MaxAge: c.MaxAge, Secure: c.Secure, HttpOnly: true, SameSite: http.SameSiteLaxMode}
	}
	if o.InitialPacket != "" {
		e.InitialPacket = eio.NewMessage(eio.Frame{Data: []byte(o.InitialPacket)})
	}
	if o.AllowRequest {
		e.AllowRequest = func(r *http.Request) error {
			f.mu.Lock()
			f.state.Asked++
			f.mu.Unlock()
			if refusal, ok := r.Header["X-Refuse"]; ok {
				return errors.New(refusal[0])
			}
			return nil
		}
	}
	if o.FailingIDs {
		e.GenerateID = func(r *http.Request) (string, error) {
			if _, ok := r.Header["X-No-Id"]; ok {
				return "", errors.New("no id")
			}
			b := make([]byte, 15)
			_, err := rand.Read(b)
			return base64.RawURLEncoding.EncodeToString(b), err
		}
	}
	if o.HeaderHooks {
		e.InitialHeaders = func(h http.Header, _ *http.Request) { h.Set("X-Initial", "1") }
		e.Headers = func(h http.Header, _ *http.Request) { h.Set("X-Every", "1") }
	}
	return e
}

// echo makes a session of engine mode: what it receives is logged and sent back.
func (f *ourFixture) echo(s *eio.Session) eio.Handler {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.state.Received[s.ID()] = []any{}
	return echoHandler{f, s}
}

type echoHandler struct {
	f *ourFixture
	s *eio.Session
}

func (h echoHandler) Message(data []byte, isBinary bool) {
	data = slices.Clone(data)
	h.f.mu.Lock()
	var entry any = string(data)
	if isBinary {
		entry = map[string]string{"binary": hex.EncodeToString(data)}
	}
	h.f.state.Received[h.s.ID()] = append(h.f.state.Received[h.s.ID()], entry)
	h.f.mu.Unlock()
	_ = h.s.Send(eio.NewMessage(eio.Frame{Data: data, Binary: isBinary})) // fails when the session has just ended
}

func (echoHandler) Closed(eio.CloseReason, error) {}

func (f *ourFixture) startSocketIO() {
	o := &sio.Options{
		Engine: f.engineOptions(), ConnectTimeout: ms(f.opts.ConnectTimeout),
		CleanupEmptyChildNamespaces: f.opts.CleanupEmptyChildNamespaces,
	}
	if r := f.opts.Recovery; r != nil {
		o.Recovery = &sio.RecoveryOptions{
			MaxDisconnection: ms(r.MaxDisconnectionDuration),
			SkipMiddlewares:  r.SkipMiddlewares != nil && *r.SkipMiddlewares,
		}
	}
	o.Hooks.NamespaceOpened = func(ns *sio.Namespace) {
		f.mu.Lock()
		defer f.mu.Unlock()
		if ns.Name() != "/" {
			f.state.Created = append(f.state.Created, ns.Name())
		}
	}
	o.Hooks.HandlerError = func(s *sio.Socket, _ string, err error) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.state.SocketErrors = append(f.state.SocketErrors, socketError{s.ID(), err.Error()})
	}
	f.io = sio.NewServer(o)
	f.engine = f.io.Engine()
	for _, name := range []string{"/", "/a", "/b"} {
		ns := f.io.Of(name)
		f.setUp(ns.Handlers, name)
	}
	parents := map[string]*sio.ParentNamespace{}
	parents["dynamic"] = f.io.OfRegexp(regexp.MustCompile(`^/dynamic-\d+$`))
	parents["function"] = f.io.OfFunc(func(_ context.Context, name string, auth json.RawMessage) (bool, error) {
		var a struct{ Token string }
		_ = json.Unmarshal(auth, &a) // absent or of another shape: no token
		if name == "/fn-error" {
			return true, errors.New("boom")
		}
		return name == "/fn-ok" || name == "/fn-auth" && a.Token == "ok", nil
	})
	parents["late"] = f.io.OfRegexp(regexp.MustCompile(`^/(dynamic|late)-\d+$`))
	for label, p := range parents {
		f.setUp(p.Handlers, label)
		f.labels[label] = &group{p.To, p.Except}
	}
}

func (f *ourFixture) setUp(h *sio.Handlers, label string) {
	log := func(s *sio.Socket, name string) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.state.Middleware = append(f.state.Middleware, step{s.Namespace().Name(), s.ID(), name})
	}
	h.Use(func(_ context.Context, s *sio.Socket) (context.Context, error) {
		var auth struct {
			Early              bool
			Room, Refuse, Wait string
		}
		_ = s.Handshake().Auth(&auth) // of another shape: nothing is asked for
		log(s, "first")
		if auth.Early {
			_ = s.Emit("early", 1)
		}
		if auth.Room != "" {
			s.Join(auth.Room)
		}
		switch auth.Refuse {
		case "data":
			return nil, &sio.ConnectError{Message: "not authorized", Data: json.RawMessage(`{"content":"retry","n":1}`)}
		case "null":
			return nil, &sio.ConnectError{Message: "not authorized", Data: json.RawMessage("null")}
		case "plain":
			return nil, errors.New("not authorized")
		}
		if auth.Wait != "" {
			c := make(chan struct{})
			f.mu.Lock()
			f.waiting[auth.Wait] = c
			f.mu.Unlock()
			<-c // the control's business, also when the client has gone
		}
		return nil, nil
	}, func(_ context.Context, s *sio.Socket) (context.Context, error) {
		log(s, "second")
		return nil, nil
	})
	h.OnConnect(func(_ context.Context, s *sio.Socket) error {
		f.mu.Lock()
		f.label[s.ID()] = label
		f.mu.Unlock()
		var auth struct{ Greet bool }
		_ = s.Handshake().Auth(&auth) // as above
		if auth.Greet {
			return s.Emit("welcome", s.ID())
		}
		return nil
	})
	h.OnDisconnecting(func(_ context.Context, s *sio.Socket, reason sio.Reason) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.state.Disconnects = append(f.state.Disconnects,
			disconnect{s.Namespace().Name(), s.ID(), string(reason), slices.Collect(s.Rooms()), false})
	})
	h.OnDisconnect(func(_ context.Context, s *sio.Socket, _ sio.Reason) {
		left := len(slices.Collect(s.Rooms())) == 0
		f.mu.Lock()
		defer f.mu.Unlock()
		for i := len(f.state.Disconnects) - 1; i >= 0; i-- {
			if d := &f.state.Disconnects[i]; d.ID == s.ID() {
				d.Done = left
				return
			}
		}
	})
	h.OnAny(func(_ context.Context, s *sio.Socket, ev *sio.Event) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.events[s.ID()] = append(f.events[s.ID()], ev.Name())
	})
	h.UseEvent(func(next sio.Handler) sio.Handler {
		return func(ctx context.Context, s *sio.Socket, ev *sio.Event) error {
			if ev.Name() == "blocked" {
				return errors.New("blocked")
			}
			return next(ctx, s, ev)
		}
	})
	for name, handler := range f.handlers() {
		h.On(name, handler)
	}
}

func (f *ourFixture) handlers() map[string]sio.Handler {
	return map[string]sio.Handler{
		"echo": func(_ context.Context, s *sio.Socket, ev *sio.Event) error {
			return s.Emit("echo", ev.Args().Values()...)
		},
		"ack": func(_ context.Context, _ *sio.Socket, ev *sio.Event) error {
			return ev.Ack(ev.Args().Values()...)
		},
		"ack-twice": func(_ context.Context, s *sio.Socket, ev *sio.Event) error {
			_, _ = ev.Ack(1), ev.Ack(2) // what is tried
			return s.Emit("after")
		},
		"ask": func(_ context.Context, s *sio.Socket, ev *sio.Event) error {
			var event string
			var timeout int
			if err := ev.Args().Decode(&event, &timeout); err != nil {
				return err
			}
			// On its own, so that a second question may be asked before the first is answered. It is asked
			// here, so that it goes out before anything that comes after it.
			values := ev.Args().Values()[2:]
			f.wg.Go(func() { // ends with the answer, the timeout or the socket
				ctx, cancel := context.WithTimeout(s.Context(), ms(timeout))
				defer cancel()
				answer, err := s.EmitWithAck(ctx, event, values...)
				if err != nil {
					_ = s.Emit("answer", ackError(err)) // the socket may be gone
					return
				}
				_ = s.Emit("answer", append([]any{nil}, answer.Values()...)...) // as above
			})
			return nil
		},
		"join": func(_ context.Context, s *sio.Socket, ev *sio.Event) error {
			for _, raw := range ev.Args().All() {
				var room string
				if err := raw.Decode(&room); err != nil {
					return err
				}
				s.Join(room)
			}
			return ev.Ack()
		},
		"leave": func(_ context.Context, s *sio.Socket, ev *sio.Event) error {
			var room string
			if err := ev.Args().Decode(&room); err != nil {
				return err
			}
			s.Leave(room)
			return ev.Ack()
		},
		"to": func(ctx context.Context, s *sio.Socket, ev *sio.Event) error {
			var rooms, except []string
			var event string
			if err := ev.Args().Decode(&rooms, &except, &event); err != nil {
				return err
			}
			return s.To(rooms...).Except(except...).Emit(ctx, event, ev.Args().Values()[3:]...)
		},
		"others": func(ctx context.Context, s *sio.Socket, ev *sio.Event) error {
			var event string
			if err := ev.Args().Decode(&event); err != nil {
				return err
			}
			return s.Broadcast().Emit(ctx, event, ev.Args().Values()[1:]...)
		},
		"set": func(_ context.Context, s *sio.Socket, ev *sio.Event) error {
			s.SetData(slices.Clone(ev.Args().Raw(0).JSON))
			return ev.Ack()
		},
		"handshake": func(_ context.Context, s *sio.Socket, ev *sio.Event) error {
			return ev.Ack(s.Handshake().Data())
		},
		"disconnect-me": func(_ context.Context, s *sio.Socket, ev *sio.Event) error {
			var closeTransport bool
			err := ev.Args().Decode(&closeTransport)
			s.Disconnect(closeTransport)
			return err
		},
		"message": func(_ context.Context, s *sio.Socket, ev *sio.Event) error {
			return s.Emit("message", ev.Args().Values()...)
		},
		"blocked": func(_ context.Context, s *sio.Socket, _ *sio.Event) error { return s.Emit("reached") },
		"values": func(_ context.Context, s *sio.Socket, _ *sio.Event) error {
			return s.Emit("values", nil, "<>&\u2028")
		},
		"bytes": func(_ context.Context, s *sio.Socket, _ *sio.Event) error {
			type last struct {
				Last []byte `json:"last"`
			}
			return s.Emit("bytes", struct {
				First []byte `json:"first"`
				List  []any  `json:"list"`
			}{[]byte{1}, []any{[]byte{2}, last{[]byte{3}}}}, []byte{4})
		},
	}
}

// ackError is the official server's text for a timeout.
func ackError(err error) string {
	if errors.Is(err, sio.ErrAckTimeout) {
		return "operation has timed out"
	}
	return err.Error()
}

func (f *ourFixture) serveControl(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var answer any
	switch {
	case err != nil:
	case r.URL.Path == "/state":
		answer = f.report()
	default:
		var c command
		if err = json.Unmarshal(body, &c); err == nil {
			answer, err = f.run(c)
		}
	}
	b, encodeErr := json.Marshal(answer)
	if err := errors.Join(err, encodeErr); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	_, _ = w.Write(b) // the test has gone if this fails
}

func (f *ourFixture) report() state {
	namespaces := map[string]map[string]socket{}
	if f.io != nil {
		for _, ns := range f.io.Namespaces() {
			sockets := map[string]socket{}
			for s := range ns.Sockets() {
				data, err := json.Marshal(s.Data())
				if err != nil {
					data = json.RawMessage(`"not JSON"`)
				}
				sockets[s.ID()] = socket{Session: s.Session().ID(), Rooms: slices.Collect(s.Rooms()), Recovered: s.Recovered(), Data: data}
			}
			namespaces[ns.Name()] = sockets
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, sockets := range namespaces {
		for id, s := range sockets {
			s.Events, s.Label = slices.Clone(f.events[id]), f.label[id]
			sockets[id] = s
		}
	}
	st := f.state
	st.Sessions = map[string]session{}
	for id := range f.open {
		if s := f.engine.Session(id); s != nil {
			st.Sessions[id] = session{Transport: string(s.Transport()), Polling: f.polls[id]}
		}
	}
	st.Closed, st.Received = maps.Clone(st.Closed), maps.Clone(st.Received)
	st.Errors, st.Disconnects = slices.Clone(st.Errors), slices.Clone(st.Disconnects)
	st.Middleware, st.SocketErrors, st.Created = slices.Clone(st.Middleware), slices.Clone(st.SocketErrors), slices.Clone(st.Created)
	st.Waiting = slices.Collect(maps.Keys(f.waiting))
	st.Namespaces = namespaces
	return st
}

// command is an operation of the control.
type command struct {
	Op, SID, Namespace, ID, Event, Key, Parent string
	Data, To, Except, Rooms                    []string
	Args                                       []any
	Binary, Local, Volatile, Close             bool
	Compress                                   *bool
	Timeout                                    int // ms
}

// revive makes bytes of each {"$binary": "<base64>"}.
func revive(v any) any {
	switch v := v.(type) {
	case []any:
		for i := range v {
			v[i] = revive(v[i])
		}
	case map[string]any:
		if s, ok := v["$binary"].(string); ok {
			b, err := base64.StdEncoding.DecodeString(s)
			if err != nil {
				return err.Error()
			}
			return b
		}
		for k := range v {
			v[k] = revive(v[k])
		}
	}
	return v
}

func (f *ourFixture) run(c command) (any, error) {
	ctx, cancel := context.WithTimeout(context.Background(), siotest.Patience)
	defer cancel()
	revive(c.Args)
	switch c.Op {
	case "send":
		s := f.engine.Session(c.SID)
		for _, d := range c.Data {
			frame := eio.Frame{Data: []byte(d), Binary: c.Binary}
			m := eio.NewMessage(frame)
			if c.Compress != nil && !*c.Compress {
				m = m.WithoutCompression()
			}
			_ = s.Send(m) // dropped when it is closing
		}
		return nil, nil
	case "close":
		f.engine.Session(c.SID).Close()
		return nil, nil
	case "shutdown":
		if f.io == nil {
			f.wg.Go(func() {
				ctx, cancel := context.WithTimeout(context.Background(), siotest.Patience)
				defer cancel()
				_ = f.engine.Shutdown(ctx) // as below
			})
			return nil, nil
		}
		f.wg.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), siotest.Patience)
			defer cancel()
			_ = f.io.Shutdown(ctx) // the clients tell how it went
		})
		return nil, nil
	case "release":
		f.mu.Lock()
		defer f.mu.Unlock()
		close(f.waiting[c.Key])
		delete(f.waiting, c.Key)
		return nil, nil
	case "of":
		f.io.Of(c.Namespace)
		return nil, nil
	case "parent":
		g := f.labels[c.Parent]
		b := g.except()
		if len(c.To) > 0 {
			b = g.to(c.To...)
		}
		return nil, b.Emit(ctx, c.Event, c.Args...)
	}
	return f.runOnNamespace(ctx, c)
}

func (f *ourFixture) runOnNamespace(ctx context.Context, c command) (any, error) {
	if c.Namespace == "" {
		c.Namespace = "/"
	}
	ns := f.io.Of(c.Namespace)
	b := ns.Except(c.Except...)
	if len(c.To) > 0 {
		b = b.To(c.To...)
	}
	if c.Local {
		b = b.Local()
	}
	if c.Volatile {
		b = b.Volatile()
	}
	if c.Compress != nil {
		b = b.Compress(*c.Compress)
	}
	if c.Timeout > 0 {
		b = b.Timeout(ms(c.Timeout))
	}
	switch c.Op {
	case "emit":
		return nil, b.Emit(ctx, c.Event, c.Args...)
	case "emitWithAck":
		got := answers{Responses: []json.RawMessage{}}
		for a, err := range b.EmitWithAck(ctx, c.Event, c.Args...) {
			if err != nil {
				got.Error = ackError(err)
				continue
			}
			got.Responses = append(got.Responses, slices.Clone(a.Raw(0).JSON))
		}
		return got, nil
	case "fetch":
		sockets, err := b.FetchSockets(ctx)
		if sockets == nil {
			sockets = []sio.RemoteSocket{}
		}
		return sockets, err
	case "join":
		return nil, b.SocketsJoin(ctx, c.Rooms...)
	case "leave":
		return nil, b.SocketsLeave(ctx, c.Rooms...)
	case "disconnect":
		return nil, b.DisconnectSockets(ctx, c.Close)
	case "socket":
		s := ns.Socket(c.ID)
		if c.Volatile {
			return nil, s.Volatile().Emit(c.Event, c.Args...)
		}
		return nil, s.Emit(c.Event, c.Args...)
	}
	return nil, fmt.Errorf("no operation %q", c.Op)
}
