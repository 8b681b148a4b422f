package peers_test

import (
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-0b620db0/patchbay/internal/drain"
	"github.com/seed-0b620db0/patchbay/internal/siotest"
	"github.com/seed-0b620db0/patchbay/pkg/eio"
)

// A node that stops forwarding loses nothing: polls are answered and made again elsewhere, tunnels end with all that was sent.
func TestDrain(t *testing.T) {
	l := newLab(t)
	a, b := l.start("a"), l.start("b")
	polling, ws := elsewhere(a, b), elsewhere(a, b)
	w, _ := ws.Upgrade()
	poll := polling.GetAsync()
	eventually(t, "the poll waits", func() bool { return a.verdicts()[""] >= 3 })
	w.Send("4last")
	done := make(chan struct{})
	go func() { // ends within its window
		defer close(done)
		b.fwd.Drain(t.Context(), drain.Pace{Window: 50 * time.Millisecond})
	}()
	if r := poll.Wait(); r.Status != http.StatusOK || r.Body != "6" || !r.Closes {
		t.Errorf("the poll: %d %q %v, closes: %v", r.Status, r.Body, r.Err, r.Closes)
	}
	w.Expect("4last")
	if code := w.ExpectClose(); code != 1005 {
		t.Errorf("close code %d", code)
	}
	<-done
	a.mu.Lock()
	if err, ok := a.closed[ws.SID]; !ok || err != nil {
		t.Errorf("the owner: closed: %v, %v", ok, err)
	}
	a.mu.Unlock()
	// Who comes all the same is served, and sent elsewhere.
	if r := polling.Post("4x"); r.Body != "ok" || !r.Closes {
		t.Errorf("%d %q, closes: %v", r.Status, r.Body, r.Closes)
	}
	polling.Base = a.base
	if got := polling.Poll(); got[0] != "4x" {
		t.Errorf("by another way: %q", got)
	}
	if v := b.result("failed") + b.result("aborted"); v > 0 {
		t.Errorf("%d have failed", v)
	}
}

func TestDrainIsPaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newBubble(t)
		l.engine.PingInterval = time.Hour
		a, b := l.start("a"), l.start("b")
		const n, window = 20, 10 * time.Second
		ends := make(chan time.Duration, n)
		var begun time.Time
		for range n {
			sid := a.open()
			go func() { // ends by Drain
				if _, answer, err := b.ask(t.Context(), http.MethodGet, sid, ""); answer != "6" || err != nil {
					t.Errorf("%q, %v", answer, err)
				}
				ends <- time.Since(begun)
			}()
		}
		synctest.Wait()
		begun = time.Now()
		b.fwd.Drain(t.Context(), drain.Pace{Window: window})
		for i := range n {
			if at, from := <-ends, window/n*time.Duration(i); at < from || at > from+window/n {
				t.Errorf("%d of %d ended after %v", i+1, n, at)
			}
		}
		b.shutdown()
		a.shutdown()
	})
}

// An owner that does not know how to, or does not answer, does not keep the node from ending.
func TestDrainCuts(t *testing.T) {
	for name, wrong := range map[string]http.HandlerFunc{
		"does not know": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) },
		"hangs":         func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			a, b := l.start("a"), l.start("b")
			polling, ws := elsewhere(a, b), elsewhere(a, b)
			w, _ := ws.Upgrade()
			poll := polling.GetAsync()
			eventually(t, "the poll waits", func() bool { return a.verdicts()[""] >= 3 })
			a.mu.Lock()
			a.front = func(http.Handler) http.Handler { return wrong }
			a.mu.Unlock()
			b.fwd.Drain(t.Context(), drain.Pace{})
			unknown(t, poll.Wait())
			if _, err := w.TryRecv(siotest.Patience); err == nil {
				t.Error("the upgraded connection goes on")
			}
		})
	}
}

// Nobody but a node can ask for it.
func TestRerouteIsSigned(t *testing.T) {
	l := newLab(t)
	a := l.start("a")
	c := a.client()
	c.Handshake()
	poll := c.GetAsync()
	r := c.Do(http.MethodPost, fmt.Sprintf("http://%s/peer/.reroute?sid=%s", a.self.Addr, c.SID), nil, nil)
	if r.Status != http.StatusForbidden {
		t.Errorf("%d %q", r.Status, r.Body)
	}
	if err := a.Session(c.SID).Send(eio.NewMessage(eio.Frame{Data: []byte("x")})); err != nil {
		t.Error(err)
	}
	if r := poll.Wait(); r.Body != "4x" {
		t.Errorf("the poll: %q", r.Body)
	}
}
