// Package preflight is the gateway's check command: it looks at a configuration, at Redis or PostgreSQL, at the other nodes and
// at this host, and says what is wrong, or will break at which number of clients. It changes nothing, and may run beside the node.
package preflight

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/seed-0b620db0/patchbay/internal/gateway"
	"github.com/seed-0b620db0/patchbay/internal/peers"
)

const usage = `gateway check looks at the environment that a node would run in: its configuration, Redis or PostgreSQL, the other nodes,
this host. It changes nothing, and may run beside the node. It exits with 0, with 1 if something has failed.

`

// Options are what the command is told.
type Options struct {
	// Clients is how many clients this node shall hold; 0: as many as it can.
	Clients int64
	// Root is where the host's /proc and /sys are. Default "/".
	Root  string
	Build gateway.Build
}

// Times that the parts may take. Together they stay below timeout.
const (
	timeout      = 28 * time.Second
	nodeTimeout  = 4 * time.Second
	busTimeout   = 12 * time.Second
	peersTimeout = 6 * time.Second
)

// Main runs the command and returns its exit code: 0, or 1 if something has failed, or 2 if the command cannot run.
func Main(ctx context.Context, environ, args []string, b gateway.Build, stdout, stderr io.Writer) int {
	o := Options{Build: b}
	flags := flag.NewFlagSet("gateway check", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		fmt.Fprint(stderr, usage)
		flags.PrintDefaults()
	}
	flags.Int64Var(&o.Clients, "clients", 0, "`number` of clients that this node shall hold; 0: say how many it can")
	asJSON := flags.Bool("json", false, "print an object, as docs/check.md has it")
	err := flags.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 2
	case flags.NArg() > 0:
		err = fmt.Errorf("unknown argument %q", flags.Arg(0))
	case o.Clients < 0:
		err = errors.New("-clients is not negative")
	}
	if err != nil {
		fmt.Fprintln(stderr, "gateway check:", err)
		return 2
	}
	r := Run(ctx, environ, o)
	if err := r.print(stdout, *asJSON); err != nil {
		fmt.Fprintln(stderr, "gateway check:", err)
		return 2
	}
	if !r.OK {
		return 1
	}
	return 0
}

// checker is one run.
type checker struct {
	cfg     *gateway.Config
	opts    Options
	host    *host
	report  *Report
	node    *running // the node itself, if it runs on this host
	nodes   int      // that there are, this one included
	towards []string // addresses of Redis or PostgreSQL
}

// Run checks the environment.
func Run(ctx context.Context, environ []string, o Options) *Report {
	begun := time.Now()
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	goredis.SetLogger(quiet{}) // what matters comes as errors
	r := &Report{OK: true, Build: o.Build, Time: begun.UTC(), Counts: map[Status]int{OK: 0, Note: 0, Warn: 0, Fail: 0}, Peers: []Peer{}}
	c := &checker{opts: o, host: &host{root: o.Root}, report: r, nodes: 1}
	if c.configuration(environ) { //nolint:contextcheck // it connects to nothing
		r.Node, r.Adapter = c.cfg.Node, c.cfg.Adapter
		c.bounded(ctx, nodeTimeout, c.self)
		c.thisHost()
		c.bounded(ctx, busTimeout+peersTimeout, c.bus)
		c.capacity()
	} else {
		c.thisHost()
	}
	r.Seconds = time.Since(begun).Seconds()
	return r
}

func (c *checker) bounded(ctx context.Context, d time.Duration, f func(context.Context)) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	f(ctx)
}

// bus checks what ties nodes together, and the other nodes over it.
func (c *checker) bus(ctx context.Context) {
	if c.cfg.Adapter == adapterMemory {
		c.note("peers.alone", "", "GATEWAY_ADAPTER=memory: this node is alone, others do not reach its clients")
		return
	}
	check := c.redis
	if c.cfg.Adapter == adapterPostgres {
		check = c.postgres
	}
	var registry peers.Registry
	var closeBus func()
	c.bounded(ctx, busTimeout, func(ctx context.Context) { registry, closeBus = check(ctx) })
	defer closeBus()
	if registry != nil {
		c.bounded(ctx, peersTimeout, func(ctx context.Context) { c.peers(ctx, registry) })
	}
}

// The values of GATEWAY_ADAPTER.
const (
	adapterMemory   = "memory"
	adapterRedis    = "redis"
	adapterSharded  = "redis-sharded"
	adapterStreams  = "redis-streams"
	adapterPostgres = "postgres"
)

// count finds out how many nodes there are, this one included.
func (c *checker) count(ctx context.Context, registry peers.Registry) {
	all, err := registry.List(ctx)
	if err != nil {
		return // which is told when it is asked who they are
	}
	c.nodes = len(all)
	if !slices.ContainsFunc(all, func(n peers.Node) bool { return n.Tag == c.cfg.Node }) {
		c.nodes++
	}
}

func (c *checker) add(s Status, check, advice, format string, args ...any) {
	c.report.add(Finding{Check: check, Status: s, Text: fmt.Sprintf(format, args...), Advice: advice})
}

func (c *checker) ok(check, format string, args ...any) { c.add(OK, check, "", format, args...) }

func (c *checker) note(check, advice, format string, args ...any) {
	c.add(Note, check, advice, format, args...)
}

func (c *checker) warn(check, advice, format string, args ...any) {
	c.add(Warn, check, advice, format, args...)
}

func (c *checker) fail(check, advice, format string, args ...any) {
	c.add(Fail, check, advice, format, args...)
}

// text is that of an error which is not ours, on one line and without secrets.
func (c *checker) text(err error) string {
	if errors.Is(err, context.DeadlineExceeded) {
		return "no answer in time"
	}
	text := strings.Join(strings.Fields(c.cfg.BusFault(err)), " ")
	for _, secret := range c.cfg.Secrets() {
		text = strings.ReplaceAll(text, secret, "***")
	}
	return text
}

// skew judges how far a server's clock is from ours. Two nodes that are each that far from it are twice that far from each other.
func (c *checker) skew(check string, ahead, uncertain time.Duration) {
	const advice = "run chrony or another NTP client on all hosts"
	off := max(ahead.Abs()-uncertain, 0)
	side := "behind"
	if ahead < 0 {
		side = "ahead of"
	}
	text := fmt.Sprintf("this host's clock is %s %s the server's, give or take %s", ms(ahead.Abs()), side, ms(uncertain))
	switch {
	case off >= peers.MaxSkew/2:
		c.fail(check, advice, "%s; nodes refuse requests of others whose clock is %s off", text, peers.MaxSkew)
	case off >= time.Second:
		c.warn(check, advice, "%s; nodes refuse requests of others whose clock is %s off", text, peers.MaxSkew)
	default:
		c.ok(check, "%s", text)
	}
}

// clock tells of one that nobody sets. What that comes to is measured against Redis or PostgreSQL.
func (c *checker) clock() {
	if synchronised, known := c.host.synchronised(); known && !synchronised {
		c.note("host.clock", "run chrony or another NTP client, unless the machine that this one runs on does it", "the kernel knows of nothing that keeps its clock right")
	} else if known {
		c.ok("host.clock", "the kernel's clock is synchronised")
	}
}

// quiet takes what the client of Redis has to say.
type quiet struct{}

// Printf implements the client's logger.
func (quiet) Printf(context.Context, string, ...any) {}
