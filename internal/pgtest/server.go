package pgtest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/jackc/pgx/v5"

	"github.com/seed-0b620db0/patchbay/internal/daemon"
)

// Patience is how long anything in this package is waited for.
const Patience = daemon.Patience

// Superuser is who made the server, and its database. It needs no password.
const Superuser = "postgres"

// settings are those of all servers. Notifications are what matters here, not what a crash of the host would do.
var settings = []string{
	"listen_addresses=" + daemon.Loopback, "unix_socket_directories=", "fsync=off", "full_page_writes=off", "shared_buffers=16MB",
	"max_wal_size=256MB", "password_encryption=scram-sha-256", "log_line_prefix=%p %e ",
}

// hostAccess lets the superuser in, and everybody else with a password.
var hostAccess = strings.Join([]string{
	"host replication " + Superuser + " " + daemon.Loopback + "/32 trust",
	"host all " + Superuser + " " + daemon.Loopback + "/32 trust",
	"host all all " + daemon.Loopback + "/32 scram-sha-256",
	"",
}, "\n")

// Server is a PostgreSQL.
type Server struct {
	// set at construction
	bin  string
	user *daemon.Account
	dir  string
	port int

	mu sync.Mutex
	// guarded by mu
	proc *daemon.Daemon
}

// Run starts a server, with further settings, each name=value as in postgresql.conf. It answers when Run returns, and is gone
// after [Server.Close].
func Run(more ...string) (*Server, error) {
	return run(func(s *Server) error {
		if err := makeData(s.data(), s.user); err != nil {
			return err
		}
		return s.write("pg_hba.conf", []byte(hostAccess))
	}, append(slices.Clone(settings), more...))
}

// run starts a server on the data that prepare makes.
func run(prepare func(*Server) error, more []string) (*Server, error) {
	bin, err := findPrograms()
	if err != nil {
		return nil, err
	}
	user, err := account()
	if err != nil {
		return nil, err
	}
	dir, err := user.TempDir("pgtest-")
	if err != nil {
		return nil, err
	}
	s := &Server{bin: bin, user: user, dir: dir}
	if err = prepare(s); err == nil {
		err = s.configure(more)
	}
	if err == nil {
		err = daemon.OnFreePort(func(port int) error {
			s.port = port
			return s.run()
		})
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("pgtest: %w", err), s.Close())
	}
	return s, nil
}

func (s *Server) data() string { return filepath.Join(s.dir, "data") }

// configure adds settings to those there are.
func (s *Server) configure(more []string) error {
	file := filepath.Join(s.data(), "postgresql.conf")
	conf, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	for _, setting := range more {
		name, value, _ := strings.Cut(setting, "=")
		conf = fmt.Appendf(conf, "%s = '%s'\n", strings.TrimSpace(name), strings.ReplaceAll(value, "'", "''"))
	}
	return s.write("postgresql.conf", conf)
}

// write makes a file in the data directory, which only the server may read.
func (s *Server) write(name string, content []byte) error {
	file := filepath.Join(s.data(), name)
	if err := os.WriteFile(file, content, 0o600); err != nil {
		return err
	}
	return s.user.Own(file)
}

func (s *Server) run() error {
	cmd := exec.Command(filepath.Join(s.bin, "postgres"), "-D", s.data(), "-p", strconv.Itoa(s.port))
	cmd.Dir = s.dir
	p, err := daemon.Start(cmd, s.user,
		"ready to accept connections", "ready to accept read-only connections", "ready to accept read only connections") // the last: before 14
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.proc = p
	s.mu.Unlock()
	if err := s.Do("SELECT 1"); err != nil {
		return fmt.Errorf("%w\n%s", err, p.Output())
	}
	return nil
}

// Addr returns the host and port.
func (s *Server) Addr() string { return net.JoinHostPort(daemon.Loopback, strconv.Itoa(s.port)) }

// URL returns where clients connect as the superuser.
func (s *Server) URL() string { return s.URLAs(Superuser, "") }

// URLAs returns where clients connect as another user.
func (s *Server) URLAs(user, password string) string { return urlOf(s.Addr(), user, password) }

func urlOf(addr, user, password string) string {
	u := url.URL{Scheme: "postgres", User: url.User(user), Host: addr, Path: "/" + Superuser, RawQuery: "sslmode=disable"}
	if password != "" {
		u.User = url.UserPassword(user, password)
	}
	return u.String()
}

// Do runs statements as the superuser, each by itself, on a connection of their own.
func (s *Server) Do(sql ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.URL())
	if err != nil {
		return err
	}
	for _, statement := range sql {
		if _, err = conn.Exec(ctx, statement); err != nil {
			err = fmt.Errorf("%s: %w", statement, err)
			break
		}
	}
	return errors.Join(err, conn.Close(ctx))
}

// Stop ends the server in an orderly way: clients are told, transactions rolled back, all is written down.
func (s *Server) Stop() { s.end(syscall.SIGINT) }

// Kill ends the server and all its processes at once. It has to recover when it starts again.
func (s *Server) Kill() { s.end(syscall.SIGQUIT) }

// Close kills the server and removes all that it had.
func (s *Server) Close() error {
	s.Kill()
	return os.RemoveAll(s.dir)
}

func (s *Server) end(sig os.Signal) {
	s.mu.Lock()
	p := s.proc
	s.proc = nil
	s.mu.Unlock()
	if p != nil {
		p.End(sig)
	}
}

// Log returns the last of what the server has written, nothing if it does not run.
func (s *Server) Log() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc == nil {
		return ""
	}
	return string(s.proc.Output())
}
