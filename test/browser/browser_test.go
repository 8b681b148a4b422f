// Package browser drives the playground with a headless Chromium. The checks themselves are in playground.test.mjs.
package browser

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/seed-0b620db0/patchbay/internal/gateway"
	"github.com/seed-0b620db0/patchbay/internal/siotest"
)

const stopTimeout = 10 * time.Second

// servers are a mock of the relay made of the official server, which shows that the checks hold of the real thing, and the
// gateway.
var servers = map[string]func(*testing.T) string{"mock": startMockRelay, "gateway": startGateway}

func startGateway(t *testing.T) string {
	t.Helper()
	cfg, _, err := gateway.Load([]string{
		"GATEWAY_ADDR=127.0.0.1:0", "GATEWAY_ADMIN_ADDR=127.0.0.1:0", "GATEWAY_NODE=node-under-test",
		"GATEWAY_RELAY=true", "GATEWAY_PLAYGROUND=true", "GATEWAY_RECOVERY=true",
	})
	if err != nil {
		t.Fatal(err)
	}
	g, err := gateway.New(cfg, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Listen(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	stopped := make(chan error, 1)
	go func() { stopped <- g.Serve(ctx) }() // ends in the cleanup below
	t.Cleanup(func() {
		stop()
		if err := <-stopped; err != nil {
			t.Errorf("gateway: %v", err)
		}
	})
	return "http://" + g.Addr().String()
}

func TestPlayground(t *testing.T) {
	if _, err := exec.LookPath(chromium()); err != nil {
		t.Fatalf("%s is missing; run scripts/need chromium, or set CHROMIUM", chromium())
	}
	for name, start := range servers {
		t.Run(name, func(t *testing.T) { drive(t, start(t)) })
	}
}

func drive(t *testing.T, url string) {
	t.Helper()
	cmd, stdout := startScript(t, []string{"PLAYGROUND_URL=" + url, "CHROMIUM=" + chromium()},
		"--test-reporter=./reporter.mjs", "playground.test.mjs")
	tests := 0
	lines := bufio.NewScanner(stdout)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var result struct {
			Name                   string
			Suite, Passed, Skipped bool
			Error                  string
		}
		if err := json.Unmarshal(lines.Bytes(), &result); err != nil {
			t.Errorf("the reporter wrote %q: %v", lines.Text(), err)
			continue
		}
		if result.Suite {
			continue // only as good as its tests, which are reported themselves
		}
		tests++
		t.Run(result.Name, func(t *testing.T) {
			if result.Skipped {
				t.Error("skipped")
			}
			if !result.Passed {
				t.Error(result.Error)
			}
		})
	}
	if err := lines.Err(); err != nil {
		t.Errorf("read results: %v", err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("node: %v", err)
	}
	if tests == 0 {
		t.Error("no test has run")
	}
}

func startMockRelay(t *testing.T) string {
	t.Helper()
	cmd, stdout := startScript(t, nil, "mock-relay.mjs")
	t.Cleanup(func() {
		// The test's context has ended by now, which stops the process; its error is that of the context.
		if err := cmd.Wait(); err != nil && !errors.Is(err, t.Context().Err()) {
			t.Errorf("mock relay: %v", err)
		}
	})
	url, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatalf("mock relay did not say its address: %v", err)
	}
	return strings.TrimSpace(url)
}

// startScript starts a script and returns its output. The end of the test's context interrupts it; should the test binary be
// killed, it ends with its standard input, which is held open until it has been waited for.
func startScript(t *testing.T, env []string, args ...string) (*exec.Cmd, io.Reader) {
	t.Helper()
	cmd, err := siotest.NodeJS(t.Context(), ".", []string{"playwright-core", "socket.io"}, args...)
	if err != nil {
		t.Fatal(err)
	}
	cmd.Env = append(cmd.Env, env...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = stopTimeout
	cmd.Stderr = t.Output()
	_, stdout := siotest.Pipes(t, cmd)
	return cmd, stdout
}

func chromium() string {
	if path := os.Getenv("CHROMIUM"); path != "" {
		return path
	}
	return "/usr/bin/chromium"
}
