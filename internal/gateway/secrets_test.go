package gateway_test

import (
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/seed-0b620db0/patchbay/internal/gateway"
)

func TestDevelopmentSecrets(t *testing.T) {
	const public, private = gateway.DevelopmentSecret, "another-secret-of-ours"
	t.Setenv("PGPASSWORD", "")
	for _, c := range []struct {
		vars []string
		want []string
	}{
		{nil, nil},
		{[]string{"PEER_SECRET=" + private, "JWT_SECRET=" + private}, nil},
		{[]string{"PEER_SECRET=" + public, "JWT_SECRET=" + public}, []string{"PEER_SECRET", "JWT_SECRET"}},
		{[]string{"ADAPTER=redis", "REDIS_URL=redis://:" + private + "@redis"}, nil},
		{[]string{"ADAPTER=redis", "REDIS_URL=redis://redis/0"}, nil},
		{[]string{"ADAPTER=redis", "REDIS_URL=redis://:" + public + "@redis"}, []string{"REDIS_URL"}},
		{[]string{"ADAPTER=redis-streams", "REDIS_URL=redis://:patchbay%2Ddevelopment-only@redis"}, []string{"REDIS_URL"}},
		{[]string{"ADAPTER=redis", "REDIS_URL=redis+sentinel://s1/name?sentinel_password=" + public}, []string{"REDIS_URL"}},
		{[]string{"ADAPTER=postgres", "POSTGRES_URL=postgres://u:" + private + "@db/chat"}, nil},
		{[]string{"ADAPTER=postgres", "POSTGRES_URL=postgres://u:" + public + "@db/chat"}, []string{"POSTGRES_URL"}},
		{
			[]string{"ADAPTER=postgres", "POSTGRES_URL=postgres://u:" + private + "@pool/chat", "POSTGRES_LISTEN_URL=postgres://u:" + public + "@db/chat"},
			[]string{"POSTGRES_LISTEN_URL"},
		},
		// What is not used is no matter.
		{[]string{"ADAPTER=postgres", "POSTGRES_URL=postgres://u:" + private + "@db/chat", "REDIS_URL=redis://:" + public + "@redis"}, nil},
		{[]string{"REDIS_URL=redis://:" + public + "@redis"}, nil},
	} {
		if got := developmentSecrets(t, c.vars...); !slices.Equal(got, c.want) {
			t.Errorf("%q: warned of %q, want %q", c.vars, got, c.want)
		}
	}

	t.Setenv("PGPASSWORD", public)
	if got := developmentSecrets(t, "ADAPTER=postgres", "POSTGRES_URL=postgres://u@db/chat"); !slices.Equal(got, []string{"POSTGRES_URL"}) {
		t.Errorf("PGPASSWORD: warned of %q", got)
	}
}

// developmentSecrets returns the variables that a node warns of, and shows that it does not log a secret.
func developmentSecrets(t *testing.T, vars ...string) (names []string) {
	t.Helper()
	log := new(logBuffer)
	cfg := load(t, vars...)
	g, err := gateway.New(cfg, gateway.NewLogger(log, cfg))
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Discard(); err != nil {
		t.Error(err)
	}
	if strings.Contains(log.String(), gateway.DevelopmentSecret) {
		t.Errorf("%q: the secret is in the log: %s", vars, log)
	}
	for line := range strings.Lines(log.String()) {
		var entry struct{ Level, Msg, Name, Hint string }
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		if entry.Msg != "development_secret" {
			continue
		}
		if entry.Level != "WARN" || entry.Hint == "" {
			t.Errorf("%s", line)
		}
		names = append(names, strings.TrimPrefix(entry.Name, gateway.Prefix))
	}
	return names
}

// Every secret that the compose file makes up is one that the log warns of.
func TestComposeSecrets(t *testing.T) {
	text, err := os.ReadFile("../../docker-compose.yml")
	if err != nil {
		t.Fatal(err)
	}
	found := make(map[string]bool)
	for _, m := range regexp.MustCompile(`\$\{(\w*(?:SECRET|PASSWORD)):-([^}]*)\}`).FindAllSubmatch(text, -1) {
		name, value := string(m[1]), string(m[2])
		found[name] = true
		if value != gateway.DevelopmentSecret && (name != "GATEWAY_JWT_SECRET" || value != "") {
			t.Errorf("%s is %q if it is not set", name, value)
		}
	}
	for _, name := range []string{"GATEWAY_PEER_SECRET", "GATEWAY_JWT_SECRET", "REDIS_PASSWORD", "POSTGRES_PASSWORD", "GRAFANA_PASSWORD"} {
		if !found[name] {
			t.Errorf("%s is not in the compose file", name)
		}
	}
}
