package gateway

import (
	"log/slog"
	"slices"
)

// developmentSecret stands for every secret that docker-compose.yml is not given. It is long enough to be one, and public.
const developmentSecret = "patchbay-development-only"

// developmentSecrets returns the names of the variables whose secret everybody knows.
func (c *Config) developmentSecrets() (names []string) {
	check := func(name string, secrets ...string) {
		if slices.Contains(secrets, developmentSecret) {
			names = append(names, prefix+name)
		}
	}
	postgres := func(name, raw string) {
		if raw == "" {
			return
		}
		if t, err := parsePostgresURL(raw); err == nil { // with PGPASSWORD
			check(name, t.ConnConfig.Password)
		}
	}
	check("PEER_SECRET", c.PeerSecret)
	check("JWT_SECRET", c.JWTSecret)
	switch c.Adapter {
	case adapterMemory:
	case adapterPostgres:
		postgres("POSTGRES_URL", c.PostgresURL)
		postgres("POSTGRES_LISTEN_URL", c.PostgresListenURL)
	default:
		if t, err := parseRedisURL(c.RedisURL); err == nil {
			check("REDIS_URL", t.password, t.sentinelPassword)
		}
	}
	return names
}

// warnOfSecrets logs which secrets are none.
func (c *Config) warnOfSecrets(log *slog.Logger) {
	for _, name := range c.developmentSecrets() {
		log.Warn("development_secret", "name", name, "hint", "this secret is public; set one of your own, such as from openssl rand -hex 32")
	}
}
