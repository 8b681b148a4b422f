package gateway_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed-0b620db0/patchbay/internal/gateway"
	"github.com/seed-0b620db0/patchbay/internal/redistest"
	"github.com/seed-0b620db0/patchbay/internal/siotest"
)

// fleet are gateways on a real bus.
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
	got := q.event()
	for strings.HasPrefix(got, `["presence",`) { // that p has come: its node did not know yet whom to wait for
		got = q.event()
	}
	if args, m := q.parse("greet", got); string(args[0]) != `"hello"` || m.From != p.id {
		t.Errorf("got %s, %+v", args, m)
	}
	q.call("leave", "room")
	p.event()
	p.call("leave", "room")
}

// forwards fails the test unless b passes requests on to a.
func forwards(t *testing.T, a, b *node) *siotest.Client {
	t.Helper()
	c := a.client()
	c.Handshake()
	c.Base = b.public
	c.Send("40")
	if got := c.Poll(); !strings.HasPrefix(got[0], `40{"sid":`) {
		t.Errorf("forwarded: %q", got)
	}
	return c
}

// knowEachOther waits until n says that there are two nodes.
func knowEachOther(t *testing.T, n *node) {
	t.Helper()
	eventually(t, "two nodes, by the metrics", func() bool {
		s := n.scrape()
		return s[`patchbay_nodes{namespace="/chat"}`] == 2 && s[`patchbay_peers`] == 2 && s[`patchbay_bus_lag_seconds_count`] > 0
	})
}

// notReady waits until the gateway gives a reason that has all the texts.
func (n *node) notReady(texts ...string) {
	n.t.Helper()
	var reasons []string
	defer func() {
		if n.t.Failed() {
			n.t.Logf("the reasons are %q", reasons)
		}
	}()
	eventually(n.t, fmt.Sprint("not ready: ", texts), func() bool {
		reasons = n.reasons()
		return slices.ContainsFunc(reasons, func(r string) bool {
			return !slices.ContainsFunc(texts, func(text string) bool { return !strings.Contains(r, text) })
		})
	})
}

// bus is a server that nodes meet on.
type bus interface {
	Addr() string
	Kill()
	Restart(t testing.TB)
}

// The bus goes and comes back: nodes are not ready meanwhile, and say why; their clients stay.
func testOutage(f *fleet, server bus) {
	t := f.t
	t.Helper()
	server.Kill()
	a := f.launch()
	a.notReady("bus of /: ", server.Addr(), "refused")
	server.Restart(t)
	eventually(t, "ready", func() bool { return len(a.reasons()) == 0 })
	b := f.start()
	p, q := a.dial(""), b.dial("")
	talk(t, p, q)
	c := forwards(t, a, b)

	server.Kill()
	a.notReady("bus of /: ", server.Addr(), "refused")
	b.notReady("bus of /: ", server.Addr(), "refused")
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

// A node that hears nothing while its connection seems to be fine is not ready, and gets well by itself. at is the variable
// that sends a node to an address.
func testDeafNode(f *fleet, addr string, at func(addr string) string) {
	t := f.t
	t.Helper()
	proxy := redistest.NewProxy(t, addr)
	f.vars = append(f.vars, "CANARY_INTERVAL=100ms", "CANARY_TIMEOUT=500ms")
	a, b := f.start(at(proxy.Addr())), f.start(at(addr))
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

// What a log, an error or a probe says has no password in it, which is hunter2 in the variable at.
func testWrongPassword(f *fleet, at, reason string) {
	f.t.Helper()
	n := f.launch(at, "START_TIMEOUT=1s")
	n.notReady(reason)
	probe := n.get(n.admin + "/readyz").Body
	err := n.failed(f.t, "GATEWAY_START_TIMEOUT: ")
	if text := err.Error() + n.log.String() + probe; strings.Contains(text, "hunter2") {
		f.t.Errorf("the password is in %s", text)
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
