package postgres_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/seed-0b620db0/patchbay/internal/pgtest"
	"github.com/seed-0b620db0/patchbay/internal/siotest"
	"github.com/seed-0b620db0/patchbay/pkg/adapter"
	"github.com/seed-0b620db0/patchbay/pkg/adapter/postgres"
	"github.com/seed-0b620db0/patchbay/pkg/sio"
)

// TestThreshold sends messages around the length that NOTIFY takes.
func TestThreshold(t *testing.T) {
	l := newLab(t)
	s := pgtest.Start(t)
	a, b := newNode(l, s.Pool(t), postgres.Options{}), newNode(l, s.Pool(t), postgres.Options{})
	c := b.Client("/")
	a.AwaitNodes(2)
	ear := listen(t, s, "socket.io#/")
	emit := func(n int) string {
		packet := `2["ev","` + strings.Repeat("x", n) + `"]`
		if err := a.Emit(t.Context(), "ev", strings.Repeat("x", n)); err != nil {
			t.Fatal(err)
		}
		c.Want(packet)
		return packet
	}
	broadcast := func() string { // leaves out heartbeats
		for {
			if _, p := ear.next(); strings.Contains(p, `"type":3`) {
				return p
			}
		}
	}
	emit(0)
	overhead := len(broadcast())
	for size, through := range map[int]int64{7998: 0, 7999: 0, 8000: 1, 8001: 1, 100_000: 1} {
		before := b.read.Load()
		emit(size - overhead)
		if n := len(broadcast()); through == 0 && n != size || through == 1 && n > 100 {
			t.Errorf("%d bytes: notified of %d", size, n)
		}
		if got := b.read.Load() - before; got != through {
			t.Errorf("%d bytes: %d attachments", size, got)
		}
	}
	if a.written.Load() != 3 || a.Failed.Load() > 0 {
		t.Error(a.written.Load(), "attachments,", a.Failed.Load(), "failed", a.Faults.All())
	}
}

// TestEqual sends what PostgreSQL would make one of.
func TestEqual(t *testing.T) {
	l := newLab(t)
	s := pgtest.Start(t)
	pool, p := through(t, s)
	a, b := newNode(l, pool, postgres.Options{}), newNode(l, s.Pool(t), postgres.Options{})
	c := b.Client("/")
	a.AwaitNodes(2)
	p.Delay(20 * time.Millisecond) // so that they pile up
	long := strings.Repeat("x", 7999-len(`{"type":3,"data":{"packet":{"type":2,"data":["long",""]},"opts":{"rooms":[],"except":[],"flags":{}}},`+
		`"uid":"0123456789abcdef","nsp":"/"}`))
	const n = 1500
	for i := range n {
		if err := a.Emit(t.Context(), "same"); err != nil {
			t.Fatal(err)
		}
		if i%300 == 0 {
			if err := a.Emit(t.Context(), "long", long); err != nil { // as many as there are: no white space fits
				t.Fatal(err)
			}
			if err := a.Emit(t.Context(), "long", long); err != nil {
				t.Fatal(err)
			}
		}
	}
	for i := range n {
		c.Want(`2["same"]`)
		if i%300 == 0 {
			c.Want(`2["long","`+long+`"]`, `2["long","`+long+`"]`)
		}
	}
	if a.written.Load() > 0 {
		t.Error("they were not to go through the table")
	}
}

// TestBadMessage has one in a batch that PostgreSQL does not take.
func TestBadMessage(t *testing.T) {
	l := newLab(t)
	s := pgtest.Start(t)
	pool, p := through(t, s)
	a, b := newNode(l, pool, postgres.Options{}), newNode(l, s.Pool(t), postgres.Options{})
	c := b.Client("/")
	a.AwaitNodes(2)
	p.Delay(20 * time.Millisecond) // so that they pile up
	for i := range 100 {
		if i%40 == 17 {
			if err := a.Adapter().Broadcast(t.Context(), &sio.Outgoing{Payload: []byte("[\"bad\",\"\xff\"]")}, sio.Target{}); err != nil {
				t.Fatal(err)
			}
		}
		if err := a.Emit(t.Context(), "n", i); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 100 {
		c.Want(fmt.Sprintf(`2["n",%d]`, i))
	}
	if n := a.Failed.Load(); n != 3 || !strings.Contains(a.Faults.All()[0], "22021") {
		t.Error(n, "failed", a.Faults.All())
	}
	a.StayedUp()
}

// TestNoTable has messages in a batch that the table does not take, because it is gone: the others do not suffer.
func TestNoTable(t *testing.T) {
	l := newLab(t)
	s := pgtest.Start(t)
	pool, p := through(t, s)
	a, b := newNode(l, pool, postgres.Options{}), newNode(l, s.Pool(t), postgres.Options{})
	c := b.Client("/")
	a.AwaitNodes(2)
	s.Exec(t, "DROP TABLE socket_io_attachments")
	p.Delay(20 * time.Millisecond) // so that they pile up
	for i := range 100 {
		if i%40 == 17 {
			must(t, a.Emit(t.Context(), "long", strings.Repeat("x", 9000)))
		}
		must(t, a.Emit(t.Context(), "n", i))
	}
	for i := range 100 {
		c.Want(fmt.Sprintf(`2["n",%d]`, i))
	}
	if n := a.Failed.Load(); n != 3 || !strings.Contains(a.Faults.All()[0], "42P01") {
		t.Error(n, "failed", a.Faults.All())
	}
	a.StayedUp()
}

// odd are names that mean something else to somebody.
var odd = []string{
	`/"; DROP TABLE "socket_io_attachments"; --`, `/'; DROP TABLE "socket_io_attachments"; --`, `/\'\"\\`, "/\x00nul", "/$1", "/%s%d", "/ünï/cödé/日本/🙂",
	"/" + strings.Repeat("n", 52), "/" + strings.Repeat("n", 53), "/" + strings.Repeat("n", 54), "/" + strings.Repeat("n", 199),
	"/" + strings.Repeat("日", 66), "/" + strings.Repeat("日", 66) + "x", "/line\nbreak", "/a.b", "/A", "/a", "/ ", "/~", "/-canary",
}

// TestOddNamespaces has namespaces that are not mistaken for another, nor for SQL.
func TestOddNamespaces(t *testing.T) {
	l := newLab(t)
	s := pgtest.Start(t)
	a, b := newNode(l, s.Pool(t), postgres.Options{}), newNode(l, s.Pool(t), postgres.Options{})
	for _, ns := range odd {
		got := make(chan string, 2)
		b.Of(ns).OnServerEvent("hello", func(_ context.Context, ev *sio.Event) error {
			var from string
			err := ev.Args().Decode(&from)
			got <- from
			return err
		})
		a.Of(ns)
		a.AwaitUp(ns)
		b.AwaitUp(ns)
		long := strings.Repeat(ns, 8000/len(ns)+1)
		for _, text := range []string{ns, long} {
			if err := a.Of(ns).ServerSideEmit(t.Context(), "hello", text); err != nil {
				t.Fatal(err)
			}
			select {
			case from := <-got:
				if from != text {
					t.Errorf("%.50q: got %.50q", text, from)
				}
			case <-time.After(5 * time.Second):
				t.Fatalf("%.50q: nothing came", ns)
			}
		}
	}
	if n := a.Failed.Load() + b.Dropped.Load(); n > 0 {
		t.Error(a.Faults.All(), b.Faults.All())
	}
	s.Exec(t, `SELECT 1 FROM "socket_io_attachments"`)
}

func TestOddTables(t *testing.T) {
	l := newLab(t)
	s := pgtest.Start(t)
	for _, name := range []string{
		`"; DROP SCHEMA public; --`, `'; DROP SCHEMA public; --`, `\'"\\`, "$1", "%s", "a.b", "A", "a", "日本🙂", strings.Repeat("t", 63), "with space", "select",
	} {
		s.Exec(t, "CREATE SCHEMA "+pgx.Identifier{name}.Sanitize())
		for _, schema := range []string{"", name} {
			o := postgres.Options{Table: name, Schema: schema, ChannelPrefix: "p" + fmt.Sprint(len(name), len(schema))}
			a, b := newNode(l, s.Pool(t), o), newNode(l, s.Pool(t), o)
			a.AwaitNodes(2)
			c := b.Client("/")
			long := strings.Repeat("x", 9000)
			if err := a.Emit(t.Context(), "e", long); err != nil {
				t.Error(err)
			}
			c.Want(`2["e","` + long + `"]`)
			if schema == "" {
				schema = "public"
			}
			s.Exec(t, "SELECT id, created_at, payload FROM "+pgx.Identifier{schema, name}.Sanitize())
			a.Stop()
			b.Stop()
		}
	}
	for name, o := range map[string]postgres.Options{
		"63 bytes": {Table: strings.Repeat("t", 64)}, "not UTF-8": {Schema: "\xff"}, "UTF-8": {Table: "a\x00b"}, "39 bytes": {ChannelPrefix: strings.Repeat("p", 40)},
	} {
		startNode(l, s.Pool(t), o).Says(name)
	}
}

// TestMixedSizes has three senders of small and large messages, while attachments are deleted as soon as they may be.
func TestMixedSizes(t *testing.T) {
	l := newLab(t)
	s := pgtest.Start(t)
	const each = 3334
	sizes := []int{0, 10, 500, 7700, 7850, 7900, 8000, 20_000, 3, 100_000}
	o := postgres.Options{
		Retention: 10 * time.Minute, CleanupInterval: 200 * time.Millisecond, Timeout: 10 * time.Second, // for slow machines
		Cluster: adapter.Options{MaxRequests: 4 * each, PublishTimeout: time.Minute},
	}
	to := newNode(l, s.Pool(t), o)
	type message struct{ from, i, bytes int }
	got := make(chan message, 3*each)
	to.OnServerEvent("m", func(_ context.Context, ev *sio.Event) error {
		var m message
		var text string
		err := ev.Args().Decode(&m.from, &m.i, &text)
		m.bytes = len(text)
		got <- m
		return err
	})
	var senders []*node
	var emitting sync.WaitGroup
	for range 3 {
		senders = append(senders, newNode(l, s.Pool(t), o))
	}
	begin := time.Now()
	for i, n := range senders {
		emitting.Go(func() {
			for j := range each {
				if err := n.ServerSideEmit(context.Background(), "m", i, j, strings.Repeat("x", sizes[(j*7+i)%len(sizes)])); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	s.Exec(t, `INSERT INTO socket_io_attachments (created_at, payload) SELECT now() - interval '1 hour', 'old' FROM generate_series(1, 5000)`)
	next := make([]int, len(senders))
	for n := range each * len(senders) {
		select {
		case m := <-got:
			if m.i != next[m.from] || m.bytes != sizes[(m.i*7+m.from)%len(sizes)] {
				t.Fatalf("message %d: got %v, want %v: %v %v", n, m, next, to.Faults.All(), senders[m.from].Faults.All())
			}
			next[m.from]++
		case <-time.After(siotest.Patience):
			t.Fatalf("got %d messages, %v: %v", n, next, to.Faults.All())
		}
	}
	emitting.Wait()
	d := time.Since(begin)
	t.Logf("%d messages in %v, %d read from the table, %d deleted", each*len(senders), d, to.read.Load(), to.cleaned.Load())
	l.Until("old ones are deleted", func() bool {
		n := to.cleaned.Load()
		for _, from := range senders {
			n += from.cleaned.Load()
		}
		return n >= 5000
	})
	if to.missed.Load() > 0 || to.Dropped.Load() > 0 {
		t.Error(to.Faults.All())
	}
	to.StayedUp()
}

// TestCatchUp has attachments written while a node does not listen.
func TestCatchUp(t *testing.T) {
	l := newLab(t)
	s := pgtest.Start(t)
	o := impatient()
	o.Cluster.HeartbeatTimeout = time.Minute
	a := newNode(l, s.Pool(t), o)
	pool, p := through(t, s)
	b := newNode(l, pool, o)
	for _, n := range []*node{a, b} {
		n.Of("/other")
		n.AwaitUp("/other")
	}
	root, other := b.Client("/"), b.Client("/other")
	long := strings.Repeat("x", 9000)
	emit := func(ns string, i int, text string) {
		t.Helper()
		if err := a.Of(ns).Emit(t.Context(), "e", i, text); err != nil {
			t.Fatal(err)
		}
	}
	want := func(i int) string { return fmt.Sprintf(`2["e",%d,"%s"]`, i, long) }
	for round := range 2 {
		recovered := b.recovered.Load()
		emit("/", 0, long) // handed over already: is not to come again
		root.Want(want(0))
		p.Refuse(true)
		p.Cut()
		b.AwaitDown(round + 1)
		for i := range 100 {
			emit("/", 1+i, long)
			emit("/", 1000, "lost")
			emit("/other", 1+i, long)
		}
		_ = b.Emit(t.Context(), "own", long)
		root.Want(`2["own","` + long + `"]`)
		written := int64(201 * (round + 1))
		l.Until("all is published", func() bool { return a.written.Load() >= written })
		p.Refuse(false)
		b.AwaitUp("/")
		b.AwaitUp("/other")
		emit("/", 101, long)
		emit("/other", 101, long)
		for i := range 101 {
			root.Want(want(1 + i))
			other.Want(want(1 + i))
		}
		if got := b.recovered.Load() - recovered; got < 200 || got > 202 { // it may have found the last ones, too
			t.Errorf("%d recovered: %v", got, b.Faults.All())
		}
	}
	if gaps := b.gap(); len(gaps) != 2 {
		t.Error("gaps:", gaps)
	}
	if got := append(root.Take(), other.Take()...); len(got) > 0 {
		t.Errorf("it got more: %.100q", got)
	}
	a.StayedUp()
}

// TestMissed has attachments that are gone when they are to be read.
func TestMissed(t *testing.T) {
	l := newLab(t)
	s := pgtest.Start(t)
	n := newNode(l, s.Pool(t), postgres.Options{MaxMessageBytes: 10_000})
	c := n.Client("/")
	p := &proxied{t: t, server: s, pool: s.Pool(t)}
	p.notify("socket.io#/", `{"uid":"emitter","type":3,"attachmentId":"12345"}`)
	p.notify("socket.io#/", `{"uid":"emitter","type":3,"attachmentId":"`+p.store(strings.Repeat("x", 10_001))+`"}`)
	p.notify("socket.io#/", `{"type":3,"data":{"packet":{"type":2,"data":["last"]},"opts":{"rooms":[],"except":[],"flags":{}}},"uid":"emitter"}`)
	c.Want(`2["last"]`)
	if n.missed.Load() != 1 || n.Dropped.Load() != 2 {
		t.Error(n.missed.Load(), "missed", n.Faults.All())
	}
	if err := n.Emit(t.Context(), "e", strings.Repeat("x", 20_000)); err == nil || !strings.Contains(err.Error(), "too long") {
		t.Error(err)
	}
	n.StayedUp()
}

// TestManyNamespaces opens and closes them.
func TestManyNamespaces(t *testing.T) {
	l := newLab(t)
	s := pgtest.Start(t)
	a, b := newNode(l, s.Pool(t), postgres.Options{}), newNode(l, s.Pool(t), postgres.Options{})
	const n = 2000
	begin := time.Now()
	for i := range n {
		a.Of(fmt.Sprint("/", i))
		b.Of(fmt.Sprint("/", i))
	}
	for i := range n {
		a.AwaitUp(fmt.Sprint("/", i))
		b.AwaitUp(fmt.Sprint("/", i))
	}
	t.Logf("%d namespaces on two nodes are up after %v", n, time.Since(begin))
	a.StayedUp()
	b.StayedUp()
}
