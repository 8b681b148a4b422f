package gateway

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// redisTarget is what GATEWAY_REDIS_URL says.
type redisTarget struct {
	kind             redisKind
	tls              bool
	addrs            []string // host:port, or the path of a socket
	user, password   string
	db               int
	master           string // of the sentinels
	sentinelUser     string
	sentinelPassword string
}

type redisKind int

const (
	redisSingle redisKind = iota
	redisUnix
	redisSentinel
	redisCluster
)

const (
	redisPort    = "6379"
	sentinelPort = "26379"
)

var redisSchemes = map[string]redisTarget{
	"redis":           {kind: redisSingle},
	"rediss":          {kind: redisSingle, tls: true},
	"unix":            {kind: redisUnix},
	"redis+sentinel":  {kind: redisSentinel},
	"rediss+sentinel": {kind: redisSentinel, tls: true},
	"redis+cluster":   {kind: redisCluster},
	"rediss+cluster":  {kind: redisCluster, tls: true},
}

// What may be wrong with the URL. Nothing of it is repeated: a password that was not encoded may be anywhere in it.
var (
	errRedisScheme   = errors.New("does not begin with redis://, rediss://, unix://, redis+sentinel://, rediss+sentinel://, redis+cluster:// or rediss+cluster://")
	errRedisEncoding = errors.New("is not well-formed; the characters :/?#[]@% of a user or password have to be percent-encoded")
	errRedisHost     = errors.New("has no host, or one with a bad port; the characters :/?#[]@% of a user or password have to be percent-encoded")
	errRedisOneHost  = errors.New("has more than one host: that is for redis+sentinel:// and redis+cluster://")
	errRedisPassword = errors.New("has a user without a password; a password alone is written redis://:password@host")
	errRedisDB       = errors.New("has a database that is not a number from 0")
	errRedisNoDB     = errors.New("has a path: a Redis Cluster knows no databases")
	errRedisMaster   = errors.New("has no name of the master: redis+sentinel://h1,h2/name or redis+sentinel://h1,h2/name/0")
	errRedisSocket   = errors.New("has no path of a socket: unix:///path")
	errRedisQuery    = errors.New("has parameters other than sentinel_user and sentinel_password of redis+sentinel://, and db of unix://")
)

func parseRedisURL(raw string) (*redisTarget, error) {
	scheme, rest, ok := strings.Cut(raw, "://")
	t, known := redisSchemes[strings.ToLower(scheme)]
	if !ok || !known {
		return nil, errRedisScheme
	}
	if strings.Contains(rest, "#") {
		return nil, errRedisEncoding
	}
	rest, rawQuery, _ := strings.Cut(rest, "?")
	authority, path, _ := strings.Cut(rest, "/")
	if at := strings.LastIndexByte(authority, '@'); at >= 0 {
		if err := t.credentials(authority[:at]); err != nil {
			return nil, err
		}
		authority = authority[at+1:]
	}
	path, err := url.PathUnescape(path)
	if err != nil {
		return nil, errRedisEncoding
	}
	query, err := url.ParseQuery(rawQuery)
	if err != nil {
		return nil, errRedisEncoding
	}
	take := func(key string) (v string) {
		if vs := query[key]; len(vs) == 1 {
			v = vs[0]
			delete(query, key)
		}
		return v
	}
	switch t.kind {
	case redisUnix:
		if authority != "" || path == "" {
			return nil, errRedisSocket
		}
		t.addrs = []string{"/" + path}
		path = take("db")
	case redisSentinel:
		t.sentinelUser, t.sentinelPassword = take("sentinel_user"), take("sentinel_password")
		if t.sentinelUser != "" && t.sentinelPassword == "" {
			return nil, errRedisPassword
		}
		if t.master, path, _ = strings.Cut(path, "/"); t.master == "" {
			return nil, errRedisMaster
		}
	case redisCluster:
		if path != "" && path != "0" {
			return nil, errRedisNoDB
		}
	case redisSingle:
	}
	if len(query) > 0 {
		return nil, errRedisQuery
	}
	if path != "" {
		if t.db, err = strconv.Atoi(path); err != nil || t.db < 0 {
			return nil, errRedisDB
		}
	}
	if t.kind == redisUnix {
		return &t, nil
	}
	return &t, t.hosts(authority)
}

func (t *redisTarget) credentials(info string) error {
	user, password, _ := strings.Cut(info, ":")
	var err1, err2 error
	t.user, err1 = url.PathUnescape(user)
	t.password, err2 = url.PathUnescape(password)
	switch {
	case err1 != nil || err2 != nil || strings.ContainsAny(password, "@:"):
		return errRedisEncoding
	case t.password == "":
		return errRedisPassword
	}
	return nil
}

func (t *redisTarget) hosts(authority string) error {
	port := redisPort
	if t.kind == redisSentinel {
		port = sentinelPort
	}
	for h := range strings.SplitSeq(authority, ",") {
		addr, ok := hostPort(h, port)
		if !ok {
			return errRedisHost
		}
		t.addrs = append(t.addrs, addr)
	}
	if t.kind == redisSingle && len(t.addrs) > 1 {
		return errRedisOneHost
	}
	return nil
}

// hostPort completes a host, an address or one in brackets, and perhaps a port, to host:port.
func hostPort(s, port string) (string, bool) {
	host, p, err := net.SplitHostPort(s)
	if err != nil {
		host, p = strings.TrimSuffix(strings.TrimPrefix(s, "["), "]"), port
		if strings.Contains(host, ":") && net.ParseIP(host) == nil {
			return "", false
		}
	}
	n, err := strconv.ParseUint(p, 10, 16)
	if err != nil || n == 0 || host == "" || strings.ContainsAny(host, " @/[]?#%") {
		return "", false
	}
	return net.JoinHostPort(host, p), true
}

// Times within which Redis has to do its part. A command that fails is tried again by its caller, if at all.
const (
	redisDialTimeout = 3 * time.Second
	redisIOTimeout   = 3 * time.Second
)

// client makes a client of Redis, which connects when it is used.
func (t *redisTarget) client(c *Config) (goredis.UniversalClient, error) {
	o, err := t.options(c)
	if err != nil {
		return nil, err
	}
	switch t.kind {
	case redisUnix:
		single := o.Simple()
		single.Network = "unix"
		return goredis.NewClient(single), nil
	case redisSentinel:
		rdb := goredis.NewFailoverClient(o.Failover())
		rdb.AddHook(new(masters))
		return rdb, nil
	case redisCluster:
		return goredis.NewClusterClient(o.Cluster()), nil
	case redisSingle:
	}
	return goredis.NewClient(o.Simple()), nil
}

func (t *redisTarget) options(c *Config) (*goredis.UniversalOptions, error) {
	o := &goredis.UniversalOptions{
		Addrs: t.addrs, DB: t.db, Username: t.user, Password: t.password,
		MasterName: t.master, SentinelUsername: t.sentinelUser, SentinelPassword: t.sentinelPassword,
		DialTimeout: redisDialTimeout, DialerRetries: 1, ReadTimeout: redisIOTimeout, WriteTimeout: redisIOTimeout, ContextTimeoutEnabled: true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
	if t.tls {
		o.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12, ServerName: c.RedisTLSServerName}
		if c.RedisTLSCAFile != "" {
			pool, err := loadCAs(c.RedisTLSCAFile)
			if err != nil {
				return nil, fmt.Errorf("%sREDIS_TLS_CA_FILE: %w", prefix, err)
			}
			o.TLSConfig.RootCAs = pool
		}
	}
	return o, nil
}

// RedisClient returns a client of Redis like that of a node.
func (c *Config) RedisClient() (goredis.UniversalClient, error) {
	t, err := parseRedisURL(c.RedisURL)
	if err != nil {
		return nil, err
	}
	return t.client(c)
}

func loadCAs(file string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, errors.New("no certificate in it")
	}
	return pool, nil
}

// redisLog takes what the client of Redis has to say, which is for those who look for a fault: what matters comes as errors.
type redisLog struct{ log *slog.Logger }

// Printf is what the client calls.
func (l redisLog) Printf(ctx context.Context, format string, args ...any) {
	if l.log.Enabled(ctx, slog.LevelDebug) {
		l.log.DebugContext(ctx, "redis_client", "text", fmt.Sprintf(format, args...))
	}
}
