package redis_test

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/seed-0b620db0/patchbay/internal/redistest"
	"github.com/seed-0b620db0/patchbay/pkg/adapter"
	"github.com/seed-0b620db0/patchbay/pkg/adapter/internal/lab"
	"github.com/seed-0b620db0/patchbay/pkg/adapter/redis"
)

func TestTwoNodes(t *testing.T) {
	l := newLab(t)
	s := redistest.Start(t)
	resp2 := goredis.NewClient(&goredis.Options{Addr: s.Addr(), Protocol: 2})
	t.Cleanup(func() { _ = resp2.Close() })
	a, b := newNode(l, s.Client(t), redis.Options{}), newNode(l, resp2, redis.Options{})
	ca, cb := a.Client("/", "r"), b.Client("/", "r")

	must(t, a.Emit(t.Context(), "all", 1))
	ca.Want(`2["all",1]`)
	cb.Want(`2["all",1]`)
	must(t, b.To("r").Except(ca.ID).Emit(t.Context(), "room", []byte{1, 2}))
	cb.Want(`51-["room",{"_placeholder":true,"num":0}]`, "bin:\x01\x02")
	must(t, b.To("elsewhere").Emit(t.Context(), "nobody"))
	must(t, a.In("r").SocketsJoin(t.Context(), "x*"))
	l.Until("joined", func() bool { return slices.Contains(slices.Collect(cb.Socket().Rooms()), "x*") })
	must(t, a.To("x*").Emit(t.Context(), "x"))
	ca.Want(`2["x"]`)
	cb.Want(`2["x"]`)

	sockets, err := a.FetchSockets(t.Context())
	if err != nil || len(sockets) != 2 {
		t.Errorf("got %d sockets, %v", len(sockets), err)
	}
	if n, err := b.ServerCount(); n != 2 || err != nil {
		t.Errorf("%d servers, %v", n, err)
	}
	answers := 0
	go cb.Answer(`["ask"]`, `["b"]`)
	go ca.Answer(`["ask"]`, `["a"]`)
	for _, err := range a.EmitWithAck(t.Context(), "ask") {
		must(t, err)
		answers++
	}
	if answers != 2 {
		t.Errorf("%d answers", answers)
	}
	if a.Failed.Load()+b.Failed.Load()+a.Dropped.Load()+b.Dropped.Load() > 0 {
		t.Error("failed or dropped:", a.Faults.All(), b.Faults.All())
	}
	if a.Published.Load() == 0 || b.Received.Load() == 0 {
		t.Error("the hooks were not told")
	}
	b.Stop()
	a.AwaitNodes(1)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestOrder emits to rooms, to all, and in namespaces whose names begin each other.
func TestOrder(t *testing.T) {
	l := newLab(t)
	s := redistest.Start(t)
	a, b := newNode(l, s.Client(t), redis.Options{}), newNode(l, s.Client(t), redis.Options{})
	c := b.Client("/", "r1", "r2")
	const n = 5000
	for i := range n {
		switch i % 3 {
		case 0:
			must(t, a.Emit(t.Context(), lab.Numbered, i))
		case 1:
			must(t, a.To("r1").Emit(t.Context(), lab.Numbered, i))
		case 2:
			must(t, a.To("r1", "r2").Emit(t.Context(), lab.Numbered, i))
		}
	}
	for i := range n {
		c.Want(fmt.Sprintf(`2["n",%d]`, i))
	}
}

// TestSmallInbox has room for less than one message.
func TestSmallInbox(t *testing.T) {
	l := newLab(t)
	s := redistest.Start(t)
	a, b := newNode(l, s.Client(t), redis.Options{}), newNode(l, s.Client(t), redis.Options{MaxInboxBytes: 1})
	b.Of("/other")
	c := b.Client("/")
	for i := range 1000 {
		must(t, a.Emit(t.Context(), lab.Numbered, i))
	}
	for i := range 1000 {
		c.Want(fmt.Sprintf(`2["n",%d]`, i))
	}
}

func TestNamespaces(t *testing.T) {
	l := newLab(t)
	s := redistest.Start(t)
	a, b := newNode(l, s.Client(t), redis.Options{Key: "k*"}), newNode(l, s.Client(t), redis.Options{Key: "k*"})
	names := []string{"/a", "/a#b", "/*", `/[a]\`, "/?"}
	clients := make([]*lab.Client, len(names))
	for i, name := range names {
		a.Of(name)
		b.Of(name)
		a.AwaitUp(name)
		b.AwaitUp(name)
		clients[i] = b.Client(name, "r", "b")
	}
	for i, name := range names {
		must(t, a.Of(name).Emit(t.Context(), lab.Numbered, i))
		must(t, a.Of(name).To("b").Emit(t.Context(), lab.Numbered, i))
	}
	for i, c := range clients {
		c.Want(fmt.Sprintf(`2["n",%d]`, i), fmt.Sprintf(`2["n",%d]`, i))
		if more := c.Take(); len(more) > 0 {
			t.Errorf("%s: got %q", names[i], more)
		}
	}
	if got := b.Dropped.Load(); got > 0 {
		t.Errorf("%d dropped: %q", got, b.Faults.All())
	}
}

// TestManyNamespaces has them on one connection, and what they subscribed to is gone with them.
func TestManyNamespaces(t *testing.T) {
	l := newLab(t)
	s := redistest.Start(t)
	rdb := s.Client(t)
	a := newNode(l, rdb, redis.Options{})
	b := newNode(l, s.Client(t), redis.Options{})
	const n = 2000
	begin := time.Now()
	for i := range n {
		a.Of(fmt.Sprintf("/n%d", i))
		b.Of(fmt.Sprintf("/n%d", i))
	}
	for i := range n {
		a.AwaitUp(fmt.Sprintf("/n%d", i))
		b.AwaitUp(fmt.Sprintf("/n%d", i))
	}
	t.Logf("%d namespaces are up after %v", 2*n, time.Since(begin))
	if got := pubsubClients(t, s); len(got) != 2 {
		t.Fatalf("connections:\n%s", strings.Join(got, ""))
	}
	for range 20 {
		ns := fmt.Sprintf("/n%d", rand.IntN(n))
		c := b.Client(ns)
		must(t, a.Of(ns).Emit(t.Context(), lab.Numbered, 1))
		c.Want(`2["n",1]`)
	}

	_, err := s.Do("CLIENT", "KILL", "TYPE", "pubsub")
	must(t, err)
	begin = time.Now()
	a.AwaitDown(1)
	for i := range n {
		a.AwaitUp(fmt.Sprintf("/n%d", i))
		b.AwaitUp(fmt.Sprintf("/n%d", i))
	}
	t.Logf("they are up again after %v", time.Since(begin))
	if got := pubsubClients(t, s); len(got) != 2 {
		t.Fatalf("connections:\n%s", strings.Join(got, ""))
	}
	a.Stop()
	b.Stop()
	l.Until("no subscriptions are left", func() bool {
		channels, err := rdb.PubSubChannels(t.Context(), "*").Result()
		patterns, err2 := rdb.PubSubNumPat(t.Context()).Result()
		return err == nil && err2 == nil && len(channels) == 0 && patterns == 0
	})
}

// TestNamespaceComesAndGoes makes a namespace on demand, and ends it with its last socket, again and again.
func TestNamespaceComesAndGoes(t *testing.T) {
	l := newLab(t)
	s := redistest.Start(t)
	rdb := s.Client(t)
	a, b := newNode(l, s.Client(t), redis.Options{}), newNode(l, s.Client(t), redis.Options{})
	for _, n := range []*node{a, b} {
		n.OfRegexp(regexp.MustCompile(`^/child$`))
	}
	for range 30 {
		ca, cb := a.Client("/child"), b.Client("/child")
		l.Until("delivery", func() bool {
			_ = a.Of("/child").Emit(t.Context(), "hello") // its bus may not be up yet
			return len(cb.Take()) > 0
		})
		ca.Send("1")
		cb.Send("1")
	}
	l.Until("only / is left", func() bool {
		channels, err := rdb.PubSubChannels(t.Context(), "socket.io-re*").Result()
		patterns, err2 := rdb.PubSubNumPat(t.Context()).Result()
		return err == nil && err2 == nil && len(channels) == 4 && patterns == 1
	})
}

// TestReady asks all nodes while others come: none is counted before it can answer.
func TestReady(t *testing.T) {
	l := newLab(t)
	s := redistest.Start(t)
	a := newNode(l, s.Client(t), redis.Options{})
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for n := 0; ; n++ {
			select {
			case <-stop:
				t.Logf("asked %d times", n)
				return
			default:
			}
			if _, err := a.FetchSockets(t.Context()); err != nil {
				t.Error(err)
			}
		}
	}()
	for range 15 {
		newNode(l, s.Client(t), redis.Options{})
	}
	close(stop)
	<-done
}

// TestHostile publishes rubbish on all channels.
func TestHostile(t *testing.T) {
	l := newLab(t)
	s := redistest.Start(t)
	rdb := s.Client(t)
	a := newNode(l, s.Client(t), redis.Options{MaxMessageBytes: 1 << 20})
	c := a.Client("/")
	faults := int64(0)
	for _, channel := range []string{"socket.io#/#", "socket.io-request#/#", "socket.io-response#/#"} {
		for _, payload := range []string{"", "\xc1", "{", "[", strings.Repeat("\x91", 1<<16), strings.Repeat("[", 1<<16), `{"type":99,"requestId":"1"}`} {
			must(t, rdb.Publish(t.Context(), channel, payload).Err())
			faults++
		}
		must(t, rdb.Publish(t.Context(), channel, make([]byte, 2<<20)).Err())
		faults++
	}
	must(t, rdb.Publish(t.Context(), "socket.io#/#unknown#", "\xc1").Err()) // is not even looked at
	keys, err := rdb.PubSubChannels(t.Context(), "socket.io-canary#*").Result()
	if err != nil || len(keys) != 1 {
		t.Fatal(keys, err)
	}
	for _, payload := range []string{"", "x", "-1", "99999999999999999999999", "9223372036854775807", "1"} {
		must(t, rdb.Publish(t.Context(), keys[0], payload).Err())
	}
	must(t, rdb.Publish(t.Context(), "socket.io#/#", `["a",{"type":2,"data":["ev"],"nsp":"/"},{"rooms":[],"except":[]}]`).Err())
	c.Want(`2["ev"]`)
	if got := a.Dropped.Load(); got != faults {
		t.Errorf("%d dropped, want %d:\n%s", got, faults, strings.Join(a.Faults.All(), "\n"))
	}
	if err := a.Emit(t.Context(), "large", strings.Repeat("x", 1<<20)); err == nil || a.Failed.Load() != 1 {
		t.Errorf("a large message: %v, %d failed", err, a.Failed.Load())
	}
	if err := a.State("/"); err != nil {
		t.Error(err)
	}
}

// TestOldRequests asks what servers before 8.0 do, by hand.
func TestOldRequests(t *testing.T) {
	l := newLab(t)
	s := redistest.Start(t)
	rdb := s.Client(t)
	for _, specific := range []bool{false, true} {
		channel := "socket.io-response#/#"
		if specific {
			channel += "OLDNOD#"
		}
		a := newNode(l, s.Client(t), redis.Options{SpecificResponseChannel: specific, Cluster: adapter.Options{Node: "a"}})
		c := a.Client("/", "r")
		sub := rdb.Subscribe(t.Context(), channel)
		defer sub.Close()
		receive(t, sub)
		for _, q := range [][2]string{
			{`{"uid":"OLDNOD","requestId":"1","type":0,"rooms":["r"]}`, `{"requestId":"1","sockets":["` + c.ID + `"],"uid":`},
			{`{"uid":"OLDNOD","requestId":"2","type":0,"rooms":["none"]}`, `{"requestId":"2","sockets":[],"uid":`},
			{`{"uid":"OLDNOD","requestId":"3","type":1}`, `{"requestId":"3","rooms":["r","` + c.ID + `"],"uid":`},
			{`{"uid":"OLDNOD","requestId":"4","type":2,"sid":"` + c.ID + `","room":"x"}`, `{"requestId":"4","uid":`},
			{`{"uid":"OLDNOD","requestId":"5","type":3,"sid":"` + c.ID + `","room":"r"}`, `{"requestId":"5","uid":`},
			{`{"uid":"OLDNOD","requestId":"6","type":2,"sid":"unknown","room":"x"}`, ``},
			{`{"uid":"OLDNOD","requestId":"7","type":4,"sid":"` + c.ID + `","close":false}`, `{"requestId":"7","uid":`},
		} {
			must(t, rdb.Publish(t.Context(), "socket.io-request#/#", q[0]).Err())
			if q[1] == "" {
				continue
			}
			if got := receive(t, sub); !strings.HasPrefix(got, q[1]) {
				t.Errorf("asked %s: got %s, want %s", q[0], got, q[1])
			}
			if q[1] == `{"requestId":"5","uid":` {
				if rooms := slices.Sorted(c.Socket().Rooms()); !slices.Contains(rooms, "x") || slices.Contains(rooms, "r") {
					t.Errorf("rooms %q", rooms)
				}
			}
		}
		c.Want("1")
		a.Stop()
	}
}

// receive returns the next message, or "" for what confirms a subscription.
func receive(t testing.TB, sub *goredis.PubSub) string {
	t.Helper()
	got, err := sub.ReceiveTimeout(t.Context(), redistest.Patience)
	if err != nil {
		t.Fatal(err)
	}
	if m, ok := got.(*goredis.Message); ok {
		return m.Payload
	}
	return ""
}
