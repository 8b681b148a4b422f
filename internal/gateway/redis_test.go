package gateway_test

import (
	"crypto/tls"
	"encoding/pem"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	goredis "github.com/redis/go-redis/v9"

	"github.com/seed-0b620db0/patchbay/internal/gateway"
)

func TestRedisURL(t *testing.T) {
	for raw, want := range map[string]gateway.RedisTarget{
		"redis://redis":                            {Addrs: []string{"redis:6379"}},
		"redis://redis/":                           {Addrs: []string{"redis:6379"}},
		"REDIS://redis:1":                          {Addrs: []string{"redis:1"}},
		"redis://127.0.0.1:6380/3":                 {Addrs: []string{"127.0.0.1:6380"}, DB: 3},
		"redis://[::1]":                            {Addrs: []string{"[::1]:6379"}},
		"redis://[fd00::1]:7000/0":                 {Addrs: []string{"[fd00::1]:7000"}},
		"redis://:pw@redis":                        {Addrs: []string{"redis:6379"}, Password: "pw"},
		"rediss://me:pw@redis:6379/1":              {TLS: true, Addrs: []string{"redis:6379"}, User: "me", Password: "pw", DB: 1},
		"redis://m%40e:p%3A%2F%40%25+%20%3F%23@r":  {Addrs: []string{"r:6379"}, User: "m@e", Password: "p:/@%+ ?#"},
		"unix:///run/redis.sock":                   {Kind: "unix", Addrs: []string{"/run/redis.sock"}},
		"unix://me:pw@/run/redis.sock?db=2":        {Kind: "unix", Addrs: []string{"/run/redis.sock"}, User: "me", Password: "pw", DB: 2},
		"unix:///run/my%20redis.sock":              {Kind: "unix", Addrs: []string{"/run/my redis.sock"}},
		"redis+sentinel://a/main":                  {Kind: "sentinel", Addrs: []string{"a:26379"}, Master: "main"},
		"redis+sentinel://a,b:1,[::1]:2/my%20db/4": {Kind: "sentinel", Addrs: []string{"a:26379", "b:1", "[::1]:2"}, Master: "my db", DB: 4},
		"rediss+sentinel://u:p@a,b/main?sentinel_user=su&sentinel_password=s%26p": {
			Kind: "sentinel", TLS: true, Addrs: []string{"a:26379", "b:26379"}, Master: "main", User: "u", Password: "p", SentinelUser: "su", SentinelPassword: "s&p",
		},
		"redis+sentinel://a/main?sentinel_password=sp": {Kind: "sentinel", Addrs: []string{"a:26379"}, Master: "main", SentinelPassword: "sp"},
		"redis+cluster://a":                            {Kind: "cluster", Addrs: []string{"a:6379"}},
		"redis+cluster://u:p@a,b:2,c/0":                {Kind: "cluster", Addrs: []string{"a:6379", "b:2", "c:6379"}, User: "u", Password: "p"},
		"rediss+cluster://a,b/":                        {Kind: "cluster", TLS: true, Addrs: []string{"a:6379", "b:6379"}},
	} {
		if want.Kind == "" {
			want.Kind = "single"
		}
		got, err := gateway.ParseRedisURL(raw)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v\ngot  %+v\nwant %+v", raw, err, got, want)
		}
	}
}

// Whatever is wrong, the password is not in the error.
func TestRedisURLErrors(t *testing.T) {
	for _, raw := range []string{
		"hunter2", "redis:hunter2@h", "http://:hunter2@h", "redis//:hunter2@h", "hunter2://h", "redis://", "redis:///0", "redis://:hunter2@", "redis://h:hunter2",
		"redis://:hun/ter2hunter2@h", "redis://:hunter2?x@h", "redis://:hunter2#x@h", "redis://:hunter2%zz@h", "redis://hunter2@h", "redis://u:@h",
		"redis://u:p@hunter2@h", "redis://u:p:hunter2@h",
		"redis://:hunter2@h/x", "redis://:hunter2@h/-1", "redis://:hunter2@h/0/1", "redis://:hunter2@h/1.5", "redis://:hunter2@h/99999999999999999999", "redis://:hunter2@h/%zz",
		"redis://:hunter2@h:0", "redis://:hunter2@h:65536", "redis://:hunter2@h:", "redis://:hunter2@a,b", "redis://:hunter2@a b", "redis://:hunter2@::1:x", "redis://:hunter2@,",
		"redis://:hunter2@h?db=hunter2", "redis://:hunter2@h?hunter2", "redis://h?sentinel_password=hunter2", "redis://h?x=%zzhunter2", "rediss://h?skip_verify=hunter2",
		"unix://hunter2", "unix://h/sock?hunter2", "unix://", "unix:///sock?db=hunter2", "unix:///sock?db=1&db=2",
		"redis+sentinel://:hunter2@a", "redis+sentinel://:hunter2@a/", "redis+sentinel://:hunter2@/main", "redis+sentinel://a/main/hunter2", "redis+sentinel://a/main?sentinel_user=hunter2",
		"redis+sentinel://a/main?sentinel_password=hunter2&sentinel_password=hunter2",
		"redis+cluster://:hunter2@a/1", "redis+cluster://:hunter2@a/hunter2", "redis+cluster://:hunter2@a,,b", "redis+cluster://:hunter2@a,b:x", "redis+cluster://a?hunter2=1",
	} {
		_, _, err := gateway.Load(environ("ADAPTER=redis", "REDIS_URL="+raw))
		if err == nil || !strings.Contains(err.Error(), "GATEWAY_REDIS_URL: ") || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", raw, err)
		}
	}
}

func TestRedisClient(t *testing.T) {
	server := httptest.NewTLSServer(nil)
	defer server.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	client := func(vars ...string) goredis.UniversalClient {
		t.Helper()
		rdb, err := load(t, append(vars, "ADAPTER=redis")...).RedisClient()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = rdb.Close() }) // it has not connected
		return rdb
	}
	secure := func(c *tls.Config, name string, ownCA bool) {
		t.Helper()
		if c == nil || c.InsecureSkipVerify || c.MinVersion < tls.VersionTLS12 || c.ServerName != name || (c.RootCAs != nil) != ownCA {
			t.Errorf("TLS: %+v", c)
		}
	}
	single := client("REDIS_URL=redis://u:p@h:1/2").(*goredis.Client).Options()
	if single.Addr != "h:1" || single.DB != 2 || single.Username != "u" || single.Password != "p" || single.TLSConfig != nil || single.Network != "tcp" ||
		!single.ContextTimeoutEnabled || single.DialTimeout <= 0 || single.ReadTimeout <= 0 {
		t.Errorf("got %+v", single)
	}
	secure(client("REDIS_URL=rediss://h").(*goredis.Client).Options().TLSConfig, "", false)
	secure(client("REDIS_URL=rediss://h", "REDIS_TLS_CA_FILE="+ca, "REDIS_TLS_SERVER_NAME=redis.internal").(*goredis.Client).Options().TLSConfig, "redis.internal", true)
	if o := client("REDIS_URL=unix:///run/redis.sock?db=1").(*goredis.Client).Options(); o.Network != "unix" || o.Addr != "/run/redis.sock" || o.DB != 1 {
		t.Errorf("got %+v", o)
	}
	cluster := client("REDIS_URL=rediss+cluster://u:p@a,b").(*goredis.ClusterClient).Options()
	if !slices.Equal(cluster.Addrs, []string{"a:6379", "b:6379"}) || cluster.Username != "u" || cluster.Password != "p" || !cluster.ContextTimeoutEnabled {
		t.Errorf("got %+v", cluster)
	}
	secure(cluster.TLSConfig, "", false)
	if _, ok := client("REDIS_URL=redis+cluster://one").(*goredis.ClusterClient); !ok {
		t.Error("a cluster with one address is no cluster")
	}
	sentinel := client("REDIS_URL=redis+sentinel://u:p@a,b/main/3?sentinel_password=sp").(*goredis.Client).Options()
	if sentinel.DB != 3 || sentinel.Username != "u" || sentinel.Password != "p" || sentinel.Addr != "FailoverClient" {
		t.Errorf("got %+v", sentinel)
	}

	for _, file := range []string{"nowhere.pem", os.Args[0]} {
		_, err := load(t, "ADAPTER=redis", "REDIS_URL=rediss://h", "REDIS_TLS_CA_FILE="+file).RedisClient()
		if err == nil || !strings.HasPrefix(err.Error(), "GATEWAY_REDIS_TLS_CA_FILE: ") {
			t.Errorf("%s: %v", file, err)
		}
	}
}

// Whatever GATEWAY_REDIS_URL is, nothing panics, and what is accepted can be connected to.
func FuzzRedisURL(f *testing.F) {
	for _, raw := range []string{
		"redis://user:p%40ss@host:6379/0", "rediss://[::1]", "unix:///run/redis.sock?db=1", "redis+sentinel://a,b:1/main/2?sentinel_password=x", "redis+cluster://a,b",
	} {
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		target, err := gateway.ParseRedisURL(raw)
		if err != nil {
			return
		}
		for _, addr := range target.Addrs {
			if _, _, err := net.SplitHostPort(addr); err != nil && target.Kind != "unix" {
				t.Errorf("%q: %v", raw, err)
			}
		}
		if len(target.Addrs) == 0 || target.DB < 0 {
			t.Errorf("%q: %+v", raw, target)
		}
	})
}
