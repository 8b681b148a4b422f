package peers_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-0b620db0/patchbay/internal/peers"
	"github.com/seed-0b620db0/patchbay/internal/siotest"
	"github.com/seed-0b620db0/patchbay/pkg/eio"
)

// forger sends requests to the internal listener of a node.
type forger struct {
	*siotest.Client
	n      *node
	target string
	stamp  peers.Stamp
}

func forge(t *testing.T) (*forger, *node, *node) {
	t.Helper()
	l := newLab(t)
	a, b := l.start("a"), l.start("b")
	c := a.client()
	c.Handshake()
	a.requests()
	f := &forger{Client: c, n: a, target: peers.Prefix + "/engine.io/?EIO=4&transport=polling&sid=" + c.SID}
	f.stamp = peers.Stamp{Tag: "b", ID: b.self.ID, Seq: 1000, Time: time.Now(), Addr: "192.0.2.1:1"}
	return f, a, b
}

func (f *forger) send(header ...string) siotest.Response {
	h := http.Header{}
	for _, v := range header {
		h.Add(peers.Header, v)
	}
	return f.Do(http.MethodPost, "http://"+f.n.self.Addr+f.target, h, strings.NewReader("4x"))
}

func (f *forger) refused(t *testing.T, why string, header ...string) {
	t.Helper()
	if r := f.send(header...); r.Status != http.StatusForbidden || !strings.Contains(r.Body, why) {
		t.Errorf("want %q, got %d %q %v", why, r.Status, r.Body, r.Err)
	}
	if seen := f.n.requests(); len(seen) > 0 {
		t.Errorf("it got through: %+v", seen)
	}
}

func (f *forger) taken(t *testing.T, s peers.Stamp) {
	t.Helper()
	if r := f.send(peers.Sign(secret, s, "a", http.MethodPost, f.target)); r.Status != http.StatusOK || r.Body != "ok" {
		t.Errorf("not taken: %d %q %v", r.Status, r.Body, r.Err)
	}
	f.n.requests()
}

func TestOwnerRefuses(t *testing.T) {
	f, a, b := forge(t)
	const post = http.MethodPost
	good := peers.Sign(secret, f.stamp, "a", post, f.target)
	f.refused(t, "no signature")
	for _, header := range []string{"", " ", "v1", "v2" + good[2:], good + " x", strings.Repeat(" ", 7), "v1 b x y z 192.0.2.1:1 false AAAA"} {
		f.refused(t, "no signature", header)
	}
	f.refused(t, "no signature", good, good)
	for name, header := range map[string]string{
		"another secret": peers.Sign("another secret", f.stamp, "a", post, f.target),
		"no secret":      peers.Sign("", f.stamp, "a", post, f.target),
		"another node":   peers.Sign(secret, f.stamp, "b", post, f.target),
		"another method": peers.Sign(secret, f.stamp, "a", http.MethodGet, f.target),
		"another target": peers.Sign(secret, f.stamp, "a", post, f.target+"x"),
		"nothing":        good[:strings.LastIndex(good, " ")] + " AAAA",
		"cut":            good[:len(good)-3],
		"no base64":      good[:len(good)-1] + "!",
	} {
		t.Run(name, func(t *testing.T) { f.refused(t, "wrong signature", header) })
	}
	for i, field := range strings.Fields(good) { // each is signed
		if i == 0 || i == 7 {
			continue
		}
		fields := strings.Fields(good)
		fields[i] = map[int]string{3: "1001", 4: "1", 6: "true"}[i]
		if fields[i] == "" {
			fields[i] = field + "x"
		}
		f.refused(t, "wrong signature", strings.Join(fields, " "))
	}
	for _, off := range []time.Duration{-peers.MaxAge - time.Second, peers.MaxAge + time.Second, -1 << 62, 1 << 62} {
		s := f.stamp
		s.Time = s.Time.Add(off)
		f.refused(t, "too old", peers.Sign(secret, s, "a", post, f.target))
	}
	s := f.stamp
	s.ID = peers.NewID()
	f.refused(t, "not registered", peers.Sign(secret, s, "a", post, f.target))
	s.Tag = "c"
	f.refused(t, "not registered", peers.Sign(secret, s, "a", post, f.target))

	// Only requests for sessions of this node: neither others nor handshakes.
	s = f.stamp
	for _, target := range []string{
		peers.Prefix + "/engine.io/?EIO=4&transport=polling", strings.TrimSuffix(f.target, "a") + "b", f.target + "&sid=lv_VI97HAXpY6yYWAAAB.b",
	} {
		before := f.target
		f.target = target
		s.Seq++
		f.refused(t, "another node", peers.Sign(secret, s, "a", post, target))
		f.target = before
	}
	if a.Len() != 1 || b.Len() != 0 {
		t.Error("somebody has opened a session")
	}
	if v := a.verdicts(); v[""] != 0 || len(v) != 5 {
		t.Errorf("verdicts: %v", v)
	}
}

func TestOwnerRefusesReplays(t *testing.T) {
	f, a, b := forge(t)
	replay := func(s peers.Stamp) {
		t.Helper()
		f.refused(t, "seen before", peers.Sign(secret, s, "a", http.MethodPost, f.target))
	}
	f.taken(t, f.stamp)
	replay(f.stamp)
	early, late := f.stamp, f.stamp
	early.Seq -= 10
	late.Seq += peers.WindowSize
	f.taken(t, early)
	replay(early)
	f.taken(t, late)
	replay(late)
	replay(early)
	if a.fwd.Senders() != 1 {
		t.Errorf("%d senders", a.fwd.Senders())
	}
	// What was signed for one node is nothing to another, and one that has gone has no say any more.
	b.shutdown()
	eventually(t, "it is unknown", func() bool {
		a.dir.Lookup(t.Context(), "x") // looks
		return a.dir.Lookup(t.Context(), "b") == nil
	})
	s := late
	s.Seq++
	f.refused(t, "not registered", peers.Sign(secret, s, "a", http.MethodPost, f.target))
}

// The edge says nothing of itself that a client could make it say.
func TestEdgeOverwritesTheHeader(t *testing.T) {
	l := newLab(t)
	a, b := l.start("a"), l.start("b")
	c := elsewhere(a, b)
	a.requests()
	c.Header[peers.Header] = []string{"taken by a", "v1 b x 1 2 10.0.0.1:1 true AAAA"}
	c.Send("4x")
	if seen := a.requests(); len(seen) != 1 || !strings.HasPrefix(seen[0].RemoteAddr, "127.0.0.1:") {
		t.Errorf("seen: %+v", seen)
	}
	// On the public listener it means nothing.
	c.Base = a.base
	if got := c.Poll(); got[0] != "4x" {
		t.Errorf("got %q", got)
	}
}

func TestForwardWrongSecret(t *testing.T) {
	l := newLab(t)
	a := l.start("a")
	l.opts.Secret = []byte("another secret than a has")
	b := l.start("b")
	c := elsewhere(a, b)
	unknown(t, c.Get())
	unknown(t, c.Post("4x"))
	if n := b.result(peers.Refused); n != 2 || a.Len() != 1 {
		t.Errorf("%d refused, %d sessions", n, a.Len())
	}
}

// ask sends a request in a bubble.
func (n *node) ask(ctx context.Context, method, sid, body string) (status int, answer string, err error) {
	tr := &http.Transport{DialContext: n.l.dial}
	defer tr.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, method, n.base+"/engine.io/?EIO=4&transport=polling&sid="+sid, strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	res, err := tr.RoundTrip(req)
	if err != nil {
		return 0, "", err
	}
	defer res.Body.Close()
	b := make([]byte, 1<<10)
	k, _ := res.Body.Read(b)
	return res.StatusCode, string(b[:k]), nil
}

// open returns the sid of a new session.
func (n *node) open() string {
	_, answer, err := n.ask(n.l.t.Context(), http.MethodGet, "", "")
	_, rest, ok := strings.Cut(answer, `"sid":"`)
	if err != nil || !ok {
		n.l.t.Fatalf("%q, %v", answer, err)
	}
	sid, _, _ := strings.Cut(rest, `"`)
	return sid
}

const unknownBody = `{"code":1,"message":"Session ID unknown"}`

// An owner that is there and does not answer is given up.
func TestForwardSlowOwner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newBubble(t)
		l.opts.Timeout = 10 * time.Second
		a, b := l.start("a"), l.start("b")
		sid := a.open()
		a.mu.Lock()
		a.wrap = func(http.Handler) http.Handler {
			return http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
		}
		a.mu.Unlock()
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			begun := time.Now()
			status, answer, err := b.ask(t.Context(), method, sid, "")
			if took := time.Since(begun); status != http.StatusBadRequest || answer != unknownBody || err != nil || took != 10*time.Second {
				t.Errorf("%s: %d %q %v after %v", method, status, answer, err, took)
			}
		}
		if n := b.result(peers.Failed); n != 2 {
			t.Errorf("%d failed", n)
		}
		b.shutdown()
		a.shutdown()
	})
}

// One whose machine does not even refuse connections is dialed once a second.
func TestForwardBlackHole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newBubble(t)
		a, b := l.start("a"), l.start("b")
		sid := a.open()
		l.memory.Delete(a.self.Addr)
		l.memory.Store(a.self.Addr, siotest.Listen(0)) // nobody accepts
		begun := time.Now()
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				if status, answer, err := b.ask(t.Context(), http.MethodGet, sid, ""); status != http.StatusBadRequest || answer != unknownBody {
					t.Errorf("%d %q %v", status, answer, err)
				}
			})
		}
		wg.Wait()
		if took := time.Since(begun); took != 2*time.Second {
			t.Errorf("it took %v", took)
		}
		begun = time.Now()
		if status, _, _ := b.ask(t.Context(), http.MethodGet, sid, ""); status != http.StatusBadRequest || time.Since(begun) != 0 {
			t.Errorf("%d after %v", status, time.Since(begun))
		}
		time.Sleep(time.Second)
		begun = time.Now()
		if status, _, _ := b.ask(t.Context(), http.MethodGet, sid, ""); status != http.StatusBadRequest || time.Since(begun) != 2*time.Second {
			t.Errorf("%d after %v", status, time.Since(begun))
		}
		b.shutdown()
		a.shutdown()
	})
}

// A poll may wait for long, and a body takes its time, whatever deadlines their connections had before.
func TestForwardPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newBubble(t)
		l.opts.WriteTimeout = time.Second
		a, b := l.start("a"), l.start("b")
		sid := a.open()
		type result struct {
			status int
			answer string
			err    error
		}
		poll := make(chan result, 1)
		go func() { // ends with the request
			status, answer, err := b.ask(t.Context(), http.MethodGet, sid, "")
			poll <- result{status, answer, err}
		}()
		time.Sleep(20 * time.Second)
		if err := a.Session(sid).Send(eio.NewMessage(eio.Frame{Data: []byte("hello")})); err != nil {
			t.Error(err)
		}
		if r := <-poll; r.status != http.StatusOK || r.answer != "4hello" {
			t.Errorf("got %+v", r)
		}
		b.shutdown()
		a.shutdown()
	})
}

// A client that does not read is cut off, and its owner hears of it.
func TestForwardSlowClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newBubble(t)
		l.opts.WriteTimeout = 3 * time.Second
		a, b := l.start("a"), l.start("b")
		sid := a.open()
		conn, err := l.dial(t.Context(), "tcp", strings.TrimPrefix(b.base, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprintf(conn, "GET /engine.io/?EIO=4&transport=polling&sid=%s HTTP/1.1\r\nHost: x\r\n\r\n", sid)
		synctest.Wait()
		if err := a.Session(sid).Send(eio.NewMessage(eio.Frame{Data: make([]byte, 1<<20)})); err != nil {
			t.Error(err)
		}
		time.Sleep(4 * time.Second)
		synctest.Wait()
		if a.Session(sid) != nil {
			t.Error("the session goes on")
		}
		b.shutdown()
		a.shutdown()
	})
}
