package gateway_test

import (
	"os"
	"strings"
	"testing"

	"github.com/seed-0b620db0/patchbay/internal/gateway"
)

// The README shows what gateway -help prints.
func TestReadmeListsTheVariables(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	var help strings.Builder
	if err := gateway.Help(&help); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(readme), "```text\n"+help.String()+"```\n") {
		t.Errorf("README.md does not list the variables as they are:\n%s", help.String())
	}
}
