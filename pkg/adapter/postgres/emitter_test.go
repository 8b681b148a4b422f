package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/seed-0b620db0/patchbay/internal/pgtest"
	"github.com/seed-0b620db0/patchbay/internal/siotest"
	"github.com/seed-0b620db0/patchbay/pkg/adapter"
	"github.com/seed-0b620db0/patchbay/pkg/adapter/postgres"
	"github.com/seed-0b620db0/patchbay/pkg/sio/sioproto"
)

func TestEmitterWire(t *testing.T) {
	siotest.LeakCheck(t)
	s := pgtest.Start(t)
	s.Exec(t, tableSQL)
	e := postgres.NewEmitter(s.Pool(t), nil)
	ear := listen(t, s, "socket.io#/", "socket.io#/admin", "socket.io#~Ym6YE5BErjdBsHIT7FlBXg")
	ctx := t.Context()
	const opts = `"opts":{"rooms":[],"except":[],"flags":{}}`
	const end = `,"uid":"emitter","nsp":"/"}`
	long := "/" + strings.Repeat("x", 53)
	for _, c := range []struct {
		emit     func() error
		ns, want string
	}{
		{
			func() error { return e.Emit(ctx, "ev", 1, "é\x00\xff") }, "/",
			`{"type":3,"data":{"packet":{"type":2,"data":["ev",1,"é\u0000` + "\ufffd" + `"]},` + opts + `}` + end,
		},
		{
			func() error { return e.Of("admin").To("r1").Except("r2").Volatile().Compress(false).Emit(ctx, "ev") }, "/admin",
			`{"type":3,"data":{"packet":{"type":2,"data":["ev"]},"opts":{"rooms":["r1"],"except":["r2"],"flags":{"volatile":true,"compress":false}}},` +
				`"uid":"emitter","nsp":"/admin"}`,
		},
		{func() error { return e.SocketsJoin(ctx, "a", "b") }, "/", `{"type":4,"data":{` + opts + `,"rooms":["a","b"]}` + end},
		{func() error { return e.SocketsLeave(ctx, "a") }, "/", `{"type":5,"data":{` + opts + `,"rooms":["a"]}` + end},
		{func() error { return e.DisconnectSockets(ctx, true) }, "/", `{"type":6,"data":{` + opts + `,"close":true}` + end},
		{func() error { return e.ServerSideEmit(ctx, "hello", 1) }, "/", `{"type":9,"data":{"packet":["hello",1]}` + end},
		{
			func() error { return e.Of(long).SocketsLeave(ctx, "a") }, long,
			`{"type":5,"data":{` + opts + `,"rooms":["a"]},"uid":"emitter","nsp":"` + long + `"}`,
		},
	} {
		must(t, c.emit())
		if _, got, _ := ear.message("socket.io", c.ns); got != c.want {
			t.Errorf("got\n%s\nwant\n%s", got, c.want)
		}
	}
	must(t, e.ServerSideEmit(ctx, "bin", []byte{1, 2}))
	want := &adapter.Message{Type: adapter.ServerSideEmit, From: "emitter", Event: event(`["bin",`+holder0+`]`, []byte{1, 2})}
	if m, p, row := ear.message("socket.io", "/"); !equal(m, want) || row == nil || p != `{"uid":"emitter","type":9,"attachmentId":"1"}` {
		t.Errorf("%s %+v", p, m)
	}
}

// TestEmitterThreshold emits at the limit: in a transaction, where messages are numbered, it is 32 bytes lower.
func TestEmitterThreshold(t *testing.T) {
	siotest.LeakCheck(t)
	s := pgtest.Start(t)
	const schema, table = `my "s"`, `T; x`
	name := pgx.Identifier{schema, table}.Sanitize()
	s.Exec(t, `CREATE SCHEMA `+pgx.Identifier{schema}.Sanitize(), strings.Replace(tableSQL, "socket_io_attachments", name, 1))
	ear := listen(t, s, "p#/")
	ear.table = name
	conn := dial(t, s.URL())
	tx, err := conn.Begin(t.Context())
	must(t, err)
	must(t, tx.Rollback(t.Context()))
	const head = len(`{"type":3,"data":{"packet":{"type":2,"data":["ev",""]},"opts":{"rooms":[],"except":[],"flags":{}}},"uid":"emitter","nsp":"/"}`)
	for _, c := range []struct {
		db    postgres.Execer
		limit int
		first int // that goes through the table
	}{{s.Pool(t), 0, 8000}, {s.Pool(t), 500, 500}, {s.Pool(t), 9000, 8000}, {conn, 0, 7968}, {conn, 500, 500}} {
		e := postgres.NewEmitter(c.db, &postgres.EmitterOptions{ChannelPrefix: "p", Schema: schema, Table: table, PayloadThreshold: c.limit})
		for n := c.first - 2; n < c.first+3; n++ {
			arg := strings.Repeat("x", n-head)
			must(t, e.Emit(t.Context(), "ev", arg))
			m, payload, row := ear.message("p", "/")
			if (row != nil) != (n >= c.first) || row == nil && len(payload) != n || string(m.Event.Payload) != `["ev","`+arg+`"]` {
				t.Errorf("%T, %d: %d bytes: payload of %d, row of %d", c.db, c.limit, n, len(payload), len(row))
			}
		}
	}
}

func TestEmitterTransaction(t *testing.T) {
	siotest.LeakCheck(t)
	s := pgtest.Start(t)
	s.Exec(t, postgres.EmitFunctionSQL)
	ctx, pool := t.Context(), s.Pool(t)
	ear := listen(t, s, "socket.io#/")
	begin := func() (pgx.Tx, adapter.Emitter) {
		tx, err := pool.Begin(ctx)
		must(t, err)
		t.Cleanup(func() { _ = tx.Rollback(context.Background()) }) // if the test has failed
		return tx, postgres.NewEmitter(tx, nil)
	}
	bodies := func(payloads []string) (list []string) {
		for i, p := range payloads {
			if slices.Contains(payloads[:i], p) {
				t.Errorf("%q twice", p)
			}
			list = append(list, strings.TrimRight(p, " \t"))
		}
		return list
	}

	tx, e := begin()
	for range 100 {
		must(t, e.Emit(ctx, "same"))
	}
	_, err := tx.Exec(ctx, "SELECT sio_emit('/', NULL, 'same', NULL)") // whose text is the same, and which counts with it
	must(t, err)
	must(t, e.Emit(ctx, "same"))
	for range 2 {
		must(t, e.Emit(ctx, "large", strings.Repeat("x", 8000)))
	}
	if got := ear.all(); len(got) != 0 {
		t.Errorf("%q before the commit", got)
	}
	must(t, tx.Commit(ctx))
	const same = `{"type":3,"data":{"packet":{"type":2,"data":["same"]},"opts":{"rooms":[],"except":[],"flags":{}}},"uid":"emitter","nsp":"/"}`
	want := append(slices.Repeat([]string{same}, 102), `{"uid":"emitter","type":3,"attachmentId":"1"}`, `{"uid":"emitter","type":3,"attachmentId":"2"}`)
	if got := bodies(ear.all()); !slices.Equal(got, want) {
		t.Errorf("%d: %q", len(got), got)
	}

	tx, e = begin()
	must(t, e.Emit(ctx, "gone"))
	must(t, tx.Rollback(ctx))

	tx, e = begin()
	must(t, e.Emit(ctx, "same"))
	inner, err := tx.Begin(ctx)
	must(t, err)
	must(t, postgres.NewEmitter(inner, nil).Emit(ctx, "same"))
	must(t, inner.Rollback(ctx))
	must(t, e.Emit(ctx, "same"))
	must(t, tx.Commit(ctx))
	if got := ear.all(); !slices.Equal(got, []string{same, same + "\t"}) {
		t.Errorf("%q", got)
	}
}

// TestEmitterLongTransaction has a transaction that began long before it emits. Servers delete what is old: what it emits is not.
func TestEmitterLongTransaction(t *testing.T) {
	siotest.LeakCheck(t)
	s := pgtest.Start(t)
	s.Exec(t, postgres.EmitFunctionSQL)
	ctx := t.Context()
	var rows, young int
	must(t, pgx.BeginFunc(ctx, s.Pool(t), func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "SELECT pg_sleep(0.1)")
		must(t, err)
		must(t, postgres.NewEmitter(tx, nil).Emit(ctx, "large", strings.Repeat("x", 8000)))
		_, err = tx.Exec(ctx, "SELECT sio_emit('/', NULL, 'large', to_jsonb(repeat('x', 8000)))")
		must(t, err)
		return tx.QueryRow(ctx, `SELECT count(*), count(*) FILTER (WHERE created_at >= now() + interval '0.1 s')
			FROM socket_io_attachments`).Scan(&rows, &young)
	}))
	if rows != 2 || young != 2 {
		t.Errorf("%d of %d rows are as young as they are", young, rows)
	}
}

// execs is a database that says what it is told.
type execs func(sql string, args ...any) error

func (f execs) Exec(_ context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	return pgconn.CommandTag{}, f(sql, args...)
}

func TestEmitterFailure(t *testing.T) {
	siotest.LeakCheck(t)
	s := pgtest.Start(t)
	ctx, pool := t.Context(), s.Pool(t)
	e := postgres.NewEmitter(pool, &postgres.EmitterOptions{MaxMessageBytes: 9000, Table: "none"})
	var pgErr *pgconn.PgError
	if err := e.Emit(ctx, "ev", []byte{1}); !errors.As(err, &pgErr) || pgErr.Code != "42P01" || !strings.HasPrefix(err.Error(), "postgres: emit: ") {
		t.Error(err)
	}
	if err := e.Emit(ctx, "ev", strings.Repeat("x", 9000)); !errors.Is(err, postgres.ErrTooLong) {
		t.Error(err)
	}
	if err := e.Emit(ctx, "disconnect"); !errors.Is(err, sioproto.ErrReserved) {
		t.Error(err)
	}
	if err := e.ServerSideEmit(ctx, "connection"); !errors.Is(err, sioproto.ErrReserved) {
		t.Error(err)
	}
	if err := e.Emit(ctx, "ev", func() {}); err == nil {
		t.Error("a function was sent")
	}
	prefixed := postgres.NewEmitter(pool, &postgres.EmitterOptions{ChannelPrefix: strings.Repeat("p", 40)})
	if err := prefixed.Emit(ctx, "ev"); !errors.Is(err, postgres.ErrPrefix) {
		t.Error(err)
	}
	done, cancel := context.WithCancel(ctx)
	cancel()
	if err := e.Emit(done, "ev"); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	broken := errors.New("broken")
	calls := 0
	db := execs(func(string, ...any) error { calls++; return broken })
	if err := postgres.NewEmitter(db, nil).Emit(ctx, "ev"); !errors.Is(err, broken) || calls != 1 {
		t.Error(err, calls)
	}
	s.Stop()
	if err := e.Emit(ctx, "ev"); err == nil {
		t.Error("sent to nobody")
	}
}

func ExampleNewEmitter() {
	// A pool, for a process that only emits. Here it prints what it sends.
	db := execs(func(_ string, args ...any) error { fmt.Println(args...); return nil })

	ctx := context.Background()
	io := postgres.NewEmitter(db, nil)
	if err := io.To("news").Except("muted").Emit(ctx, "headline", "Go 2 postponed"); err != nil {
		fmt.Println(err)
	}
	if err := io.Of("/admin").In("on call").SocketsJoin(ctx, "incident 7"); err != nil {
		fmt.Println(err)
	}
	// Output:
	// socket.io#/ {"type":3,"data":{"packet":{"type":2,"data":["headline","Go 2 postponed"]},"opts":{"rooms":["news"],"except":["muted"],"flags":{}}},"uid":"emitter","nsp":"/"}
	// socket.io#/admin {"type":4,"data":{"opts":{"rooms":["on call"],"except":[],"flags":{}},"rooms":["incident 7"]},"uid":"emitter","nsp":"/admin"}
}
