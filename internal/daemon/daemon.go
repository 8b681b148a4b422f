// Package daemon runs the programs of other servers as children of this process, for tests and benchmarks.
//
// # Use
//
// [Start] returns when the program's output tells that it is ready; [Run] is for programs that end by themselves. Some refuse
// to run as root: an [Account] is who they run as then.
//
// # Concurrency
//
// All methods may be called from any goroutine.
//
// # Limits
//
// Every wait ends after [Patience]. Of the output the last 64 KiB are kept. On Linux a program does not outlive the process
// that has started it.
package daemon

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// Patience is how long a program may take to become ready, or to end.
const Patience = 30 * time.Second

// Loopback is the address on which everything listens.
const Loopback = "127.0.0.1"

const maxOutput = 64 << 10

// ErrPortTaken says that another process was faster. Try again, on another port.
var ErrPortTaken = errors.New("the port is taken")

// Daemon is a program that runs.
type Daemon struct {
	cmd   *exec.Cmd
	texts [][]byte
	ready chan struct{}
	ended chan struct{}

	mu sync.Mutex
	// guarded by mu
	output []byte
	seen   bool // ready is closed
}

// Start runs cmd, as the account unless that is nil, and returns when one of the texts is in what it writes to its standard
// output or error. Without a text it returns at once.
func Start(cmd *exec.Cmd, account *Account, ready ...string) (*Daemon, error) {
	d := &Daemon{cmd: cmd, ready: make(chan struct{}), ended: make(chan struct{})}
	for _, text := range ready {
		d.texts = append(d.texts, []byte(text))
	}
	if err := d.start(account); err != nil {
		return nil, err
	}
	if len(ready) == 0 {
		return d, nil
	}
	timeout := time.NewTimer(Patience)
	defer timeout.Stop()
	select {
	case <-d.ready:
		return d, nil
	case <-d.ended:
		if bytes.Contains(d.Output(), []byte("ddress already in use")) {
			return nil, ErrPortTaken
		}
		return nil, fmt.Errorf("%s ended at once:\n%s", d.name(), d.Output())
	case <-timeout.C:
		d.End(syscall.SIGKILL)
		return nil, fmt.Errorf("%s is not ready:\n%s", d.name(), d.Output())
	}
}

// Run runs cmd, as the account unless that is nil, until it ends.
func Run(cmd *exec.Cmd, account *Account) error {
	d := &Daemon{cmd: cmd, ended: make(chan struct{})}
	if err := d.start(account); err != nil {
		return err
	}
	timeout := time.AfterFunc(2*Patience, func() { _ = cmd.Process.Kill() }) // unless it has ended
	defer timeout.Stop()
	<-d.ended
	if !cmd.ProcessState.Success() {
		return fmt.Errorf("%s: %v:\n%s", d.name(), cmd.ProcessState, d.Output())
	}
	return nil
}

func (d *Daemon) start(account *Account) error {
	d.cmd.Stdout, d.cmd.Stderr, d.cmd.SysProcAttr = d, d, attributes(account)
	d.cmd.WaitDelay = time.Second
	started := make(chan error)
	go func() { // ends with the program
		runtime.LockOSThread() // which it dies with
		defer runtime.UnlockOSThread()
		err := d.cmd.Start()
		started <- err
		if err == nil {
			_ = d.cmd.Wait() // however it ended
			close(d.ended)
		}
	}()
	return <-started
}

func (d *Daemon) name() string { return filepath.Base(d.cmd.Path) }

// Write takes the output.
func (d *Daemon) Write(b []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.output = append(d.output, b...)
	if !d.seen && slices.ContainsFunc(d.texts, func(text []byte) bool { return bytes.Contains(d.output, text) }) {
		d.seen = true
		close(d.ready)
	}
	if over := len(d.output) - maxOutput; over > 0 {
		d.output = slices.Delete(d.output, 0, over)
	}
	return len(b), nil
}

// Output returns the last of what the program has written.
func (d *Daemon) Output() []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.output)
}

// Signal sends a signal that does not end the program, or not yet. One that has ended does not get it.
func (d *Daemon) Signal(sig os.Signal) { _ = d.cmd.Process.Signal(sig) }

// Ended is closed when the program has ended.
func (d *Daemon) Ended() <-chan struct{} { return d.ended }

// PID returns the id of the process.
func (d *Daemon) PID() int { return d.cmd.Process.Pid }

// State tells how the program has ended; it is nil as long as it has not.
func (d *Daemon) State() *os.ProcessState {
	select {
	case <-d.ended:
		return d.cmd.ProcessState
	default:
		return nil
	}
}

// End sends the signal and waits for the end. What takes too long is killed.
func (d *Daemon) End(sig os.Signal) {
	_ = d.cmd.Process.Signal(sig) // unless it has ended
	timeout := time.AfterFunc(Patience/4, func() { _ = d.cmd.Process.Kill() })
	defer timeout.Stop()
	<-d.ended
}

// FreePort returns a port of loopback that nobody listens on.
func FreePort() (int, error) {
	l, err := net.Listen("tcp", net.JoinHostPort(Loopback, "0"))
	if err != nil {
		return 0, err
	}
	defer l.Close()
	addr, ok := l.Addr().(*net.TCPAddr)
	if !ok {
		return 0, fmt.Errorf("address %v", l.Addr())
	}
	return addr.Port, nil
}

// OnFreePort calls start with free ports until none is taken by another process.
func OnFreePort(start func(port int) error) error {
	err := ErrPortTaken
	for range 5 {
		port, e := FreePort()
		if e != nil {
			return e
		}
		if err = start(port); !errors.Is(err, ErrPortTaken) {
			break
		}
	}
	return err
}

// Account is a user of this host.
type Account struct {
	UID, GID uint32
	Name     string
}

// Unprivileged returns who a program runs as that refuses to run as root: the first of the names that there is. It is nil, for
// whoever we are, unless that is root.
func Unprivileged(names ...string) (*Account, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, name := range names {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
		gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
		if err := errors.Join(err1, err2); err != nil {
			return nil, err
		}
		return &Account{UID: uint32(uid), GID: uint32(gid), Name: name}, nil
	}
	return nil, fmt.Errorf("this host has none of the users %q", names)
}

// Own makes a file that of the account.
func (a *Account) Own(path string) error {
	if a == nil {
		return nil
	}
	return os.Chown(path, int(a.UID), int(a.GID))
}

// TempDir makes a directory that is the account's own.
func (a *Account) TempDir(pattern string) (string, error) {
	dir, err := os.MkdirTemp("", pattern)
	if err != nil {
		return "", err
	}
	if err := a.Own(dir); err != nil {
		return "", errors.Join(err, os.Remove(dir))
	}
	return dir, nil
}
