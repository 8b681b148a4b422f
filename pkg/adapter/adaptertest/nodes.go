package adaptertest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/seed-0b620db0/patchbay/pkg/adapter"
	"github.com/seed-0b620db0/patchbay/pkg/sio"
)

// namespaces has several at once, with names that one pattern may match.
func namespaces(s *suite) {
	names := []string{"/", "/a", "/a#b", "/a*", "/[a]", "/ü é", "/" + strings.Repeat("n", 100)}
	for _, ns := range names {
		for _, n := range s.nodes {
			n.Of(ns)
		}
	}
	for _, ns := range names {
		s.ready(ns)
		s.one(ns, "room", "b")
	}
	for i, ns := range names {
		n := s.nodes[i%3]
		s.must(n.Of(ns).Emit(s.ctx(), "e", i))
		s.must(n.Of(ns).To("room").Emit(s.ctx(), "r", i))
		s.must(n.Of(ns).SocketsJoin(s.ctx(), "joined"))
		got, err := n.Of(ns).FetchSockets(s.ctx())
		if err != nil || len(got) != 3 {
			s.Errorf("%s: fetched %d, %v", ns, len(got), err)
		}
		for _, other := range names {
			packets := s.got(n, other)
			for k, c := range s.clients[other] {
				var want []string
				if other == ns {
					want = []string{fmt.Sprintf(`2["e",%d]`, i), fmt.Sprintf(`2["r",%d]`, i)}
				}
				if !slices.Equal(packets[c], want) || c.Socket().In("joined") != (slices.Index(names, other) <= i) {
					s.Errorf("sent in %s: client %d of %s got %q, want %q", ns, k, other, packets[c], want)
				}
			}
		}
	}
}

// namespacesOnDemand has namespaces come and go with their clients, on some nodes only.
func namespacesOnDemand(s *suite) {
	for _, n := range s.nodes {
		n.OfRegexp(regexp.MustCompile(`^/d`))
	}
	for range 3 {
		for i := range 5 {
			ns := fmt.Sprint("/d", i)
			a := s.nodes[0].Client(ns)
			b := s.nodes[1].Client(ns)
			s.readyNodes(ns, s.nodes[:2]...)
			s.must(s.nodes[0].Of(ns).Emit(s.ctx(), "both"))
			a.Want(`2["both"]`)
			b.Want(`2["both"]`)
			a.Drop()
			s.readyNodes(ns, s.nodes[1])
			got, err := s.nodes[1].Of(ns).FetchSockets(s.ctx())
			if err != nil || len(got) != 1 {
				s.Errorf("fetched %d, %v", len(got), err)
			}
			b.Drop()
		}
	}
	for _, n := range s.nodes {
		s.Until("only the main namespace is left", func() bool { return len(n.Namespaces()) == 1 })
	}
}

// asking makes all kinds of requests of node 0 that the last node does not answer, and returns when they have ended.
func (s *suite) asking(meanwhile func()) map[string]error {
	last := s.nodes[len(s.nodes)-1]
	for _, n := range s.nodes {
		n.OnServerEvent("q", func(ctx context.Context, ev *sio.Event) error {
			if n == last {
				<-ctx.Done()
			}
			return ev.Ack(1)
		})
	}
	clients := s.clients["/"]
	var (
		mu   sync.Mutex
		errs = make(map[string]error)
		all  sync.WaitGroup
	)
	put := func(what string, err error) {
		mu.Lock()
		defer mu.Unlock()
		errs[what] = err
	}
	ctx, cancel := context.WithTimeout(s.ctx(), time.Minute)
	defer cancel()
	a := s.nodes[0].Adapter()
	all.Go(func() {
		put("servers", a.ServerSideEmitWithAck(ctx, &sio.Outgoing{Payload: []byte(`["q"]`)}, func(sio.Args) {}))
	})
	all.Go(func() {
		ctx := ctx
		if s.Nameless {
			var cancel func()
			ctx, cancel = context.WithTimeout(ctx, short)
			defer cancel()
		}
		err := a.BroadcastWithAck(ctx, &sio.Outgoing{Payload: []byte(question)}, sio.Target{}, func(sio.Args, error) {})
		if s.Nameless && errors.Is(err, sio.ErrAckTimeout) {
			err = nil
		}
		put("clients", err)
	})
	for i, c := range clients {
		if id := c.Asked(question); i < len(clients)-1 {
			c.Send("3" + id + "[]")
		}
	}
	meanwhile()
	all.Wait()
	return errs
}

// nodeLeaves in the middle of requests: nobody waits for it.
func nodeLeaves(s *suite) {
	s.one("/")
	for what, err := range s.asking(s.nodes[2].Stop) {
		if err != nil {
			s.Errorf("%s: %v", what, err)
		}
	}
	s.without(2)
}

// without checks that all is well without a node.
func (s *suite) without(i int) {
	s.Helper()
	s.nodes = slices.Delete(s.nodes, i, i+1)
	s.forget(s.clients["/"][i])
	s.ready("/")
	got, err := s.nodes[0].FetchSockets(s.ctx())
	if err != nil || len(got) != len(s.clients["/"]) {
		s.Errorf("fetched %d, %v", len(got), err)
	}
	s.must(s.nodes[1].Emit(s.ctx(), "e"))
	s.reaches("who is left", s.nodes[1], `2["e"]`, s.clients["/"]...)
}

// nodeDies in the middle of requests, without a goodbye.
func nodeDies(s *suite) {
	if s.Cut == nil {
		s.Skip("its links cannot be cut")
	}
	s.one("/")
	for what, err := range s.asking(func() { s.Cut(2) }) {
		if err != nil {
			s.Errorf("%s: %v", what, err)
		}
	}
	s.without(2)
}

// nodeComes and is part of all that follows.
func nodeComes(s *suite) {
	s.one("/", "room")
	s.start(1)
	s.client(s.nodes[3], "/", "room")
	for i, n := range s.nodes {
		s.must(n.To("room").Emit(s.ctx(), "e", i))
		s.reaches(fmt.Sprint("node ", i), n, fmt.Sprintf(`2["e",%d]`, i), s.clients["/"]...)
		got, err := n.FetchSockets(s.ctx())
		if err != nil || len(got) != 4 {
			s.Errorf("node %d: fetched %d, %v", i, len(got), err)
		}
	}
}

// busBreaks: its node serves its own clients, tells its callers, and is back when the bus is.
func busBreaks(s *suite) {
	if s.Cut == nil {
		s.Skip("its links cannot be cut")
	}
	clients := s.one("/", "room")
	heal := s.Cut(1)
	n := s.nodes[1]
	s.Until("the node knows", func() bool { return !n.isUp("/") })
	if err := n.Emit(s.ctx(), "alone"); !errors.Is(err, adapter.ErrDown) {
		s.Errorf("emit: %v", err)
	}
	clients[1].Want(`2["alone"]`)
	began := time.Now()
	got, err := n.FetchSockets(s.ctx())
	if len(got) != 1 || !errors.Is(err, adapter.ErrDown) || time.Since(began) > short {
		s.Errorf("fetched %d, %v after %v", len(got), err, time.Since(began))
	}
	clients[1].Socket().Join("meanwhile")
	heal()
	s.ready("/")
	s.reachable(clients[1], "/", "room", "meanwhile")
	for i, n := range s.nodes {
		s.must(n.To("room").Emit(s.ctx(), "e", i))
		s.reaches(fmt.Sprint("node ", i), n, fmt.Sprintf(`2["e",%d]`, i), clients...)
		got, err := n.FetchSockets(s.ctx())
		if err != nil || len(got) != 3 {
			s.Errorf("node %d: fetched %d, %v", i, len(got), err)
		}
	}
}

// hostile messages are dropped, which is told, and do no harm.
func hostile(s *suite) {
	if s.Hostile == nil {
		s.Skip("nothing hostile can be sent")
	}
	clients := s.one("/", "room")
	for range 3 {
		s.Hostile("/")
		for i, n := range s.nodes {
			s.must(n.To("room").Emit(s.ctx(), "e", i))
			s.reaches(fmt.Sprint("node ", i), n, fmt.Sprintf(`2["e",%d]`, i), clients...)
			got, err := n.FetchSockets(s.ctx())
			if err != nil || len(got) != 3 {
				s.Errorf("node %d: fetched %d, %v", i, len(got), err)
			}
		}
	}
	for i, n := range s.nodes {
		n.mu.Lock()
		dropped, lost := len(n.dropped), n.lost
		n.mu.Unlock()
		if dropped == 0 || lost > 0 {
			s.Errorf("node %d: %d messages dropped, the bus was lost %d times", i, dropped, lost)
		}
	}
}

// everything has the nodes do all there is to do at once, and checks that they are well afterwards.
func everything(s *suite) {
	var all, answering sync.WaitGroup
	for i, n := range s.nodes {
		n.OnServerEvent("q", func(_ context.Context, ev *sio.Event) error {
			if ev.NeedsAck() {
				return ev.Ack(i)
			}
			return nil
		})
		c := n.Client("/")
		answering.Go(func() {
			for p, ok := c.Next(); ok && p != "1"; p, ok = c.Next() {
				if id, asks := strings.CutSuffix(p, question); asks {
					c.Send("3" + id[1:] + "[1]")
				}
			}
		})
	}
	for i, n := range s.nodes {
		for g := range 2 {
			all.Go(func() {
				rnd := rand.New(rand.NewPCG(uint64(i), uint64(g))) //nolint:gosec // a test that can be had again
				for range 50 {
					s.act(n, rnd)
				}
			})
		}
	}
	all.Wait()
	s.must(s.nodes[0].DisconnectSockets(s.ctx(), false))
	answering.Wait()
	clients := s.one("/", "room")
	for i, n := range s.nodes {
		s.must(n.To("room").Emit(s.ctx(), "e", i))
		s.reaches(fmt.Sprint("node ", i), n, fmt.Sprintf(`2["e",%d]`, i), clients...)
	}
}

func (s *suite) act(n *node, rnd *rand.Rand) {
	room := fmt.Sprint(rnd.IntN(3))
	switch rnd.IntN(6) {
	case 0:
		s.must(n.To(room).SocketsLeave(s.ctx(), room))
	case 1:
		s.must(n.SocketsJoin(s.ctx(), room))
	case 2:
		if got, err := n.FetchSockets(s.ctx()); len(got) != len(s.nodes) || err != nil {
			s.Errorf("fetched %d, %v", len(got), err)
		}
	case 3:
		if _, errs := gather(s.ctx(), n.To(room)); len(errs) > 0 {
			s.Errorf("acknowledgements: %v", errs)
		}
	case 4:
		if err := n.Adapter().ServerSideEmitWithAck(s.ctx(), &sio.Outgoing{Payload: []byte(`["q"]`)}, func(sio.Args) {}); err != nil {
			s.Errorf("server event: %v", err)
		}
	default:
		s.must(n.Except(room).Emit(s.ctx(), "e"))
	}
}
