package preflight_test

import (
	"strings"
	"testing"

	"github.com/seed-0b620db0/patchbay/internal/preflight"
)

// A configuration that the node would not start with.
func TestInvalid(t *testing.T) {
	r := check(t, preflight.Options{}, "PING_INTERVAL=soon", "MAX_SESSIONS=none")
	want(t, r, preflight.Fail, "config.valid", "GATEWAY_PING_INTERVAL: ")
	want(t, r, preflight.Fail, "config.valid", "GATEWAY_MAX_SESSIONS: ")
	if r.OK || r.Capacity != nil || r.Counts == nil {
		t.Errorf("%+v", r)
	}
	want(t, check(t, preflight.Options{}, "JWT_SECRET=", "JWT_PUBLIC_KEY_FILE=nowhere.pem"), preflight.Fail, "config.valid", "GATEWAY_JWT_PUBLIC_KEY_FILE: ", "nowhere.pem")
	want(t, check(t, preflight.Options{}, "ADAPTER=redis"), preflight.Fail, "config.valid", "GATEWAY_REDIS_URL: ")
	want(t, check(t, preflight.Options{}, "ADAPTER=redis", "REDIS_URL=rediss://h", "REDIS_TLS_CA_FILE=nowhere.pem"), preflight.Fail, "config.valid", "GATEWAY_REDIS_TLS_CA_FILE: ")
}

func TestConfiguration(t *testing.T) {
	r := check(t, preflight.Options{})
	none(t, r, preflight.Warn, "config.")
	none(t, r, preflight.Fail, "config.", "node.", "capacity.")
	want(t, r, preflight.OK, "config.valid", "node node-1, adapter memory")
	want(t, r, preflight.Note, "peers.alone")
	if !r.OK || r.Node != "node-1" || r.Adapter != "memory" {
		t.Errorf("%+v", r)
	}
	const dead = "redis://:" + password + "@127.0.0.1:1"
	clients := preflight.Options{Clients: 30_000}
	for _, c := range []struct {
		vars   string
		o      preflight.Options
		status preflight.Status
		check  string
		words  []string
	}{
		{"PING_INTERVALL=1s", clients, preflight.Warn, "config.unknown", []string{"GATEWAY_PING_INTERVALL", "did you mean GATEWAY_PING_INTERVAL?"}},
		{"NOTHING_LIKE_IT=1s", clients, preflight.Warn, "config.unknown", []string{"GATEWAY_NOTHING_LIKE_IT", "remove it"}},
		{"JWT_SECRET= RELAY=true", clients, preflight.Warn, "config.jwt", []string{"anybody may join"}},
		{"JWT_SECRET=", clients, preflight.Note, "config.jwt", []string{"anybody may connect"}},
		{"JWT_SECRET=my-secret-for-the-gateway-of-ours-1", clients, preflight.Warn, "config.jwt", []string{"by a person", "openssl rand"}},
		{"JWT_SECRET=aaaaaaaabbbbbbbbccccccccaaaaaaaabbbbbbbb", clients, preflight.Warn, "config.jwt", []string{"3 different characters"}},
		{"JWT_SECRET=q7G2zN0uXk4VbR9tL", clients, preflight.Warn, "config.jwt", []string{"17 bytes"}},
		{"PEER_SECRET=patchbay-development-only", clients, preflight.Warn, "config.peer_secret", []string{"an example"}},
		{"PEER_SECRET= ADAPTER=redis REDIS_URL=" + dead, clients, preflight.Warn, "config.peer_secret", []string{"Session ID unknown"}},
		{"PEER_SECRET=" + strong, clients, preflight.Warn, "config.secrets", nil},
		{"CORS_ORIGINS=*", clients, preflight.Warn, "config.cors", []string{"any page"}},
		{"CORS_ORIGINS=https://a.example", clients, preflight.Note, "config.cors", []string{"GATEWAY_CHECK_ORIGIN=true"}},
		{"CORS_ORIGINS=https://a.example CHECK_ORIGIN=true", clients, preflight.OK, "config.cors", []string{"https://a.example"}},
		{"PPROF=true", clients, preflight.Note, "config.pprof", nil},
		{"LOG_LEVEL=debug", clients, preflight.Note, "config.log", []string{"GATEWAY_LOG_LEVEL=debug"}},
		{"RELAY=true PLAYGROUND=true", clients, preflight.Note, "config.playground", nil},
		{"PING_INTERVAL=1m", clients, preflight.Warn, "config.timeouts", []string{"GATEWAY_PING_INTERVAL=1m"}},
		{"IDLE_TIMEOUT=1m", clients, preflight.Warn, "config.timeouts", []string{"502"}},
		{"SHUTDOWN_DELAY=0s ADAPTER=redis REDIS_URL=" + dead, clients, preflight.Warn, "config.timeouts", []string{"GATEWAY_SHUTDOWN_DELAY=0s"}},
		{"ACK_TIMEOUT=1s", clients, preflight.Note, "config.timeouts", []string{"GATEWAY_REQUEST_TIMEOUT=5s"}},
		{"SHUTDOWN_DELAY=10s", clients, preflight.Note, "config.timeouts", []string{"may take 30s"}},
		{"DRAIN_WINDOW=16s", clients, preflight.Warn, "config.timeouts", []string{"GATEWAY_DRAIN_WINDOW=16s", "leaves 15s"}},
		{"DRAIN_RATE=1000", clients, preflight.Warn, "config.timeouts", []string{"30,000 clients by GATEWAY_DRAIN_RATE=1000 takes 30s"}},
		{"MAX_CONNECTION_AGE=1m", clients, preflight.Warn, "config.timeouts", []string{"GATEWAY_MAX_CONNECTION_AGE"}},
		{"HANDSHAKE_RATE=100", clients, preflight.Note, "config.timeouts", []string{"5m0s until 30,000"}},
	} {
		r := check(t, c.o, strings.Fields(c.vars)...)
		want(t, r, c.status, c.check, c.words...)
	}
}
