package peers_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/seed-0b620db0/patchbay/internal/peers"
	"github.com/seed-0b620db0/patchbay/internal/siotest"
	"github.com/seed-0b620db0/patchbay/pkg/eio"
)

// elsewhere opens a session on owner and returns a client whose further requests go to edge.
func elsewhere(owner, edge *node) *siotest.Client {
	c := owner.client()
	c.Handshake()
	c.Base = edge.base
	return c
}

func TestForwardPolling(t *testing.T) {
	l := newLab(t)
	a, b := l.start("a"), l.start("b")
	c := elsewhere(a, b)
	a.requests()
	c.Header.Set("X-Forwarded-For", "192.0.2.7")
	c.Header.Set("Origin", "https://example.com")
	c.Query.Set("t", "a;b %")
	for i := range 20 {
		poll := c.GetAsync()
		c.Send(fmt.Sprint("4one ", i), "4"+strings.Repeat("x", 50_000))
		for got := 0; got < 2; {
			r := poll.Wait()
			if r.Status != http.StatusOK || r.Header.Get(peers.Header) != "" {
				t.Fatalf("poll: %d %q %v", r.Status, r.Body, r.Header)
			}
			got += len(r.Packets())
			if got < 2 {
				poll = c.GetAsync()
			}
		}
	}
	seen := a.requests()
	if len(seen) < 40 || len(b.requests()) > 0 {
		t.Errorf("the owner saw %d requests", len(seen))
	}
	for _, r := range seen {
		host, _, err := net.SplitHostPort(r.RemoteAddr)
		u, _ := url.Parse(c.URL("polling"))
		if err != nil || host != "127.0.0.1" || "http://"+r.Host != b.base || r.RequestURI != u.RequestURI() || r.URL.Path != "/engine.io/" ||
			r.URL.RawQuery != u.RawQuery || r.TLS != nil || r.Header.Get(peers.Header) != "" ||
			r.Header.Get("X-Forwarded-For") != "192.0.2.7" || r.Header.Get("Origin") != "https://example.com" {
			t.Fatalf("not as the client sent it: %+v", r)
		}
	}
	if n := b.result(peers.Forwarded); n != len(seen) {
		t.Errorf("%d forwarded", n)
	}
	if v := a.verdicts(); v[""] != len(seen) || len(v) != 1 {
		t.Errorf("verdicts: %v", v)
	}
}

// The client's address is its own and not that of the node in between; TLS is carried on.
func TestForwardClient(t *testing.T) {
	l := newLab(t)
	a, b := l.start("a"), l.start("b")
	c := elsewhere(a, b)
	a.requests()
	edge := httptest.NewTLSServer(b.public.Handler)
	defer edge.Close()
	conn, err := net.Dial("tcp", edge.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	hc := edge.Client()
	tr := hc.Transport.(*http.Transport)
	tr.DialContext = nil
	tr.Dial = func(string, string) (net.Conn, error) { return conn, nil } //nolint:staticcheck // it is short
	c.Send("4hello")
	a.requests()
	c.Base = edge.URL
	res, err := hc.Get(c.URL("polling"))
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(res.Body)
	res.Body.Close()
	if err != nil || string(body) != "4hello" {
		t.Errorf("got %q, %v", body, err)
	}
	if seen := a.requests(); len(seen) != 1 || seen[0].RemoteAddr != conn.LocalAddr().String() || seen[0].TLS == nil {
		t.Errorf("seen as %+v, from %v", seen, conn.LocalAddr())
	}
}

func TestForwardUpgrade(t *testing.T) {
	l := newLab(t)
	a, b := l.start("a"), l.start("b")
	c := elsewhere(a, b)
	w, rest := c.Upgrade()
	if len(rest) > 0 || w.Response.Header.Get(peers.Header) != "" {
		t.Errorf("got %q, %v", rest, w.Response.Header)
	}
	big := "4" + strings.Repeat("y", 300_000)
	for i := range 50 {
		w.Send(fmt.Sprint("4", i), big)
		w.SendBinary("bytes")
		w.Expect(fmt.Sprint("4", i))
		w.Expect(big)
		if f := w.Recv(); !f.Binary || f.Data != "bytes" {
			t.Fatalf("got %v", f)
		}
	}
	if a.Session(c.SID).Transport() != eio.WebSocket {
		t.Error("it was not upgraded")
	}
	// The end passes through, from both sides.
	a.Session(c.SID).Close()
	w.DrainClose()

	c = elsewhere(a, b)
	w, _ = c.Upgrade()
	if err := w.Conn.Close(websocket.StatusNormalClosure, ""); err != nil {
		t.Error(err)
	}
	eventually(t, "the owner knows that it has gone", func() bool { return a.Len() == 0 })

	c = elsewhere(a, b)
	w, _ = c.Upgrade()
	_ = w.Conn.CloseNow() // breaks off
	eventually(t, "the owner knows that it has gone", func() bool { return a.Len() == 0 })
}

// That a connection is not to be had keeps nobody from those there are.
func TestForwardKeptConnections(t *testing.T) {
	l := newLab(t)
	var full atomic.Bool
	l.opts.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
		if full.Load() {
			return nil, errors.New("no port left")
		}
		return new(net.Dialer).DialContext(ctx, network, addr)
	}
	a, b := l.start("a"), l.start("b")
	c, ws := elsewhere(a, b), elsewhere(a, b)
	c.Send("4x")
	full.Store(true)
	if _, _, err := ws.TryDial(&websocket.DialOptions{}); err == nil || b.result(peers.Unreachable) != 1 {
		t.Errorf("an upgrade, which needs one of its own: %v", err)
	}
	if got := c.Poll(); got[0] != "4x" {
		t.Errorf("got %q", got)
	}
	c.Send("4y")
	if n := b.result(peers.Unreachable); n != 1 || b.dir.Reachable("a") {
		t.Errorf("%d unreachable", n)
	}
}

// What is no upgrade does not become one on the way.
func TestForwardHalfAnUpgrade(t *testing.T) {
	l := newLab(t)
	a, b := l.start("a"), l.start("b")
	c := elsewhere(a, b)
	for _, n := range []*node{a, b} {
		conn, err := net.Dial("tcp", strings.TrimPrefix(n.base, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		u, _ := url.Parse(c.URL("websocket"))
		fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AQIDBAUGBwgJCgsMDQ4PEA==\r\n\r\n", u.RequestURI())
		_ = conn.SetReadDeadline(time.Now().Add(siotest.Patience))
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		if res.StatusCode != http.StatusUpgradeRequired {
			t.Errorf("%s: %s", n.self.Tag, res.Status)
		}
		res.Body.Close()
		conn.Close()
	}
}

func TestForwardAborts(t *testing.T) {
	l := newLab(t)
	a, b := l.start("a"), l.start("b")
	c := elsewhere(a, b)
	poll := c.GetAsync()
	eventually(t, "the poll waits at the owner", func() bool { return b.result(peers.Forwarded) == 0 && a.verdicts()[""] == 1 })
	poll.Abort()
	eventually(t, "the session has ended", func() bool { return a.Len() == 0 })
	eventually(t, "it is counted", func() bool { return b.result(peers.Aborted) == 1 })

	// A body that is broken off ends the session, as it does without a hop.
	c = elsewhere(a, b)
	conn, err := net.Dial("tcp", strings.TrimPrefix(b.base, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	u, _ := url.Parse(c.URL("polling"))
	fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n4hel", u.RequestURI())
	eventually(t, "it has arrived", func() bool { return a.verdicts()[""] == 2 })
	conn.Close()
	eventually(t, "the session has ended", func() bool { return a.Len() == 0 })
	eventually(t, "it is counted", func() bool { return b.result(peers.Aborted) == 2 })
}

func TestForwardLimits(t *testing.T) {
	l := newLab(t)
	l.engine.MaxHTTPBufferSize, l.opts.MaxBody = 1000, 1000
	a, b := l.start("a"), l.start("b")
	c := elsewhere(a, b)
	post := func(body io.Reader) siotest.Response {
		return c.Do(http.MethodPost, c.URL("polling"), http.Header{"Content-Type": {"text/plain"}}, body)
	}
	type chunked struct{ io.Reader } // of unknown length
	for _, body := range []io.Reader{strings.NewReader("4" + strings.Repeat("x", 1000)), chunked{strings.NewReader("4" + strings.Repeat("x", 100_000))}} {
		if r := post(body); r.Status != http.StatusRequestEntityTooLarge || r.Body != "" {
			t.Errorf("too large: %d %q %v", r.Status, r.Body, r.Err)
		}
	}
	for _, body := range []io.Reader{strings.NewReader("4" + strings.Repeat("x", 999)), chunked{strings.NewReader("4" + strings.Repeat("x", 999))}} {
		if r := post(body); r.Status != http.StatusOK || r.Body != "ok" {
			t.Errorf("at the limit: %d %q %v", r.Status, r.Body, r.Err)
		}
		if got := c.Poll(); len(got[0]) != 1000 {
			t.Errorf("got %d bytes", len(got[0]))
		}
	}

	l.opts.MaxForwards = 1
	d := l.start("d")
	c.Base = d.base
	poll := c.GetAsync()
	eventually(t, "the poll waits", func() bool { return d.result(peers.Forwarded) == 0 && a.verdicts()[""] > 0 && !poll.Done() })
	var r siotest.Response
	eventually(t, "one too many", func() bool {
		r = c.Post("4x")
		return d.result(peers.TooMany) > 0
	})
	unknown(t, r)
}

func TestForwardNowhere(t *testing.T) {
	l := newLab(t)
	a, b := l.start("a"), l.start("b")
	c := elsewhere(a, b)
	c.SID = strings.TrimSuffix(c.SID, "a") + "nobody"
	unknown(t, c.Get())
	unknown(t, c.Post("4x"))
	if _, r, err := c.TryDial(&websocket.DialOptions{}); err == nil || r.Status != http.StatusBadRequest || r.Body != "Session ID unknown" {
		t.Errorf("upgrade: %d %q %v", r.Status, r.Body, err)
	}
	if n := b.result(peers.Unknown); n != 3 || len(b.requests()) != 3 {
		t.Errorf("%d unknown", n)
	}
	// Ids in another form never had an owner.
	for _, sid := range []string{"x", "lv_VI97HAXpY6yYWAAAB", "lv_VI97HAXpY6yYWAAAB.", ".a", "lv_VI97HAXpY6yYWAAAB.b"} {
		c.SID = sid
		unknown(t, c.Get())
	}
	if n := b.result(peers.Unknown); n != 3 {
		t.Errorf("%d unknown", n)
	}

	// The owner has died: refused, at once, and not dialed again for a while.
	c = elsewhere(a, b)
	w, _ := elsewhere(a, b).Upgrade()
	poll := c.GetAsync()
	eventually(t, "the poll waits", func() bool { return a.verdicts()[""] >= 2 })
	a.kill()
	if r := poll.Wait(); r.Body != "1" { // the server closes its sessions
		unknown(t, r)
	}
	w.DrainClose()
	begun, before := time.Now(), b.result(peers.Unreachable)
	for range 3 {
		unknown(t, c.Get())
	}
	if took := time.Since(begun); took > 2*time.Second {
		t.Errorf("it took %v", took)
	}
	if n := b.result(peers.Unreachable) - before; n != 3 || b.dir.Reachable("a") {
		t.Errorf("%d unreachable, %v", n, b.dir.Reachable("a"))
	}
}

// A node that was started again has another address, or at least another id, before all others have heard of it.
func TestForwardRestarted(t *testing.T) {
	l := newLab(t)
	a, b := l.start("a"), l.start("b")
	c := elsewhere(a, b)
	c.Send("4x")
	c.Poll()
	a.shutdown()
	a = l.start("a")
	c = elsewhere(a, b)
	c.Send("4x")
	if got := c.Poll(); len(got) != 1 || got[0] != "4x" {
		t.Errorf("got %q", got)
	}
	c = elsewhere(b, a)
	c.Send("4y")
	b.kill() // and comes back at its own address
	ln, err := net.Listen("tcp", b.self.Addr)
	if err != nil {
		t.Fatal(err)
	}
	again := l.build("b")
	again.self.Addr = b.self.Addr
	go func() { _ = again.internal.Serve(ln) }() // ends with the test
	again.register()
	unknown(t, c.Get())
	c = elsewhere(again, a)
	c.Send("4x")
	if got := c.Poll(); len(got) != 1 || got[0] != "4x" {
		t.Errorf("got %q", got)
	}
	c = elsewhere(a, again)
	c.Send("4x")
	if got := c.Poll(); len(got) != 1 || got[0] != "4x" {
		t.Errorf("got %q", got)
	}
}

// Who is at a node's address is not always that node.
func TestForwardToAnother(t *testing.T) {
	l := newLab(t)
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Set-Cookie", "evil=1")
		_, _ = io.WriteString(w, "something else")
	}))
	defer other.Close()
	a, b := l.start("a"), l.start("b")
	for tag, addr := range map[string]string{
		"web":  strings.TrimPrefix(other.URL, "http://"),
		"self": b.self.Addr, // a loop
		"peer": a.self.Addr,
	} {
		n := peers.Node{Tag: tag, Addr: addr, ID: peers.NewID()}
		if _, err := l.reg.Register(t.Context(), n, time.Minute, false); err != nil {
			t.Fatal(err)
		}
		c := b.client()
		c.SID = "lv_VI97HAXpY6yYWAAAB." + tag
		eventually(t, "it is known", func() bool { return b.dir.Lookup(t.Context(), tag) != nil })
		before := b.result(peers.Refused)
		r := c.Get()
		unknown(t, r)
		if r.Header.Get("Set-Cookie") != "" || b.result(peers.Refused) != before+1 {
			t.Errorf("%s: %v, %d refused", tag, r.Header, b.result(peers.Refused)-before)
		}
	}
}

func TestForwardClosed(t *testing.T) {
	l := newLab(t)
	a, b := l.start("a"), l.start("b")
	polling, ws := elsewhere(a, b), elsewhere(a, b)
	w, _ := ws.Upgrade()
	poll := polling.GetAsync()
	eventually(t, "the poll waits", func() bool { return a.verdicts()[""] >= 3 })
	b.fwd.Close()
	unknown(t, poll.Wait())
	if _, err := w.TryRecv(siotest.Patience); err == nil {
		t.Error("the upgraded connection goes on")
	}
	unknown(t, polling.Get())
	eventually(t, "the owner knows that they have gone", func() bool { return a.Len() == 0 })
}

// A node that has left the registry is not waited for.
func TestForwardOwnerGone(t *testing.T) {
	l := newLab(t)
	a, b := l.start("a"), l.start("b")
	c, ws := elsewhere(a, b), elsewhere(a, b)
	w, _ := ws.Upgrade()
	poll := c.GetAsync()
	eventually(t, "the poll waits", func() bool { return a.verdicts()[""] >= 3 })
	a.stopDir()
	if err := a.dir.Leave(t.Context(), a.self); err != nil {
		t.Fatal(err)
	}
	b.dir.Lookup(t.Context(), "x") // looks
	unknown(t, poll.Wait())
	if _, err := w.TryRecv(siotest.Patience); err == nil {
		t.Error("the upgraded connection goes on")
	}
}

// Many clients at once, each request at the other node.
func TestForwardMany(t *testing.T) {
	l := newLab(t)
	a, b := l.start("a"), l.start("b")
	var wg sync.WaitGroup
	errs := make(chan error, 100)
	for i := range 32 {
		owner, edge := a, b
		if i%2 == 1 {
			owner, edge = b, a
		}
		c := elsewhere(owner, edge)
		wg.Go(func() {
			for j := range 20 {
				want := fmt.Sprintf("4%d-%d", i, j)
				if r := c.Post(want); r.Body != "ok" {
					errs <- fmt.Errorf("post: %d %q %w", r.Status, r.Body, r.Err)
					return
				}
				if r := c.Get(); r.Body != want {
					errs <- fmt.Errorf("poll: %d %q %w", r.Status, r.Body, r.Err)
					return
				}
			}
		})
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		t.Error(err)
	}
	for _, n := range []*node{a, b} {
		if v := n.verdicts(); len(v) != 1 {
			t.Errorf("verdicts: %v", v)
		}
	}
}
