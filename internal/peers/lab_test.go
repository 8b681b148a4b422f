package peers_test

import (
	"context"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/seed-0b620db0/patchbay/internal/peers"
	"github.com/seed-0b620db0/patchbay/internal/siotest"
	"github.com/seed-0b620db0/patchbay/pkg/eio"
)

const secret = "a secret that all nodes share"

// lab is a few nodes of one registry.
type lab struct {
	t      testing.TB
	reg    *peers.Memory
	engine eio.Options
	opts   peers.Options
	memory *sync.Map // address to *siotest.Listener, in a bubble; else nil: loopback
}

func newLab(t testing.TB) *lab {
	t.Helper()
	siotest.LeakCheck(t)
	return &lab{t: t, reg: peers.NewMemory(), opts: peers.Options{Secret: []byte(secret)}}
}

// newBubble is for a test within synctest.
func newBubble(t testing.TB) *lab {
	t.Helper()
	return &lab{t: t, reg: peers.NewMemory(), opts: peers.Options{Secret: []byte(secret)}, memory: new(sync.Map)}
}

// node is an Engine.IO server that sends each message back, with its two listeners.
type node struct {
	*eio.Server
	l          *lab
	self       peers.Node
	dir        *peers.Directory
	fwd        *peers.Forwarder
	base       string // of the public listener
	stopDir    func()
	registered chan struct{}
	closeOnce  sync.Once

	public, internal *http.Server
	handlers         sync.WaitGroup

	mu       sync.Mutex
	results  map[peers.Result]int
	accepted map[string]int   // by error, empty: good
	seen     []*http.Request  // by the Engine.IO server
	closed   map[string]error // by sid
	wrap     func(http.Handler) http.Handler
	front    func(http.Handler) http.Handler // of all that other nodes send
}

type echo struct {
	n *node
	s *eio.Session
}

func (e echo) Message(data []byte, binary bool) {
	_ = e.s.Send(eio.NewMessage(eio.Frame{Binary: binary, Data: data})) // the session may have ended
}

func (e echo) Closed(reason eio.CloseReason, err error) {
	e.n.mu.Lock()
	defer e.n.mu.Unlock()
	e.n.closed[e.s.ID()] = err
}

// listen returns a listener and its address.
func (l *lab) listen(name string) (net.Listener, string) {
	l.t.Helper()
	if l.memory != nil {
		m := siotest.Listen(0)
		l.memory.Store(name, m)
		return m, name
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		l.t.Fatal(err)
	}
	return ln, ln.Addr().String()
}

// dial connects to a listener in memory.
func (l *lab) dial(ctx context.Context, _, addr string) (net.Conn, error) {
	m, ok := l.memory.Load(addr)
	if !ok {
		return nil, &net.OpError{Op: "dial", Err: net.UnknownNetworkError(addr)}
	}
	return m.(*siotest.Listener).Dial(ctx)
}

func (l *lab) start(tag string) *node {
	l.t.Helper()
	n := l.build(tag)
	n.register()
	return n
}

// build makes a node that is not registered yet.
func (l *lab) build(tag string) *node {
	l.t.Helper()
	n := &node{l: l, results: map[peers.Result]int{}, accepted: map[string]int{}, closed: map[string]error{}}
	engine := l.engine
	engine.Node = tag
	n.Server = eio.NewServer(func(s *eio.Session) eio.Handler { return echo{n, s} }, &engine)
	public, publicAddr := l.listen(tag + ":80")
	internal, internalAddr := l.listen(tag + ":9090")
	n.base = "http://" + publicAddr
	n.self = peers.Node{Tag: tag, Addr: internalAddr, ID: peers.NewID(), Started: time.Now()}
	n.registered = make(chan struct{}, 16)
	n.dir = peers.NewDirectory(l.reg, &peers.DirectoryOptions{State: func(err error) {
		if err == nil {
			n.registered <- struct{}{}
		}
	}})
	opts := l.opts
	opts.Tag, opts.ID, opts.Logger = tag, n.self.ID, slog.New(slog.NewTextHandler(l.t.Output(), nil))
	if l.memory != nil {
		opts.Dial = l.dial
	}
	opts.Result = func(r peers.Result, _ time.Duration) {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.results[r]++
	}
	opts.Accepted = func(err error) {
		n.mu.Lock()
		defer n.mu.Unlock()
		if err == nil {
			n.accepted[""]++
		} else {
			n.accepted[err.Error()]++
		}
	}
	n.fwd = peers.NewForwarder(n.dir, &opts)
	local := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n.mu.Lock()
		n.seen = append(n.seen, r.Clone(context.Background()))
		h := http.Handler(n.Server)
		if n.wrap != nil {
			h = n.wrap(h)
		}
		n.mu.Unlock()
		h.ServeHTTP(w, r)
	})
	inner := http.NewServeMux()
	owner := n.fwd.Owner(local, n.reroute)
	inner.HandleFunc(peers.Prefix+"/", func(w http.ResponseWriter, r *http.Request) {
		n.mu.Lock()
		h := owner
		if n.front != nil {
			h = n.front(h)
		}
		n.mu.Unlock()
		h.ServeHTTP(w, r)
	})
	n.public, n.internal = n.serve(public, n.fwd.Edge(local)), n.serve(internal, inner)
	n.stopDir = func() {}
	l.t.Cleanup(n.shutdown)
	return n
}

func (n *node) serve(l net.Listener, h http.Handler) *http.Server {
	srv := &http.Server{
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError), // what clients do wrong
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			n.handlers.Add(1) // net/http waits for nobody
			defer n.handlers.Done()
			h.ServeHTTP(w, r)
		}),
	}
	go func() { _ = srv.Serve(l) }() // ends by shutdown
	return srv
}

// register returns when all others can find the node.
func (n *node) register() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { // ends by stopDir
		defer close(done)
		n.dir.Run(ctx, n.self)
	}()
	n.stopDir = sync.OnceFunc(func() {
		cancel()
		<-done
	})
	<-n.registered
}

// shutdown ends the node in the order in which a gateway does, at once.
func (n *node) shutdown() {
	n.closeOnce.Do(func() {
		_ = n.Close()
		n.fwd.Close()
		_ = n.public.Close()
		_ = n.internal.Close()
		n.stopDir()
		_ = n.dir.Leave(context.Background(), n.self) // the registry may be made to fail
		n.handlers.Wait()
	})
}

// kill ends the node as if its machine had died: nothing is said to anybody.
func (n *node) kill() {
	n.closeOnce.Do(func() {
		n.stopDir()
		_ = n.internal.Close()
		_ = n.public.Close()
		_ = n.Close()
		n.fwd.Close()
		n.handlers.Wait()
	})
}

func (n *node) client() *siotest.Client { return siotest.New(n.l.t, n.base, "/engine.io/") }

func (n *node) result(r peers.Result) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.results[r]
}

func (n *node) verdicts() map[string]int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return maps.Clone(n.accepted)
}

// requests returns what the Engine.IO server has seen, and forgets it.
func (n *node) requests() []*http.Request {
	n.mu.Lock()
	defer n.mu.Unlock()
	all := n.seen
	n.seen = nil
	return all
}

// unknown fails the test unless the answer is that of a server that does not know the session.
func unknown(t testing.TB, r siotest.Response) {
	t.Helper()
	if r.Err != nil || r.Status != http.StatusBadRequest || r.Body != `{"code":1,"message":"Session ID unknown"}` ||
		r.Header.Get(peers.Header) != "" {
		t.Errorf("want an unknown session, got %d %q %v %v", r.Status, r.Body, r.Header, r.Err)
	}
}

func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(siotest.Patience)
	for pause := time.Millisecond; !cond(); pause = min(2*pause, 50*time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("still not: %s", what)
		}
		time.Sleep(pause) // there is nothing to wait on
	}
}

func (n *node) reroute(sid string) {
	if s := n.Session(sid); s != nil {
		s.Reroute()
	}
}
