package gateway

import (
	"errors"
	"log/slog"
	"net/url"
	"reflect"

	goredis "github.com/redis/go-redis/v9"
)

// What is here is for who looks at a configuration without running a node.

// Verify finds what New would not take: files, for one. It connects to nothing.
func (c *Config) Verify() error {
	_, err := newAuthenticator(c, slog.New(slog.DiscardHandler))
	b, failed := c.backbone()
	if b != nil {
		failed = errors.Join(failed, b.close())
	}
	return errors.Join(err, failed)
}

// Secrets returns what must not be shown, those in URLs included.
func (c *Config) Secrets() []string {
	all := []string{c.JWTSecret, c.PeerSecret}
	if t, err := parseRedisURL(c.RedisURL); err == nil {
		all = append(all, t.password, url.QueryEscape(t.password), t.sentinelPassword)
	}
	for _, raw := range []string{c.PostgresURL, c.PostgresListenURL} {
		all = append(all, postgresPassword(raw))
	}
	var out []string
	for _, s := range all {
		if s != "" {
			out = append(out, s)
		}
	}
	return out
}

// RedisPlace is where GATEWAY_REDIS_URL leads, without how to get in.
type RedisPlace struct {
	Kind   string // single, unix, sentinel or cluster
	TLS    bool
	Addrs  []string // host:port, or the path of a socket
	Master string   // as the sentinels name it
}

// The kinds of RedisPlace.
const (
	RedisSingle   = "single"
	RedisUnix     = "unix"
	RedisSentinel = "sentinel"
	RedisCluster  = "cluster"
)

// RedisPlace returns where GATEWAY_REDIS_URL leads.
func (c *Config) RedisPlace() (RedisPlace, error) {
	t, err := parseRedisURL(c.RedisURL)
	if err != nil {
		return RedisPlace{}, err
	}
	kind := [...]string{redisSingle: RedisSingle, redisUnix: RedisUnix, redisSentinel: RedisSentinel, redisCluster: RedisCluster}[t.kind]
	return RedisPlace{kind, t.tls, t.addrs, t.master}, nil
}

// SentinelClient returns a client of one of the sentinels.
func (c *Config) SentinelClient(addr string) (*goredis.SentinelClient, error) {
	t, err := parseRedisURL(c.RedisURL)
	if err != nil {
		return nil, err
	}
	o, err := t.options(c)
	if err != nil {
		return nil, err
	}
	return goredis.NewSentinelClient(&goredis.Options{
		Addr: addr, Username: t.sentinelUser, Password: t.sentinelPassword, TLSConfig: o.TLSConfig,
		DialTimeout: o.DialTimeout, DialerRetries: 1, ReadTimeout: o.ReadTimeout, WriteTimeout: o.WriteTimeout, ContextTimeoutEnabled: true,
		MaintNotificationsConfig: o.MaintNotificationsConfig,
	}), nil
}

// BusFault returns the text of an error of Redis or PostgreSQL, with the variables that an operator knows options by.
func (c *Config) BusFault(err error) string { return c.busFault(err) }

// Nearest returns the variable that a name is a slip of, or nothing.
func Nearest(name string) string {
	best, least := "", 4 // at most three letters off
	for f := range reflect.TypeFor[Config]().Fields() {
		known := prefix + f.Tag.Get("env")
		if d := distance(name, known); d < least {
			best, least = known, d
		}
	}
	return best
}

// distance counts the letters that have to be put in, taken out or replaced.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}
