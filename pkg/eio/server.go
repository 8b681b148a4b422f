package eio

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/seed-0b620db0/patchbay/internal/crew"
	"github.com/seed-0b620db0/patchbay/pkg/eio/eioproto"
)

// Server is an Engine.IO server: an http.Handler that answers below Options.Path.
type Server struct {
	// set at construction
	opts       Options
	newHandler func(*Session) Handler
	writers    writers
	crew       crew.Crew
	made       time.Time

	mu sync.Mutex
	// guarded by mu
	sessions map[string]*Session  // nil for an id whose handshake is under way
	opening  int                  // handshakes that have a place, but no session yet
	running  int                  // goroutines
	leaving  map[*wsConn]struct{} // in their close handshake
	draining bool
	closed   bool
	departed departures
	shaken   time.Time // when all handshakes so far would be over at HandshakeRate

	watcher   *watcher // of WebSockets; made for the first
	unwatched bool     // a test wants none

	idle chan struct{} // closed when the server is draining and nothing is left of all that
}

// NewServer returns a server that calls accept once for each new session, before anything is read from it. accept may send
// already. It must return a handler, and may be called from many goroutines at once. opts may be nil; NewServer panics if
// Transports or Node are not what they may be.
func NewServer(accept func(*Session) Handler, opts *Options) *Server {
	srv := &Server{
		opts: opts.withDefaults(), newHandler: accept, made: time.Now(),
		sessions: make(map[string]*Session), leaving: make(map[*wsConn]struct{}), idle: make(chan struct{}),
	}
	srv.writers.srv = srv
	return srv
}

// Len returns the number of sessions.
func (srv *Server) Len() int {
	srv.mu.Lock()
	defer srv.mu.Unlock()
	return len(srv.sessions)
}

// Session returns the session with this id, or nil.
func (srv *Server) Session(id string) *Session {
	srv.mu.Lock()
	defer srv.mu.Unlock()
	return srv.sessions[id]
}

// start runs f in a goroutine that Close waits for. It refuses once the server is closed.
func (srv *Server) start(f func()) bool {
	if !srv.enter() {
		return false
	}
	srv.crew.Go(crew.Func(func() {
		defer srv.leave()
		f()
	}))
	return true
}

// enter makes Close wait for a leave. It refuses once the server is closed.
func (srv *Server) enter() bool {
	srv.mu.Lock()
	defer srv.mu.Unlock()
	if !srv.closed {
		srv.running++
	}
	return !srv.closed
}

func (srv *Server) leave() {
	srv.mu.Lock()
	defer srv.mu.Unlock()
	srv.running--
	srv.idleLocked()
}

// hold makes Close wait until the function that it returns is called. It is for what runs on goroutines that are not ours.
func (srv *Server) hold() (release func()) {
	srv.changed(func() { srv.running++ })
	return srv.leave
}

// changed applies a change to what Close waits for.
func (srv *Server) changed(change func()) {
	srv.mu.Lock()
	defer srv.mu.Unlock()
	change()
	srv.idleLocked()
}

// idleLocked tells Close if there is nothing left to wait for.
func (srv *Server) idleLocked() {
	if srv.draining && len(srv.sessions)+srv.opening+srv.running == 0 {
		select {
		case <-srv.idle:
		default:
			close(srv.idle)
		}
	}
}

// Close ends all sessions at once and returns when nothing of the server runs any more. It waits for the calls of handlers,
// and so must not be called in one.
func (srv *Server) Close() error {
	var leaving []*wsConn
	srv.changed(func() {
		srv.draining, srv.closed = true, true
		leaving = slices.Collect(maps.Keys(srv.leaving))
	})
	for _, s := range srv.snapshot() {
		s.end(ReasonShutdown, nil, farewellAbort)
	}
	for _, c := range leaving {
		c.abort()
	}
	<-srv.idle
	srv.closeWatcher()
	srv.crew.Close()
	return nil
}

func (srv *Server) isClosed() bool {
	srv.mu.Lock()
	defer srv.mu.Unlock()
	return srv.closed
}

func (srv *Server) snapshot() []*Session {
	srv.mu.Lock()
	defer srv.mu.Unlock()
	all := make([]*Session, 0, len(srv.sessions))
	for _, s := range srv.sessions {
		if s != nil {
			all = append(all, s)
		}
	}
	return all
}

func (srv *Server) remove(s *Session) {
	srv.changed(func() {
		if srv.sessions[s.id] == s {
			delete(srv.sessions, s.id)
		}
	})
}

// closeTimeout is how long a session may take to close. A polling client between two polls is back within moments, if it is not
// hard pressed; a server that shuts down does not wait for one that has left.
func (srv *Server) closeTimeout() time.Duration {
	srv.mu.Lock()
	defer srv.mu.Unlock()
	if srv.draining {
		return drainCloseTimeout
	}
	return closeTimeout
}

// ServeHTTP implements http.Handler.
func (srv *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !srv.matches(r.URL.Path) {
		http.NotFound(w, r)
		return
	}
	query := lastValues(r.URL.RawQuery)
	s, refused := srv.verify(r, query)
	switch {
	case refused != nil:
		srv.refuse(w, r, refused)
	case s == nil:
		srv.handshake(w, r, query) //nolint:contextcheck // a session outlives its request
	case isUpgrade(r):
		s.serveUpgrade(w, r)
	default:
		s.servePolling(w, r)
	}
}

func (srv *Server) matches(path string) bool {
	if srv.opts.NoTrailingSlash {
		return path == srv.opts.Path || strings.HasPrefix(path, srv.opts.Path+"/")
	}
	return strings.HasPrefix(path, srv.opts.Path)
}

// lastValues parses a query string; of a repeated key the last value counts, as in the official server.
func lastValues(raw string) url.Values {
	q, _ := url.ParseQuery(raw) // what can be read of it
	for k, v := range q {
		q[k] = v[len(v)-1:]
	}
	return q
}

func isUpgrade(r *http.Request) bool {
	return strings.EqualFold(r.Header.Get("Upgrade"), "websocket")
}

// verify checks a request in the order of the official server. It returns the request's session, or nil for a handshake.
func (srv *Server) verify(r *http.Request, query url.Values) (*Session, *ConnectionError) {
	transport := Transport(query.Get("transport"))
	if !slices.Contains(srv.opts.Transports, transport) {
		return nil, refusal(CodeTransportUnknown, "", nil)
	}
	if !validHeaderValue(r.Header.Get("Origin")) {
		return nil, refusal(CodeBadRequest, "INVALID_ORIGIN", nil)
	}
	if sid := query.Get("sid"); sid != "" {
		s := srv.Session(sid)
		if s == nil {
			return nil, refusal(CodeSessionUnknown, "", nil)
		}
		if !isUpgrade(r) && s.Transport() != transport || isUpgrade(r) && transport != WebSocket {
			return nil, refusal(CodeBadRequest, "TRANSPORT_MISMATCH", nil)
		}
		if query.Get("EIO") != "4" {
			return nil, refusal(CodeBadRequest, "PROTOCOL_MISMATCH", nil)
		}
		return s, nil
	}
	if r.Method != http.MethodGet {
		return nil, refusal(CodeBadHandshakeMethod, "", nil)
	}
	if (transport == WebSocket) != isUpgrade(r) {
		return nil, refusal(CodeBadRequest, "TRANSPORT_HANDSHAKE_ERROR", nil)
	}
	if allow := srv.opts.AllowRequest; allow != nil {
		if err := allow(r); err != nil {
			e := refusal(CodeForbidden, "", err)
			e.Message = err.Error()
			return nil, e
		}
	}
	if query.Get("EIO") != "4" { // revision 3 would find its place here
		return nil, refusal(CodeUnsupportedProtocol, "", nil)
	}
	return nil, nil
}

func validHeaderValue(v string) bool {
	return !strings.ContainsFunc(v, func(c rune) bool { return c < ' ' && c != '\t' || c == 0x7f })
}

// refuse answers a request with an error of the protocol: JSON, or text for a WebSocket.
func (srv *Server) refuse(w http.ResponseWriter, r *http.Request, e *ConnectionError) {
	if srv.late(r, e) {
		srv.answerLate(w, r)
		return
	}
	srv.refused(r, e)
	h := w.Header()
	if e.Status == http.StatusServiceUnavailable {
		h.Set("Retry-After", "1")
	}
	if srv.isDraining() {
		h.Set("Connection", "close")
	}
	if isUpgrade(r) {
		h.Set("Connection", "close")
		h.Set("Content-Type", "text/html")
		h.Set("Content-Length", strconv.Itoa(len(e.message())))
		if e.Status != http.StatusServiceUnavailable {
			w.WriteHeader(http.StatusBadRequest) // whatever the code
		} else {
			w.WriteHeader(e.Status)
		}
		_, _ = w.Write([]byte(e.message())) // the client may have gone
		return
	}
	body, err := json.Marshal(struct {
		Code    Code   `json:"code"`
		Message string `json:"message"`
	}{e.Code, e.message()})
	if err != nil {
		panic("eio: " + err.Error()) // a number and a string
	}
	h.Set("Content-Type", "application/json")
	w.WriteHeader(e.Status)
	_, _ = w.Write(body)
}

func (srv *Server) refused(r *http.Request, e *ConnectionError) {
	srv.opts.Logger.Debug("connection_refused", "code", int(e.Code), "reason", e.Error(), "remote_addr", r.RemoteAddr)
	if f := srv.opts.Hooks.Refused; f != nil {
		f(r, e)
	}
}

// handshake opens a session.
func (srv *Server) handshake(w http.ResponseWriter, r *http.Request, query url.Values) {
	if e := srv.reserve(); e != nil {
		srv.refuse(w, r, e)
		return
	}
	s, open := srv.newSession(w, r, query)
	switch {
	case s == nil: // refused
	case open != nil:
		batch := []queued{{m: open}}
		if m := srv.opts.InitialPacket; m != nil {
			batch = append(batch, queued{m: m})
		}
		n, err := s.respond(w, r, batch)
		if err != nil {
			s.end(ReasonTransportError, err, farewellAbort)
			return
		}
		s.sentHook(Polling, batch, n)
	case !s.startStream(): // the server is closed, and has seen the session
		s.stream.abort()
	}
}

// startStream lets a session that came over a WebSocket write and read.
func (s *Session) startStream() bool {
	s.mu.Lock()
	s.writing = s.startWriterLocked()
	writing := s.writing
	s.mu.Unlock()
	return writing && s.stream.serve()
}

// newSession makes the session for which there is a place, or refuses the request. The open packet of a polling session is
// returned: it is a response of its own.
func (srv *Server) newSession(w http.ResponseWriter, r *http.Request, query url.Values) (*Session, *Message) {
	id, err := srv.claimID(r)
	if err != nil {
		srv.refuse(w, r, refusal(CodeBadRequest, "ID_GENERATION_ERROR", err))
		return nil, nil
	}
	opened := false
	defer func() {
		if !opened { // also when an option's function panics
			srv.changed(func() { delete(srv.sessions, id) })
		}
	}()
	h := w.Header()
	if c := srv.opts.Cookie; c != nil {
		c := *c
		c.Value = id
		http.SetCookie(w, &c)
	}
	if f := srv.opts.InitialHeaders; f != nil {
		f(h, r)
	}
	s := &Session{srv: srv, id: id, req: newRequest(r, srv.sessionContext(r)), lifetime: srv.opts.lifetime()}
	if !isUpgrade(r) {
		s.jsonp = jsonpIndex(query)
		opened = true
		srv.open(s)
		return s, srv.openMessage(id, Polling)
	}
	if f := srv.opts.Headers; f != nil {
		f(h, r)
	}
	c, err := s.upgrade(w, r)
	if err != nil {
		srv.refused(r, refusal(CodeBadRequest, "TRANSPORT_HANDSHAKE_ERROR", err))
		return nil, nil
	}
	s.mu.Lock()
	s.stream = c
	s.writing = true // the writer starts when there is all that its errors may end
	s.pushLocked(queued{m: srv.openMessage(id, WebSocket)})
	s.mu.Unlock()
	opened = true
	srv.open(s)
	return s, nil
}

func (srv *Server) release() { srv.changed(func() { srv.opening-- }) }

// claimID makes an id and enters it in the map, so that nobody else gets it while the session comes into being.
func (srv *Server) claimID(r *http.Request) (string, error) {
	defer srv.release() // from here on the id holds the place
	id, err := srv.generateID(r)
	if err != nil {
		return "", err
	}
	used := false
	srv.changed(func() {
		if _, used = srv.sessions[id]; !used && id != "" {
			srv.sessions[id] = nil
		}
	})
	if used || id == "" {
		return "", fmt.Errorf("id %q is empty or in use", id)
	}
	return id, nil
}

// open starts the life of s: from here on it has a heartbeat, a handler and an entry in the map.
func (srv *Server) open(s *Session) {
	defer func() {
		if v := recover(); v != nil {
			s.end(ReasonTransportError, fmt.Errorf("eio: panic in accept: %v", v), farewellAbort)
			srv.changed(func() { delete(srv.sessions, s.id) }) // the claim
			panic(v)                                           // net/http logs it
		}
	}()
	s.mu.Lock()
	first := srv.untilPing()
	s.timer = time.AfterFunc(first, s.tick)
	s.deadline = time.Now().Add(first)
	s.mu.Unlock()
	if f := srv.opts.Hooks.Opened; f != nil {
		f(s)
	}
	if m := srv.opts.InitialPacket; m != nil && s.stream != nil { // else it comes with the handshake's response
		_ = s.Send(m) // it can only fail if the session is closed already
	}
	s.setHandler(srv.newHandler(s))
	var late, tooLate bool // for Shutdown, and for Close, to have seen it
	srv.changed(func() {
		srv.sessions[s.id] = s
		late, tooLate = srv.draining, srv.closed
	})
	s.mu.Lock()
	over := s.state == stateClosed // within accept
	s.mu.Unlock()
	switch {
	case over:
		srv.remove(s)
	case tooLate:
		s.end(ReasonShutdown, nil, farewellAbort)
	case late:
		s.shut(ReasonShutdown)
	}
}

func (srv *Server) generateID(r *http.Request) (id string, err error) {
	if f := srv.opts.GenerateID; f != nil {
		id, err = f(r)
	} else {
		var b [15]byte
		_, _ = rand.Read(b[:]) // never fails
		id = base64.RawURLEncoding.EncodeToString(b[:])
		if srv.opts.Node != "" {
			id += "." + srv.opts.Node
		}
	}
	return id, err
}

func (srv *Server) sessionContext(r *http.Request) context.Context {
	if f := srv.opts.Context; f != nil {
		return f(r)
	}
	return context.Background()
}

// openMessage is the first packet of a session; the official server writes the keys in this order.
func (srv *Server) openMessage(id string, t Transport) *Message {
	upgrades := []Transport{}
	if t == Polling && !srv.opts.DisableUpgrades && slices.Contains(srv.opts.Transports, WebSocket) {
		upgrades = append(upgrades, WebSocket)
	}
	data, err := json.Marshal(struct {
		SID          string      `json:"sid"`
		Upgrades     []Transport `json:"upgrades"`
		PingInterval int64       `json:"pingInterval"`
		PingTimeout  int64       `json:"pingTimeout"`
		MaxPayload   int         `json:"maxPayload"`
	}{id, upgrades, srv.opts.PingInterval.Milliseconds(), srv.opts.PingTimeout.Milliseconds(), srv.opts.MaxHTTPBufferSize})
	if err != nil {
		panic("eio: " + err.Error()) // strings and numbers
	}
	return newMessage(eioproto.Open, Frame{Data: data})
}
