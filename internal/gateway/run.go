package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/seed-0b620db0/patchbay/internal/drain"
	"github.com/seed-0b620db0/patchbay/pkg/eio"
	"github.com/seed-0b620db0/patchbay/pkg/sio"
)

// NewLogger returns the logger that the configuration asks for.
func NewLogger(w io.Writer, c *Config) *slog.Logger {
	opts := &slog.HandlerOptions{Level: c.LogLevel}
	if c.LogFormat == "text" {
		return slog.New(slog.NewTextHandler(w, opts))
	}
	return slog.New(slog.NewJSONHandler(w, opts))
}

// Gateway is a node.
type Gateway struct {
	// set at construction
	cfg           *Config
	log           *slog.Logger
	io            *sio.Server
	health        *health
	metrics       *metrics
	cluster       *cluster // nil: the node is alone
	public, admin *http.Server

	// set by Run, or else what the go command knows
	build Build

	// set by Listen
	publicListener, adminListener net.Listener
}

const notStarted, draining = "starting", "shutting down"

// New returns a node that listens nowhere yet.
func New(c *Config, log *slog.Logger) (*Gateway, error) {
	b, err := c.backbone()
	if err != nil {
		return nil, err
	}
	g, err := newGateway(c, b, log)
	if err != nil && b != nil {
		err = errors.Join(err, b.close())
	}
	return g, err
}

func newGateway(c *Config, b *backbone, log *slog.Logger) (*Gateway, error) {
	auth, err := newAuthenticator(c, log)
	if err != nil {
		return nil, err
	}
	c.warnOfSecrets(log)
	g := &Gateway{cfg: c, log: log, health: newHealth(notStarted)}
	opts := c.options()
	opts.Logger = log
	var rl *relay
	if c.Relay {
		rl = newRelay(c)
		opts.Engine.Hooks.Upgraded = func(s *eio.Session, _ time.Duration) { rl.upgraded(s) }
		if auth.parser == nil {
			log.Warn("relay_without_tokens", "hint", "anybody may join and publish to any room; set GATEWAY_JWT_SECRET or GATEWAY_JWT_PUBLIC_KEY_FILE")
		}
	}
	m := newMetrics(c, g.health, log)
	m.count(opts)
	g.metrics = m
	g.made(NewBuild("", ""))
	if b != nil {
		g.cluster = newCluster(c, b, g.health, m, log)
		opts.Adapter = b.adapter(g.cluster.options(m), m.cluster)
	}
	g.io = sio.NewServer(opts)

	serve := func(h *sio.Handlers) {
		h.Use(auth.middleware)
		h.OnConnect(func(ctx context.Context, s *sio.Socket) error {
			identityOf(ctx).expire(ctx, s)
			return nil
		})
		if rl != nil {
			rl.serve(h)
		}
	}
	root := false
	for _, name := range c.Namespaces {
		root = root || name == "/"
		m.cluster.namespace(m.namespace(name)) // before clients can take all labels
		serve(g.io.Of(name).Handlers)
	}
	if !root { // the server always has it
		g.io.Use(func(context.Context, *sio.Socket) (context.Context, error) {
			return nil, &sio.ConnectError{Message: "Invalid namespace"}
		})
	}
	if c.NamespacePattern != nil {
		serve(g.io.OfRegexp(c.NamespacePattern).Handlers)
	}

	handler, err := publicHandler(c, g.cluster.edge(g.io), g.health, log)
	if err != nil {
		return nil, err
	}
	g.public = g.server(handler)
	g.admin = g.server(adminHandler(c, m, g.health, g.cluster.owner(g.io)))
	g.admin.MaxHeaderBytes += 4 << 10 // what another node adds to a client's header
	return g, nil
}

// made says what the program was made of.
func (g *Gateway) made(b Build) {
	g.build = b
	g.metrics.build.Reset()
	g.metrics.build.WithLabelValues(b.Version, b.Commit, g.cfg.Node).Set(1)
}

func (g *Gateway) server(h http.Handler) *http.Server {
	return &http.Server{
		Handler: g.bodyDeadline(h), ReadHeaderTimeout: g.cfg.ReadHeaderTimeout, IdleTimeout: g.cfg.IdleTimeout, MaxHeaderBytes: g.cfg.MaxHeaderBytes,
		ErrorLog: slog.NewLogLogger(g.log.Handler(), slog.LevelDebug), // what clients do wrong
	}
}

// bodyDeadline bounds the time for a body, also of one that no handler reads: net/http reads the rest of it before it
// answers, and knows no end. The server sets the deadline anew for the next request.
func (g *Gateway) bodyDeadline(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength != 0 {
			_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(g.cfg.BodyTimeout)) // every connection of ours has one
		}
		h.ServeHTTP(w, r)
	})
}

// Listen takes the two addresses.
func (g *Gateway) Listen(ctx context.Context) error {
	var lc net.ListenConfig
	var err error
	if g.publicListener, err = lc.Listen(ctx, "tcp", g.cfg.Addr); err != nil {
		return fmt.Errorf("%sADDR: %w", prefix, err)
	}
	if g.adminListener, err = lc.Listen(ctx, "tcp", g.cfg.AdminAddr); err != nil {
		return errors.Join(fmt.Errorf("%sADMIN_ADDR: %w", prefix, err), g.publicListener.Close())
	}
	return nil
}

// Addr and AdminAddr return the addresses that Listen took.
func (g *Gateway) Addr() net.Addr { return g.publicListener.Addr() }

// AdminAddr returns the internal address that Listen took.
func (g *Gateway) AdminAddr() net.Addr { return g.adminListener.Addr() }

// Serve runs the node until ctx is done, then ends it in an orderly way, within GATEWAY_SHUTDOWN_DELAY and
// GATEWAY_SHUTDOWN_TIMEOUT. Connections are closed one by one, so that clients come back, to another node.
func (g *Gateway) Serve(ctx context.Context) error {
	g.health.set(notStarted, "")
	failed := make(chan error, 2)
	var servers sync.WaitGroup
	for server, listener := range map[*http.Server]net.Listener{g.public: paced(g.publicListener), g.admin: g.adminListener} {
		servers.Go(func() { failed <- server.Serve(listener) })
	}
	g.cluster.start(ctx, g.AdminAddr(), g.io)
	g.log.Info("listening", "addr", g.Addr().String(), "admin_addr", g.AdminAddr().String(), "node", g.cfg.Node, "version", g.build.Version, "commit", g.build.Commit)

	err := g.wait(ctx, failed)
	g.health.set(draining, draining)
	g.health.leaving.Store(true)
	g.metrics.draining.Set(1)
	g.log.Info("shutting_down", "sessions", g.io.Engine().Len(), "delay", g.cfg.ShutdownDelay.String())
	if err == nil {
		time.Sleep(g.cfg.ShutdownDelay)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), g.cfg.ShutdownTimeout)
	defer cancel()
	sessions := g.io.Engine().Len()
	g.log.Info("draining", "sessions", sessions, "window", g.cfg.DrainWindow.String(), "rate", g.cfg.DrainRate)
	var forwarding sync.WaitGroup
	forwarding.Go(func() { g.cluster.drain(ctx, drain.Pace{Window: g.cfg.DrainWindow, Rate: g.cfg.DrainRate}) })
	err = errors.Join(err, g.io.Shutdown(ctx))
	forwarding.Wait()
	if sessions > 0 { // they are told, but what they sent before they heard of it may still be on its way
		sleep(ctx, linger)
	}
	forwarding.Add(1)
	closed := make(chan struct{})
	g.public.RegisterOnShutdown(func() { // nobody can come any more; some have, while the others were sent away
		defer forwarding.Done()
		g.cluster.drainRest(ctx, closed)
		g.cluster.stopForwarding()
	})
	err = errors.Join(err, g.public.Shutdown(ctx))
	close(closed)
	forwarding.Wait()
	g.cluster.leave(ctx)
	err = errors.Join(err, g.admin.Shutdown(ctx), g.public.Close(), g.admin.Close())
	servers.Wait()
	err = errors.Join(err, g.cluster.close())
	g.log.Info("stopped")
	return err
}

// linger is how long the node answers after its last session.
const linger = 500 * time.Millisecond

func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// wait returns when the node has to end: nil if it was told to.
func (g *Gateway) wait(ctx context.Context, failed <-chan error) error {
	var late <-chan time.Time
	if d := g.cfg.StartTimeout; d > 0 {
		timer := time.NewTimer(d)
		defer timer.Stop()
		late = timer.C
	}
	for ready := g.health.ready; ; {
		select {
		case err := <-failed:
			return err
		case <-ctx.Done():
			return nil
		case <-ready:
			g.log.Info("ready")
			ready, late = nil, nil
		case <-late:
			select {
			case <-ready: // at the same time
			default:
				return fmt.Errorf("%sSTART_TIMEOUT: not ready after %v: %s", prefix, g.cfg.StartTimeout, strings.Join(g.health.list(), "; "))
			}
		}
	}
}

// Run is Listen and Serve, of a program that was made of b.
func Run(ctx context.Context, c *Config, b Build, log *slog.Logger) error {
	goredis.SetLogger(redisLog{log})
	g, err := New(c, log) //nolint:contextcheck // the hooks in it belong to sessions
	if err != nil {
		return err
	}
	g.made(b)
	if err := g.Listen(ctx); err != nil {
		return errors.Join(err, g.io.Close(), g.cluster.close()) //nolint:contextcheck // nothing was begun that it could end
	}
	return g.Serve(ctx)
}
