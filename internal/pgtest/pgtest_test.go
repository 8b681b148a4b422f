package pgtest_test

import (
	"context"
	"os/exec"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/seed-0b620db0/patchbay/internal/pgtest"
	"github.com/seed-0b620db0/patchbay/internal/siotest"
)

// value asks for one text.
func value(t *testing.T, url, sql string) string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	var v string
	if err := conn.QueryRow(t.Context(), sql).Scan(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

func TestServer(t *testing.T) {
	siotest.LeakCheck(t)
	s := pgtest.Start(t, "max_connections=17", `search_path="it's", public`)
	pool := s.Pool(t)
	var n int
	if err := pool.QueryRow(t.Context(), "SELECT current_setting('max_connections')::int").Scan(&n); err != nil || n != 17 {
		t.Fatal(n, err)
	}
	if got := value(t, s.URL(), "SELECT current_setting('server_encoding') || ' ' || current_setting('search_path')"); got != `UTF8 "it's", public` {
		t.Error(got)
	}
	s.Exec(t, "CREATE TABLE public.a (x text)", "INSERT INTO public.a VALUES ('kept')")
	s.Kill()
	s.Kill()
	if err := s.Do("SELECT 1"); err == nil {
		t.Error("a killed server answers")
	}
	s.Restart(t)
	s.Restart(t)
	if got := value(t, s.URL(), "SELECT x FROM public.a"); got != "kept" {
		t.Error(got)
	}
	s.Stop()
	s.Stop()
	if s.Log() != "" {
		t.Error("a server that does not run has a log")
	}
}

func TestUsers(t *testing.T) {
	siotest.LeakCheck(t)
	s := pgtest.Start(t)
	const name, password = `o'ne "user"`, `p:/@%+ ?#'\`
	right := s.User(t, name, password)
	if got := value(t, right, "SELECT current_user"); got != name {
		t.Error(got)
	}
	refused := func(url string) {
		t.Helper()
		if conn, err := pgx.Connect(t.Context(), url); err == nil {
			t.Error("let in:", url)
			_ = conn.Close(t.Context())
		} else if !strings.Contains(err.Error(), "28P01") && !strings.Contains(err.Error(), "password") {
			t.Error(err)
		}
	}
	refused(s.URLAs(name, "wrong"))
	refused(s.URLAs(name, ""))
	s.Password(t, name, "other")
	refused(right)
}

func TestStandby(t *testing.T) {
	siotest.LeakCheck(t)
	s := pgtest.Start(t)
	s.Exec(t, "CREATE TABLE a (x text)")
	standby := s.Standby(t)
	if got := value(t, standby.URL(), "SELECT pg_is_in_recovery()::text"); got != "true" {
		t.Error(got)
	}
	if err := standby.Do("INSERT INTO a VALUES ('x')"); err == nil || !strings.Contains(err.Error(), "25006") {
		t.Error("written to a standby:", err)
	}
	standby.Restart(t)
	s.Kill()
	standby.Promote(t)
	standby.Exec(t, "INSERT INTO a VALUES ('x')")
}

func TestPooler(t *testing.T) {
	siotest.LeakCheck(t)
	s := pgtest.Start(t)
	for _, mode := range []string{pgtest.SessionMode, pgtest.TransactionMode} {
		b := pgtest.Pooler(t, s, mode)
		if got := value(t, b.URL()+"&default_query_exec_mode=exec", "SELECT current_user::text"); got != pgtest.Superuser {
			t.Errorf("%s: %s", mode, got)
		}
	}
}

// A program may need a server as well.
func TestRun(t *testing.T) {
	siotest.LeakCheck(t)
	if _, err := exec.LookPath("postgres"); err != nil {
		pgtest.Start(t) // skips the test, or fails it
	}
	s, err := pgtest.Run("work_mem=1MB")
	if err != nil {
		t.Fatal(err)
	}
	if got := value(t, s.URL(), "SHOW work_mem"); got != "1MB" {
		t.Error(got)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if _, err := pgtest.Run("no_such_setting=1"); err == nil || !strings.Contains(err.Error(), "no_such_setting") {
		t.Error(err)
	}
}
