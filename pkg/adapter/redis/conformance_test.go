package redis_test

import (
	"strings"
	"testing"

	goredis "github.com/redis/go-redis/v9"

	"github.com/seed-0b620db0/patchbay/internal/redistest"
	"github.com/seed-0b620db0/patchbay/pkg/adapter"
	"github.com/seed-0b620db0/patchbay/pkg/adapter/adaptertest"
	"github.com/seed-0b620db0/patchbay/pkg/adapter/redis"
	"github.com/seed-0b620db0/patchbay/pkg/sio"
)

// proxied is a cluster whose nodes each have a proxy between them and Redis.
type proxied struct {
	t       *testing.T
	server  *redistest.Server
	rdb     *goredis.Client
	proxies []*redistest.Proxy
}

func newProxied(t *testing.T) *proxied {
	t.Helper()
	s := redistest.Start(t)
	return &proxied{t: t, server: s, rdb: s.Client(t)}
}

// client returns the client of the next node.
func (p *proxied) client() *goredis.Client {
	proxy := redistest.NewProxy(p.t, p.server.Addr())
	p.proxies = append(p.proxies, proxy)
	return client(p.t, proxy.Addr())
}

func (p *proxied) cut(node int) (heal func()) {
	p.proxies[node].Refuse(true)
	p.proxies[node].Cut()
	return func() { p.proxies[node].Refuse(false) }
}

func (p *proxied) publish(channel string, payloads ...string) {
	for _, payload := range payloads {
		if err := p.rdb.Publish(p.t.Context(), channel, payload).Err(); err != nil {
			p.t.Error(err)
		}
	}
}

func TestClassicConformance(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes seconds")
	}
	adaptertest.Run(t, func(t *testing.T) adaptertest.Backend {
		p := newProxied(t)
		return adaptertest.Backend{
			Adapter: func(_ int, o adapter.Options) sio.NewAdapter {
				return redis.New(p.client(), &redis.Options{Cluster: o})
			},
			Cut: p.cut,
			Hostile: func(ns string) {
				for _, kind := range []string{"", "-request", "-response"} {
					p.publish("socket.io"+kind+"#"+ns+"#",
						"", "\xc1", "\x93", "\xdf\xff\xff\xff\xff", "{", "[", "[]", "{}", "null", strings.Repeat("[", 1<<16),
						strings.Repeat("\x91", 1<<16), `{"type":99,"requestId":"1"}`, `{"type":-1}`, `{"type":"6","data":["ev"]}`,
						`["a",{"type":2,"data":["ev"],"nsp":"/another"},{"rooms":[],"except":[]}]`,
						`["a",{"type":2,"data":["disconnect"],"nsp":"`+ns+`"},{"rooms":[],"except":[]}]`,
						`{"type":4,"close":true}`, `{"type":4,"sid":"","close":true}`, `{"type":2,"rooms":["all"]}`,
						`{"type":8,"requestId":"1","clientCount":1e300}`, `{"type":9,"requestId":"1"}`, `{"requestId":"1","sockets":[1]}`,
					)
				}
				p.publish("socket.io#"+ns+"#nobody is here#", "\xc1")
			},
		}
	})
}
