package siotest

import (
	"context"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// Patience bounds every wait. It is long because a slow machine is no failure; no test waits it out
// unless it fails.
const Patience = 20 * time.Second

// Separator stands between the packets of a polling payload.
const Separator = "\x1e"

// Open is the payload of the first packet of a session.
type Open struct {
	SID          string   `json:"sid"`
	Upgrades     []string `json:"upgrades"`
	PingInterval int      `json:"pingInterval"` // milliseconds
	PingTimeout  int      `json:"pingTimeout"`  // milliseconds
	MaxPayload   int      `json:"maxPayload"`   // bytes
}

// Response is an HTTP response read to its end. Err is set instead when there was none.
type Response struct {
	Status int
	Header http.Header
	Body   string
	Length int64 // of the body as announced, -1 when it was not
	Closes bool  // the connection ends with it
	Err    error
}

// Packets splits the body of a poll.
func (r Response) Packets() []string { return strings.Split(r.Body, Separator) }

// Client is one session as its client sees it. Set the fields before the first request.
type Client struct {
	Base   string      // of the server: http://127.0.0.1:3000
	Path   string      // with its trailing slash: /engine.io/
	Query  url.Values  // added to every request
	Header http.Header // added to every request
	SID    string      // set by Handshake

	t    testing.TB
	http *http.Client
}

// New returns a client of the server at base whose requests go to path.
func New(t testing.TB, base, path string) *Client {
	t.Helper()
	// A connection of its own for each request, as a browser has for a poll and a post, and no decoding
	// of compressed bodies.
	tr := &http.Transport{DisableCompression: true}
	t.Cleanup(tr.CloseIdleConnections)
	return &Client{
		Base: base, Path: path, Query: url.Values{}, Header: http.Header{},
		t: t, http: &http.Client{Transport: tr},
	}
}

// URL is the address of a request: EIO=4, transport, the sid if there is one, and pairs, which are keys
// and values in turn. A pair replaces what is there; an empty value removes it.
func (c *Client) URL(transport string, pairs ...string) string {
	q := url.Values{"EIO": {"4"}, "transport": {transport}}
	maps.Copy(q, c.Query)
	if c.SID != "" {
		q.Set("sid", c.SID)
	}
	for i := 0; i+1 < len(pairs); i += 2 {
		q.Set(pairs[i], pairs[i+1])
		if pairs[i+1] == "" {
			q.Del(pairs[i])
		}
	}
	return c.Base + c.Path + "?" + q.Encode()
}

// Do sends any request.
func (c *Client) Do(method, addr string, header http.Header, body io.Reader) Response {
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	return c.do(ctx, method, addr, header, body)
}

func (c *Client) do(ctx context.Context, method, addr string, header http.Header, body io.Reader) Response {
	req, err := http.NewRequestWithContext(ctx, method, addr, body)
	if err != nil {
		return Response{Err: err}
	}
	maps.Copy(req.Header, c.Header)
	maps.Copy(req.Header, header)
	res, err := c.http.Do(req)
	if err != nil {
		return Response{Err: err}
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return Response{Status: res.StatusCode, Header: res.Header, Body: string(b), Length: res.ContentLength, Closes: res.Close, Err: err}
}

// Handshake opens a session over polling.
func (c *Client) Handshake() Open {
	c.t.Helper()
	r := c.Do(http.MethodGet, c.URL("polling"), nil, nil)
	if r.Err != nil || r.Status != http.StatusOK {
		c.t.Fatalf("handshake: %d %q %v", r.Status, r.Body, r.Err)
	}
	o := parseOpen(c.t, r.Body)
	c.SID = o.SID
	return o
}

func parseOpen(t testing.TB, packet string) Open {
	t.Helper()
	var o Open
	data, ok := strings.CutPrefix(packet, "0")
	if !ok {
		t.Fatalf("want an open packet, got %q", packet)
	}
	if err := json.Unmarshal([]byte(data), &o); err != nil {
		t.Fatalf("open packet %q: %v", packet, err)
	}
	return o
}

// Get polls once and returns whatever came.
func (c *Client) Get() Response { return c.Do(http.MethodGet, c.URL("polling"), nil, nil) }

// Poll polls once and returns the packets; anything but status 200 fails the test.
func (c *Client) Poll() []string {
	c.t.Helper()
	r := c.Get()
	if r.Err != nil || r.Status != http.StatusOK {
		c.t.Fatalf("poll: %d %q %v", r.Status, r.Body, r.Err)
	}
	return r.Packets()
}

// PollN polls until n packets have come.
func (c *Client) PollN(n int) []string {
	c.t.Helper()
	var all []string
	for len(all) < n {
		all = append(all, c.Poll()...)
	}
	return all
}

// Post sends packets in one payload and returns whatever came.
func (c *Client) Post(packets ...string) Response {
	h := http.Header{"Content-Type": {"text/plain;charset=UTF-8"}}
	return c.Do(http.MethodPost, c.URL("polling"), h, strings.NewReader(strings.Join(packets, Separator)))
}

// Send posts packets; any answer but "ok" fails the test.
func (c *Client) Send(packets ...string) {
	c.t.Helper()
	if r := c.Post(packets...); r.Status != http.StatusOK || r.Body != "ok" {
		c.t.Fatalf("post of %q: %d %q %v", packets, r.Status, r.Body, r.Err)
	}
}

// Pending is a request under way.
type Pending struct {
	t      testing.TB
	done   chan Response
	cancel context.CancelFunc
}

// GetAsync starts a poll and returns when its request is written.
func (c *Client) GetAsync() *Pending {
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	written := make(chan struct{}, 1)
	sent := func() {
		select {
		case written <- struct{}{}:
		default: // written again, on another connection, or failed after it was
		}
	}
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		WroteRequest: func(httptrace.WroteRequestInfo) { sent() },
	})
	p := &Pending{c.t, make(chan Response, 1), cancel}
	addr := c.URL("polling")
	c.t.Cleanup(cancel)
	go func() { // ends with the request, at the latest by Patience
		p.done <- c.do(ctx, http.MethodGet, addr, nil, nil)
		sent()
	}()
	<-written
	return p
}

// Wait returns the answer.
func (p *Pending) Wait() Response {
	r := <-p.done
	p.cancel()
	return r
}

// Abort drops the connection of the request.
func (p *Pending) Abort() {
	p.cancel()
	<-p.done
}

// Done tells whether the answer has come already.
func (p *Pending) Done() bool { return len(p.done) > 0 }

// Dial opens a WebSocket: the probe of an upgrade when the client has a sid, else a session whose open
// packet is still to be read. It fails the test when the server refuses.
func (c *Client) Dial(pairs ...string) *WS {
	c.t.Helper()
	return c.DialOptions(&websocket.DialOptions{}, pairs...)
}

// DialOptions is Dial with options.
func (c *Client) DialOptions(o *websocket.DialOptions, pairs ...string) *WS {
	c.t.Helper()
	w, res, err := c.TryDial(o, pairs...)
	if err != nil {
		c.t.Fatalf("dial: %v (%+v)", err, res)
	}
	return w
}

// TryDial is Dial that may fail; the response is set also then, if there was one.
func (c *Client) TryDial(o *websocket.DialOptions, pairs ...string) (*WS, Response, error) {
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	if o.HTTPHeader == nil {
		o.HTTPHeader = c.Header.Clone()
	}
	o.HTTPClient = c.http
	conn, res, err := websocket.Dial(ctx, c.URL("websocket", pairs...), o)
	var r Response
	if res != nil {
		r = Response{Status: res.StatusCode, Header: res.Header, Length: res.ContentLength}
		if err != nil && res.Body != nil {
			b, _ := io.ReadAll(res.Body) // a copy in memory, made by the library
			r.Body = string(b)
		}
	}
	if err != nil {
		return nil, r, err
	}
	conn.SetReadLimit(-1)
	w := &WS{Conn: conn, Response: r, t: c.t}
	c.t.Cleanup(func() { _ = conn.CloseNow() }) // often closed already
	return w, r, nil
}

// Open opens a session over WebSocket.
func (c *Client) Open(pairs ...string) *WS {
	c.t.Helper()
	w := c.Dial(pairs...)
	w.Opened = parseOpen(c.t, w.Text())
	w.SID = w.Opened.SID
	return w
}

// Probe starts an upgrade and returns when the server has answered the probe.
func (c *Client) Probe() *WS {
	c.t.Helper()
	w := c.Dial()
	w.SID = c.SID
	w.Send("2probe")
	w.Expect("3probe")
	return w
}

// Upgrade moves the session to WebSocket as a client does: a poll is pending, and is answered, before
// the last packet of the upgrade goes out. What that poll brought besides noops is returned too.
func (c *Client) Upgrade() (*WS, []string) {
	c.t.Helper()
	poll := c.GetAsync()
	w := c.Probe()
	r := poll.Wait()
	if r.Status != http.StatusOK {
		c.t.Fatalf("poll while upgrading: %d %q %v", r.Status, r.Body, r.Err)
	}
	w.Send("5")
	var rest []string
	for _, p := range r.Packets() {
		if p != "6" {
			rest = append(rest, p)
		}
	}
	return w, rest
}
