package protocol_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

func TestEngine_1_10_Upgrade(t *testing.T) {
	f := use(t, bare)
	c := f.polling(t)
	w, rest := c.Upgrade()
	wantSlice(t, "packets besides noops", rest, nil)
	wantAliveWS(t, w)
	want(t, "transport", f.state(t).Sessions[c.SID].Transport, "websocket")
	t.Run("afterwards HTTP requests are refused", func(t *testing.T) {
		w := w.In(t)
		wantRefused(t, c.Get(), 400, badRequest)
		wantRefused(t, c.Post("4x"), 400, badRequest)
		wantAliveWS(t, w)
	})
	t.Run("another upgrade too", func(t *testing.T) {
		w := w.In(t)
		second := c.Dial()
		want(t, "status", second.ExpectClose(), websocket.StatusNoStatusRcvd)
		wantAliveWS(t, w)
	})
}

func TestEngine_1_10_NoopEndsThePendingPoll(t *testing.T) {
	f := use(t, bare)
	t.Run("pending before the probe", func(t *testing.T) {
		c := f.polling(t)
		poll := pollPending(t, f, c)
		w := c.Probe()
		want(t, "poll", poll.Wait().Body, "6")
		w.Send("5")
		wantAliveWS(t, w)
	})
	t.Run("every poll while upgrading", func(t *testing.T) {
		// A client may poll again before it hears of the probe; one noop would leave that poll hanging.
		c := f.polling(t)
		w := c.Probe()
		for range 3 {
			wantSlice(t, "poll", c.Poll(), []string{"6"})
		}
		w.Send("5")
		wantAliveWS(t, w)
	})
	t.Run("none before the probe", func(t *testing.T) {
		c := f.polling(t)
		poll := pollPending(t, f, c)
		w := c.Dial()
		c.Send("4x")
		want(t, "poll", poll.Wait().Body, "4x")
		w.Send("2probe")
		w.Expect("3probe")
	})
}

func TestEngine_1_10_PollPendingAtTheUpgrade(t *testing.T) {
	f := use(t, bare)
	c := f.polling(t)
	poll := pollPending(t, f, c)
	w := c.Dial()
	w.Send("5") // without a probe, so that no noop has ended the poll
	wantAliveWS(t, w)
	r := poll.Wait()
	want(t, "status", r.Status, http.StatusOK)
	want(t, "poll", r.Body, "1")
}

func TestEngine_1_10_UpgradeWithoutProbe(t *testing.T) {
	f := use(t, bare)
	c := f.polling(t)
	w := c.Dial()
	w.Send("5")
	wantAliveWS(t, w)
	want(t, "transport", f.state(t).Sessions[c.SID].Transport, "websocket")
}

func TestEngine_1_10_SecondProbe(t *testing.T) {
	f := use(t, bare)
	c := f.polling(t)
	w := c.Probe()
	second := c.Dial()
	want(t, "status", second.ExpectClose(), websocket.StatusNoStatusRcvd)
	w.Send("5")
	wantAliveWS(t, w)
}

func TestEngine_1_10_OtherFirstPacket(t *testing.T) {
	f := use(t, bare)
	for _, p := range []string{"2", "2other", "4hello", "1", "6", "3probe"} {
		t.Run(p, func(t *testing.T) {
			c := f.polling(t)
			w := c.Dial()
			w.Send(p)
			w.ExpectClose()
			wantAlive(t, c)
			wantSlice(t, "received", f.state(t).Received[c.SID], []any{"alive?"})
		})
	}
	t.Run("the session can be upgraded afterwards", func(t *testing.T) {
		c := f.polling(t)
		w := c.Dial()
		w.Send("2")
		w.ExpectClose()
		w, _ = c.Upgrade()
		wantAliveWS(t, w)
	})
}

func TestEngine_1_10_PacketAfterTheProbe(t *testing.T) {
	f := use(t, bare)
	c := f.polling(t)
	w := c.Probe()
	w.Send("4early")
	w.DrainClose()
	wantAlive(t, c)
	wantSlice(t, "received", f.state(t).Received[c.SID], []any{"alive?"})
}

func TestEngine_1_10_UpgradeTimeout(t *testing.T) {
	f := use(t, options{Mode: "engine", UpgradeTimeout: 3000})
	for name, probe := range map[string]bool{"silent": false, "probed": true} {
		t.Run(name, func(t *testing.T) {
			c := f.polling(t)
			start := time.Now()
			w := c.Dial()
			if probe {
				w.Send("2probe")
				w.Expect("3probe")
			}
			w.ExpectClose()
			if took := time.Since(start); took < 3*time.Second-early {
				t.Errorf("closed after %v, before the timeout", took)
			}
			wantAlive(t, c)
			w, _ = c.Upgrade()
			wantAliveWS(t, w)
		})
	}
}

func TestEngine_1_10_ProbeThatGoesAway(t *testing.T) {
	f := use(t, bare)
	c := f.polling(t)
	c.Probe().Drop()
	wantAlive(t, c)
	w := c.Dial()
	// The server may notice the loss of the first only now, and takes one probe at a time.
	for {
		w.Send("2probe")
		if _, err := w.TryRecv(time.Minute); err == nil {
			break
		}
		w = c.Dial()
	}
	w.Send("5")
	wantAliveWS(t, w)
}

func TestEngine_1_10_PollingUntilTheLastPacket(t *testing.T) {
	f := use(t, bare)
	c := f.polling(t)
	w := c.Probe()
	c.Send("4while upgrading")
	got := without(c.PollN(1), "6")
	for len(got) == 0 {
		got = without(c.Poll(), "6")
	}
	wantSlice(t, "through polling", got, []string{"4while upgrading"})
	w.Send("5")
	wantAliveWS(t, w)
}

func TestEngine_1_10_BufferedPacketsMoveOver(t *testing.T) {
	f := use(t, bare)
	c := f.polling(t)
	w := c.Probe()
	f.do(t, "send", args{"sid": c.SID, "data": []string{"a", "b"}})
	w.Send("5")
	w.Expect("4a", "4b")
	wantAliveWS(t, w)
}

func TestEngine_1_10_OrderAcrossTheUpgrade(t *testing.T) {
	f := use(t, bare)
	c := f.polling(t)
	var sent []string
	c.Send("4first")
	sent = append(sent, "4first")
	w, got := c.Upgrade()
	for _, p := range []string{"4second", "4third"} {
		w.Send(p)
		sent = append(sent, p)
	}
	for len(got) < len(sent) {
		got = append(got, w.Text())
	}
	wantSlice(t, "echo", got, sent)
}

func TestEngine_1_10_SessionClosesWhileProbing(t *testing.T) {
	f := use(t, bare)
	t.Run("by the client", func(t *testing.T) {
		c := f.polling(t)
		w := c.Probe()
		c.Send("1")
		w.DrainClose()
		f.wantClosed(t, c.SID, "transport close")
		wantGone(t, c)
	})
	t.Run("by a violation", func(t *testing.T) {
		c := f.polling(t)
		w := c.Probe()
		c.Send("2")
		w.DrainClose()
		f.wantClosed(t, c.SID, "transport error")
	})
	t.Run("by the server, the upgrade completes first", func(t *testing.T) {
		c := f.polling(t)
		w := c.Probe()
		f.do(t, "close", args{"sid": c.SID})
		w.Send("5")
		w.DrainClose()
		f.wantClosed(t, c.SID, "forced close")
		wantGone(t, c)
	})
	t.Run("by the server, buffered packets arrive", func(t *testing.T) {
		c := f.polling(t)
		w := c.Probe()
		f.do(t, "send", args{"sid": c.SID, "data": []string{"last"}})
		f.do(t, "close", args{"sid": c.SID})
		w.Send("5")
		w.Expect("4last")
		w.DrainClose()
		f.wantClosed(t, c.SID, "forced close")
	})
}

func TestEngine_1_10_PollingOfAWebSocketSession(t *testing.T) {
	f := use(t, bare)
	w := f.ws(t)
	c := f.client(t)
	c.SID = w.SID
	wantRefused(t, c.Get(), 400, badRequest)
	second := c.Dial()
	second.Send("2probe")
	if second.DrainClose() == websocket.StatusGoingAway {
		t.Error("the server is going away")
	}
	wantAliveWS(t, w)
}

// A sid over WebSocket must not be taken for a poll: it would eat packets.
func TestEngine_1_10_FailedUpgradeRequestIsNoPoll(t *testing.T) {
	f := use(t, bare)
	c := f.polling(t)
	f.do(t, "send", args{"sid": c.SID, "data": []string{"kept"}})
	raw := dialRaw(t, f)
	raw.request(t, http.MethodGet, c.URL("websocket"), []string{"Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 99"}, "")
	res, body := raw.response(t)
	want(t, "refused", res.StatusCode >= 400, true)
	want(t, "packet in the refusal", strings.Contains(body, "kept"), false)
	wantRefused(t, c.Do(http.MethodGet, c.URL("websocket"), nil, nil), 400, badRequest)
	want(t, "kept", slices.Contains(c.Poll(), "4kept"), true)
}
