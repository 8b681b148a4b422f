package gateway_test

import (
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/seed-0b620db0/patchbay/internal/gateway"
	"github.com/seed-0b620db0/patchbay/internal/siotest"
)

// withoutEnvironment keeps what this host says of PostgreSQL out of a test.
func withoutEnvironment(t *testing.T) {
	t.Helper()
	for _, v := range os.Environ() {
		if name, _, _ := strings.Cut(v, "="); strings.HasPrefix(name, "PG") {
			t.Setenv(name, "")
		}
	}
	t.Setenv("PGPASSFILE", filepath.Join(t.TempDir(), "none"))
}

func TestPostgresURL(t *testing.T) {
	withoutEnvironment(t)
	type want struct {
		addrs                    []string
		user, password, database string
		tls                      bool // required
		params                   map[string]string
	}
	for raw, want := range map[string]want{
		"postgres://db":             {addrs: []string{"db:5432"}},
		"POSTGRESQL://me@db:1/chat": {addrs: []string{"db:1"}, user: "me", database: "chat"},
		"postgres://m%40e:p%3A%2F%40%25+%20%3F%23'\\\\@db/c%20d": {addrs: []string{"db:5432"}, user: "m@e", password: `p:/@%+ ?#'\\`, database: "c d"},
		"postgres://:pw@db":           {addrs: []string{"db:5432"}, password: "pw"},
		"postgres://[fd00::1]:7000/x": {addrs: []string{"[fd00::1]:7000"}, database: "x"},
		"postgres://a,b:1,[::1]:2/x?target_session_attrs=read-write":    {addrs: []string{"a:5432", "b:1", "[::1]:2"}, database: "x"},
		"postgres://db?sslmode=require":                                 {addrs: []string{"db:5432"}, tls: true},
		"postgres://db?sslmode=verify-full&search_path=my,public&a.b=c": {addrs: []string{"db:5432"}, tls: true, params: map[string]string{"search_path": "my,public", "a.b": "c"}},
		"postgres:///x?host=/run/postgresql&application_name=mine":      {database: "x", params: map[string]string{"application_name": "mine"}},
		"postgres://me@%2Frun%2Fpostgresql,db/x":                        {addrs: []string{"db:5432"}, user: "me", database: "x"},
		"postgres://db?pool_max_conn_lifetime=1h&pool_min_conns=1":      {addrs: []string{"db:5432"}},
	} {
		got, err := gateway.ParsePostgresURL(raw)
		if err != nil {
			t.Errorf("%s: %v", raw, err)
			continue
		}
		if addrs := gateway.PostgresAddrs(got); !slices.Equal(addrs, want.addrs) || want.user != "" && got.User != want.user || got.Password != want.password ||
			want.database != "" && got.Database != want.database || !maps.Equal(got.RuntimeParams, want.params) || (got.ConnectTimeout == 3*time.Second) != (len(addrs) < 2) {
			t.Errorf("%s: %v, %q, %q, %q, %v, %v", raw, addrs, got.User, got.Password, got.Database, got.RuntimeParams, got.ConnectTimeout)
		}
		plain := got.TLSConfig == nil || slices.ContainsFunc(got.Fallbacks, func(f *pgconn.FallbackConfig) bool { return f.TLSConfig == nil })
		if want.tls == plain {
			t.Errorf("%s: TLS %v", raw, !plain)
		}
	}
	t.Setenv("PGPORT", "6432")
	for raw, want := range map[string][]string{
		"postgres://a,b": {"a:6432", "b:6432"}, "postgres://a,b?port=7432": {"a:7432", "b:7432"}, "postgres://a,b:1": {"a:5432", "b:1"},
	} {
		got, err := gateway.ParsePostgresURL(raw)
		if err != nil || !slices.Equal(gateway.PostgresAddrs(got), want) {
			t.Errorf("%s with PGPORT: %+v, %v", raw, got, err)
		}
	}
	if got, err := gateway.ParsePostgresURL("postgres://db?connect_timeout=7"); err != nil || got.ConnectTimeout != 7*time.Second {
		t.Errorf("got %+v, %v", got, err)
	}
}

// Whatever is wrong, the password is not in the error.
func TestPostgresURLErrors(t *testing.T) {
	file := filepath.Join(t.TempDir(), "hunter2.pem") // only what cannot be opened is named
	if err := os.WriteFile(file, []byte("hunter2"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, raw := range []string{
		"hunter2", "postgres:hunter2@h", "http://:hunter2@h", "postgres//:hunter2@h", "hunter2://h", "host=h password=hunter2",
		"postgres://:hun/ter2hunter2@h", "postgres://:hunter2?x@h", "postgres://:hunter2#x@h", "postgres://:hunter2%zz@h",
		"postgres://u:p@hunter2@h", "postgres://u:p:hunter2@h", "postgres://h:hunter2", "postgres://:hunter2@h:0", "postgres://:hunter2@h:65536",
		"postgres://:hunter2@h:", "postgres://:hunter2@a b", "postgres://:hunter2@::1:x", "postgres://:hunter2@,", "postgres://:hunter2@a,,b",
		"postgres://:hunter2@h/%zz", "postgres://h?x=%zzhunter2", "postgres://h?sslmode=hunter2", "postgres://h?sslmode=disable&sslmode=hunter2",
		"postgres://h?hunter2%3D=1", "postgres://h?hun%20ter2hunter2=1", "postgres://h?connect_timeout=hunter2", "postgres://h?target_session_attrs=hunter2",
		"postgres://:hunter2@h?sslrootcert=/no/such/file&sslmode=verify-full", "postgres://:hunter2@h?sslmode=verify-full&sslrootcert=" + file,
		"postgres://:hunter2@h?sslcert=" + file, "postgres://h?default_query_exec_mode=hunter2", "postgres://:hunter2@h?pool_max_conns=3",
		"postgres://h?pool_min_conns=hunter2", "postgres://h?port=hunter2",
	} {
		for _, name := range []string{"POSTGRES_URL", "POSTGRES_LISTEN_URL"} {
			_, _, err := gateway.Load(environ("ADAPTER=postgres", name+"="+raw))
			if err == nil || !strings.Contains(err.Error(), "GATEWAY_"+name+": ") || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("%s: %v", raw, err)
			}
		}
	}
	_, _, err := gateway.Load(environ("ADAPTER=postgres", "POSTGRES_URL=postgres://h?sslmode=verify-full&sslrootcert=/no/such/file"))
	if err == nil || !strings.Contains(err.Error(), "/no/such/file") {
		t.Error(err)
	}
}

func TestPostgresConfig(t *testing.T) {
	withoutEnvironment(t)
	config := func(vars ...string) (int32, *pgx.ConnConfig, *pgx.ConnConfig) {
		t.Helper()
		pool, listen, err := load(t, append(vars, "ADAPTER=postgres", "NODE=node-7")...).PostgresConfig()
		if err != nil {
			t.Fatal(err)
		}
		return pool.MaxConns, pool.ConnConfig, listen
	}
	conns, pool, listen := config("POSTGRES_URL=postgres://db", "POSTGRES_POOL_SIZE=9")
	if conns != 9 || listen != nil || pool.RuntimeParams["application_name"] != "patchbay node-7" || pool.DefaultQueryExecMode != pgx.QueryExecModeCacheStatement {
		t.Errorf("got %d, %+v, %+v", conns, pool, listen)
	}
	for url, want := range map[string]time.Duration{
		"postgres://db": 3 * time.Second, "postgres://a,b": time.Second, "postgres://a,b?connect_timeout=7": 7 * time.Second,
	} {
		if _, pool, _ = config("POSTGRES_URL=" + url); pool.ConnectTimeout != want {
			t.Errorf("%s: %v for a host, want %v", url, pool.ConnectTimeout, want)
		}
	}
	_, pool, listen = config("POSTGRES_URL=postgres://pooler:6432?application_name=mine", "POSTGRES_LISTEN_URL=postgres://db")
	if pool.RuntimeParams["application_name"] != "mine" || pool.DefaultQueryExecMode != pgx.QueryExecModeExec || pool.Host != "pooler" || pool.Port != 6432 ||
		listen.Host != "db" || listen.RuntimeParams["application_name"] != "patchbay node-7" {
		t.Errorf("got %+v, %+v", pool, listen)
	}
	_, pool, _ = config("POSTGRES_URL=postgres://pooler?default_query_exec_mode=cache_statement", "POSTGRES_LISTEN_URL=postgres://db")
	if pool.DefaultQueryExecMode != pgx.QueryExecModeCacheStatement {
		t.Errorf("got %+v", pool)
	}
}

// A gateway that cannot be made leaves no pool behind.
func TestPostgresPoolIsClosed(t *testing.T) {
	siotest.LeakCheck(t)
	cfg := load(t, "ADAPTER=postgres", "POSTGRES_URL=postgres://db", "JWT_PUBLIC_KEY_FILE=/no/such/file")
	if _, err := gateway.New(cfg, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("made")
	}
}

// Whatever GATEWAY_POSTGRES_URL is, nothing panics, and what is accepted can be connected to.
func FuzzPostgresURL(f *testing.F) {
	for _, raw := range []string{
		"postgres://user:p%40ss@host:5432/db?sslmode=require", "postgres://[::1]", "postgres:///db?host=/run/postgresql", "postgresql://a,b:1/x?a.b=c",
	} {
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		config, err := gateway.ParsePostgresURL(raw)
		if err != nil {
			return
		}
		for _, addr := range gateway.PostgresAddrs(config) {
			if _, _, err := net.SplitHostPort(addr); err != nil {
				t.Errorf("%q: %v", raw, err)
			}
		}
	})
}
