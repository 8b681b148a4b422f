package redis_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	goredis "github.com/redis/go-redis/v9"

	"github.com/seed-0b620db0/patchbay/internal/redistest"
	"github.com/seed-0b620db0/patchbay/internal/siotest"
	"github.com/seed-0b620db0/patchbay/pkg/adapter"
	"github.com/seed-0b620db0/patchbay/pkg/adapter/internal/lab"
	"github.com/seed-0b620db0/patchbay/pkg/adapter/redis"
	"github.com/seed-0b620db0/patchbay/pkg/sio"
)

// emitterKind is an adapter and the emitter to it.
type emitterKind struct {
	name    string
	adapter func(rdb goredis.UniversalClient, o adapter.Options) sio.NewAdapter
	emitter func(rdb goredis.UniversalClient) adapter.Emitter
}

func emitterKinds() []emitterKind {
	kinds := []emitterKind{{
		"classic",
		func(rdb goredis.UniversalClient, o adapter.Options) sio.NewAdapter {
			return redis.New(rdb, &redis.Options{Cluster: o, Key: "k"})
		},
		func(rdb goredis.UniversalClient) adapter.Emitter {
			return redis.NewEmitter(rdb, &redis.EmitterOptions{Key: "k"})
		},
	}}
	for _, mode := range []redis.Mode{redis.Dynamic, redis.DynamicPrivate, redis.Static} {
		kinds = append(kinds, emitterKind{
			mode.String(),
			func(rdb goredis.UniversalClient, o adapter.Options) sio.NewAdapter {
				return redis.NewSharded(rdb, &redis.ShardedOptions{Cluster: o, Mode: mode, ChannelPrefix: "p"})
			},
			func(rdb goredis.UniversalClient) adapter.Emitter {
				return redis.NewShardedEmitter(rdb, &redis.ShardedEmitterOptions{Mode: mode, ChannelPrefix: "p"})
			},
		})
	}
	for _, count := range []int{1, 4} {
		kinds = append(kinds, emitterKind{
			fmt.Sprintf("streams-%d", count),
			func(rdb goredis.UniversalClient, o adapter.Options) sio.NewAdapter {
				return redis.NewStreams(rdb, &redis.StreamsOptions{Cluster: o, StreamName: "s", StreamCount: count})
			},
			func(rdb goredis.UniversalClient) adapter.Emitter {
				return redis.NewStreamsEmitter(rdb, &redis.StreamsEmitterOptions{StreamName: "s", StreamCount: count})
			},
		})
	}
	return kinds
}

// TestEmitter does everything to two servers. The hash of "/notifications" is negative.
func TestEmitter(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb func() goredis.UniversalClient) {
		for _, kind := range emitterKinds() {
			t.Run(kind.name, func(t *testing.T) {
				l := lab.New(t, false)
				e := kind.emitter(rdb())
				for _, ns := range []string{"/", "/notifications"} {
					testEmitter(l, kind, rdb, e.Of(ns[1:]), ns)
				}
			})
		}
	})
}

func testEmitter(l *lab.Lab, kind emitterKind, rdb func() goredis.UniversalClient, e adapter.Emitter, ns string) {
	ctx := l.Context()
	away := "/away" + ns[1:] // in a Redis Cluster messages may come after the test that they are of
	var events lab.Log
	var servers []*lab.Server
	var n *node // the last
	for i := range 2 {
		n = l.NewNode()
		s := l.Server(&sio.Options{Adapter: kind.adapter(rdb(), adapter.Options{Hooks: n.Hooks()})})
		s.Of(away)
		s.Of(ns).OnServerEvent("reload", func(_ context.Context, ev *sio.Event) error {
			var word string
			var data []byte
			err := ev.Args().Decode(&word, &data)
			events.Add(fmt.Sprintf("%d %s %q %v", i, word, data, err))
			return err
		})
		n.AwaitUp(ns)
		servers = append(servers, s)
	}
	a, b := servers[0].Client(ns, "r"), servers[1].Client(ns, "r", "s")
	other := servers[1].Client(away, "r")
	n.AwaitUp(away)
	for _, room := range []string{"r", a.ID, b.ID} { // channels of rooms are not there at once
		l.Until(room+" is there", func() bool {
			must(l, e.In(room).Emit(ctx, lab.Numbered, 0))
			return (room == b.ID || len(a.Take()) > 0) && (room == a.ID || len(b.Take()) > 0)
		})
	}
	want := func(c *lab.Client, packets ...string) {
		l.Helper()
		for len(packets) > 0 {
			got, ok := c.Next()
			if _, skip := lab.Number(got); skip {
				continue
			}
			if !ok || got != packets[0] {
				l.Fatalf("got packet %q (%v), want %q", got, ok, packets[0])
			}
			packets = packets[1:]
		}
	}

	must(l, e.Emit(ctx, "all", "é", 1.5, nil))
	want(a, `2["all","é",1.5,null]`)
	want(b, `2["all","é",1.5,null]`)
	must(l, e.To("r").Except("s").Emit(ctx, "some"))
	want(a, `2["some"]`)
	must(l, e.To("none").In("s", "r").Emit(ctx, "bin", []byte{1, 2}))
	want(a, `51-["bin",{"_placeholder":true,"num":0}]`, "bin:\x01\x02")
	want(b, `51-["bin",{"_placeholder":true,"num":0}]`, "bin:\x01\x02")
	l.Until("a volatile event comes", func() bool { // one that comes while another is being written is dropped
		must(l, e.To(b.ID).Volatile().Compress(false).Emit(ctx, lab.Numbered, 7))
		return slices.Contains(b.Take(), `2["n",7]`)
	})
	must(l, e.Of(away[1:]).Emit(ctx, "elsewhere"))
	other.Want(`2["elsewhere"]`)

	in := func(c *lab.Client, room string) bool { return c.Socket().In(room) }
	must(l, e.In("r").SocketsJoin(ctx, "j", "k"))
	l.Until("both have joined", func() bool { return in(a, "j") && in(a, "k") && in(b, "j") && in(b, "k") })
	must(l, e.In("k").Except("s").SocketsLeave(ctx, "j", "r"))
	l.Until("one has left", func() bool { return !in(a, "j") && !in(a, "r") })
	if !in(b, "j") || !in(a, "k") {
		l.Error("more have left")
	}

	must(l, e.ServerSideEmit(ctx, "reload", "now"))
	must(l, e.To("nobody").ServerSideEmit(ctx, "reload", "bin", []byte{3}))
	l.Until("both servers know", func() bool { return len(events.All()) == 4 })
	got := events.All()
	slices.Sort(got)
	if want := []string{`0 bin "\x03" <nil>`, `0 now "" <nil>`, `1 bin "\x03" <nil>`, `1 now "" <nil>`}; !slices.Equal(got, want) {
		l.Errorf("servers got %q", got)
	}

	must(l, e.In("s").DisconnectSockets(ctx, false))
	want(b, "1")
	must(l, e.DisconnectSockets(ctx, true))
	a.Gone()
	if more := other.Take(); len(more) > 0 {
		l.Errorf("another namespace got %q", more)
	}
	for _, s := range servers {
		s.Stop()
	}
}

// TestEmitterGolden compares with what the official emitter has published.
func TestEmitterGolden(t *testing.T) {
	siotest.LeakCheck(t)
	s := redistest.Start(t)
	rdb := s.Client(t)
	e := redis.NewEmitter(rdb, nil)
	ctx := t.Context()
	ops := map[string]func() error{
		"emitter broadcast":  func() error { return e.Emit(ctx, "ev", 1, []byte{1}) },
		"emitter room":       func() error { return e.Of("admin").To("r1").Volatile().Emit(ctx, "ev") },
		"emitter rooms":      func() error { return e.To("r1", "r2").Except("r3").Compress(false).Emit(ctx, "ev") },
		"emitter join":       func() error { return e.In("none").SocketsJoin(ctx, "z") },
		"emitter leave":      func() error { return e.In("none").SocketsLeave(ctx, "z") },
		"emitter disconnect": func() error { return e.In("none").DisconnectSockets(ctx, true) },
		"emitter event":      func() error { return e.ServerSideEmit(ctx, "hello", 1) },

		"emit":                func() error { return e.Emit(ctx, "fromEmitter", 1) },
		"emit to room":        func() error { return e.To("r1").Except("r2").Volatile().Compress(false).Emit(ctx, "fromEmitter", "x") },
		"emit in namespace":   func() error { return e.Of("/admin").Emit(ctx, "fromEmitter") },
		"emit binary":         func() error { return e.Emit(ctx, "fromEmitter", []byte{1, 2}) },
		"emitter joins":       func() error { return e.In("r1").SocketsJoin(ctx, "a") },
		"emitter leaves":      func() error { return e.In("r1").Except("r2").SocketsLeave(ctx, "a") },
		"emitter disconnects": func() error { return e.DisconnectSockets(ctx, true) },
		"emitter to servers":  func() error { return e.ServerSideEmit(ctx, "hello", 1) },
	}
	var vectors []*vector
	for _, v := range readGolden(t).Vectors {
		if strings.HasPrefix(v.Name, "emitter ") {
			vectors = append(vectors, v)
		}
	}
	vectors = append(vectors, readEnvelopeGolden(t)...)
	if len(vectors) != len(ops) {
		t.Errorf("%d vectors", len(vectors))
	}
	sub := rdb.PSubscribe(ctx, "*")
	defer sub.Close()
	receive(t, sub)
	for _, v := range vectors {
		if err := ops[v.Name](); err != nil {
			t.Fatal(err)
		}
		got, err := sub.ReceiveMessage(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if want := string(v.payload(t)); got.Channel != v.Channel || got.Payload != want {
			t.Errorf("%s: got on %s\n%s\nwant on %s\n%s", v.Name, got.Channel, text([]byte(got.Payload)), v.Channel, text([]byte(want)))
		}
	}
}

func readEnvelopeGolden(t *testing.T) (vectors []*vector) {
	t.Helper()
	b, err := os.ReadFile("../internal/envelope/testdata/golden.json")
	if err != nil {
		t.Fatal(err)
	}
	var all []struct{ Name, Sender, Channel, Hex, Text string }
	must(t, json.Unmarshal(b, &all))
	for _, v := range all {
		if v.Sender == "redis-emitter" {
			vectors = append(vectors, &vector{Name: v.Name, Channel: v.Channel, JSON: v.Text, Msgpack: v.Hex})
		}
	}
	return vectors
}
