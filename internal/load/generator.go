package load

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Transport is how a client talks to the server.
type Transport string

// The transports. Upgrade begins with polling and moves to WebSocket, as stock clients do.
const (
	WebSocket Transport = "websocket"
	Polling   Transport = "polling"
	Upgrade   Transport = "upgrade"
)

// Options configure a Generator.
type Options struct {
	// URL of the server, http or https. Without a path it is that of Socket.IO, /socket.io/.
	URL string
	// Transport is WebSocket by default.
	Transport Transport
	// Namespace that clients join. Default "/".
	Namespace string
	// Auth is the JSON object that they join it with. Default none.
	Auth json.RawMessage
	// Timeout bounds the time to connect, and that of a request or write. Default 20 s.
	Timeout time.Duration
	// TLS is for https. Default nil: the system's roots.
	TLS *tls.Config
	// Loops is the number of threads that read WebSockets, where there are any. Default 1.
	Loops int
	// StopPolling leaves a polling client, once it has joined, with no request under way and no connection.
	StopPolling bool
}

// Handler gets what happens to a client. Its methods are called one at a time for each client and must not block.
type Handler interface {
	// Receive is called for each event and acknowledgement, possibly before Connect returns, when nothing can be sent yet.
	// m is only lent.
	Receive(c *Client, m *Message)
	// Lost is called once if the connection of a client that had joined ends without its or the generator's Close.
	Lost(c *Client, err error)
}

// Generator holds the clients of one server. Its methods may be called from any goroutine.
type Generator struct {
	// Set at construction.
	opts   Options
	url    *url.URL
	addr   string // to dial
	query  string // without transport
	prefix string // of packets of the namespace
	hello  []byte // that joins it
	loops  loops
	done   chan struct{} // closed by Close
	wg     sync.WaitGroup

	dials atomic.Uint64

	mu      sync.Mutex
	closed  bool
	clients map[*Client]struct{}
	removed sync.Cond // from clients, the last
}

// ErrClosed says that the client or generator was closed.
var ErrClosed = errors.New("closed")

// New returns a generator without clients.
func New(o *Options) (*Generator, error) {
	g := &Generator{opts: *o, done: make(chan struct{}), clients: map[*Client]struct{}{}}
	g.removed.L = &g.mu
	u, err := url.Parse(o.URL)
	if err != nil {
		return nil, err
	}
	port := map[string]string{"http": "80", "ws": "80", "https": "443", "wss": "443"}[u.Scheme]
	if port == "" || u.Host == "" {
		return nil, fmt.Errorf("%q is no http or https URL", o.URL)
	}
	if g.opts.Transport == "" {
		g.opts.Transport = WebSocket
	}
	switch g.opts.Transport {
	case WebSocket, Polling, Upgrade:
	default:
		return nil, fmt.Errorf("%q is no transport", o.Transport)
	}
	if g.opts.Timeout == 0 {
		g.opts.Timeout = 20 * time.Second
	}
	if u.Port() != "" {
		port = u.Port()
	}
	g.url, g.addr = u, net.JoinHostPort(u.Hostname(), port)
	if u.Path == "" || u.Path == "/" {
		u.Path = "/socket.io/"
	}
	g.query = u.Path + "?"
	if u.RawQuery != "" {
		g.query += u.RawQuery + "&"
	}
	g.query += "EIO=4&transport="
	if ns := "/" + strings.TrimPrefix(o.Namespace, "/"); ns != "/" {
		g.prefix = ns + ","
	}
	g.hello = append([]byte("40"+g.prefix), o.Auth...)
	if err := g.loops.start(max(1, o.Loops)); err != nil {
		return nil, err
	}
	g.wg.Go(g.watch)
	return g, nil
}

// tls tells whether the server wants TLS.
func (g *Generator) tls() bool { return g.url.Scheme == "https" || g.url.Scheme == "wss" }

// target is what a request asks for.
func (g *Generator) target(t Transport, sid string) string {
	s := g.query + string(t)
	if sid != "" {
		s += "&sid=" + url.QueryEscape(sid)
	}
	return s
}

// perAddress is how many connections are made from one address: a bit less than there are ports.
const perAddress = 20_000

// dial connects to the server. One on this machine is dialed from more addresses when the first would run out of ports.
func (g *Generator) dial(ctx context.Context) (net.Conn, error) {
	d := net.Dialer{KeepAlive: -1}
	if n := (g.dials.Add(1) - 1) / perAddress; n > 0 && (strings.HasPrefix(g.addr, "127.") || strings.HasPrefix(g.addr, "localhost:")) {
		d.LocalAddr = &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(1+n%254))}
		d.Control = bindLate
	}
	if !g.tls() {
		return d.DialContext(ctx, "tcp", g.addr)
	}
	return (&tls.Dialer{NetDialer: &d, Config: g.opts.TLS}).DialContext(ctx, "tcp", g.addr)
}

// Connect adds a client and returns when it has joined the namespace.
func (g *Generator) Connect(ctx context.Context, h Handler) (*Client, error) {
	ctx, cancel := context.WithTimeout(ctx, g.opts.Timeout)
	defer cancel()
	c := &Client{gen: g, handler: h}
	var err error
	switch g.opts.Transport {
	case Polling:
		err = c.connectPolling(ctx)
	case Upgrade:
		err = c.connectUpgrade(ctx)
	default:
		err = c.connectWebSocket(ctx, "")
	}
	if err != nil {
		return nil, err
	}
	return c, nil
}

// add makes c one of the clients, which are waited for, or says that there are to be no more.
func (g *Generator) add(c *Client) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return ErrClosed
	}
	c.seen.Store(Now())
	g.clients[c] = struct{}{}
	return nil
}

func (g *Generator) remove(c *Client) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if delete(g.clients, c); len(g.clients) == 0 {
		g.removed.Broadcast()
	}
}

// Len returns the number of clients that are connected.
func (g *Generator) Len() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.clients)
}

func (g *Generator) all() []*Client {
	g.mu.Lock()
	defer g.mu.Unlock()
	all := make([]*Client, 0, len(g.clients))
	for c := range g.clients {
		all = append(all, c)
	}
	return all
}

// watch ends clients that hear nothing, and those whose orderly end takes too long. It runs until Close.
func (g *Generator) watch() {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-g.done:
			return
		case <-tick.C:
		}
		now := Now()
		for _, c := range g.all() {
			silent := time.Duration(now - c.seen.Load())
			if since := c.closing.Load(); since != 0 && time.Duration(now-since) > closeTimeout {
				c.transport.abort(ErrClosed)
			} else if patience := c.patience.Load(); since == 0 && patience > 0 && int64(silent) > patience {
				c.transport.abort(fmt.Errorf("no ping for %v", silent.Round(time.Millisecond)))
			}
		}
	}
}

// closeTimeout is the time a server has to answer a close.
const closeTimeout = 5 * time.Second

// Close closes all clients in an orderly way and waits for their end. Who connects meanwhile fails.
func (g *Generator) Close() {
	g.mu.Lock()
	if g.closed {
		g.mu.Unlock()
		return
	}
	g.closed = true
	g.mu.Unlock()
	g.CloseClients()
	close(g.done)
	g.loops.stop()
	g.wg.Wait()
}

// CloseClients closes all clients in an orderly way and waits for their end, which watch sees to. No client may be
// connecting.
func (g *Generator) CloseClients() {
	for _, c := range g.all() {
		c.Close()
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for len(g.clients) > 0 {
		g.removed.Wait()
	}
}

var epoch = time.Now()

// Now returns the nanoseconds since the program began.
func Now() int64 { return int64(time.Since(epoch)) }

// Stamp appends a JSON string of size characters to dst that holds a time of Now, for Stamped to find.
func Stamp(dst []byte, at int64, size int) []byte {
	dst = append(dst, '"')
	start := len(dst)
	for shift := 60; shift >= 0; shift -= 4 {
		dst = append(dst, "0123456789abcdef"[at>>shift&15])
	}
	for len(dst) < start+size {
		dst = append(dst, 'x')
	}
	return append(dst, '"')
}

// Stamped returns the time in the stamp that text begins with, or follows after its first quotation mark.
func Stamped(text []byte) (int64, bool) {
	if len(text) < 17 || text[0] != '"' {
		return 0, false
	}
	at, err := strconv.ParseInt(string(text[1:17]), 16, 64)
	return at, err == nil
}
