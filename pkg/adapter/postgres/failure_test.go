package postgres_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/seed-0b620db0/patchbay/internal/pgtest"
	"github.com/seed-0b620db0/patchbay/internal/redistest"
	"github.com/seed-0b620db0/patchbay/internal/siotest"
	"github.com/seed-0b620db0/patchbay/pkg/adapter"
	"github.com/seed-0b620db0/patchbay/pkg/adapter/internal/lab"
	"github.com/seed-0b620db0/patchbay/pkg/adapter/postgres"
)

func TestRestart(t *testing.T) {
	l := newLab(t)
	s := pgtest.Start(t)
	a, b := newNode(l, s.Pool(t), postgres.Options{}), newNode(l, s.Pool(t), postgres.Options{})
	local, remote := a.Client("/"), b.Client("/")
	g := a.Load(local)
	l.Increasing(remote, -1, 100)

	s.Kill()
	a.AwaitDown(1)
	b.AwaitDown(1)
	time.Sleep(3 * time.Second) // this is the test
	remote.Take()               // what came before
	s.Restart(t)
	begin := time.Now()
	first, ok := remote.Next()
	d := time.Since(begin)
	i, isNumber := lab.Number(first)
	if !ok || !isNumber || d > time.Second+siotest.Patience/20 {
		t.Errorf("got %q %v after PostgreSQL came back", first, d)
	}
	l.Increasing(remote, i, i+100)
	g.End()
	slowest := time.Duration(g.Slowest.Load())
	t.Logf("delivery resumed %v after PostgreSQL came back, the slowest emission took %v", d, slowest)
	if slowest > 2*time.Second {
		t.Errorf("an emission took %v", slowest)
	}
	if a.Failed.Load() < 500 || a.Published.Load() < 100 {
		t.Errorf("%d of %d failed", a.Failed.Load(), g.Emitted.Load())
	}
	if gap := b.gap(); len(gap) == 0 || gap[0] < 2*time.Second {
		t.Error("it was deaf, but says", gap)
	}
}

func TestConnectionsAreKilled(t *testing.T) {
	l := newLab(t)
	s := pgtest.Start(t)
	a, b := newNode(l, s.Pool(t), impatient()), newNode(l, s.Pool(t), impatient())
	local, remote := a.Client("/"), b.Client("/")
	g := a.Load(local)
	last := -1
	for i := range 5 {
		for _, listening := range []string{"", "NOT"} {
			s.Exec(t, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
				WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() AND `+listening+` (`+isListener+`)`)
			if listening == "" {
				a.AwaitDown(i + 1)
				b.AwaitDown(i + 1)
			}
			last += 50
			for got := -1; got <= last; { // numbers never come twice, nor in another order
				p, _ := remote.Next()
				n, ok := lab.Number(p)
				if !ok || n <= got {
					t.Fatalf("got %q after %d", p, got)
				}
				got = n
			}
			last = int(g.Emitted.Load())
		}
	}
	g.End()
	t.Logf("%d of %d failed", a.Failed.Load(), g.Emitted.Load())
}

// TestDeaf has connections that seem to be fine while nothing goes through.
func TestDeaf(t *testing.T) {
	l := newLab(t)
	s := pgtest.Start(t)
	a := newNode(l, s.Pool(t), postgres.Options{})
	pool, p := through(t, s)
	o := impatient()
	b := newNode(l, pool, o)
	remote := b.Client("/")
	next := l.Eventually(a.Node, remote, 0) + 1
	for name, freeze := range map[string]func(bool){
		"both directions": p.Freeze, "what is heard": p.FreezeServer, "what is sent": p.FreezeClient,
	} {
		down := len(b.Downs()) + 1
		begin := time.Now()
		freeze(true)
		if err := b.AwaitDown(down); !errors.Is(err, postgres.ErrDeaf) {
			t.Errorf("%s: %v", name, err)
		}
		d := time.Since(begin)
		freeze(false)
		next = l.Eventually(a.Node, remote, next) + 1
		b.AwaitUp("/")
		t.Logf("%s: deaf after %v", name, d)
		if d < o.CanaryTimeout-2*o.CanaryInterval || d > o.CanaryTimeout+siotest.Patience/10 {
			t.Errorf("%s: deaf after %v", name, d)
		}
	}
	a.StayedUp()

	canaries := b.Canaries.Load()
	p.Delay(30 * time.Millisecond)
	l.Until("canaries come late", func() bool {
		return b.Canaries.Load() > canaries+5 && b.Lag.Load() > int64(50*time.Millisecond)
	})
	if err := b.State("/"); err != nil {
		t.Error("slow is not deaf:", err)
	}
	p.Delay(0)
	down := len(b.Downs()) + 1
	p.HalfClose()
	b.AwaitDown(down)
	l.Eventually(a.Node, remote, next)
}

// TestDeafListener has a listening connection that swallows everything, while those of the pool work.
func TestDeafListener(t *testing.T) {
	l := newLab(t)
	s := pgtest.Start(t)
	p := redistest.NewProxy(t, s.Addr())
	o := impatient()
	o.Listen = pgtest.PoolOf(t, strings.Replace(s.URL(), s.Addr(), p.Addr(), 1)).Config().ConnConfig
	a, b := newNode(l, s.Pool(t), postgres.Options{}), newNode(l, s.Pool(t), o)
	remote := b.Client("/")
	next := l.Eventually(a.Node, remote, 0) + 1
	p.FreezeServer(true)
	if err := b.AwaitDown(1); !errors.Is(err, postgres.ErrDeaf) {
		t.Error(err)
	}
	p.FreezeServer(false)
	l.Eventually(a.Node, remote, next)
	if gaps := b.gap(); len(gaps) != 1 || gaps[0] < o.CanaryTimeout {
		t.Error("gaps:", gaps)
	}
}

// TestQueueIsFull has a PostgreSQL that takes no more notifications.
func TestQueueIsFull(t *testing.T) {
	l := newLab(t)
	s, fill, drain := smallQueue(t)
	a := newNode(l, s.Pool(t), impatient())
	c := a.Client("/")
	fill()
	a.Says("does not read")
	for i := range 10 {
		if err := a.Emit(t.Context(), lab.Numbered, i); !errors.Is(err, adapter.ErrDown) {
			t.Error(err)
		}
		c.Want(fmt.Sprintf(`2["n",%d]`, i))
	}
	drain()
	a.AwaitUp("/")
}

// smallQueue returns a server whose queue can be filled. Before PostgreSQL 17 it has 8 GB, so that it only answers as if it were
// full.
func smallQueue(t *testing.T) (s *pgtest.Server, fill, drain func()) {
	t.Helper()
	s = pgtest.Start(t)
	var version int
	if err := s.Pool(t).QueryRow(t.Context(), "SELECT current_setting('server_version_num')::int").Scan(&version); err != nil {
		t.Fatal(err)
	}
	if version < 170000 {
		fill = func() {
			s.Exec(t, `CREATE SCHEMA "full"`, `CREATE FUNCTION "full".pg_notify(text, text) RETURNS void LANGUAGE plpgsql AS $$
				BEGIN RAISE program_limit_exceeded USING MESSAGE = 'too many notifications in the NOTIFY queue'; END $$`,
				`ALTER DATABASE postgres SET search_path = "full", pg_catalog, public`, killOthers)
		}
		return s, fill, func() { s.Exec(t, "ALTER DATABASE postgres RESET search_path", killOthers) }
	}
	s = pgtest.Start(t, "max_notify_queue_pages=64")
	conn, err := s.Pool(t).Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Release)
	do := func(sql string) error {
		_, err := conn.Exec(t.Context(), sql)
		return err
	}
	fill = func() {
		for _, sql := range []string{"LISTEN slow", "BEGIN"} { // it hears nothing before the end of the transaction
			must(t, do(sql))
		}
		for i := 0; s.Do(fmt.Sprintf("SELECT pg_notify('slow', repeat('x', 7900) || %d)", i)) == nil; i++ {
			if i == 1000 {
				t.Fatal("the queue takes more than its bound")
			}
		}
	}
	return s, fill, func() { must(t, do("ROLLBACK")) }
}

const (
	isListener = `query LIKE 'LISTEN%' OR query LIKE '%pg_notification_queue_usage%'`
	killOthers = `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()`
)

// TestStandby has a node that is led to a server which is read-only, until that is promoted.
func TestStandby(t *testing.T) {
	l := newLab(t)
	s := pgtest.Start(t)
	newNode(l, s.Pool(t), postgres.Options{}) // makes the table
	standby := s.Standby(t)
	n := startNode(l, standby.Pool(t), impatient())
	if err := n.AwaitDown(1); !strings.Contains(err.Error(), "read-only standby") {
		t.Error(err)
	}
	c := n.Client("/")
	if err := n.Emit(t.Context(), "local"); !errors.Is(err, adapter.ErrDown) {
		t.Error(err)
	}
	c.Want(`2["local"]`)
	standby.Promote(t)
	n.AwaitUp("/")
}

func TestPassword(t *testing.T) {
	l := newLab(t)
	s := pgtest.Start(t)
	s.User(t, "user", "old")
	s.Exec(t, `GRANT CREATE ON SCHEMA public TO "user"`)
	n := startNode(l, pgtest.PoolOf(t, s.URLAs("user", "new")), impatient())
	if err := n.AwaitDown(1); !strings.Contains(err.Error(), "28P01") || strings.Contains(err.Error(), "new") {
		t.Error(err)
	}
	s.Password(t, "user", "new")
	n.AwaitUp("/")
}

// TestPermissions has a user who may less and less not do.
func TestPermissions(t *testing.T) {
	l := newLab(t)
	s := pgtest.Start(t)
	url := s.User(t, "user", "secret")
	n := startNode(l, pgtest.PoolOf(t, url), impatient())
	reason := func(parts ...string) {
		t.Helper()
		l.Until(fmt.Sprint("the reason is known: ", parts), func() bool {
			err := n.State("/")
			for _, part := range parts {
				if err == nil || !strings.Contains(err.Error(), part) {
					return false
				}
			}
			return true
		})
	}
	reason("may not create it", `CREATE TABLE IF NOT EXISTS \"socket_io_attachments\"`, "42501")
	s.Exec(t, tableSQL)
	reason("permission denied", `"socket_io_attachments"`, "INSERT, SELECT")
	s.Exec(t, `GRANT INSERT, SELECT, DELETE ON socket_io_attachments TO "user"`)
	reason("permission denied", "sequence")
	s.Exec(t, `GRANT USAGE ON SEQUENCE socket_io_attachments_id_seq TO "user"`)
	n.AwaitUp("/")
	c := newNode(l, pgtest.PoolOf(t, url), impatient()).Client("/")
	n.AwaitNodes(2)
	long := strings.Repeat("x", 10_000)
	if err := n.Emit(t.Context(), "e", long); err != nil {
		t.Error(err)
	}
	c.Want(`2["e","` + long + `"]`)
}

// TestNobodyThere opens, publishes and closes while there is no PostgreSQL at all, or one that does not answer.
func TestNobodyThere(t *testing.T) {
	l := newLab(t)
	s := pgtest.Start(t)
	silent, p := through(t, s)
	p.Freeze(true)
	dead, gone := through(t, s)
	gone.Refuse(true)
	n := startNode(l, dead, postgres.Options{Timeout: siotest.Patience}) // dials all the time
	n.Says("connect")
	n.Stop()
	for name, pool := range map[string]*pgxpool.Pool{"dead": dead, "silent": silent} {
		n := startNode(l, pool, impatient())
		c := n.Client("/")
		begin := time.Now()
		for i := range 100 {
			if err := n.Emit(t.Context(), lab.Numbered, i); !errors.Is(err, adapter.ErrDown) {
				t.Errorf("%s: %v", name, err)
			}
			c.Want(fmt.Sprintf(`2["n",%d]`, i))
		}
		if d := time.Since(begin); d > 5*time.Second {
			t.Errorf("%s: it took %v to fail", name, d)
		}
		err := n.AwaitDown(1)
		t.Logf("%s: %v", name, err)
		begin = time.Now()
		n.Stop()
		if d := time.Since(begin); d > 4*time.Second {
			t.Errorf("%s: it took %v to close", name, d)
		}
	}
}

// TestPublishIsBounded publishes through connections that swallow everything: in memory and time, and all is counted.
func TestPublishIsBounded(t *testing.T) {
	l := newLab(t)
	s := pgtest.Start(t)
	pool, p := through(t, s)
	o := impatient()
	o.MaxQueueBytes, o.Cluster.PublishTimeout = 1<<20, 50*time.Millisecond
	n := newNode(l, pool, o)
	c := n.Client("/")
	p.Freeze(true)
	payload := strings.Repeat("x", 100<<10)
	begin := time.Now()
	full, down := 0, 0
	emitted := int64(0)
	for down == 0 {
		err := n.Emit(t.Context(), "large", payload)
		emitted++
		switch {
		case errors.Is(err, adapter.ErrFull):
			full++
		case errors.Is(err, adapter.ErrDown):
			down++
		}
		if p, ok := c.Next(); !ok || !strings.HasPrefix(p, `2["large"`) {
			t.Fatalf("local delivery: %.20q", p)
		}
		if time.Since(begin) > siotest.Patience {
			t.Fatal("it never goes down")
		}
	}
	if full == 0 {
		t.Error("the queue takes everything")
	}
	l.Until("all is counted", func() bool { return n.Published.Load()+n.Failed.Load() >= emitted })
	t.Logf("%d of %d failed, %d of them as the queue was full", n.Failed.Load(), emitted, full)
	begin = time.Now()
	n.Stop()
	if d := time.Since(begin); d > 4*time.Second {
		t.Errorf("it took %v to close", d)
	}
	p.Freeze(false) // the pool says goodbye
}

// TestPooler listens through a pooler, which passes notifications on only if it gives a connection away for good.
func TestPooler(t *testing.T) {
	l := newLab(t)
	s := pgtest.Start(t)
	b := pgtest.Pooler(t, s, pgtest.TransactionMode)
	url := b.URL() + "&default_query_exec_mode=exec"
	n := startNode(l, pgtest.PoolOf(t, url), impatient())
	if err := n.AwaitDown(1); !errors.Is(err, postgres.ErrDeaf) || !strings.Contains(err.Error(), "pooler") {
		t.Error(err)
	}
	o := impatient()
	o.Listen = s.Pool(t).Config().ConnConfig
	from, to := newNode(l, pgtest.PoolOf(t, url), o), newNode(l, pgtest.PoolOf(t, url), o)
	remote := to.Client("/")
	l.Eventually(from.Node, remote, 0)
	long := strings.Repeat("x", 10_000)
	if err := from.Emit(t.Context(), "e", long); err != nil {
		t.Error(err)
	}
	for p, ok := remote.Next(); p != `2["e","`+long+`"]`; p, ok = remote.Next() {
		if !ok {
			t.Fatal("it does not come")
		}
	}
	from.StayedUp()
	to.StayedUp()
}

func TestPoolerOfSessions(t *testing.T) {
	l := newLab(t)
	b := pgtest.Pooler(t, pgtest.Start(t), pgtest.SessionMode)
	from, to := newNode(l, pgtest.PoolOf(t, b.URL()), impatient()), newNode(l, pgtest.PoolOf(t, b.URL()), impatient())
	l.Eventually(from.Node, to.Client("/"), 0)
}
