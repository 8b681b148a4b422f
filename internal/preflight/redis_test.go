package preflight_test

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/seed-0b620db0/patchbay/internal/preflight"
	"github.com/seed-0b620db0/patchbay/internal/redistest"
)

// checkRedis is check of a node on Redis.
func checkRedis(t *testing.T, adapter, url string, vars ...string) *preflight.Report {
	t.Helper()
	return check(t, preflight.Options{}, append([]string{"ADAPTER=" + adapter, "REDIS_URL=" + url}, vars...)...)
}

func must(t *testing.T, s *redistest.Server, args ...any) any {
	t.Helper()
	v, err := s.Do(args...)
	if err != nil {
		t.Fatalf("%v: %v", args, err)
	}
	return v
}

var redisAdapters = []string{"redis", "redis-sharded", "redis-streams"}

func TestRedis(t *testing.T) {
	s := redistest.Start(t)
	for _, adapter := range redisAdapters {
		r := checkRedis(t, adapter, s.URL())
		none(t, r, preflight.Fail, "redis.")
		for _, name := range []string{"connect", "version", "memory", "clients", "clock", "pubsub", "rights", "scripts"} {
			want(t, r, preflight.OK, "redis."+name)
		}
		want(t, r, preflight.Warn, "redis.output_buffer", "32 MB behind", "8 MB for 60 s", "client-output-buffer-limit pubsub")
		if adapter == "redis-streams" {
			want(t, r, preflight.OK, "redis.streams", "an entry of a stream takes")
		}
		want(t, r, preflight.OK, "peers.list", "nobody")
		want(t, r, preflight.OK, "peers.tag", "node-1 is free")
		want(t, r, preflight.Note, "peers.address", "127.0.0.1:0", "this host only", "GATEWAY_PEER_ADDR")
	}
	if keys := must(t, s, "KEYS", "*"); fmt.Sprint(keys) != "[]" {
		t.Errorf("left behind: %v", keys)
	}
	if channels := must(t, s, "PUBSUB", "CHANNELS"); fmt.Sprint(channels) != "[]" {
		t.Errorf("left behind: %v", channels)
	}
}

func TestRedisSettings(t *testing.T) {
	s := redistest.Start(t)
	for _, c := range []struct {
		adapter string
		set     []any
		vars    string
		status  preflight.Status
		check   string
		words   []string
	}{
		{"redis", []any{"maxmemory", "100mb", "maxmemory-policy", "allkeys-lru"}, "", preflight.Warn, "redis.memory", []string{"allkeys-lru", "noeviction"}},
		{"redis-streams", []any{"maxmemory", "100mb", "maxmemory-policy", "volatile-ttl"}, "", preflight.Warn, "redis.memory", []string{"the stream"}},
		{"redis", []any{"maxmemory", "1mb", "maxmemory-policy", "noeviction"}, "", preflight.Warn, "redis.memory", []string{"raise maxmemory"}},
		{"redis", []any{"maxmemory", "1gb"}, "", preflight.OK, "redis.memory", []string{"of 1.0 GB"}},
		{"redis", []any{"client-output-buffer-limit", "pubsub 256mb 64mb 60"}, "", preflight.OK, "redis.output_buffer", []string{"256 MB behind"}},
		{"redis", []any{"client-output-buffer-limit", "pubsub 0 0 0"}, "", preflight.OK, "redis.output_buffer", []string{"never cut off"}},
		{"redis", []any{"client-output-buffer-limit", "pubsub 256mb 64mb 60"}, "MAX_HTTP_BUFFER_SIZE=100000000", preflight.Warn, "redis.output_buffer", []string{"GATEWAY_MAX_HTTP_BUFFER_SIZE"}},
		{"redis", []any{"maxclients", "30"}, "", preflight.Warn, "redis.clients", []string{"of 30 clients", "raise maxclients"}},
	} {
		must(t, s, append([]any{"CONFIG", "SET"}, c.set...)...)
		want(t, checkRedis(t, c.adapter, s.URL(), strings.Fields(c.vars)...), c.status, c.check, c.words...)
	}
}

// The rights of the user, one by one.
func TestRedisRights(t *testing.T) {
	s := redistest.Start(t)
	url := strings.Replace(s.URL(), "redis://", "redis://app:"+password+"@", 1)
	const keys, channels = "~socket.io*", "&socket.io* &socket.io#/#*"
	for _, c := range []struct {
		adapter string
		rules   string
		status  preflight.Status
		check   string
		words   []string
	}{
		{"redis", "+@all " + keys + " " + channels, preflight.OK, "redis.rights", nil},
		{"redis", "+@all -eval -evalsha " + keys + " " + channels, preflight.Fail, "redis.scripts", []string{"could not register", "evalsha"}},
		{"redis", "+@all ~other " + channels, preflight.Fail, "redis.scripts", []string{"could not register", "HSET"}},
		{"redis", "+@all -hset " + keys + " " + channels, preflight.Fail, "redis.scripts", []string{"could not register"}},
		{"redis", "+@all " + keys + " resetchannels", preflight.Fail, "redis.pubsub", []string{"NOPERM", "&socket.io*"}},
		{"redis", "+@all " + keys + " &socket.io*", preflight.Fail, "redis.rights", []string{"psubscribe socket.io#/#*", "&socket.io#/#*"}},
		{"redis", "+@all -psubscribe " + keys + " " + channels, preflight.Fail, "redis.rights", []string{"psubscribe socket.io#/#*"}},
		{"redis", "+@all " + keys + " resetchannels &socket.io-check*", preflight.Fail, "redis.rights", []string{"publish socket.io#/#;", "subscribe socket.io-request#/#"}},
		{"redis-sharded", "+@all -spublish " + keys + " " + channels, preflight.Fail, "redis.pubsub", []string{"spublish"}},
		{"redis-streams", "+@all -xadd " + keys + " " + channels, preflight.Fail, "redis.streams", []string{"+xadd"}},
		{"redis-streams", "+@all ~socket.io:* ~socket.io-check-* " + channels, preflight.Fail, "redis.rights", []string{"xadd socket.io"}},
		{"redis", "+@all -ping " + keys + " " + channels, preflight.Fail, "redis.connect", []string{"+ping"}},
		{"redis", "+@all -info " + keys + " " + channels, preflight.Note, "redis.version", []string{"INFO"}},
		{"redis", "+@all -config " + keys + " " + channels, preflight.Note, "redis.output_buffer", []string{"CONFIG GET"}},
	} {
		args := []any{"ACL", "SETUSER", "app", "reset", "on", ">" + password}
		for rule := range strings.FieldsSeq(c.rules) {
			args = append(args, rule)
		}
		must(t, s, args...)
		r := checkRedis(t, c.adapter, url)
		want(t, r, c.status, c.check, c.words...)
		if c.status != preflight.Fail {
			none(t, r, preflight.Fail, "redis.")
		}
	}
	// What docs/check.md says that a user needs; a node is content with it too.
	rule := "reset on >" + password + " ~socket.io* &socket.io* &socket.io#/#* &socket.io#/chat#* +@all -@dangerous +info +config|get"
	args := []any{"ACL", "SETUSER", "app"}
	for word := range strings.FieldsSeq(rule) {
		args = append(args, word)
	}
	must(t, s, args...)
	for _, adapter := range redisAdapters {
		vars := []string{"ADAPTER=" + adapter, "REDIS_URL=" + url, "NAMESPACES=/,/chat"}
		_, stop := start(t, append(vars, "NODE=node-2")...)
		r := check(t, preflight.Options{}, vars...)
		stop()
		none(t, r, preflight.Fail, "redis.", "peers.")
		none(t, r, preflight.Note, "redis.")
	}
	must(t, s, "FLUSHALL")
	want(t, checkRedis(t, "redis", strings.Replace(url, "app:", "nobody:", 1)), preflight.Fail, "redis.connect", "WRONGPASS", "the user or the password")
	if keys := must(t, s, "KEYS", "*"); fmt.Sprint(keys) != "[]" {
		t.Errorf("left behind: %v", keys)
	}
}

func TestRedisGone(t *testing.T) {
	s := redistest.Start(t)
	want(t, checkRedis(t, "redis", "redis://:"+password+"@127.0.0.1:1"), preflight.Fail, "redis.connect", "connection refused", "does Redis run")
	want(t, checkRedis(t, "redis", "redis+cluster://"+s.Addr()), preflight.Fail, "redis.connect", "it is no Redis Cluster")
	want(t, checkRedis(t, "redis", "redis+sentinel://"+s.Addr()+"/main"), preflight.Fail, "redis.connect", "sentinel")
	p := redistest.NewProxy(t, s.Addr())
	p.Freeze(true)
	want(t, checkRedis(t, "redis", "redis://"+p.Addr()), preflight.Fail, "redis.connect")
	p.Freeze(false)
	p.Delay(100 * time.Millisecond)
	r := checkRedis(t, "redis", "redis://"+p.Addr())
	want(t, r, preflight.Warn, "redis.pubsub", "run the nodes where it is")
	none(t, r, preflight.Fail, "redis.", "peers.")
}

func TestRedisReplica(t *testing.T) {
	master := redistest.Start(t)
	host, port, err := net.SplitHostPort(master.Addr())
	if err != nil {
		t.Fatal(err)
	}
	replica := redistest.Start(t, "--replicaof", host, port)
	r := checkRedis(t, "redis", replica.URL())
	want(t, r, preflight.Fail, "redis.role", "a replica", "the sentinels")
	want(t, r, preflight.Fail, "redis.scripts", "could not register")
}

func TestRedisSentinel(t *testing.T) {
	s := redistest.StartSentinel(t)
	r := checkRedis(t, "redis", s.URL())
	none(t, r, preflight.Fail, "redis.")
	want(t, r, preflight.OK, "redis.connect", "(sentinel)")
	want(t, r, preflight.OK, "redis.sentinels", "the master of main is at "+s.Servers[0].Addr())
	want(t, r, preflight.Warn, "redis.sentinels", "one sentinel is named")
	r = checkRedis(t, "redis", strings.Replace(s.URL(), "/main", ",127.0.0.1:1/main", 1))
	none(t, r, preflight.Fail, "redis.")
	want(t, r, preflight.Warn, "redis.sentinels", "127.0.0.1:1", "connection refused")
	r = checkRedis(t, "redis", strings.Replace(s.URL(), "/main", "/other", 1))
	want(t, r, preflight.Warn, "redis.sentinels", `no master "other"`)
	want(t, r, preflight.Fail, "redis.connect", "by the name in GATEWAY_REDIS_URL")
}

func TestRedisCluster(t *testing.T) {
	s := redistest.StartCluster(t)
	var addrs []string
	for _, one := range s.Servers {
		addrs = append(addrs, one.Addr())
	}
	url := "redis+cluster://" + strings.Join(addrs, ",")
	for _, adapter := range redisAdapters {
		r := checkRedis(t, adapter, url)
		none(t, r, preflight.Fail, "redis.")
		want(t, r, preflight.OK, "redis.version", "3 of 3 masters: Redis", "cluster")
		want(t, r, preflight.OK, "redis.cluster", "whole")
		want(t, r, preflight.OK, "redis.rights")
		want(t, r, preflight.OK, "redis.pubsub")
		if adapter == "redis" {
			want(t, r, preflight.Note, "redis.cluster", "redis-sharded")
		}
	}
	must(t, s.Servers[1], "CONFIG", "SET", "maxmemory", "100mb", "maxmemory-policy", "allkeys-lru")
	want(t, checkRedis(t, "redis", url), preflight.Warn, "redis.memory", addrs[1]+": ", "allkeys-lru")
	want(t, checkRedis(t, "redis", "redis://"+addrs[0]), preflight.Warn, "redis.role", "redis+cluster://")
	for _, one := range s.Servers {
		if keys := must(t, one, "KEYS", "*"); fmt.Sprint(keys) != "[]" {
			t.Errorf("left behind: %v", keys)
		}
	}
	s.Kill(0)
	r := checkRedis(t, "redis-sharded", url)
	if r.OK {
		t.Errorf("a third of the cluster is gone:\n%s", list(r))
	}
}

// certificate writes a certificate for 127.0.0.1 and its key to files.
func certificate(t *testing.T) (cert, key string) {
	t.Helper()
	srv := httptest.NewTLSServer(nil)
	defer srv.Close()
	c := srv.TLS.Certificates[0]
	der, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for name, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: c.Certificate[0]}, key: {Type: "PRIVATE KEY", Bytes: der}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

func TestRedisTLS(t *testing.T) {
	cert, key := certificate(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	_ = l.Close()
	_, port, _ := strings.Cut(addr, ":")
	s := redistest.Start(t, "--tls-port", port, "--tls-cert-file", cert, "--tls-key-file", key, "--tls-auth-clients", "no", "--tls-ca-cert-file", cert)
	none(t, checkRedis(t, "redis", "rediss://"+addr, "REDIS_TLS_CA_FILE="+cert), preflight.Fail, "redis.")
	want(t, checkRedis(t, "redis", "rediss://"+addr), preflight.Fail, "redis.connect", "x509", "GATEWAY_REDIS_TLS_CA_FILE")
	want(t, checkRedis(t, "redis", "rediss://"+addr, "REDIS_TLS_CA_FILE="+cert, "REDIS_TLS_SERVER_NAME=redis.internal"), preflight.Fail, "redis.connect", "x509", "GATEWAY_REDIS_TLS_SERVER_NAME")
	want(t, checkRedis(t, "redis", "rediss://"+s.Addr(), "REDIS_TLS_CA_FILE="+cert), preflight.Fail, "redis.connect", "does it speak TLS?")
	want(t, checkRedis(t, "redis", "redis://"+addr), preflight.Fail, "redis.connect", "does it speak TLS?")
}
