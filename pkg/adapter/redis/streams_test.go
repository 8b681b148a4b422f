package redis_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/seed-0b620db0/patchbay/internal/redistest"
	"github.com/seed-0b620db0/patchbay/pkg/adapter"
	"github.com/seed-0b620db0/patchbay/pkg/adapter/internal/lab"
	"github.com/seed-0b620db0/patchbay/pkg/adapter/redis"
	"github.com/seed-0b620db0/patchbay/pkg/sio"
)

// startStreams starts a server over streams and does not wait for its bus.
func startStreams(l *lab.Lab, rdb goredis.UniversalClient, o redis.StreamsOptions) *node {
	n := l.NewNode()
	o.Cluster = adapter.Options{MaxBackoff: 200 * time.Millisecond, Hooks: n.Hooks()}
	o.CanaryInterval, o.CanaryTimeout = 200*time.Millisecond, 2*time.Second
	n.Serve(redis.NewStreams(rdb, &o))
	return n
}

func newStreamsNode(l *lab.Lab, rdb goredis.UniversalClient, o redis.StreamsOptions) *node {
	l.Helper()
	n := startStreams(l, rdb, o)
	n.AwaitUp("/")
	return n
}

// wantNumbers reads numbers up to the one before end, each once and in order.
func wantNumbers(t *testing.T, c *lab.Client, from, end int) {
	t.Helper()
	for i := from; i < end; i++ {
		p, _ := c.Next()
		if got, ok := lab.Number(p); !ok || got != i {
			t.Fatalf("got %q, want number %d", p, i)
		}
	}
}

func xadd(t *testing.T, rdb goredis.UniversalClient, stream string, fields ...string) string {
	t.Helper()
	id, err := rdb.XAdd(t.Context(), &goredis.XAddArgs{Stream: stream, Values: fields}).Result()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// A node gets what is published from the moment on that it is up, and nothing older.
func TestStreamsBeginAtTheEnd(t *testing.T) {
	l := newLab(t)
	s := redistest.Start(t)
	rdb := s.Client(t)
	const event = `{"packet":{"type":2,"data":["%s"]},"opts":{"rooms":[],"except":[],"flags":{}}}`
	for range 3 {
		xadd(t, rdb, "socket.io", "uid", "x", "nsp", "/", "type", "3", "data", fmt.Sprintf(event, "old"))
		a := newStreamsNode(l, rdb, redis.StreamsOptions{})
		c := a.Client("/")
		xadd(t, rdb, "socket.io", "uid", "x", "nsp", "/", "type", "3", "data", fmt.Sprintf(event, "new"))
		c.Want(`2["new"]`)
		begin := time.Now()
		a.Stop()
		if d := time.Since(begin); d > 2*time.Second {
			t.Errorf("closing took %v", d)
		}
	}
}

// What is published while a node is cut off is not lost, nor what its reader alone misses.
func TestStreamsCatchUp(t *testing.T) {
	for _, o := range []redis.StreamsOptions{{ReadCount: 7}, {ReadCount: 7, StreamCount: 3, UseShardedPubSub: true}} {
		t.Run(fmt.Sprint(o.StreamCount), func(t *testing.T) {
			l := newLab(t)
			s := redistest.Start(t)
			proxy := redistest.NewProxy(t, s.Addr())
			a, b := newStreamsNode(l, client(t, proxy.Addr()), o), newStreamsNode(l, s.Client(t), o)
			for _, n := range []*node{a, b} {
				n.Of("/chat")
				n.AwaitUp("/chat")
			}
			c, other := a.Client("/"), a.Client("/chat")
			i := 0
			emit := func(n int) {
				t.Helper()
				for range n {
					must(t, b.Emit(t.Context(), lab.Numbered, i))
					must(t, b.Of("/chat").Emit(t.Context(), lab.Numbered, i))
					i++
				}
			}
			emit(20)
			for round := range 3 {
				proxy.Refuse(true)
				proxy.Cut()
				a.AwaitDown(round + 1)
				emit(50)
				proxy.Refuse(false)
				emit(50)
				a.AwaitUp("/")
				emit(20)
			}
			wantNumbers(t, c, 0, i)
			wantNumbers(t, other, 0, i)

			// The reader's connection alone.
			downs := len(a.Downs())
			for range 3 {
				var readers []string // ids of their connections
				l.Until("readers wait", func() bool {
					readers = nil
					list, err := s.Do("CLIENT", "LIST", "TYPE", "normal")
					must(t, err)
					for line := range strings.Lines(strings.TrimPrefix(fmt.Sprint(list), "txt:")) {
						if fields := strings.Fields(line); strings.Contains(line, "cmd=xread") {
							readers = append(readers, strings.TrimPrefix(fields[0], "id="))
						}
					}
					return len(readers) >= 2
				})
				for _, id := range readers {
					_, err := s.Do("CLIENT", "KILL", "ID", id)
					must(t, err)
				}
				start := i
				emit(30)
				wantNumbers(t, c, start, i)
				wantNumbers(t, other, start, i)
			}
			if got := a.Downs(); len(got) != downs {
				t.Error("down:", got[downs:])
			}
			if a.Dropped.Load() > 0 {
				t.Error("dropped:", a.Faults.All())
			}
		})
	}
}

// An entry that is on its way to a bus when that fails is handled, or read again.
func TestStreamsHandOver(t *testing.T) {
	for range 10_000 {
		if noted, taken := redis.HandOver(); noted != taken {
			t.Fatalf("noted: %v, taken: %v", noted, taken)
		}
	}
}

// What was trimmed before a node could read it is told.
func TestStreamsTrimmed(t *testing.T) {
	l := newLab(t)
	s := redistest.Start(t)
	rdb := s.Client(t)
	proxy := redistest.NewProxy(t, s.Addr())
	a, b := newStreamsNode(l, client(t, proxy.Addr()), redis.StreamsOptions{}), newStreamsNode(l, rdb, redis.StreamsOptions{})
	c := a.Client("/")
	must(t, b.Emit(t.Context(), lab.Numbered, 0))
	wantNumbers(t, c, 0, 1)
	proxy.Refuse(true)
	proxy.Cut()
	a.AwaitDown(1)
	for i := range 20 {
		must(t, b.Emit(t.Context(), lab.Numbered, 1+i))
	}
	l.Until("written", func() bool { return rdb.XLen(t.Context(), "socket.io").Val() == 21 })
	must(t, rdb.XTrimMaxLen(t.Context(), "socket.io", 5).Err())
	proxy.Refuse(false)
	wantNumbers(t, c, 16, 21)
	if got := a.Faults.All(); len(got) != 1 || !strings.Contains(got[0], redis.ErrTrimmed.Error()) {
		t.Errorf("reported: %q", got)
	}
}

// A Redis that has forgotten all is as good as a new one.
func TestStreamsRestart(t *testing.T) {
	l := newLab(t)
	s := redistest.Start(t)
	a, b := newStreamsNode(l, s.Client(t), redis.StreamsOptions{}), newStreamsNode(l, s.Client(t), redis.StreamsOptions{})
	c := a.Client("/")
	i := 0
	for range 10 {
		must(t, b.Emit(t.Context(), lab.Numbered, i))
		i++
	}
	wantNumbers(t, c, 0, i)
	s.Restart(t)
	a.AwaitDown(1)
	a.AwaitUp("/")
	b.AwaitUp("/")
	i = l.Eventually(b, c, i)
	for _, act := range []func() error{
		func() error { _, err := s.Do("DEL", "socket.io"); return err },
		func() error { _, err := s.Do("FLUSHALL"); return err },
		func() error { _, err := s.Do("XTRIM", "socket.io", "MAXLEN", 0); return err },
	} {
		must(t, act())
		i = l.Eventually(b, c, i+1)
	}
}

// A key that is no stream makes the node deaf, and it says so.
func TestStreamsWrongType(t *testing.T) {
	l := newLab(t)
	s := redistest.Start(t)
	rdb := s.Client(t)
	must(t, rdb.Set(t.Context(), "socket.io", "x", 0).Err())
	a := startStreams(l, rdb, redis.StreamsOptions{Timeout: 300 * time.Millisecond, BlockTime: 200 * time.Millisecond})
	a.Of("/")
	l.Until("told", func() bool { err := a.State("/"); return err != nil && strings.Contains(err.Error(), "WRONGTYPE") })
	must(t, rdb.Del(t.Context(), "socket.io").Err())
	a.AwaitUp("/")
	c := a.Client("/")
	b := newStreamsNode(l, s.Client(t), redis.StreamsOptions{})
	next := l.Eventually(b, c, 0) + 1

	must(t, rdb.Set(t.Context(), "socket.io", "x", 0).Err())
	l.Until("told", func() bool { err := a.State("/"); return err != nil && strings.Contains(err.Error(), "WRONGTYPE") })
	if err := a.Emit(t.Context(), "x"); !errors.Is(err, adapter.ErrDown) {
		t.Error(err)
	}
	must(t, rdb.Del(t.Context(), "socket.io").Err())
	a.AwaitUp("/")
	l.Eventually(b, c, next)
}

// Who may not read says so, even if all else works.
func TestStreamsMayNotRead(t *testing.T) {
	l := newLab(t)
	s := redistest.Start(t)
	_, err := s.Do("ACL", "SETUSER", "default", "-xread")
	must(t, err)
	a := startStreams(l, s.Client(t), redis.StreamsOptions{Timeout: 300 * time.Millisecond})
	a.Of("/")
	l.Until("told", func() bool { err := a.State("/"); return err != nil && strings.Contains(err.Error(), "NOPERM") })
	_, err = s.Do("ACL", "SETUSER", "default", "+xread")
	must(t, err)
	a.AwaitUp("/")
}

// A namespace whose hash is negative: official nodes write where none of them reads, and read what we write.
func TestStreamsNegativeHash(t *testing.T) {
	l := newLab(t)
	s := redistest.Start(t)
	rdb := s.Client(t)
	a, b := newStreamsNode(l, rdb, redis.StreamsOptions{StreamCount: 4}), newStreamsNode(l, rdb, redis.StreamsOptions{StreamCount: 4})
	const ns = "/notifications"
	for _, n := range []*node{a, b} {
		n.Of(ns)
		n.AwaitUp(ns)
	}
	c := a.Client(ns)
	must(t, b.Of(ns).Emit(t.Context(), "ours"))
	c.Want(`2["ours"]`)
	if n := rdb.XLen(t.Context(), "socket.io-3").Val(); n != 1 {
		t.Errorf("%d entries where official nodes read", n)
	}
	const event = `{"packet":{"type":2,"data":["theirs"]},"opts":{"rooms":[],"except":[],"flags":{}}}`
	for _, stream := range []string{"socket.io--3", "socket.io-0", "socket.io-1", "socket.io-2", "socket.io-3"} {
		xadd(t, rdb, stream, "uid", "official", "nsp", ns, "type", "3", "data", event)
		c.Want(`2["theirs"]`)
	}
}

// Emitters, and nodes of version 0.2, put everything into the stream.
func TestStreamsEmittersAndOldNodes(t *testing.T) {
	l := newLab(t)
	s := redistest.Start(t)
	rdb := s.Client(t)
	a := newStreamsNode(l, rdb, redis.StreamsOptions{})
	c := a.Client("/", "r1")
	events := make(chan string, 10)
	a.OnServerEvent("hello", func(_ context.Context, ev *sio.Event) error {
		var name string
		err := ev.Args().Decode(&name)
		events <- name
		return err
	})
	add := func(uid, kind, data string) {
		t.Helper()
		fields := []string{"uid", uid, "nsp", "/", "type", kind}
		if data != "" {
			fields = append(fields, "data", data)
		}
		xadd(t, rdb, "socket.io", fields...)
	}
	add("emitter", "3", `{"packet":{"type":2,"data":["e",1],"nsp":"/"},"opts":{"rooms":["r1"],"flags":{},"except":[]}}`)
	c.Want(`2["e",1]`)
	add("emitter", "4", `{"opts":{"rooms":[],"except":[],"flags":{}},"rooms":["z"]}`)
	l.Until("joined", func() bool { return slices.Contains(slices.Collect(c.Socket().Rooms()), "z") })
	add("emitter", "9", `{"packet":["hello","w"]}`)
	if got := <-events; got != "w" {
		t.Errorf("got %s", got)
	}

	// A node of version 0.2 asks, and is answered, in the stream.
	const old = "0123456789abcdef"
	add(old, "1", "")
	add(old, "2", "")
	last := rdb.XRevRangeN(t.Context(), "socket.io", "+", "-", 1).Val()[0].ID
	answer := func(kind string) goredis.XMessage {
		t.Helper()
		var got goredis.XMessage
		l.Until("answer "+kind, func() bool {
			for _, e := range rdb.XRange(t.Context(), "socket.io", last, "+").Val() {
				if e.Values["type"] == kind && e.Values["uid"] != old {
					got = e
					return true
				}
			}
			return false
		})
		return got
	}
	add(old, "7", `{"opts":{"rooms":["r1"],"except":[],"flags":{}},"requestId":"fetch"}`)
	if data, _ := answer("8").Values["data"].(string); !strings.Contains(data, `"requestId":"fetch"`) || !strings.Contains(data, c.ID) {
		t.Errorf("answer: %s", data)
	}
	add(old, "3", `{"packet":{"type":2,"data":["ask"]},"requestId":"ack","opts":{"rooms":["r1"],"except":[],"flags":{"timeout":5000}}}`)
	if data := answer("11").Values["data"]; data != `{"requestId":"ack","clientCount":1}` {
		t.Errorf("count: %s", data)
	}
	c.Answer(`["ask"]`, `["yes"]`)
	if data := answer("12").Values["data"]; data != `{"requestId":"ack","packet":"yes"}` {
		t.Errorf("answer: %s", data)
	}
	add(old, "13", "")
	add("emitter", "6", `{"opts":{"rooms":["r1"],"except":[],"flags":{}},"close":true}`)
	c.Gone()
	if a.Dropped.Load() > 0 {
		t.Error("dropped:", a.Faults.All())
	}
}

func TestStreamsPlaintextAndMaxLen(t *testing.T) {
	l := newLab(t)
	s := redistest.Start(t)
	rdb := s.Client(t)
	o := redis.StreamsOptions{OnlyPlaintext: true, MaxLen: 100, StreamName: "log"}
	a, b := newStreamsNode(l, rdb, o), newStreamsNode(l, s.Client(t), o)
	c := a.Client("/")
	must(t, b.Emit(t.Context(), "bytes", []byte{1, 2}))
	c.Want(`2["bytes",{"type":"Buffer","data":[1,2]}]`)
	for i := range 500 {
		must(t, b.Emit(t.Context(), lab.Numbered, i))
		if i%50 == 49 {
			wantNumbers(t, c, i-49, i+1)
		}
	}
	if n := rdb.XLen(t.Context(), "log").Val(); n < 100 || n > 300 { // about that many
		t.Errorf("%d entries are kept", n)
	}
	if a.Dropped.Load() > 0 {
		t.Error("dropped:", a.Faults.All())
	}
}

// Nothing is lost in silence when entries are trimmed sooner than they can be read.
func TestStreamsTooFast(t *testing.T) {
	l := newLab(t)
	s := redistest.Start(t)
	o := redis.StreamsOptions{MaxLen: 100}
	a, b := newStreamsNode(l, s.Client(t), o), newStreamsNode(l, s.Client(t), o)
	c := a.Client("/")
	const all = 5000
	got := 0
	for i := range all {
		must(t, b.Emit(t.Context(), lab.Numbered, i))
	}
	must(t, b.Emit(t.Context(), "end"))
	for p, ok := c.Next(); p != `2["end"]`; p, ok = c.Next() {
		if !ok {
			t.Fatal("no end")
		}
		got++
	}
	if got < all && a.Dropped.Load() == 0 {
		t.Errorf("%d of %d came, and nothing was said of the others", got, all)
	}
	t.Logf("%d of %d, %d reports", got, all, a.Dropped.Load())
}

// Append returns the id of the entry, which is what others read.
func TestStreamsAppend(t *testing.T) {
	l := newLab(t)
	s := redistest.Start(t)
	rdb := s.Client(t)
	buses := make(chan adapter.Bus, 1)
	srv := l.Server(&sio.Options{Adapter: adapter.Cluster(
		func(ctx context.Context, local *sio.Local, self adapter.NodeID) (adapter.Bus, error) {
			b, err := redis.OpenStreams(ctx, rdb, nil, local, self)
			if err == nil {
				buses <- b
			}
			return b, err
		}, nil)})
	srv.Of("/")
	bus, _ := (<-buses).(redis.Appender)
	for range 3 {
		id, err := bus.Append(t.Context(), &adapter.Message{Type: adapter.Broadcast, From: "x", Event: event(`["e"]`)})
		must(t, err)
		got, err := rdb.XRange(t.Context(), "socket.io", id, id).Result()
		if err != nil || len(got) != 1 || got[0].Values["uid"] != "x" {
			t.Error(id, got, err)
		}
	}
	must(t, rdb.Set(t.Context(), "socket.io", "no stream", 0).Err())
	if id, err := bus.Append(t.Context(), &adapter.Message{Type: adapter.Broadcast, From: "x", Event: event(`["e"]`)}); err == nil {
		t.Error("no error, but", id)
	}
}
