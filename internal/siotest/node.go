package siotest

import (
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// nodeGrace is how long a script may take to close its output once it was killed: what it has started may hold that.
const nodeGrace = 5 * time.Second

// Node returns a command that runs a script of ours with Node.js, until ctx is done. Without Node.js, or one of the packages
// that make npm installs in dir, the test ends: see [Missing].
func Node(ctx context.Context, t testing.TB, dir string, packages []string, args ...string) *exec.Cmd {
	t.Helper()
	if _, err := exec.LookPath("node"); err != nil {
		Missing(t, "node is missing: run scripts/need nodejs")
	}
	for _, name := range packages {
		if _, err := os.Stat(filepath.Join(dir, "node_modules", name)); err != nil {
			Missing(t, name+" is missing: run make npm")
		}
	}
	cmd := exec.CommandContext(ctx, "node", args...)
	// A client must not be kept from the loopback by a proxy that the environment names.
	cmd.Env = append(os.Environ(), "NO_PROXY=*", "no_proxy=*")
	cmd.WaitDelay = nodeGrace
	return cmd
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
