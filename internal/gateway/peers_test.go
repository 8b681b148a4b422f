package gateway_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/seed-0b620db0/patchbay/internal/siotest"
)

// balancer sends each connection's requests to one node after the other, with no idea of sessions.
type balancer struct {
	base  string
	turn  atomic.Uint64
	bad   atomic.Int64 // answers that are no success
	moved atomic.Int64 // requests with a sid

	mu sync.Mutex
	// guarded by mu
	nodes []*url.URL
}

func newBalancer(t testing.TB, nodes ...*node) *balancer {
	t.Helper()
	b := new(balancer)
	b.to(nodes...)
	tr := &http.Transport{DisableCompression: true}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			b.mu.Lock()
			target := b.nodes[b.turn.Add(1)%uint64(len(b.nodes))]
			b.mu.Unlock()
			r.SetURL(target)
			r.Out.URL.RawQuery = r.In.URL.RawQuery
			if r.In.URL.Query().Has("sid") {
				b.moved.Add(1)
			}
		},
		ModifyResponse: func(r *http.Response) error {
			if r.StatusCode >= http.StatusBadRequest {
				b.bad.Add(1)
				body, err := io.ReadAll(r.Body)
				t.Logf("%s %s: %d %q %v", r.Request.Method, r.Request.URL, r.StatusCode, body, err)
				r.Body = io.NopCloser(bytes.NewReader(body))
			}
			return nil
		},
		Transport: tr, FlushInterval: 0, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
	}
	srv := httptest.NewServer(proxy)
	b.base = srv.URL
	t.Cleanup(func() {
		srv.CloseClientConnections()
		srv.Close()
		tr.CloseIdleConnections()
	})
	return b
}

func (b *balancer) to(nodes ...*node) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.nodes = nil
	for _, n := range nodes {
		u, _ := url.Parse(n.public) // ours
		b.nodes = append(b.nodes, u)
	}
}

func (b *balancer) client(t testing.TB) *siotest.Client {
	t.Helper()
	return siotest.New(t, b.base, "/socket.io/")
}

// Without any stickiness no request fails: neither over long-polling, nor in an upgrade.
func TestForwardingBehindABalancer(t *testing.T) {
	g := newGrid(t)
	a, b := g.start("RELAY=true"), g.start("RELAY=true")
	lb := newBalancer(t, a, b)
	for range 4 {
		c := lb.client(t)
		c.Handshake()
		c.Send("40")
		c.Poll()
		for i := range 5 {
			c.Send(fmt.Sprintf(`42%d["join","room"]`, i))
			for done := false; !done; {
				for _, p := range c.Poll() {
					done = done || strings.HasPrefix(p, fmt.Sprint("43", i, `[{"ok":true`))
				}
			}
		}
		w, _ := c.Upgrade()
		w.Send(`429["leave","room"]`)
		for !strings.HasPrefix(w.Text(), `439[{"ok":true`) {
		}
		if err := w.Conn.Close(websocket.StatusNormalClosure, ""); err != nil {
			t.Error(err)
		}
	}
	if lb.bad.Load() > 0 || lb.moved.Load() < 4*12 {
		t.Errorf("%d of %d requests failed", lb.bad.Load(), lb.moved.Load())
	}
	sum := 0.0
	for _, n := range []*node{a, b} {
		s := n.scrape()
		sum += s[`patchbay_forwarded_requests_total{result="forwarded"}`]
		for series, v := range s {
			if v > 0 && strings.HasPrefix(series, "patchbay_forwarded_requests_total") && !strings.Contains(series, `"forwarded"`) ||
				strings.HasPrefix(series, `patchbay_peer_requests_total{result="refused"`) && v > 0 {
				t.Errorf("%s %v", series, v)
			}
		}
	}
	if sum < 20 {
		t.Errorf("%v requests were forwarded", sum)
	}
}

// The owner is lost: its clients hear of it with their next request, and come back.
func TestForwardingOwnerLost(t *testing.T) {
	g := newGrid(t)
	a, b := g.start(), g.start()
	c := a.client()
	c.Handshake()
	c.Send("40")
	c.Poll()
	c.Base = b.public
	poll := c.GetAsync()
	eventually(t, "the poll waits at its owner", func() bool { return a.scrape()[`patchbay_peer_requests_total{result="accepted"}`] == 1 })
	a.shutdown()
	if r := poll.Wait(); r.Body != "1" && !strings.Contains(r.Body, `"code":1`) {
		t.Errorf("the waiting poll: %d %q %v", r.Status, r.Body, r.Err)
	}
	for range 3 {
		begun := time.Now()
		r := c.Get()
		if took := time.Since(begun); r.Status != http.StatusBadRequest || r.Body != `{"code":1,"message":"Session ID unknown"}` || took > 2*time.Second {
			t.Errorf("%d %q %v after %v", r.Status, r.Body, r.Err, took)
		}
		if _, r, err := c.TryDial(&websocket.DialOptions{}); err == nil || r.Status != http.StatusBadRequest || r.Body != "Session ID unknown" {
			t.Errorf("upgrade: %d %q %v", r.Status, r.Body, err)
		}
	}
}

// What the edge adds to an answer, the owner does not add too.
func TestForwardingCORS(t *testing.T) {
	g := newGrid(t)
	vars := []string{"CORS_ORIGINS=https://app.example", "CORS_CREDENTIALS=true", "CHECK_ORIGIN=true", "PATH=/rt/io", "TRAILING_SLASH=false"}
	a, b := g.start(vars...), g.start(vars...)
	c := siotest.New(t, a.public, "/rt/io")
	c.Header.Set("Origin", "https://app.example")
	c.Handshake()
	direct := c.Post("40")
	c.Base = b.public
	get, post := c.Get(), c.Post("42[1]")
	c.Header.Set("Expect", "100-continue")
	careful := c.Post("42[1]")
	c.Header.Del("Expect")
	for name, r := range map[string]siotest.Response{"get": get, "post": post, "a post that asks first": careful} {
		for _, h := range []string{"Access-Control-Allow-Origin", "Access-Control-Allow-Credentials"} {
			if got, want := r.Header.Values(h), direct.Header.Values(h); r.Status != http.StatusOK || len(got) != 1 || got[0] != want[0] {
				t.Errorf("%s: %d %s: %q, want %q", name, r.Status, h, got, want)
			}
		}
		if got := r.Header.Values("Vary"); len(got) != len(direct.Header.Values("Vary")) {
			t.Errorf("%s: Vary %q, want %q", name, got, direct.Header.Values("Vary"))
		}
	}
	w, _ := c.Upgrade()
	if got := w.Response.Header.Values("Access-Control-Allow-Origin"); len(got) != 1 {
		t.Errorf("upgrade: %q", got)
	}
	// A page of another origin gets no further than it does without a hop.
	c.Header.Set("Origin", "https://evil.example")
	if r := c.Get(); r.Header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("got %v", r.Header)
	}
}

// With no secret nothing is forwarded, in or out.
func TestForwardingOff(t *testing.T) {
	g := newGrid(t)
	a, b := g.start("PEER_SECRET="), g.start("PEER_SECRET=")
	c := a.client()
	c.Handshake()
	c.Base = b.public
	if r := c.Get(); r.Status != http.StatusBadRequest || r.Body != `{"code":1,"message":"Session ID unknown"}` {
		t.Errorf("%d %q", r.Status, r.Body)
	}
	if r := a.get(a.admin + "/peer/socket.io/?EIO=4&transport=polling&sid=" + c.SID); r.Status != http.StatusNotFound {
		t.Errorf("the internal listener: %d %q", r.Status, r.Body)
	}
}

// A gateway that ends loses nothing of what it forwards: a poll that waits is answered, so that the client asks again, by way of
// another node, and an upgraded connection ends in an orderly way.
func TestForwardingShutdown(t *testing.T) {
	g := newGrid(t)
	a, b := g.start(), g.start()
	c, d := a.client(), a.client()
	c.Handshake()
	d.Handshake()
	c.Base, d.Base = b.public, b.public
	w, _ := d.Upgrade()
	poll := c.GetAsync()
	eventually(t, "the poll waits", func() bool { return a.scrape()[`patchbay_peer_requests_total{result="accepted"}`] >= 3 })
	begun := time.Now()
	b.shutdown()
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
	if r := poll.Wait(); r.Status != http.StatusOK || r.Body != "6" || !r.Closes {
		t.Errorf("the waiting poll: %d %q %v, closes: %v", r.Status, r.Body, r.Err, r.Closes)
	}
	if code := w.ExpectClose(); code != 1005 {
		t.Errorf("the upgraded connection: close code %d", code)
	}
	eventually(t, "its owner knows", func() bool { return a.IO().Engine().Len() == 1 })
	c.Base = a.public
	c.Send("40")
	if got := c.Poll(); !strings.HasPrefix(got[0], `40{"sid":`) {
		t.Errorf("by another way: %q", got)
	}
}

func TestForwardingDrainIsPaced(t *testing.T) {
	const n, window = 20, time.Second
	g := newGrid(t)
	a, b := g.start(), g.start("DRAIN_WINDOW="+window.String())
	var polls []*siotest.Pending
	for range n {
		c := a.client()
		c.Handshake()
		c.Base = b.public
		polls = append(polls, c.GetAsync())
	}
	eventually(t, "polls wait", func() bool { return a.scrape()[`patchbay_peer_requests_total{result="accepted"}`] >= n })
	begun := time.Now()
	b.shutdown()
	if took := time.Since(begun); took < window*3/4 {
		t.Errorf("it took %v", took)
	}
	for _, p := range polls {
		if r := p.Wait(); r.Body != "6" {
			t.Errorf("%d %q %v", r.Status, r.Body, r.Err)
		}
	}
}

// Some balancers send it clients up to the end: none of them gets an error but that it is not there any more.
func TestForwardingUntilTheEnd(t *testing.T) {
	g := newGrid(t)
	a, b := g.start(), g.start()
	var polling sync.WaitGroup
	const n = 8
	for range n {
		c := a.client()
		c.Handshake()
		c.Base = b.public
		polling.Go(func() { // ends with b
			for r := c.Get(); r.Err == nil; r = c.Get() {
				if r.Status != http.StatusOK {
					t.Errorf("%d %q", r.Status, r.Body)
					return
				}
			}
		})
	}
	eventually(t, "polls wait", func() bool { return a.scrape()[`patchbay_peer_requests_total{result="accepted"}`] >= n })
	b.client().Handshake() // which b waits for, so that others come again
	b.stop()
	polling.Wait()
	b.shutdown()
}

// The stock client, over each transport and through an upgrade, with each request at another node.
func TestForwardingStockClients(t *testing.T) {
	g := newGrid(t)
	a, b, c := g.start("RELAY=true"), g.start("RELAY=true"), g.start("RELAY=true")
	lb := newBalancer(t, a, b, c)
	stockClients(t, lb.base, func() {
		if bad, moved := lb.bad.Load(), lb.moved.Load(); bad > 0 || moved < 100 {
			t.Errorf("%d of %d requests failed", bad, moved)
		}
	})
}

// stockClients talk to each other through a balancer. look is called when they have, and before they leave: a polling client
// that leaves may poll once more, with or without a hop.
func stockClients(t *testing.T, base string, look func()) {
	t.Helper()
	const conformance = "../../test/conformance"
	modules, err := filepath.Abs(conformance + "/node_modules")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd, err := siotest.NodeJS(ctx, conformance, []string{"socket.io-client"}, "testdata/forwarding.cjs", base)
	if err != nil {
		siotest.Missing(t, err.Error())
	}
	cmd.Env = append(cmd.Env, "NODE_PATH="+modules)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdin, stdout := siotest.Pipes(t, cmd)
	said, _ := bufio.NewReader(stdout).ReadString('\n') // empty if it has failed
	look()
	_ = stdin.Close() // it has ended, or does so now
	if err := cmd.Wait(); err != nil || said != "done\n" {
		t.Errorf("%v\n%s", err, stderr.String())
	}
}

// BenchmarkForwarding shows what the hop costs: a message there and its answer back, over long-polling.
func BenchmarkForwarding(b *testing.B) {
	for _, hops := range []int{0, 1} {
		b.Run(fmt.Sprint("hops=", hops), func(b *testing.B) {
			g := newGrid(b)
			one, two := g.start("RELAY=true", "LOG_LEVEL=info"), g.start("RELAY=true", "LOG_LEVEL=info")
			c := one.client()
			o := c.Handshake()
			base := one.public
			if hops == 1 {
				base = two.public
			}
			tr := &http.Transport{}
			defer tr.CloseIdleConnections()
			addr := base + "/socket.io/?EIO=4&transport=polling&sid=" + o.SID
			do := func(method, body string) string {
				req, err := http.NewRequestWithContext(b.Context(), method, addr, strings.NewReader(body))
				if err != nil {
					b.Fatal(err)
				}
				res, err := tr.RoundTrip(req)
				if err != nil {
					b.Fatal(err)
				}
				defer res.Body.Close()
				got, err := io.ReadAll(res.Body)
				if err != nil || res.StatusCode != http.StatusOK {
					b.Fatalf("%d %q %v", res.StatusCode, got, err)
				}
				return string(got)
			}
			do(http.MethodPost, "40")
			do(http.MethodGet, "")
			b.ReportAllocs()
			for b.Loop() {
				do(http.MethodPost, `421["leave","x"]`)
				if got := do(http.MethodGet, ""); got == "2" { // a ping
					do(http.MethodPost, "3")
				}
			}
		})
	}
}
