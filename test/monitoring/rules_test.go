package monitoring_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"
)

// rule is an alert or a record of rules.yml.
type rule struct {
	kind, name, text string
}

// rules reads rules.yml, as far as its own form goes; promtool reads all of it.
func rules(t testing.TB) (all []rule) {
	t.Helper()
	begin := regexp.MustCompile(`(?m)^      - (alert|record): (\S+)$`)
	text := read(t, rulesFile)
	at := begin.FindAllStringSubmatchIndex(text, -1)
	for i, m := range at {
		end := len(text)
		if i+1 < len(at) {
			end = at[i+1][0]
		}
		all = append(all, rule{text[m[2]:m[3]], text[m[4]:m[5]], text[m[0]:end]})
	}
	if len(all) < 20 {
		t.Fatalf("%d rules", len(all))
	}
	return all
}

func TestRulesOfPrometheus(t *testing.T) {
	if out, err := promtool(t, "check", "rules", rulesFile); err != nil {
		t.Errorf("promtool check rules: %v\n%s", err, out)
	}
	if out, err := promtool(t, "test", "rules", rulesTestFile); err != nil {
		t.Errorf("promtool test rules: %v\n%s", err, out)
	}
}

// The tests of promtool test something: with an alert that never fires they fail.
func TestRulesAreTested(t *testing.T) {
	tests := read(t, rulesTestFile)
	block := regexp.MustCompile(`(?s)alertname: (\w+)\n\s+exp_alerts:(.*?)(?:\n  - name:|$)`)
	fires, quiet := map[string]bool{}, map[string]bool{}
	for _, m := range block.FindAllStringSubmatch(tests, -1) {
		if strings.TrimSpace(m[2]) == "[]" {
			quiet[m[1]] = true
		} else {
			fires[m[1]] = true
		}
	}
	alerts := 0
	for _, r := range rules(t) {
		if r.kind != "alert" {
			continue
		}
		alerts++
		if !fires[r.name] {
			t.Errorf("%s: no test in which it fires", r.name)
		}
		if !quiet[r.name] {
			t.Errorf("%s: no test in which it does not", r.name)
		}
	}
	if len(fires) != alerts || len(quiet) != alerts {
		t.Errorf("%d alerts, tests of %d and %d", alerts, len(fires), len(quiet))
	}
}

func anchor(heading string) string {
	kept := regexp.MustCompile(`[^a-z0-9 -]`).ReplaceAllString(strings.ToLower(heading), "")
	return strings.ReplaceAll(kept, " ", "-")
}

// Each alert says what is the matter, and leads to a heading of docs/operations.md; each metric in it exists.
func TestAlertsAreDescribed(t *testing.T) {
	page := metricsPage(t)
	var anchors []string
	for _, m := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(read(t, "../../docs/operations.md"), -1) {
		anchors = append(anchors, anchor(m[1]))
	}
	records := []string{}
	for _, r := range rules(t) {
		if r.kind == "record" {
			records = append(records, metricName.FindAllString(r.name, -1)...)
		}
	}
	runbook := regexp.MustCompile(`(?m)^          runbook_url: https://github\.com/seed-0b620db0/patchbay/blob/main/docs/operations\.md#(\S+)$`)
	for _, r := range rules(t) {
		expr, annotations, _ := strings.Cut(r.text, "annotations:")
		for _, fault := range checkNames(page, slices.Concat(processMetrics, records), expr) {
			t.Errorf("%s: %s", r.name, fault)
		}
		if r.kind == "record" {
			continue
		}
		if !regexp.MustCompile(`^Patchbay([A-Z][a-z]+)+$`).MatchString(r.name) {
			t.Errorf("%s: its name", r.name)
		}
		for _, want := range []string{`(?m)^          summary: "\S.*"$`, `(?m)^          description: "\S.*\."$`} {
			if !regexp.MustCompile(want).MatchString(annotations) {
				t.Errorf("%s has no %s", r.name, want)
			}
		}
		if !regexp.MustCompile(`(?m)^        labels: \{ severity: (critical|warning) \}$`).MatchString(expr) {
			t.Errorf("%s: its severity", r.name)
		}
		m := runbook.FindStringSubmatch(annotations)
		if m == nil || !slices.Contains(anchors, m[1]) {
			t.Errorf("%s leads to %q, which is no heading of docs/operations.md", r.name, m)
		}
	}
}
