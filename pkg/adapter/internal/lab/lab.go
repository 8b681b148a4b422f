package lab

import (
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/seed-0b620db0/patchbay/internal/siotest"
	"github.com/seed-0b620db0/patchbay/pkg/sio"
)

// Lab is a set of servers.
type Lab struct {
	testing.TB
	patience time.Duration
}

// New returns a lab. bubble tells that it is in one.
func New(t testing.TB, bubble bool) *Lab {
	t.Helper()
	if bubble {
		return &Lab{t, time.Hour}
	}
	return &Lab{t, siotest.Patience}
}

// Until waits for what is about to happen.
func (l *Lab) Until(what string, holds func() bool) {
	l.Helper()
	for deadline := time.Now().Add(l.patience); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			l.Fatalf("never: %s", what)
		}
	}
}

// Server is a server over a listener in memory.
type Server struct {
	*sio.Server
	lab      *Lab
	listener *siotest.Listener
	http     *http.Server
	running  sync.WaitGroup

	mu sync.Mutex
	// guarded by mu
	clients []*Client
}

// Server starts a server.
func (l *Lab) Server(opts *sio.Options) *Server {
	s := &Server{Server: sio.NewServer(opts), lab: l, listener: siotest.Listen(0)}
	s.http = &http.Server{
		Handler:  s.Server,
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
		ConnState: func(_ net.Conn, state http.ConnState) { // net/http waits for nobody
			switch state {
			case http.StateNew:
				s.running.Add(1)
			case http.StateClosed, http.StateHijacked:
				s.running.Done()
			default:
			}
		},
		ReadHeaderTimeout: time.Minute,
	}
	s.running.Go(func() { _ = s.http.Serve(s.listener) })
	l.Cleanup(s.Stop)
	return s
}

// Stop closes the server and its clients, and waits for them. It may be called again.
func (s *Server) Stop() {
	if err := s.Close(); err != nil {
		s.lab.Errorf("close: %v", err)
	}
	_ = s.http.Close()
	s.mu.Lock()
	clients := s.clients
	s.clients = nil
	s.mu.Unlock()
	for _, c := range clients {
		c.Drop()
	}
	s.running.Wait()
}

// Client is a client in one namespace. It answers pings and collects packets.
type Client struct {
	ID string // of its socket

	server *Server
	ns     string
	ws     *websocket.Conn
	gone   chan struct{} // closed when nothing more will come

	changed chan struct{}
	mu      sync.Mutex
	got     []string // guarded by mu
}

// Auth is what all clients give as auth.
const Auth = `{"token":"t"}`

// Client connects to a namespace ("/" or "/name") and joins rooms.
func (s *Server) Client(ns string, rooms ...string) *Client {
	s.lab.Helper()
	c := &Client{server: s, ns: ns, gone: make(chan struct{}), changed: make(chan struct{}, 1)}
	ctx := context.Background()
	tr := &http.Transport{DialContext: s.listener.DialContext}
	ws, res, err := websocket.Dial(ctx, "http://memory/socket.io/?EIO=4&transport=websocket",
		&websocket.DialOptions{HTTPClient: &http.Client{Transport: tr}})
	if err != nil {
		s.lab.Fatalf("dial: %v (%v)", err, res)
	}
	ws.SetReadLimit(-1)
	c.ws = ws
	s.mu.Lock()
	s.clients = append(s.clients, c)
	s.mu.Unlock()
	go c.read() // ends with the connection
	c.Send("0" + Auth)
	var connected struct{ SID string }
	got, ok := c.Next()
	for ok && (got[0] == '2' || got[0] == '5') { // what is emitted at this moment may come first; clients keep it till then
		got, ok = c.Next()
	}
	if len(got) == 0 || got[0] != '0' || json.Unmarshal([]byte(got[1:]), &connected) != nil {
		s.lab.Fatalf("connect to %s: got %q", ns, got)
	}
	c.ID = connected.SID
	c.Socket().Join(rooms...)
	return c
}

// Socket returns the server's side.
func (c *Client) Socket() *sio.Socket {
	c.server.lab.Helper()
	socket := c.server.Of(c.ns).Socket(c.ID)
	if socket == nil {
		c.server.lab.Fatalf("socket %s is gone", c.ID)
	}
	return socket
}

func (c *Client) read() {
	defer close(c.gone)
	for ctx := context.Background(); ; {
		kind, data, err := c.ws.Read(ctx)
		switch {
		case err != nil:
			return
		case kind == websocket.MessageBinary:
			c.take("bin:" + string(data))
		case string(data) == "2":
			_ = c.ws.Write(ctx, websocket.MessageText, []byte("3"))
		case data[0] == '4':
			packet := string(data[1:])
			if c.ns != "/" {
				packet = strings.Replace(packet, c.ns+",", "", 1)
			}
			c.take(packet)
		default: // the open packet, and what is seen by what follows
		}
	}
}

func (c *Client) take(packet string) {
	c.mu.Lock()
	c.got = append(c.got, packet)
	c.mu.Unlock()
	select {
	case c.changed <- struct{}{}:
	default:
	}
}

// Send sends packets, without their namespace. What begins with "bin:" is a binary message.
func (c *Client) Send(packets ...string) {
	for _, p := range packets {
		kind := websocket.MessageText
		data, binary := strings.CutPrefix(p, "bin:")
		switch {
		case binary:
			kind = websocket.MessageBinary
		case c.ns == "/":
			data = "4" + p
		default:
			n := strings.IndexAny(p[1:], `0123456789[{`) + 1 // behind "5n-"
			if i := strings.IndexByte(p, '-'); p[0] >= '5' && i > 0 {
				n = i + 1
			}
			if n == 0 {
				n = len(p)
			}
			data = "4" + p[:n] + c.ns + "," + p[n:]
		}
		_ = c.ws.Write(context.Background(), kind, []byte(data)) // a lost connection is seen by what does not come
	}
}

// Next returns the next packet, without its namespace, or false when there will be none.
func (c *Client) Next() (string, bool) {
	timeout := time.NewTimer(c.server.lab.patience)
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

// Want compares the next packets, in order.
func (c *Client) Want(packets ...string) {
	c.server.lab.Helper()
	for _, want := range packets {
		if got, ok := c.Next(); !ok || got != want {
			c.server.lab.Fatalf("got packet %q (%v), want %q", got, ok, want)
		}
	}
}

// Asked reads an event that is to be acknowledged, and returns its id.
func (c *Client) Asked(payload string) (id string) {
	c.server.lab.Helper()
	got, _ := c.Next()
	id, ok := strings.CutSuffix(strings.TrimPrefix(got, "2"), payload)
	if !ok || id == "" {
		c.server.lab.Fatalf("got packet %q, want an id and %s", got, payload)
	}
	return id
}

// Answer reads such an event and acknowledges it; values is a JSON array.
func (c *Client) Answer(payload, values string) {
	c.server.lab.Helper()
	c.Send("3" + c.Asked(payload) + values)
}

// Take returns the packets that have come.
func (c *Client) Take() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	got := c.got
	c.got = nil
	return got
}

// Drop ends the connection without a goodbye, and waits for that.
func (c *Client) Drop() {
	_ = c.ws.CloseNow()
	<-c.gone
}

// Gone waits for the end of the connection.
func (c *Client) Gone() {
	c.server.lab.Helper()
	select {
	case <-c.gone:
	case <-time.After(c.server.lab.patience):
		c.server.lab.Error("the connection is still there")
	}
}

// Log collects lines from many goroutines.
type Log struct {
	mu    sync.Mutex
	lines []string
}

// Add adds a line.
func (g *Log) Add(line string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.lines = append(g.lines, line)
}

// All returns the lines there are.
func (g *Log) All() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.lines)
}
