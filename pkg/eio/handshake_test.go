package eio_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/seed-0b620db0/patchbay/internal/siotest"
	"github.com/seed-0b620db0/patchbay/pkg/eio"
)

func TestHandshake(t *testing.T) {
	bubble(t, nil, func(t *testing.T, l *lab) {
		p := l.poller()
		want := fmt.Sprintf(`0{"sid":%q,"upgrades":["websocket"],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}`, p.sid)
		wantResponse(t, p.first, 200, want)
		if !regexp.MustCompile(`^[A-Za-z0-9_-]{20}$`).MatchString(p.sid) {
			t.Errorf("sid: %q", p.sid)
		}
		if h := p.first.header; h.Get("Content-Type") != "text/plain; charset=UTF-8" || h.Get("Cache-Control") != "no-store" ||
			p.first.length != int64(len(want)) || len(h["Set-Cookie"]) != 0 || h.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("headers: %v", h)
		}
		c := l.ws()
		if c.open.SID == p.sid || l.Len() != 2 || l.Session(c.open.SID) != c.peer.s || l.Session("x") != nil {
			t.Errorf("%d sessions", l.Len())
		}
	})
}

func TestLesson22_Refusals(t *testing.T) {
	const ws, poll = true, false
	for _, c := range []struct {
		name      string
		upgrade   bool
		method    string
		query     string // SID stands for a polling session, WSID for one on WebSocket
		origin    string
		status    int
		code      int
		message   string
		context   string
		transport []eio.Transport
	}{
		{name: "nothing", query: "", code: 0, message: "Transport unknown"},
		{name: "no such transport", query: "EIO=4&transport=carrier", code: 0, message: "Transport unknown"},
		{name: "webtransport", query: "EIO=4&transport=webtransport", code: 0, message: "Transport unknown"},
		{name: "not enabled", query: pollQuery, transport: []eio.Transport{eio.WebSocket}, code: 0, message: "Transport unknown"},
		{name: "transport before sid", query: "EIO=4&sid=x", code: 0, message: "Transport unknown"},
		{name: "last value counts", query: pollQuery + "&transport=x", code: 0, message: "Transport unknown"},
		{name: "unknown session", query: pollQuery + "&sid=x", code: 1, message: "Session ID unknown"},
		{name: "unknown session, POST", method: "POST", query: pollQuery + "&sid=x", code: 1, message: "Session ID unknown"},
		{name: "POST", method: "POST", query: pollQuery, code: 2, message: "Bad handshake method"},
		{name: "OPTIONS", method: "OPTIONS", query: pollQuery, code: 2, message: "Bad handshake method"},
		{name: "POST before EIO", method: "POST", query: "EIO=3&transport=polling", code: 2, message: "Bad handshake method"},
		{name: "origin", query: pollQuery, origin: "http://a\x01", code: 3, message: "Bad request", context: "INVALID_ORIGIN"},
		{name: "no upgrade", query: wsQuery, code: 3, message: "Bad request", context: "TRANSPORT_HANDSHAKE_ERROR"},
		{name: "mismatch", query: wsQuery + "&sid=SID", code: 3, message: "Bad request", context: "TRANSPORT_MISMATCH"},
		{name: "poll after upgrade", query: pollQuery + "&sid=WSID", code: 3, message: "Bad request", context: "TRANSPORT_MISMATCH"},
		{name: "revision of a session", query: "EIO=3&transport=polling&sid=SID", code: 3, message: "Bad request", context: "PROTOCOL_MISMATCH"},
		{name: "mismatch before revision", query: "EIO=3&transport=websocket&sid=SID", code: 3, message: "Bad request", context: "TRANSPORT_MISMATCH"},
		{name: "EIO 3", query: "EIO=3&transport=polling", code: 5, message: "Unsupported protocol version"},
		{name: "no EIO", query: "transport=polling", code: 5, message: "Unsupported protocol version"},
		{name: "EIO 44", query: "EIO=44&transport=polling", code: 5, message: "Unsupported protocol version"},

		{name: "ws nothing", upgrade: ws, query: "", message: "Transport unknown"},
		{name: "ws unknown session", upgrade: ws, query: wsQuery + "&sid=x", code: 1, message: "Session ID unknown"},
		{name: "ws transport=polling", upgrade: ws, query: pollQuery, code: 3, message: "Bad request", context: "TRANSPORT_HANDSHAKE_ERROR"},
		{name: "ws EIO 3", upgrade: ws, query: "EIO=3&transport=websocket", code: 5, message: "Unsupported protocol version"},
		{name: "ws revision of a session", upgrade: ws, query: "EIO=3&transport=websocket&sid=SID", code: 3, message: "Bad request", context: "PROTOCOL_MISMATCH"},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, &eio.Options{Transports: c.transport}, func(t *testing.T, l *lab) {
				query := c.query
				if strings.HasSuffix(query, "=SID") {
					query = strings.Replace(query, "SID", l.poller().sid, 1)
				}
				if strings.HasSuffix(query, "=WSID") {
					query = strings.Replace(query, "WSID", l.ws().open.SID, 1)
				}
				refused := "refused eio: " + c.message
				if c.context != "" {
					refused += " (" + c.context + ")"
				}
				if c.upgrade == poll {
					r := l.rawRequest(c.method, query, c.origin)
					wantResponse(t, r, 400, fmt.Sprintf(`{"code":%d,"message":%q}`, c.code, c.message))
					if ct := r.header.Get("Content-Type"); ct != "application/json" {
						t.Errorf("content type: %s", ct)
					}
				} else {
					w, r := l.dial(query)
					wantResponse(t, r, 400, c.message)
					if r.header.Get("Content-Type") != "text/html" || r.length != int64(len(c.message)) || !w.response.Close {
						t.Errorf("headers: %v", r.header)
					}
				}
				if l.calls(refused) != 1 {
					t.Errorf("Refused: %v, want %q", l.hooks, refused)
				}
			})
		})
	}
}

// rawRequest can send headers that net/http's client refuses to.
func (l *lab) rawRequest(method, query, origin string) response {
	r := httptest.NewRequest(http.MethodGet, enginePath+"?"+query, nil)
	if method != "" {
		r.Method = method
	}
	if origin != "" {
		r.Header.Set("Origin", origin)
	}
	w := httptest.NewRecorder()
	l.ServeHTTP(w, r)
	return response{status: w.Code, header: w.Result().Header, body: w.Body.String()}
}

func TestAllowRequest(t *testing.T) {
	asked := 0
	opts := &eio.Options{AllowRequest: func(r *http.Request) error {
		asked++
		if r.Header.Get("Authorization") == "" {
			return errors.New("who are you?")
		}
		return nil
	}}
	bubble(t, opts, func(t *testing.T, l *lab) {
		wantResponse(t, l.request("GET", pollQuery, nil, nil), 403, `{"code":4,"message":"who are you?"}`)
		if _, r := l.dial(wsQuery); r.status/100 != 4 || r.body != "who are you?" {
			t.Errorf("%v", r)
		}
		r := l.request("GET", pollQuery, http.Header{"Authorization": {"x"}}, nil)
		if r.status != 200 {
			t.Fatal(r)
		}
		p := &poller{l: l, sid: l.last().s.ID(), peer: l.last()}
		p.wantPost(t, "4a") // only the handshake is asked about
		if asked != 3 {
			t.Errorf("asked %d times", asked)
		}
		wantResponse(t, l.request("POST", pollQuery, nil, nil), 400, `{"code":2,"message":"Bad handshake method"}`)
		if asked != 3 {
			t.Error("asked about a request that is refused anyway")
		}
	})
}

func TestGenerateID(t *testing.T) {
	var id string
	var err error
	opts := &eio.Options{GenerateID: func(*http.Request) (string, error) { return id, err }}
	const refused = `{"code":3,"message":"Bad request"}`
	bubble(t, opts, func(t *testing.T, l *lab) {
		id, err = "", errors.New("no ids today")
		wantResponse(t, l.request("GET", pollQuery, nil, nil), 400, refused)
		if _, r := l.dial(wsQuery); r.status != 400 || r.body != "Bad request" {
			t.Errorf("%v", r)
		}
		err = nil
		wantResponse(t, l.request("GET", pollQuery, nil, nil), 400, refused) // empty
		id = "custom"
		if p := l.poller(); p.sid != "custom" {
			t.Errorf("sid: %q", p.sid)
		}
		wantResponse(t, l.request("GET", pollQuery, nil, nil), 400, refused)
		l.peers[0].wantOpen(t)
	})
}

func TestGenerateIDTwiceAtOnce(t *testing.T) {
	opts := &eio.Options{GenerateID: func(*http.Request) (string, error) { return "same", nil }}
	bubble(t, opts, func(t *testing.T, l *lab) {
		l.accept = func(*peer) { time.Sleep(time.Second) }
		results := make(chan int, 2)
		for range 2 {
			go func() { results <- l.request("GET", pollQuery, nil, nil).status }()
		}
		if a, b := <-results, <-results; a+b != 200+400 {
			t.Errorf("got %d and %d: two sessions with one id", a, b)
		}
	})
}

func TestNode(t *testing.T) {
	bubble(t, &eio.Options{Node: "gateway-2"}, func(t *testing.T, l *lab) {
		if p := l.poller(); !regexp.MustCompile(`^[A-Za-z0-9_-]{20}\.gateway-2$`).MatchString(p.sid) {
			t.Errorf("sid: %q", p.sid)
		}
	})
}

func TestOptionsThatOnlyAProgrammerGetsWrong(t *testing.T) {
	for name, o := range map[string]*eio.Options{
		"transport": {Transports: []eio.Transport{"pigeon"}}, "node": {Node: "Upper"}, "long node": {Node: strings.Repeat("x", 64)},
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("NewServer took it")
				}
			}()
			eio.NewServer(nil, o)
		})
	}
}

func TestMaxSessions(t *testing.T) {
	bubble(t, &eio.Options{MaxSessions: 2}, func(t *testing.T, l *lab) {
		p := l.poller()
		l.ws()
		r := l.request("GET", pollQuery, nil, nil)
		wantResponse(t, r, 503, `{"code":3,"message":"Too many sessions"}`)
		if r.header.Get("Retry-After") == "" {
			t.Error("no Retry-After")
		}
		if _, r := l.dial(wsQuery); r.status != 503 || r.header.Get("Retry-After") == "" {
			t.Errorf("%v", r)
		}
		p.wantPost(t, "1")
		// A handshake that fails gives its place back.
		if r := l.request("GET", wsQuery, http.Header{"Connection": {"Upgrade"}, "Upgrade": {"websocket"}}, nil); r.status != 400 {
			t.Errorf("%v", r)
		}
		l.poller()
	})
}

func TestCookie(t *testing.T) {
	for name, c := range map[string]struct {
		cookie *http.Cookie
		want   string
	}{
		"defaults": {&http.Cookie{HttpOnly: true, SameSite: http.SameSiteLaxMode}, "io=SID; Path=/; HttpOnly; SameSite=Lax"},
		"all":      {&http.Cookie{Name: "foo", Path: "/x", MaxAge: 86400, Secure: true}, "foo=SID; Path=/x; Max-Age=86400; Secure"},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, &eio.Options{Cookie: c.cookie}, func(t *testing.T, l *lab) {
				p := l.poller()
				if got, want := p.first.header.Get("Set-Cookie"), strings.Replace(c.want, "SID", p.sid, 1); got != want {
					t.Errorf("got %q, want %q", got, want)
				}
				_ = p.peer.s.Send(text("x"))
				if got := p.poll().header.Get("Set-Cookie"); got != "" {
					t.Errorf("again: %q", got)
				}
				if c.cookie.Value != "" {
					t.Error("the option was written to")
				}
			})
		})
	}
}

func TestHeaderFunctions(t *testing.T) {
	opts := &eio.Options{
		InitialHeaders: func(h http.Header, _ *http.Request) { h.Add("Initial", "1") },
		Headers:        func(h http.Header, r *http.Request) { h.Add("Every", r.Method) },
	}
	bubble(t, opts, func(t *testing.T, l *lab) {
		want := func(h http.Header, initial, every string) {
			t.Helper()
			if i, e := strings.Join(h["Initial"], ","), strings.Join(h["Every"], ","); i != initial || e != every {
				t.Errorf("got %q and %q, want %q and %q", i, e, initial, every)
			}
		}
		p := l.poller()
		want(p.first.header, "1", "GET")
		want(p.post("4a").header, "", "POST")
		_ = p.peer.s.Send(text("x"))
		want(p.poll().header, "", "GET")
		want(p.upgrade().response.Header, "", "GET")
		want(l.ws().response.Header, "1", "GET")
	})
}

func TestRequest(t *testing.T) {
	type key struct{}
	opts := &eio.Options{Context: func(r *http.Request) context.Context {
		return context.WithValue(context.Background(), key{}, r.Header.Get("User"))
	}}
	bubble(t, opts, func(t *testing.T, l *lab) {
		start := time.Now()
		l.request("GET", pollQuery+"&a=1&a=2&b=%20", http.Header{"User": {"ann"}}, nil)
		p := &poller{l: l, sid: l.last().s.ID(), peer: l.last()}
		time.Sleep(time.Second)
		p.post("4x")
		p.upgrade()
		r := p.peer.s.Request()
		if r.URL() != enginePath+"?"+pollQuery+"&a=1&a=2&b=%20" || r.Host() != "memory" || r.RemoteAddr() != "memory" || r.Secure() ||
			!r.Time().Equal(start) || r.Header().Get("User") != "ann" || r.Context().Value(key{}) != "ann" {
			t.Errorf("%+v", r)
		}
		if q := r.Query(); len(q["a"]) != 2 || q.Get("b") != " " || q.Get("EIO") != "4" {
			t.Errorf("query: %v", q)
		}
		if ctx := l.ws().peer.s.Request().Context(); ctx.Err() != nil || ctx.Value(key{}) != "" {
			t.Errorf("%v", ctx)
		}
	})
}

func TestPath(t *testing.T) {
	for _, c := range []struct {
		opts *eio.Options
		path string
		want int
	}{
		{nil, "/engine.io/", 200},
		{nil, "/engine.io/foo", 200},
		{nil, "/engine.io", 404},
		{nil, "/engine.iox/", 404},
		{nil, "/", 404},
		{nil, "/x/engine.io/", 404},
		{&eio.Options{NoTrailingSlash: true}, "/engine.io", 200},
		{&eio.Options{NoTrailingSlash: true}, "/engine.io/", 200},
		{&eio.Options{NoTrailingSlash: true}, "/engine.iox", 404},
		{&eio.Options{Path: "/my/app/"}, "/my/app/", 200},
		{&eio.Options{Path: "my"}, "/my/", 200},
		{&eio.Options{Path: "/"}, "/anything", 200},
	} {
		bubble(t, c.opts, func(t *testing.T, l *lab) {
			if r := l.do(t.Context(), "GET", c.path+"?"+pollQuery, nil, nil); r.status != c.want {
				t.Errorf("%+v, %s: got %v, want %d", c.opts, c.path, r, c.want)
			}
		})
	}
}

func TestInAServeMux(t *testing.T) {
	bubble(t, nil, func(t *testing.T, l *lab) {
		mux := http.NewServeMux()
		mux.Handle("/engine.io/", l.Server)
		mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("page")) })
		l.wrap = func(http.Handler) http.Handler { return mux }
		wantResponse(t, l.do(t.Context(), "GET", "/x", nil, nil), 200, "page")
		p := l.poller()
		p.wantPost(t, "4a")
		p.upgrade().send("4b")
		p.peer.wantMessages(t, "a", "b")
	})
}

// The client here is the one that the whole project tests with, over real connections.
func TestOverTLSAndHTTP2(t *testing.T) {
	siotest.LeakCheck(t)
	got := make(chan *eio.Session, 3)
	srv := eio.NewServer(func(s *eio.Session) eio.Handler {
		got <- s
		return &peer{s: s, changed: make(chan struct{}, 1), onMessage: func(m string) { _ = s.Send(text("echo " + m)) }}
	}, nil)
	ts := httptest.NewUnstartedServer(srv)
	ts.EnableHTTP2 = true
	ts.StartTLS()
	defer ts.Close()
	defer srv.Close()
	do := func(method, query, body string) string {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, ts.URL+enginePath+"?"+query, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		res, err := ts.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		var b strings.Builder
		_ = res.Write(&b)
		if res.ProtoMajor != 2 || res.StatusCode != http.StatusOK {
			t.Fatalf("%s %d: %s", res.Proto, res.StatusCode, b.String())
		}
		return b.String()
	}
	do("GET", pollQuery, "")
	s := <-got
	if !s.Request().Secure() || !strings.HasPrefix(s.Request().RemoteAddr(), "127.0.0.1:") {
		t.Errorf("%+v", s.Request())
	}
	query := pollQuery + "&sid=" + s.ID()
	for i := range 100 { // streams of one connection run beside each other
		answer := make(chan string, 1)
		go func() { answer <- do("GET", query, "") }()
		do("POST", query, fmt.Sprint("4", i))
		if a := <-answer; !strings.HasSuffix(a, fmt.Sprint("4echo ", i)) {
			t.Fatalf("answer %d: %s", i, a)
		}
	}
}

func TestOverRealConnections(t *testing.T) {
	siotest.LeakCheck(t)
	peers := make(chan *peer, 3)
	srv := eio.NewServer(func(s *eio.Session) eio.Handler {
		p := &peer{s: s, changed: make(chan struct{}, 1)}
		peers <- p
		return p
	}, &eio.Options{MaxHTTPBufferSize: 100})
	ts := httptest.NewServer(srv)
	defer ts.Close()
	defer srv.Close()

	c := siotest.New(t, ts.URL, enginePath)
	c.Handshake()
	p := <-peers
	c.Send("4a")
	w, _ := c.Upgrade()
	w.Send("4b")
	p.await(2)
	_ = p.s.Send(text("c"))
	w.Expect("4c")
	// The rest of the message is still on its way when the server has seen enough; it must not reset the connection.
	go func() { _ = w.Conn.Write(context.Background(), 1, []byte("4"+strings.Repeat("x", 4<<20))) }()
	if code := w.ExpectClose(); code != 1009 {
		t.Errorf("close code %d, want 1009", code)
	}

	c = siotest.New(t, ts.URL, enginePath)
	c.Handshake()
	r := c.Do("POST", c.URL("polling"), http.Header{"Content-Type": {"application/octet-stream"}}, strings.NewReader("4a"))
	if r.Status != 400 || r.Body != "" {
		t.Errorf("octet-stream: %+v", r)
	}
}
