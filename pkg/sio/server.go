package sio

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"sync"

	"github.com/seed-0b620db0/patchbay/internal/crew"
	"github.com/seed-0b620db0/patchbay/pkg/eio"
	"github.com/seed-0b620db0/patchbay/pkg/sio/sioproto"
)

// Server is a Socket.IO server: an http.Handler that answers below Options.Engine.Path. The embedded namespace is "/".
type Server struct {
	*Namespace

	// set at construction
	opts   Options
	engine *eio.Server
	crew   crew.Crew

	mu sync.Mutex
	// guarded by mu
	namespaces map[string]*Namespace
	parents    []*ParentNamespace // in the order they were made
	made       int                // namespaces that clients asked for
	closed     bool

	running sync.WaitGroup
}

// NewServer returns a server. opts may be nil.
func NewServer(opts *Options) *Server {
	srv := &Server{opts: opts.withDefaults(), namespaces: make(map[string]*Namespace)}
	srv.engine = eio.NewServer(srv.accept, &srv.opts.Engine)
	srv.Namespace = srv.Of("/")
	return srv
}

// Engine returns the Engine.IO server below.
func (srv *Server) Engine() *eio.Server { return srv.engine }

// ServeHTTP implements http.Handler.
func (srv *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { srv.engine.ServeHTTP(w, r) }

// Of returns the namespace with this name, a leading slash added if it has none. It makes it if need be; if a parent made
// by OfRegexp matches, with the handlers of that.
func (srv *Server) Of(name string) *Namespace {
	if !strings.HasPrefix(name, "/") {
		name = "/" + name
	}
	srv.mu.Lock()
	ns := srv.namespaces[name]
	var parent *ParentNamespace
	for _, p := range srv.parents {
		if p.regexp != nil && p.regexp.MatchString(name) {
			parent = p
			break
		}
	}
	srv.mu.Unlock()
	if ns == nil {
		ns, _ = srv.insert(newNamespace(srv, name, parent), false) // nothing refuses it
	}
	return ns
}

// Namespaces returns the namespaces there are.
func (srv *Server) Namespaces() []*Namespace {
	srv.mu.Lock()
	defer srv.mu.Unlock()
	all := make([]*Namespace, 0, len(srv.namespaces))
	for _, ns := range srv.namespaces {
		all = append(all, ns)
	}
	return all
}

// insert adds a new namespace, unless there is one of that name by now, which it returns instead. One made for a client is
// counted, and in use.
func (srv *Server) insert(ns *Namespace, forClient bool) (*Namespace, error) {
	srv.mu.Lock()
	is, exists := srv.namespaces[ns.name]
	var err error
	switch {
	case exists:
	case forClient && srv.made >= srv.opts.MaxChildNamespaces:
		err = errTooManyNamespaces // taken since acquire looked
	default:
		is = ns
		srv.namespaces[ns.name] = ns
		ns.onDemand = forClient
		if forClient {
			srv.made++
		}
	}
	if forClient && err == nil {
		is.users++
	}
	srv.mu.Unlock()
	if is != ns {
		_ = ns.adapter.Close() // it was never used
		return is, err
	}
	if f := srv.opts.Hooks.NamespaceOpened; f != nil {
		f(ns)
	}
	return ns, nil
}

// simple tells that nothing of the application has to be asked before a client may join the namespace.
func (srv *Server) simple(name string) bool {
	srv.mu.Lock()
	ns := srv.namespaces[name]
	srv.mu.Unlock()
	return ns != nil && ns.recoverer == nil && len(ns.get().use) == 0
}

const maxNamespaceName = 1024 // bytes of a name that a client makes up

// acquire returns the namespace that a client asks for, and counts it as in use until release.
func (srv *Server) acquire(ctx context.Context, name string, auth []byte) (*Namespace, error) {
	srv.mu.Lock()
	ns, parents, full := srv.namespaces[name], srv.parents, srv.made >= srv.opts.MaxChildNamespaces
	if ns != nil {
		ns.users++
	}
	srv.mu.Unlock()
	if ns != nil {
		return ns, nil
	}
	if len(name) > maxNamespaceName { // it would be kept for as long as the namespace
		parents = nil
	}
	for _, p := range parents {
		var ok bool
		err := caught(func() (err error) {
			ok, err = p.match(ctx, name, json.RawMessage(auth))
			return err
		})
		if err != nil {
			srv.opts.Logger.Warn("namespace_match", "namespace", name, "error", err)
		} else if ok && full {
			return nil, errTooManyNamespaces
		} else if ok {
			return srv.insert(newNamespace(srv, name, p), true)
		}
	}
	return nil, &ConnectError{Message: "Invalid namespace"}
}

func (srv *Server) release(ns *Namespace) {
	srv.mu.Lock()
	ns.users--
	gone := ns.users == 0 && ns.onDemand && srv.opts.CleanupEmptyChildNamespaces && srv.namespaces[ns.name] == ns
	if gone {
		delete(srv.namespaces, ns.name)
		srv.made--
	}
	srv.mu.Unlock()
	if gone {
		srv.closeNamespace(ns)
	}
}

func (srv *Server) closeNamespace(ns *Namespace) {
	if err := ns.adapter.Close(); err != nil {
		srv.opts.Logger.Warn("adapter_close", "namespace", ns.name, "error", err)
	}
	if f := srv.opts.Hooks.NamespaceClosed; f != nil {
		f(ns)
	}
}

// start runs f in a goroutine that Shutdown waits for. It refuses once the server is closed.
func (srv *Server) start(f func()) bool {
	if !srv.enter() {
		return false
	}
	srv.crew.Go(crew.Func(func() {
		defer srv.running.Done()
		f()
	}))
	return true
}

// enter makes Shutdown wait for running.Done. It refuses once the server is closed.
func (srv *Server) enter() bool {
	srv.mu.Lock()
	defer srv.mu.Unlock()
	if !srv.closed {
		srv.running.Add(1)
	}
	return !srv.closed
}

// Shutdown refuses new clients, closes the connections of those there are, so that they reconnect elsewhere, waits for the
// handlers that run, and closes the adapters. When ctx is done it does not wait any longer and returns its error. Shut it
// down before its http.Server, which does not know of WebSockets.
func (srv *Server) Shutdown(ctx context.Context) error {
	return srv.close(ctx, srv.engine.Shutdown(ctx))
}

// Close drops all connections at once, waits for the handlers that run, and closes the adapters.
func (srv *Server) Close() error {
	return srv.close(context.Background(), srv.engine.Close())
}

func (srv *Server) close(ctx context.Context, err error) error {
	srv.mu.Lock()
	again := srv.closed
	srv.closed = true // what the end of the sockets had to start has been started
	srv.mu.Unlock()
	done := make(chan struct{})
	go func() { // ends with the last handler
		srv.running.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
		err = errors.Join(err, ctx.Err())
	}
	srv.crew.Close()
	if !again {
		for _, ns := range srv.Namespaces() {
			srv.closeNamespace(ns)
		}
	}
	return err
}

// encode makes a packet ready for the transport.
func (srv *Server) encode(p *sioproto.Packet) *eio.Message {
	frames := srv.opts.Parser.Encode(p)
	if len(frames) == 1 {
		return eio.NewMessage(eio.Frame(frames[0]))
	}
	out := make([]eio.Frame, len(frames))
	for i, f := range frames {
		out[i] = eio.Frame(f)
	}
	return eio.NewMessage(out...)
}

// newID returns 20 random characters: 15 bytes in base64url. The sharded Redis adapter tells the room of a socket by its
// length.
func newID() string {
	var b [15]byte
	_, _ = rand.Read(b[:]) // never fails
	return base64.RawURLEncoding.EncodeToString(b[:])
}
