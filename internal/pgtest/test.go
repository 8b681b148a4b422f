package pgtest

import (
	"context"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/seed-0b620db0/patchbay/internal/daemon"
	"github.com/seed-0b620db0/patchbay/internal/siotest"
)

// Start is [Run] until the end of the test.
func Start(t testing.TB, settings ...string) *Server {
	t.Helper()
	if _, err := findPrograms(); err != nil {
		siotest.Missing(t, err.Error())
	}
	return keep(t, func() (*Server, error) { return Run(settings...) })
}

func keep(t testing.TB, start func() (*Server, error)) *Server {
	t.Helper()
	s, err := start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("pgtest: %v", err)
		}
	})
	return s
}

// Pool returns a pool of the superuser's connections that is closed at the end of the test.
func (s *Server) Pool(t testing.TB) *pgxpool.Pool {
	t.Helper()
	return PoolOf(t, s.URL())
}

// PoolOf returns a pool of connections to anywhere that is closed at the end of the test.
func PoolOf(t testing.TB, url string) *pgxpool.Pool {
	t.Helper()
	pool, err := pgxpool.New(context.Background(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

// Exec is [Server.Do]; an error fails the test.
func (s *Server) Exec(t testing.TB, sql ...string) {
	t.Helper()
	if err := s.Do(sql...); err != nil {
		t.Fatal(err)
	}
}

// Restart runs the server again on its port, after a Stop if that is still due. It has all that was committed.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	s.Stop()
	if err := s.run(); err != nil {
		t.Fatal(err)
	}
}

// User makes a user, who may log in with the password, and returns where.
func (s *Server) User(t testing.TB, name, password string) (url string) {
	t.Helper()
	s.Exec(t, "CREATE ROLE "+pgx.Identifier{name}.Sanitize()+" LOGIN")
	s.Password(t, name, password)
	return s.URLAs(name, password)
}

// Password gives a user another password.
func (s *Server) Password(t testing.TB, name, password string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), s.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }() // the statement counts
	var statement string
	// ALTER ROLE takes no parameters.
	err = conn.QueryRow(t.Context(), "SELECT format('ALTER ROLE %I PASSWORD %L', $1::text, $2::text)", name, password).Scan(&statement)
	if err == nil {
		_, err = conn.Exec(t.Context(), statement)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TLS makes the server take TLS, beside plain connections, from its next start. cert and key are PEM.
func (s *Server) TLS(t testing.TB, cert, key []byte) {
	t.Helper()
	for name, content := range map[string][]byte{"server.crt": cert, "server.key": key} {
		if err := s.write(name, content); err != nil {
			t.Fatal(err)
		}
	}
	s.Exec(t, "ALTER SYSTEM SET ssl = on")
}

// Standby runs a server that follows this one, read-only, until the end of the test, or until [Server.Promote].
func (s *Server) Standby(t testing.TB) *Server {
	t.Helper()
	return keep(t, func() (*Server, error) {
		return run(func(standby *Server) error {
			backup := exec.Command(filepath.Join(s.bin, "pg_basebackup"), "--pgdata="+standby.data(), "--write-recovery-conf", "--no-sync",
				"--checkpoint=fast", "--host="+daemon.Loopback, "--port="+strconv.Itoa(s.port), "--username="+Superuser, "--no-password")
			backup.Dir = standby.dir
			return daemon.Run(backup, standby.user)
		}, nil)
	})
}

// Promote makes a standby a server of its own, which takes writes when Promote returns.
func (s *Server) Promote(t testing.TB) {
	t.Helper()
	s.Exec(t, "SELECT pg_promote()") // waits
}
