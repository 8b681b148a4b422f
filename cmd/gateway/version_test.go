package main_test

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

func TestVersion(t *testing.T) {
	told := filepath.Join(t.TempDir(), "told.exe")
	flags := "-X main.version=v1.2.3 -X main.commit=0123456789abcdef0123456789abcdef01234567"
	if out, err := exec.Command("go", "build", "-ldflags", flags, "-o", told, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	platform := runtime.Version() + ", " + runtime.GOOS + "/" + runtime.GOARCH
	for _, args := range [][]string{{"version"}, {"-version"}, {"--version"}} {
		out, err := exec.Command(told, args...).Output()
		if want := "gateway v1.2.3 (commit 0123456789ab, " + platform + ")\n"; err != nil || string(out) != want {
			t.Errorf("%v: %q, %v, want %q", args, out, err, want)
		}
	}
	code, stdout, stderr := execute(t, []string{"GATEWAY_PING_INTERVAL=nonsense"}, "version", "-json") // any environment will do
	var b struct{ Version, Commit, Go, Platform string }
	if err := json.Unmarshal([]byte(stdout), &b); err != nil || code != 0 || stderr != "" {
		t.Fatalf("exit %d, %v: %s%s", code, err, stdout, stderr)
	}
	if b.Version == "" || b.Commit == "" || b.Go+", "+b.Platform != platform {
		t.Errorf("got %+v", b)
	}
	for _, args := range []string{"version x", "version -x"} {
		if code, stdout, stderr := execute(t, nil, strings.Fields(args)...); code != 2 || stdout != "" || stderr == "" {
			t.Errorf("%s: exit %d: %s", args, code, stderr)
		}
	}
	if code, _, stderr := execute(t, nil, "version", "-help"); code != 0 || !strings.Contains(stderr, "-json") {
		t.Errorf("exit %d: %s", code, stderr)
	}
}

// The log and the metric say the same as the command.
func TestVersionOfANode(t *testing.T) {
	_, stdout, _ := execute(t, nil, "version", "-json")
	var b struct{ Version, Commit string }
	if err := json.Unmarshal([]byte(stdout), &b); err != nil {
		t.Fatal(err)
	}
	p := start(t, "GATEWAY_NODE=n7")
	for _, line := range p.lines() {
		if line["msg"] == "listening" && (line["version"] != b.Version || line["commit"] != b.Commit) {
			t.Errorf("the log: %v, the command: %+v", line, b)
		}
	}
	want := `patchbay_build_info{commit="` + b.Commit + `",node="n7",version="` + b.Version + `"} 1`
	if body := p.get(p.admin + "/metrics"); strings.Count(body, "patchbay_build_info{") != 1 || !strings.Contains(body, want) {
		t.Errorf("not once in the metrics: %s", want)
	}
}
