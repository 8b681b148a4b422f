// Package monitoring_test proves the dashboard of deploy/grafana and the rules of deploy/prometheus: promtool parses them, they
// name nothing that does not exist, and a real Prometheus that scrapes real gateways has data for them.
package monitoring_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/seed-0b620db0/patchbay/internal/siotest"
)

const (
	rulesFile     = "../../deploy/prometheus/rules.yml"
	rulesTestFile = "../../deploy/prometheus/rules_test.yml"
	dashboardFile = "../../deploy/grafana/patchbay.json"
)

func read(t testing.TB, name string) string {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// promtool runs it, in the folder of the last argument, and returns what it says.
func promtool(t testing.TB, args ...string) (string, error) {
	t.Helper()
	program, err := exec.LookPath("promtool")
	if err != nil {
		siotest.Missing(t, "promtool is missing: run scripts/need prometheus")
	}
	last := len(args) - 1
	dir, file := filepath.Split(args[last])
	cmd := exec.CommandContext(t.Context(), program, append(args[:last:last], file)...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// checkRules has promtool check expressions, as those of recording rules; what names each in an error.
func checkRules(t testing.TB, exprs []string) error {
	t.Helper()
	var b strings.Builder
	b.WriteString("groups:\n  - name: expressions\n    rules:\n")
	for i, e := range exprs {
		fmt.Fprintf(&b, "      - record: expression_%d\n        expr: %q\n", i, e)
	}
	file := filepath.Join(t.TempDir(), "expressions.yml")
	if err := os.WriteFile(file, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := promtool(t, "check", "rules", file); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// metric is what docs/metrics.md says of one; internal/gateway compares that page with a scrape.
type metric struct {
	kind   string
	labels map[string][]string // nil: any value
}

func metricsPage(t testing.TB) map[string]metric {
	t.Helper()
	entry := regexp.MustCompile("(?m)^### `(\\w+)`\n\n(Gauge|Counter|Histogram)\\. (No labels|Labels: (.*))\\.$")
	label := regexp.MustCompile("`(\\w+)` \\((any|`[^)]*`)\\)")
	out := map[string]metric{}
	for _, m := range entry.FindAllStringSubmatch(read(t, "../../docs/metrics.md"), -1) {
		labels := map[string][]string{}
		for _, l := range label.FindAllStringSubmatch(m[4], -1) {
			labels[l[1]] = nil
			if l[2] != "any" {
				labels[l[1]] = strings.Split(strings.Trim(l[2], "`"), "`, `")
			}
		}
		out[m[1]] = metric{m[2], labels}
	}
	if len(out) < 50 {
		t.Fatalf("docs/metrics.md has %d metrics", len(out))
	}
	return out
}

var (
	metricName = regexp.MustCompile(`\b(?:patchbay|process|go)_[a-z_]+\b`)
	selector   = regexp.MustCompile(`\b((?:patchbay|process|go)_[a-z_]+)\{([^}]*)\}`)
	matcher    = regexp.MustCompile(`(\w+)\s*(=~|!~|!=|=)\s*"((?:[^"\\]|\\.)*)"`)
)

// targetLabels are those that Prometheus adds.
var targetLabels = []string{"job", "instance"}

// checkNames reports what an expression names and does not exist: metrics, labels, values.
func checkNames(page map[string]metric, others []string, expr string) (faults []string) {
	find := func(name string) (metric, bool) {
		if m, ok := page[name]; ok {
			return m, true
		}
		for _, suffix := range []string{"_bucket", "_sum", "_count"} {
			if base, ok := strings.CutSuffix(name, suffix); ok && page[base].kind == "Histogram" {
				return page[base], true
			}
		}
		return metric{}, false
	}
	for _, name := range metricName.FindAllString(expr, -1) {
		if _, ok := find(name); !ok && !slices.Contains(others, name) {
			faults = append(faults, "there is no metric "+name)
		}
	}
	for _, s := range selector.FindAllStringSubmatch(expr, -1) {
		m, ok := find(s[1])
		if !ok {
			continue
		}
		for _, l := range matcher.FindAllStringSubmatch(s[2], -1) {
			values, known := m.labels[l[1]]
			if !known && !slices.Contains(targetLabels, l[1]) {
				faults = append(faults, fmt.Sprintf("%s has no label %s", s[1], l[1]))
			}
			if values == nil {
				continue
			}
			for v := range strings.SplitSeq(l[3], "|") {
				if !slices.Contains(values, v) {
					faults = append(faults, fmt.Sprintf("%s{%s=%q} does not exist", s[1], l[1], v))
				}
			}
		}
	}
	return faults
}

// processMetrics are those that the Go runtime and the kernel are asked for; the test with a real Prometheus proves them.
var processMetrics = []string{
	"process_open_fds", "process_max_fds", "process_start_time_seconds", "process_cpu_seconds_total", "process_resident_memory_bytes",
	"go_sched_gomaxprocs_threads", "go_goroutines", "go_gc_duration_seconds",
}

func TestCheckNames(t *testing.T) {
	page := map[string]metric{
		"patchbay_a": {"Counter", map[string][]string{"code": {"1", "2"}, "event": nil}},
		"patchbay_h": {"Histogram", map[string][]string{}},
	}
	for expr, want := range map[string]string{
		`rate(patchbay_a{code="1", event="x"}[5m])`:     "",
		`patchbay_a{code=~"1|2"} + patchbay_h_bucket`:   "",
		`go_goroutines{job="x"}`:                        "",
		`patchbay_a{code=~"1|3"}`:                       `patchbay_a{code="3"} does not exist`,
		`patchbay_a{cause="1"}`:                         "patchbay_a has no label cause",
		`patchbay_a_bucket`:                             "there is no metric patchbay_a_bucket",
		`sum(patchbay_none)`:                            "there is no metric patchbay_none",
		`patchbay_a + on (job) group_left () go_no`:     "there is no metric go_no",
		`instance:patchbay_fill:ratio{limit="session"}`: "",
	} {
		got := strings.Join(checkNames(page, append(processMetrics, "patchbay_fill"), expr), "; ")
		if got != want {
			t.Errorf("%s: %q, want %q", expr, got, want)
		}
	}
	for _, expr := range []string{"sum(", "rate(patchbay_a)", "patchbay_a{code=}"} {
		if err := checkRules(t, []string{"vector(1)", expr}); err == nil || !strings.Contains(err.Error(), "expression_1") && !strings.Contains(err.Error(), "rule 2") {
			t.Errorf("%s: %v", expr, err)
		}
	}
	if err := checkRules(t, []string{"vector(1)"}); err != nil {
		t.Error(err)
	}
}
