package postgres_test

import (
	"encoding/json"
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
)

// startSQL starts a server with the migration, which it runs twice.
func startSQL(t testing.TB) (*pgtest.Server, *pgx.Conn) {
	t.Helper()
	siotest.LeakCheck(t)
	s := pgtest.Start(t)
	s.Exec(t, postgres.EmitFunctionSQL, postgres.EmitFunctionSQL)
	return s, dial(t, s.URL())
}

func do(t testing.TB, conn *pgx.Conn, sql string, args ...any) {
	t.Helper()
	_, err := conn.Exec(t.Context(), sql, args...)
	must(t, err)
}

func TestEmitFunction(t *testing.T) {
	s, conn := startSQL(t)
	long := "/" + strings.Repeat("é", 40)
	ear := listen(t, s, "socket.io#/", "socket.io#/a", "socket.io#/b\"\\\n", "p#/", postgres.ChannelName("p", long))
	for _, c := range []struct {
		call, prefix, ns string
		want             adapter.Message
	}{
		{`'/', NULL, 'ev', NULL`, "socket.io", "/", adapter.Message{Event: event(`["ev"]`)}},
		{`'', NULL, 'ev', 'null'`, "socket.io", "/", adapter.Message{Event: event(`["ev",null]`)}},
		{`'a', '{r1,"r 2"}', 'ev', '[]'`, "socket.io", "/a", adapter.Message{Event: event(`["ev"]`), Target: target("r1", "")}},
		{`'/', '{r1}', 'ev', '[1, "two", [3]]', '{x,y}'`, "socket.io", "/", adapter.Message{Event: event(`["ev",1,"two",[3]]`), Target: target("r1", "x y")}},
		{`'/', NULL, 'ev', '{"b": 1, "a": "x, y: z"}', NULL`, "socket.io", "/", adapter.Message{Event: event(`["ev",{"a":"x, y: z","b":1}]`)}},
		{`'/', NULL, 'ev', '"text"', except_rooms => '{x}'`, "socket.io", "/", adapter.Message{Event: event(`["ev","text"]`), Target: target("", "x")}},
		{`'/', NULL, E'\\ "e" v\n\x01', '[true]', '{}', 'p'`, "p", "/", adapter.Message{Event: event(`["\\ \"e\" v\n\u0001",true]`)}},
		{`E'/b"\\\n', NULL, 'ev', '[]'`, "socket.io", "/b\"\\\n", adapter.Message{Event: event(`["ev"]`)}},
		{`'` + long + `', NULL, 'ev', '[]', channel_prefix => 'p'`, "p", long, adapter.Message{Event: event(`["ev"]`)}},
		{`'` + long[1:] + `', NULL, 'ev', to_jsonb(repeat('x', 9000)), channel_prefix => 'p'`, "p", long, adapter.Message{
			Event: event(`["ev","` + strings.Repeat("x", 9000) + `"]`),
		}},
	} {
		do(t, conn, "SELECT sio_emit("+c.call+")")
		c.want.Type, c.want.From = adapter.Broadcast, "emitter"
		if len(c.want.Target.Rooms) == 1 && strings.Contains(c.call, "r 2") {
			c.want.Target.Rooms = []string{"r1", "r 2"}
		}
		got, payload, row := ear.message(c.prefix, c.ns)
		if !equal(*got, c.want) {
			t.Errorf("%.100s\n%.500s\ngot  %+v %s\nwant %+v %s", c.call, payload, got, got.Event.Payload, c.want, c.want.Event.Payload)
		}
		if row != nil {
			continue
		}
		out, err := postgres.NewWire(c.prefix, c.ns, "me", 0).Encode(got)
		must(t, err)
		if got := compact(t, payload); got != out.Payload {
			t.Errorf("got\n%s\nwant, as the emitter sends it\n%s", got, out.Payload)
		}
	}
	do(t, conn, "SELECT sio_emit('/', '{}', 'ev', '[]')")
	if got := ear.all(); len(got) != 0 {
		t.Errorf("%q for nobody", got)
	}
}

// TestEmitFunctionThreshold emits at the limit, with blanks that do not count.
func TestEmitFunctionThreshold(t *testing.T) {
	s, conn := startSQL(t)
	ear := listen(t, s, "socket.io#/")
	const head = len(`{"type":3,"data":{"packet":{"type":2,"data":["ev","é"]},"opts":{"rooms":[],"except":[],"flags":{}}},"uid":"emitter","nsp":"/"}`)
	args := map[string]func(n int) string{
		"text": func(n int) string { return `"` + strings.Repeat("x", n-head) + `é"` },
		"blanks": func(n int) string {
			return `"é` + strings.Repeat(", ", (n-head)/2) + strings.Repeat(":", (n-head)%2) + `"`
		},
		"array": func(n int) string {
			n -= head - len(`"é"`)
			return `[` + strings.Repeat(`1, `, n/2-4) + `"` + strings.Repeat("x", n-2*(n/2-4)-2) + `"]`
		},
	}
	for name, arg := range args {
		for n := 7997; n <= 8003; n++ {
			do(t, conn, "SELECT sio_emit('/', NULL, 'ev', $1::jsonb)", arg(n))
			m, payload, row := ear.message("socket.io", "/")
			if (row != nil) != (n >= 8000) || row == nil && len(payload) != n {
				t.Errorf("%s of %d: payload of %d, row of %d", name, n, len(payload), len(row))
			}
			want := compact(t, arg(n))
			if want[0] == '[' {
				want = want[1 : len(want)-1]
			}
			if got := string(m.Event.Payload); got != `["ev",`+want+`]` {
				t.Errorf("%s of %d: %.100s", name, n, got)
			}
		}
	}
	// With a number behind it, which is 1 here, the limit is one less.
	for n := 7998; n <= 8000; n++ {
		do(t, conn, "BEGIN")
		do(t, conn, "SELECT sio_emit('/', NULL, 'ev', '[]')")
		do(t, conn, "SELECT sio_emit('/', NULL, 'ev', $1::jsonb)", args["text"](n))
		do(t, conn, "COMMIT")
		ear.message("socket.io", "/")
		if _, payload, row := ear.message("socket.io", "/"); (row != nil) != (n >= 7999) {
			t.Errorf("%d: payload of %d, row of %d", n, len(payload), len(row))
		}
	}
}

func compact(t testing.TB, s string) string {
	t.Helper()
	var v json.RawMessage
	must(t, json.Unmarshal([]byte(s), &v))
	b, err := json.Marshal(v)
	must(t, err)
	return string(b)
}

func TestEmitFunctionRefuses(t *testing.T) {
	_, conn := startSQL(t)
	deep := strings.Repeat("[", 500) + strings.Repeat("]", 500)
	for _, c := range []struct{ call, code, text string }{
		{`NULL, NULL, 'ev', NULL`, "22004", "sio_emit: namespace must not be NULL"},
		{`'/', NULL, NULL, NULL`, "22004", "sio_emit: event must not be NULL"},
		{`'/', NULL, 'ev', NULL, NULL, NULL`, "22004", "sio_emit: channel_prefix must not be NULL"},
		{`'/', NULL, 'ev', NULL, NULL, 'p', NULL`, "22004", "sio_emit: attachments must not be NULL"},
		{`'/', NULL, 'disconnect', NULL`, "22023", `sio_emit: event name "disconnect" is reserved`},
		{`'/', NULL, 'newListener', NULL`, "22023", `sio_emit: event name "newListener" is reserved`},
		{`'/', '{a,NULL}', 'ev', NULL`, "22004", "sio_emit: the name of a room must not be NULL"},
		{`'/', NULL, 'ev', NULL, '{NULL}'`, "22004", "sio_emit: the name of a room must not be NULL"},
		{`'/', NULL, 'ev', NULL, NULL, repeat('é', 20)`, "22023", "sio_emit: channel_prefix is longer than 39 bytes"},
		{`'/', NULL, 'ev', '` + deep + `'`, "54000", "sio_emit: args are nested too deep"},
		{`'/', NULL, 'ev', jsonb_build_array('` + deep + `'::jsonb, repeat('x', 20000))`, "54000", "sio_emit: args are nested too deep"},
		{`'/', NULL, 'ev', to_jsonb(repeat('x', 34000000))`, "54000", "sio_emit: message of 340"},
		{`'/', NULL, 'ev', NULL, NULL, 'p', 'nowhere'`, "42P01", `relation "nowhere" does not exist`},
		{`'/', '{{a,b},{c,d}}', 'ev', NULL`, "0A000", "multidimensional"},
	} {
		var pgErr *pgconn.PgError
		_, err := conn.Exec(t.Context(), "SELECT sio_emit("+c.call+")")
		if !errors.As(err, &pgErr) || pgErr.Code != c.code || !strings.Contains(pgErr.Message, c.text) {
			t.Errorf("%.100s: %v", c.call, err)
		}
	}
}

func TestEmitFunctionTransaction(t *testing.T) {
	s, conn := startSQL(t)
	ear := listen(t, s, "socket.io#/")
	for _, sql := range []string{
		`CREATE TABLE orders (id int, note text)`,
		`CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN
			PERFORM sio_emit('/', ARRAY['orders'], lower(TG_OP), to_jsonb(NEW));
			RETURN NULL;
		END $$`,
		`CREATE TRIGGER tell AFTER INSERT OR UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION tell()`,
	} {
		do(t, conn, sql)
	}
	payloads := func(n int) (list []string) {
		for range n {
			m, _, _ := ear.message("socket.io", "/")
			list = append(list, fmt.Sprint(m.Target.Rooms, string(m.Event.Payload)))
		}
		if more := ear.all(); len(more) > 0 {
			t.Errorf("%.200q beside them", more)
		}
		return list
	}

	do(t, conn, "INSERT INTO orders VALUES (1, 'a'), (1, 'a'), (1, 'a')") // equal, in one statement
	want := slices.Repeat([]string{`[orders]["insert",{"id":1,"note":"a"}]`}, 3)
	if got := payloads(3); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}

	do(t, conn, "BEGIN")
	do(t, conn, "INSERT INTO orders VALUES (2, 'b')")
	do(t, conn, "UPDATE orders SET note = 'c' WHERE id = 2")
	do(t, conn, "INSERT INTO orders VALUES (2, 'b')")
	do(t, conn, "SAVEPOINT s")
	do(t, conn, "INSERT INTO orders VALUES (2, 'b')")
	do(t, conn, "ROLLBACK TO s")
	do(t, conn, "INSERT INTO orders VALUES (2, 'b')")
	if got := ear.all(); len(got) != 0 {
		t.Errorf("%q before the commit", got)
	}
	do(t, conn, "COMMIT")
	b := `[orders]["insert",{"id":2,"note":"b"}]`
	if got, want := payloads(4), []string{b, `[orders]["update",{"id":2,"note":"c"}]`, b, b}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}

	do(t, conn, "BEGIN")
	do(t, conn, "INSERT INTO orders VALUES (3, 'gone')")
	do(t, conn, "INSERT INTO orders VALUES (3, repeat('gone', 5000))")
	do(t, conn, "ROLLBACK")
	if got := payloads(0); got != nil {
		t.Errorf("%q", got)
	}
	var rows int
	must(t, conn.QueryRow(t.Context(), "SELECT count(*) FROM socket_io_attachments").Scan(&rows))
	if rows != 0 {
		t.Errorf("%d rows", rows)
	}

	// Many equal ones of each kind.
	do(t, conn, "INSERT INTO orders SELECT 4, n FROM generate_series(1, 1000), (VALUES ('x'), (repeat('y', 8000))) AS v(n) ORDER BY n")
	got := payloads(2000)
	x, y := `[orders]["insert",{"id":4,"note":"x"}]`, `[orders]["insert",{"id":4,"note":"`+strings.Repeat("y", 8000)+`"}]`
	if !slices.Equal(got, append(slices.Repeat([]string{x}, 1000), slices.Repeat([]string{y}, 1000)...)) {
		t.Errorf("%d: %.200q", len(got), got)
	}
}

// TestEmitFunctionFinds runs it where nothing is on the search_path, by a user who may not create anything, with another table.
func TestEmitFunctionFinds(t *testing.T) {
	s, conn := startSQL(t)
	ear := listen(t, s, "socket.io#/")
	for _, sql := range []string{
		`REVOKE CREATE ON SCHEMA public FROM PUBLIC`,
		`CREATE SCHEMA "Other; s"`,
		`CREATE TABLE "Other; s"."T" (LIKE socket_io_attachments INCLUDING ALL)`,
	} {
		do(t, conn, sql)
	}
	user := dial(t, s.User(t, "limited", "secret"))
	do(t, user, "SET search_path = ''")
	do(t, user, "SELECT public.sio_emit('/', NULL, 'ev', '[]')")
	ear.message("socket.io", "/")
	const large = `SELECT public.sio_emit('/', NULL, 'ev', to_jsonb(repeat('x', 9000)))`
	var pgErr *pgconn.PgError
	if _, err := user.Exec(t.Context(), large); !errors.As(err, &pgErr) || pgErr.Code != "42501" {
		t.Error(err)
	}
	do(t, conn, `GRANT INSERT, SELECT ON socket_io_attachments TO limited`)
	do(t, conn, `GRANT USAGE ON SEQUENCE socket_io_attachments_id_seq TO limited`)
	do(t, user, large)
	if _, _, row := ear.message("socket.io", "/"); row == nil {
		t.Error("no row")
	}
	ear.table = `"Other; s"."T"`
	do(t, conn, `SELECT sio_emit('/', NULL, 'ev', to_jsonb(repeat('x', 9000)), attachments => '"Other; s"."T"')`)
	if _, _, row := ear.message("socket.io", "/"); row == nil {
		t.Error("no row")
	}
}
