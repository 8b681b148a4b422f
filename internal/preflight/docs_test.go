package preflight_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// docs/check.md explains every check there is, and none that there is not.
func TestDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/check.md")
	if err != nil {
		t.Fatal(err)
	}
	names := `(?:config|node|host|redis|postgres|peers|capacity)\.[a-z_]+`
	documented := set(regexp.MustCompile("(?m)^\\| `("+names+")`"), string(page))
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	var code strings.Builder
	for _, name := range files {
		if !strings.HasSuffix(name, "_test.go") {
			code.Write(read(t, name))
		}
	}
	used := set(regexp.MustCompile(`"(`+names+`)"`), code.String())
	for name := range used {
		if !documented[name] {
			t.Errorf("docs/check.md does not have %s", name)
		}
	}
	for name := range documented {
		if !used[name] {
			t.Errorf("docs/check.md has %s, which is no check", name)
		}
	}
	limits := set(regexp.MustCompile(`(?m)^	add\("([a-z-]+)"|add\("([a-z-]+)", "`), code.String())
	delete(limits, "")
	for name := range limits {
		if !strings.Contains(string(page), "`"+name+"`") {
			t.Errorf("docs/check.md does not have the limit %s", name)
		}
	}
	if len(used) < 30 || len(limits) < 8 {
		t.Errorf("found %v and %v", used, limits)
	}
}

func set(re *regexp.Regexp, text string) map[string]bool {
	all := make(map[string]bool)
	for _, m := range re.FindAllStringSubmatch(text, -1) {
		for _, name := range m[1:] {
			all[name] = true
		}
	}
	return all
}
