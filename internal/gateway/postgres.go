package gateway

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/seed-0b620db0/patchbay/internal/peers"
	"github.com/seed-0b620db0/patchbay/pkg/adapter"
	"github.com/seed-0b620db0/patchbay/pkg/adapter/postgres"
	"github.com/seed-0b620db0/patchbay/pkg/sio"
)

const (
	// postgresTimeout is the adapter's. It bounds the making of a connection, unless the URL has a connect_timeout.
	postgresTimeout = 3 * time.Second
	postgresPort    = "5432"
	// The longest name that PostgreSQL has, what a name of a channel leaves to the prefix, and the size from which no
	// notification goes, all in bytes.
	maxPostgresName, maxPostgresPrefix, maxPostgresThreshold = 63, 39, 8000
)

// What may be wrong with a URL. Nothing of it is repeated: a password that was not encoded may be anywhere in it.
var (
	errPostgresScheme   = errors.New("does not begin with postgres:// or postgresql://")
	errPostgresEncoding = errors.New("is not well-formed; the characters :/?#[]@% of a user or password have to be percent-encoded")
	errPostgresHost     = errors.New("has a bad host or port; the characters :/?#[]@% of a user or password have to be percent-encoded")
	errPostgresTwice    = errors.New("says the same in a parameter once more")
	errPostgresPoolSize = errors.New("has pool_max_conns: that is GATEWAY_POSTGRES_POOL_SIZE")
	errPostgresSSLMode  = errors.New("has an sslmode that is neither disable, allow, prefer, require, verify-ca nor verify-full")
	errPostgresFile     = errors.New("has an sslrootcert, sslcert or sslkey that cannot be used")
	errPostgresValue    = errors.New("has a parameter that is not one, or a value that does not fit")
)

// checkPostgres finds what is wrong with the variables of PostgreSQL.
func (c *Config) checkPostgres(require func(ok bool, name, text string, args ...any)) {
	checkURL := func(name, raw string) {
		if raw != "" {
			_, err := parsePostgresURL(raw)
			require(err == nil, name, "%v", err)
		}
	}
	checkName := func(name, value string, longest int) {
		require(len(value) <= longest && utf8.ValidString(value), name, "%q is longer than %d bytes, or no UTF-8", value, longest)
	}
	checkURL("POSTGRES_URL", c.PostgresURL)
	checkURL("POSTGRES_LISTEN_URL", c.PostgresListenURL)
	checkName("POSTGRES_CHANNEL_PREFIX", c.PostgresChannelPrefix, maxPostgresPrefix)
	checkName("POSTGRES_TABLE", c.PostgresTable, maxPostgresName)
	checkName("POSTGRES_SCHEMA", c.PostgresSchema, maxPostgresName)
	require(c.PostgresThreshold <= maxPostgresThreshold, "POSTGRES_THRESHOLD", "%d is more than %d, which no notification has", c.PostgresThreshold,
		maxPostgresThreshold)
	shortest := c.CanaryTimeout + 4*postgresTimeout // as the adapter has it
	require(c.Adapter != adapterPostgres || c.PostgresRetention >= shortest, "POSTGRES_RETENTION",
		"%s is less than %s: a node that was deaf for GATEWAY_CANARY_TIMEOUT still wants what is deleted", c.PostgresRetention, shortest)
}

// parameterName matches the names of settings.
var parameterName = regexp.MustCompile(`^[a-z][a-z0-9_.]*$`)

// parsePostgresURL returns what a URL says, and what libpq's environment variables add to it.
func parsePostgresURL(raw string) (*pgxpool.Config, error) {
	scheme, rest, ok := strings.Cut(raw, "://")
	if scheme = strings.ToLower(scheme); !ok || scheme != "postgres" && scheme != "postgresql" {
		return nil, errPostgresScheme
	}
	if strings.Contains(rest, "#") {
		return nil, errPostgresEncoding
	}
	rest, rawQuery, _ := strings.Cut(rest, "?")
	query, err := url.ParseQuery(rawQuery)
	if err != nil {
		return nil, errPostgresEncoding
	}
	authority, path, _ := strings.Cut(rest, "/")
	settings := make(map[string]string)
	for name, values := range query {
		if !parameterName.MatchString(name) || len(values) != 1 {
			return nil, errPostgresValue
		}
		if name == "dbname" {
			name = "database"
		}
		settings[name] = values[0]
	}
	fromQuery := len(settings)
	parts := 0
	set := func(name, value string) {
		settings[name] = value
		parts++
	}
	if at := strings.LastIndexByte(authority, '@'); at >= 0 {
		if err := postgresUser(authority[:at], set); err != nil {
			return nil, err
		}
		authority = authority[at+1:]
	}
	if err := postgresHosts(authority, set); err != nil {
		return nil, err
	}
	if path, err = url.PathUnescape(path); err != nil {
		return nil, errPostgresEncoding
	}
	if path != "" {
		set("database", path)
	}
	if len(settings) < fromQuery+parts {
		return nil, errPostgresTwice
	}
	if _, ok := settings["pool_max_conns"]; ok {
		return nil, errPostgresPoolSize
	}
	config, err := pgxpool.ParseConfig(postgresDSN(settings))
	if err != nil {
		return nil, postgresFault(err, settings)
	}
	if settings["connect_timeout"] == "" && os.Getenv("PGCONNECT_TIMEOUT") == "" {
		config.ConnConfig.ConnectTimeout = postgresTimeout
		if n := len(postgresAddrs(config.ConnConfig)); n > 1 { // one that does not answer leaves time for the others
			config.ConnConfig.ConnectTimeout /= time.Duration(n + 1)
		}
	}
	return config, nil
}

// postgresFault says what pgx does not like, without what it quotes.
func postgresFault(err error, settings map[string]string) error {
	if file, ok := errors.AsType[*fs.PathError](err); ok {
		return file
	}
	if mode := settings["sslmode"]; mode != "" && !slices.Contains([]string{"disable", "allow", "prefer", "require", "verify-ca", "verify-full"}, mode) {
		return errPostgresSSLMode
	}
	if settings["sslrootcert"]+settings["sslcert"]+settings["sslkey"] != "" {
		return errPostgresFile
	}
	return errPostgresValue
}

func postgresUser(info string, set func(name, value string)) error {
	user, password, _ := strings.Cut(info, ":")
	user, err1 := url.PathUnescape(user)
	decoded, err2 := url.PathUnescape(password)
	if err1 != nil || err2 != nil || strings.ContainsAny(password, "@:") {
		return errPostgresEncoding
	}
	if user != "" {
		set("user", user)
	}
	if decoded != "" {
		set("password", decoded)
	}
	return nil
}

// postgresHosts takes h1,h2:5432, or the path of a folder with a socket, with its slashes encoded.
func postgresHosts(authority string, set func(name, value string)) error {
	if authority == "" {
		return nil
	}
	var hosts, ports []string
	named := false // else PGPORT, or a parameter, says which
	for h := range strings.SplitSeq(authority, ",") {
		if folder, err := url.PathUnescape(h); err == nil && strings.HasPrefix(folder, "/") {
			hosts, ports = append(hosts, folder), append(ports, postgresPort)
			continue
		}
		addr, ok := hostPort(h, postgresPort)
		if !ok {
			return errPostgresHost
		}
		host, port, err := net.SplitHostPort(addr)
		if err != nil {
			return errPostgresHost
		}
		hosts, ports = append(hosts, host), append(ports, port)
		named = named || strings.HasSuffix(h, ":"+port) && net.ParseIP(h) == nil
	}
	set("host", strings.Join(hosts, ","))
	if named {
		set("port", strings.Join(ports, ","))
	}
	return nil
}

// postgresDSN writes settings in libpq's other form, which pgx and net/url agree about for any number of hosts.
func postgresDSN(settings map[string]string) string {
	var b strings.Builder
	quote := strings.NewReplacer(`\`, `\\`, `'`, `\'`)
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		b.WriteString(name + "='" + quote.Replace(settings[name]) + "' ")
	}
	return b.String()
}

// postgresBackbone ties nodes together by PostgreSQL. It does not connect yet.
func (c *Config) postgresBackbone() (*backbone, error) {
	config, listen, err := c.PostgresConfig()
	if err != nil {
		return nil, err
	}
	pool, err := pgxpool.NewWithConfig(context.Background(), config)
	if err != nil {
		return nil, fmt.Errorf("%sPOSTGRES_URL: %w", prefix, errPostgresValue)
	}
	b := &backbone{registry: peers.NewPostgres(pool, c.PostgresSchema, c.PostgresChannelPrefix), towards: postgresAddrs(config.ConnConfig)}
	b.close = func() error {
		pool.Close()
		return nil
	}
	b.adapter = func(o adapter.Options, m *clusterMetrics) sio.NewAdapter {
		return postgres.New(pool, &postgres.Options{
			Cluster: o, ChannelPrefix: c.PostgresChannelPrefix, Table: c.PostgresTable, Schema: c.PostgresSchema,
			PayloadThreshold: c.PostgresThreshold, Retention: c.PostgresRetention, Listen: listen,
			CanaryInterval: c.CanaryInterval, CanaryTimeout: c.CanaryTimeout, Hooks: m.postgres.hooks(),
		})
	}
	return b, nil
}

// PostgresConfig returns how the pool connects, and how the connection does that listens: nil if as one of the pool.
func (c *Config) PostgresConfig() (pool *pgxpool.Config, listen *pgx.ConnConfig, err error) {
	if pool, err = parsePostgresURL(c.PostgresURL); err != nil {
		return nil, nil, fmt.Errorf("%sPOSTGRES_URL: %w", prefix, err)
	}
	pool.MaxConns = int32(min(c.PostgresPoolSize, 1<<16)) //nolint:gosec // it fits
	nameConnection(pool.ConnConfig, c.Node)
	if c.PostgresListenURL == "" {
		return pool, nil, nil
	}
	direct, err := parsePostgresURL(c.PostgresListenURL)
	if err != nil {
		return nil, nil, fmt.Errorf("%sPOSTGRES_LISTEN_URL: %w", prefix, err)
	}
	nameConnection(direct.ConnConfig, c.Node)
	// Two statements through a pooler may meet two connections, and what one was prepared on the other does not know.
	if !strings.Contains(c.PostgresURL, "default_query_exec_mode=") {
		pool.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeExec
	}
	return pool, direct.ConnConfig, nil
}

// busFault returns the text of an adapter's error, with the variables in it that an operator knows options by.
func (c *Config) busFault(err error) string {
	text := strings.ReplaceAll(err.Error(), "Options.Listen", prefix+"POSTGRES_LISTEN_URL")
	pg, ok := errors.AsType[*pgconn.PgError](err)
	// A statement was prepared on another connection than it is used on, or on one that somebody else has prepared it on.
	if ok && (pg.Code == "42P05" || pg.Code == "26000") && c.PostgresListenURL == "" {
		text += "; nor can such a pooler LISTEN: " + prefix + "POSTGRES_LISTEN_URL has to lead past it"
	}
	return text
}

// nameConnection tells the administrator of the server whose connection it is.
func nameConnection(c *pgx.ConnConfig, node string) {
	c.RuntimeParams["application_name"] = cmp.Or(c.RuntimeParams["application_name"], "patchbay "+node)
}

// postgresPassword returns the password of a URL, which may have come from a file.
func postgresPassword(raw string) string {
	config, err := parsePostgresURL(raw)
	if err != nil {
		return ""
	}
	return config.ConnConfig.Password
}

// PostgresAddrs returns the addresses of GATEWAY_POSTGRES_URL that are tried.
func (c *Config) PostgresAddrs() []string {
	config, err := parsePostgresURL(c.PostgresURL)
	if err != nil {
		return nil
	}
	return postgresAddrs(config.ConnConfig)
}

// postgresAddrs returns the addresses that are tried, without sockets of the file system.
func postgresAddrs(c *pgx.ConnConfig) (addrs []string) {
	add := func(host string, port uint16) {
		addr := net.JoinHostPort(host, strconv.Itoa(int(port)))
		if !strings.HasPrefix(host, "/") && !slices.Contains(addrs, addr) {
			addrs = append(addrs, addr)
		}
	}
	add(c.Host, c.Port)
	for _, f := range c.Fallbacks {
		add(f.Host, f.Port)
	}
	return addrs
}
