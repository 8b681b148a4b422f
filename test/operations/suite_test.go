package operations_test

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/seed-0b620db0/patchbay/internal/siotest"
	"github.com/seed-0b620db0/patchbay/pkg/adapter/redis"
	"github.com/seed-0b620db0/patchbay/pkg/sio"
)

// fast is how long an answer may take that needs no waiting: more than any time-out for a connection in the files.
const fast = 4 * time.Second

// TestBalancers takes three nodes through a day, behind each balancer. Nothing is forwarded between them: what works, works
// because the balancer is sticky.
func TestBalancers(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		l := newLab(t)
		l.start(1)
		// Its Redis is not there: it answers 503 to all.
		l.launch(2, `"msg":"listening"`, "REDIS_URL=redis://127.0.0.1:1")
		l.start(3)
		f := k.start(l)
		s := &day{t: t, k: k, l: l, f: f}
		s.refusal()
		l.end(2, syscall.SIGKILL)
		l.start(2)
		eventually(t, "node 2 gets clients", func() bool {
			node, _ := s.handshake()
			return node == tag(2)
		})

		stock := startClients(t, f.base)
		s.stock(stock)
		s.sizes()
		s.address()
		s.unknown()
		if k.limits > 0 {
			burst(f, k.json, k.limits)
		}
		s.drain(stock)
		s.kill(stock)
		if k.after != nil {
			k.after(f)
		}
	})
}

type day struct {
	t *testing.T
	k kind
	l *lab
	f *front
}

// handshake opens a session, by polling, and returns the tag of its node.
func (s *day) handshake() (node string, r siotest.Response) {
	s.t.Helper()
	r = s.f.do(http.MethodGet, s.f.url(), nil, nil)
	if r.Status != http.StatusOK {
		return "", r
	}
	var open siotest.Open
	if data, ok := strings.CutPrefix(r.Body, "0"); !ok || json.Unmarshal([]byte(data), &open) != nil {
		s.t.Fatalf("handshake: %q", r.Body)
	}
	_, node, _ = strings.Cut(open.SID, ".")
	return node, r
}

// refusal: a node that refuses new sessions is nothing that clients notice.
func (s *day) refusal() {
	s.t.Helper()
	if !s.k.asksAgain { // it finds out by itself, after a while
		row := 0
		eventually(s.t, "node 2 is left out", func() bool {
			row++
			if _, r := s.handshake(); r.Status != http.StatusOK {
				row = 0
			}
			return row == 20
		})
	}
	for range 20 {
		if node, r := s.handshake(); r.Status != http.StatusOK || node == tag(2) {
			s.t.Errorf("handshake with a node that refuses: %q, %d %s", node, r.Status, r.Body)
		}
	}
}

// stock: clients of all transports talk, over all nodes, and no request fails. Idle, they stay for several pings.
func (s *day) stock(c *clients) {
	s.t.Helper()
	nodes := c.open(6)
	for i := 1; i <= 3; i++ {
		if nodes[tag(i)] == 0 {
			s.t.Errorf("nobody is on %s: %v", tag(i), nodes)
		}
	}
	if !s.k.counts { // one node has a WebSocket less than another: still all get clients
		siotest.New(s.t, s.f.base, "/socket.io/").Open().Connect("/", "")
		seen := map[string]int{}
		for range 30 {
			node, _ := s.handshake()
			seen[node]++
		}
		for i := 1; i <= 3; i++ {
			if seen[tag(i)] < 5 {
				s.t.Errorf("of 30 sessions each node has %v", seen)
			}
		}
	}
	c.call("talk", 6, nil)
	idle := s.polling("idle")
	for range 3 { // a poll that waits for as long as there is nothing to say
		if got := idle.Poll(); len(got) != 1 || got[0] != "2" {
			s.t.Errorf("an idle poll: %q", got)
		}
		idle.Send("3")
	}
	c.call("talk", 2, nil)
	c.quiet("")
	for i := 1; i <= 3; i++ {
		if n := s.l.scrape(i)[`patchbay_requests_refused_total{code="1"}`]; n > 0 {
			s.t.Errorf("%s was sent %v requests of sessions that it does not have", tag(i), n)
		}
	}
}

// sizes: a megabyte goes through in both directions, and more is refused as the node does.
func (s *day) sizes() {
	s.t.Helper()
	a, b := s.polling("none"), s.polling("large")
	text := strings.Repeat("x", 990_000)
	for range 3 {
		a.Send(`42["publish","large","text","` + text + `"]`) // a publisher need not be in the room
		got := ""
		for !strings.Contains(got, text) {
			got = strings.Join(b.Poll(), "")
		}
	}
	for range 4 { // as much as a node keeps for one client, for one who reads slowly
		a.Send(`42["publish","large","text","` + text + `"]`)
	}
	eventually(s.t, "all of it waits", func() bool {
		waiting := 0.0
		for i := 1; i <= 3; i++ {
			waiting += s.l.scrape(i)["patchbay_queue_bytes"]
		}
		return waiting > 3.9e6
	})
	d := &net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) { _ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4096) }) // it is read in any case
	}}
	slow := &http.Client{Timeout: siotest.Patience, Transport: &http.Transport{DialContext: d.DialContext, DisableKeepAlives: true, DisableCompression: true}}
	r, err := slow.Get(b.URL("polling"))
	if err != nil {
		s.t.Fatal(err)
	}
	defer r.Body.Close()
	if body, err := io.ReadAll(r.Body); err != nil || r.StatusCode != http.StatusOK || strings.Count(string(body), text) < 4 {
		s.t.Errorf("a slow poll: %s, %d bytes, %v", r.Status, len(body), err)
	}
	sizes := []int{1_000_001, 1_050_000}
	if s.k.lingers {
		sizes = append(sizes, 1_200_000, 5_000_000)
	}
	for _, size := range sizes {
		c := s.polling("none")
		r := s.f.do(http.MethodPost, c.URL("polling"), nil, strings.NewReader("4"+strings.Repeat("x", size-1)))
		if r.Status != http.StatusRequestEntityTooLarge || strings.Contains(r.Body, "<") {
			s.t.Errorf("a body of %d bytes: %d %.100s", size, r.Status, r.Body)
		}
	}
}

// polling returns a session that has joined "/" and a room.
func (s *day) polling(room string) *siotest.Client {
	s.t.Helper()
	c := siotest.New(s.t, s.f.base, "/socket.io/")
	c.Handshake()
	c.Send("40")
	c.Poll()
	c.Send(`421["join","` + room + `"]`)
	for got := ""; !strings.Contains(got, `431[{"ok":true`); {
		got = strings.Join(c.Poll(), "")
	}
	return c
}

// address: nodes learn the client's address from the balancer, and not from the client.
func (s *day) address() {
	s.t.Helper()
	c := siotest.New(s.t, s.f.base, "/socket.io/")
	for _, name := range []string{"X-Forwarded-For", "X-Real-IP", "Forwarded"} {
		c.Header.Set(name, "203.0.113.7")
	}
	c.Header.Set("X-Forwarded-Proto", "gopher")
	id := c.Open().Connect("/", "").SID
	io := sio.NewServer(&sio.Options{Adapter: redis.New(s.l.redis.Client(s.t), nil)})
	defer io.Close()
	var header map[string]string
	eventually(s.t, "the socket is found", func() bool {
		ctx, cancel := context.WithTimeout(s.t.Context(), siotest.Patience)
		defer cancel()
		sockets, err := io.In(id).FetchSockets(ctx)
		if err != nil || len(sockets) != 1 {
			return false
		}
		header = sockets[0].Handshake.Headers
		return true
	})
	if got := header["x-forwarded-for"]; got != "127.0.0.1" {
		s.t.Errorf("X-Forwarded-For is %q", got)
	}
	if got := header["x-forwarded-proto"]; got != "http" && got != "ws" { // the second is Traefik's word for it
		s.t.Errorf("X-Forwarded-Proto is %q", got)
	}
	for _, name := range []string{"x-real-ip", "forwarded"} {
		if strings.Contains(header[name], "203.0.113.7") {
			s.t.Errorf("%s is what the client has sent: %q", name, header[name])
		}
	}
}

// unknown: a session that nobody has, of a node that there is, that there is not, or of none, is answered at once.
func (s *day) unknown() {
	s.t.Helper()
	for _, sid := range []string{"AAAAAAAAAAAAAAAAAAAA.gateway-1", "AAAAAAAAAAAAAAAAAAAA.gateway-9", "AAAAAAAAAAAAAAAAAAAA", ".", "gateway-1", "%.x y"} {
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			begun := time.Now()
			r := s.f.do(method, s.f.url("sid", sid), nil, strings.NewReader("40"))
			if r.Status != http.StatusBadRequest || r.Body != `{"code":1,"message":"Session ID unknown"}` || time.Since(begun) > fast {
				s.t.Errorf("%s of %q: %d %q after %v", method, sid, r.Status, r.Body, time.Since(begun))
			}
		}
	}
	for _, path := range []string{"/metrics", "/healthz", "/readyz", "/peer/socket.io/", "/debug/pprof/", "/api/v1/emit"} {
		// A node would say "page not found".
		if r := s.f.do(http.MethodGet, s.f.base+path, nil, nil); r.Status < 400 || strings.Contains(r.Body, "page") {
			s.t.Errorf("%s: %d %s", path, r.Status, r.Body)
		}
	}
}

// drain: a node that ends gets nobody new, and nobody is turned away.
func (s *day) drain(c *clients) {
	s.t.Helper()
	c.quiet("")
	begun := time.Now()
	ended := make(chan struct{})
	go func() { // ends with the node
		defer close(ended)
		s.l.end(2, syscall.SIGTERM)
	}()
	last := time.Duration(0)
	tick := time.NewTicker(25 * time.Millisecond) // within what one address may open
	defer tick.Stop()
	for on := true; on; {
		select {
		case <-ended:
			on = false
		case <-tick.C:
		}
		node, r := s.handshake()
		if r.Status != http.StatusOK {
			s.t.Errorf("%v after the signal: %d %s", time.Since(begun), r.Status, r.Body)
		}
		if node == tag(2) {
			last = time.Since(begun)
		}
	}
	// A balancer that does not ask sends it clients until it refuses them.
	if limit := delay - 500*time.Millisecond; s.k.checks && last > limit {
		s.t.Errorf("the last session there was opened %v after the signal", last)
	}
	c.settle(tag(2))
	c.quiet(tag(2))
	c.call("talk", 2, nil)
}

// kill: who was on a node that is gone comes back elsewhere, and others notice nothing.
func (s *day) kill(c *clients) {
	s.t.Helper()
	lost := siotest.New(s.t, "http://"+s.l.addr(3, s.l.public), "/socket.io/")
	lost.Handshake()
	lost.Base = s.f.base
	s.l.end(3, syscall.SIGKILL)
	for i := range 3 {
		begun := time.Now()
		r := s.f.do(http.MethodGet, lost.URL("polling"), nil, nil)
		if i > 0 {
			r = s.f.do(http.MethodPost, lost.URL("polling"), nil, strings.NewReader(`42["leave","x"]`))
		}
		took := time.Since(begun)
		ok := r.Status == http.StatusBadRequest && r.Body == `{"code":1,"message":"Session ID unknown"}` ||
			r.Status >= 502 && r.Status <= 504 && !strings.Contains(r.Body, "<") && (!s.k.json || json.Valid([]byte(r.Body)))
		if !ok || took > fast {
			s.t.Errorf("request %d for a session that is gone: %d %q after %v", i, r.Status, r.Body, took)
		}
	}
	eventually(s.t, "its sessions are unknown", func() bool {
		r := s.f.do(http.MethodGet, lost.URL("polling"), nil, nil)
		return r.Status == http.StatusBadRequest && r.Body == `{"code":1,"message":"Session ID unknown"}`
	})
	c.settle(tag(3))
	c.quiet(tag(3))
	c.call("talk", 2, nil)
}

// burst opens more sessions than one address may, all at once, and returns a client there. It fails the test unless so many are
// opened at least, and others refused.
func burst(f *front, asJSON bool, least int) *http.Client {
	t := f.l.t
	t.Helper()
	greedy := from("127.0.0.2")
	var ok, limited atomic.Int64
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			for range 100 {
				r, err := greedy.Get(f.url())
				if err != nil {
					t.Error(err)
					return
				}
				body, _ := io.ReadAll(r.Body) // what is missing is seen below
				_ = r.Body.Close()
				switch {
				case r.StatusCode == http.StatusOK:
					ok.Add(1)
				case r.StatusCode == http.StatusTooManyRequests && r.Header.Get("Retry-After") != "" &&
					(string(body) == `{"code":3,"message":"Too many requests"}` && r.Header.Get("Content-Type") == "application/json" || !asJSON):
					limited.Add(1)
				default:
					t.Errorf("%d %v %s", r.StatusCode, r.Header, body)
				}
			}
		})
	}
	all.Wait()
	if ok.Load() < int64(least) || limited.Load() == 0 {
		t.Errorf("of 1600 sessions %d were opened, %d refused", ok.Load(), limited.Load())
	}
	return greedy
}

// from returns a client at an address of loopback.
func from(addr string) *http.Client {
	d := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(addr)}}
	return &http.Client{Timeout: siotest.Patience, Transport: &http.Transport{DialContext: d.DialContext, MaxIdleConnsPerHost: 32}}
}
