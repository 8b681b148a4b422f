package sio_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"github.com/seed-0b620db0/patchbay/internal/siotest"
	"github.com/seed-0b620db0/patchbay/pkg/eio"
	"github.com/seed-0b620db0/patchbay/pkg/sio"
)

// lab is a server over a listener in memory. At its end it checks what must hold for every test: each socket that connected
// has disconnected, and no namespace has sockets, users or rooms left.
type lab struct {
	*sio.Server
	t        testing.TB
	listener *siotest.Listener
	patience time.Duration // of clients; in a bubble it costs nothing

	connected, disconnected atomic.Int64

	mu      sync.Mutex
	reports []report
	clients []*client
}

// report is a call of Hooks.HandlerError.
type report struct {
	event string
	err   error
}

// bubble runs f with a server whose options are opts.
func bubble(t *testing.T, opts *sio.Options, f func(t *testing.T, l *lab)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, opts)
		l.patience = time.Hour
		f(t, l)
	})
}

// newLab is for tests outside a bubble.
func newLab(t testing.TB, opts *sio.Options) *lab {
	t.Helper()
	var o sio.Options
	if opts != nil {
		o = *opts
	}
	l := &lab{t: t, listener: siotest.Listen(0), patience: siotest.Patience}
	h := o.Hooks
	o.Hooks.Connected = func(s *sio.Socket) {
		l.connected.Add(1)
		if h.Connected != nil {
			h.Connected(s)
		}
	}
	o.Hooks.Disconnected = func(s *sio.Socket, reason sio.Reason) {
		l.disconnected.Add(1)
		if h.Disconnected != nil {
			h.Disconnected(s, reason)
		}
	}
	o.Hooks.HandlerError = func(s *sio.Socket, event string, err error) {
		l.mu.Lock()
		l.reports = append(l.reports, report{event, err})
		l.mu.Unlock()
		if h.HandlerError != nil {
			h.HandlerError(s, event, err)
		}
	}
	l.Server = sio.NewServer(&o)
	var wg sync.WaitGroup
	srv := &http.Server{
		Handler:  l.Server,
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
		ConnState: func(_ net.Conn, s http.ConnState) { // net/http waits for nobody
			switch s {
			case http.StateNew:
				wg.Add(1)
			case http.StateClosed, http.StateHijacked:
				wg.Done()
			default:
			}
		},
	}
	wg.Go(func() { _ = srv.Serve(l.listener) })
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		_ = srv.Close()
		l.mu.Lock()
		clients := l.clients
		l.mu.Unlock()
		for _, c := range clients {
			c.cut()
			<-c.gone
		}
		wg.Wait()
		l.check()
	})
	return l
}

func (l *lab) check() {
	if c, d := l.connected.Load(), l.disconnected.Load(); c != d {
		l.t.Errorf("%d sockets connected, %d disconnected", c, d)
	}
	for _, ns := range l.Namespaces() {
		if n, users, rooms := ns.Len(), sio.Users(ns), sio.Rooms(ns); n != 0 || users != 0 || len(rooms) != 0 {
			l.t.Errorf("left in %s: %d sockets, %d users, rooms %q", ns.Name(), n, users, rooms)
		}
	}
}

// errors returns what was reported to Hooks.HandlerError.
func (l *lab) errors() []report {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.reports)
}

// until waits, outside a bubble, for what is about to happen.
func until(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(siotest.Patience); !holds(); runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

// only returns the one socket of a namespace.
func only(t testing.TB, ns *sio.Namespace) *sio.Socket {
	t.Helper()
	all := slices.Collect(ns.Sockets())
	if len(all) != 1 {
		t.Fatalf("%s has %d sockets, want 1", ns.Name(), len(all))
	}
	return all[0]
}

// client is a client that answers pings and collects packets. It belongs to the goroutine of its test.
type client struct {
	l    *lab
	sid  string
	gone chan struct{} // closed when nothing more will come

	// over WebSocket
	ws  *websocket.Conn
	raw net.Conn
	// over polling
	http   *http.Client
	posts  chan struct{} // one POST at a time, as a stock client
	cancel context.CancelFunc

	mute  atomic.Bool // leaves pings unanswered
	pings atomic.Int64

	changed chan struct{}
	mu      sync.Mutex
	got     []string
}

func (l *lab) newClient() *client {
	c := &client{l: l, gone: make(chan struct{}), changed: make(chan struct{}, 1)}
	l.mu.Lock()
	l.clients = append(l.clients, c)
	l.mu.Unlock()
	return c
}

// oneConn returns an HTTP client that uses a connection that is there.
func oneConn(conn net.Conn) *http.Client {
	return &http.Client{Transport: &http.Transport{
		DialContext: func(context.Context, string, string) (net.Conn, error) { return conn, nil },
	}}
}

const base = "http://memory/socket.io/?EIO=4&transport="

// ws opens a session over WebSocket.
func (l *lab) ws() *client {
	l.t.Helper()
	c := l.newClient()
	tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (_ net.Conn, err error) {
		c.raw, err = l.listener.Dial(ctx)
		return c.raw, err
	}}
	ws, res, err := websocket.Dial(context.Background(), base+"websocket", &websocket.DialOptions{HTTPClient: &http.Client{Transport: tr}})
	if err != nil {
		close(c.gone)
		l.t.Fatalf("dial: %v (%v)", err, res)
	}
	ws.SetReadLimit(-1)
	c.ws = ws
	_, open, err := ws.Read(context.Background())
	if err != nil {
		l.t.Errorf("open packet: %v", err)
	}
	c.sid = parseSID(l.t, string(open))
	go func() { // ends with the connection
		defer close(c.gone)
		for {
			kind, data, err := ws.Read(context.Background())
			if err != nil {
				return
			}
			if kind == websocket.MessageBinary {
				c.take("bin:" + string(data))
				continue
			}
			c.packet(string(data), func() { _ = ws.Write(context.Background(), websocket.MessageText, []byte("3")) })
		}
	}()
	return c
}

// polling opens a session over polling, which always has a request open.
func (l *lab) polling() *client {
	l.t.Helper()
	c := l.handshake()
	ctx, cancel := context.WithCancel(context.Background())
	c.cancel = cancel
	go func() { // ends with the session, or by cut
		defer close(c.gone)
		defer c.http.CloseIdleConnections()
		for {
			body, err := c.do(ctx, http.MethodGet, "")
			if err != nil {
				return
			}
			for packet := range strings.SplitSeq(body, siotest.Separator) {
				c.packet(packet, func() {
					go func() { _, _ = c.do(ctx, http.MethodPost, "3") }() // ends with the POST or the client
				})
			}
		}
	}()
	return c
}

// handshake opens a session over polling that has no request open but those of the test.
func (l *lab) handshake() *client {
	l.t.Helper()
	c := l.newClient()
	c.http = &http.Client{Transport: &http.Transport{DialContext: l.listener.DialContext}}
	c.posts = make(chan struct{}, 1)
	body, err := c.do(context.Background(), http.MethodGet, "")
	if err != nil {
		close(c.gone)
		l.t.Fatalf("handshake: %v", err)
	}
	c.sid = parseSID(l.t, body)
	c.cancel = sync.OnceFunc(func() {
		c.http.CloseIdleConnections()
		close(c.gone)
	})
	return c
}

func parseSID(t testing.TB, packet string) string {
	t.Helper()
	var open struct{ SID string }
	if data, ok := strings.CutPrefix(packet, "0"); !ok || json.Unmarshal([]byte(data), &open) != nil {
		t.Fatalf("open packet: got %q", packet)
	}
	return open.SID
}

// open opens a session over a transport.
func (l *lab) open(t eio.Transport) *client {
	l.t.Helper()
	if t == eio.Polling {
		return l.polling()
	}
	return l.ws()
}

func (c *client) do(ctx context.Context, method, body string) (string, error) {
	if method == http.MethodPost {
		select {
		case c.posts <- struct{}{}:
			defer func() { <-c.posts }()
		case <-c.gone:
			return "", net.ErrClosed
		}
	}
	addr := base + "polling"
	if c.sid != "" {
		addr += "&sid=" + c.sid
	}
	req, err := http.NewRequestWithContext(ctx, method, addr, strings.NewReader(body))
	if err != nil {
		return "", err
	}
	res, err := c.http.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %d: %s", res.StatusCode, b)
	}
	return string(b), err
}

func (c *client) packet(p string, pong func()) {
	switch {
	case p == "2":
		c.pings.Add(1)
		if !c.mute.Load() {
			pong()
		}
	case strings.HasPrefix(p, "4"):
		c.take(p[1:])
	case strings.HasPrefix(p, "b"):
		c.take(p)
	default: // close and noop are seen by what follows
	}
}

func (c *client) take(p string) {
	c.mu.Lock()
	c.got = append(c.got, p)
	c.mu.Unlock()
	select {
	case c.changed <- struct{}{}:
	default:
	}
}

// send sends Socket.IO packets. What begins with "bin:" is a binary message.
func (c *client) send(packets ...string) {
	c.l.t.Helper()
	for _, p := range packets {
		if err := c.trySend(p); err != nil {
			c.l.t.Fatalf("send %q: %v", p, err)
		}
	}
}

func (c *client) trySend(p string) error {
	data, binary := strings.CutPrefix(p, "bin:")
	switch {
	case c.ws == nil:
		_, err := c.do(context.Background(), http.MethodPost, "4"+p)
		return err
	case binary:
		return c.ws.Write(context.Background(), websocket.MessageBinary, []byte(data))
	default:
		return c.ws.Write(context.Background(), websocket.MessageText, []byte("4"+p))
	}
}

// next returns the next packet, or false when there will be none.
func (c *client) next() (string, bool) {
	timeout := time.NewTimer(c.l.patience)
	defer timeout.Stop()
	for ended := false; ; {
		c.mu.Lock()
		if len(c.got) > 0 {
			p := c.got[0]
			c.got = c.got[1:]
			c.mu.Unlock()
			return p, true
		}
		c.mu.Unlock()
		if ended {
			return "", false
		}
		select {
		case <-c.changed:
		case <-c.gone:
			ended = true
		case <-timeout.C:
			return "", false
		}
	}
}

// want compares the next packets, in order.
func (c *client) want(packets ...string) {
	c.l.t.Helper()
	for _, want := range packets {
		if got, ok := c.next(); !ok || got != want {
			c.l.t.Fatalf("got packet %q (%v), want %q", got, ok, want)
		}
	}
}

// wantNone checks that nothing has come, once everything is at rest.
func (c *client) wantNone() {
	c.l.t.Helper()
	synctest.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.got) > 0 {
		c.l.t.Errorf("got packets %q, want none", c.got)
	}
}

// drain returns the packets that have come, once everything is at rest.
func (c *client) drain() []string {
	synctest.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	got := c.got
	c.got = nil
	return got
}

// wantGone waits for the end of the connection.
func (c *client) wantGone() {
	c.l.t.Helper()
	select {
	case <-c.gone:
	case <-time.After(c.l.patience):
		c.l.t.Error("the connection is still there")
	}
}

// wantAlive checks that the connection is there once everything is at rest.
func (c *client) wantAlive() {
	c.l.t.Helper()
	synctest.Wait()
	select {
	case <-c.gone:
		c.l.t.Error("the connection has ended")
	default:
	}
}

// joined is what a CONNECT is answered with.
type joined struct{ SID, PID string }

// connect joins a namespace, "/" or "/name". auth is JSON, or empty. The answer must be the next packet.
func (c *client) connect(ns, auth string) joined {
	c.l.t.Helper()
	c.send("0" + prefix(ns) + auth)
	got, _ := c.next()
	j, ok := parseConnect(ns, got)
	if !ok {
		c.l.t.Fatalf("connect to %s: got %q", ns, got)
	}
	return j
}

func parseConnect(ns, packet string) (j joined, ok bool) {
	data, ok := strings.CutPrefix(packet, "0"+prefix(ns))
	return j, ok && json.Unmarshal([]byte(data), &j) == nil && j.SID != ""
}

func prefix(ns string) string {
	if ns == "/" {
		return ""
	}
	return ns + ","
}

// cut ends the connection without a goodbye.
func (c *client) cut() {
	if c.raw != nil {
		c.raw.Close()
	}
	if c.ws != nil {
		_ = c.ws.CloseNow()
	}
	if c.cancel != nil {
		c.cancel()
	}
}

// log collects lines from many goroutines.
type log struct {
	mu    sync.Mutex
	lines []string
}

func (g *log) add(format string, args ...any) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.lines = append(g.lines, fmt.Sprintf(format, args...))
}

func (g *log) all() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.lines)
}

// want compares the lines there are once everything is at rest.
func (g *log) want(t testing.TB, lines ...string) {
	t.Helper()
	synctest.Wait()
	if got := g.all(); !slices.Equal(got, lines) {
		t.Errorf("got\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(lines, "\n\t"))
	}
}

// wantClose polls until the client is told that its connection is closed, which comes by itself.
func wantClose(t *testing.T, c *client) {
	t.Helper()
	for range 3 {
		body, err := c.do(t.Context(), "GET", "")
		if err != nil {
			t.Fatal(err)
		}
		if body == "1" {
			return
		}
	}
	t.Error("no close packet")
}
