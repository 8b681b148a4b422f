package postgres_test

import (
	"context"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/seed-0b620db0/patchbay/internal/pgtest"
	"github.com/seed-0b620db0/patchbay/internal/redistest"
	"github.com/seed-0b620db0/patchbay/pkg/adapter/postgres"
)

// gate holds up the query that looks for what was missed.
type gate struct {
	once          sync.Once
	reached, open chan struct{}
}

func (g *gate) TraceQueryStart(ctx context.Context, _ *pgx.Conn, q pgx.TraceQueryStartData) context.Context {
	if strings.Contains(q.SQL, "position(") {
		g.once.Do(func() { close(g.reached) })
		<-g.open
	}
	return ctx
}

func (g *gate) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// TestCatchUpOrder has messages that come while the node looks for what it has missed: what the table holds of them does not
// overtake the others of its sender.
func TestCatchUpOrder(t *testing.T) {
	l := newLab(t)
	s := pgtest.Start(t)
	a := newNode(l, s.Pool(t), postgres.Options{})
	p := redistest.NewProxy(t, s.Addr())
	config, err := pgxpool.ParseConfig(strings.Replace(s.URL(), s.Addr(), p.Addr(), 1))
	must(t, err)
	g := &gate{reached: make(chan struct{}), open: make(chan struct{})}
	open := sync.OnceFunc(func() { close(g.open) })
	defer open()
	config.ConnConfig.Tracer = g
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	must(t, err)
	t.Cleanup(pool.Close)
	b := newNode(l, pool, postgres.Options{})
	c := b.Client("/")
	a.AwaitNodes(2)
	long := strings.Repeat("x", 9000)
	p.Refuse(true)
	p.Cut()
	b.AwaitDown(1)
	must(t, a.Emit(t.Context(), "missed", long))
	l.Until("it is published", func() bool { return a.written.Load() == 1 })
	p.Refuse(false)
	<-g.reached // it listens
	must(t, a.Emit(t.Context(), "first"))
	must(t, a.Emit(t.Context(), "second", long))
	must(t, a.Emit(t.Context(), "third"))
	l.Until("the table has it", func() bool { return a.written.Load() == 2 })
	open()
	c.Want(`2["missed","`+long+`"]`, `2["first"]`, `2["second","`+long+`"]`, `2["third"]`)
	if n := b.recovered.Load(); n != 1 {
		t.Error(n, "recovered")
	}
}
