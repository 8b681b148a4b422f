// Package cluster_test runs fleets of our nodes and official ones on one bus, with stock clients on each, and, as the
// control, fleets of official nodes only.
package cluster_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/seed-0b620db0/patchbay/internal/pgtest"
	"github.com/seed-0b620db0/patchbay/internal/redistest"
	"github.com/seed-0b620db0/patchbay/internal/siotest"
	"github.com/seed-0b620db0/patchbay/test/cluster/node"
)

const fleetTimeout = 4 * time.Minute

// TestMain makes this very program a node of ours when it is started as one: with the race detector if the test has it.
func TestMain(m *testing.M) {
	kind := os.Getenv("CLUSTER_NODE")
	if kind == "" {
		m.Run()
		return
	}
	if err := node.Run(kind, os.Stdin, os.Stdout); err != nil {
		panic(err)
	}
}

// suite is what is run with one kind of adapter: all files, or those that its difference from another may matter to. The
// names of adapters are those of adapters.mjs and of package node.
type suite struct {
	adapter string
	files   string
}

// bus is what nodes are joined by.
type bus interface {
	URL() string
	Kill()
	Restart(t testing.TB)
}

// startBus starts what nodes with the adapter are joined by.
func startBus(t *testing.T, adapter string) bus {
	t.Helper()
	if !strings.HasPrefix(adapter, "postgres") {
		return redistest.Start(t)
	}
	s := pgtest.Start(t)
	// Official servers do not make it.
	s.Exec(t, `CREATE TABLE socket_io_attachments (id bigserial UNIQUE, created_at timestamptz DEFAULT NOW(), payload bytea)`)
	return s
}

var suites = []suite{
	{adapter: "classic"},
	{adapter: "classic-specific", files: "acks,fetch,legacy"},
	{adapter: "sharded"},
	{adapter: "sharded-static", files: "broadcast,rooms"},
	{adapter: "sharded-dynamic-private", files: "broadcast,rooms"},
	{adapter: "streams"},
	{adapter: "streams-sharded", files: "acks,fetch,server-side"},
	{adapter: "postgres"},
	{adapter: "postgres-0.4"},
	{adapter: "postgres-0.3"},
}

// TestOfficial proves the tests: what they say holds for the real thing. Those of a variant are among those of its adapter.
func TestOfficial(t *testing.T) {
	for _, s := range suites {
		if s.files == "" {
			fleet(t, s, "official", "official", "official")
		}
	}
}

// TestMixed has two of each kind, so that each kind sends to the other and to its own.
func TestMixed(t *testing.T) {
	for _, s := range suites {
		fleet(t, s, "patchbay", "official", "patchbay", "official")
	}
}

func fleet(t *testing.T, s suite, nodes ...string) {
	t.Helper()
	t.Run(s.adapter, func(t *testing.T) {
		t.Parallel()
		runFleet(t, s, startBus(t, s.adapter).URL(), nodes)
	})
}

// runFleet runs the tests of s on a fleet and reports them as subtests.
func runFleet(t *testing.T, s suite, busURL string, nodes []string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), fleetTimeout)
	defer cancel()
	cmd := javaScript(ctx, t, "--test-reporter=../conformance/reporter.mjs", "all.mjs")
	cmd.Env = append(cmd.Env, "CLUSTER_ADAPTER="+s.adapter, "CLUSTER_BUS="+busURL,
		"CLUSTER_NODES="+strings.Join(nodes, ","), "CLUSTER_PATCHBAY="+self)
	if s.files != "" {
		cmd.Env = append(cmd.Env, "CLUSTER_FILES="+s.files)
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	_, stdout := siotest.Pipes(t, cmd) // the input is held until it has ended: it and its nodes end with that
	err = report(t, stdout)
	if err := cmd.Wait(); err != nil && !t.Failed() {
		t.Errorf("node: %v", err)
	}
	if err != nil {
		t.Error(err)
	}
	if t.Failed() && stderr.Len() > 0 {
		t.Logf("standard error:\n%s", stderr.String())
	}
}

// javaScript returns a command that runs a script.
func javaScript(ctx context.Context, t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	cmd, err := siotest.NodeJS(ctx, ".", []string{"socket.io"}, args...)
	if err != nil {
		t.Fatal(err)
	}
	return cmd
}

// report makes subtests of the lines of reporter.mjs.
func report(t *testing.T, stdout io.Reader) error {
	t.Helper()
	lines := bufio.NewScanner(stdout)
	lines.Buffer(nil, 16<<20)
	count := 0
	for lines.Scan() {
		var r struct {
			Name          string
			Pass, Skipped bool
			Error         string
		}
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			return fmt.Errorf("unexpected output: %s", lines.Text())
		}
		count++
		t.Run(r.Name, func(t *testing.T) {
			switch {
			case r.Skipped:
				t.Error("skipped: a test either runs or is deleted")
			case !r.Pass:
				t.Error(r.Error)
			}
		})
	}
	if count <= 1 && lines.Err() == nil { // one is that the files are loaded
		return fmt.Errorf("no test has run")
	}
	return lines.Err()
}
