package gateway_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed-0b620db0/patchbay/internal/gateway"
	"github.com/seed-0b620db0/patchbay/internal/peers"
	"github.com/seed-0b620db0/patchbay/internal/siotest"
	"github.com/seed-0b620db0/patchbay/pkg/adapter"
	"github.com/seed-0b620db0/patchbay/pkg/adapter/adaptertest"
	"github.com/seed-0b620db0/patchbay/pkg/sio"
)

// grid is what gateways of one process have in common: a bus and a registry.
type grid struct {
	t        testing.TB
	net      *adaptertest.Network
	registry *peers.Memory
	nodes    int
}

func newGrid(t testing.TB) *grid {
	t.Helper()
	siotest.LeakCheck(t)
	return &grid{t: t, net: adaptertest.NewNetwork(nil), registry: peers.NewMemory()}
}

// launch starts another gateway, which is number 0, 1 and so on of the network, and has the tag node-1, node-2 and so on.
func (g *grid) launch(vars ...string) *node {
	g.t.Helper()
	number := g.nodes
	g.nodes++
	open := func(c *gateway.Config, log *slog.Logger) (*gateway.Gateway, error) {
		return gateway.NewWith(c, log, func(o adapter.Options) sio.NewAdapter { return adapter.Cluster(g.net.Open(number), &o) }, g.registry)
	}
	return startWith(g.t, open, append([]string{
		fmt.Sprint("NODE=node-", number+1), "ADAPTER=redis", "REDIS_URL=redis://unused", "PEER_SECRET=" + secret,
	}, vars...)...)
}

// start is launch, and the wait until the gateway is ready.
func (g *grid) start(vars ...string) *node {
	g.t.Helper()
	n := g.launch(vars...)
	eventually(g.t, "ready", func() bool { return len(n.reasons()) == 0 })
	return n
}

// reasons returns why the gateway is not ready.
func (n *node) reasons() []string {
	n.t.Helper()
	r := n.get(n.admin + "/readyz")
	var body struct {
		Ready   bool
		Reasons []string
	}
	if err := json.Unmarshal([]byte(r.Body), &body); err != nil || body.Ready != (r.Status == http.StatusOK) || body.Ready == (len(body.Reasons) > 0) {
		n.t.Fatalf("readyz: %d %q", r.Status, r.Body)
	}
	return body.Reasons
}

func TestClusterRelay(t *testing.T) {
	g := newGrid(t)
	a, b := g.start("RELAY=true"), g.start("RELAY=true")
	p, q := a.dial(`{"user":"p"}`), b.dial(`{"user":"q"}`)
	p.join("room")
	if m := q.join("room"); m.Total != 2 {
		t.Errorf("members: %+v", m)
	}
	if pr := p.presence(); pr.Member.User != "q" || pr.Member.Node != "node-2" {
		t.Errorf("got %+v", pr)
	}
	p.call("publish", "room", "greet", "hello")
	if args, m := q.published("greet"); string(args[0]) != `"hello"` || m.Node != "node-1" {
		t.Errorf("got %s, %+v", args, m)
	}
	s := b.scrape()
	for series, want := range map[string]float64{
		`patchbay_buses{state="up"}`: 1, `patchbay_buses{state="down"}`: 0, `patchbay_nodes{namespace="/"}`: 2, `patchbay_peers`: 2,
		`patchbay_bus_requests_total{result="complete",type="fetch_sockets"}`: 1, `patchbay_bus_request_duration_seconds_count{type="fetch_sockets"}`: 1,
	} {
		if got, ok := s[series]; !ok || got != want {
			t.Errorf("%s = %v", series, got)
		}
	}
}

// A node is ready while all its buses are up, and says which are not.
func TestClusterReadiness(t *testing.T) {
	g := newGrid(t)
	heal := g.net.Cut(0)
	n := g.launch("NAMESPACES=/,/chat", "NAMESPACE_PATTERN=^/room-", "START_TIMEOUT=0")
	want := []string{"bus of /: adaptertest: link is cut", "bus of /chat: adaptertest: link is cut"}
	eventually(t, "the reasons", func() bool { return slices.Equal(n.reasons(), want) })

	// Before it was ready for the first time it takes no clients: others would not find them.
	if r := n.client().Get(); r.Status != http.StatusServiceUnavailable || r.Header.Get("Retry-After") == "" {
		t.Errorf("a client: %d %q %v", r.Status, r.Body, r.Header)
	}
	heal()
	eventually(t, "ready", func() bool { return len(n.reasons()) == 0 })
	w := n.client().Open()
	w.Connect("/", "")

	heal = g.net.Cut(0)
	eventually(t, "not ready", func() bool { return slices.Equal(n.reasons(), want) })
	// Now it has clients, and keeps them.
	w.Connect("/chat", "")
	other := n.client().Open()
	other.Connect("/", "")
	if err := n.IO().Emit(t.Context(), "still"); err == nil || !errors.Is(err, adapter.ErrDown) {
		t.Errorf("emit: %v", err)
	}
	other.Expect(`42["still"]`)
	other.Connect("/room-1", "") // nobody asks for its bus
	if got := n.reasons(); !slices.Equal(got, want) {
		t.Errorf("reasons: %q", got)
	}
	eventually(t, "counted", func() bool {
		s := n.scrape()
		return s[`patchbay_buses{state="down"}`] == 3 && s[`patchbay_buses{state="up"}`] == 0 && s[`patchbay_bus_restarts_total{namespace="/chat"}`] == 1 &&
			s[`patchbay_bus_publish_errors_total{namespace="/"}`] == 1
	})
	heal()
	eventually(t, "ready", func() bool { return len(n.reasons()) == 0 })
	eventually(t, "counted", func() bool { return n.scrape()[`patchbay_buses{state="up"}`] == 3 })
	other.Conn.CloseNow()
	eventually(t, "its namespace is forgotten", func() bool { return n.scrape()[`patchbay_buses{state="up"}`] == 2 })
}

// It ends, with the reason, when it cannot start.
func TestClusterStartTimeout(t *testing.T) {
	g := newGrid(t)
	g.net.Cut(0)
	n := g.launch("START_TIMEOUT=300ms")
	n.failed(t, "GATEWAY_START_TIMEOUT: not ready after 300ms: bus of /: adaptertest: link is cut")

	g.registry.Fail(errors.New("dial tcp 10.0.0.9:6379: refused"))
	n = g.launch("START_TIMEOUT=300ms")
	n.failed(t, "GATEWAY_START_TIMEOUT: not ready after 300ms: this node is not registered: dial tcp 10.0.0.9:6379: refused")
	g.registry.Fail(nil)

	first := g.start("NODE=same")
	n = g.launch("NODE=same", "START_TIMEOUT=2s")
	eventually(t, "the metrics say so", func() bool { return n.scrape()[`patchbay_not_ready{reason="tag taken"}`] == 1 })
	if s := n.scrape(); s["patchbay_ready"] != 0 || s[`patchbay_not_ready{reason="registry"}`] != 0 || s[`patchbay_not_ready{reason="bus"}`] != 0 {
		t.Errorf("metrics: %v", s)
	}
	err := n.failed(t, `GATEWAY_START_TIMEOUT: not ready after 2s: GATEWAY_NODE: the tag "same" is that of another node, at 127.0.0.1:`)
	if !strings.Contains(err.Error(), strings.TrimPrefix(first.admin, "http://")) || !strings.Contains(n.log.String(), `"node_tag_taken"`) {
		t.Errorf("got %v\n%s", err, n.log)
	}
	if got := first.reasons(); len(got) > 0 {
		t.Errorf("the first: %q", got)
	}
}

// failed waits for a gateway to end by itself.
func (n *node) failed(t *testing.T, want string) error {
	t.Helper()
	select {
	case err := <-n.done:
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
		n.stop()
		n.stop = nil
		return err
	case <-time.After(siotest.Patience):
		t.Fatal("it does not end")
	}
	return nil
}

// A node whose tag another one took while it was away says so, and is not ready.
func TestClusterTagTakenLater(t *testing.T) {
	g := newGrid(t)
	n := g.start()
	g.start()
	eventually(t, "it has counted the other", func() bool { return n.scrape()[`patchbay_nodes{namespace="/"}`] == 2 })
	g.registry.Forget()
	usurper := peers.Node{Tag: "node-1", Addr: "10.0.0.9:9090", ID: peers.NewID()}
	if _, err := g.registry.Register(t.Context(), usurper, time.Minute, false); err != nil {
		t.Fatal(err)
	}
	eventually(t, "not ready", func() bool {
		r := n.reasons()
		return len(r) == 1 && strings.HasPrefix(r[0], `GATEWAY_NODE: the tag "node-1" is that of another node, at 10.0.0.9:9090`)
	})
	if err := g.registry.Remove(t.Context(), usurper); err != nil {
		t.Fatal(err)
	}
	eventually(t, "ready", func() bool { return len(n.reasons()) == 0 })
}

func TestClusterWarnings(t *testing.T) {
	g := newGrid(t)
	if n := g.start("PEER_SECRET="); !strings.Contains(n.log.String(), "forwarding_off") {
		t.Error("no warning")
	}
	n := g.start()
	if log := n.log.String(); strings.Contains(log, "forwarding_off") || strings.Contains(log, secret) {
		t.Errorf("got %s", log)
	}
	if n := start(t); strings.Contains(n.log.String(), "forwarding_off") {
		t.Error("a warning on a node that is alone")
	}
}

func TestAdvertisedAddress(t *testing.T) {
	tcp := func(s string) net.Addr {
		a, err := net.ResolveTCPAddr("tcp", s)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	for _, c := range []struct{ admin, peer, towards, want string }{
		{"127.0.0.1:9090", "", "", "127.0.0.1:9090"},
		{"[::1]:9091", "", "", "[::1]:9091"},
		{"127.0.0.1:9090", "10.0.0.7", "", "10.0.0.7:9090"},
		{"127.0.0.1:9090", "gw.internal:7000", "", "gw.internal:7000"},
		{"[::]:9090", "fd00::7", "", "[fd00::7]:9090"},
		{"[::]:9090", "", "127.0.0.1:6379", "127.0.0.1:9090"},
		{"0.0.0.0:9090", "", "[::1]:6379", "[::1]:9090"},
		{"[::]:9090", "", "no such host.invalid:6379", ""},
		{"[::]:9090", "", "", ""},
	} {
		if strings.Contains(c.towards, "::1") && !hasIPv6() {
			continue
		}
		var towards []string
		if c.towards != "" {
			towards = []string{c.towards}
		}
		got := load(t, "PEER_ADDR="+c.peer).Advertised(t.Context(), tcp(c.admin), towards...)
		host, port, err := net.SplitHostPort(got)
		if c.want != "" && got != c.want || err != nil || net.ParseIP(host) == nil && c.peer == "" || net.ParseIP(host).IsUnspecified() || port == "0" {
			t.Errorf("%+v: %s", c, got)
		}
	}
}

func hasIPv6() bool {
	l, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		return false
	}
	_ = l.Close()
	return true
}
