package redis_test

import (
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/seed-0b620db0/patchbay/pkg/adapter"
	"github.com/seed-0b620db0/patchbay/pkg/adapter/adaptertest"
	"github.com/seed-0b620db0/patchbay/pkg/adapter/redis"
	"github.com/seed-0b620db0/patchbay/pkg/sio"
)

func TestStreamsConformance(t *testing.T) {
	fleets(t, func(t *testing.T, cluster bool, newFleet func(t *testing.T) *fleet) {
		kinds := map[string]redis.StreamsOptions{"one stream": {}}
		if cluster {
			kinds = map[string]redis.StreamsOptions{"four streams sharded": {StreamCount: 4, UseShardedPubSub: true}}
		}
		for name, o := range kinds {
			t.Run(name, func(t *testing.T) {
				adaptertest.Run(t, func(t *testing.T) adaptertest.Backend {
					f, prefix := newFleet(t), uniqueName()
					o.StreamName, o.ChannelPrefix, o.BlockTime = prefix, prefix, time.Second
					return adaptertest.Backend{
						Adapter: func(_ int, co adapter.Options) sio.NewAdapter {
							o.Cluster = co
							return redis.NewStreams(f.client(), &o)
						},
						Cut: f.cut,
						Hostile: func(ns string) {
							rdb := f.direct()
							publish := rdb.Publish
							if o.UseShardedPubSub {
								publish = rdb.SPublish
							}
							for _, payload := range hostileEnvelopes(ns) {
								if err := publish(t.Context(), prefix+"#"+ns+"#", payload).Err(); err != nil {
									t.Error(err)
								}
							}
							stream := prefix
							if o.StreamCount > 1 {
								stream += "-1"
							}
							hostileEntries(t, rdb, stream, ns)
						},
					}
				})
			})
		}
	})
}

// hostileEntries writes what nodes cannot make sense of, or should not believe.
func hostileEntries(t *testing.T, rdb goredis.UniversalClient, stream, ns string) {
	t.Helper()
	for _, fields := range [][]string{
		{"a", "b"},
		{"nsp", ns},
		{"nsp", ns, "uid", "x"},
		{"nsp", ns, "uid", "x", "type", ""},
		{"nsp", ns, "uid", "x", "type", "three"},
		{"nsp", ns, "uid", "x", "type", "-3"},
		{"nsp", ns, "uid", "x", "type", "259"},
		{"nsp", ns, "uid", "x", "type", "99"},
		{"nsp", ns, "uid", "x", "type", "0"},
		{"nsp", ns, "uid", "x", "type", "3"},
		{"nsp", ns, "uid", "x", "type", "3", "data", ""},
		{"nsp", ns, "uid", "x", "type", "3", "data", "{"},
		{"nsp", ns, "uid", "x", "type", "3", "data", "{}"},
		{"nsp", ns, "uid", "x", "type", "3", "data", "[]"},
		{"nsp", ns, "uid", "x", "type", "3", "data", "not base64!"},
		{"nsp", ns, "uid", "x", "type", "3", "data", "wQ=="},
		{"nsp", ns, "uid", "x", "type", "3", "data", "3/////8="},
		{"nsp", ns, "uid", "x", "type", "8", "data", `{"requestId":"1","sockets":[1]}`},
		{"nsp", "/another", "uid", "x", "type", "6", "data", `{"opts":{"rooms":[],"except":[],"flags":{}},"close":true}`},
		{"nsp", ns, "uid", "", "type", "13"},
		{"nsp", ns, "nsp", "/another", "uid", "x", "type", "3", "data", "{}"},
	} {
		if err := rdb.XAdd(t.Context(), &goredis.XAddArgs{Stream: stream, Values: fields}).Err(); err != nil {
			t.Error(err)
		}
	}
}
