//go:build linux

package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed-0b620db0/patchbay/internal/pgtest"
	"github.com/seed-0b620db0/patchbay/internal/siotest"
)

// tiny is the size at which the test runs everything. It says nothing about speed.
var tiny = size{
	idle: 50, polling: 20, churn: 20, members: 20, crowd: 30,
	warm: 20 * time.Millisecond, run: 300 * time.Millisecond, beats: 50 * time.Millisecond, settle: 10 * time.Millisecond,
}

// servers returns the settings to run those that are here.
func servers(t *testing.T) *settings {
	t.Helper()
	s, err := parse(nil)
	if err != nil {
		t.Fatal(err)
	}
	s.size, s.ours, s.node = tiny, filepath.Join(t.TempDir(), "server"), "node/server.mjs"
	if out, err := exec.Command("go", "build", "-o", s.ours, "./server").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if _, err := os.Stat("node/node_modules/socket.io"); err != nil {
		if os.Getenv("SIO_TEST_REQUIRE") != "" {
			t.Fatal("socket.io is missing: run make npm")
		}
		s.only = "ours"
	}
	return s
}

// Every scenario runs on every server: nobody is lost, and all that was sent arrives, which the scenarios check.
func TestScenarios(t *testing.T) {
	siotest.LeakCheck(t)
	s := servers(t)
	postgres := false
	t.Run("PostgreSQL", func(t *testing.T) { // skipped, or failed, where there is none
		pgtest.Start(t)
		postgres = true
	})
	filled := map[string]bool{}
	for name := range s.commands() {
		if s.only != "" && s.only != name {
			continue
		}
		for _, sc := range scenarios {
			for _, row := range sc.rows {
				filled[row] = true
			}
			if sc.bus == "postgres" && !postgres {
				continue
			}
			tr, err := s.measure(t.Context(), sc, name, true)
			if err != nil {
				t.Errorf("%s on %s: %v", sc.rows, name, err)
			}
			for _, row := range sc.rows {
				if _, ok := tr.values[row]; !ok {
					t.Errorf("%s: no value on %s", row, name)
				}
			}
			for row := range tr.values {
				if !slices.Contains(sc.rows, row) {
					t.Errorf("%s is not a row of %s", row, sc.rows)
				}
			}
		}
	}
	for _, r := range rows {
		if !filled[r.name] {
			t.Errorf("no scenario fills %s", r.name)
		}
	}
}

// A scenario whose server goes away fails, and does not wait for it.
func TestServerGone(t *testing.T) {
	siotest.LeakCheck(t)
	s := servers(t)
	s.size.run = siotest.Patience
	for _, row := range []string{"idle/heartbeat", "echo/1", "echo/p50", "broadcast/cpu", "broadcast/8", "polling/echo", "polling/waiting"} {
		sc := scenarios[slices.IndexFunc(scenarios, func(sc scenario) bool { return slices.Contains(sc.rows, row) })]
		srv, err := start(t.Context(), s.ours)
		if err != nil {
			t.Fatal(err)
		}
		tr := &trial{srv: srv, size: s.size, first: true, wanted: func(string) bool { return true }, values: map[string]float64{}}
		tr.size.run, tr.size.settle, tr.size.beats = 500*time.Millisecond, 500*time.Millisecond, 500*time.Millisecond
		kill := time.AfterFunc(300*time.Millisecond, srv.stop)
		if err := sc.run(t.Context(), tr); err == nil {
			t.Errorf("%s: no error", row)
		}
		if !kill.Stop() {
			<-srv.ended
		}
		srv.stop()
	}
}

// The command measures what it is asked to, and writes the table.
func TestRun(t *testing.T) {
	s := servers(t)
	out := filepath.Join(t.TempDir(), "RESULTS.md")
	var stdout, stderr bytes.Buffer
	args := []string{"-quick", "-ours", s.ours, "-node", s.node, "-only=ours", "-run=echo/[18]$", "-out", out}
	if err := run(t.Context(), args, &stdout, &stderr); err != nil {
		t.Fatalf("%v: %s", err, stderr.String())
	}
	file, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"| `echo/1` ", "| `echo/8` ", "≤ 0.55", "a quick one", "- CPU: ", "- kernel: ", "- Go: go1.", "- date: 2"} {
		if !strings.Contains(stdout.String(), want) || !strings.Contains(string(file), want) {
			t.Errorf("no %q in %s", want, file)
		}
	}
	if strings.Contains(stdout.String(), "idle/rss") {
		t.Error("more is measured than was asked for")
	}
	for _, bad := range [][]string{{"-run=("}, {"-only=both"}, {"-rounds=0"}, {"surplus"}, {"-quick", "-run=echo/1", "-ours=/nonexistent", "-only=ours"}} {
		if err := run(t.Context(), bad, &stdout, &stderr); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}

// The time of children counts, of those that run and of those that have ended.
func TestFamilyCPU(t *testing.T) {
	const work = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done"
	for name, script := range map[string]string{
		"ended":   "(" + work + "); read x",
		"running": "(while :; do :; done) & read x; kill $!",
	} {
		cmd := exec.Command("sh", "-c", script)
		stdin, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		var sum, own time.Duration
		err = until(t.Context(), func() bool {
			if sum, err = familyCPU(cmd.Process.Pid); err == nil {
				own, err = processCPU(cmd.Process.Pid)
			}
			return err != nil || sum-own >= 50*time.Millisecond
		})
		if err != nil {
			t.Errorf("%s: %v, %v, %v of its own", name, err, sum, own)
		}
		_ = stdin.Close() // ends read
		_ = cmd.Wait()    // however it ends
	}
}

func TestBars(t *testing.T) {
	res := results{}
	res.add("ours", map[string]float64{"echo/1": 5, "echo/8": 9, "idle/rss": 7, "idle/heartbeat": 2, "room/cpu": 1})
	res.add("ours", map[string]float64{"echo/1": 7})
	res.add("ours", map[string]float64{"echo/1": 100})
	res.add("node", map[string]float64{"echo/1": 14, "echo/8": 10, "idle/rss": 10, "idle/heartbeat": 3, "room/cpu": 2})
	s, err := parse(nil)
	if err != nil {
		t.Fatal(err)
	}
	cells := map[string][]string{}
	for line := range strings.Lines(s.table(res)) {
		parts := strings.Split(line, "|")
		for i := range parts {
			parts[i] = strings.TrimSpace(parts[i])
		}
		cells[strings.Trim(parts[1], "`")] = parts[4:9]
	}
	for row, want := range map[string][]string{
		"echo/1":         {"7.00", "14.0", "0.50", "≤ 0.55", "met"},
		"echo/8":         {"9.00", "10.0", "0.90", "≤ 0.65", "lost"},
		"idle/rss":       {"7.00", "10.0", "0.70", "≤ 0.50, ours ≤ 8", "lost"},
		"idle/heartbeat": {"2.00", "3.00", "0.67", "ours ≤ 1", "lost"},
		"room/cpu":       {"1.00", "2.00", "0.50", "", ""},
		"binary/cpu":     {"–", "–", "–", "", ""},
		"broadcast/8":    {"–", "–", "–", "≤ 0.35", "–"},
	} {
		if !slices.Equal(cells[row], want) {
			t.Errorf("%s: got %q, want %q", row, cells[row], want)
		}
	}
}
