// Package conformance_test runs the stock JavaScript clients against our server, and, as the control,
// against the official one. README.md describes the handlers that both have.
package conformance_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/seed-0b620db0/patchbay/internal/siotest"
)

const fileTimeout = 5 * time.Minute

// TestOfficial proves the tests: what they say holds for the real thing.
func TestOfficial(t *testing.T) {
	runClients(t, "official", startOfficial(t))
}

func TestPatchbay(t *testing.T) {
	runClients(t, "patchbay", startPatchbay(t))
}

// TestDifferencesAreDocumented finds each difference that a test knows as a heading of docs/compatibility.md.
func TestDifferencesAreDocumented(t *testing.T) {
	var differences map[string]map[string]bool
	if err := json.Unmarshal([]byte(readFile(t, "differences.json")), &differences); err != nil {
		t.Fatal(err)
	}
	headings := map[string]bool{}
	for line := range strings.Lines(readFile(t, "../../docs/compatibility.md")) {
		if strings.HasPrefix(line, "#") {
			headings[strings.Trim(line, "# \n")] = true
		}
	}
	for slug := range differences {
		if !headings[slug] {
			t.Errorf("docs/compatibility.md has no heading %q", slug)
		}
	}
}

func readFile(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// node returns a command that runs a script.
func node(ctx context.Context, t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	cmd, err := siotest.NodeJS(ctx, ".", []string{"socket.io", "socket.io-client", "engine.io-client"}, args...)
	if err != nil {
		t.Fatal(err)
	}
	return cmd
}

// startOfficial starts the control, which ends when its standard input does, and returns its URLs by server.
func startOfficial(t *testing.T) map[string]string {
	t.Helper()
	cmd := node(t.Context(), t, "official.mjs")
	cmd.Env = append(cmd.Env, "CONFORMANCE_SERVERS="+readFile(t, "servers.json"))
	cmd.Stderr = t.Output()
	stdin, stdout := siotest.Pipes(t, cmd)
	t.Cleanup(func() {
		_ = stdin.Close() // already closed when the process has ended by itself; Wait tells
		// The context of the test has ended by now and killed what did not end by itself.
		_ = cmd.Wait()
	})
	var urls map[string]string
	if err := json.NewDecoder(stdout).Decode(&urls); err != nil {
		t.Fatalf("the official server did not start: %v", err)
	}
	go io.Copy(io.Discard, stdout)
	return urls
}

// result is a line of reporter.mjs.
type result struct {
	Name    string
	Pass    bool
	Skipped bool
	Error   string
}

// runClients runs each test file in a process of its own, two at a time, and reports its tests as subtests.
func runClients(t *testing.T, target string, urls map[string]string) {
	t.Helper()
	files, err := filepath.Glob("*.test.mjs")
	if err != nil || len(files) == 0 {
		t.Fatalf("no test files: %v", err)
	}
	encoded, err := json.Marshal(urls)
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(file, ".test.mjs"), func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), fileTimeout)
			defer cancel()
			// Without --test, which would run the file in a process of its own below this one.
			cmd := node(ctx, t, "--test-reporter=./reporter.mjs", file)
			cmd.Env = append(cmd.Env, "CONFORMANCE_TARGET="+target, "CONFORMANCE_URLS="+string(encoded))
			var stderr bytes.Buffer
			cmd.Stderr = &stderr
			if _, err := cmd.StdinPipe(); err != nil { // held until it has ended: node ends with its stdin
				t.Fatal(err)
			}
			stdout, err := cmd.Output()
			report(t, stdout)
			if err != nil && !t.Failed() {
				t.Errorf("node %s: %v", file, err)
			}
			if t.Failed() && stderr.Len() > 0 {
				t.Logf("standard error:\n%s", stderr.String())
			}
		})
	}
}

func report(t *testing.T, stdout []byte) {
	t.Helper()
	lines := bufio.NewScanner(bytes.NewReader(stdout))
	lines.Buffer(nil, 16<<20)
	count := 0
	for lines.Scan() {
		var r result
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			t.Errorf("unexpected output: %s", lines.Text())
			continue
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
	if err := lines.Err(); err != nil {
		t.Error(err)
	}
	if count == 0 {
		t.Error("no test ran")
	}
}
