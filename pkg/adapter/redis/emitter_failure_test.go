package redis_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/seed-0b620db0/patchbay/internal/redistest"
	"github.com/seed-0b620db0/patchbay/internal/siotest"
	"github.com/seed-0b620db0/patchbay/pkg/adapter"
	"github.com/seed-0b620db0/patchbay/pkg/adapter/internal/lab"
	"github.com/seed-0b620db0/patchbay/pkg/adapter/redis"
	"github.com/seed-0b620db0/patchbay/pkg/sio/sioproto"
)

func emitters(rdb goredis.UniversalClient) map[string]adapter.Emitter {
	return map[string]adapter.Emitter{
		"classic": redis.NewEmitter(rdb, &redis.EmitterOptions{MaxMessageBytes: 1000}),
		"sharded": redis.NewShardedEmitter(rdb, &redis.ShardedEmitterOptions{MaxMessageBytes: 1000}),
		"streams": redis.NewStreamsEmitter(rdb, &redis.StreamsEmitterOptions{MaxMessageBytes: 1000}),
	}
}

func TestEmitterShardedWire(t *testing.T) {
	siotest.LeakCheck(t)
	rdb := redistest.Start(t).Client(t)
	const twenty = "exactly-twenty-chars"
	const format = `{"type":3,"data":{"packet":{"type":2,"data":["ev"]},"opts":{"rooms":[%s],"except":[],"flags":{}}},"uid":"emitter","nsp":"/a"}`
	channels := []string{"socket.io#/a#", "socket.io#/a#r#", "socket.io#/a#" + twenty + "#"}
	sub := rdb.SSubscribe(t.Context(), channels...)
	defer sub.Close()
	for range channels {
		receive(t, sub)
	}
	for mode, want := range map[redis.Mode][3]int{redis.Dynamic: {0, 1, 0}, redis.DynamicPrivate: {0, 1, 2}, redis.Static: {0, 0, 0}} {
		e := redis.NewShardedEmitter(rdb, &redis.ShardedEmitterOptions{Mode: mode}).Of("/a")
		for i, rooms := range [][]string{nil, {"r"}, {twenty}, {"r", twenty}} {
			must(t, e.To(rooms...).Emit(t.Context(), "ev"))
			got, err := sub.ReceiveMessage(t.Context())
			must(t, err)
			payload := fmt.Sprintf(format, strings.Join(quoted(rooms), ","))
			if channel := channels[append(want[:], 0)[i]]; got.Channel != channel || got.Payload != payload {
				t.Errorf("%v: to %q: got on %s\n%s\nwant on %s\n%s", mode, rooms, got.Channel, got.Payload, channel, payload)
			}
		}
		must(t, e.To("r").SocketsJoin(t.Context()))
		got, err := sub.ReceiveMessage(t.Context())
		must(t, err)
		const join = `{"type":4,"data":{"opts":{"rooms":["r"],"except":[],"flags":{}},"rooms":[]},"uid":"emitter","nsp":"/a"}`
		if got.Channel != channels[0] || got.Payload != join {
			t.Errorf("got on %s\n%s", got.Channel, got.Payload)
		}
	}
}

func quoted(list []string) (out []string) {
	for _, s := range list {
		out = append(out, fmt.Sprintf("%q", s))
	}
	return out
}

// TestEmitterStreamsWire also uses one selection many times at once.
func TestEmitterStreamsWire(t *testing.T) {
	siotest.LeakCheck(t)
	rdb := redistest.Start(t).Client(t)
	entries := func(stream string) (out []string) {
		t.Helper()
		got, err := rdb.XRange(t.Context(), stream, "-", "+").Result()
		must(t, err)
		for _, e := range got {
			if len(e.Values) != 4 || e.Values["uid"] != "emitter" {
				t.Errorf("entry %v", e.Values)
			}
			out = append(out, fmt.Sprint(e.Values["nsp"], " ", e.Values["type"], " ", e.Values["data"]))
		}
		must(t, rdb.Del(t.Context(), stream).Err())
		return out
	}
	ctx := t.Context()
	e := redis.NewStreamsEmitter(rdb, nil)
	base := e.To("a").To("b").To("c") // has room for one more
	var all sync.WaitGroup
	var want []string
	for i := range 20 {
		all.Go(func() {
			if err := base.To(fmt.Sprint(i)).Except("x").Emit(ctx, "ev", i); err != nil {
				t.Error(err)
			}
		})
		want = append(want, fmt.Sprintf(`/ 3 {"packet":{"type":2,"data":["ev",%d]},"opts":{"rooms":["a","b","c","%[1]d"],"except":["x"],"flags":{}}}`, i))
	}
	all.Wait()
	got := entries("socket.io")
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}

	must(t, e.Emit(ctx, "bin", []byte{1}))
	must(t, redis.NewStreamsEmitter(rdb, &redis.StreamsEmitterOptions{OnlyPlaintext: true}).Emit(ctx, "bin", []byte{1}))
	must(t, e.SocketsLeave(ctx, "r"))
	must(t, e.ServerSideEmit(ctx, "hello", 1))
	want = []string{
		"/ 3 gqZwYWNrZXSCpHR5cGUCpGRhdGGSo2JpbsQBAaRvcHRzg6Vyb29tc5CmZXhjZXB0kKVmbGFnc4A=",
		`/ 3 {"packet":{"type":2,"data":["bin",{"type":"Buffer","data":[1]}]},"opts":{"rooms":[],"except":[],"flags":{}}}`,
		`/ 5 {"opts":{"rooms":[],"except":[],"flags":{}},"rooms":["r"]}`,
		`/ 9 {"packet":["hello",1]}`,
	}
	if got := entries("socket.io"); !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}

	four := redis.NewStreamsEmitter(rdb, &redis.StreamsEmitterOptions{StreamName: "s", StreamCount: 4, MaxLen: 100})
	for _, ns := range []string{"/", "/admin", "/notifications"} { // the hash of the last is negative
		must(t, four.Of(ns).Emit(ctx, "ev"))
	}
	for stream, n := range map[string]int{"s-0": 0, "s-1": 0, "s-2": 0, "s-3": 0} {
		for _, entry := range entries(stream) {
			ns, _, _ := strings.Cut(entry, " ")
			if want := map[string]string{"/": "s-3", "/admin": "s-0", "/notifications": "s-3"}[ns]; stream != want {
				t.Errorf("%s is in %s, not in %s", ns, stream, want)
			}
			n++
		}
		if n != map[string]int{"s-0": 1, "s-3": 2}[stream] {
			t.Errorf("%d entries in %s", n, stream)
		}
	}
	for range 1000 {
		must(t, four.Emit(ctx, "ev"))
	}
	if n := rdb.XLen(ctx, "s-3").Val(); n < 100 || n > 300 {
		t.Errorf("%d entries are left", n)
	}
}

func TestEmitterRefuses(t *testing.T) {
	siotest.LeakCheck(t)
	s := redistest.Start(t)
	rdb := s.Client(t)
	ctx := t.Context()
	sub := rdb.PSubscribe(ctx, "*")
	defer sub.Close()
	receive(t, sub)
	canceled, cancel := context.WithCancel(ctx)
	cancel()
	for name, e := range emitters(rdb) {
		for _, event := range []string{"connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"} {
			if err := e.Emit(ctx, event); !errors.Is(err, sioproto.ErrReserved) {
				t.Errorf("%s: emit %s: %v", name, event, err)
			}
			if err := e.ServerSideEmit(ctx, event); !errors.Is(err, sioproto.ErrReserved) {
				t.Errorf("%s: emit %s to servers: %v", name, event, err)
			}
		}
		for _, event := range []string{"connection", "new_namespace"} {
			if err := e.ServerSideEmit(ctx, event); !errors.Is(err, sioproto.ErrReserved) {
				t.Errorf("%s: emit %s to servers: %v", name, event, err)
			}
		}
		if err := e.Emit(ctx, "ask", func() {}); err == nil {
			t.Errorf("%s: a function was sent", name)
		}
		if err := e.Emit(ctx, "ev", strings.Repeat("x", 1000)); !errors.Is(err, redis.ErrTooLong) {
			t.Errorf("%s: a long message: %v", name, err)
		}
		if err := e.Emit(canceled, "ev"); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: canceled: %v", name, err)
		}
	}
	must(t, rdb.Publish(ctx, "end", "").Err())
	if got := receive(t, sub); got != "" {
		t.Errorf("%q was sent", got)
	}
	if n := rdb.Exists(ctx, "socket.io").Val(); n != 0 {
		t.Error("there is a stream")
	}

	ring := goredis.NewRing(&goredis.RingOptions{})
	defer ring.Close()
	for name, e := range emitters(ring) {
		if err := e.Emit(ctx, "ev"); err == nil || !strings.Contains(err.Error(), "Ring") {
			t.Errorf("%s over a ring: %v", name, err)
		}
	}

	if _, err := s.Do("ACL", "SETUSER", "default", "-publish", "-spublish", "-xadd"); err != nil {
		t.Fatal(err)
	}
	for name, e := range emitters(rdb) {
		if err := e.Emit(ctx, "ev"); err == nil || !strings.HasPrefix(err.Error(), "redis: publish: NOPERM") {
			t.Errorf("%s: not allowed: %v", name, err)
		}
	}
}

// TestEmitterOnce loses the connection before Redis's answers: nothing is there twice.
func TestEmitterOnce(t *testing.T) {
	siotest.LeakCheck(t)
	s := redistest.Start(t)
	rdb := s.Client(t)
	proxy := redistest.NewProxy(t, s.Addr())
	behind := client(t, proxy.Addr())
	sub := rdb.PSubscribe(t.Context(), "*")
	defer sub.Close()
	receive(t, sub)
	for name, e := range emitters(behind) {
		must(t, e.Emit(t.Context(), "first", name))
		proxy.FreezeServer(true)
		begin := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		err := e.Emit(ctx, "second", name)
		cancel()
		if took := time.Since(begin); err == nil || took > 2*time.Second {
			t.Errorf("%s: frozen: %v after %v", name, err, took)
		}
		proxy.Refuse(true)
		proxy.Cut()
		proxy.FreezeServer(false)
		if err := e.Emit(t.Context(), "third", name); err == nil {
			t.Errorf("%s: there is no way to Redis", name)
		}
		proxy.Refuse(false)
		must(t, e.Emit(t.Context(), "fourth", name))
	}
	must(t, rdb.Publish(t.Context(), "end", "").Err())
	var got []string
	for payload := receive(t, sub); payload != ""; payload = receive(t, sub) {
		got = append(got, payload)
	}
	if len(got) != 3 || !strings.Contains(got[1], "second") || !strings.Contains(got[2], "fourth") {
		t.Errorf("published %q", got)
	}
	if n := rdb.XLen(t.Context(), "socket.io").Val(); n != 3 {
		t.Errorf("%d entries", n)
	}
}

// TestEmitterRedisCluster moves slots, and loses a master.
func TestEmitterRedisCluster(t *testing.T) {
	siotest.LeakCheck(t)
	c := redistest.StartCluster(t)
	rdb := c.Client(t)
	e := emitters(rdb)
	ctx := t.Context()
	for name, e := range e {
		if err := e.Emit(ctx, "ev"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, key := range map[string]string{"sharded": "socket.io#/#", "streams": "socket.io"} {
		slot := c.Slot(t, key)
		to := (c.Owner(t, slot) + 1) % 3
		c.MoveSlot(t, slot, to)
		c.Await(t, slot, to)
		if err := e[name].Emit(ctx, "moved"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := e[name].SocketsJoin(ctx, "moved"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := rdb.XLen(ctx, "socket.io").Val(); n != 3 {
		t.Errorf("%d entries", n)
	}

	// The master dies that the classic emitter uses, and that of some namespace.
	dead := c.Owner(t, c.Slot(t, "0"))
	ns := ""
	for i := 0; ns == "" || c.Owner(t, c.Slot(t, "socket.io#"+ns+"#")) != dead; i++ {
		ns = fmt.Sprintf("/%d", i)
	}
	must(t, e["sharded"].Of(ns).Emit(ctx, "ev"))
	c.Kill(dead)
	if err := e["classic"].Emit(ctx, "ev"); err == nil {
		t.Error("it does not use this master")
	}
	must(t, e["classic"].Emit(ctx, "ev"))
	if err := e["sharded"].Of(ns).Emit(ctx, "ev"); err == nil {
		t.Error("it does not use this master")
	}
	c.Adopt(t, dead, (dead+1)%3)
	lab.New(t, false).Until("another takes over", func() bool { return e["sharded"].Of(ns).Emit(ctx, "ev") == nil })
}
