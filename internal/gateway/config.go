package gateway

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/caarlos0/env/v11"

	"github.com/seed-0b620db0/patchbay/pkg/eio"
	"github.com/seed-0b620db0/patchbay/pkg/sio"
)

const prefix = "GATEWAY_"

// Config is the configuration of the gateway. Each field is set by the environment variable GATEWAY_ and its env tag.
type Config struct {
	Addr      string `env:"ADDR" envDefault:":3000" help:"address for clients"`
	AdminAddr string `env:"ADMIN_ADDR" envDefault:":9090" help:"address for metrics, health and profiles; keep it internal"`
	Node      string `env:"NODE" help:"tag of this node in session ids, [a-z0-9-]{1,63}, or an address, whose dots and colons become dashes (default: made from the host name)"`

	LogFormat string     `env:"LOG_FORMAT" envDefault:"json" help:"json or text"`
	LogLevel  slog.Level `env:"LOG_LEVEL" envDefault:"info" help:"debug, info, warn or error"`
	Pprof     bool       `env:"PPROF" envDefault:"false" help:"serve profiles under /debug/pprof/ on the internal address"`

	MetricsEvents    []string `env:"METRICS_EVENTS" help:"names of events that have a label of their own in the metrics, comma separated; those of the relay have one anyway"`
	MetricsMaxEvents int      `env:"METRICS_MAX_EVENTS" envDefault:"100" help:"how many others may have one, each way; the rest is counted as other"`

	ShutdownDelay   time.Duration `env:"SHUTDOWN_DELAY" envDefault:"0s" help:"after SIGTERM, time for the balancer to see that the node is not ready"`
	DrainWindow     time.Duration `env:"DRAIN_WINDOW" envDefault:"10s" help:"after that, time over which connections are closed, at random moments; 0 is at once"`
	DrainRate       int           `env:"DRAIN_RATE" envDefault:"0" help:"connections closed a second instead, more if GATEWAY_SHUTDOWN_TIMEOUT is too short for that; 0 is what follows from GATEWAY_DRAIN_WINDOW"`
	ShutdownTimeout time.Duration `env:"SHUTDOWN_TIMEOUT" envDefault:"30s" help:"bounds all that comes after the delay: to close connections, three quarters of it at most, and to finish handlers"`

	MaxConnectionAge       time.Duration `env:"MAX_CONNECTION_AGE" envDefault:"0s" help:"close connections of this age, so that they spread over nodes that were added; 0 is never"`
	MaxConnectionAgeJitter float64       `env:"MAX_CONNECTION_AGE_JITTER" envDefault:"0.2" help:"share of that age, 0 to 1, by which it is shorter at most, at random for each"`

	ReadHeaderTimeout time.Duration `env:"READ_HEADER_TIMEOUT" envDefault:"10s" help:"time a client has to send the header of a request"`
	IdleTimeout       time.Duration `env:"IDLE_TIMEOUT" envDefault:"75s" help:"time a connection may be unused between two requests"`
	MaxHeaderBytes    int           `env:"MAX_HEADER_BYTES" envDefault:"16384" help:"size of a request header"`
	CORSOrigins       []string      `env:"CORS_ORIGINS" help:"origins of pages that may connect, comma separated, * for any (default: only the gateway's own)"`
	CORSCredentials   bool          `env:"CORS_CREDENTIALS" envDefault:"false" help:"let these pages send cookies; not with *"`
	CheckOrigin       bool          `env:"CHECK_ORIGIN" envDefault:"false" help:"refuse handshakes of other origins, WebSockets too, which CORS does not cover"`

	Path                     string        `env:"PATH" envDefault:"/socket.io" help:"where clients connect"`
	TrailingSlash            bool          `env:"TRAILING_SLASH" envDefault:"true" help:"the path ends with a slash (addTrailingSlash)"`
	Transports               []string      `env:"TRANSPORTS" envDefault:"polling,websocket" help:"transports that clients may use"`
	AllowUpgrades            bool          `env:"ALLOW_UPGRADES" envDefault:"true" help:"offer polling clients to move to WebSocket"`
	PingInterval             time.Duration `env:"PING_INTERVAL" envDefault:"25s" help:"time between two pings"`
	PingTimeout              time.Duration `env:"PING_TIMEOUT" envDefault:"20s" help:"time a client has to answer one"`
	UpgradeTimeout           time.Duration `env:"UPGRADE_TIMEOUT" envDefault:"10s" help:"time to finish an upgrade"`
	ConnectTimeout           time.Duration `env:"CONNECT_TIMEOUT" envDefault:"45s" help:"time to join a namespace"`
	BodyTimeout              time.Duration `env:"BODY_TIMEOUT" envDefault:"30s" help:"time a client has to send the body of a request"`
	WriteTimeout             time.Duration `env:"WRITE_TIMEOUT" envDefault:"20s" help:"time a client has to take 256 KiB"`
	MaxHTTPBufferSize        int           `env:"MAX_HTTP_BUFFER_SIZE" envDefault:"1000000" help:"bytes of one message or request body"`
	MaxPayloadPackets        int           `env:"MAX_PAYLOAD_PACKETS" envDefault:"65536" help:"packets of one request body"`
	MaxQueueBytes            int           `env:"MAX_QUEUE_BYTES" envDefault:"4194304" help:"bytes queued to one client, which is closed beyond"`
	MaxSessions              int           `env:"MAX_SESSIONS" envDefault:"1000000" help:"sessions of this node; more are answered 503"`
	HandshakeRate            int           `env:"HANDSHAKE_RATE" envDefault:"0" help:"sessions opened a second, against storms of reconnects; more are answered 503; 0 is no limit"`
	HandshakeBurst           int           `env:"HANDSHAKE_BURST" envDefault:"0" help:"how many of them may come at once; 0 is GATEWAY_HANDSHAKE_RATE"`
	HTTPCompression          bool          `env:"HTTP_COMPRESSION" envDefault:"true" help:"compress polling responses"`
	HTTPCompressionThreshold int           `env:"HTTP_COMPRESSION_THRESHOLD" envDefault:"1024" help:"from this size in bytes"`
	PerMessageDeflate        bool          `env:"PER_MESSAGE_DEFLATE" envDefault:"false" help:"offer WebSocket compression, for a high price in memory"`
	PerMessageThreshold      int           `env:"PER_MESSAGE_DEFLATE_THRESHOLD" envDefault:"1024" help:"from this size in bytes"`
	Cookie                   string        `env:"COOKIE" help:"name of a cookie with the session id, for balancers that need one (default: none)"`

	Namespaces                  []string       `env:"NAMESPACES" envDefault:"/" help:"namespaces that clients may join, comma separated"`
	NamespacePattern            *regexp.Regexp `env:"NAMESPACE_PATTERN" help:"regular expression of further namespaces, made on demand; anchor it with ^ and $ (default: none)"`
	CleanupEmptyChildNamespaces bool           `env:"CLEANUP_EMPTY_CHILD_NAMESPACES" envDefault:"true" help:"forget those that are empty"`
	MaxChildNamespaces          int            `env:"MAX_CHILD_NAMESPACES" envDefault:"10000" help:"how many there may be"`
	MaxNamespaces               int            `env:"MAX_NAMESPACES" envDefault:"100" help:"namespaces of one connection"`
	MaxAttachments              int            `env:"MAX_ATTACHMENTS" envDefault:"10" help:"binary attachments of one packet"`
	MaxDepth                    int            `env:"MAX_DEPTH" envDefault:"256" help:"nesting of arrays and objects in one packet"`
	MaxEvents                   int            `env:"MAX_EVENTS" envDefault:"256" help:"events of one socket that wait to be handled"`
	MaxPendingAcks              int            `env:"MAX_PENDING_ACKS" envDefault:"10000" help:"acknowledgements awaited from one socket"`
	AckTimeout                  time.Duration  `env:"ACK_TIMEOUT" envDefault:"30s" help:"time to wait for one"`

	Recovery                 bool          `env:"RECOVERY" envDefault:"false" help:"connection state recovery"`
	RecoveryMaxDisconnection time.Duration `env:"RECOVERY_MAX_DISCONNECTION" envDefault:"2m" help:"time a client has to come back"`
	RecoveryMaxPackets       int           `env:"RECOVERY_MAX_PACKETS" envDefault:"10000" help:"packets kept in each namespace"`
	RecoveryMaxBytes         int           `env:"RECOVERY_MAX_BYTES" envDefault:"16777216" help:"bytes kept in each namespace"`
	RecoveryMaxSessions      int           `env:"RECOVERY_MAX_SESSIONS" envDefault:"100000" help:"lost sessions kept in each namespace"`

	Adapter               string        `env:"ADAPTER" envDefault:"memory" help:"how nodes reach each other: memory (there is one node), redis, redis-sharded, redis-streams or postgres"`
	RedisURL              string        `env:"REDIS_URL" help:"redis://user:password@host:6379/0, rediss:// for TLS, and others: see the README"`
	RedisTLSCAFile        string        `env:"REDIS_TLS_CA_FILE" help:"trust these CAs in a PEM file (default: those of the system)"`
	RedisTLSServerName    string        `env:"REDIS_TLS_SERVER_NAME" help:"name in the certificate (default: the host)"`
	RedisKey              string        `env:"REDIS_KEY" envDefault:"socket.io" help:"how the names of all channels and keys begin; the same on all nodes"`
	RedisShardedMode      string        `env:"REDIS_SHARDED_MODE" envDefault:"dynamic" help:"static, dynamic or dynamic-private: a channel for no room, for each but those of single sockets, or for each"`
	RedisStreamName       string        `env:"REDIS_STREAM_NAME" envDefault:"socket.io" help:"key of the stream"`
	RedisStreamCount      int           `env:"REDIS_STREAM_COUNT" envDefault:"1" help:"streams that namespaces are spread over"`
	RedisStreamMaxLen     int           `env:"REDIS_STREAM_MAX_LEN" envDefault:"10000" help:"entries kept in each stream, roughly"`
	PostgresURL           string        `env:"POSTGRES_URL" help:"postgres://user:password@host:5432/database, with parameters such as sslmode: see the README"`
	PostgresListenURL     string        `env:"POSTGRES_LISTEN_URL" help:"the same database, past a pooler that cannot LISTEN (default: GATEWAY_POSTGRES_URL, which goes through none)"`
	PostgresPoolSize      int           `env:"POSTGRES_POOL_SIZE" envDefault:"4" help:"connections at most, beside the one that listens"`
	PostgresChannelPrefix string        `env:"POSTGRES_CHANNEL_PREFIX" envDefault:"socket.io" help:"how the names of all channels begin; the same on all nodes"`
	PostgresSchema        string        `env:"POSTGRES_SCHEMA" help:"where the tables are (default: where the search_path of the user says)"`
	PostgresTable         string        `env:"POSTGRES_TABLE" envDefault:"socket_io_attachments" help:"what is too large for a notification, or binary, goes through this table; the same on all nodes"`
	PostgresThreshold     int           `env:"POSTGRES_THRESHOLD" envDefault:"8000" help:"bytes that are too large for a notification, 8000 at most"`
	PostgresRetention     time.Duration `env:"POSTGRES_RETENTION" envDefault:"1m" help:"time after which it is deleted from the table"`
	RequestTimeout        time.Duration `env:"REQUEST_TIMEOUT" envDefault:"5s" help:"time other nodes have to answer"`
	PublishTimeout        time.Duration `env:"PUBLISH_TIMEOUT" envDefault:"1s" help:"time an event waits to be sent to other nodes when the bus does not keep up"`
	CanaryInterval        time.Duration `env:"CANARY_INTERVAL" envDefault:"5s" help:"time between two messages of a node to itself, which show that it hears the others"`
	CanaryTimeout         time.Duration `env:"CANARY_TIMEOUT" envDefault:"15s" help:"time without one after which it counts as deaf, and subscribes anew"`
	StartTimeout          time.Duration `env:"START_TIMEOUT" envDefault:"1m" help:"time to reach Redis or PostgreSQL at the start before the process gives up; 0 for ever"`
	PeerAddr              string        `env:"PEER_ADDR" help:"where other nodes reach the internal address: host or host:port (default: this host's address as Redis or PostgreSQL sees it)"`
	PeerSecret            string        `env:"PEER_SECRET" help:"what nodes know each other by to forward requests; the same on all nodes (default: none, nothing is forwarded)"`

	JWTSecret        string `env:"JWT_SECRET" help:"require of clients a token in auth.token, signed with this secret (HS256, HS384, HS512)"`
	JWTPublicKeyFile string `env:"JWT_PUBLIC_KEY_FILE" help:"the same, with the public key in this PEM file (RS256 and up, PS256 and up, ES256 and up, EdDSA)"`
	JWTIssuer        string `env:"JWT_ISSUER" help:"require this iss"`
	JWTAudience      string `env:"JWT_AUDIENCE" help:"require this aud"`

	Relay         bool `env:"RELAY" envDefault:"false" help:"let clients join, leave and publish to rooms, within what their token allows"`
	RelayMaxRooms int  `env:"RELAY_MAX_ROOMS" envDefault:"100" help:"rooms of one socket"`
	ServeClient   bool `env:"SERVE_CLIENT" envDefault:"true" help:"serve the browser client below the path"`
	Playground    bool `env:"PLAYGROUND" envDefault:"false" help:"serve a page to try the gateway at /; needs the relay and the browser client"`
}

// Load reads the configuration from an environment of KEY=value lines. Its error names each variable that is wrong. The
// unknown names are those that look like ours but are not, for a warning.
func Load(environ []string) (cfg *Config, unknown []string, err error) {
	vars := env.ToMap(environ)
	cfg = new(Config)
	fields, err := env.GetFieldParamsWithOptions(cfg, env.Options{Prefix: prefix})
	if err != nil {
		return nil, nil, err
	}
	for name := range vars {
		known := slices.ContainsFunc(fields, func(f env.FieldParams) bool { return f.Key == name })
		if strings.HasPrefix(name, prefix) && !known && !serviceVariable.MatchString(name) {
			unknown = append(unknown, name)
		}
	}
	slices.Sort(unknown)
	if err := env.ParseWithOptions(cfg, env.Options{Prefix: prefix, Environment: vars}); err != nil {
		return nil, unknown, nameVariables(err)
	}
	if cfg.Node == "" {
		cfg.Node = nodeFromHost()
	}
	if addr, err := netip.ParseAddr(cfg.Node); err == nil && addr.Zone() == "" {
		cfg.Node = tagOfAddr.Replace(strings.ToLower(cfg.Node))
	}
	return cfg, unknown, cfg.check()
}

// serviceVariable matches what Kubernetes puts into the environment of each pod for a Service that is called "gateway".
var serviceVariable = regexp.MustCompile(`^GATEWAY_(SERVICE_|PORT$|PORT_\d+_)`)

// nameVariables turns the errors of the env package, which name fields, into ones that name variables.
func nameVariables(err error) error {
	all, ok := errors.AsType[env.AggregateError](err)
	if !ok {
		return err
	}
	var out []error
	for _, e := range all.Errors {
		if p, ok := errors.AsType[env.ParseError](e); ok {
			if f, ok := reflect.TypeFor[Config]().FieldByName(p.Name); ok {
				e = fmt.Errorf("%s%s: %w", prefix, f.Tag.Get("env"), p.Err)
			}
		}
		out = append(out, e)
	}
	return errors.Join(out...)
}

var notInTag = regexp.MustCompile(`[^a-z0-9-]+`)

func nodeFromHost() string {
	host, err := os.Hostname()
	if err != nil {
		host = ""
	}
	return tagOf(host)
}

func tagOf(host string) string {
	tag := notInTag.ReplaceAllString(strings.ToLower(host), "-")
	return cmp.Or(tag[:min(len(tag), 63)], "gateway")
}

// tagOfAddr makes a tag of an address, which is all that Kubernetes knows of a pod and a balancer can look up: the same that
// the cluster's DNS calls a pod below a headless Service.
var tagOfAddr = strings.NewReplacer(".", "-", ":", "-")

var pathPattern = regexp.MustCompile(`^(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+/?$`)

var nodeTag = regexp.MustCompile(`^[a-z0-9-]{1,63}$`)

var (
	originPattern = regexp.MustCompile(`^(\*|[A-Za-z][A-Za-z0-9+.-]*://[^/\s*]*\*?[^/\s*]*)$`)
	cookieName    = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+.^_`|~-]*$") // a token of RFC 9110, or none
)

// mayBeZero are the variables of numbers and durations for which zero means something.
var mayBeZero = map[string]bool{
	"SHUTDOWN_DELAY": true, "DRAIN_WINDOW": true, "DRAIN_RATE": true, "MAX_CONNECTION_AGE": true, "HANDSHAKE_RATE": true, "HANDSHAKE_BURST": true,
	"START_TIMEOUT": true, "HTTP_COMPRESSION_THRESHOLD": true, "METRICS_MAX_EVENTS": true,
}

// check finds what no type can say.
func (c *Config) check() error {
	var errs []error
	require := func(ok bool, name, text string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf("%s%s: %s", prefix, name, fmt.Sprintf(text, args...)))
		}
	}
	require(nodeTag.MatchString(c.Node), "NODE", "%q does not match %s", c.Node, nodeTag)
	require(c.LogFormat == "json" || c.LogFormat == "text", "LOG_FORMAT", "%q is neither json nor text", c.LogFormat)
	require(pathPattern.MatchString(c.Path), "PATH", "%q is not a path of letters, digits and ._~-", c.Path)
	require(len(c.Transports) > 0, "TRANSPORTS", "none given")
	for _, t := range c.Transports {
		require(t == string(eio.Polling) || t == string(eio.WebSocket), "TRANSPORTS", "%q is neither polling nor websocket", t)
	}
	for i, ns := range c.Namespaces {
		require(!slices.Contains(c.Namespaces[:i], ns), "NAMESPACES", "%q is there twice", ns)
		require(strings.HasPrefix(ns, "/") && !strings.Contains(ns, ","), "NAMESPACES", "%q does not begin with a slash", ns)
	}
	for _, o := range c.CORSOrigins {
		require(originPattern.MatchString(o), "CORS_ORIGINS", "%q is no origin such as https://example.com", o)
	}
	require(cookieName.MatchString(c.Cookie), "COOKIE", "%q is no name of a cookie", c.Cookie)
	require(!c.CORSCredentials || !slices.Contains(c.CORSOrigins, "*"), "CORS_CREDENTIALS", "not with GATEWAY_CORS_ORIGINS=*, name the origins")
	require(c.JWTSecret == "" || c.JWTPublicKeyFile == "", "JWT_SECRET", "not together with GATEWAY_JWT_PUBLIC_KEY_FILE")
	require(c.JWTSecret == "" || len(c.JWTSecret) >= 16, "JWT_SECRET", "shorter than 16 bytes")
	c.checkCluster(require)
	require(!c.Playground || c.Relay && c.ServeClient, "PLAYGROUND", "needs GATEWAY_RELAY=true and GATEWAY_SERVE_CLIENT=true")
	require(!c.Playground || strings.Trim(c.Path, "/") == "socket.io", "PLAYGROUND", "needs GATEWAY_PATH=/socket.io")
	require(len(c.MetricsEvents) <= maxEvents, "METRICS_EVENTS", "more than %d", maxEvents)
	for i, name := range c.MetricsEvents {
		require(isEventLabel(name), "METRICS_EVENTS", "%q cannot be a label: it is empty, %q, longer than %d bytes or not UTF-8", name, otherLabel, maxEventLabel)
		require(!slices.Contains(c.MetricsEvents[:i], name), "METRICS_EVENTS", "%q is there twice", name)
	}

	require(c.MaxConnectionAgeJitter >= 0 && c.MaxConnectionAgeJitter <= 1, "MAX_CONNECTION_AGE_JITTER", "%v is not between 0 and 1", c.MaxConnectionAgeJitter)
	require(c.HandshakeBurst == 0 || c.HandshakeRate > 0, "HANDSHAKE_BURST", "needs GATEWAY_HANDSHAKE_RATE")

	v := reflect.ValueOf(*c)
	for f, value := range v.Fields() {
		name := f.Tag.Get("env")
		zero := mayBeZero[name]
		switch n := value.Interface().(type) {
		case time.Duration:
			require(n > 0 || n == 0 && zero, name, "%s is not a positive duration", n)
		case int:
			require(n > 0 || n == 0 && zero, name, "%d is not a positive number", n)
		}
	}
	return errors.Join(errs...)
}

// Help writes the list of variables.
func Help(w io.Writer) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for f := range reflect.TypeFor[Config]().Fields() {
		def := f.Tag.Get("envDefault")
		if def != "" {
			def = "[" + def + "]"
		}
		fmt.Fprintf(tw, "  %s%s\t%s\t%s\n", prefix, f.Tag.Get("env"), def, f.Tag.Get("help"))
	}
	return tw.Flush()
}

// options returns the options of the server.
func (c *Config) options() *sio.Options {
	o := &sio.Options{
		Engine: eio.Options{
			Path: c.Path, NoTrailingSlash: !c.TrailingSlash, Node: c.Node,
			PingInterval: c.PingInterval, PingTimeout: c.PingTimeout, UpgradeTimeout: c.UpgradeTimeout,
			BodyTimeout: c.BodyTimeout, WriteTimeout: c.WriteTimeout,
			MaxHTTPBufferSize: c.MaxHTTPBufferSize, MaxPayloadPackets: c.MaxPayloadPackets,
			MaxQueueBytes: c.MaxQueueBytes, MaxSessions: c.MaxSessions, HandshakeRate: c.HandshakeRate, HandshakeBurst: c.HandshakeBurst,
			MaxAge: c.MaxConnectionAge, MaxAgeJitter: c.MaxConnectionAgeJitter, DrainWindow: c.DrainWindow, DrainRate: c.DrainRate,
			DisableUpgrades:          !c.AllowUpgrades,
			HTTPCompressionThreshold: -1,
		},
		ConnectTimeout: c.ConnectTimeout, AckTimeout: c.AckTimeout,
		MaxAttachments: c.MaxAttachments, MaxDepth: c.MaxDepth, MaxEvents: c.MaxEvents, MaxPendingAcks: c.MaxPendingAcks,
		MaxNamespaces: c.MaxNamespaces, MaxChildNamespaces: c.MaxChildNamespaces,
		CleanupEmptyChildNamespaces: c.CleanupEmptyChildNamespaces,
	}
	for _, t := range c.Transports {
		o.Engine.Transports = append(o.Engine.Transports, eio.Transport(t))
	}
	if c.HTTPCompression {
		o.Engine.HTTPCompressionThreshold = max(c.HTTPCompressionThreshold, 1)
	}
	if c.PerMessageDeflate {
		o.Engine.PerMessageDeflate = &eio.PerMessageDeflate{Threshold: c.PerMessageThreshold}
	}
	if c.Cookie != "" {
		o.Engine.Cookie = &http.Cookie{Name: c.Cookie, HttpOnly: true, SameSite: http.SameSiteLaxMode}
	}
	if c.CheckOrigin {
		o.Engine.AllowRequest = c.originCheck()
	}
	if c.Recovery {
		o.Recovery = &sio.RecoveryOptions{
			MaxDisconnection: c.RecoveryMaxDisconnection, MaxPackets: c.RecoveryMaxPackets,
			MaxBytes: c.RecoveryMaxBytes, MaxSessions: c.RecoveryMaxSessions,
		}
	}
	return o
}

var errOrigin = errors.New("Origin not allowed") //nolint:staticcheck // what the client is shown, in the style of the protocol's messages

// originCheck refuses pages of foreign origins; those that CORS lets in are none. Clients that are no browsers send no origin.
func (c *Config) originCheck() func(*http.Request) error {
	allowed := func(*http.Request) bool { return false }
	if len(c.CORSOrigins) > 0 { // none would stand for all
		allowed = c.cors().OriginAllowed
	}
	return func(r *http.Request) error {
		origin := r.Header.Get("Origin")
		_, host, _ := strings.Cut(origin, "://")
		if origin == "" || host == r.Host || allowed(r) {
			return nil
		}
		return errOrigin
	}
}
