package gateway_test

import (
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// samples are the values of a scrape by series, as in the text format: name{label="value"}.
type samples map[string]float64

// scrape reads the metrics of the gateway; those of Go and the process are left out.
func (n *node) scrape() samples {
	n.t.Helper()
	r := n.get(n.admin + "/metrics")
	if r.Status != http.StatusOK {
		n.t.Fatalf("scrape: %d %s", r.Status, r.Body)
	}
	out := samples{}
	for line := range strings.Lines(r.Body) {
		i := strings.LastIndexByte(line, ' ')
		if !strings.HasPrefix(line, "patchbay_") || i < 0 {
			continue
		}
		v, err := strconv.ParseFloat(strings.TrimSpace(line[i:]), 64)
		if err != nil {
			n.t.Fatalf("sample %q: %v", line, err)
		}
		out[line[:i]] = v
	}
	if len(out) == 0 {
		n.t.Fatal("an empty scrape")
	}
	return out
}

// since returns what has changed from before to now; series that are new count from zero.
func (s samples) since(before samples) samples {
	out := samples{}
	for series, v := range s {
		if d := v - before[series]; d != 0 {
			out[series] = d
		}
	}
	return out
}

// want compares changes with those expected, whose names lack "patchbay_", in both directions. Series that begin with one of
// loose need only be there: their value depends on time or on the number of polls.
func (s samples) want(t *testing.T, want samples, loose ...string) {
	t.Helper()
	isLoose := func(series string) bool {
		return slices.ContainsFunc(loose, func(p string) bool { return strings.HasPrefix(series, p) })
	}
	got := samples{}
	for series, v := range s {
		if name := strings.TrimPrefix(series, "patchbay_"); !isLoose(name) {
			got[name] = v
		}
	}
	for _, series := range slices.Sorted(maps.Keys(want)) {
		if got[series] != want[series] {
			t.Errorf("%s changed by %v, want %v", series, got[series], want[series])
		}
	}
	for _, series := range slices.Sorted(maps.Keys(got)) {
		if _, ok := want[series]; !ok {
			t.Errorf("%s changed by %v, want no change", series, got[series])
		}
	}
}
