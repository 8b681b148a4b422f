package gateway_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/seed-0b620db0/patchbay/internal/siotest"
)

const handshake = "/socket.io/?EIO=4&transport=polling"

func TestInternalListener(t *testing.T) {
	for _, on := range []bool{false, true} {
		n := start(t, fmt.Sprintf("PPROF=%v", on))
		if r := n.get(n.admin + "/healthz"); r.Status != http.StatusOK || r.Body != "ok\n" {
			t.Errorf("healthz: %d %q", r.Status, r.Body)
		}
		if r := n.get(n.admin + "/readyz"); r.Status != http.StatusOK || r.Body != `{"ready":true}`+"\n" || r.Header.Get("Content-Type") != "application/json" {
			t.Errorf("readyz: %d %q %v", r.Status, r.Body, r.Header)
		}
		if r := n.get(n.admin + "/metrics"); r.Status != http.StatusOK || !strings.Contains(r.Body, "\npatchbay_sessions{") ||
			!strings.Contains(r.Body, "\ngo_goroutines ") || !strings.Contains(r.Body, "\nprocess_open_fds ") {
			t.Errorf("metrics: %d %.200q", r.Status, r.Body)
		}
		for _, path := range []string{"/debug/pprof/", "/debug/pprof/heap", "/debug/pprof/goroutine?debug=1", "/debug/pprof/cmdline", "/debug/pprof/symbol"} {
			if r := n.get(n.admin + path); (r.Status == http.StatusOK) != on || !on && r.Status != http.StatusNotFound {
				t.Errorf("PPROF=%v: %s: %d", on, path, r.Status)
			}
		}
		for _, path := range []string{"/", "/socket.io/?EIO=4&transport=polling", "/api/v1/"} {
			if r := n.get(n.admin + path); r.Status != http.StatusNotFound {
				t.Errorf("%s on the internal listener: %d", path, r.Status)
			}
		}
		for _, path := range []string{"/metrics", "/healthz", "/readyz"} {
			for _, method := range []string{http.MethodPost, http.MethodDelete, http.MethodOptions} {
				if r := n.do(method, n.admin+path); r.Status != http.StatusMethodNotAllowed || r.Header.Get("Allow") != "GET, HEAD" {
					t.Errorf("%s %s: %d %v", method, path, r.Status, r.Header)
				}
			}
			if r := n.do(http.MethodHead, n.admin+path); r.Status != http.StatusOK || r.Body != "" {
				t.Errorf("HEAD %s: %d %q", path, r.Status, r.Body)
			}
		}
	}
}

func TestPublicListenerShowsNothingInternal(t *testing.T) {
	for _, vars := range [][]string{{"PPROF=true"}, {"PPROF=true", "RELAY=true", "PLAYGROUND=true"}} {
		n := start(t, vars...)
		for _, path := range []string{
			"/metrics", "/healthz", "/readyz", "/debug/pprof/", "/debug/vars", "/api/v1/", "/socket.io/../metrics", "/socket.io/..%2fmetrics", "//metrics",
			"/playground/", "/client/package.json", "/client/dist/socket.io.js", "/doc.go",
		} {
			if r := n.get(n.public + path); r.Status != http.StatusNotFound && (r.Status != http.StatusBadRequest || !strings.HasPrefix(r.Body, `{"code":0`)) {
				t.Errorf("%q: %s: %d %.100q", vars, path, r.Status, r.Body)
			}
		}
	}
}

func TestPathVariants(t *testing.T) {
	const query = "?EIO=4&transport=polling"
	for _, c := range []struct {
		vars      []string
		good, bad []string
	}{
		{nil, []string{"/socket.io/", "/socket.io/anything"}, []string{"/", "/socket.iox/", "/socket.io.js", "/Socket.io/", "/engine.io/", "/x/socket.io/"}},
		{[]string{"PATH=/a/b"}, []string{"/a/b/"}, []string{"/a/", "/socket.io/", "/a/bc/"}},
		{[]string{"PATH=/a/b/"}, []string{"/a/b/"}, []string{"/a/"}},
		{[]string{"TRAILING_SLASH=false"}, []string{"/socket.io", "/socket.io/"}, []string{"/socket.iox", "/"}},
		{[]string{"PATH=/a/", "TRAILING_SLASH=false"}, []string{"/a", "/a/"}, []string{"/ab"}},
	} {
		n := start(t, c.vars...)
		for _, path := range c.good {
			if r := n.get(n.public + path + query); r.Status != http.StatusOK || !strings.HasPrefix(r.Body, `0{"sid":"`) {
				t.Errorf("%q: %s: %d %q", c.vars, path, r.Status, r.Body)
			}
		}
		for _, path := range c.bad {
			if r := n.get(n.public + path + query); r.Status != http.StatusNotFound {
				t.Errorf("%q: %s: %d %q", c.vars, path, r.Status, r.Body)
			}
		}
	}
}

func TestSessionIDHasTheNode(t *testing.T) {
	n := start(t, "NODE=gateway-7")
	if sid := n.client().Handshake().SID; !strings.HasSuffix(sid, ".gateway-7") || len(sid) != 20+len(".gateway-7") {
		t.Errorf("sid %q", sid)
	}
}

func TestCookie(t *testing.T) {
	n := start(t, "COOKIE=lb")
	r := n.get(n.public + handshake)
	sid := strings.Split(r.Body, `"`)[3]
	if got := r.Header.Get("Set-Cookie"); got != "lb="+sid+"; Path=/; HttpOnly; SameSite=Lax" {
		t.Errorf("cookie %q for %s", got, r.Body)
	}
	plain := start(t)
	if got := plain.get(plain.public + handshake).Header.Get("Set-Cookie"); got != "" {
		t.Errorf("by default: %q", got)
	}
}

const page, foreign = "https://app.example", "https://evil.example"

func TestCORS(t *testing.T) {
	for _, c := range []struct {
		vars    []string
		origin  string
		allow   string // Access-Control-Allow-Origin
		cookies bool
	}{
		{nil, page, "", false},
		{[]string{"CORS_ORIGINS=" + page}, page, page, false},
		{[]string{"CORS_ORIGINS=" + page}, foreign, "", false},
		{[]string{"CORS_ORIGINS=" + page}, "null", "", false},
		{[]string{"CORS_ORIGINS=" + page}, page + ".evil.example", "", false},
		{[]string{"CORS_ORIGINS=" + page}, "http://app.example", "", false},
		{[]string{"CORS_ORIGINS=https://other.example," + page}, page, page, false},
		{[]string{"CORS_ORIGINS=https://*.example"}, page, page, false},
		{[]string{"CORS_ORIGINS=https://*.example"}, "https://app.example.evil", "", false},
		{[]string{"CORS_ORIGINS=*"}, page, "*", false},
		{[]string{"CORS_ORIGINS=*"}, "null", "*", false},
		{[]string{"CORS_ORIGINS=" + page, "CORS_CREDENTIALS=true"}, page, page, true},
		{[]string{"CORS_ORIGINS=" + page, "CORS_CREDENTIALS=true"}, foreign, "", false},
	} {
		n := start(t, c.vars...)
		credentials := map[bool]string{true: "true"}[c.cookies]
		check := func(what string, r siotest.Response, status int) {
			t.Helper()
			h := r.Header
			if r.Status != status || h.Get("Access-Control-Allow-Origin") != c.allow || h.Get("Access-Control-Allow-Credentials") != credentials {
				t.Errorf("%q, %s, %s: %d %v", c.vars, c.origin, what, r.Status, h)
			}
			if len(c.vars) > 0 && c.allow != "*" && !strings.Contains(strings.Join(h["Vary"], ","), "Origin") {
				t.Errorf("%q, %s, %s: no Vary in %v", c.vars, c.origin, what, h)
			}
		}
		check("handshake", n.get(n.public+handshake, "Origin", c.origin), http.StatusOK)
		check("error", n.get(n.public+handshake+"&sid=x", "Origin", c.origin), http.StatusBadRequest)
		if len(c.vars) > 0 {
			r := n.do(http.MethodOptions, n.public+handshake, "Origin", c.origin, "Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "content-type,x-mine")
			check("preflight", r, http.StatusNoContent)
			if allowed := r.Header.Get("Access-Control-Allow-Headers"); c.allow != "" && allowed != "content-type,x-mine" && allowed != "*" {
				t.Errorf("%q: preflight allows headers %q", c.vars, allowed)
			}
			if m := r.Header.Get("Access-Control-Allow-Methods"); (m == "POST") != (c.allow != "") {
				t.Errorf("%q, %s: preflight allows methods %q", c.vars, c.origin, m)
			}
			r = n.do(http.MethodOptions, n.public+handshake, "Origin", c.origin, "Access-Control-Request-Method", "DELETE")
			if r.Header.Get("Access-Control-Allow-Origin") != "" {
				t.Errorf("%q: preflight of DELETE: %v", c.vars, r.Header)
			}
		}
		client := n.client()
		client.Header.Set("Origin", c.origin)
		w := client.Open() // CORS does not cover it
		check("upgrade", w.Response, http.StatusSwitchingProtocols)
		w.Close()
		client.Handshake()
		check("post", client.Post("40"), http.StatusOK)
		check("poll", client.Get(), http.StatusOK)
		if r := n.get(n.public + handshake); r.Header.Get("Access-Control-Allow-Origin") != "" && c.allow != "*" {
			t.Errorf("%q, without Origin: %v", c.vars, r.Header)
		}
	}
}

// originAllowed tells whether handshakes of both transports are let in; they must agree.
func (n *node) originAllowed(origin string) bool {
	n.t.Helper()
	var header []string
	c := n.client()
	if origin != "" {
		header = []string{"Origin", origin}
		c.Header.Set("Origin", origin)
	}
	r := n.get(n.public+handshake, header...)
	w, res, err := c.TryDial(&websocket.DialOptions{})
	if err == nil {
		w.Close()
	}
	switch {
	case r.Status == http.StatusOK && err == nil:
		return true
	case r.Status == http.StatusForbidden && r.Body == `{"code":4,"message":"Origin not allowed"}` && res.Status == http.StatusBadRequest && res.Body == "Origin not allowed":
		return false
	}
	n.t.Errorf("origin %q: polling %d %q, WebSocket %d %q %v", origin, r.Status, r.Body, res.Status, res.Body, err)
	return false
}

func TestCheckOrigin(t *testing.T) {
	open := start(t)
	own := func(n *node) string { return n.public }
	for _, origin := range []string{"", own(open), foreign, "null"} {
		if !open.originAllowed(origin) {
			t.Errorf("unchecked: %q is refused", origin)
		}
	}
	n := start(t, "CHECK_ORIGIN=true", "CORS_ORIGINS="+page)
	host := strings.TrimPrefix(n.public, "http://")
	for origin, want := range map[string]bool{
		"": true, own(n): true, page: true, foreign: false, "null": false, page + ":8443": false, "http://app.example": false, "app.example": false,
		"http://" + host + ".evil.example": false, "http://evil.example/" + host: false, "http://x@" + host: false, "http://127.0.0.1": false, "http://": false,
	} {
		if got := n.originAllowed(origin); got != want {
			t.Errorf("%q: %v, want %v", origin, got, want)
		}
	}
	if all := start(t, "CHECK_ORIGIN=true", "CORS_ORIGINS=*"); !all.originAllowed(foreign) {
		t.Error("* does not allow all")
	}
}

// What CORS lets in must not be refused by the check, and the other way round.
func TestCheckOriginAgreesWithCORS(t *testing.T) {
	n := start(t, "CHECK_ORIGIN=true", "CORS_ORIGINS=https://*.example,https://B.test")
	for _, origin := range []string{page, "https://b.test", "https://app.example.evil", foreign + ".x"} {
		cors := n.get(n.public+handshake, "Origin", origin).Header.Get("Access-Control-Allow-Origin") != ""
		if got := n.originAllowed(origin); got != cors {
			t.Errorf("%s: CORS says %v, the check %v", origin, cors, got)
		}
	}
}

// A request whose body never comes must not keep its connection for ever, also where nobody reads the body.
func TestBodyThatNeverComes(t *testing.T) {
	n := start(t, "RELAY=true", "PLAYGROUND=true", "BODY_TIMEOUT=200ms", "IDLE_TIMEOUT=200ms", "READ_HEADER_TIMEOUT=200ms")
	for _, c := range []struct{ addr, head string }{
		{n.public, "POST / HTTP/1.1"},
		{n.public, "GET / HTTP/1.1"},
		{n.public, "GET " + handshake + " HTTP/1.1"},
		{n.public, "POST /nowhere HTTP/1.1"},
		{n.public, "POST " + handshake + " HTTP/1.1"},
		{n.public, "GET /nowhere HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade"},
		{n.admin, "POST /healthz HTTP/1.1"},
	} {
		conn, err := net.Dial("tcp", strings.TrimPrefix(c.addr, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "%s\r\nHost: x\r\nContent-Length: 100000\r\n\r\nhalf", c.head)
		if err := conn.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, bufio.NewReader(conn)); err != nil {
			t.Errorf("%s: %v", c.head, err)
		}
		conn.Close()
	}
}

func TestHeaderLimits(t *testing.T) {
	n := start(t, "READ_HEADER_TIMEOUT=100ms", "MAX_HEADER_BYTES=5000")
	if r := n.get(n.public+handshake, "X-Big", strings.Repeat("x", 20_000)); r.Status != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("a large header: %d", r.Status)
	}
	conn, err := net.Dial("tcp", n.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: x\r\n", handshake)
	if err := conn.SetReadDeadline(time.Now().Add(siotest.Patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, conn); err != nil {
		t.Errorf("a header without end: %v", err)
	}
}
