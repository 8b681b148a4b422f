package preflight_test

import (
	"context"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/seed-0b620db0/patchbay/internal/pgtest"
	"github.com/seed-0b620db0/patchbay/internal/preflight"
	"github.com/seed-0b620db0/patchbay/internal/redistest"
	"github.com/seed-0b620db0/patchbay/internal/siotest"
)

// checkPostgres is check of a node on PostgreSQL.
func checkPostgres(t *testing.T, url string, vars ...string) *preflight.Report {
	t.Helper()
	return check(t, preflight.Options{}, append([]string{"ADAPTER=postgres", "POSTGRES_URL=" + url}, vars...)...)
}

// tables returns the tables and sequences that there are.
func tables(t *testing.T, s *pgtest.Server) (all []string) {
	t.Helper()
	rows, err := s.Pool(t).Query(t.Context(), `SELECT relname::text FROM pg_class WHERE relkind IN ('r', 'S') AND relnamespace = 'public'::regnamespace`)
	if err == nil {
		all, err = pgx.CollectRows(rows, pgx.RowTo[string])
	}
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestPostgres(t *testing.T) {
	s := pgtest.Start(t)
	good := func(r *preflight.Report) {
		t.Helper()
		none(t, r, preflight.Fail, "postgres.")
		none(t, r, preflight.Warn, "postgres.")
		for _, name := range []string{"connect", "version", "role", "clock", "connections", "queue", "table", "listen", "registry"} {
			want(t, r, preflight.OK, "postgres."+name)
		}
	}
	r := checkPostgres(t, s.URL())
	good(r)
	want(t, r, preflight.OK, "postgres.connect", "directly")
	want(t, r, preflight.OK, "postgres.table", "is missing, and the user may make it")
	want(t, r, preflight.OK, "peers.tag", "node-1 is free")
	if all := tables(t, s); len(all) > 0 {
		t.Errorf("left behind: %v", all)
	}
	_, stop := start(t, "ADAPTER=postgres", "POSTGRES_URL="+s.URL(), "NODE=node-2")
	r = checkPostgres(t, s.URL())
	good(r)
	want(t, r, preflight.OK, "postgres.table", "is there")
	want(t, r, preflight.OK, "peers.reach", "node-2 at ", "takes what this node forwards")
	stop()
	want(t, checkPostgres(t, s.URL(), "POSTGRES_SCHEMA=nowhere"), preflight.Fail, "postgres.table", "nowhere")
	want(t, checkPostgres(t, s.URL(), "POSTGRES_SCHEMA=nowhere"), preflight.Fail, "postgres.registry", "could not register")
}

// The rights of the user.
func TestPostgresRights(t *testing.T) {
	s := pgtest.Start(t)
	u := s.User(t, "app", password)
	s.Exec(t, "REVOKE CREATE ON SCHEMA public FROM PUBLIC")
	r := checkPostgres(t, u)
	want(t, r, preflight.Fail, "postgres.table", "may not make it", "bigserial")
	want(t, r, preflight.Fail, "postgres.registry", "patchbay_nodes", "may not make it")
	want(t, r, preflight.OK, "postgres.listen")

	_, stop := start(t, "ADAPTER=postgres", "POSTGRES_URL="+s.URL()) // which makes them
	stop()
	r = checkPostgres(t, u)
	want(t, r, preflight.Fail, "postgres.table", "lacks INSERT, SELECT, DELETE, USAGE of its sequence")
	want(t, r, preflight.Fail, "postgres.registry", "permission denied")
	s.Exec(t, "GRANT SELECT, INSERT, DELETE ON socket_io_attachments TO app", "GRANT USAGE ON SEQUENCE socket_io_attachments_id_seq TO app",
		"GRANT SELECT, INSERT, UPDATE, DELETE ON patchbay_nodes TO app")
	none(t, checkPostgres(t, u), preflight.Fail, "postgres.")
	s.Exec(t, "REVOKE UPDATE ON patchbay_nodes FROM app")
	want(t, checkPostgres(t, u), preflight.Fail, "postgres.registry", "permission denied")

	s.Exec(t, "ALTER ROLE app CONNECTION LIMIT 6", "ALTER ROLE app SET idle_session_timeout = '1min'")
	r = checkPostgres(t, u)
	want(t, r, preflight.Warn, "postgres.connections", "the role may have 6")
	want(t, r, preflight.Warn, "postgres.timeouts", "idle_session_timeout is 1min")
	s.Exec(t, "ALTER ROLE app SET default_transaction_read_only = on")
	want(t, checkPostgres(t, u), preflight.Fail, "postgres.role", "read-only")
	want(t, checkPostgres(t, s.URLAs("app", "another "+password)), preflight.Fail, "postgres.connect", "the user or the password")
	want(t, checkPostgres(t, strings.Replace(s.URL(), "/postgres?", "/nowhere?", 1)), preflight.Fail, "postgres.connect", "create it")
}

func TestPostgresPooler(t *testing.T) {
	s := pgtest.Start(t)
	transaction, session := pgtest.Pooler(t, s, pgtest.TransactionMode), pgtest.Pooler(t, s, pgtest.SessionMode)
	r := checkPostgres(t, transaction.URL())
	if r.OK || !strings.Contains(list(r), "GATEWAY_POSTGRES_LISTEN_URL past it") {
		t.Errorf("a pooler in transaction mode:\n%s", list(r))
	}
	want(t, checkPostgres(t, transaction.URL()+"&default_query_exec_mode=exec"), preflight.Fail, "postgres.listen", "does not arrive", "GATEWAY_POSTGRES_LISTEN_URL past it")
	r = checkPostgres(t, transaction.URL(), "POSTGRES_LISTEN_URL="+s.URL())
	none(t, r, preflight.Fail, "postgres.", "peers.")
	want(t, r, preflight.OK, "postgres.connect", "through a pooler")
	want(t, r, preflight.OK, "postgres.listen")
	r = checkPostgres(t, session.URL())
	none(t, r, preflight.Fail, "postgres.")
	want(t, r, preflight.OK, "postgres.connect", "through a pooler")
	other := pgtest.Start(t)
	want(t, checkPostgres(t, transaction.URL(), "POSTGRES_LISTEN_URL="+other.URL()), preflight.Fail, "postgres.listen", "the same database?")
	want(t, checkPostgres(t, transaction.URL(), "POSTGRES_LISTEN_URL=postgres://postgres@127.0.0.1:1/postgres"), preflight.Fail, "postgres.listen", "GATEWAY_POSTGRES_LISTEN_URL: ", "connection refused")
}

func TestPostgresStandby(t *testing.T) {
	s := pgtest.Start(t)
	standby := s.Standby(t)
	r := checkPostgres(t, standby.URL())
	want(t, r, preflight.Fail, "postgres.role", "a standby", "target_session_attrs=read-write")
	want(t, r, preflight.Fail, "postgres.listen", "LISTEN")
	want(t, r, preflight.Fail, "postgres.registry", "could not register")
	both := strings.Replace(standby.URL(), standby.Addr(), standby.Addr()+","+s.Addr(), 1)
	none(t, checkPostgres(t, both+"&target_session_attrs=read-write"), preflight.Fail, "postgres.")
	s.Stop()
	want(t, checkPostgres(t, both+"&target_session_attrs=read-write"), preflight.Fail, "postgres.connect")
}

func TestPostgresConnections(t *testing.T) {
	s := pgtest.Start(t, "max_connections=10")
	want(t, checkPostgres(t, s.URL()), preflight.Warn, "postgres.connections", "of 7 connections", "raise max_connections")
	for range 5 {
		conn, err := pgx.Connect(t.Context(), s.URL())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close(context.Background()) }()
	}
	want(t, checkPostgres(t, s.URL()), preflight.Fail, "postgres.connections", "1 node may need up to 5")
	want(t, checkPostgres(t, "postgres://postgres:"+password+"@127.0.0.1:1/postgres"), preflight.Fail, "postgres.connect", "connection refused")
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestPostgresTLS(t *testing.T) {
	siotest.LeakCheck(t)
	s := pgtest.Start(t)
	secure := strings.Replace(s.URL(), "sslmode=disable", "sslmode=require", 1)
	want(t, checkPostgres(t, secure), preflight.Fail, "postgres.connect", "does it take TLS?")
	cert, key := certificate(t)
	s.TLS(t, read(t, cert), read(t, key))
	s.Restart(t)
	none(t, checkPostgres(t, secure), preflight.Fail, "postgres.")
	full := strings.Replace(secure, "sslmode=require", "sslmode=verify-full", 1)
	want(t, checkPostgres(t, full), preflight.Fail, "postgres.connect", "certificate", "sslrootcert")
	none(t, checkPostgres(t, full+"&sslrootcert="+url.QueryEscape(cert)), preflight.Fail, "postgres.")
}

// A server that is silent holds nothing up for long.
func TestPostgresSilent(t *testing.T) {
	s := pgtest.Start(t)
	p := redistest.NewProxy(t, s.Addr())
	through := strings.Replace(s.URL(), s.Addr(), p.Addr(), 1)
	p.Freeze(true)
	want(t, checkPostgres(t, through), preflight.Fail, "postgres.connect", "no answer in time")
	p.Freeze(false)
	p.Delay(60 * time.Millisecond)
	want(t, checkPostgres(t, through), preflight.Warn, "postgres.listen", "run the nodes where it is")
}
