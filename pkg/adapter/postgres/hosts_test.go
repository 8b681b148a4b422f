package postgres_test

import (
	"strings"
	"testing"
	"time"

	"github.com/seed-0b620db0/patchbay/internal/pgtest"
	"github.com/seed-0b620db0/patchbay/internal/redistest"
	"github.com/seed-0b620db0/patchbay/pkg/adapter/postgres"
)

// TestHosts has two hosts, of which the first swallows everything: as one does that has lost its power.
func TestHosts(t *testing.T) {
	l := newLab(t)
	s := pgtest.Start(t)
	p := redistest.NewProxy(t, s.Addr())
	p.Freeze(true)
	url := strings.Replace(s.URL(), s.Addr(), p.Addr()+","+s.Addr(), 1)
	o := impatient()
	o.Timeout = time.Second
	o.Listen = pgtest.PoolOf(t, url).Config().ConnConfig
	newNode(l, s.Pool(t), o)

	o = postgres.Options{}                                         // and when the pool goes there, too
	n := newNode(l, pgtest.PoolOf(t, url+"&connect_timeout=1"), o) // as the gateway has it
	if downs := n.Downs(); len(downs) > 0 {
		t.Error("it was up after", downs)
	}
}
