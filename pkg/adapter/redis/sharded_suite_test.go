package redis_test

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"

	goredis "github.com/redis/go-redis/v9"

	"github.com/seed-0b620db0/patchbay/internal/redistest"
	"github.com/seed-0b620db0/patchbay/pkg/adapter"
	"github.com/seed-0b620db0/patchbay/pkg/adapter/adaptertest"
	"github.com/seed-0b620db0/patchbay/pkg/adapter/redis"
	"github.com/seed-0b620db0/patchbay/pkg/sio"
)

// fleet connects nodes to a Redis or a Redis Cluster that several tests share, each node by proxies of its own.
type fleet struct {
	t       *testing.T
	addrs   []string
	cluster bool
	proxies []map[string]*redistest.Proxy // by node and address
}

// client returns the client of the next node.
func (f *fleet) client() goredis.UniversalClient {
	mine := map[string]*redistest.Proxy{}
	for _, addr := range f.addrs {
		mine[addr] = redistest.NewProxy(f.t, addr)
	}
	f.proxies = append(f.proxies, mine)
	if !f.cluster {
		return client(f.t, mine[f.addrs[0]].Addr())
	}
	c := goredis.NewClusterClient(&goredis.ClusterOptions{
		Addrs: f.addrs, DialerRetries: 1, PoolSize: 4,
		Dialer: func(ctx context.Context, network, addr string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, mine[addr].Addr())
		},
	})
	f.t.Cleanup(func() { _ = c.Close() })
	return c
}

func (f *fleet) cut(node int) (heal func()) {
	for _, p := range f.proxies[node] {
		p.Refuse(true)
		p.Cut()
	}
	return func() {
		for _, p := range f.proxies[node] {
			p.Refuse(false)
		}
	}
}

// direct returns a client of the tests' own.
func (f *fleet) direct() goredis.UniversalClient {
	c := goredis.NewUniversalClient(&goredis.UniversalOptions{Addrs: f.addrs, IsClusterMode: f.cluster})
	f.t.Cleanup(func() { _ = c.Close() })
	return c
}

// fleets calls f for a Redis and for a Redis Cluster; newFleet is for each test.
func fleets(t *testing.T, f func(t *testing.T, cluster bool, newFleet func(t *testing.T) *fleet)) {
	if testing.Short() {
		t.Skip("it takes seconds")
	}
	t.Run("standalone", func(t *testing.T) {
		s := redistest.Start(t)
		f(t, false, func(t *testing.T) *fleet { return &fleet{t: t, addrs: []string{s.Addr()}} })
	})
	t.Run("cluster", func(t *testing.T) {
		c := redistest.StartCluster(t)
		var addrs []string
		for _, s := range c.Servers {
			addrs = append(addrs, s.Addr())
		}
		f(t, true, func(t *testing.T) *fleet { return &fleet{t: t, addrs: addrs, cluster: true} })
	})
}

// unique numbers tests that share a Redis.
var unique struct {
	sync.Mutex
	n int
}

func uniqueName() string {
	unique.Lock()
	defer unique.Unlock()
	unique.n++
	return fmt.Sprint("test-", unique.n)
}

// hostileEnvelopes are messages that nodes cannot make sense of, or should not believe.
func hostileEnvelopes(ns string) []string {
	return []string{
		"", "\xc1", "\x93", "\xdf\xff\xff\xff\xff", "{", "[", "[]", "{}", "null", "{}{}", strings.Repeat("[", 1<<16), strings.Repeat("\x91", 1<<16),
		`{"type":99,"uid":"x","nsp":"` + ns + `"}`, `{"type":-1,"uid":"x","nsp":"` + ns + `"}`, `{"type":"6","uid":"x","nsp":"` + ns + `"}`,
		`{"type":3,"uid":"x","nsp":"` + ns + `"}`, `{"type":6,"data":{"close":true},"uid":"x"}`,
		`{"type":6,"data":{"opts":{"rooms":[]},"close":true},"uid":"x","nsp":"/another"}`,
		`{"type":8,"data":{"requestId":"1","sockets":[1]},"uid":"x","nsp":"` + ns + `"}`,
		`{"type":11,"data":{"requestId":"1","clientCount":1e300},"uid":"x","nsp":"` + ns + `"}`,
		`{"type":12,"data":{"requestId":"1"},"uid":"x","nsp":"` + ns + `"}`,
		`{"type":13,"uid":"","nsp":"` + ns + `"}`,
	}
}

// In a Redis Cluster, messages on channels of several masters may overtake each other, which the suite could not bear: the
// hash tag keeps them on one.
func TestShardedConformance(t *testing.T) {
	fleets(t, func(t *testing.T, cluster bool, newFleet func(t *testing.T) *fleet) {
		modes := []redis.Mode{redis.Static, redis.DynamicPrivate}
		if cluster { // each mode once: the suite takes its time
			modes = []redis.Mode{redis.Dynamic}
		}
		for _, mode := range modes {
			t.Run(mode.String(), func(t *testing.T) {
				adaptertest.Run(t, func(t *testing.T) adaptertest.Backend {
					f, prefix := newFleet(t), uniqueName()
					if cluster {
						prefix = "{" + prefix + "}"
					}
					return adaptertest.Backend{
						Adapter: func(_ int, o adapter.Options) sio.NewAdapter {
							return redis.NewSharded(f.client(), &redis.ShardedOptions{ChannelPrefix: prefix, Mode: mode, Cluster: o})
						},
						Cut: f.cut,
						Hostile: func(ns string) {
							rdb := f.direct()
							for _, payload := range hostileEnvelopes(ns) {
								if err := rdb.SPublish(t.Context(), prefix+"#"+ns+"#", payload).Err(); err != nil {
									t.Error(err)
								}
							}
						},
					}
				})
			})
		}
	})
}
