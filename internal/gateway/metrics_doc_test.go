package gateway_test

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/seed-0b620db0/patchbay/pkg/sio"
)

// documented is what docs/metrics.md says of a metric.
type documented struct {
	kind   string
	labels map[string][]string // nil: any value
}

func readMetricsPage(t *testing.T) map[string]documented {
	t.Helper()
	data, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	entry := regexp.MustCompile("(?m)^### `(\\w+)`\n\n(Gauge|Counter|Histogram)\\. (No labels|Labels: (.*))\\.\n\n(\\S.*)$")
	label := regexp.MustCompile("`(\\w+)` \\((any|`[^)]*`)\\)")
	out := map[string]documented{}
	for _, m := range entry.FindAllStringSubmatch(string(data), -1) {
		d := documented{kind: strings.ToLower(m[2]), labels: map[string][]string{}}
		for _, l := range label.FindAllStringSubmatch(m[4], -1) {
			var values []string
			if l[2] != "any" {
				values = strings.Split(strings.Trim(l[2], "`"), "`, `")
			}
			d.labels[l[1]] = values
		}
		if _, twice := out[m[1]]; twice {
			t.Errorf("%s is documented twice", m[1])
		}
		out[m[1]] = d
	}
	if headings := strings.Count(string(data), "\n### "); headings != len(out) {
		t.Errorf("%d headings, but %d entries in the right form", headings, len(out))
	}
	return out
}

// bounded are the labels whose values are no list: the number of names is limited, or each node has one value.
var bounded = []string{"namespace", "event", "version", "commit", "node"}

// Each metric is documented with its type and labels, and each documented metric, label and fixed value exists.
func TestMetricsAreDocumented(t *testing.T) {
	n := start(t, "RELAY=true", "JWT_SECRET="+secret)
	// One of each kind of series that does not exist from the start.
	p := n.dial(`{"token":"` + sign(t, "HS256", []byte(secret), claims{"patchbay": claims{"join": []string{"*"}}}) + `"}`)
	p.join("r")
	if err := n.socket().Emit("e"); err != nil {
		t.Error(err)
	}
	p.event()
	n.try("")
	p.Close()
	eventually(t, "it has ended", func() bool {
		return n.IO().Engine().Len() == 0 && n.scrape()[`patchbay_disconnects_total{reason="transport close"}`] == 1
	})

	page := readMetricsPage(t)
	body := n.get(n.admin + "/metrics").Body
	kinds := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (patchbay_\w+) (\w+)$`).FindAllStringSubmatch(body, -1) {
		kinds[m[1]] = m[2]
	}
	for name, kind := range kinds {
		if d, ok := page[name]; !ok || d.kind != kind {
			t.Errorf("%s is a %s; documented: %v, as a %s", name, kind, ok, d.kind)
		}
		if !regexp.MustCompile(`(?m)^# HELP ` + name + ` \S.*\.$`).MatchString(body) {
			t.Errorf("%s has no help", name)
		}
	}
	seen := map[string]map[string][]string{} // name, label: values
	for series := range n.scrape() {
		name, rest, _ := strings.Cut(series, "{")
		for _, suffix := range []string{"_bucket", "_sum", "_count"} {
			if base, ok := strings.CutSuffix(name, suffix); ok && kinds[base] == "histogram" {
				name = base
			}
		}
		if seen[name] == nil {
			seen[name] = map[string][]string{}
		}
		for _, l := range regexp.MustCompile(`(\w+)="([^"]*)"`).FindAllStringSubmatch(rest, -1) {
			if l[1] != "le" {
				seen[name][l[1]] = append(seen[name][l[1]], l[2])
			}
		}
	}
	for name, d := range page {
		if _, ok := kinds[name]; !ok {
			t.Errorf("%s is documented, but does not exist", name)
		}
		for label, values := range d.labels {
			if len(seen[name][label]) == 0 {
				t.Errorf("%s: the label %s does not exist", name, label)
			}
			for _, v := range seen[name][label] {
				if values != nil && !slices.Contains(values, v) {
					t.Errorf("%s{%s=%q} is not documented", name, label, v)
				}
			}
			if values == nil && !slices.Contains(bounded, label) {
				t.Errorf("%s: nothing bounds the label %s", name, label)
			}
			if name == "patchbay_sessions_closed_total" || name == "patchbay_disconnects_total" { // these series come with their first event
				continue
			}
			for _, v := range values {
				if !slices.Contains(seen[name][label], v) {
					t.Errorf("%s{%s=%q} is documented, but does not exist", name, label, v)
				}
			}
		}
		for label := range seen[name] {
			if _, ok := d.labels[label]; !ok {
				t.Errorf("%s: the label %s is not documented", name, label)
			}
		}
	}
	for _, r := range []sio.Reason{
		sio.ReasonClientDisconnect, sio.ReasonServerDisconnect, sio.ReasonForcedServerClose, sio.ReasonForcedClose, sio.ReasonServerShuttingDown,
		sio.ReasonPingTimeout, sio.ReasonTransportClose, sio.ReasonTransportError, sio.ReasonParseError, sio.ReasonSlowConsumer,
	} {
		if !slices.Contains(page["patchbay_disconnects_total"].labels["reason"], string(r)) {
			t.Errorf("the reason %q is not documented", r)
		}
	}
}
