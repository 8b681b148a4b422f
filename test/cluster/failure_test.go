//go:build unix

package cluster_test

import (
	"encoding/json"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/seed-0b620db0/patchbay/internal/siotest"
)

// counting are the adapters whose nodes find out at once that one is gone.
var counting = []string{"classic", "sharded", "streams"}

// outcome is that of a request which was under way when a node died.
type outcome struct {
	op   string
	took time.Duration
	err  error
	raw  json.RawMessage
}

// TestNodeDies kills a node while others wait for it: they get what there is, long before their time is up, and do not ask
// it again.
func TestNodeDies(t *testing.T) {
	for _, adapter := range counting {
		t.Run(adapter, func(t *testing.T) {
			t.Parallel()
			url := startBus(t, adapter).URL()
			a := startPeer(t, "patchbay", "a", adapter, url)
			b := startPeer(t, "patchbay", "b", adapter, url)
			c := startPeer(t, "official", "c", adapter, url)
			victim := startPeer(t, "patchbay", "victim", adapter, url)
			awaitServers(t, a, b, c, victim)
			for _, p := range []*peer{a, b, c, victim} {
				connect(t, p)
				result[any](t, p, "onServerEvent", map[string]any{"event": "hello", "reply": []any{p.name}})
			}
			if n := len(result[[]any](t, a, "fetchSockets", nil)); n != 4 {
				t.Fatalf("there are %d sockets", n)
			}

			if err := victim.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
				t.Fatal(err)
			}
			outcomes := make(chan outcome)
			var asked atomic.Int32
			ask := func(op string, params map[string]any) {
				asked.Add(1)
				began := time.Now()
				raw, err := a.call(op, params)
				outcomes <- outcome{op, time.Since(began), err, raw}
			}
			requests := map[string]map[string]any{
				"fetchSockets": nil, "serverSideEmitWithAck": {"event": "hello", "args": []any{}},
				"emitWithAck": {"event": "hello", "args": []any{}, "to": []string{"nobody"}, "timeout": 10_000},
			}
			for op, params := range requests {
				go ask(op, params) // ends with the answer
			}
			select {
			case o := <-outcomes:
				t.Fatalf("%s did not wait for a node that is there: %s, %v", o.op, o.raw, o.err)
			case <-time.After(300 * time.Millisecond): // it goes on waiting
			}
			victim.kill()
			for range requests {
				o := <-outcomes
				if o.err != nil || o.took > 3*time.Second {
					t.Errorf("%s took %v: %s, %v", o.op, o.took, o.raw, o.err)
				}
				var n int // how many are missing
				switch o.op {
				case "fetchSockets":
					n = 3 - length(t, o.raw)
				case "serverSideEmitWithAck":
					n = 2 - length(t, responses(t, o.raw))
				case "emitWithAck":
					n = length(t, responses(t, o.raw))
				}
				if n != 0 {
					t.Errorf("%s: %s", o.op, o.raw)
				}
			}
			awaitServers(t, a, b, c)
			for _, p := range []*peer{a, b, c} {
				began := time.Now()
				if n := len(result[[]any](t, p, "fetchSockets", nil)); n != 3 || time.Since(began) > time.Second {
					t.Errorf("%s finds %d sockets in %v", p.name, n, time.Since(began))
				}
			}
		})
	}
}

func responses(t *testing.T, raw json.RawMessage) json.RawMessage {
	t.Helper()
	var v struct{ Responses json.RawMessage }
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}
	return v.Responses
}

func length(t *testing.T, raw json.RawMessage) int {
	t.Helper()
	var v []any
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}
	return len(v)
}

// TestBusDies takes the bus away for a while under load: nobody is disconnected, clients go on getting what their own node
// emits, and when the bus is back so is everything else.
func TestBusDies(t *testing.T) {
	const (
		outage = 5 * time.Second
		resume = time.Second // until what one of our nodes emits reaches the other
		pause  = 4 * time.Millisecond
	)
	for _, adapter := range append(counting, "postgres") {
		t.Run(adapter, func(t *testing.T) {
			t.Parallel()
			bus := startBus(t, adapter)
			peers := []*peer{
				startPeer(t, "patchbay", "a", adapter, bus.URL()),
				startPeer(t, "patchbay", "b", adapter, bus.URL()),
				startPeer(t, "official", "c", adapter, bus.URL()),
			}
			awaitServers(t, peers...)
			clients := map[*peer]*client{}
			for _, p := range peers {
				clients[p] = connect(t, p)
			}

			stop := make(chan struct{})
			var load sync.WaitGroup
			emitted := map[*peer]*atomic.Int64{}
			for _, p := range peers {
				emitted[p] = new(atomic.Int64)
			}
			for _, p := range peers {
				load.Go(func() {
					tick := time.NewTicker(pause)
					defer tick.Stop()
					for n := 1; ; n++ {
						select {
						case <-tick.C:
						case <-stop:
							return
						}
						// That Redis is away is known; its own clients get it all the same.
						_, _ = p.call("emit", map[string]any{"event": "load", "args": []any{p.name, n}})
						emitted[p].Store(int64(n))
					}
				})
			}
			defer load.Wait()
			defer close(stop)
			everybody := func(patience time.Duration, senders, receivers []*peer) {
				t.Helper()
				for _, from := range senders {
					n := int(emitted[from].Load()) + 1
					for _, to := range receivers {
						took := eventually(t, from.name+" reaches "+to.name, patience, func() bool {
							last, _ := clients[to].heard(from.name)
							return last >= n
						})
						t.Logf("%s reaches %s after %v", from.name, to.name, took)
					}
				}
			}
			everybody(siotest.Patience, peers, peers)
			bus.Kill()
			timeout := time.After(outage)
			for _, p := range peers[:2] { // the official server waits for the bus with its own clients too
				everybody(time.Second, []*peer{p}, []*peer{p})
			}
			<-timeout
			bus.Restart(t)
			everybody(resume, peers[:2], peers[:2])
			everybody(siotest.Patience, peers, peers)

			for _, p := range peers {
				if err := clients[p].disconnected(); err != nil {
					t.Errorf("the client of %s: %v", p.name, err)
				}
				if p == peers[2] && adapter == "postgres" {
					continue // the official server waits for one of several connections, and so overtakes itself
				}
				if _, gaps := clients[p].heard(p.name); gaps != 0 {
					t.Errorf("the client of %s missed something of its own node %d times", p.name, gaps)
				}
			}
			awaitServers(t, peers...)
			for _, p := range peers {
				if n := len(result[[]any](t, p, "fetchSockets", nil)); n != len(peers) {
					t.Errorf("%s finds %d sockets", p.name, n)
				}
			}
		})
	}
}
