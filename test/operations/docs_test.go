package operations_test

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/seed-0b620db0/patchbay/internal/gateway"
)

const deploy = "../../deploy"

func readFile(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// files are those of balancers, by their path below deploy.
func files(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, folder := range []string{"nginx", "balancers"} {
		if err := filepath.WalkDir(filepath.Join(deploy, folder), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			name, err := filepath.Rel(deploy, path)
			all[filepath.ToSlash(name)] = readFile(t, path)
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	if len(all) < 10 {
		t.Fatalf("only %d files", len(all))
	}
	return all
}

// The page has the files of the other balancers in full, and names those of nginx.
func TestPageHasTheFiles(t *testing.T) {
	page := readFile(t, "../../docs/balancers.md")
	for name, text := range files(t) {
		if strings.HasPrefix(name, "balancers/") && !strings.Contains(page, "\n"+text+"```\n") {
			t.Errorf("docs/balancers.md does not have %s as it is", name)
		}
		if !strings.Contains(page, filepath.Base(name)) {
			t.Errorf("docs/balancers.md does not name %s", name)
		}
	}
}

// The page and the files name no variable that does not exist.
func TestNamedVariables(t *testing.T) {
	var help bytes.Buffer
	if err := gateway.Help(&help); err != nil {
		t.Fatal(err)
	}
	all := files(t)
	all["docs/balancers.md"] = readFile(t, "../../docs/balancers.md")
	for file, text := range all {
		for _, name := range regexp.MustCompile(`GATEWAY_[A-Z0-9_]+`).FindAllString(text, -1) {
			if !regexp.MustCompile(`\b` + name + `\b`).MatchString(help.String()) {
				t.Errorf("%s: there is no variable %s", file, name)
			}
		}
	}
}

// What the files say of a node's defaults holds.
func TestDefaults(t *testing.T) {
	c, _, err := gateway.Load(nil)
	if err != nil {
		t.Fatal(err)
	}
	heartbeat := c.PingInterval + c.PingTimeout
	all := files(t)
	number := func(file, pattern string) string {
		m := regexp.MustCompile(pattern).FindStringSubmatch(all[file])
		if m == nil {
			t.Fatalf("%s has no %s", file, pattern)
		}
		return m[1]
	}
	for file, patterns := range map[string][]string{
		"nginx/patchbay-locations.conf": {`proxy_read_timeout\s+(\S+);`, `proxy_send_timeout\s+(\S+);`},
		"balancers/haproxy/haproxy.cfg": {`timeout client +(\S+)`, `timeout server +(\S+)`, `timeout tunnel +(\S+)`},
		"balancers/envoy/envoy.yaml":    {`stream_idle_timeout: (\S+)`},
	} {
		for _, p := range patterns {
			if d, err := time.ParseDuration(number(file, p)); err != nil || d <= heartbeat {
				t.Errorf("%s: %s is %v, the heartbeat takes up to %v", file, p, d, heartbeat)
			}
		}
	}
	// A balancer closes a connection that nobody uses before the node does.
	for file, pattern := range map[string]string{
		"nginx/patchbay-nodes.conf":     `keepalive_timeout (\S+);`,
		"nginx/sticky.conf":             `keepalive_timeout (\S+);`,
		"balancers/caddy/Caddyfile":     `keepalive (\S+)`,
		"balancers/traefik/dynamic.yml": `idleConnTimeout: (\S+)`,
		"balancers/envoy/envoy.yaml":    `idle_timeout: (\S+)} # less`,
	} {
		if d, err := time.ParseDuration(number(file, pattern)); err != nil || d >= c.IdleTimeout {
			t.Errorf("%s: %s is %v, the node's is %v", file, pattern, d, c.IdleTimeout)
		}
	}
}
