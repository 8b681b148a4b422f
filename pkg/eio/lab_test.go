package eio_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-0b620db0/patchbay/internal/siotest"
	"github.com/seed-0b620db0/patchbay/pkg/eio"
)

// lab is a server in a bubble, over a listener in memory. At its end it checks what must hold for every test: each session
// was reported closed exactly once, nothing is left in the queues, and nothing runs.
type lab struct {
	*eio.Server
	t        testing.TB
	listener *siotest.Listener
	http     *http.Client
	client   *http.Transport
	accept   func(*peer) // called for each session, may be set before the first
	wrap     func(http.Handler) http.Handler

	queued, opened, closedHook atomic.Int64

	mu    sync.Mutex
	peers []*peer
	hooks map[string]int // calls of the other hooks
}

// bubble runs f with a server whose options are opts, which it may go on to use.
func bubble(t *testing.T, opts *eio.Options, f func(t *testing.T, l *lab)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(t, newLab(t, opts, 0)) })
}

// newLab is for a test that wants connections whose buffers hold so many bytes, or another http.Server.
func newLab(t testing.TB, opts *eio.Options, buffer int, configure ...func(*http.Server)) *lab {
	t.Helper()
	var o eio.Options
	if opts != nil {
		o = *opts
	}
	l := &lab{
		t: t, listener: siotest.Listen(buffer), hooks: map[string]int{},
		accept: func(*peer) {},
		wrap:   func(h http.Handler) http.Handler { return h },
	}
	l.hook(&o.Hooks)
	l.Server = eio.NewServer(func(s *eio.Session) eio.Handler {
		p := &peer{s: s, changed: make(chan struct{}, 1)}
		l.mu.Lock()
		l.peers = append(l.peers, p)
		l.mu.Unlock()
		l.accept(p)
		return p
	}, &o)
	var wg sync.WaitGroup
	srv := &http.Server{
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError), // panics that tests provoke
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			wg.Add(1) // net/http waits for nobody
			defer wg.Done()
			l.wrap(l.Server).ServeHTTP(w, r)
		}),
	}
	srv.ConnState = func(_ net.Conn, s http.ConnState) {
		switch s { //nolint:exhaustive // the others change nothing
		case http.StateNew:
			wg.Add(1)
		case http.StateClosed, http.StateHijacked:
			wg.Done()
		}
	}
	for _, f := range configure {
		f(srv)
	}
	wg.Go(func() { _ = srv.Serve(l.listener) })
	l.client = &http.Transport{DialContext: l.listener.DialContext, DisableCompression: true}
	l.http = &http.Client{Transport: l.client}
	t.Cleanup(func() {
		_ = l.Close()
		_ = srv.Close()
		l.client.CloseIdleConnections()
		wg.Wait()
		l.check()
	})
	return l
}

func (l *lab) hook(h *eio.Hooks) {
	queued, opened, closed, received := h.Queued, h.Opened, h.Closed, h.Received
	h.Queued = func(n int) {
		l.queued.Add(int64(n))
		if queued != nil {
			queued(n)
		}
	}
	h.Opened = func(s *eio.Session) {
		l.opened.Add(1)
		if opened != nil {
			opened(s)
		}
	}
	h.Closed = func(s *eio.Session, reason eio.CloseReason, err error) {
		l.closedHook.Add(1)
		if closed != nil {
			closed(s, reason, err)
		}
	}
	h.Refused = func(_ *http.Request, e *eio.ConnectionError) { l.count("refused " + e.Error()) }
	h.Upgraded = func(*eio.Session, time.Duration) { l.count("upgraded") }
	h.UpgradeFailed = func(_ *eio.Session, err error) { l.count("upgrade failed: " + err.Error()) }
	h.Received = func(t eio.Transport, n int) {
		l.count(fmt.Sprintf("received %s %d", t, n))
		if received != nil {
			received(t, n)
		}
	}
	h.Sent = func(t eio.Transport, m, n int) { l.count(fmt.Sprintf("sent %s %d", t, m)) }
	h.Behind = func(*eio.Session) { l.count("behind") }
	h.CaughtUp = func(_ *eio.Session, took time.Duration) {
		l.count("caught up")
		l.count("caught up after " + took.Round(time.Second).String())
	}
	h.Dropped = func(*eio.Session) { l.count("dropped") }
}

func (l *lab) count(what string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hooks[what]++
}

// calls returns how often a hook was called, by the name under which it is counted.
func (l *lab) calls(what string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.hooks[what]
}

func (l *lab) check() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, p := range l.peers {
		if n := len(p.ends()); n != 1 {
			l.t.Errorf("session %d: Handler.Closed was called %d times: %v", i, n, p.ends())
		}
	}
	if n := l.queued.Load(); n != 0 {
		l.t.Errorf("Hooks.Queued sums up to %d bytes, want 0", n)
	}
	if b, c := l.hooks["behind"], l.hooks["caught up"]; b != c {
		l.t.Errorf("Hooks.Behind was called %d times, Hooks.CaughtUp %d times", b, c)
	}
	if o, c := l.opened.Load(), l.closedHook.Load(); o != c || int(o) != len(l.peers) {
		l.t.Errorf("%d sessions, Hooks.Opened called %d times, Hooks.Closed %d times", len(l.peers), o, c)
	}
	if n := l.Len(); n != 0 {
		l.t.Errorf("%d sessions left in the server", n)
	}
}

// peer is the server's side of a session, and its Handler.
type peer struct {
	s         *eio.Session
	onMessage func(data string) // may be set in accept
	onClosed  func()

	changed chan struct{}
	mu      sync.Mutex
	got     []string
	closed  []ending
}

type ending struct {
	reason eio.CloseReason
	err    error
}

func (p *peer) Message(data []byte, binary bool) {
	m := string(data)
	if binary {
		m = "bin:" + m
	}
	p.mu.Lock()
	p.got = append(p.got, m)
	p.mu.Unlock()
	select {
	case p.changed <- struct{}{}:
	default:
	}
	if p.onMessage != nil {
		p.onMessage(m)
	}
}

func (p *peer) Closed(reason eio.CloseReason, err error) {
	p.mu.Lock()
	p.closed = append(p.closed, ending{reason, err})
	p.mu.Unlock()
	if p.onClosed != nil {
		p.onClosed()
	}
}

func (p *peer) messages() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.got)
}

func (p *peer) ends() []ending {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.closed)
}

// await waits for n messages.
func (p *peer) await(n int) []string {
	for {
		if m := p.messages(); len(m) >= n {
			return m
		}
		<-p.changed
	}
}

// wantMessages compares what has come so far.
func (p *peer) wantMessages(t testing.TB, want ...string) {
	t.Helper()
	synctest.Wait()
	if got := p.messages(); !slices.Equal(got, want) {
		t.Errorf("messages: got %q, want %q", got, want)
	}
}

// wantOpen checks that the session is alive once everything has come to rest.
func (p *peer) wantOpen(t testing.TB) {
	t.Helper()
	synctest.Wait()
	if e := p.ends(); len(e) != 0 {
		t.Errorf("the session has ended: %v", e)
	}
}

// wantEnd checks how the session ended, once everything has come to rest.
func (p *peer) wantEnd(t testing.TB, reason eio.CloseReason) error {
	t.Helper()
	synctest.Wait()
	e := p.ends()
	if len(e) != 1 || e[0].reason != reason {
		t.Errorf("end: got %v, want %q", e, reason)
		return nil
	}
	return e[0].err
}

func text(s string) *eio.Message { return eio.NewMessage(eio.Frame{Data: []byte(s)}) }

func bin(s string) *eio.Message { return eio.NewMessage(eio.Frame{Data: []byte(s), Binary: true}) }

// last returns the server's side of the session that was opened last.
func (l *lab) last() *peer {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.peers[len(l.peers)-1]
}

// response is an HTTP response read to its end.
type response struct {
	status int
	header http.Header
	length int64
	body   string
	err    error
	closes bool // the connection, after it
}

func (r response) String() string { return fmt.Sprintf("%d %q %v", r.status, r.body, r.err) }

const (
	enginePath = "/engine.io/"
	pollQuery  = "EIO=4&transport=polling"
	wsQuery    = "EIO=4&transport=websocket"
)

func (l *lab) do(ctx context.Context, method, target string, h http.Header, body io.Reader) response {
	req, err := http.NewRequestWithContext(ctx, method, "http://memory"+target, body)
	if err != nil {
		return response{err: err}
	}
	maps.Copy(req.Header, h)
	res, err := l.http.Do(req)
	if err != nil {
		return response{err: err}
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return response{res.StatusCode, res.Header, res.ContentLength, string(b), err, res.Close}
}

// request sends a request to the server's path.
func (l *lab) request(method, query string, h http.Header, body io.Reader) response {
	return l.do(context.Background(), method, enginePath+"?"+query, h, body)
}

// opened is the data of an open packet.
type opened struct {
	SID          string   `json:"sid"`
	Upgrades     []string `json:"upgrades"`
	PingInterval int      `json:"pingInterval"`
	PingTimeout  int      `json:"pingTimeout"`
	MaxPayload   int      `json:"maxPayload"`
}

func parseOpen(packet string) (o opened, err error) {
	data, ok := strings.CutPrefix(packet, "0")
	if !ok {
		return o, fmt.Errorf("not an open packet: %q", packet)
	}
	return o, json.Unmarshal([]byte(data), &o)
}

// poller is the client of a polling session.
type poller struct {
	l      *lab
	sid    string
	header http.Header
	open   opened
	first  response
	peer   *peer
}

func (l *lab) poller(query ...string) *poller {
	l.t.Helper()
	r := l.request("GET", strings.Join(append([]string{pollQuery}, query...), "&"), nil, nil)
	packet, _, _ := strings.Cut(r.body, "\x1e") // behind it comes the initial packet, if any
	o, err := parseOpen(packet)
	if r.status != 200 || err != nil {
		l.t.Fatalf("handshake: %v, %v", r, err)
	}
	return &poller{l: l, sid: o.SID, open: o, first: r, peer: l.last()}
}

func (p *poller) query() string { return pollQuery + "&sid=" + p.sid }

func (p *poller) poll() response { return p.l.request("GET", p.query(), p.header, nil) }

// pollLater starts a poll and returns when it waits at the server.
func (p *poller) pollLater() *pending {
	ctx, cancel := context.WithCancel(context.Background())
	w := &pending{make(chan response, 1), cancel}
	go func() { w.done <- p.l.do(ctx, "GET", enginePath+"?"+p.query(), p.header, nil) }() // ends with the request
	synctest.Wait()
	return w
}

// pending is a request under way.
type pending struct {
	done  chan response
	abort context.CancelFunc
}

func (w *pending) wait() response { return <-w.done }

func (p *poller) post(body string) response {
	return p.l.request("POST", p.query(), p.header, strings.NewReader(body))
}

func (p *poller) postLater(body io.Reader) *pending {
	ctx, cancel := context.WithCancel(context.Background())
	w := &pending{make(chan response, 1), cancel}
	go func() { w.done <- p.l.do(ctx, "POST", enginePath+"?"+p.query(), p.header, body) }() // ends with the request
	synctest.Wait()
	return w
}

// wantPoll polls and compares the body.
func (p *poller) wantPoll(t testing.TB, want string) {
	t.Helper()
	if r := p.poll(); r.status != 200 || r.body != want {
		t.Errorf("poll: got %v, want 200 %q", r, want)
	}
}

// wantPost posts and expects to be told ok.
func (p *poller) wantPost(t testing.TB, body string) {
	t.Helper()
	if r := p.post(body); r.status != 200 || r.body != "ok" {
		t.Errorf("post %q: got %v, want 200 ok", body, r)
	}
}

func wantResponse(t testing.TB, r response, status int, body string) {
	t.Helper()
	if r.err != nil || r.status != status || r.body != body {
		t.Errorf("got %v, want %d %q", r, status, body)
	}
}

// rawPost begins a POST of length bytes with the first of them, and returns when the server waits for the rest.
func (p *poller) rawPost(length int, begin string) net.Conn {
	p.l.t.Helper()
	c, err := p.l.listener.Dial(context.Background())
	if err != nil {
		p.l.t.Fatal(err)
	}
	p.l.t.Cleanup(func() { c.Close() })
	fmt.Fprintf(c, "POST %s?%s HTTP/1.1\r\nHost: memory\r\nContent-Length: %d\r\n\r\n%s", enginePath, p.query(), length, begin)
	synctest.Wait()
	return c
}

// wantNoAnswer waits for the end of a connection on which nothing may come.
func wantNoAnswer(t testing.TB, c net.Conn) {
	t.Helper()
	if b, err := io.ReadAll(c); len(b) != 0 {
		t.Errorf("the request was answered: %q, %v", b, err)
	}
}

func bodyOf(s string) io.Reader { return strings.NewReader(s) }

var errNetClosed = net.ErrClosed

// abortedPoll and abortedPost may be used beside other requests, unlike what waits for the bubble.
func (p *poller) abortedPoll() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	p.l.do(ctx, "GET", enginePath+"?"+p.query(), nil, nil)
}

func (p *poller) abortedPost() {
	c, err := p.l.listener.Dial(context.Background())
	if err != nil {
		return // the lab is closing
	}
	fmt.Fprintf(c, "POST %s?%s HTTP/1.1\r\nHost: memory\r\nContent-Length: 9\r\n\r\n4a", enginePath, p.query())
	c.Close()
}
