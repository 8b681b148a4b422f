package protocol_test

import (
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"github.com/seed-0b620db0/patchbay/internal/siotest"
)

var bare = options{Mode: "engine"}

// A Go string is written as it is with a single byte 0x1e between packets.
func TestEngine_1_1_Packets(t *testing.T) {
	f := use(t, bare)
	t.Run("text over polling", func(t *testing.T) {
		c := f.polling(t)
		c.Send("4hello")
		wantSlice(t, "echo", c.Poll(), []string{"4hello"})
	})
	t.Run("empty message", func(t *testing.T) {
		c := f.polling(t)
		c.Send("4")
		wantSlice(t, "echo", c.Poll(), []string{"4"})
		w := f.ws(t)
		w.Send("4")
		w.Expect("4")
	})
	t.Run("several in one payload, in order", func(t *testing.T) {
		c := f.polling(t)
		c.Send("4a", "4€\n", "bAQID", "4\\n\"")
		wantSlice(t, "echo", c.PollN(4), []string{"4a", "4€\n", "bAQID", "4\\n\""})
	})
	t.Run("binary over polling is base64, also without b64", func(t *testing.T) {
		c := f.polling(t)
		c.Send("bAQIDBA==")
		wantSlice(t, "echo", c.Poll(), []string{"bAQIDBA=="})
		wantSlice(t, "received", mustReceive(t, f, c.SID, 1), []string{`{"binary":"01020304"}`})
	})
	t.Run("binary over WebSocket has no prefix", func(t *testing.T) {
		w := f.ws(t)
		w.SendBinary("\x01\x02\x03\x04")
		w.ExpectBinary("\x01\x02\x03\x04")
		w.SendBinary("4abc")
		w.ExpectBinary("4abc")
	})
	t.Run("base64 in a WebSocket text frame is binary", func(t *testing.T) {
		w := f.ws(t)
		w.Send("bAQID")
		w.ExpectBinary("\x01\x02\x03")
	})
	t.Run("data that looks like a packet is not escaped", func(t *testing.T) {
		w := f.ws(t)
		w.Send("42probe", "44", "4b")
		w.Expect("42probe", "44", "4b")
	})
	for name, packet := range map[string]string{"unknown type": "9x", "letter": "abc", "empty": ""} {
		t.Run("parse error over WebSocket: "+name, func(t *testing.T) {
			w := f.ws(t)
			w.Send(packet)
			w.ExpectClose()
			f.wantClosed(t, w.SID, "parse error")
		})
	}
}

// mustReceive waits until the session has received n messages and returns them as JSON.
func mustReceive(t *testing.T, f *fixture, sid string, n int) []string {
	t.Helper()
	s := f.await(t, "messages received", func(s state) bool { return len(s.Received[sid]) >= n })
	var got []string
	for _, m := range s.Received[sid] {
		got = append(got, mustJSON(t, m))
	}
	return got
}

func TestEngine_1_1_DecodingStopsAtTheFirstBadPacket(t *testing.T) {
	f := use(t, bare)
	c := f.polling(t)
	want(t, "status", c.Post("4before", "9bad", "4after").Status, http.StatusOK)
	f.wantClosed(t, c.SID, "parse error")
	wantSlice(t, "received", mustReceive(t, f, c.SID, 1), []string{`"before"`})
}

func TestEngine_1_2_Query(t *testing.T) {
	f := use(t, bare)
	for _, eio := range []string{"", "3", "5", "04", "4 "} {
		t.Run(fmt.Sprintf("EIO=%q is not supported", eio), func(t *testing.T) {
			c := f.client(t)
			wantRefused(t, c.Do(http.MethodGet, c.URL("polling", "EIO", eio), nil, nil), 400,
				`{"code":5,"message":"Unsupported protocol version"}`)
		})
	}
	t.Run("the last of repeated keys counts", func(t *testing.T) {
		c := f.client(t)
		r := c.Do(http.MethodGet, f.URL+"/engine.io/?EIO=3&EIO=4&transport=bogus&transport=polling", nil, nil)
		want(t, "status", r.Status, 200)
		r = c.Do(http.MethodGet, f.URL+"/engine.io/?EIO=4&EIO=3&transport=polling", nil, nil)
		want(t, "status", r.Status, 400)
	})
	t.Run("an empty sid is none", func(t *testing.T) {
		c := f.client(t)
		r := c.Do(http.MethodGet, c.URL("polling")+"&sid=", nil, nil)
		want(t, "status", r.Status, 200)
		want(t, "open packet", strings.HasPrefix(r.Body, `0{"sid":`), true)
	})
	t.Run("t and unknown keys are ignored", func(t *testing.T) {
		c := f.client(t)
		c.Query = url.Values{"t": {"Pq9-x"}, "other": {"1"}}
		c.Handshake()
		wantAlive(t, c)
	})
	t.Run("b64 over WebSocket", func(t *testing.T) {
		w := f.client(t).Open("b64", "1")
		w.SendBinary("\x01\x02\x03")
		w.Expect("bAQID")
		w.Send("4text")
		w.Expect("4text")
	})
	t.Run("b64 over polling changes nothing", func(t *testing.T) {
		c := f.client(t)
		c.Query.Set("b64", "1")
		c.Handshake()
		c.Send("bAQID", "4x")
		wantSlice(t, "echo", c.PollN(2), []string{"bAQID", "4x"})
	})
}

func TestEngine_1_4_Path(t *testing.T) {
	t.Run("a longer path is taken", func(t *testing.T) {
		f := use(t, bare)
		c := f.client(t)
		c.Path = "/engine.io/foo/bar"
		c.Handshake()
		wantAlive(t, c)
	})
	t.Run("without its trailing slash it is not", func(t *testing.T) {
		f := use(t, bare)
		c := f.client(t)
		c.Path = "/engine.io"
		want(t, "status", c.Get().Status, http.StatusNotFound)
		c.Path = "/other/"
		want(t, "status", c.Get().Status, http.StatusNotFound)
	})
	t.Run("addTrailingSlash false", func(t *testing.T) {
		f := use(t, options{Mode: "engine", AddTrailingSlash: new(false)})
		c := f.client(t)
		c.Handshake()
		wantAlive(t, c)
		w := f.ws(t)
		wantAliveWS(t, w)
	})
	t.Run("another path, its own trailing slash is stripped first", func(t *testing.T) {
		f := use(t, options{Mode: "engine", Path: "/custom/deep/"})
		c := f.client(t)
		c.Path = "/custom/deep/"
		c.Handshake()
		wantAlive(t, c)
		c.Path = "/custom/deep"
		want(t, "status", c.Get().Status, http.StatusNotFound)
		c.Path = "/engine.io/"
		want(t, "status", c.Get().Status, http.StatusNotFound)
	})
	t.Run("Socket.IO's own default", func(t *testing.T) {
		f := use(t, options{})
		c := f.polling(t)
		c.Send("40")
		want(t, "connect", strings.HasPrefix(c.Poll()[0], `40{"sid":"`), true)
		c = f.client(t)
		c.Path = "/engine.io/"
		want(t, "status", c.Get().Status, http.StatusNotFound)
	})
	t.Run("an upgrade elsewhere", func(t *testing.T) {
		f := use(t, bare)
		c := dialRaw(t, f)
		c.request(t, http.MethodGet, f.URL+"/other/?EIO=4&transport=websocket", upgradeHeaders, "")
		if differs(t, "unmatched-upgrade") {
			res, _ := c.response(t)
			want(t, "status", res.StatusCode, http.StatusNotFound)
			return
		}
		want(t, "bytes before the end", c.rest(t), "")
	})
}

// A gateway adds the tag of its node to the sid.
var sidPattern = regexp.MustCompile(`^[A-Za-z0-9_-]{20}(\.[a-z0-9-]{1,63})?$`)

func TestEngine_1_5_SessionID(t *testing.T) {
	f := use(t, bare)
	seen := map[string]bool{}
	for range 20 {
		sid := f.polling(t).SID
		if !sidPattern.MatchString(sid) {
			t.Errorf("sid %q", sid)
		}
		if seen[sid] {
			t.Errorf("sid %q came twice", sid)
		}
		seen[sid] = true
	}
}

func TestEngine_1_5_SocketAndPrivateIDs(t *testing.T) {
	f := use(t, recovering)
	w, c := f.joined(t)
	id := regexp.MustCompile(`^[A-Za-z0-9_-]{20}$`)
	want(t, "socket id", id.MatchString(c.SID), true)
	want(t, "private id", id.MatchString(c.PID), true)
	if c.SID == w.SID || c.PID == c.SID {
		t.Errorf("ids are not distinct: session %s, socket %s, private %s", w.SID, c.SID, c.PID)
	}
}

const (
	unknownTransport = `{"code":0,"message":"Transport unknown"}`
	unknownSID       = `{"code":1,"message":"Session ID unknown"}`
	badMethod        = `{"code":2,"message":"Bad handshake method"}`
	badRequest       = `{"code":3,"message":"Bad request"}`
	forbidden        = `{"code":4,"message":"Forbidden"}`
	unsupported      = `{"code":5,"message":"Unsupported protocol version"}`
)

func TestEngine_1_6_Errors(t *testing.T) {
	f := use(t, bare)
	live := f.polling(t)
	q := func(pairs ...string) string {
		u := "/engine.io/?"
		for i := 0; i < len(pairs); i += 2 {
			u += pairs[i] + "=" + url.QueryEscape(pairs[i+1]) + "&"
		}
		return f.URL + u
	}
	for _, tc := range []struct {
		name, method, url, body string
	}{
		{"no transport", "GET", q("EIO", "4"), unknownTransport},
		{"unknown transport", "GET", q("EIO", "4", "transport", "carrier-pigeon"), unknownTransport},
		{"webtransport over HTTP", "GET", q("EIO", "4", "transport", "webtransport"), unknownTransport},
		{"name of a method of the transport table", "GET", q("EIO", "4", "transport", "constructor"), unknownTransport},
		{"unknown sid", "GET", q("EIO", "4", "transport", "polling", "sid", "nobody"), unknownSID},
		{"unknown sid of a POST", "POST", q("EIO", "4", "transport", "polling", "sid", "nobody"), unknownSID},
		{"sid of the prototype", "GET", q("EIO", "4", "transport", "polling", "sid", "__proto__"), unknownSID},
		{"POST handshake", "POST", q("EIO", "4", "transport", "polling"), badMethod},
		{"PUT handshake", "PUT", q("EIO", "4", "transport", "polling"), badMethod},
		{"OPTIONS handshake without CORS", "OPTIONS", q("EIO", "4", "transport", "polling"), badMethod},
		{"websocket without upgrade", "GET", q("EIO", "4", "transport", "websocket"), badRequest},
		{"transport of the session differs", "GET", q("EIO", "4", "transport", "websocket", "sid", live.SID), badRequest},
		{"version of the session differs", "GET", q("EIO", "3", "transport", "polling", "sid", live.SID), badRequest},
		{"version unsupported", "GET", q("EIO", "3", "transport", "polling"), unsupported},
		{"transport goes before sid", "GET", q("EIO", "3", "transport", "bogus", "sid", "nobody"), unknownTransport},
		{"sid goes before version", "GET", q("EIO", "3", "transport", "polling", "sid", "nobody"), unknownSID},
		{"method goes before upgrade", "POST", q("EIO", "4", "transport", "websocket"), badMethod},
		{"method goes before version", "POST", q("EIO", "3", "transport", "polling"), badMethod},
		{"upgrade goes before version", "GET", q("EIO", "3", "transport", "websocket"), badRequest},
	} {
		t.Run(tc.name, func(t *testing.T) {
			wantRefused(t, live.Do(tc.method, tc.url, nil, nil), 400, tc.body)
		})
	}
	t.Run("HEAD handshake", func(t *testing.T) {
		r := live.Do(http.MethodHead, q("EIO", "4", "transport", "polling"), nil, nil)
		want(t, "status", r.Status, 400)
	})
	t.Run("control character in Origin", func(t *testing.T) {
		c := dialRaw(t, f)
		c.request(t, http.MethodGet, q("EIO", "4", "transport", "polling"), []string{"Origin: a\x7fb"}, "")
		res, _ := c.response(t)
		want(t, "status", res.StatusCode, 400)
	})
	t.Run("the session is not harmed", func(t *testing.T) { wantAlive(t, live) })
}

func TestEngine_1_6_ConnectionErrorEvent(t *testing.T) {
	f := fresh(t, options{Mode: "engine", FailingIDs: true})
	c := f.polling(t)
	c.Do(http.MethodGet, c.URL("bogus"), nil, nil)
	c.Do(http.MethodGet, c.URL("polling", "sid", "nobody"), nil, nil)
	c.Do(http.MethodPost, c.URL("polling", "sid", ""), nil, nil)
	c.Do(http.MethodGet, c.URL("websocket"), nil, nil)
	c.Do(http.MethodGet, c.URL("polling", "EIO", "3"), nil, nil)
	c.Do(http.MethodGet, c.URL("websocket", "sid", ""), nil, nil)
	c.Do(http.MethodGet, c.URL("polling", "sid", "", "EIO", "3"), nil, nil)
	c.Do(http.MethodGet, c.URL("polling", "sid", ""), http.Header{"X-No-Id": {"1"}}, nil)
	var got []string
	for _, e := range f.state(t).Errors {
		got = append(got, fmt.Sprint(e.Code, " ", e.Message, " ", e.Context))
	}
	wantSlice(t, "errors", got, []string{
		"0 Transport unknown ", "1 Session ID unknown ", "2 Bad handshake method ",
		"3 Bad request TRANSPORT_MISMATCH", "3 Bad request PROTOCOL_MISMATCH",
		"3 Bad request TRANSPORT_HANDSHAKE_ERROR", "5 Unsupported protocol version ",
		"3 Bad request ID_GENERATION_ERROR",
	})
}

func TestEngine_1_6_IDGenerationFails(t *testing.T) {
	f := use(t, options{Mode: "engine", FailingIDs: true})
	h := http.Header{"X-No-Id": {"1"}}
	t.Run("polling", func(t *testing.T) {
		c := f.client(t)
		wantRefused(t, c.Do(http.MethodGet, c.URL("polling"), h, nil), 400, badRequest)
	})
	t.Run("websocket", func(t *testing.T) {
		wantUpgradeRefused(t, f, "/engine.io/?EIO=4&transport=websocket", []string{"x-no-id: 1"},
			"Bad request", differs(t, "id-generation-before-101"))
	})
}

// wantUpgradeRefused checks the bytes of a refusal. before101 tells whether it is an HTTP response; else
// it is written into the WebSocket.
func wantUpgradeRefused(t *testing.T, f *fixture, target string, headers []string, message string, before101 bool) {
	t.Helper()
	c := dialRaw(t, f)
	c.request(t, http.MethodGet, f.URL+target, slices.Concat(upgradeHeaders, headers), "")
	if !before101 {
		res, _ := c.response(t)
		want(t, "status", res.StatusCode, http.StatusSwitchingProtocols)
	}
	res, body := c.response(t)
	want(t, "status", res.Status, "400 Bad Request")
	want(t, "body", body, message)
	want(t, "close", res.Close, true)
	want(t, "Content-Type", res.Header.Get("Content-Type"), "text/html")
	want(t, "Content-Length", res.Header.Get("Content-Length"), strconv.Itoa(len(message)))
	want(t, "bytes after the response", c.rest(t), "")
}

func TestEngine_1_6_ErrorsOnUpgrade(t *testing.T) {
	f := use(t, bare)
	t.Run("transport", func(t *testing.T) {
		wantUpgradeRefused(t, f, "/engine.io/?EIO=4&transport=bogus", nil, "Transport unknown", true)
	})
	t.Run("sid", func(t *testing.T) {
		wantUpgradeRefused(t, f, "/engine.io/?EIO=4&transport=websocket&sid=nobody", nil, "Session ID unknown", true)
	})
	t.Run("version of the session", func(t *testing.T) {
		c := f.polling(t)
		wantUpgradeRefused(t, f, "/engine.io/?EIO=3&transport=websocket&sid="+c.SID, nil, "Bad request", true)
		wantAlive(t, c)
	})
	t.Run("version", func(t *testing.T) {
		wantUpgradeRefused(t, f, "/engine.io/?EIO=3&transport=websocket", nil, "Unsupported protocol version",
			differs(t, "protocol-version-before-101"))
	})
	t.Run("transport=polling", func(t *testing.T) {
		if differs(t, "upgrade-with-polling-transport") {
			wantUpgradeRefused(t, f, "/engine.io/?EIO=4&transport=polling", nil, "Bad request", true)
		} else {
			c := dialRaw(t, f)
			c.request(t, http.MethodGet, f.URL+"/engine.io/?EIO=4&transport=polling", upgradeHeaders, "")
			res, _ := c.response(t)
			want(t, "status", res.StatusCode, http.StatusSwitchingProtocols)
			head, _ := c.frame(t)
			want(t, "close frame", head, 0x88)
		}
	})
}

func TestEngine_1_6_RefusedRequestsMakeNoSession(t *testing.T) {
	f := fresh(t, options{Mode: "engine", AllowRequest: true})
	c := f.client(t)
	for _, u := range []string{"EIO=4&transport=polling", "EIO=3&transport=websocket", "EIO=4&transport=bogus"} {
		raw := dialRaw(t, f)
		raw.request(t, http.MethodGet, f.URL+"/engine.io/?"+u, upgradeHeaders, "")
		raw.response(t)
	}
	c.Do(http.MethodGet, c.URL("polling", "EIO", "3"), nil, nil)
	c.Do(http.MethodGet, c.URL("polling"), http.Header{"X-Refuse": {"no"}}, nil)
	want(t, "sessions", len(f.state(t).Sessions), 0)
}

func TestEngine_1_6_AllowRequest(t *testing.T) {
	f := fresh(t, options{Mode: "engine", AllowRequest: true})
	c := f.client(t)
	t.Run("refused with a message", func(t *testing.T) {
		wantRefused(t, c.Do(http.MethodGet, c.URL("polling"), http.Header{"X-Refuse": {"go away"}}, nil), 403,
			`{"code":4,"message":"go away"}`)
	})
	t.Run("refused without one", func(t *testing.T) {
		wantRefused(t, c.Do(http.MethodGet, c.URL("polling"), http.Header{"X-Refuse": {""}}, nil), 403, forbidden)
	})
	t.Run("refused WebSocket is 400 with text", func(t *testing.T) {
		wantUpgradeRefused(t, f, "/engine.io/?EIO=4&transport=websocket", []string{"x-refuse: go away"}, "go away", true)
		wantUpgradeRefused(t, f, "/engine.io/?EIO=4&transport=websocket", []string{"x-refuse: "}, "Forbidden", true)
	})
	t.Run("not asked before the earlier checks, nor with a sid", func(t *testing.T) {
		before := f.state(t).Asked
		c.Do(http.MethodGet, c.URL("bogus"), nil, nil)
		c.Do(http.MethodPost, c.URL("polling"), nil, nil)
		c.Do(http.MethodGet, c.URL("websocket"), nil, nil)
		want(t, "asked", f.state(t).Asked, before)
		live := f.polling(t)
		want(t, "asked by a handshake", f.state(t).Asked, before+1)
		live.Header.Set("X-Refuse", "no")
		wantAlive(t, live)
		w, _ := live.Upgrade()
		wantAliveWS(t, w)
		want(t, "asked by the requests of a session", f.state(t).Asked, before+1)
	})
	t.Run("asked before the version is looked at", func(t *testing.T) {
		wantRefused(t, c.Do(http.MethodGet, c.URL("polling", "EIO", "3"), http.Header{"X-Refuse": {""}}, nil), 403, forbidden)
	})
}

func TestEngine_1_6_OpenPacket(t *testing.T) {
	t.Run("polling", func(t *testing.T) {
		f := use(t, bare)
		c := f.client(t)
		r := c.Get()
		pattern := `^0\{"sid":"[^"]+","upgrades":\["websocket"\],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000\}$`
		if !regexp.MustCompile(pattern).MatchString(r.Body) {
			t.Errorf("open packet %s", r.Body)
		}
		want(t, "status", r.Status, 200)
		want(t, "Content-Type", r.Header.Get("Content-Type"), "text/plain; charset=UTF-8")
		want(t, "Content-Length", r.Length, int64(len(r.Body)))
		want(t, "Cache-Control", r.Header.Get("Cache-Control"), "no-store")
		want(t, "Set-Cookie", r.Header.Get("Set-Cookie"), "")
		want(t, "Access-Control-Allow-Origin", r.Header.Get("Access-Control-Allow-Origin"), "")
	})
	t.Run("websocket offers no upgrade", func(t *testing.T) {
		f := use(t, bare)
		got := f.client(t).Dial().Text()
		pattern := `^0\{"sid":"[^"]+","upgrades":\[\],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000\}$`
		if !regexp.MustCompile(pattern).MatchString(got) {
			t.Errorf("open packet %s", got)
		}
	})
	t.Run("options show", func(t *testing.T) {
		f := use(t, options{Mode: "engine", PingInterval: 12345, PingTimeout: 2345, MaxHTTPBufferSize: 4321, AllowUpgrades: new(false)})
		o := f.client(t).Handshake()
		want(t, "open", fmt.Sprint(o.Upgrades, o.PingInterval, o.PingTimeout, o.MaxPayload), "[] 12345 2345 4321")
		c := f.client(t)
		want(t, "empty list, not null", strings.Contains(c.Get().Body, `"upgrades":[],`), true)
	})
	t.Run("only polling", func(t *testing.T) {
		f := use(t, options{Mode: "engine", Transports: []string{"polling"}})
		c := f.client(t)
		o := c.Handshake()
		for _, sid := range []string{"", o.SID} {
			// The form of the refusal is not compared: the official server does not listen for upgrades
			// then, and answers as to any request.
			_, r, err := c.TryDial(&websocket.DialOptions{}, "sid", sid)
			want(t, "refused", err != nil && r.Status == http.StatusBadRequest, true)
			want(t, "message", strings.Contains(r.Body, "Transport unknown"), true)
		}
		wantAlive(t, c)
		wantSlice(t, "upgrades", o.Upgrades, []string{})
	})
	t.Run("only websocket", func(t *testing.T) {
		f := use(t, options{Mode: "engine", Transports: []string{"websocket"}})
		wantRefused(t, f.client(t).Get(), 400, unknownTransport)
		wantAliveWS(t, f.ws(t))
	})
}

func TestEngine_1_6_InitialPacket(t *testing.T) {
	f := use(t, options{Mode: "engine", InitialPacket: "hi"})
	t.Run("polling: in the response to the handshake, behind the open packet", func(t *testing.T) {
		got := f.client(t).Poll()
		want(t, "packets", len(got), 2)
		want(t, "open packet", strings.HasPrefix(got[0], `0{"sid":`), true)
		want(t, "initial packet", got[1], "4hi")
	})
	t.Run("websocket", func(t *testing.T) { f.ws(t).Expect("4hi") })
}

func TestEngine_1_6_Cookie(t *testing.T) {
	get := func(t *testing.T, o *cookie) (siotest.Response, *fixture) {
		t.Helper()
		f := use(t, options{Mode: "engine", Cookie: o})
		return f.client(t).Get(), f
	}
	sidOf := regexp.MustCompile(`"sid":"([^"]+)"`)
	t.Run("defaults", func(t *testing.T) {
		r, _ := get(t, &cookie{})
		want(t, "Set-Cookie", r.Header.Get("Set-Cookie"), "io="+sidOf.FindStringSubmatch(r.Body)[1]+"; Path=/; HttpOnly; SameSite=Lax")
	})
	t.Run("attributes", func(t *testing.T) {
		r, _ := get(t, &cookie{Name: "foo", MaxAge: 86400, Secure: true})
		got := strings.Split(r.Header.Get("Set-Cookie"), "; ")
		want(t, "cookie", got[0], "foo="+sidOf.FindStringSubmatch(r.Body)[1])
		attributes := slices.Sorted(slices.Values(got[1:])) // their order has no meaning
		wantSlice(t, "attributes", attributes, []string{"HttpOnly", "Max-Age=86400", "Path=/", "SameSite=Lax", "Secure"})
	})
	t.Run("only with the handshake", func(t *testing.T) {
		_, f := get(t, &cookie{})
		c := f.polling(t)
		c.Send("4x")
		want(t, "Set-Cookie of a poll", c.Get().Header.Get("Set-Cookie"), "")
	})
	t.Run("websocket", func(t *testing.T) {
		_, f := get(t, &cookie{})
		got := f.client(t).Dial().Response.Header.Get("Set-Cookie")
		if differs(t, "cookie-on-websocket") {
			want(t, "a cookie", strings.HasPrefix(got, "io="), true)
			return
		}
		want(t, "Set-Cookie", got, "")
	})
}

func TestEngine_1_3_HeaderHooks(t *testing.T) {
	f := use(t, options{Mode: "engine", HeaderHooks: true})
	headers := func(h http.Header) string { return h.Get("X-Initial") + "," + h.Get("X-Every") }
	c := f.client(t)
	r := c.Get()
	want(t, "handshake", headers(r.Header), "1,1")
	c = f.polling(t)
	want(t, "post", headers(c.Post("4x").Header), ",1")
	want(t, "poll", headers(c.Get().Header), ",1")
	want(t, "upgrade of the session", headers(c.Dial().Response.Header), ",1")
	want(t, "websocket", headers(f.client(t).Dial().Response.Header), "1,1")
}

func TestEngine_1_8_CORS(t *testing.T) {
	origin := http.Header{"Origin": {"http://a.example"}}
	preflight := http.Header{
		"Origin": {"http://a.example"}, "Access-Control-Request-Method": {"POST"},
		"Access-Control-Request-Headers": {"content-type"},
	}
	t.Run("off: no headers, and OPTIONS is a bad method", func(t *testing.T) {
		f := use(t, bare)
		c := f.client(t)
		r := c.Do(http.MethodGet, c.URL("polling"), origin, nil)
		want(t, "status", r.Status, 200)
		want(t, "Access-Control-Allow-Origin", r.Header.Get("Access-Control-Allow-Origin"), "")
		wantRefused(t, c.Do(http.MethodOptions, c.URL("polling"), preflight, nil), 400, badMethod)
		live := f.polling(t)
		want(t, "OPTIONS with sid", c.Do(http.MethodOptions, live.URL("polling"), preflight, nil).Status, 500)
		wantAlive(t, live)
	})
	t.Run("preflight", func(t *testing.T) {
		f := use(t, options{Mode: "engine", CORS: &cors{Origin: []string{"http://a.example"}, Credentials: true}})
		c := f.client(t)
		for _, sid := range []string{"", "nobody"} {
			r := c.Do(http.MethodOptions, c.URL("polling", "sid", sid), preflight, nil)
			want(t, "status", r.Status, http.StatusNoContent)
			want(t, "origin", r.Header.Get("Access-Control-Allow-Origin"), "http://a.example")
			want(t, "credentials", r.Header.Get("Access-Control-Allow-Credentials"), "true")
			want(t, "headers", r.Header.Get("Access-Control-Allow-Headers"), "content-type")
			methods := "GET,HEAD,PUT,PATCH,POST,DELETE"
			if differs(t, "cors-middleware") {
				methods = "POST"
			}
			want(t, "methods", r.Header.Get("Access-Control-Allow-Methods"), methods)
			want(t, "Vary", strings.Contains(strings.Join(r.Header.Values("Vary"), ","), "Origin"), true)
		}
	})
	t.Run("every response carries the headers, errors and upgrades too", func(t *testing.T) {
		f := use(t, options{Mode: "engine", CORS: &cors{Origin: []string{"http://a.example"}, Credentials: true}})
		c := f.client(t)
		c.Header = origin
		c.Handshake()
		for what, h := range map[string]http.Header{
			"post": c.Post("4x").Header, "poll": c.Get().Header,
			"error":   c.Do(http.MethodGet, c.URL("polling", "sid", "nobody"), nil, nil).Header,
			"upgrade": c.DialOptions(&websocket.DialOptions{HTTPHeader: origin.Clone()}).Response.Header,
		} {
			want(t, what, h.Get("Access-Control-Allow-Origin"), "http://a.example")
		}
	})
	t.Run("another origin", func(t *testing.T) {
		f := use(t, options{Mode: "engine", CORS: &cors{Origin: []string{"http://a.example"}, Credentials: true}})
		c := f.client(t)
		r := c.Do(http.MethodGet, c.URL("polling"), http.Header{"Origin": {"http://b.example"}}, nil)
		want(t, "status", r.Status, 200)
		want(t, "origin", r.Header.Get("Access-Control-Allow-Origin"), "")
		c.Header.Set("Origin", "http://b.example")
		wantAliveWS(t, c.Open()) // CORS says nothing about WebSocket
	})
	t.Run("any origin", func(t *testing.T) {
		f := use(t, options{Mode: "engine", CORS: &cors{Origin: "*"}})
		c := f.client(t)
		want(t, "origin", c.Do(http.MethodGet, c.URL("polling"), origin, nil).Header.Get("Access-Control-Allow-Origin"), "*")
	})
}
