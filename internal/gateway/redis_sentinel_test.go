package gateway_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/seed-0b620db0/patchbay/internal/redistest"
	"github.com/seed-0b620db0/patchbay/internal/siotest"
)

// The master changes, by order and by death. Nodes follow it by themselves, and lose no client.
func TestRedisSentinel(t *testing.T) {
	for _, v := range []struct {
		adapter string
		dies    bool
	}{{"redis", false}, {"redis", true}, {"redis-sharded", false}, {"redis-streams", false}} {
		t.Run(fmt.Sprint(v.adapter, "/dies=", v.dies), func(t *testing.T) {
			siotest.LeakCheck(t)
			s := redistest.StartSentinel(t)
			f := &fleet{t: t, vars: []string{"ADAPTER=" + v.adapter, "REDIS_URL=" + s.URL(), "CANARY_INTERVAL=200ms"}}
			a, b := f.start(), f.start()
			p, q := a.dial(""), b.dial("")
			p.join("room")
			q.join("room")
			hear(p, q, "before")
			c := a.client()
			c.Handshake()
			c.Base = b.public
			c.Send("40")
			c.Poll()
			old := s.Servers[s.Master(t)]
			if v.dies {
				s.Kill(t)
			} else {
				s.Failover(t)
			}
			eventually(t, "they are connected to the new master", func() bool {
				return !slices.ContainsFunc([]*node{a, b}, func(n *node) bool {
					return len(n.reasons()) > 0 || n.scrape()[`patchbay_bus_restarts_total{namespace="/"}`] == 0
				})
			})
			// Nobody has told the old one yet: it would keep who subscribes to it.
			if info, err := old.Do("INFO", "replication"); !v.dies && (err != nil || !strings.Contains(fmt.Sprint(info), "role:master")) {
				t.Errorf("the old master: %v, %v", info, err)
			}
			hear(p, q, "after")
			hear(q, p, "after that")
			c.Send(`421["leave","x"]`)
			if got := c.Poll(); got[0] != `431[{"ok":true,"room":"x"}]` {
				t.Errorf("forwarded: %q", got)
			}
			eventually(t, "they are registered", func() bool {
				got, err := s.Servers[s.Master(t)].Client(t).HKeys(t.Context(), "socket.io:nodes").Result()
				return err == nil && len(got) == 2
			})
		})
	}
}

// hear waits until q hears what p says. Others may come and go before that.
func hear(p, q *peer, text string) {
	p.t.Helper()
	if a := p.call("publish", "room", "says", text); !a.OK {
		p.t.Fatalf("publish: %+v", a)
	}
	for !strings.Contains(q.event(), text) {
	}
}
