package eio_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-0b620db0/patchbay/pkg/eio"
)

// FuzzHTTP gives the server two connections with any bytes in each. Sessions that they open are called s1, s2 and so on.
func FuzzHTTP(f *testing.F) {
	const (
		open    = "GET /engine.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: memory\r\n\r\n"
		poll    = "GET /engine.io/?EIO=4&transport=polling&sid=s1 HTTP/1.1\r\nHost: memory\r\n\r\n"
		post    = "POST /engine.io/?EIO=4&transport=polling&sid=s1 HTTP/1.1\r\nHost: memory\r\n"
		upgrade = "Host: memory\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
		ws      = "GET /engine.io/?EIO=4&transport=websocket HTTP/1.1\r\n" + upgrade
		probe   = "GET /engine.io/?EIO=4&transport=websocket&sid=s1 HTTP/1.1\r\n" + upgrade
	)
	hello := post + "Content-Length: 6\r\n\r\n4hello"
	for _, seed := range []struct{ first, second string }{
		{open + hello + poll + hello + poll, ""},               // in one go
		{open + poll, strings.Repeat(hello, 3) + poll},         // the second poll closes the session
		{open + post + "Content-Length: 99\r\n\r\n4a", hello},  // so does the second post
		{open + post + "Content-Length: 99\r\n\r\n4a", "\x00"}, // broken off
		{open + post + "Transfer-Encoding: chunked\r\n\r\n2\r\n4a\r\n0\r\n\r\n" + poll, ""},
		{open + post + "Transfer-Encoding: chunked\r\n\r\nff\r\n4a", ""},
		{open + post + "Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n4a\r\n", ""},
		{open + post + "Transfer-Encoding: chunked\r\n\r\n7f\r\n4" + strings.Repeat("x", 126) + "\r\n0\r\n\r\n", ""}, // too large
		{open + post + "Expect: 100-continue\r\nContent-Length: 2\r\n\r\n4a", "9" + poll},
		{open + post + "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n4a", ""},
		{open + post + "Content-Length: 2\r\nContent-Length: 3\r\n\r\n4a", ""},
		{open + post + "Content-Length: -1\r\n\r\n", post + "Content-Length: 999999999999\r\n\r\n4"},
		{open + post + "Content-Type: application/octet-stream\r\nContent-Length: 3\r\n\r\n\x00\x01\xff", ""},
		{open + post + "Content-Length: 8\r\n\r\n4a\x1e4b\x1e1\x1e", poll},
		{"POST /engine.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: memory\r\nContent-Length: 0\r\n\r\n", "BREW /engine.io/ HTTP/1.1\r\nHost: memory\r\n\r\n"},
		{open + "DELETE /engine.io/?EIO=4&transport=polling&sid=s1 HTTP/1.1\r\nHost: memory\r\n\r\n", "OPTIONS * HTTP/1.1\r\nHost: memory\r\n\r\n"},
		{"GET /engine.io/?EIO=4&transport=polling&sid=" + strings.Repeat("A", 5000) + " HTTP/1.1\r\nHost: memory\r\n\r\n", ""},
		{"GET /engine.io/?EIO=3&EIO=4&transport=x&transport=polling&sid=&sid=%00&sid HTTP/1.1\r\nHost: memory\r\n\r\n", ""},
		{"GET /engine.io/?EIO=4&transport=%zz&transport=polling;EIO=4 HTTP/1.1\r\nHost: memory\r\n\r\n", "GET /engine.io HTTP/1.0\r\n\r\n"},
		{
			"GET /engine.io/?EIO=4&transport=polling&j=1%0a2 HTTP/1.1\r\nHost: memory\r\n\r\n" +
				post + "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 12\r\n\r\nd=4%5C%5Cn%0" + poll, "",
		},
		{ws + "\x81\x82\x00\x00\x00\x004a\x88\x80\x00\x00\x00\x00", ws + "\xc1\xff\xff"}, // frames right behind the request
		{open, probe + "\x81\x86\x00\x00\x00\x002probe\x81\x81\x00\x00\x00\x005\x81\x82\x00\x00\x00\x004a"},
		{open + poll, probe + "\x81\x86\x00\x00\x00\x002probe\x81\x81\x00\x00\x00\x009"},
		{open + probe, probe},
		{open, "GET /engine.io/?EIO=4&transport=websocket&sid=s1 HTTP/1.1\r\nHost: memory\r\nUpgrade: websocket\r\n\r\n" + poll},
		{"GET /engine.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: memory\r\nConnection: close, ,upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Version: 8\r\nSec-WebSocket-Key: ?\r\n\r\n", ""},
		{"POST /engine.io/?EIO=4&transport=websocket HTTP/1.0\r\nConnection: upgrade\r\nUpgrade: websocket, h2c\r\nUpgrade: \r\n\r\n", ""},
		{strings.Replace(ws, "\r\n\r\n", "\r\nSec-WebSocket-Protocol: ,a, b\r\nSec-WebSocket-Extensions: permessage-deflate; client_max_window_bits=99\r\n\r\n", 1), ""},
		{"GET /engine.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: memory\r\nOrigin: \x7f\r\n\r\n", "GET http://[/ HTTP/1.1\r\n\r\n"},
		{"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "\x16\x03\x01\x02\x00\x01"},
	} {
		f.Add([]byte(seed.first), []byte(seed.second), true)
		f.Add([]byte(seed.first), []byte(seed.second), false)
	}
	f.Fuzz(func(t *testing.T, first, second []byte, patient bool) {
		if len(first)+len(second) > 8<<10 {
			return
		}
		fuzzLab(t, func(l *lab) {
			a, b := l.connect(t), l.connect(t)
			a.write(first)
			synctest.Wait()
			b.write(second)
			fuzzEnd(patient, a, b)
		})
	})
}

// FuzzHTTPSession makes a request of any kind to a session in any state, perhaps twice at once. In the query and the headers
// SID stands for the session's id.
func FuzzHTTPSession(f *testing.F) {
	const (
		upgrade = "Connection: Upgrade\nUpgrade: websocket\nSec-WebSocket-Version: 13\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="
		query   = "EIO=4&transport=polling&sid=SID"
		wsQuery = "EIO=4&transport=websocket&sid=SID"
	)
	for _, seed := range []struct{ method, path, query, headers, body string }{
		{"GET", "", query, "Accept-Encoding: gzip;q=0, deflate", ""},
		{"GET", "x/../", query + "&j=7", "User-Agent: ;MSIE", "a body"},
		{"POST", "", query, "Content-Type: text/plain", "4a\x1ebAQID\x1e2probe"},
		{"POST", "", query + "&sid=SID", "", "3\x1e1"},
		{"POST", "", query, "", "d=4a%5Cnb"},
		{"POST", "", query, "Content-Length: 999", "4"},
		{"POST", "", query, "Transfer-Encoding: chunked", "2\r\n4a\r\n1"},
		{"POST", "", query, "Transfer-Encoding: gzip, chunked", ""},
		{"POST", "", query + "&EIO=3", "Expect: 100-continue", strings.Repeat("4x\x1e", 70)},
		{"PUT", "", query, "", "4a"},
		{"HEAD", "", query, "Connection: close", ""},
		{"GET", "", "sid=SID" + strings.Repeat("&sid=SID", 99), "", ""},
		{"GET", "", "EIO=4&transport=webtransport&sid=SID", "Cookie: io=SID", ""},
		{"GET", "", wsQuery, upgrade, ""},
		{"GET", "", wsQuery, upgrade, "\x81\x86\x00\x00\x00\x002probe\x81\x81\x00\x00\x00\x005"},
		{"GET", "", wsQuery + "&b64=1", upgrade + "\nSec-WebSocket-Extensions: permessage-deflate", "\x81\x80"},
		{"POST", "", wsQuery, "Upgrade: websocket", "4a"},
		{"GET", "", query, "Upgrade: websocket", ""},
	} {
		for state := range fuzzStates {
			for _, twice := range []bool{false, true} {
				f.Add(seed.method, seed.path, seed.query, seed.headers, []byte(seed.body), state, twice, state%2 == 1)
			}
		}
	}
	f.Fuzz(func(t *testing.T, method, path, query, headers string, body []byte, state byte, twice, patient bool) {
		if len(path)+len(query)+len(headers)+len(body) > 8<<10 || strings.ContainsAny(method, " \r\n") {
			return
		}
		fuzzLab(t, func(l *lab) {
			p := fuzzSession(l, state)
			fill := strings.NewReplacer("SID", p.sid, "\r", "", "\n", "\r\n")
			var request bytes.Buffer
			fmt.Fprintf(&request, "%s %s%s?%s HTTP/1.1\r\nHost: memory\r\n", method, enginePath, target(path), target(fill.Replace(query)))
			if headers != "" {
				fmt.Fprintf(&request, "%s\r\n", fill.Replace(headers))
			}
			if !strings.Contains(headers, "Content-Length") && !strings.Contains(headers, "Transfer-Encoding") {
				fmt.Fprintf(&request, "Content-Length: %d\r\n", len(body))
			}
			fmt.Fprintf(&request, "\r\n%s", body)
			conns := []*fuzzConn{l.connect(t)}
			if twice {
				conns = append(conns, l.connect(t))
			}
			for _, c := range conns {
				c.write(request.Bytes())
			}
			fuzzEnd(patient, conns...)
		})
	})
}

// target escapes what would end a request target.
func target(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c == 0x7f {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

const fuzzStates = byte(8)

// fuzzSession returns a session in one of its states.
func fuzzSession(l *lab, state byte) *poller {
	if state%fuzzStates == 1 {
		l.request("GET", pollQuery+"&j=1", nil, nil)
		return &poller{l: l, sid: l.last().s.ID(), peer: l.last()}
	}
	p := l.poller()
	switch state % fuzzStates {
	case 2:
		_ = p.peer.s.Send(text(strings.Repeat("x", 2000)))
	case 3:
		p.pollLater()
	case 4:
		p.rawPost(99, "4a")
	case 5:
		p.probe().send("2probe")
	case 6:
		p.upgrade()
		synctest.Wait()
	case 7:
		p.peer.s.Close()
	}
	return p
}

// fuzzLab runs f with a server that echoes, and checks that no handler panics, that a session from before f lives, that a new
// one can be opened, and, as each lab does, that all come to an end and leave nothing behind.
func fuzzLab(t *testing.T, f func(*lab)) {
	t.Helper()
	var sessions atomic.Int64
	opts := &eio.Options{
		PingInterval: time.Hour, BodyTimeout: 5 * time.Second, UpgradeTimeout: 5 * time.Second, WriteTimeout: 5 * time.Second,
		MaxHTTPBufferSize: 100, MaxPayloadPackets: 20, MaxQueueBytes: 4000, HTTPCompressionThreshold: 1,
		PerMessageDeflate: &eio.PerMessageDeflate{},
		Cookie:            &http.Cookie{},
		GenerateID: func(*http.Request) (string, error) {
			if n := sessions.Add(1) - 1; n > 0 {
				return fmt.Sprint("s", n), nil
			}
			return "the-session-from-before", nil // which no input may meet by chance
		},
	}
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, opts, 0, func(srv *http.Server) {
			srv.ErrorLog = slog.NewLogLogger(panicLog{slog.DiscardHandler, t}, slog.LevelError)
		})
		l.accept = func(p *peer) { p.onMessage = func(m string) { _ = p.s.Send(text(m)) } }
		good := l.poller()
		f(l)
		for _, p := range []*poller{good, l.poller()} {
			p.wantPost(t, "4hello")
			p.wantPoll(t, "4hello")
		}
	})
}

// panicLog is the log of an http.Server, in which a panic is a failure. net/http leaves out http.ErrAbortHandler.
type panicLog struct {
	slog.Handler
	t *testing.T
}

func (panicLog) Enabled(context.Context, slog.Level) bool { return true }

func (p panicLog) Handle(_ context.Context, r slog.Record) error {
	if strings.Contains(r.Message, "panic") {
		p.t.Errorf("net/http: %s", r.Message)
	}
	return nil
}

// fuzzConn is a connection whose answers are read as they come.
type fuzzConn struct {
	net.Conn
	t    *testing.T
	read chan struct{} // closed when nothing more will come
}

func (l *lab) connect(t *testing.T) *fuzzConn {
	t.Helper()
	conn, err := l.listener.Dial(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	c := &fuzzConn{conn, t, make(chan struct{})}
	go c.answers() // ends with the connection
	return c
}

// answers wants what comes to begin with a response.
func (c *fuzzConn) answers() {
	defer close(c.read)
	br := bufio.NewReader(c)
	if _, err := br.Peek(1); err != nil {
		return // an aborted request is not answered
	}
	if _, err := http.ReadResponse(br, nil); err != nil {
		c.t.Errorf("not a response: %v", err)
	}
	_, _ = io.Copy(io.Discard, br) // until it ends, in whatever way
}

func (c *fuzzConn) write(p []byte) {
	_, _ = c.Write(p) // the server may have hung up
}

// fuzzEnd closes connections when the server has done what it does with them; if patient, not before its time-outs.
func fuzzEnd(patient bool, conns ...*fuzzConn) {
	synctest.Wait()
	if patient {
		time.Sleep(time.Minute)
	}
	for _, c := range conns {
		c.Close()
		<-c.read
	}
	synctest.Wait()
}
