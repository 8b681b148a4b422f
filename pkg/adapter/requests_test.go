package adapter_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-0b620db0/patchbay/pkg/adapter"
	"github.com/seed-0b620db0/patchbay/pkg/adapter/adaptertest"
	"github.com/seed-0b620db0/patchbay/pkg/sio"
)

// allKinds runs f over buses that differ in what they know of other nodes and their answers.
func allKinds(t *testing.T, n int, f func(t *testing.T, r *rig)) {
	t.Helper()
	bothKinds(t, n, f)
	t.Run("nameless", func(t *testing.T) { bubble(t, adaptertest.NetworkOptions{Nameless: true}, n, f) })
}

// named has all nodes know each other by name.
func (r *rig) named() {
	for _, n := range r.nodes {
		if err := n.Emit(context.Background(), "hello"); err != nil {
			r.Error(err)
		}
	}
	synctest.Wait()
}

// askAll makes each kind of request that node 0 can make, at once, with the same timeout, and returns how they ended.
func (r *rig) askAll(ctx context.Context, timeout time.Duration) map[string]error {
	a := r.nodes[0].Adapter()
	out := &sio.Outgoing{Payload: []byte(`["q"]`)}
	var (
		mu   sync.Mutex
		errs = map[string]error{}
		wg   sync.WaitGroup
	)
	for name, f := range map[string]func(context.Context) error{
		"fetch": func(ctx context.Context) error {
			_, err := a.FetchSockets(ctx, sio.Target{})
			return err
		},
		"servers": func(ctx context.Context) error { return a.ServerSideEmitWithAck(ctx, out, func(sio.Args) {}) },
		"clients": func(ctx context.Context) error {
			return a.BroadcastWithAck(ctx, out, sio.Target{}, func(sio.Args, error) {})
		},
	} {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, timeout)
			defer cancel()
			err := f(ctx)
			mu.Lock()
			defer mu.Unlock()
			errs[name] = err
		})
	}
	wg.Wait()
	return errs
}

// serverReplies has all servers acknowledge the server event "q".
func (r *rig) serversReply() {
	for i, n := range r.nodes {
		n.OnServerEvent("q", func(_ context.Context, ev *sio.Event) error {
			if !ev.NeedsAck() {
				return nil
			}
			return ev.Ack(i)
		})
	}
}

func TestAlone(t *testing.T) {
	bothKinds(t, 1, func(t *testing.T, r *rig) {
		r.serversReply()
		n := r.nodes[0]
		c := n.Client("/")
		began := time.Now()
		r.types()
		if got, err := n.FetchSockets(t.Context()); err != nil || !slices.Equal(ids(got), clientIDs(c)) {
			t.Errorf("fetched %v, %v", got, err)
		}
		for args, err := range n.ServerSideEmitWithAck(t.Context(), "q") {
			t.Errorf("%v, %v", args, err)
		}
		go c.Answer(`["q"]`, `[]`)
		if answers, errs := gather(t.Context(), n.To(), "q"); !slices.Equal(answers, []string{""}) || len(errs) != 0 {
			t.Errorf("%q, %v", answers, errs)
		}
		if nodes, err := n.Adapter().ServerCount(t.Context()); nodes != 1 || err != nil {
			t.Errorf("%d nodes, %v", nodes, err)
		}
		if d := time.Since(began); d != 0 {
			t.Errorf("it took %v", d)
		}
		for _, m := range r.types() {
			if m == adapter.FetchSockets {
				t.Error("nobody can answer")
			}
		}
	})
}

func TestAllAnswer(t *testing.T) {
	allKinds(t, 4, func(t *testing.T, r *rig) {
		r.serversReply()
		clients := r.clients()
		for range 2 { // strangers at first
			began := time.Now()
			got, err := r.nodes[0].FetchSockets(t.Context())
			if err != nil || !slices.Equal(ids(got), clientIDs(clients...)) {
				t.Errorf("fetched %v, %v", ids(got), err)
			}
			var servers []string
			for args, err := range r.nodes[0].ServerSideEmitWithAck(t.Context(), "q") {
				if err != nil {
					t.Error(err)
				}
				servers = append(servers, text(args))
			}
			if slices.Sort(servers); !slices.Equal(servers, []string{"1", "2", "3"}) {
				t.Errorf("servers %q", servers)
			}
			for i, c := range clients {
				go c.Answer(`["q"]`, fmt.Sprintf(`["c%d","second"]`, i))
			}
			// Of remote clients the first argument comes, as with official servers.
			answers, errs := gather(t.Context(), r.nodes[0].To(), "q")
			if !slices.Equal(answers, []string{`"c0" "second"`, `"c1"`, `"c2"`, `"c3"`}) || len(errs) != 0 {
				t.Errorf("clients %q, %v", answers, errs)
			}
			if n, err := r.nodes[0].Adapter().ServerCount(t.Context()); n != 4 || err != nil {
				t.Errorf("%d nodes, %v", n, err)
			}
			if d := time.Since(began); d != 0 {
				t.Errorf("it took %v", d)
			}
			r.named()
			for _, c := range clients {
				c.Take()
			}
		}
		for _, line := range r.nodes[0].requests.All() {
			if !strings.HasSuffix(line, " 0s: <nil>") {
				t.Error(line)
			}
		}
	})
}

// TestSilentNodes: what the others say comes, with the names of those that do not answer, at the deadline and not before.
func TestSilentNodes(t *testing.T) {
	allKinds(t, 4, func(t *testing.T, r *rig) {
		r.serversReply()
		r.named()
		clients := r.clients()
		r.net.Mute(3, true)
		r.net.Mute(1, true)
		began := time.Now()
		errs := r.askAll(t.Context(), 3*time.Second)
		if d := time.Since(began); d != 3*time.Second {
			t.Errorf("it took %v", d)
		}
		for name, err := range errs {
			p, ok := errors.AsType[*adapter.PartialError](err)
			if !ok || !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, sio.ErrAckTimeout) != (name == "clients") {
				t.Errorf("%s: %v", name, err)
				continue
			}
			nameless := strings.Contains(t.Name(), "nameless") // one answer that might be of any
			if got := names(p.Silent); nameless && (len(got) != 0 || p.Unnamed != 2) ||
				!nameless && (!slices.Equal(got, []string{"n1", "n3"}) || p.Unnamed != 0) {
				t.Errorf("%s: %v", name, err)
			}
		}
		for _, c := range clients {
			c.Take()
		}
		began = time.Now()
		got, err := r.nodes[0].FetchSockets(t.Context()) // without a deadline
		if d := time.Since(began); d != 5*time.Second || !slices.Equal(ids(got), clientIDs(clients[0], clients[2])) {
			t.Errorf("fetched %v, %v after %v", ids(got), err, d)
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		why := errors.New("not interested any more")
		time.AfterFunc(time.Second, func() { cancel(why) })
		for name, err := range r.askAll(ctx, time.Hour) {
			if !errors.Is(err, why) || errors.Is(err, sio.ErrAckTimeout) {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}

// TestNodesThatDie while they are waited for: the wait ends when that is known.
func TestNodesThatDie(t *testing.T) {
	test := func(o adaptertest.NetworkOptions, named bool, most time.Duration) func(t *testing.T) {
		return func(t *testing.T) {
			bubble(t, o, 3, func(t *testing.T, r *rig) {
				r.serversReply()
				if named {
					r.named()
				}
				r.net.Mute(2, true)
				time.AfterFunc(500*time.Millisecond, func() { r.net.Cut(2) })
				began := time.Now()
				for name, err := range r.askAll(t.Context(), time.Minute) {
					if err != nil {
						t.Errorf("%s: %v", name, err)
					}
				}
				if d := time.Since(began); d < 500*time.Millisecond || d > most {
					t.Errorf("it took %v", d)
				}
			})
		}
	}
	t.Run("census", test(adaptertest.NetworkOptions{}, true, time.Second))
	t.Run("census of strangers", test(adaptertest.NetworkOptions{}, false, time.Second))
	t.Run("nameless", test(adaptertest.NetworkOptions{Nameless: true}, true, time.Second))
	t.Run("nameless strangers", test(adaptertest.NetworkOptions{Nameless: true}, false, time.Second))
	t.Run("heartbeats", test(adaptertest.NetworkOptions{Heartbeats: true}, true, 11*time.Second))
}

// TestNodeThatLeaves while it is waited for, with a goodbye.
func TestNodeThatLeaves(t *testing.T) {
	bothKinds(t, 3, func(t *testing.T, r *rig) {
		r.named()
		r.nodes[1].OnServerEvent("q", func(_ context.Context, ev *sio.Event) error { return ev.Ack(1) })
		r.nodes[2].OnServerEvent("q", func(ctx context.Context, _ *sio.Event) error { <-ctx.Done(); return nil })
		time.AfterFunc(100*time.Millisecond, r.nodes[2].Stop)
		began := time.Now()
		var answers []string
		err := r.nodes[0].Adapter().ServerSideEmitWithAck(t.Context(), &sio.Outgoing{Payload: []byte(`["q"]`)},
			func(a sio.Args) { answers = append(answers, text(a)) })
		if err != nil || !slices.Equal(answers, []string{"1"}) || time.Since(began) > time.Second {
			t.Errorf("%q, %v after %v", answers, err, time.Since(began))
		}
	})
}

func TestClientsThatDoNotAnswer(t *testing.T) {
	allKinds(t, 3, func(t *testing.T, r *rig) {
		clients := r.clients()
		gone := r.nodes[1].Client("/")
		began := time.Now()
		go func() {
			for _, c := range append(clients, gone) {
				id := c.Asked(`["q"]`)
				switch c {
				case clients[0]:
				case gone: // says nothing, and leaves
					c.Drop()
				default:
					time.Sleep(time.Second)
					c.Send(`3`+id+`[1]`, `3`+id+`[2]`) // the second is one too many
				}
			}
		}()
		answers, errs := gather(t.Context(), r.nodes[0].To().Timeout(4*time.Second), "q")
		if !slices.Equal(answers, []string{"1", "1"}) || time.Since(began) != 4*time.Second {
			t.Errorf("answers %q after %v", answers, time.Since(began))
		}
		if len(errs) != 1 || !errors.Is(errs[0], sio.ErrAckTimeout) || !strings.Contains(errs[0].Error(), ": 2 clients did not") {
			t.Errorf("errors %v", errs)
		}
		if p, ok := errors.AsType[*adapter.PartialError](errs[0]); ok {
			t.Errorf("all nodes have answered: %v", p)
		}
		synctest.Wait()
		r.types()
		clients[1].Send(`30[1]`) // late
		synctest.Wait()
		if types := r.types(); len(types) != 0 {
			t.Errorf("published after the timeout: %v", types)
		}
	})
}

// TestNodeThatDiesBeforeItsClientsAnswer is written off with all of them.
func TestNodeThatDiesBeforeItsClientsAnswer(t *testing.T) {
	bothKinds(t, 3, func(t *testing.T, r *rig) {
		r.named()
		clients := r.clients()
		second := r.nodes[2].Client("/")
		go func() {
			second.Answer(`["q"]`, `["second"]`)
			time.Sleep(time.Second)
			r.net.Cut(2)
			time.Sleep(20 * time.Second)
			clients[0].Answer(`["q"]`, `["first"]`)
			clients[1].Answer(`["q"]`, `[]`)
		}()
		answers, errs := gather(t.Context(), r.nodes[0].To().Timeout(time.Minute), "q")
		if !slices.Equal(answers, []string{"", `"first"`, `"second"`}) || len(errs) != 0 {
			t.Errorf("answers %q, errors %v", answers, errs)
		}
	})
}

// TestNothingIsAnsweredAfterTheEnd has a caller that gives up while answers come in.
func TestNothingIsAnsweredAfterTheEnd(t *testing.T) {
	r := newRig(t, adaptertest.NetworkOptions{}, false)
	for range 3 {
		r.add(adapter.Options{})
	}
	r.Until("all are up", func() bool {
		n, err := r.nodes[0].Adapter().ServerCount(t.Context())
		return n == 3 && err == nil
	})
	r.serversReply()
	clients := r.clients()
	var wg sync.WaitGroup
	for i, c := range clients {
		wg.Go(func() { // until the client is gone
			for p, ok := c.Next(); ok; p, ok = c.Next() {
				id := strings.TrimSuffix(p[1:], `["q"]`)
				c.Send(fmt.Sprintf(`3%s[%d]`, id, i))
			}
		})
	}
	out := &sio.Outgoing{Payload: []byte(`["q"]`)}
	for range 200 {
		ctx, cancel := context.WithCancel(t.Context())
		var over atomic.Bool
		note := func() {
			if over.Load() {
				t.Error("called after the method returned")
			}
			cancel() // with the first one
		}
		var each sync.WaitGroup
		each.Go(func() {
			_ = r.nodes[0].Adapter().ServerSideEmitWithAck(ctx, out, func(sio.Args) { note() })
		})
		_ = r.nodes[0].Adapter().BroadcastWithAck(ctx, out, sio.Target{}, func(sio.Args, error) { note() })
		each.Wait()
		over.Store(true)
		cancel()
	}
	for _, c := range clients {
		c.Socket().Disconnect(true)
	}
	wg.Wait()
}

// TestDuplicates: a node that is known by name is not counted twice.
func TestDuplicates(t *testing.T) {
	for name, o := range map[string]adaptertest.NetworkOptions{"census": {Duplicate: 1}, "heartbeats": {Heartbeats: true, Duplicate: 1}} {
		t.Run(name, func(t *testing.T) {
			bubble(t, o, 3, func(t *testing.T, r *rig) {
				r.serversReply()
				clients := r.clients()
				r.named()
				r.net.Mute(2, true)
				for _, c := range clients {
					c.Take()
				}
				for name, err := range r.askAll(t.Context(), time.Second) {
					p, ok := errors.AsType[*adapter.PartialError](err)
					if !ok || !slices.Equal(names(p.Silent), []string{"n2"}) {
						t.Errorf("%s: %v", name, err)
					}
				}
				r.net.Mute(2, false)
				got, err := r.nodes[0].FetchSockets(t.Context())
				if err != nil || len(got) != 3 {
					t.Errorf("fetched %v, %v", ids(got), err)
				}
			})
		})
	}
}

// TestSomeAnswerWithoutAName: who is known by name may answer without it, and who is not, with it.
func TestSomeAnswerWithoutAName(t *testing.T) {
	bubble(t, adaptertest.NetworkOptions{}, 4, func(t *testing.T, r *rig) {
		if err := r.nodes[1].Emit(t.Context(), "hello"); err != nil { // node 0 knows one of three
			t.Fatal(err)
		}
		synctest.Wait()
		for i := 1; i < 4; i++ {
			r.net.Mute(i, true)
		}
		r.types()
		done := make(chan error)
		var got []sio.RemoteSocket
		go func() {
			var err error
			got, err = r.nodes[0].FetchSockets(t.Context())
			done <- err
		}()
		synctest.Wait()
		r.mu.Lock()
		asked := r.published[0]
		r.mu.Unlock()
		began := time.Now()
		for _, from := range []adapter.NodeID{"", "", "stranger"} { // the first is of the one that is known
			m := &adapter.Message{
				Type: adapter.FetchSocketsResponse, From: from, To: asked.From, RequestID: asked.RequestID, Sockets: make([]sio.RemoteSocket, 1),
			}
			if err := r.net.Inject(t.Context(), "/", m); err != nil {
				t.Fatal(err)
			}
		}
		if err := <-done; err != nil || len(got) != 3 || time.Since(began) != 0 {
			t.Errorf("fetched %d in %v, %v", len(got), time.Since(began), err)
		}
		want(t, r.nodes[0].dropped.All())
	})
}

// TestHostileResponses: they are bounded by what was asked for, and do no harm.
func TestHostileResponses(t *testing.T) {
	bubble(t, adaptertest.NetworkOptions{}, 2, func(t *testing.T, r *rig) {
		n := r.nodes[0]
		r.named()
		clients := r.clients()
		r.net.Mute(1, true)
		r.types()
		done := make(chan int)
		go func() {
			answers, _ := gather(t.Context(), n.To().Timeout(10*time.Second), "q")
			done <- len(answers)
		}()
		synctest.Wait()
		r.mu.Lock()
		asked := r.published[0]
		r.published = nil
		r.mu.Unlock()
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		inject := func(m adapter.Message) {
			m.To, m.RequestID = asked.From, asked.RequestID
			if err := r.net.Inject(t.Context(), "/", &m); err != nil {
				t.Fatal(err)
			}
		}
		value := sio.Raw{JSON: []byte(`"v"`)}
		for i := range 50_000 {
			from := adapter.NodeID(fmt.Sprint("x", i))
			switch i % 5 {
			case 0:
				inject(adapter.Message{Type: adapter.BroadcastAck, From: from, Value: value})
			case 1:
				inject(adapter.Message{Type: adapter.BroadcastAck, Value: value})
			case 2:
				inject(adapter.Message{Type: adapter.BroadcastClientCount, From: from, Clients: -1 << 40})
			case 3:
				inject(adapter.Message{Type: adapter.FetchSocketsResponse, From: from, Sockets: make([]sio.RemoteSocket, 10)})
			case 4:
				inject(adapter.Message{Type: adapter.BroadcastClientCount, From: from, Clients: 1 << 40})
			}
		}
		synctest.Wait()
		runtime.GC()
		runtime.ReadMemStats(&after)
		if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 24<<20 { // mostly the log of what was dropped
			t.Errorf("%d bytes more", grown)
		}
		clients[0].Answer(`["q"]`, `["own"]`)
		if n := <-done; n != 1024+1 { // what may be ahead of its announcement
			t.Errorf("%d answers", n)
		}
		if got := len(n.dropped.All()); got != 50_000-1024 {
			t.Errorf("%d were dropped", got)
		}
		inject(adapter.Message{Type: adapter.BroadcastAck, Value: value}) // late, which is nobody's fault
		synctest.Wait()
		if got := len(n.dropped.All()); got != 50_000-1024 {
			t.Errorf("%d were dropped", got)
		}
		r.net.Mute(1, false)
		if got, err := n.FetchSockets(t.Context()); err != nil || len(got) != 2 {
			t.Errorf("afterwards: fetched %v, %v", ids(got), err)
		}
	})
}

// countless is a bus whose census fails.
type countless struct {
	adapter.Bus
	err error
}

func (b countless) Count(context.Context, []adapter.NodeID) (int, []adapter.NodeID, error) {
	return 0, nil, b.err
}

// TestCensusFails: those that are known are asked nevertheless.
func TestCensusFails(t *testing.T) {
	for _, broken := range []error{errors.New("broken"), nil} {
		t.Run(fmt.Sprint(broken), func(t *testing.T) {
			bubble(t, adaptertest.NetworkOptions{}, 0, func(t *testing.T, r *rig) {
				o := adapter.Options{Hooks: new(node).hooks()}
				n := r.Server(&sio.Options{Adapter: adapter.Cluster(
					func(ctx context.Context, local *sio.Local, self adapter.NodeID) (adapter.Bus, error) {
						b, err := r.net.Open(0)(ctx, local, self)
						return countless{b, broken}, err
					}, &o)})
				synctest.Wait()
				r.nodes = []*node{{Server: n}}
				r.add(adapter.Options{})
				synctest.Wait()
				far := r.nodes[1].Client("/")
				for name, err := range r.askAll(t.Context(), time.Second) { // it has not heard of the other
					if err == nil || broken != nil && !errors.Is(err, broken) {
						t.Errorf("%s: %v", name, err)
					}
				}
				far.Asked(`["q"]`)
				if err := r.nodes[1].Emit(t.Context(), "hello"); err != nil {
					t.Error(err)
				}
				synctest.Wait()
				got, err := n.FetchSockets(t.Context())
				if err == nil || !slices.Equal(ids(got), []string{far.ID}) {
					t.Errorf("fetched %v, %v", ids(got), err)
				}
			})
		})
	}
}
