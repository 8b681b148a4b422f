package pgtest

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/seed-0b620db0/patchbay/internal/daemon"
	"github.com/seed-0b620db0/patchbay/internal/siotest"
)

// The modes of a pooler: what a client has a connection of the server for.
const (
	SessionMode     = "session"
	TransactionMode = "transaction"
)

// Bouncer is a PgBouncer.
type Bouncer struct {
	dir  string
	port int
	proc *daemon.Daemon
}

// Pooler runs a PgBouncer in front of s until the end of the test. It knows the superuser only.
func Pooler(t testing.TB, s *Server, mode string) *Bouncer {
	t.Helper()
	path, err := exec.LookPath("pgbouncer")
	if err != nil { // not every PATH has the folder where it is on Debian
		path, err = exec.LookPath("/usr/sbin/pgbouncer")
	}
	if err != nil {
		siotest.Missing(t, "PgBouncer is missing: run scripts/need pgbouncer")
	}
	dir, err := s.user.TempDir("pgtest-")
	if err != nil {
		t.Fatal(err)
	}
	b := &Bouncer{dir: dir}
	t.Cleanup(func() {
		if b.proc != nil {
			b.proc.End(syscall.SIGKILL)
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("pgtest: %v", err)
		}
	})
	if err := daemon.OnFreePort(func(port int) error { return b.run(path, s, mode, port) }); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *Bouncer) run(path string, s *Server, mode string, port int) error {
	b.port = port
	ini, users := filepath.Join(b.dir, "pgbouncer.ini"), filepath.Join(b.dir, "users.txt")
	conf := fmt.Sprintf(`[databases]
* = host=%s port=%d
[pgbouncer]
listen_addr = %s
listen_port = %d
unix_socket_dir =
auth_type = trust
auth_file = %s
pool_mode = %s
`, daemon.Loopback, s.port, daemon.Loopback, port, users, mode)
	for file, content := range map[string]string{ini: conf, users: fmt.Sprintf("%q \"\"\n", Superuser)} {
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			return err
		}
		if err := s.user.Own(file); err != nil {
			return err
		}
	}
	cmd := exec.Command(path, ini)
	cmd.Dir = b.dir
	p, err := daemon.Start(cmd, s.user, "process up")
	if err != nil {
		return err
	}
	b.proc = p
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, b.URL())
	if err != nil {
		return fmt.Errorf("%w\n%s", err, p.Output())
	}
	return conn.Close(ctx)
}

// Addr returns the host and port.
func (b *Bouncer) Addr() string { return net.JoinHostPort(daemon.Loopback, strconv.Itoa(b.port)) }

// URL returns where clients connect as the superuser.
func (b *Bouncer) URL() string { return urlOf(b.Addr(), Superuser, "") }
