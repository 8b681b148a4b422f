package eio_test

import (
	"compress/gzip"
	"compress/zlib"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-0b620db0/patchbay/pkg/eio"
)

func TestPollingBothWays(t *testing.T) {
	bubble(t, nil, func(t *testing.T, l *lab) {
		p := l.poller()
		p.wantPost(t, "4a\x1e4\x1ebAQID\x1e4été")
		p.peer.wantMessages(t, "a", "", "bin:\x01\x02\x03", "été")
		_ = p.peer.s.Send(text("x"))
		_ = p.peer.s.Send(bin("\x01\x02"))
		_ = p.peer.s.Send(eio.NewMessage(eio.Frame{Data: []byte("h")}, eio.Frame{Data: []byte{9}, Binary: true}))
		r := p.poll()
		wantResponse(t, r, 200, "4x\x1ebAQI=\x1e4h\x1ebCQ==")
		if r.length != int64(len(r.body)) || r.header.Get("Content-Type") != "text/plain; charset=UTF-8" || r.header.Get("Cache-Control") != "no-store" {
			t.Errorf("headers: %v, length %d", r.header, r.length)
		}
		w := p.pollLater()
		_ = p.peer.s.Send(text("late"))
		wantResponse(t, w.wait(), 200, "4late")
	})
}

func TestPostIsAnsweredAfterItsPacketsWereProcessed(t *testing.T) {
	bubble(t, nil, func(t *testing.T, l *lab) {
		l.accept = func(p *peer) { p.onMessage = func(string) { time.Sleep(time.Second) } }
		p := l.poller()
		start := time.Now()
		r := p.post("4a\x1e4b")
		wantResponse(t, r, 200, "ok")
		if time.Since(start) != 2*time.Second || r.header.Get("Content-Type") != "text/html" || r.length != 2 {
			t.Errorf("after %v: %v", time.Since(start), r.header)
		}
	})
}

// A client may send its next POST the moment it has the answer to the last, over another connection or stream.
func TestPostRightAfterTheAnswer(t *testing.T) {
	bubble(t, nil, func(t *testing.T, l *lab) {
		l.wrap = func(h http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h.ServeHTTP(slowFlusher{w}, r) })
		}
		l.client.DisableKeepAlives = true
		p := l.poller()
		for range 3 {
			p.wantPost(t, "4a")
		}
		p.peer.wantOpen(t)
	})
}

// slowFlusher lets the client have the response a while before the server knows.
type slowFlusher struct{ http.ResponseWriter }

func (f slowFlusher) Unwrap() http.ResponseWriter { return f.ResponseWriter }

func (f slowFlusher) FlushError() error {
	defer time.Sleep(time.Second)
	return http.NewResponseController(f.ResponseWriter).Flush()
}

func TestOtherMethods(t *testing.T) {
	bubble(t, nil, func(t *testing.T, l *lab) {
		p := l.poller()
		for _, m := range []string{"HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"} {
			wantResponse(t, l.request(m, p.query(), nil, nil), 500, "")
		}
		p.wantPost(t, "4still here")
		p.peer.wantMessages(t, "still here")
	})
}

func TestSecondGet(t *testing.T) {
	bubble(t, nil, func(t *testing.T, l *lab) {
		p := l.poller()
		w := p.pollLater()
		wantResponse(t, p.poll(), 400, "")
		wantResponse(t, w.wait(), 200, "1")
		if err := p.peer.wantEnd(t, eio.ReasonTransportError); err == nil || err.Error() != "overlap from client" {
			t.Errorf("error: %v", err)
		}
	})
}

func TestSecondPost(t *testing.T) {
	t.Run("while the first comes in", func(t *testing.T) {
		bubble(t, nil, func(t *testing.T, l *lab) {
			p := l.poller()
			first := p.rawPost(10, "4first")
			wantResponse(t, p.post("4second"), 400, "")
			wantNoAnswer(t, first)
			p.peer.wantEnd(t, eio.ReasonTransportError)
			p.peer.wantMessages(t)
		})
	})
	t.Run("while the first is processed", func(t *testing.T) {
		bubble(t, nil, func(t *testing.T, l *lab) {
			l.accept = func(p *peer) { p.onMessage = func(string) { time.Sleep(time.Second) } }
			p := l.poller()
			first := p.postLater(bodyOf("4first\x1e4never"))
			wantResponse(t, p.post("4second"), 400, "")
			if r := first.wait(); r.err == nil {
				t.Errorf("the first POST was answered: %v", r)
			}
			if err := p.peer.wantEnd(t, eio.ReasonTransportError); err == nil || err.Error() != "data request overlap from client" {
				t.Errorf("error: %v", err)
			}
			p.peer.wantMessages(t, "first")
		})
	})
}

func TestAbortedRequests(t *testing.T) {
	t.Run("GET", func(t *testing.T) {
		bubble(t, nil, func(t *testing.T, l *lab) {
			p := l.poller()
			p.pollLater().abort()
			if err := p.peer.wantEnd(t, eio.ReasonTransportError); err == nil || err.Error() != "poll connection closed prematurely" {
				t.Errorf("error: %v", err)
			}
		})
	})
	t.Run("POST", func(t *testing.T) {
		bubble(t, nil, func(t *testing.T, l *lab) {
			p := l.poller()
			poll := p.pollLater()
			p.rawPost(10, "4half").Close()
			err := p.peer.wantEnd(t, eio.ReasonTransportError)
			if err == nil || !strings.HasPrefix(err.Error(), "data request connection closed prematurely") {
				t.Errorf("error: %v", err)
			}
			wantResponse(t, poll.wait(), 200, "1")
			p.peer.wantMessages(t)
		})
	})
}

func TestBodyTimeout(t *testing.T) {
	bubble(t, &eio.Options{BodyTimeout: 10 * time.Second}, func(t *testing.T, l *lab) {
		p := l.poller()
		start := time.Now()
		c := p.rawPost(100, "4")
		for range 9 { // a byte now and then does not help
			time.Sleep(time.Second)
			fmt.Fprint(c, "x")
		}
		p.peer.wantOpen(t)
		wantNoAnswer(t, c)
		if got := time.Since(start); got != 10*time.Second {
			t.Errorf("ended after %v", got)
		}
		p.peer.wantEnd(t, eio.ReasonTransportError)
	})
}

// The deadline of a body must not outlive it: the connection has other requests to come.
func TestBodyTimeoutEndsWithTheBody(t *testing.T) {
	bubble(t, &eio.Options{BodyTimeout: time.Second}, func(t *testing.T, l *lab) {
		p := l.poller()
		p.wantPost(t, "4a")
		w := p.pollLater() // over the same connection
		time.Sleep(10 * time.Second)
		_ = p.peer.s.Send(text("x"))
		wantResponse(t, w.wait(), 200, "4x")
	})
}

// Read and write time-outs of the http.Server are for ordinary pages; a poll takes as long as it takes.
func TestTimeoutsOfTheHTTPServerDoNotEndAPoll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, nil, 0, func(s *http.Server) { s.ReadTimeout, s.WriteTimeout = 5*time.Second, 5*time.Second })
		p := l.poller()
		w := p.pollLater()
		time.Sleep(20 * time.Second)
		p.peer.wantOpen(t)
		_ = p.peer.s.Send(text("x"))
		wantResponse(t, w.wait(), 200, "4x")
	})
}

func TestWriteTimeoutOfAPoll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, &eio.Options{WriteTimeout: 5 * time.Second, HTTPCompressionThreshold: -1}, 1024)
		p := l.poller()
		c, err := l.listener.Dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		fmt.Fprintf(c, "GET %s?%s HTTP/1.1\r\nHost: memory\r\n\r\n", enginePath, p.query())
		synctest.Wait()
		_ = p.peer.s.Send(text(strings.Repeat("x", 100_000))) // of which the client takes 1 KiB
		time.Sleep(5*time.Second - 1)
		p.peer.wantOpen(t)
		time.Sleep(time.Nanosecond)
		p.peer.wantEnd(t, eio.ReasonTransportError)
	})
}

// WriteTimeout is the time for each 256 KiB: a slow client may take as long as it needs for a large payload.
func TestWriteTimeoutLeavesASlowPollTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, &eio.Options{WriteTimeout: 5 * time.Second, HTTPCompressionThreshold: -1, PingTimeout: time.Hour}, 16<<10)
		p := l.poller()
		c, err := l.listener.Dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		fmt.Fprintf(c, "GET %s?%s HTTP/1.1\r\nHost: memory\r\n\r\n", enginePath, p.query())
		synctest.Wait()
		const size = 2 << 20
		_ = p.peer.s.Send(text(strings.Repeat("x", size)))
		n := 0
		for buf := make([]byte, 128<<10); n < size; { // 128 KiB a second
			m, err := io.ReadFull(c, buf[:min(len(buf), size-n)])
			if n += m; err != nil {
				t.Fatalf("after %d bytes: %v", n, err)
			}
			time.Sleep(time.Second)
		}
		p.peer.wantOpen(t)
	})
}

func TestTooLargeBody(t *testing.T) {
	bubble(t, &eio.Options{MaxHTTPBufferSize: 100}, func(t *testing.T, l *lab) {
		p := l.poller()
		if p.open.MaxPayload != 100 {
			t.Errorf("maxPayload: %d", p.open.MaxPayload)
		}
		wantResponse(t, p.post("4"+strings.Repeat("x", 100)), 413, "")
		// Without a length.
		wantResponse(t, l.request("POST", p.query(), nil, io.MultiReader(bodyOf("4"), bodyOf(strings.Repeat("x", 100)))), 413, "")
		p.wantPost(t, "4"+strings.Repeat("x", 99))
		p.peer.wantMessages(t, strings.Repeat("x", 99))
	})
}

func TestPostsThatEndTheSession(t *testing.T) {
	const octets = "application/octet-stream"
	for _, c := range []struct {
		name, contentType, body string
		status                  int
		answer                  string
		reason                  eio.CloseReason
		poll                    string // the answer of the poll that waits
		got                     []string
	}{
		{"empty", "", "", 200, "ok", eio.ReasonParseError, "1", nil},
		{"unknown type", "", "4a\x1e9\x1e4b", 200, "ok", eio.ReasonParseError, "1", []string{"a"}},
		{"empty packet", "", "4a\x1e\x1e4b", 200, "ok", eio.ReasonParseError, "1", []string{"a"}},
		{"bad base64", "", "4a\x1eb!", 200, "ok", eio.ReasonParseError, "1", []string{"a"}},
		{"invalid UTF-8", "", "4a\x1e4\xff", 200, "ok", eio.ReasonParseError, "1", nil},
		{"too many packets", "", "4a\x1e4b\x1e4c\x1e4d\x1e4e", 200, "ok", eio.ReasonParseError, "1", []string{"a", "b", "c", "d"}},
		{"close", "", "4a\x1e1\x1e4b", 200, "ok", eio.ReasonTransportClose, "6", []string{"a"}},
		{"ping", "", "4a\x1e2\x1e4b", 200, "ok", eio.ReasonTransportError, "1", []string{"a"}},
		{"probe", "", "2probe", 200, "ok", eio.ReasonTransportError, "1", nil},
		{"octet-stream", octets, "4a", 400, "", eio.ReasonTransportError, "1", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, &eio.Options{MaxPayloadPackets: 4}, func(t *testing.T, l *lab) {
				p := l.poller()
				if c.contentType != "" {
					p.header = http.Header{"Content-Type": {c.contentType}}
				}
				poll := p.pollLater()
				wantResponse(t, p.post(c.body), c.status, c.answer)
				wantResponse(t, poll.wait(), 200, c.poll)
				p.peer.wantEnd(t, c.reason)
				p.peer.wantMessages(t, c.got...)
				wantResponse(t, p.post("4x"), 400, `{"code":1,"message":"Session ID unknown"}`)
			})
		})
	}
}

func TestPacketsThatMeanNothing(t *testing.T) {
	bubble(t, &eio.Options{MaxPayloadPackets: 4}, func(t *testing.T, l *lab) {
		p := l.poller()
		p.wantPost(t, `0{"sid":"x"}`+"\x1e5\x1e6\x1e3")
		p.peer.wantOpen(t)
		p.wantPost(t, "4a")
		p.peer.wantMessages(t, "a")
	})
}

func TestCompressionNegotiation(t *testing.T) {
	for _, c := range []struct{ accept, want string }{
		{"", ""},
		{"gzip", "gzip"},
		{"deflate", "deflate"},
		{"gzip, deflate, br", "gzip"},
		{"br, deflate, gzip", "gzip"},
		{"GZIP", "gzip"},
		{"br", ""},
		{"identity", ""},
		{"gzip;q=0", ""},
		{"gzip;q=0.5, deflate", "deflate"},
		{"gzip; q=0.5, deflate; q=0.4", "gzip"},
		{"gzip;q=0, deflate;q=0", ""},
		{"gzip;q=x, deflate;q=0.1", "deflate"},
		{"gzip;q=NaN", ""},
	} {
		t.Run(c.accept, func(t *testing.T) {
			bubble(t, nil, func(t *testing.T, l *lab) {
				p := l.poller()
				p.header = http.Header{"Accept-Encoding": {c.accept}}
				want := "4" + strings.Repeat("x", 1023)
				_ = p.peer.s.Send(text(want[1:]))
				r := p.poll()
				if got := r.header.Get("Content-Encoding"); got != c.want {
					t.Errorf("got %q, want %q", got, c.want)
				}
				if got := decode(t, r); got != want {
					t.Errorf("body: %.80q", got)
				}
				if c.want != "" && len(r.body) > 200 {
					t.Errorf("%d bytes is not compressed", len(r.body))
				}
			})
		})
	}
}

func decode(t testing.TB, r response) string {
	t.Helper()
	var z io.Reader
	var err error
	switch r.header.Get("Content-Encoding") {
	case "gzip":
		z, err = gzip.NewReader(strings.NewReader(r.body))
	case "deflate":
		z, err = zlib.NewReader(strings.NewReader(r.body))
	default:
		return r.body
	}
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(z)
	if err != nil {
		t.Error(err)
	}
	return string(b)
}

func TestCompressionThreshold(t *testing.T) {
	long := strings.Repeat("x", 1023)
	for _, c := range []struct {
		name      string
		threshold int
		messages  []*eio.Message
		want      bool
	}{
		{"one byte short", 0, []*eio.Message{text(long[1:])}, false},
		{"never", -1, []*eio.Message{text(long)}, false},
		{"lower", 2, []*eio.Message{text("x")}, true},
		{"not wanted", 0, []*eio.Message{text(long).WithoutCompression()}, false},
		{"wanted by one", 0, []*eio.Message{text(long).WithoutCompression(), text("x")}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, &eio.Options{HTTPCompressionThreshold: c.threshold}, func(t *testing.T, l *lab) {
				p := l.poller()
				p.header = http.Header{"Accept-Encoding": {"gzip"}}
				for _, m := range c.messages {
					_ = p.peer.s.Send(m)
				}
				r := p.poll()
				if got := r.header.Get("Content-Encoding") == "gzip"; got != c.want {
					t.Errorf("compressed: %v", got)
				}
				if !strings.Contains(decode(t, r), "x") {
					t.Errorf("body: %v", r)
				}
			})
		})
	}
}

func TestJSONP(t *testing.T) {
	bubble(t, nil, func(t *testing.T, l *lab) {
		r := l.request("GET", pollQuery+"&j=0a7", nil, nil)
		call, ok := strings.CutPrefix(r.body, "___eio[07](")
		if !ok || !strings.HasSuffix(call, ");") || r.header.Get("Content-Type") != "text/plain; charset=UTF-8" {
			t.Fatalf("handshake: %v", r)
		}
		var packet string
		if err := json.Unmarshal([]byte(call[:len(call)-2]), &packet); err != nil {
			t.Fatal(err)
		}
		o, err := parseOpen(packet)
		if err != nil {
			t.Fatal(err)
		}
		p := &poller{l: l, sid: o.SID, peer: l.last()}
		_ = p.peer.s.Send(text("\"<\u2028\u2029\n"))
		// The index is that of the first request, whatever later ones say.
		wantResponse(t, l.request("GET", p.query()+"&j=8", nil, nil), 200, `___eio[07]("4\"<\u2028\u2029\n");`)

		p.header = http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}
		for _, d := range []string{`4a\nb`, `4a\\nb`, "4plain é+&=;", "4nul\x00"} {
			p.wantPost(t, url.Values{"d": {d}}.Encode())
		}
		p.peer.wantMessages(t, "a\nb", `a\nb`, "plain é+&=;", "nul\x00")
		wantResponse(t, p.post("d="), 200, "ok")
		p.peer.wantEnd(t, eio.ReasonParseError)
	})
}

func TestJSONPWithABodyThatIsNoForm(t *testing.T) {
	bubble(t, nil, func(t *testing.T, l *lab) {
		r := l.request("GET", pollQuery+"&j=", nil, nil)
		if !strings.HasPrefix(r.body, "___eio[](") {
			t.Errorf("an empty index is one: %v", r)
		}
		p := &poller{l: l, sid: l.last().s.ID(), peer: l.last()}
		wantResponse(t, p.post("d=%zz"), 200, "ok")
		p.peer.wantEnd(t, eio.ReasonParseError)
	})
}

func TestOldInternetExplorer(t *testing.T) {
	bubble(t, nil, func(t *testing.T, l *lab) {
		for ua, want := range map[string]string{"x;MSIE 9": "0", "Trident/7": "0", "Firefox": ""} {
			r := l.request("GET", pollQuery, http.Header{"User-Agent": {ua}}, nil)
			if got := r.header.Get("X-Xss-Protection"); got != want {
				t.Errorf("%s: %q", ua, got)
			}
		}
	})
}

func TestLesson6_PollsOfManyMessagesKeepTheirOrder(t *testing.T) {
	bubble(t, nil, func(t *testing.T, l *lab) {
		p := l.poller()
		const n = 2000
		go func() {
			for i := range n {
				_ = p.peer.s.Send(text(fmt.Sprint(i)))
			}
		}()
		var got, want []string
		for i := range n {
			want = append(want, fmt.Sprint("4", i))
		}
		for len(got) < n {
			got = append(got, packets(p.poll().body)...)
		}
		if !slices.Equal(got, want) {
			t.Error("messages were lost or changed places")
		}
	})
}
