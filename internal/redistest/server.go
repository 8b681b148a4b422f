package redistest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

// Patience is how long anything in this package is waited for.
const Patience = 20 * time.Second

const loopback = "127.0.0.1"

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
	proc *process
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
		if os.Getenv("SIO_TEST_REQUIRE") != "" {
			t.Fatal("redis-server is missing: run scripts/need redis-server")
		}
		t.Skip("redis-server is missing: run scripts/need redis-server")
	}
	s := &Server{dir: t.TempDir(), config: config, args: args}
	t.Cleanup(s.Kill)
	for range 5 { // another process may take the port first
		var err error
		if s.port, err = freePort(); err != nil {
			t.Fatal(err)
		}
		if err = s.run(); err == nil {
			return s
		} else if !errors.Is(err, errPortTaken) {
			t.Fatal(err)
		}
	}
	t.Fatal("redistest: no free port")
	return nil
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
	p, err := startProcess(s.dir, slices.Concat(sentinel, []string{
		"--port", strconv.Itoa(s.port), "--bind", loopback, "--save", "", "--appendonly", "no", "--dir", s.dir,
		"--daemonize", "no", "--logfile", "", "--loglevel", "notice",
	}, s.args))
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.proc = p
	s.mu.Unlock()
	if _, err := s.Do("PING"); err != nil {
		return fmt.Errorf("redistest: ping: %w\n%s", err, p.log())
	}
	return nil
}

func (s *Server) end(sig os.Signal) {
	s.mu.Lock()
	p := s.proc
	s.proc = nil
	s.mu.Unlock()
	if p != nil {
		p.end(sig)
	}
}

var errPortTaken = errors.New("redistest: the port is taken")

// process is one run of a server. Its output tells when it is ready.
type process struct {
	cmd   *exec.Cmd
	ready chan struct{}
	ended chan struct{}

	mu     sync.Mutex
	output []byte
	seen   bool // ready is closed
}

func startProcess(dir string, args []string) (*process, error) {
	p := &process{cmd: exec.Command("redis-server", args...), ready: make(chan struct{}), ended: make(chan struct{})}
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr, p.cmd.SysProcAttr = dir, p, p, attributes()
	p.cmd.WaitDelay = time.Second
	started := make(chan error)
	go func() { // ends with the server
		runtime.LockOSThread() // which dies with this thread
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		started <- err
		if err == nil {
			_ = p.cmd.Wait() // however it ended
			close(p.ended)
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("redistest: %w", err)
	}
	timeout := time.NewTimer(Patience)
	defer timeout.Stop()
	select {
	case <-p.ready:
		return p, nil
	case <-p.ended:
		if bytes.Contains(p.log(), []byte("ddress already in use")) {
			return nil, errPortTaken
		}
		return nil, fmt.Errorf("redistest: redis-server ended at once:\n%s", p.log())
	case <-timeout.C:
		p.end(syscall.SIGKILL)
		return nil, fmt.Errorf("redistest: redis-server is not ready:\n%s", p.log())
	}
}

// Write keeps the output, as much as anybody will read.
func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.output = append(p.output, b...)
	if !p.seen && (bytes.Contains(p.output, []byte("Ready to accept connections")) || bytes.Contains(p.output, []byte("Sentinel ID is"))) {
		p.seen = true
		close(p.ready)
	}
	if over := len(p.output) - 64<<10; over > 0 {
		p.output = slices.Delete(p.output, 0, over)
	}
	return len(b), nil
}

func (p *process) log() []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.output)
}

func (p *process) end(sig os.Signal) {
	_ = p.cmd.Process.Signal(sig) // unless it has ended
	timeout := time.AfterFunc(Patience/4, func() { _ = p.cmd.Process.Kill() })
	defer timeout.Stop()
	<-p.ended
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", net.JoinHostPort(loopback, "0"))
	if err != nil {
		return 0, err
	}
	defer l.Close()
	addr, ok := l.Addr().(*net.TCPAddr)
	if !ok {
		return 0, fmt.Errorf("redistest: address %v", l.Addr())
	}
	return addr.Port, nil
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
