package siotest

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// nodeGrace is how long a script may take to close its output once it was killed: what it has started may hold that.
const nodeGrace = 5 * time.Second

// NodeJS returns a command that runs a script of ours with Node.js, until ctx is done. It fails without Node.js, or one of the
// packages that make npm installs in dir; whether that is the end of a test, or a reason to skip it ([Missing]), is the caller's
// to say.
func NodeJS(ctx context.Context, dir string, packages []string, args ...string) (*exec.Cmd, error) {
	if _, err := exec.LookPath("node"); err != nil {
		return nil, fmt.Errorf("node is missing, run scripts/need nodejs: %w", err)
	}
	for _, name := range packages {
		if _, err := os.Stat(filepath.Join(dir, "node_modules", name)); err != nil {
			return nil, fmt.Errorf("%s is missing, run make npm: %w", name, err)
		}
	}
	cmd := exec.CommandContext(ctx, "node", args...)
	// A client must not be kept from the loopback by a proxy that the environment names.
	cmd.Env = append(os.Environ(), "NO_PROXY=*", "no_proxy=*")
	cmd.WaitDelay = nodeGrace
	return cmd, nil
}

// Pipes starts cmd and returns its standard input and output. The input is open until it is closed, or the command has been
// waited for, or this process is gone: our scripts end with it.
func Pipes(t testing.TB, cmd *exec.Cmd) (in io.WriteCloser, out io.Reader) {
	t.Helper()
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err = cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return in, out
}
