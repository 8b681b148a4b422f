package protocol_test

import (
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/seed-0b620db0/patchbay/internal/siotest"
)

// beating pings often but is patient, so that a slow machine does not lose sessions; fleeting is for
// the tests that let the timeout run out. Whatever a client has to do before a timer of the server fires,
// in any test, it has some 3 s for: seconds too much cost little, as tests run in parallel.
var (
	beating  = options{Mode: "engine", PingInterval: 300, PingTimeout: 10000}
	fleeting = options{Mode: "engine", PingInterval: 300, PingTimeout: 3000}
)

// early is by how much a timer of the server may fire too soon by the client's clock. Wherever a time is
// measured, the client's clock starts before the packet leaves that starts the server's: however late a
// loaded machine delivers, the time only grows.
const early = 20 * time.Millisecond

func TestEngine_1_11_PingAndPong(t *testing.T) {
	f := use(t, beating)
	t.Run("websocket", func(t *testing.T) {
		start := time.Now()
		w := f.client(t).Dial()
		w.Text()
		for range 3 {
			w.Expect("2")
			if took := time.Since(start); took < 300*time.Millisecond-early {
				t.Errorf("ping %v after the pong before", took)
			}
			start = time.Now()
			w.Send("3")
		}
		wantNoTwoPings(t, w)
	})
	t.Run("polling", func(t *testing.T) {
		start := time.Now()
		c := f.polling(t)
		for range 3 {
			wantSlice(t, "poll", c.Poll(), []string{"2"})
			if took := time.Since(start); took < 300*time.Millisecond-early {
				t.Errorf("ping %v after the pong before", took)
			}
			start = time.Now()
			c.Send("3")
		}
	})
}

// wantNoTwoPings proves that the next thing after an unanswered ping is not another ping.
func wantNoTwoPings(t *testing.T, w *siotest.WS) {
	t.Helper()
	w.Expect("2")
	time.Sleep(700 * time.Millisecond) // two intervals: what must not happen cannot be awaited
	w.Send("4marker")
	w.Expect("4marker")
}

func TestEngine_1_11_PongRestartsTheInterval(t *testing.T) {
	f := use(t, beating)
	w := f.ws(t)
	w.Expect("2")
	time.Sleep(200 * time.Millisecond) // part of an interval, so that the difference can be seen
	start := time.Now()
	w.Send("3")
	w.Expect("2")
	if took := time.Since(start); took < 300*time.Millisecond-early {
		t.Errorf("ping %v after the pong, want the whole interval", took)
	}
}

func TestEngine_1_11_NoPong(t *testing.T) {
	f := use(t, fleeting)
	t.Run("websocket", func(t *testing.T) {
		start := time.Now()
		w := f.ws(t)
		w.Expect("2")
		want(t, "status", w.ExpectClose(), websocket.StatusNoStatusRcvd)
		if took := time.Since(start); took < 3300*time.Millisecond-early {
			t.Errorf("closed after %v, want the interval and the timeout", took)
		}
		f.wantClosed(t, w.SID, "ping timeout")
	})
	t.Run("polling, polled", func(t *testing.T) {
		c := f.polling(t)
		wantSlice(t, "poll", c.Poll(), []string{"2"})
		r := c.Get()
		// On a slow machine the session is gone before the poll is there.
		if r.Status == http.StatusOK {
			want(t, "poll", r.Body, "1")
		}
		f.wantClosed(t, c.SID, "ping timeout")
		wantGone(t, c)
	})
	t.Run("polling, not polled", func(t *testing.T) {
		c := f.polling(t)
		f.wantClosed(t, c.SID, "ping timeout")
		wantGone(t, c)
	})
	t.Run("polling, polled late: the ping was waiting", func(t *testing.T) {
		f := use(t, beating)
		c := f.polling(t)
		for pause := time.Second; ; pause *= 2 {
			f.do(t, "send", args{"sid": c.SID, "data": []string{"x"}})
			time.Sleep(pause) // the ping is due after 300 ms and shows nowhere else
			got := c.Poll()
			if late := slices.Equal(got, []string{"4x"}); !late || pause > 5*time.Second {
				wantSlice(t, "poll", got, []string{"4x", "2"})
				break
			}
			wantSlice(t, "late ping", c.Poll(), []string{"2"})
			c.Send("3")
		}
		c.Send("3")
		wantAlive(t, c)
	})
}

func TestEngine_0_1_OtherPacketsRestartTheTimeoutOnce(t *testing.T) {
	f := use(t, options{Mode: "engine", PingInterval: 300, PingTimeout: 5000})
	w := f.ws(t)
	w.Expect("2")
	start := time.Now()
	closed := make(chan websocket.StatusCode, 1)
	go func() { // ends with the connection
		for {
			if _, err := w.TryRecv(siotest.Patience); err != nil {
				closed <- websocket.CloseStatus(err)
				return
			}
		}
	}()
	// The first message, after 2 of 5 s, gives a second term. Those that follow, more often than the timeout,
	// do not, or this would never end.
	for pause := time.After(2 * time.Second); ; pause = time.After(200 * time.Millisecond) {
		select {
		case <-pause:
			_ = w.Conn.Write(t.Context(), websocket.MessageText, []byte("4x")) // fails when it is closed by now
			if time.Since(start) < siotest.Patience {
				continue
			}
			t.Fatal("not closed: every message restarted the timeout")
		case status := <-closed:
			want(t, "status", status, websocket.StatusNoStatusRcvd)
		}
		break
	}
	if took := time.Since(start); took < 7*time.Second-early {
		t.Errorf("closed after %v: the first message did not restart the timeout", took)
	}
	f.wantClosed(t, w.SID, "ping timeout")
}

func TestEngine_1_11_UnsolicitedPong(t *testing.T) {
	// The interval is long, so that the pong comes before the first ping on a slow machine too.
	f := use(t, options{Mode: "engine", PingInterval: 4000, PingTimeout: 10000})
	w := f.ws(t)
	time.Sleep(500 * time.Millisecond) // part of an interval
	start := time.Now()
	w.Send("3")
	w.Expect("2")
	if took := time.Since(start); took < 4*time.Second-early {
		t.Errorf("ping %v after the pong, want the whole interval", took)
	}
	w.Send("3", "3", "3")
	w.Expect("2")
	wantAliveSkippingPings(t, w)
}

func wantAliveSkippingPings(t *testing.T, w *siotest.WS) {
	t.Helper()
	w.Send("3", "4alive?")
	for {
		switch got := w.Text(); got {
		case "4alive?":
			return
		case "2":
			w.Send("3")
		default:
			t.Fatalf("got %q", got)
		}
	}
}

func TestEngine_1_11_HeartbeatAcrossTheUpgrade(t *testing.T) {
	f := use(t, beating)
	c := f.polling(t)
	if got := c.Poll(); !slices.Equal(got, []string{"2"}) {
		t.Fatalf("got %q", got)
	}
	// The pong goes out on the new transport.
	w := c.Dial()
	w.Send("5", "3")
	w.Expect("2")
	wantAliveSkippingPings(t, w)
}

func TestEngine_1_12_CloseOfTheServer(t *testing.T) {
	f := fresh(t, bare)
	w := f.ws(t)
	polling, idle := f.polling(t), f.polling(t)
	poll := pollPending(t, f, polling)
	probed := f.polling(t)
	probe := probed.Probe()
	f.do(t, "shutdown", nil)
	want(t, "websocket", w.ExpectClose(), websocket.StatusNoStatusRcvd)
	r := poll.Wait()
	want(t, "pending poll", r.Body, "1")
	probe.DrainClose()
	for _, sid := range []string{w.SID, polling.SID, idle.SID, probed.SID} {
		s := f.await(t, "closed", func(s state) bool { _, ok := s.Closed[sid]; return ok })
		reason := "forced close"
		if differs(t, "shutdown-reason") {
			reason = "server shutting down"
		}
		want(t, "reason", s.Closed[sid].Reason, reason)
	}
	want(t, "sessions", len(f.state(t).Sessions), 0)
}
