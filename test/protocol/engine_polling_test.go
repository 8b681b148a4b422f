package protocol_test

import (
	"compress/gzip"
	"compress/zlib"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"github.com/seed-0b620db0/patchbay/internal/siotest"
)

func TestEngine_1_7_MethodsOfASession(t *testing.T) {
	f := use(t, bare)
	c := f.polling(t)
	for _, method := range []string{http.MethodPut, http.MethodDelete, http.MethodOptions, http.MethodHead, http.MethodPatch} {
		r := c.Do(method, c.URL("polling"), nil, nil)
		want(t, method, r.Status, http.StatusInternalServerError)
		want(t, method+" body", r.Body, "")
	}
	wantAlive(t, c)
}

func TestEngine_1_7_GetWaitsForPackets(t *testing.T) {
	f := use(t, bare)
	c := f.polling(t)
	poll := c.GetAsync()
	c.Send("4x")
	r := poll.Wait()
	want(t, "body", r.Body, "4x")
	want(t, "Content-Type", r.Header.Get("Content-Type"), "text/plain; charset=UTF-8")
	want(t, "Content-Length", r.Length, 2)
	want(t, "Cache-Control", r.Header.Get("Cache-Control"), "no-store")
}

func TestEngine_1_7_GetTakesWhatIsBuffered(t *testing.T) {
	f := use(t, bare)
	c := f.polling(t)
	c.Send("4a", "4b")
	c.Send("4c")
	wantSlice(t, "packets", c.Poll(), []string{"4a", "4b", "4c"})
}

// pollPending starts a poll and returns when the server holds it.
func pollPending(t *testing.T, f *fixture, c *siotest.Client) *siotest.Pending {
	t.Helper()
	p := c.GetAsync()
	f.await(t, "poll held", func(s state) bool { return s.Sessions[c.SID].Polling || p.Done() })
	if p.Done() {
		t.Fatalf("poll did not wait: %+v", p.Wait())
	}
	return p
}

func TestEngine_1_7_SecondGetClosesSession(t *testing.T) {
	f := use(t, bare)
	c := f.polling(t)
	first := pollPending(t, f, c)
	second := c.Get()
	// Which of the two arrived first is the network's choice.
	a, b := first.Wait(), second
	if a.Status != http.StatusOK {
		a, b = b, a
	}
	want(t, "pending", a.Body, "1")
	want(t, "pending status", a.Status, http.StatusOK)
	want(t, "overlapping status", b.Status, http.StatusBadRequest)
	want(t, "overlapping body", b.Body, "")
	f.wantClosed(t, c.SID, "transport error")
	wantGone(t, c)
}

func TestEngine_1_7_SecondPostClosesSession(t *testing.T) {
	f := use(t, bare)
	c := f.polling(t)
	first := dialRaw(t, f)
	// The server reads a body once its head has arrived; "100 Continue" tells that it has.
	first.request(t, http.MethodPost, c.URL("polling"), []string{"Content-Length: 10", "Expect: 100-continue"}, "")
	line, err := first.r.ReadString('\n')
	if err != nil || !strings.Contains(line, "100") {
		t.Fatalf("got %q, %v", line, err)
	}
	if _, err := io.WriteString(first, "4a"); err != nil {
		t.Fatal(err)
	}
	r := c.Post("4b")
	want(t, "status", r.Status, http.StatusBadRequest)
	want(t, "body", r.Body, "")
	f.wantClosed(t, c.SID, "transport error")
	want(t, "response to the first", strings.TrimSpace(first.rest(t)), "")
	wantSlice(t, "received", f.state(t).Received[c.SID], []any{})
}

func TestEngine_1_7_PostResponse(t *testing.T) {
	f := use(t, bare)
	c := f.polling(t)
	r := c.Post("4x")
	want(t, "status", r.Status, http.StatusOK)
	want(t, "body", r.Body, "ok")
	want(t, "Content-Type", r.Header.Get("Content-Type"), "text/html")
	want(t, "Content-Length", r.Length, 2)
	want(t, "Cache-Control", r.Header.Get("Cache-Control"), "no-store")
	want(t, "received before the answer", len(f.state(t).Received[c.SID]), 1)
}

func TestEngine_1_7_PostInPieces(t *testing.T) {
	f := use(t, bare)
	c := f.polling(t)
	body := "4€\x1e4" + strings.Repeat("x", 5000)
	// A body in chunks, cut inside a character.
	pr, pw := io.Pipe()
	go func() { // ends when the body is read
		for i := 0; i < len(body); i += 2 {
			_, _ = io.WriteString(pw, body[i:min(i+2, len(body))])
		}
		pw.Close()
	}()
	r := c.Do(http.MethodPost, c.URL("polling"), nil, pr)
	want(t, "body", r.Body, "ok")
	wantSlice(t, "echo", c.PollN(2), strings.Split(body, siotest.Separator))
}

func TestEngine_1_7_PostOverTheLimit(t *testing.T) {
	f := use(t, options{Mode: "engine", MaxHTTPBufferSize: 100})
	t.Run("announced", func(t *testing.T) {
		c := f.polling(t)
		r := c.Post("4" + strings.Repeat("x", 100))
		want(t, "status", r.Status, http.StatusRequestEntityTooLarge)
		want(t, "body", r.Body, "")
		wantAlive(t, c)
	})
	t.Run("not announced", func(t *testing.T) {
		c := f.polling(t)
		r := c.Do(http.MethodPost, c.URL("polling"), nil, io.MultiReader(strings.NewReader("4"), strings.NewReader(strings.Repeat("x", 100))))
		want(t, "status", r.Status, http.StatusRequestEntityTooLarge)
		wantAlive(t, c)
	})
	t.Run("the limit itself is allowed, in bytes", func(t *testing.T) {
		c := f.polling(t)
		c.Send("4" + strings.Repeat("x", 99))
		want(t, "echo", len(c.Poll()[0]), 100)
		want(t, "status", c.Post("4"+strings.Repeat("€", 34)).Status, http.StatusRequestEntityTooLarge)
		wantAlive(t, c)
	})
}

func TestEngine_1_7_InvalidPayload(t *testing.T) {
	f := use(t, bare)
	for name, body := range map[string]string{"unknown type": "abc", "empty": "", "empty packet": "4a\x1e", "digit out of range": "7"} {
		t.Run(name, func(t *testing.T) {
			c := f.polling(t)
			r := c.Post(body)
			want(t, "status", r.Status, http.StatusOK)
			want(t, "body", r.Body, "ok")
			f.wantClosed(t, c.SID, "parse error")
			wantGone(t, c)
		})
	}
}

func TestEngine_1_7_OctetStream(t *testing.T) {
	f := use(t, bare)
	c := f.polling(t)
	r := c.Do(http.MethodPost, c.URL("polling"), http.Header{"Content-Type": {"application/octet-stream"}}, strings.NewReader("4x"))
	want(t, "status", r.Status, http.StatusBadRequest)
	want(t, "body", r.Body, "")
	f.wantClosed(t, c.SID, "transport error")
	wantGone(t, c)
}

func TestEngine_1_7_ContentTypeOfTextIsNotChecked(t *testing.T) {
	f := use(t, bare)
	for _, ct := range []string{"", "application/json", "text/html; charset=latin1"} {
		c := f.polling(t)
		r := c.Do(http.MethodPost, c.URL("polling"), http.Header{"Content-Type": {ct}}, strings.NewReader("4ä"))
		want(t, ct, r.Body, "ok")
		wantSlice(t, "echo", c.Poll(), []string{"4ä"})
	}
}

func TestEngine_1_7_ClosePacket(t *testing.T) {
	f := use(t, bare)
	t.Run("with a poll pending", func(t *testing.T) {
		c := f.polling(t)
		poll := pollPending(t, f, c)
		r := c.Post("1", "4late")
		want(t, "post", r.Body, "ok")
		r = poll.Wait()
		want(t, "poll status", r.Status, http.StatusOK)
		want(t, "poll", r.Body, "6")
		f.wantClosed(t, c.SID, "transport close")
		wantSlice(t, "received", f.state(t).Received[c.SID], []any{})
		wantGone(t, c)
	})
	t.Run("with none", func(t *testing.T) {
		c := f.polling(t)
		want(t, "post", c.Post("4a", "1").Body, "ok")
		f.wantClosed(t, c.SID, "transport close")
		wantGone(t, c)
	})
}

func TestEngine_1_7_AbortedRequests(t *testing.T) {
	f := use(t, bare)
	t.Run("poll", func(t *testing.T) {
		c := f.polling(t)
		pollPending(t, f, c).Abort()
		f.wantClosed(t, c.SID, "transport error")
	})
	t.Run("post", func(t *testing.T) {
		c := f.polling(t)
		raw := dialRaw(t, f)
		raw.request(t, http.MethodPost, c.URL("polling"), []string{"Content-Length: 10", "Expect: 100-continue"}, "")
		if line, err := raw.r.ReadString('\n'); err != nil || !strings.Contains(line, "100") {
			t.Fatalf("got %q, %v", line, err)
		}
		if _, err := io.WriteString(raw, "4a"); err != nil {
			t.Fatal(err)
		}
		raw.Close()
		f.wantClosed(t, c.SID, "transport error")
	})
}

func TestEngine_1_7_UnexpectedPacketTypes(t *testing.T) {
	f := use(t, bare)
	for _, p := range []string{"0", "5", "6", "3", "3probe", `0{"sid":"x"}`} {
		t.Run(p+" is ignored", func(t *testing.T) {
			c := f.polling(t)
			c.Send(p)
			wantAlive(t, c)
			w := f.ws(t)
			w.Send(p)
			wantAliveWS(t, w)
		})
	}
	for _, p := range []string{"2", "2probe"} {
		t.Run(p+" has the wrong direction", func(t *testing.T) {
			c := f.polling(t)
			c.Send(p)
			f.wantClosed(t, c.SID, "transport error")
			w := f.ws(t)
			w.Send(p)
			w.ExpectClose()
			f.wantClosed(t, w.SID, "transport error")
		})
	}
}

func TestEngine_1_7_CloseByTheServer(t *testing.T) {
	f := use(t, bare)
	t.Run("with a poll pending", func(t *testing.T) {
		c := f.polling(t)
		poll := pollPending(t, f, c)
		f.do(t, "close", args{"sid": c.SID})
		r := poll.Wait()
		want(t, "status", r.Status, http.StatusOK)
		want(t, "poll", r.Body, "1")
		f.wantClosed(t, c.SID, "forced close")
		wantGone(t, c)
	})
	t.Run("with none: the next poll brings what is buffered and the close", func(t *testing.T) {
		c := f.polling(t)
		f.do(t, "send", args{"sid": c.SID, "data": []string{"a", "b"}})
		f.do(t, "close", args{"sid": c.SID})
		var got []string
		for len(got) == 0 || got[len(got)-1] != "1" {
			got = append(got, c.Poll()...)
		}
		wantSlice(t, "packets", without(got, "6"), []string{"4a", "4b", "1"})
		f.wantClosed(t, c.SID, "forced close")
		wantGone(t, c)
	})
	t.Run("while closing, packets of both sides are dropped", func(t *testing.T) {
		c := f.polling(t)
		f.do(t, "close", args{"sid": c.SID})
		f.do(t, "send", args{"sid": c.SID, "data": []string{"late"}})
		c.Send("4late")
		var got []string
		for len(got) == 0 || got[len(got)-1] != "1" {
			got = append(got, c.Poll()...)
		}
		wantSlice(t, "packets", without(got, "6"), []string{"1"})
		s := f.state(t)
		wantSlice(t, "received", s.Received[c.SID], []any{})
	})
}

func without(packets []string, drop string) []string {
	var kept []string
	for _, p := range packets {
		if p != drop {
			kept = append(kept, p)
		}
	}
	return kept
}

func TestEngine_1_7_XSSProtectionForOldBrowsers(t *testing.T) {
	f := use(t, bare)
	for agent, value := range map[string]string{
		"Mozilla/4.0 (compatible;MSIE 8.0)": "0", "Mozilla/5.0 (Trident/7.0; rv:11.0)": "0", "Mozilla/5.0": "",
	} {
		c := f.client(t)
		r := c.Do(http.MethodGet, c.URL("polling"), http.Header{"User-Agent": {agent}}, nil)
		want(t, agent, r.Header.Get("X-XSS-Protection"), value)
	}
}

func TestEngine_1_7_Compression(t *testing.T) {
	long := strings.Repeat("x", 2000)
	// flush has the server send data in one poll that accepts encodings.
	flush := func(t *testing.T, f *fixture, accept string, a args, data ...string) siotest.Response {
		t.Helper()
		c := f.polling(t)
		if a == nil {
			a = args{}
		}
		a["sid"], a["data"] = c.SID, data
		f.do(t, "send", a)
		r := c.Do(http.MethodGet, c.URL("polling"), http.Header{"Accept-Encoding": {accept}}, nil)
		want(t, "status", r.Status, http.StatusOK)
		return r
	}
	plain := func(t *testing.T, r siotest.Response, body string) {
		t.Helper()
		want(t, "Content-Encoding", r.Header.Get("Content-Encoding"), "")
		want(t, "body", r.Body, body)
		want(t, "Content-Length", r.Length, int64(len(body)))
	}
	t.Run("gzip", func(t *testing.T) {
		r := flush(t, use(t, bare), "gzip, deflate, br", nil, long)
		want(t, "Content-Encoding", r.Header.Get("Content-Encoding"), "gzip")
		want(t, "no Content-Length", r.Length, -1)
		z, err := gzip.NewReader(strings.NewReader(r.Body))
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(z)
		if err != nil || string(b) != "4"+long {
			t.Errorf("got %q, %v", b, err)
		}
	})
	t.Run("deflate", func(t *testing.T) {
		r := flush(t, use(t, bare), "deflate", nil, long)
		want(t, "Content-Encoding", r.Header.Get("Content-Encoding"), "deflate")
		z, err := zlib.NewReader(strings.NewReader(r.Body))
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(z)
		if err != nil || string(b) != "4"+long {
			t.Errorf("got %q, %v", b, err)
		}
	})
	t.Run("a preferred encoding", func(t *testing.T) {
		r := flush(t, use(t, bare), "gzip;q=0.1, deflate", nil, long)
		want(t, "Content-Encoding", r.Header.Get("Content-Encoding"), "deflate")
	})
	t.Run("refused by the client", func(t *testing.T) {
		f := use(t, bare)
		for _, accept := range []string{"br", "gzip;q=0", "identity"} {
			plain(t, flush(t, f, accept, nil, long), "4"+long)
		}
	})
	t.Run("the threshold counts the payload in bytes", func(t *testing.T) {
		f := use(t, bare)
		plain(t, flush(t, f, "gzip", nil, strings.Repeat("x", 1022)), "4"+strings.Repeat("x", 1022))
		want(t, "at 1024", flush(t, f, "gzip", nil, strings.Repeat("x", 1023)).Header.Get("Content-Encoding"), "gzip")
		want(t, "in bytes", flush(t, f, "gzip", nil, strings.Repeat("€", 400)).Header.Get("Content-Encoding"), "gzip")
		half := strings.Repeat("x", 600)
		want(t, "two packets", flush(t, f, "gzip", nil, half, half).Header.Get("Content-Encoding"), "gzip")
	})
	t.Run("another threshold", func(t *testing.T) {
		f := use(t, options{Mode: "engine", HTTPCompression: new(10)})
		want(t, "over it", flush(t, f, "gzip", nil, "0123456789").Header.Get("Content-Encoding"), "gzip")
		plain(t, flush(t, f, "gzip", nil, "01234567"), "401234567")
	})
	t.Run("off", func(t *testing.T) {
		plain(t, flush(t, use(t, options{Mode: "engine", HTTPCompression: new(-1)}), "gzip", nil, long), "4"+long)
	})
	t.Run("compress false for all packets", func(t *testing.T) {
		plain(t, flush(t, use(t, bare), "gzip", args{"compress": false}, long), "4"+long)
	})
}

func TestEngine_1_7_JSONP(t *testing.T) {
	f := use(t, bare)
	c := f.client(t)
	c.Query = url.Values{"j": {"3"}}
	r := c.Get()
	want(t, "Content-Type", r.Header.Get("Content-Type"), "text/plain; charset=UTF-8")
	want(t, "callback", strings.HasPrefix(r.Body, `___eio[3]("0{\"sid\":\"`), true)
	_, rest, _ := strings.Cut(r.Body, `\"sid\":\"`)
	c.SID, _, _ = strings.Cut(rest, `\"`)
	form := url.Values{"d": {"4a\\nb\u2028"}}.Encode()
	post := c.Do(http.MethodPost, c.URL("polling"), http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}, strings.NewReader(form))
	want(t, "post", post.Body, "ok")
	c.Query.Set("j", "9")
	want(t, "echo", c.Get().Body, `___eio[3](`+strconv.Quote("4a\nb\u2028")+`);`)
}
