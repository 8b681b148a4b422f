package preflight_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/seed-0b620db0/patchbay/internal/preflight"
	"github.com/seed-0b620db0/patchbay/internal/siotest"
)

// Two that were made, as a check wants them, and one that a URL has.
const (
	strong   = "q7G2zN0uXk4VbR9tLw1YcE6hJd3mPf8s"
	stronger = "Zx5Kq0Lw8Rt2Yv7Bn3Mc9Jd4Hf6Gs1Pa"
	password = "hunter2hunter2"
)

// environment has names without their prefix.
func environment(vars ...string) (out []string) {
	base := []string{
		"ADDR=127.0.0.1:0", "ADMIN_ADDR=127.0.0.1:0", "NODE=node-1", "JWT_SECRET=" + strong, "PEER_SECRET=" + stronger, "SHUTDOWN_DELAY=5s",
		"SHUTDOWN_TIMEOUT=20s",
	}
	for _, v := range append(base, vars...) {
		out = append(out, "GATEWAY_"+v)
	}
	return out
}

// check runs a check, which must leave nothing running and tell no secret.
func check(t *testing.T, o preflight.Options, vars ...string) *preflight.Report {
	t.Helper()
	siotest.LeakCheck(t)
	begun := time.Now()
	r := preflight.Run(t.Context(), environment(vars...), o)
	if took := time.Since(begun); took > 30*time.Second {
		t.Errorf("it took %v", took)
	}
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{strong, stronger, password} {
		if bytes.Contains(text, []byte(secret)) {
			t.Errorf("a secret is shown: %s", text)
		}
	}
	total := 0
	for _, f := range r.Findings {
		if f.Text == "" || strings.Contains(f.Text+f.Advice, "%!") || strings.Contains(f.Text+f.Advice, "\n") {
			t.Errorf("not a finding: %+v", f)
		}
		total += 1
		r.Counts[f.Status]--
	}
	for s, n := range r.Counts {
		if n != 0 {
			t.Errorf("%s was counted %d times too often", s, n)
		}
	}
	if total == 0 {
		t.Error("nothing was found")
	}
	return r
}

// want fails the test unless the check has a finding with this status and these words, in text or advice.
func want(t *testing.T, r *preflight.Report, s preflight.Status, name string, words ...string) {
	t.Helper()
	for _, f := range r.Findings {
		if f.Check != name || f.Status != s {
			continue
		}
		all := true
		for _, w := range words {
			all = all && strings.Contains(f.Text+" "+f.Advice, w)
		}
		if all {
			return
		}
	}
	t.Errorf("no finding %s %s with %q:\n%s", s, name, words, list(r))
}

func list(r *preflight.Report) string {
	var b strings.Builder
	for _, f := range r.Findings {
		b.WriteString("  " + string(f.Status) + " " + f.Check + ": " + f.Text + " -> " + f.Advice + "\n")
	}
	return b.String()
}

// none fails the test if a check of these sections has a finding with the status.
func none(t *testing.T, r *preflight.Report, s preflight.Status, prefixes ...string) {
	t.Helper()
	for _, f := range r.Findings {
		for _, p := range prefixes {
			if f.Status == s && strings.HasPrefix(f.Check, p) {
				t.Errorf("unexpected: %+v", f)
			}
		}
	}
}

// fakeHost makes a root with the files of a host, by name.
func fakeHost(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		name = filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return root
}
