package redistest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/seed-0b620db0/patchbay/internal/daemon"
	"github.com/seed-0b620db0/patchbay/internal/siotest"
)

// Patience is how long anything in this package is waited for.
const Patience = 20 * time.Second

const loopback = daemon.Loopback

// quiet keeps what go-redis has to say of faults, which are wanted here, out of the tests' output.
type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {}

func init() { goredis.SetLogger(quiet{}) }

// Server is a redis-server.
type Server struct {
	port   int
	dir    string
	config string // of a sentinel, which keeps in a file what it knows; else empty
	args   []string

	mu   sync.Mutex
	proc *daemon.Daemon
}

// Start runs a redis-server with further arguments of its command line until the end of the test. It answers when Start
// returns.
func Start(t testing.TB, args ...string) *Server {
	t.Helper()
	return start(t, "", args)
}

func start(t testing.TB, config string, args []string) *Server {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		siotest.Missing(t, "redis-server is missing: run scripts/need redis-server")
	}
	s := &Server{dir: t.TempDir(), config: config, args: args}
	t.Cleanup(s.Kill)
	if err := daemon.OnFreePort(func(port int) error {
		s.port = port
		return s.run()
	}); err != nil {
		t.Fatal(err)
	}
	return s
}

// Addr returns the host and port.
func (s *Server) Addr() string { return net.JoinHostPort(loopback, strconv.Itoa(s.port)) }

// URL returns the address in the form that goredis.ParseURL takes.
func (s *Server) URL() string { return "redis://" + s.Addr() }

// Client returns a client that is closed at the end of the test.
func (s *Server) Client(t testing.TB) *goredis.Client {
	t.Helper()
	c := goredis.NewClient(&goredis.Options{Addr: s.Addr()})
	t.Cleanup(func() { _ = c.Close() }) // the test may have closed it
	return c
}

// Do runs a command on a connection of its own.
func (s *Server) Do(args ...any) (any, error) {
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	c := goredis.NewClient(&goredis.Options{Addr: s.Addr(), PoolSize: 1, MaxRetries: -1, DialerRetries: 1})
	v, err := c.Do(ctx, args...).Result()
	return v, errors.Join(err, c.Close())
}

// Stop ends the server in an orderly way; Start's arguments and the port are kept for [Server.Restart].
func (s *Server) Stop() { s.end(syscall.SIGTERM) }

// Kill ends the server at once.
func (s *Server) Kill() { s.end(syscall.SIGKILL) }

// Restart runs the server again on its port, after a Stop if that is still due. It has forgotten everything.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	s.Stop()
	if err := s.run(); err != nil {
		t.Fatal(err)
	}
}

func (s *Server) run() error {
	var sentinel []string
	if s.config != "" {
		sentinel = []string{filepath.Join(s.dir, "sentinel.conf"), "--sentinel"}
		if err := os.WriteFile(sentinel[0], []byte(s.config), 0o600); err != nil {
			return fmt.Errorf("redistest: %w", err)
		}
	}
	cmd := exec.Command("redis-server", slices.Concat(sentinel, []string{
		"--port", strconv.Itoa(s.port), "--bind", loopback, "--save", "", "--appendonly", "no", "--dir", s.dir,
		"--daemonize", "no", "--logfile", "", "--loglevel", "notice",
	}, s.args)...)
	cmd.Dir = s.dir
	p, err := daemon.Start(cmd, nil, "Ready to accept connections", "Sentinel ID is")
	if err != nil {
		return fmt.Errorf("redistest: %w", err)
	}
	s.mu.Lock()
	s.proc = p
	s.mu.Unlock()
	if _, err := s.Do("PING"); err != nil {
		return fmt.Errorf("redistest: ping: %w\n%s", err, p.Output())
	}
	return nil
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

// await looks at cond until it holds.
func await(t testing.TB, what string, cond func() error) {
	t.Helper()
	deadline := time.Now().Add(Patience)
	for {
		err := cond()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("redistest: %s: %v", what, err)
		}
		time.Sleep(10 * time.Millisecond) // Redis does not tell
	}
}

// awaitInfo waits until the server says want of its replication.
func (s *Server) awaitInfo(t testing.TB, want string) {
	t.Helper()
	await(t, want, func() error {
		info, err := s.Do("INFO", "replication")
		if text := fmt.Sprint(info); err == nil && !strings.Contains(text, want) {
			err = errors.New(text)
		}
		return err
	})
}

func (s *Server) alive() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.proc != nil
}
