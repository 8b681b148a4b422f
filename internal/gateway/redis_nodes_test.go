package gateway_test

import (
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/seed-0b620db0/patchbay/internal/redistest"
	"github.com/seed-0b620db0/patchbay/internal/siotest"
)

func TestRedisAdapters(t *testing.T) {
	for name, vars := range map[string][]string{
		"redis":         {"ADAPTER=redis"},
		"redis-sharded": {"ADAPTER=redis-sharded", "REDIS_SHARDED_MODE=dynamic-private"},
		"redis-streams": {"ADAPTER=redis-streams", "REDIS_STREAM_COUNT=2"},
	} {
		t.Run(name, func(t *testing.T) {
			siotest.LeakCheck(t)
			server := redistest.Start(t)
			f := &fleet{t: t, vars: append(vars, "REDIS_URL="+server.URL(), "REDIS_KEY=chat", "NAMESPACES=/,/chat")}
			a, b := f.start(), f.start()
			talk(t, a.dial(""), b.dial(""))
			talk(t, newPeer(t, b.client().Open(), "/chat", ""), newPeer(t, a.client().Open(), "/chat", ""))
			forwards(t, a, b)
			knowEachOther(t, b)
			b.shutdown()
			if got, err := server.Client(t).HKeys(t.Context(), "chat:nodes").Result(); err != nil || !slices.Equal(got, []string{"node-1"}) {
				t.Errorf("registered: %q, %v", got, err)
			}
		})
	}
}

func TestRedisOutage(t *testing.T) {
	siotest.LeakCheck(t)
	server := redistest.Start(t)
	f := &fleet{t: t, vars: []string{"ADAPTER=redis", "REDIS_URL=" + server.URL(), "START_TIMEOUT=0"}}
	testOutage(f, server)
}

func TestRedisDeafNode(t *testing.T) {
	siotest.LeakCheck(t)
	server := redistest.Start(t)
	f := &fleet{t: t, vars: []string{"ADAPTER=redis"}}
	testDeafNode(f, server.Addr(), func(addr string) string { return "REDIS_URL=redis://" + addr })
}

func TestRedisPasswordStaysSecret(t *testing.T) {
	siotest.LeakCheck(t)
	server := redistest.Start(t)
	if _, err := server.Do("config", "set", "requirepass", "right"); err != nil {
		t.Fatal(err)
	}
	f := &fleet{t: t, vars: []string{"ADAPTER=redis", "LOG_LEVEL=debug"}}
	testWrongPassword(f, "REDIS_URL=redis://:hunter2@"+server.Addr(), "WRONGPASS")
	f.start("REDIS_URL=redis://:right@" + server.Addr())
}

// TLS with a CA of one's own, and a certificate for another name than the host's.
func TestRedisTLS(t *testing.T) {
	siotest.LeakCheck(t)
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	writeCertificate(t, cert, key, "redis.internal")
	l, err := net.Listen("tcp", "127.0.0.1:0") // a port that is free a moment later
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	_ = l.Close()
	_, port, _ := strings.Cut(addr, ":")
	redistest.Start(t, "--tls-port", port, "--tls-cert-file", cert, "--tls-key-file", key, "--tls-auth-clients", "no", "--tls-ca-cert-file", cert)
	f := &fleet{t: t, vars: []string{"ADAPTER=redis", "REDIS_URL=rediss://" + addr}}
	f.start("REDIS_TLS_CA_FILE="+cert, "REDIS_TLS_SERVER_NAME=redis.internal")
	for _, vars := range [][]string{{"REDIS_TLS_SERVER_NAME=redis.internal"}, {"REDIS_TLS_CA_FILE=" + cert}} {
		f.launch(vars...).notReady("x509: ")
	}
}
