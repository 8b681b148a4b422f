package gateway

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/seed-0b620db0/patchbay/internal/drain"
	"github.com/seed-0b620db0/patchbay/internal/peers"
	"github.com/seed-0b620db0/patchbay/pkg/adapter"
	"github.com/seed-0b620db0/patchbay/pkg/adapter/redis"
	"github.com/seed-0b620db0/patchbay/pkg/eio"
	"github.com/seed-0b620db0/patchbay/pkg/sio"
)

// The values of GATEWAY_ADAPTER.
const (
	adapterMemory   = "memory"
	adapterRedis    = "redis"
	adapterSharded  = "redis-sharded"
	adapterStreams  = "redis-streams"
	adapterPostgres = "postgres"
)

var shardedModes = map[string]redis.Mode{
	redis.Dynamic.String(): redis.Dynamic, redis.DynamicPrivate.String(): redis.DynamicPrivate, redis.Static.String(): redis.Static,
}

// checkCluster finds what is wrong with how nodes reach each other.
func (c *Config) checkCluster(require func(ok bool, name, text string, args ...any)) {
	switch c.Adapter {
	case adapterMemory:
	case adapterRedis, adapterSharded, adapterStreams:
		require(c.RedisURL != "", "REDIS_URL", "needed for GATEWAY_ADAPTER=%s", c.Adapter)
	case adapterPostgres:
		require(c.PostgresURL != "", "POSTGRES_URL", "needed for GATEWAY_ADAPTER=%s", c.Adapter)
	default:
		require(false, "ADAPTER", "%q is neither memory, redis, redis-sharded, redis-streams nor postgres", c.Adapter)
	}
	require(c.Adapter == adapterMemory || !c.Recovery, "RECOVERY", "only with GATEWAY_ADAPTER=memory so far: a client comes back to any node, and its session is on one")
	if c.RedisURL != "" {
		target, err := parseRedisURL(c.RedisURL)
		require(err == nil, "REDIS_URL", "%v", err)
		secure := err == nil && target.tls
		require(c.RedisTLSCAFile == "" || err != nil || secure, "REDIS_TLS_CA_FILE", "needs a GATEWAY_REDIS_URL with TLS, such as rediss://")
		require(c.RedisTLSServerName == "" || err != nil || secure, "REDIS_TLS_SERVER_NAME", "needs a GATEWAY_REDIS_URL with TLS, such as rediss://")
	}
	require(c.RedisKey != "" && !strings.ContainsAny(c.RedisKey, "#{}*?[]\\ "), "REDIS_KEY", "%q has a space, or one of #{}*?[]\\", c.RedisKey)
	require(c.RedisStreamName != "" && !strings.ContainsAny(c.RedisStreamName, "{} "), "REDIS_STREAM_NAME", "%q has a space, or one of {}", c.RedisStreamName)
	_, ok := shardedModes[c.RedisShardedMode]
	require(ok, "REDIS_SHARDED_MODE", "%q is neither static, dynamic nor dynamic-private", c.RedisShardedMode)
	c.checkPostgres(require)
	require(c.CanaryTimeout > c.CanaryInterval, "CANARY_TIMEOUT", "%s is not longer than GATEWAY_CANARY_INTERVAL", c.CanaryTimeout)
	if c.PeerAddr != "" {
		_, ok = hostPort(c.PeerAddr, "1")
		require(ok, "PEER_ADDR", "%q is neither a host nor host:port", c.PeerAddr)
	}
	require(c.PeerSecret == "" || len(c.PeerSecret) >= 16, "PEER_SECRET", "shorter than 16 bytes")
}

// backbone is what ties nodes together.
type backbone struct {
	adapter  func(adapter.Options, *clusterMetrics) sio.NewAdapter
	registry peers.Registry
	towards  []string // addresses on it, to find out which of ours others see
	close    func() error
}

// backbone returns what the configuration asks for, nil if the node is alone. It does not connect yet.
func (c *Config) backbone() (*backbone, error) {
	switch c.Adapter {
	case adapterMemory:
		return nil, nil
	case adapterPostgres:
		return c.postgresBackbone()
	default:
		return c.redisBackbone()
	}
}

// redisBackbone ties nodes together by Redis.
func (c *Config) redisBackbone() (*backbone, error) {
	target, err := parseRedisURL(c.RedisURL)
	if err != nil {
		return nil, err
	}
	rdb, err := target.client(c)
	if err != nil {
		return nil, err
	}
	b := &backbone{registry: peers.NewRedis(rdb, c.RedisKey), close: rdb.Close}
	if target.kind != redisUnix {
		b.towards = target.addrs
	}
	b.adapter = func(o adapter.Options, _ *clusterMetrics) sio.NewAdapter { return c.redisAdapter(rdb, o) }
	return b, nil
}

func (c *Config) redisAdapter(rdb goredis.UniversalClient, o adapter.Options) sio.NewAdapter {
	switch c.Adapter {
	case adapterSharded:
		return redis.NewSharded(rdb, &redis.ShardedOptions{
			Cluster: o, ChannelPrefix: c.RedisKey, Mode: shardedModes[c.RedisShardedMode],
			CanaryInterval: c.CanaryInterval, CanaryTimeout: c.CanaryTimeout,
		})
	case adapterStreams:
		return redis.NewStreams(rdb, &redis.StreamsOptions{
			Cluster: o, ChannelPrefix: c.RedisKey, StreamName: c.RedisStreamName, StreamCount: c.RedisStreamCount, MaxLen: int64(c.RedisStreamMaxLen),
			CanaryInterval: c.CanaryInterval, CanaryTimeout: c.CanaryTimeout,
		})
	default:
		return redis.New(rdb, &redis.Options{
			Cluster: o, Key: c.RedisKey, CanaryInterval: c.CanaryInterval, CanaryTimeout: c.CanaryTimeout,
		})
	}
}

// cluster is a node's part of it.
type cluster struct {
	// set at construction
	cfg      *Config
	log      *slog.Logger
	health   *health
	backbone *backbone
	self     peers.Node // its address is found when it listens
	dir      *peers.Directory
	forward  *peers.Forwarder // nil: what belongs to other nodes is unknown

	// set by start
	stop    context.CancelFunc
	running sync.WaitGroup
}

const unregistered, tagTaken = "not registered", "tag taken"

func newCluster(c *Config, b *backbone, h *health, m *metrics, log *slog.Logger) *cluster {
	cl := &cluster{
		cfg: c, log: log, health: h, backbone: b,
		self: peers.Node{Tag: c.Node, ID: peers.NewID(), Started: time.Now()},
	}
	h.set(unregistered, "this node is not registered yet")
	cl.dir = peers.NewDirectory(b.registry, &peers.DirectoryOptions{
		State: cl.registered, Known: func(n int) { m.cluster.peers.Set(float64(n)) }, Logger: log,
	})
	for _, ns := range c.Namespaces {
		h.set(busReason(ns), "bus of "+ns+": not connected yet")
	}
	if c.PeerSecret == "" {
		log.Warn("forwarding_off", "hint", "requests that reach the wrong node are refused; set GATEWAY_PEER_SECRET, or have a balancer that is sticky")
		return cl
	}
	cl.forward = peers.NewForwarder(cl.dir, &peers.Options{
		Tag: cl.self.Tag, ID: cl.self.ID, Secret: []byte(c.PeerSecret),
		// A poll is answered with a ping at the latest; a body may come first.
		Timeout: c.PingInterval + c.PingTimeout + c.BodyTimeout,
		// A connection that was dialed and not used yet is closed by the other side as one that sends no header.
		IdleTimeout:  min(30*time.Second, c.IdleTimeout/2, c.ReadHeaderTimeout/2),
		WriteTimeout: c.WriteTimeout, MaxBody: c.MaxHTTPBufferSize, MaxForwards: c.MaxSessions,
		Result: m.cluster.forwarded, Accepted: m.cluster.accepted, Logger: log,
	})
	return cl
}

func busReason(ns string) string { return "bus " + ns }

// options returns those of the adapters.
func (cl *cluster) options(m *metrics) adapter.Options {
	o := adapter.Options{
		Node: cl.self.Tag, RequestTimeout: cl.cfg.RequestTimeout, PublishTimeout: cl.cfg.PublishTimeout, AckTimeout: cl.cfg.AckTimeout,
		Hooks: m.cluster.hooks(m), Logger: cl.log,
	}
	configured := make(map[string]struct{})
	for _, ns := range cl.cfg.Namespaces {
		configured[ns] = struct{}{}
	}
	count := o.Hooks.State
	o.Hooks.State = func(ns string, err error) {
		count(ns, err)
		if _, ok := configured[ns]; !ok { // one made on demand is up a moment later than its first client
			return
		}
		reason := ""
		if err != nil {
			reason = "bus of " + ns + ": " + cl.cfg.busFault(err)
		}
		cl.health.set(busReason(ns), reason)
	}
	return o
}

func (cl *cluster) registered(err error) {
	reason, taken := "", ""
	if _, ok := errors.AsType[*peers.TakenError](err); ok {
		taken = prefix + "NODE: " + err.Error()
	} else if err != nil {
		reason = "this node is not registered: " + err.Error()
	}
	cl.health.set(tagTaken, taken) // first: in between the node is not ready anyhow
	cl.health.set(unregistered, reason)
}

// edge and owner wrap the server, for the two listeners.
func (cl *cluster) edge(io http.Handler) http.Handler {
	if cl == nil || cl.forward == nil {
		return io
	}
	return cl.forward.Edge(io)
}

func (cl *cluster) owner(io *sio.Server) http.Handler {
	if cl == nil || cl.forward == nil {
		return nil
	}
	return cl.forward.Owner(io, func(sid string, tunnel bool) {
		t := eio.Polling
		if tunnel {
			t = eio.WebSocket
		}
		if s := io.Engine().Session(sid); s != nil {
			s.Reroute(t)
		}
	})
}

// start enters the node into the registry and keeps it there.
func (cl *cluster) start(ctx context.Context, admin net.Addr, io *sio.Server) {
	if cl == nil {
		return
	}
	ctx, cl.stop = context.WithCancel(context.WithoutCancel(ctx)) // it stays while clients are sent away
	cl.running.Go(func() {                                        // both end by stop; leave waits for them
		cl.self.Addr = cl.cfg.Advertised(ctx, admin, cl.backbone.towards...)
		cl.dir.Run(ctx, cl.self)
	})
	cl.running.Go(func() { cl.census(ctx, io) })
}

// censusInterval is how often nodes are counted that nobody asks anything of.
const censusInterval = 5 * time.Second

// census keeps the metric of nodes true, until ctx is done.
func (cl *cluster) census(ctx context.Context, io *sio.Server) {
	ticker := time.NewTicker(censusInterval)
	defer ticker.Stop()
	for {
		for _, ns := range cl.cfg.Namespaces {
			_, _ = io.Of(ns).Adapter().ServerCount(ctx) // the adapter reports the number; that it is down, too
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// Advertised is where other nodes reach the internal listener, if they are found at one of the addresses of towards.
func (c *Config) Advertised(ctx context.Context, admin net.Addr, towards ...string) string {
	host, port, err := net.SplitHostPort(admin.String())
	if err != nil {
		host, port = admin.String(), ""
	}
	if a := c.PeerAddr; a != "" {
		addr, _ := hostPort(a, port) // checked at the start
		return addr
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsUnspecified() {
		return net.JoinHostPort(host, port)
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	for _, addr := range append(towards, "192.0.2.1:9") { // the last is anywhere: the way out
		conn, err := new(net.Dialer).DialContext(ctx, "udp", addr) // sends nothing
		if err != nil {
			continue
		}
		host, _, err = net.SplitHostPort(conn.LocalAddr().String())
		_ = conn.Close() // nothing was sent
		if err == nil {
			return net.JoinHostPort(host, port)
		}
	}
	return net.JoinHostPort("127.0.0.1", port)
}

// drain has the clients whose requests this node forwards go by way of others.
func (cl *cluster) drain(ctx context.Context, pace drain.Pace) {
	if cl != nil && cl.forward != nil {
		cl.forward.Drain(ctx, pace)
	}
}

// restTimeout is how long a node goes on for those who have come last.
const restTimeout = 2 * time.Second

// drainRest is drain at once, for those who have come meanwhile, until none is left.
func (cl *cluster) drainRest(ctx context.Context, none <-chan struct{}) {
	ctx, cancel := context.WithTimeout(ctx, restTimeout)
	defer cancel()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for {
		cl.drain(ctx, drain.Pace{})
		select {
		case <-ticker.C: // a request may not have got to the forwarder yet
		case <-none:
			return
		case <-ctx.Done():
			return
		}
	}
}

// stopForwarding ends what is forwarded for clients of this listener.
func (cl *cluster) stopForwarding() {
	if cl != nil && cl.forward != nil {
		cl.forward.Stop()
	}
}

// leave takes the node out of the registry, after its last session.
func (cl *cluster) leave(ctx context.Context) {
	if cl == nil {
		return
	}
	cl.stop()
	cl.running.Wait()
	if err := cl.dir.Leave(ctx, cl.self); err != nil {
		cl.log.Warn("registry_failed", "error", err) // the entry's time will be over
	}
}

// close is called when nothing of the node runs any more.
func (cl *cluster) close() error {
	if cl == nil {
		return nil
	}
	if cl.forward != nil {
		cl.forward.Close()
	}
	return cl.backbone.close()
}
