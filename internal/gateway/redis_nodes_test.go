package gateway_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed-0b620db0/patchbay/internal/gateway"
	"github.com/seed-0b620db0/patchbay/internal/redistest"
	"github.com/seed-0b620db0/patchbay/internal/siotest"
)

// fleet are gateways on a real Redis.
type fleet struct {
	t    *testing.T
	vars []string
	n    int
}

// launch starts another gateway.
func (f *fleet) launch(vars ...string) *node {
	f.t.Helper()
	f.n++
	return startWith(f.t, gateway.New, slices.Concat([]string{fmt.Sprint("NODE=node-", f.n), "RELAY=true", "PEER_SECRET=" + secret}, f.vars, vars)...)
}

// start is launch, and the wait until the gateway is ready.
func (f *fleet) start(vars ...string) *node {
	f.t.Helper()
	n := f.launch(vars...)
	eventually(f.t, "ready", func() bool { return len(n.reasons()) == 0 })
	return n
}

// talk fails the test unless what a client of one node publishes reaches a client of the other.
func talk(t *testing.T, p, q *peer) {
	t.Helper()
	p.join("room")
	q.join("room")
	p.event() // q has come
	p.call("publish", "room", "greet", "hello")
	if args, m := q.published("greet"); string(args[0]) != `"hello"` || m.From != p.id {
		t.Errorf("got %s, %+v", args, m)
	}
	q.call("leave", "room")
	p.event()
	p.call("leave", "room")
}

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
			c := a.client()
			c.Handshake()
			c.Base = b.public
			c.Send("40")
			if got := c.Poll(); !strings.HasPrefix(got[0], `40{"sid":`) {
				t.Errorf("forwarded: %q", got)
			}
			if s := b.scrape(); s[`patchbay_nodes{namespace="/chat"}`] != 2 || s[`patchbay_peers`] != 2 || s[`patchbay_bus_lag_seconds_count`] == 0 {
				t.Errorf("metrics: %v", s)
			}
			b.shutdown()
			if got, err := server.Client(t).HKeys(t.Context(), "chat:nodes").Result(); err != nil || !slices.Equal(got, []string{"node-1"}) {
				t.Errorf("registered: %q, %v", got, err)
			}
		})
	}
}

// Redis goes and comes back: nodes are not ready meanwhile, and say why; their clients stay.
func TestRedisOutage(t *testing.T) {
	siotest.LeakCheck(t)
	server := redistest.Start(t)
	f := &fleet{t: t, vars: []string{"ADAPTER=redis", "REDIS_URL=" + server.URL(), "START_TIMEOUT=0"}}
	server.Kill()
	a := f.launch()
	refused := func(n *node) func() bool {
		return func() bool {
			return slices.ContainsFunc(n.reasons(), func(r string) bool {
				return strings.HasPrefix(r, "bus of /: ") && strings.Contains(r, server.Addr()) && strings.Contains(r, "refused")
			})
		}
	}
	eventually(t, "the reason", refused(a))
	server.Restart(t)
	eventually(t, "ready", func() bool { return len(a.reasons()) == 0 })
	b := f.start()
	p, q := a.dial(""), b.dial("")
	talk(t, p, q)
	c := a.client()
	c.Handshake()
	c.Base = b.public
	c.Send("40")
	c.Poll()

	server.Kill()
	eventually(t, "the reason", refused(a))
	eventually(t, "the reason", refused(b))
	s := b.dial("") // local delivery goes on, and so does forwarding
	q.join("here")
	s.join("here")
	q.event()
	q.call("publish", "here", "still")
	s.published("still")
	c.Send(`421["leave","x"]`)
	if got := c.Poll(); got[0] != `431[{"ok":true,"room":"x"}]` {
		t.Errorf("forwarded: %q", got)
	}
	server.Restart(t)
	eventually(t, "ready", func() bool { return len(a.reasons()) == 0 && len(b.reasons()) == 0 })
	talk(t, p, q)
	c.Send(`422["leave","x"]`)
	if got := c.Poll(); got[0] != `432[{"ok":true,"room":"x"}]` {
		t.Errorf("forwarded: %q", got)
	}
}

// A node that hears nothing while its connection seems to be fine is not ready, and gets well by itself.
func TestRedisDeafNode(t *testing.T) {
	siotest.LeakCheck(t)
	server := redistest.Start(t)
	proxy := redistest.NewProxy(t, server.Addr())
	f := &fleet{t: t, vars: []string{"ADAPTER=redis", "CANARY_INTERVAL=100ms", "CANARY_TIMEOUT=500ms"}}
	a, b := f.start("REDIS_URL=redis://"+proxy.Addr()), f.start("REDIS_URL="+server.URL())
	proxy.FreezeServer(true)
	eventually(t, "deaf", func() bool { return len(a.reasons()) > 0 })
	if got := b.reasons(); len(got) > 0 {
		t.Errorf("the other: %q", got)
	}
	proxy.FreezeServer(false)
	proxy.Cut()
	eventually(t, "ready", func() bool { return len(a.reasons()) == 0 })
	if s := a.scrape(); s[`patchbay_bus_restarts_total{namespace="/"}`] == 0 {
		t.Error("no restart was counted")
	}
	talk(t, a.dial(""), b.dial(""))
}

// What a log, an error or a probe says has no password in it.
func TestRedisPasswordStaysSecret(t *testing.T) {
	siotest.LeakCheck(t)
	server := redistest.Start(t)
	if _, err := server.Do("config", "set", "requirepass", "right"); err != nil {
		t.Fatal(err)
	}
	f := &fleet{t: t, vars: []string{"ADAPTER=redis", "LOG_LEVEL=debug"}}
	n := f.launch("REDIS_URL=redis://:hunter2@"+server.Addr(), "START_TIMEOUT=1s")
	eventually(t, "the reason", func() bool {
		return slices.ContainsFunc(n.reasons(), func(r string) bool { return strings.Contains(r, "WRONGPASS") })
	})
	probe := n.get(n.admin + "/readyz").Body
	err := n.failed(t, "GATEWAY_START_TIMEOUT: ")
	if text := err.Error() + n.log.String() + probe; strings.Contains(text, "hunter2") {
		t.Errorf("the password is in %s", text)
	}
	n = f.start("REDIS_URL=redis://:right@" + server.Addr())
	if r := n.get(n.admin + "/readyz"); r.Status != http.StatusOK {
		t.Errorf("readyz: %d %s", r.Status, r.Body)
	}
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
	n := f.launch("REDIS_TLS_CA_FILE="+cert, "REDIS_TLS_SERVER_NAME=redis.internal")
	eventually(t, "ready", func() bool { return len(n.reasons()) == 0 })
	for _, vars := range [][]string{{"REDIS_TLS_SERVER_NAME=redis.internal"}, {"REDIS_TLS_CA_FILE=" + cert}} {
		n := f.launch(vars...)
		eventually(t, "the reason", func() bool {
			return slices.ContainsFunc(n.reasons(), func(r string) bool { return strings.Contains(r, "x509: ") })
		})
	}
}

func writeCertificate(t *testing.T, cert, key, name string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{name}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: pkcs8}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
