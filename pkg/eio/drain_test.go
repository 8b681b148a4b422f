package eio_test

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"io"
	"math"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-0b620db0/patchbay/pkg/eio"
)

// endings notes when sessions end, in the order of that.
type endings struct {
	begun time.Time // in the bubble

	mu   sync.Mutex
	when []time.Duration // since then
	who  []string
}

func (e *endings) hook(o *eio.Options) *eio.Options {
	o.Hooks.Closed = func(s *eio.Session, _ eio.CloseReason, _ error) {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.when = append(e.when, time.Since(e.begun))
		e.who = append(e.who, s.ID())
	}
	return o
}

// drained opens n WebSockets and shuts the server down within the time-out. It returns when they ended, since that began.
func drained(t *testing.T, o *eio.Options, n int, timeout time.Duration) []time.Duration {
	t.Helper()
	var e endings
	var when []time.Duration
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, e.hook(o), 0)
		var ids []string
		for range n {
			c := l.ws()
			ids = append(ids, c.peer.s.ID())
			go c.wantClose(1005) // ends with the session
		}
		ctx, cancel := context.WithTimeout(t.Context(), timeout)
		defer cancel()
		e.begun = time.Now()
		if err := l.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		if len(e.who) != n {
			t.Fatalf("%d of %d have ended", len(e.who), n)
		}
		if took, last := time.Since(e.begun), e.when[n-1]; took-last > time.Second {
			t.Errorf("the last ended at %v, Shutdown returned after %v", last, took)
		}
		if n > 20 && slices.Equal(ids, e.who) {
			t.Error("they end in the order in which they came")
		}
		for _, c := range l.peers {
			c.wantEnd(t, eio.ReasonShutdown)
		}
		when = e.when
	})
	return when
}

// wantPace fails the test unless each tenth of the window has its tenth of the ends.
func wantPace(t *testing.T, when []time.Duration, window time.Duration) {
	t.Helper()
	tenths := make([]int, 10)
	for _, at := range when {
		i := int(10 * at / window)
		if i > 9 {
			t.Fatalf("one ended at %v", at)
		}
		tenths[i]++
	}
	for _, n := range tenths {
		if want := len(when) / 10; n < want-1 || n > want+1 {
			t.Errorf("ends in the tenths of the window: %v", tenths)
			return
		}
	}
}

func TestDrainIsSpread(t *testing.T) {
	t.Run("window", func(t *testing.T) {
		wantPace(t, drained(t, &eio.Options{DrainWindow: 10 * time.Second}, 200, time.Minute), 10*time.Second)
	})
	t.Run("rate", func(t *testing.T) {
		wantPace(t, drained(t, &eio.Options{DrainWindow: time.Second, DrainRate: 50}, 200, time.Minute), 4*time.Second)
	})
	t.Run("less time than that", func(t *testing.T) {
		wantPace(t, drained(t, &eio.Options{DrainWindow: time.Minute}, 200, 8*time.Second), 6*time.Second)
	})
	t.Run("a window too short for slices", func(t *testing.T) {
		when := drained(t, &eio.Options{DrainWindow: 20 * time.Nanosecond}, 100, time.Minute)
		if slices.Max(when) > 100*time.Millisecond {
			t.Errorf("they ended at %v", when)
		}
	})
	t.Run("jitter", func(t *testing.T) {
		o := &eio.Options{DrainWindow: 10 * time.Second}
		if a, b := drained(t, o, 50, time.Minute), drained(t, o, 50, time.Minute); slices.Equal(a, b) {
			t.Error("the moments are the same each time")
		}
	})
}

// Whoever has not been told yet is served as ever, and whoever opens a session is refused, with a connection that is closed.
func TestDrainServesTheRest(t *testing.T) {
	bubble(t, &eio.Options{DrainWindow: time.Hour}, func(t *testing.T, l *lab) {
		c, p := l.ws(), l.poller()
		done := make(chan error)
		begun := time.Now()
		go func() { done <- l.Shutdown(t.Context()) }()
		synctest.Wait()
		_ = c.peer.s.Send(text("a"))
		c.want("4a")
		p.wantPost(t, "4b")
		p.peer.wantMessages(t, "b")
		poll := p.pollLater()
		synctest.Wait()
		_ = p.peer.s.Send(text("c"))
		r := poll.wait()
		wantResponse(t, r, http.StatusOK, "4c")
		refused := l.request("GET", pollQuery, nil, nil)
		wantResponse(t, refused, http.StatusServiceUnavailable, `{"code":3,"message":"Server shutting down"}`)
		for _, r := range []response{r, refused} {
			if !r.closes {
				t.Errorf("%v leaves the connection open, on which the client would come again", r)
			}
		}
		c.Close() // by themselves they are done before the window is over
		p.wantPost(t, "1")
		if err := <-done; err != nil || time.Since(begun) > time.Minute {
			t.Errorf("%v, after %v", err, time.Since(begun))
		}
	})
}

// A poll that waits is answered at once when its session's turn has come.
func TestDrainAnswersPolls(t *testing.T) {
	bubble(t, &eio.Options{DrainWindow: 10 * time.Second}, func(t *testing.T, l *lab) {
		var polls []*pending
		for range 10 {
			polls = append(polls, l.poller().pollLater())
		}
		synctest.Wait()
		begun := time.Now()
		if err := l.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		for _, p := range polls {
			r := p.wait()
			wantResponse(t, r, http.StatusOK, "1")
			if !r.closes {
				t.Error("the connection stays open")
			}
		}
		if d := time.Since(begun); d > 10*time.Second {
			t.Errorf("took %v", d)
		}
	})
}

// A request that was on its way when its client was sent away gets no error, which would be the first that the client hears of it.
func TestRequestAfterTheEnd(t *testing.T) {
	bubble(t, nil, func(t *testing.T, l *lab) {
		sentAway, closed := l.poller(), l.poller()
		for _, p := range []*poller{closed, sentAway} {
			poll := p.pollLater()
			synctest.Wait()
			if p == closed {
				p.peer.s.Close()
			} else if err := l.Shutdown(t.Context()); err != nil {
				t.Error(err)
			}
			wantResponse(t, poll.wait(), http.StatusOK, "1")
		}
		sentAway.wantPost(t, "4too late")
		sentAway.peer.wantMessages(t)
		unknown := `{"code":1,"message":"Session ID unknown"}`
		wantResponse(t, sentAway.poll(), http.StatusOK, "1")
		wantResponse(t, l.request("DELETE", sentAway.query(), nil, nil), http.StatusBadRequest, unknown)
		_, r := l.dial(wsQuery + "&sid=" + sentAway.sid)
		wantResponse(t, r, http.StatusBadRequest, "Session ID unknown")
		for _, r := range []response{sentAway.poll(), sentAway.post("4"), closed.poll(), closed.post("4too late")} {
			wantResponse(t, r, http.StatusBadRequest, unknown)
		}
	})
}

// A client that was slow to make its next poll gets the close packet all the same.
func TestPollAfterTheEnd(t *testing.T) {
	for name, query := range map[string][2]string{"plain": {"", "1"}, "JSONP": {"&j=3", `___eio[3]("1");`}} {
		t.Run(name, func(t *testing.T) {
			bubble(t, nil, func(t *testing.T, l *lab) {
				p := l.poller()
				begun := time.Now()
				if err := l.Shutdown(t.Context()); err != nil || time.Since(begun) != 5*time.Second {
					t.Errorf("%v after %v", err, time.Since(begun))
				}
				time.Sleep(5 * time.Second)
				wantResponse(t, l.request("GET", p.query()+query[0], nil, nil), http.StatusOK, query[1])
				wantResponse(t, p.poll(), http.StatusBadRequest, `{"code":1,"message":"Session ID unknown"}`)
			})
		})
	}
}

// Nor does one whose body is still on its way.
func TestPostDuringTheEnd(t *testing.T) {
	bubble(t, nil, func(t *testing.T, l *lab) {
		p := l.poller()
		poll := p.pollLater()
		c := p.rawPost(10, "4half")
		if err := l.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		wantResponse(t, poll.wait(), http.StatusOK, "1")
		fmt.Fprint(c, " done")
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if body, err := io.ReadAll(res.Body); res.StatusCode != http.StatusOK || string(body) != "ok" || err != nil {
			t.Errorf("%d %q %v", res.StatusCode, body, err)
		}
		p.peer.wantMessages(t)
	})
}

// A way of one transport closes: what goes over another stays, and an upgrade ends in an orderly way, before it has to be cut.
func TestReroute(t *testing.T) {
	bubble(t, nil, func(t *testing.T, l *lab) {
		p := l.poller()
		poll := p.pollLater()
		p.peer.s.Reroute(eio.WebSocket) // of which it has none
		p.peer.s.Reroute(eio.Polling)
		wantResponse(t, poll.wait(), http.StatusOK, "6")
		w := p.probe()
		w.send("2probe")
		w.want("3probe")
		p.peer.s.Reroute(eio.Polling)
		w.send("5")
		synctest.Wait()
		p.peer.s.Reroute(eio.Polling)
		p.peer.wantOpen(t)
		_ = p.peer.s.Send(text("last"))
		p.peer.s.Reroute(eio.WebSocket)
		w.want("4last")
		w.wantClose(1005)
		p.peer.wantEnd(t, eio.ReasonShutdown)
	})
	bubble(t, nil, func(t *testing.T, l *lab) {
		p := l.poller()
		w := p.probe()
		w.send("2probe")
		w.want("3probe")
		p.wantPoll(t, "6")
		p.peer.s.Reroute(eio.WebSocket)
		w.send("5") // may have been on its way
		w.wantClose(1005)
		p.peer.wantEnd(t, eio.ReasonShutdown)
	})
}

// What is remembered of such clients is forgotten.
func TestPostLongAfterTheEnd(t *testing.T) {
	bubble(t, &eio.Options{MaxAge: time.Minute, PingInterval: 5 * time.Second}, func(t *testing.T, l *lab) {
		aged := func() *poller {
			p := l.poller()
			begun := time.Now()
			for r := p.poll(); r.body == "2" && time.Since(begun) < time.Hour; r = p.poll() {
				p.wantPost(t, "3")
			}
			p.peer.wantEnd(t, eio.ReasonConnectionAge)
			return p
		}
		first := aged()
		first.wantPost(t, "4")
		time.Sleep(6 * time.Second)
		aged()
		if n := l.Departed(); n != 1 {
			t.Errorf("%d are remembered", n)
		}
		wantResponse(t, first.post("4"), http.StatusBadRequest, `{"code":1,"message":"Session ID unknown"}`)
	})
}

// A WebSocket has no requests that could be late, also if its client has not taken what was queued before the close frame.
func TestNoRequestAfterTheEndOfAWebSocket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, &eio.Options{MaxAge: 10 * time.Second, PingInterval: 5 * time.Second, WriteTimeout: time.Hour}, 256)
		c := l.ws()
		c.text() // a ping
		c.send("3")
		if err := c.peer.s.Send(text(strings.Repeat("x", 800))); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		c.peer.wantEnd(t, eio.ReasonConnectionAge)
		if n := l.Departed(); n != 0 {
			t.Errorf("%d are remembered", n)
		}
	})
}

func TestMaxAge(t *testing.T) {
	const age, n = 10 * time.Minute, 200
	for name, o := range map[string]*eio.Options{
		"exact":  {MaxAge: age},
		"jitter": {MaxAge: age, MaxAgeJitter: .5},
	} {
		t.Run(name, func(t *testing.T) {
			var e endings
			bubble(t, e.hook(o), func(t *testing.T, l *lab) {
				e.begun = time.Now()
				for i := range n {
					if i%20 > 0 {
						c := l.ws()
						_ = c.peer.s.Send(text("hello"))
						go func() {
							c.want("4hello")
							f, _ := c.recv()
							for ; f.data == "2"; f, _ = c.recv() {
								c.send("3")
							}
							if f.op != opClose {
								t.Errorf("got %v, want a close frame", f)
							}
							c.Close()
						}()
						continue
					}
					p := l.poller()
					go func() {
						for r := p.poll(); r.body == "2" && time.Since(e.begun) < 2*age; r = p.poll() {
							p.wantPost(t, "3")
						}
					}()
				}
				time.Sleep(age + 26*time.Second)
				synctest.Wait()
				if len(e.when) != n {
					t.Fatalf("%d of %d have ended", len(e.when), n)
				}
				for _, p := range l.peers {
					p.wantEnd(t, eio.ReasonConnectionAge)
				}
				first, last := e.when[0], e.when[n-1]
				if last > age+26*time.Second || first < time.Duration(float64(age)*(1-o.MaxAgeJitter)) {
					t.Errorf("the first ended at %v, the last at %v", first, last)
				}
				if o.MaxAgeJitter > 0 && last-first < age/4 {
					t.Errorf("they end between %v and %v", first, last)
				}
			})
		})
	}
}

func TestHandshakeRate(t *testing.T) {
	for _, c := range []struct {
		rate, burst int
		pause       time.Duration // default one second
		want        []int         // handshakes of 100 that succeed, then, and after each pause
	}{
		{rate: 10, want: []int{10, 10, 10}},
		{rate: 10, burst: 25, want: []int{25, 10, 10}},
		{rate: 2, burst: 1, want: []int{1, 1, 1}},
		{rate: 2, burst: 1, pause: 250 * time.Millisecond, want: []int{1, 0, 1, 0, 1}},
		{rate: 1, burst: math.MaxInt, want: []int{100, 100}},
		{rate: math.MaxInt, want: []int{100, 100}},
		{want: []int{100, 100}},
	} {
		t.Run(fmt.Sprint(c.rate, "/", c.burst), func(t *testing.T) {
			bubble(t, &eio.Options{HandshakeRate: c.rate, HandshakeBurst: c.burst}, func(t *testing.T, l *lab) {
				var got []int
				for range c.want {
					n := 0
					for range 50 {
						if _, r := l.dial(wsQuery); r.status == http.StatusSwitchingProtocols {
							n++
						} else if r.status != http.StatusServiceUnavailable || r.header.Get("Retry-After") == "" {
							t.Fatal(r)
						}
						switch r := l.request("GET", pollQuery, nil, nil); r.status {
						case http.StatusOK:
							n++
						default:
							wantResponse(t, r, http.StatusServiceUnavailable, `{"code":3,"message":"Too many handshakes"}`)
						}
					}
					got = append(got, n)
					time.Sleep(cmp.Or(c.pause, time.Second))
				}
				if !slices.Equal(got, c.want) {
					t.Errorf("opened %v, want %v", got, c.want)
				}
			})
		})
	}
}

func TestMaxAgeJitterIsAShare(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	eio.NewServer(nil, &eio.Options{MaxAgeJitter: 1.5})
}
