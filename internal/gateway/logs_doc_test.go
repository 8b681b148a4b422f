package gateway_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// logged is a message of the log.
type logged struct {
	levels, keys map[string]bool
	where        string // one of the places
}

// levels are the methods of a logger, and what they log at.
var levels = map[string]string{
	"Debug": "debug", "Info": "info", "Warn": "warn", "Error": "error",
	"DebugContext": "debug", "InfoContext": "info", "WarnContext": "warn", "ErrorContext": "error",
}

// logCalls finds all messages in the source of the program: what is called on an expression that ends in log or Logger.
type logCalls struct {
	t     *testing.T
	fset  *token.FileSet
	found map[string]*logged
}

var (
	isLogger = regexp.MustCompile(`(^|\.)(log|[lL]ogger|slog)(\.With\(\))?$`)
	isKey    = regexp.MustCompile(`^[a-z][a-z0-9_]*$`)
)

// describe writes an expression down, as far as it is of names.
func (c *logCalls) describe(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		return c.describe(e.X) + "." + e.Sel.Name
	case *ast.CallExpr:
		return c.describe(e.Fun) + "()"
	default:
		return "?"
	}
}

// keys returns the keys of a call, each followed by its value.
func (c *logCalls) keys(args []ast.Expr) (keys []string) {
	for i := 0; i < len(args); i += 2 {
		key := c.text(args[i])
		if !isKey.MatchString(key) || i+1 == len(args) {
			c.t.Errorf("%s: %q is no key in snake_case with a value", c.fset.Position(args[i].Pos()), key)
		}
		keys = append(keys, key)
	}
	return keys
}

// text returns the value of a string that is written out, or nothing.
func (c *logCalls) text(e ast.Expr) string {
	lit, ok := e.(*ast.BasicLit)
	if !ok || lit.Kind != token.STRING {
		return ""
	}
	s, err := strconv.Unquote(lit.Value)
	if err != nil {
		c.t.Error(err)
	}
	return s
}

func (c *logCalls) function(body ast.Node) {
	with := map[string][]string{} // keys of loggers in variables
	ast.Inspect(body, func(n ast.Node) bool {
		if a, ok := n.(*ast.AssignStmt); ok && len(a.Lhs) == 1 && len(a.Rhs) == 1 {
			call, _ := a.Rhs[0].(*ast.CallExpr)
			if call == nil {
				return true
			}
			if on, ok := strings.CutSuffix(c.describe(call.Fun), ".With"); ok && isLogger.MatchString(on) {
				with[c.describe(a.Lhs[0])] = c.keys(call.Args)
			}
		}
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		sel, ok := call.Fun.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		on, args := c.describe(sel.X), call.Args
		if !isLogger.MatchString(on) {
			return true
		}
		level, ok := levels[sel.Sel.Name]
		if !ok {
			if slices.Contains([]string{"Log", "LogAttrs", "Print", "Printf", "Println"}, sel.Sel.Name) {
				c.t.Errorf("%s: %s.%s is not looked at", c.fset.Position(call.Pos()), on, sel.Sel.Name)
			}
			return true
		}
		if strings.HasSuffix(sel.Sel.Name, "Context") {
			args = args[1:]
		}
		msg := c.text(args[0])
		if !isKey.MatchString(msg) {
			c.t.Errorf("%s: the message %q is no constant in snake_case", c.fset.Position(call.Pos()), msg)
			return true
		}
		l := c.found[msg]
		if l == nil {
			l = &logged{levels: map[string]bool{}, keys: map[string]bool{}, where: c.fset.Position(call.Pos()).String()}
			c.found[msg] = l
		}
		l.levels[level] = true
		for _, key := range append(c.keys(args[1:]), with[on]...) {
			l.keys[key] = true
		}
		return true
	})
}

// loggedMessages returns what the source logs.
func loggedMessages(t *testing.T) map[string]*logged {
	t.Helper()
	c := &logCalls{t, token.NewFileSet(), map[string]*logged{}}
	files := 0
	for _, root := range []string{"internal", "pkg", "cmd"} {
		err := filepath.WalkDir("../../"+root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			f, err := parser.ParseFile(c.fset, path, nil, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			files++
			for _, decl := range f.Decls {
				c.function(decl)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if files < 100 || len(c.found) < 20 {
		t.Fatalf("%d messages in %d files", len(c.found), files)
	}
	return c.found
}

// Each message of the log is on the page, with its level and all of its keys, and each on the page is in the source.
func TestLogsAreDocumented(t *testing.T) {
	found := loggedMessages(t)
	section := regexp.MustCompile(`(?m)^## (Error|Warn|Info|Debug)$`)
	row := regexp.MustCompile("^\\| `(\\w+)` \\| ([^|]*) \\| (\\S[^|]*) \\| (\\S[^|]*) \\|$")
	type line struct {
		levels, keys map[string]bool
	}
	page := map[string]*line{}
	level := ""
	for text := range strings.Lines(readPage(t, "logs.md")) {
		text = strings.TrimSuffix(text, "\n")
		if m := section.FindStringSubmatch(text); m != nil {
			level = strings.ToLower(m[1])
			continue
		}
		m := row.FindStringSubmatch(text)
		if m == nil {
			if strings.HasPrefix(text, "| `") {
				t.Errorf("not in the right form: %s", text)
			}
			continue
		}
		l := page[m[1]]
		if l == nil {
			l = &line{map[string]bool{}, map[string]bool{}}
			page[m[1]] = l
		}
		if l.levels[level] {
			t.Errorf("%s is there twice", m[1])
		}
		l.levels[level] = true
		for _, key := range regexp.MustCompile("`(\\w+)`").FindAllStringSubmatch(m[2], -1) {
			l.keys[key[1]] = true
		}
	}
	for _, msg := range slices.Sorted(maps.Keys(found)) {
		l := page[msg]
		if l == nil {
			t.Errorf("%s: %s is not documented", found[msg].where, msg)
			continue
		}
		if !maps.Equal(l.levels, found[msg].levels) {
			t.Errorf("%s: documented at %v, logged at %v", msg, l.levels, found[msg].levels)
		}
		if !maps.Equal(l.keys, found[msg].keys) {
			t.Errorf("%s: documented with %q,\nlogged with %q", msg, slices.Sorted(maps.Keys(l.keys)), slices.Sorted(maps.Keys(found[msg].keys)))
		}
	}
	for msg := range page {
		if found[msg] == nil {
			t.Errorf("%s is documented, but nobody logs it", msg)
		}
	}
}
