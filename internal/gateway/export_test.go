package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/seed-0b620db0/patchbay/internal/peers"
	"github.com/seed-0b620db0/patchbay/pkg/adapter"
	"github.com/seed-0b620db0/patchbay/pkg/eio"
	"github.com/seed-0b620db0/patchbay/pkg/sio"
)

// What the tests see of the inside.

// Prefix of all variables, and limits that the tests must reach.
const (
	Prefix             = prefix
	MaxMembers         = maxMembers
	MaxRoomName        = maxRoomName
	MaxNamespaceLabels = maxNamespaceLabels
	DevelopmentSecret  = developmentSecret
)

// RedisTarget is what GATEWAY_REDIS_URL says.
type RedisTarget struct {
	Kind                           string
	TLS                            bool
	Addrs                          []string
	User, Password                 string
	DB                             int
	Master                         string
	SentinelUser, SentinelPassword string
}

// ParseRedisURL parses GATEWAY_REDIS_URL.
func ParseRedisURL(raw string) (RedisTarget, error) {
	t, err := parseRedisURL(raw)
	if err != nil {
		return RedisTarget{}, err
	}
	kind := []string{redisSingle: "single", redisUnix: "unix", redisSentinel: "sentinel", redisCluster: "cluster"}[t.kind]
	return RedisTarget{kind, t.tls, t.addrs, t.user, t.password, t.db, t.master, t.sentinelUser, t.sentinelPassword}, nil
}

// ParsePostgresURL parses GATEWAY_POSTGRES_URL.
func ParsePostgresURL(raw string) (*pgx.ConnConfig, error) {
	config, err := parsePostgresURL(raw)
	if err != nil {
		return nil, err
	}
	return config.ConnConfig, nil
}

// PostgresAddrs returns the addresses that are tried.
func PostgresAddrs(c *pgx.ConnConfig) []string { return postgresAddrs(c) }

// NewWith is New with another way to reach other nodes.
func NewWith(c *Config, log *slog.Logger, newAdapter func(adapter.Options) sio.NewAdapter, reg peers.Registry) (*Gateway, error) {
	open := func(o adapter.Options, _ *clusterMetrics) sio.NewAdapter { return newAdapter(o) }
	return newGateway(c, &backbone{adapter: open, registry: reg, close: func() error { return nil }}, log)
}

// SIOOptions returns what the configuration asks of the server.
func (c *Config) SIOOptions() *sio.Options { return c.options() }

// ServeOn is Serve on other listeners than those of Listen.
func (g *Gateway) ServeOn(ctx context.Context, public, admin net.Listener) error {
	g.publicListener, g.adminListener = public, admin
	return g.Serve(ctx)
}

// Relay is a relay on a server without the rest of the gateway.
type Relay struct {
	rl *relay
	IO *sio.Server

	mu   sync.Mutex
	errs []error
}

// NewRelay returns a relay that serves the namespace "/".
func NewRelay(c *Config) (*Relay, error) {
	auth, err := newAuthenticator(c, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	opts := c.options()
	r := &Relay{rl: newRelay(c)}
	opts.Engine.Hooks.Upgraded = func(s *eio.Session, _ time.Duration) { r.rl.upgraded(s) }
	opts.Hooks.HandlerError = func(_ *sio.Socket, _ string, err error) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.errs = append(r.errs, err)
	}
	r.IO = sio.NewServer(opts)
	r.IO.Use(auth.middleware)
	r.rl.serve(r.IO.Handlers)
	return r, nil
}

// HandlerErrors returns what handlers have failed with.
func (r *Relay) HandlerErrors() []error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.errs)
}

// Sockets returns the number of sockets that the relay keeps.
func (r *Relay) Sockets() int {
	r.rl.mu.Lock()
	defer r.rl.mu.Unlock()
	n := 0
	for _, s := range r.rl.sockets {
		n += len(s)
	}
	return n
}

// Sessions returns the number of sessions that the relay keeps.
func (r *Relay) Sessions() int {
	r.rl.mu.Lock()
	defer r.rl.mu.Unlock()
	return len(r.rl.sockets)
}

// Discard ends a gateway that was not served.
func (g *Gateway) Discard() error { return errors.Join(g.io.Close(), g.cluster.close()) }

// IO returns the server, for what no client can make the gateway do.
func (g *Gateway) IO() *sio.Server { return g.io }

// NodeTag makes a tag of a host name.
func NodeTag(host string) string { return tagOf(host) }

// RelayErrors returns what the relay tells clients.
func RelayErrors() (texts []string) {
	for _, err := range []error{errRoom, errSocketRoom, errEvent, errReserved, errForbidden, errRate, errRooms, errPlaceholder, errInternal} {
		texts = append(texts, err.Error())
	}
	return texts
}

// Metrics are what a server reports to.
type Metrics struct {
	Cluster adapter.Hooks
	Handler http.Handler
}

// CountMetrics makes a server with these options report to new metrics.
func CountMetrics(c *Config, o *sio.Options) *Metrics {
	m := newMetrics(c, newHealth(notStarted), slog.New(slog.DiscardHandler))
	m.count(o)
	return &Metrics{m.cluster.hooks(m), promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})}
}

// EventTable counts events by namespace and name.
type EventTable struct{ t *eventTable }

// Limits of an EventTable.
const (
	Evidence      = evidence
	MaxEventLabel = maxEventLabel
)

// NewEventTable returns a table with labels for so many names, beside those known.
func NewEventTable(limit int, known ...string) *EventTable {
	return &EventTable{newEventTable(newLabelSet(maxNamespaceLabels), limit, known...)}
}

// Count counts an event.
func (e *EventTable) Count(namespace, event string) { e.t.count(namespace, event, 1) }

// String lists the rows.
func (e *EventTable) String() string {
	var lines []string
	for _, r := range *e.t.rows.Load() {
		lines = append(lines, fmt.Sprintf("%s %s %d\n", r.namespace, r.event, r.events.Load()))
	}
	slices.Sort(lines)
	return strings.Join(lines, "")
}

// NotReadyReasons returns the values of the label.
func NotReadyReasons() []string { return causes }

// NotReady has, for all that can be the matter, the reason in metrics.
var NotReady = map[string]string{
	notStarted: causeStarting, draining: causeDraining, busReason("/"): causeBus, busReason("/chat"): causeBus,
	unregistered: causeRegistry, tagTaken: causeTagTaken, "something new": causeSomething,
}

// SetHealth says what is the matter with something: nothing, if reason is empty.
func (g *Gateway) SetHealth(what, reason string) { g.health.set(what, reason) }

// Bounds of the log of slow clients.
const (
	SlowLines    = slowLines
	SlowInterval = slowInterval
)

// NewSlowLimit returns what bounds it.
func NewSlowLimit() (allow func(time.Time) (ok bool, silent int)) { return new(slowLimit).allow }

// Paced is what the public listener is wrapped in.
func Paced(l net.Listener) net.Listener { return paced(l) }
