package gateway_test

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/seed-0b620db0/patchbay/internal/gateway"
)

func readPage(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile("../../docs/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// The pages name no variable that does not exist.
func TestPagesNameVariables(t *testing.T) {
	for _, page := range []string{"relay.md", "metrics.md", "logs.md"} {
		names := regexp.MustCompile(`GATEWAY_[A-Z0-9_]+`).FindAllString(readPage(t, page), -1)
		if len(names) == 0 {
			t.Errorf("%s names none", page)
		}
		for _, name := range names {
			if !slices.Contains(variables(), strings.TrimPrefix(name, gateway.Prefix)) {
				t.Errorf("%s: there is no variable %s", page, name)
			}
		}
	}
}

// The page lists the errors of the relay, all of them and no others.
func TestRelayPageListsTheErrors(t *testing.T) {
	_, table, _ := strings.Cut(readPage(t, "relay.md"), "| error | why |")
	table, _, _ = strings.Cut(table, "\n\n")
	var listed []string
	for _, m := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\|").FindAllStringSubmatch(table, -1) {
		listed = append(listed, m[1])
	}
	want := gateway.RelayErrors()
	slices.Sort(listed)
	slices.Sort(want)
	if !slices.Equal(listed, want) {
		t.Errorf("listed %q\nwant   %q", listed, want)
	}
}
