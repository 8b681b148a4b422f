package preflight

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/seed-0b620db0/patchbay/internal/gateway"
)

// configuration reads it as the node does. It returns false if the node would not start with it.
func (c *checker) configuration(environ []string) bool {
	cfg, unknown, err := gateway.Load(environ)
	for _, name := range unknown {
		advice := "remove it, or correct its name"
		if like := gateway.Nearest(name); like != "" {
			advice = "did you mean " + like + "?"
		}
		c.warn("config.unknown", advice, "%s is no variable of the gateway", name)
	}
	if err == nil {
		err = cfg.Verify()
	}
	if err != nil {
		for _, e := range flatten(err) {
			c.fail("config.valid", "gateway -help lists the variables", "%s", strings.Join(strings.Fields(e.Error()), " "))
		}
		return false
	}
	c.cfg = cfg
	c.ok("config.valid", "node %s, adapter %s, namespaces %s", cfg.Node, cfg.Adapter, strings.Join(cfg.Namespaces, ","))
	c.clients()
	c.peerSecret()
	c.origins()
	c.timeouts()
	if cfg.Pprof {
		c.note("config.pprof", "turn it off when nobody looks", "GATEWAY_PPROF: who reaches %s can read what is in memory", cfg.AdminAddr)
	}
	if cfg.LogLevel < 0 {
		c.note("config.log", "GATEWAY_LOG_LEVEL=info in production", "GATEWAY_LOG_LEVEL=%s: a line for each request that is refused", strings.ToLower(cfg.LogLevel.String()))
	}
	return true
}

// flatten returns the parts of a joined error.
func flatten(err error) (all []error) {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range joined.Unwrap() {
			all = append(all, flatten(e)...)
		}
		return all
	}
	return []error{err}
}

// clients looks at who may connect.
func (c *checker) clients() {
	cfg := c.cfg
	switch {
	case cfg.JWTSecret != "":
		c.secret("config.jwt", "GATEWAY_JWT_SECRET", cfg.JWTSecret)
	case cfg.JWTPublicKeyFile != "":
		c.ok("config.jwt", "tokens are checked with the key in GATEWAY_JWT_PUBLIC_KEY_FILE")
	case cfg.Relay:
		c.warn("config.jwt", "set GATEWAY_JWT_SECRET or GATEWAY_JWT_PUBLIC_KEY_FILE", "GATEWAY_RELAY without tokens: anybody may join and publish to any room")
	default:
		c.note("config.jwt", "set GATEWAY_JWT_SECRET or GATEWAY_JWT_PUBLIC_KEY_FILE", "no tokens are asked for: anybody may connect and receive")
	}
	if cfg.Playground {
		c.note("config.playground", "not in production", "GATEWAY_PLAYGROUND: anybody gets the page at /")
	}
}

// peerSecret looks at what nodes know each other by.
func (c *checker) peerSecret() {
	switch {
	case c.cfg.PeerSecret != "":
		c.secret("config.peer_secret", "GATEWAY_PEER_SECRET", c.cfg.PeerSecret)
	case c.cfg.Adapter != adapterMemory:
		c.warn("config.peer_secret", "set GATEWAY_PEER_SECRET, the same on all nodes, or have a balancer that is sticky",
			"no GATEWAY_PEER_SECRET: a request that reaches the wrong node is answered \"Session ID unknown\"")
	}
	if c.cfg.PeerSecret != "" && c.cfg.PeerSecret == c.cfg.JWTSecret {
		c.warn("config.secrets", "make another one", "GATEWAY_PEER_SECRET is GATEWAY_JWT_SECRET: who may make tokens may speak as a node")
	}
}

// words are in secrets that were written and not made.
var words = []string{
	"secret", "password", "passwd", "change", "example", "development", "insecure", "default", "test", "sample", "demo", "patchbay",
	"gateway", "random-string", "qwerty", "12345", "abcdef", "placeholder",
}

// secret judges one that is long enough for the node.
func (c *checker) secret(check, name, value string) {
	const enough, distinct = 32, 10
	const advice = "make one with: openssl rand -base64 32"
	lower := strings.ToLower(value)
	seen := make(map[rune]struct{})
	for _, r := range value {
		seen[r] = struct{}{}
	}
	switch {
	case slices.ContainsFunc(words, func(w string) bool { return strings.Contains(lower, w) }):
		c.warn(check, advice, "%s was written by a person, or is that of an example", name)
	case len(seen) < distinct:
		c.warn(check, advice, "%s has %d different characters: it can be guessed", name, len(seen))
	case len(value) < enough:
		c.warn(check, advice, "%s has %d bytes; %d are safe", name, len(value), enough)
	default:
		c.ok(check, "%s has %d bytes", name, len(value))
	}
}

// origins looks at what pages may connect.
func (c *checker) origins() {
	cfg := c.cfg
	switch {
	case slices.Contains(cfg.CORSOrigins, "*"):
		c.warn("config.cors", "name the origins of your pages", "GATEWAY_CORS_ORIGINS=*: any page may connect in the name of its visitor")
	case len(cfg.CORSOrigins) > 0 && !cfg.CheckOrigin:
		c.note("config.cors", "set GATEWAY_CHECK_ORIGIN=true", "GATEWAY_CORS_ORIGINS does not cover WebSockets: pages of other origins may open them")
	default:
		c.ok("config.cors", "pages of other origins: %s", join(cfg.CORSOrigins, "none by CORS"))
	}
}

func join(list []string, none string) string {
	if len(list) == 0 {
		return none
	}
	return strings.Join(list, ", ")
}

// What others usually have.
const (
	proxyReadTimeout = 60 * time.Second // nginx, HAProxy's examples, AWS ALB: silence after which they close
	upstreamIdle     = 60 * time.Second // how long nginx and AWS ALB keep a connection to a server
	gracePeriod      = 30 * time.Second // of Kubernetes
)

// timeouts looks for those that do not fit together.
func (c *checker) timeouts() {
	cfg := c.cfg
	good := true
	warn := func(s Status, advice, format string, args ...any) {
		good = false
		c.add(s, "config.timeouts", advice, format, args...)
	}
	if silence := cfg.PingInterval; silence >= proxyReadTimeout {
		warn(Warn, "shorten it, or set the read time-out of each proxy above GATEWAY_PING_INTERVAL plus GATEWAY_PING_TIMEOUT",
			"GATEWAY_PING_INTERVAL=%s: proxies close what is silent for 60s, unless they are told otherwise", silence)
	}
	if cfg.IdleTimeout <= upstreamIdle {
		warn(Warn, "set it above what the balancer keeps connections for",
			"GATEWAY_IDLE_TIMEOUT=%s: a balancer that keeps connections for 60s, as nginx and AWS ALB do, sends requests into closed ones (502)", cfg.IdleTimeout)
	}
	if cfg.Adapter != adapterMemory && cfg.ShutdownDelay == 0 {
		warn(Warn, "set it to a few probes of the balancer: 5s to 15s",
			"GATEWAY_SHUTDOWN_DELAY=0s: the balancer still sends clients to a node that has begun to stop")
	}
	if cfg.AckTimeout < cfg.RequestTimeout {
		warn(Note, "", "GATEWAY_ACK_TIMEOUT=%s is shorter than GATEWAY_REQUEST_TIMEOUT=%s: acknowledgements of other nodes' clients have the shorter one", cfg.AckTimeout, cfg.RequestTimeout)
	}
	c.stopping(warn)
	if good {
		c.ok("config.timeouts", "heartbeat %s + %s; stops within %s + %s, of which up to %s to close connections", cfg.PingInterval, cfg.PingTimeout, cfg.ShutdownDelay, cfg.ShutdownTimeout, cfg.DrainWindow)
	}
}

// drainShare is how much of GATEWAY_SHUTDOWN_TIMEOUT closing connections may take; what is left then is closed at once.
const drainShare = 0.75

// shortAge is an age of connections that makes more work than it spreads.
const shortAge = 5 * time.Minute

// stopping looks at what a node does between SIGTERM and its end, and before that to spread its clients.
func (c *checker) stopping(warn func(s Status, advice, format string, args ...any)) {
	cfg := c.cfg
	if total := cfg.ShutdownDelay + cfg.ShutdownTimeout; total >= gracePeriod {
		warn(Note, "terminationGracePeriodSeconds, TimeoutStopSec or stop_grace_period has to be longer",
			"stopping may take %s (GATEWAY_SHUTDOWN_DELAY plus GATEWAY_SHUTDOWN_TIMEOUT); Kubernetes kills after 30s unless told otherwise, docker after 10s", total)
	}
	most := time.Duration(drainShare * float64(cfg.ShutdownTimeout))
	window, by := cfg.DrainWindow, "GATEWAY_DRAIN_WINDOW="+cfg.DrainWindow.String()
	if cfg.DrainRate > 0 {
		window = time.Duration(c.opts.Clients) * time.Second / time.Duration(cfg.DrainRate)
		by = "closing " + number(c.opts.Clients) + " clients by GATEWAY_DRAIN_RATE=" + strconv.Itoa(cfg.DrainRate) + " takes " + window.Round(time.Second).String()
	}
	if window > most {
		warn(Warn, "raise GATEWAY_SHUTDOWN_TIMEOUT", "%s, but GATEWAY_SHUTDOWN_TIMEOUT=%s leaves %s for that: those left are closed in one moment", by, cfg.ShutdownTimeout, most)
	}
	if age := cfg.MaxConnectionAge; age > 0 && age < shortAge {
		warn(Warn, "30m to some hours", "GATEWAY_MAX_CONNECTION_AGE=%s: each client connects anew every few minutes", age)
	}
	if cfg.HandshakeRate > 0 && c.opts.Clients > 0 {
		back := time.Duration(c.opts.Clients) * time.Second / time.Duration(cfg.HandshakeRate)
		warn(Note, "", "by GATEWAY_HANDSHAKE_RATE=%d it takes %s until %s clients are here", cfg.HandshakeRate, back.Round(time.Second), number(c.opts.Clients))
	}
}
