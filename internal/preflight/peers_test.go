package preflight_test

import (
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed-0b620db0/patchbay/internal/gateway"
	"github.com/seed-0b620db0/patchbay/internal/peers"
	"github.com/seed-0b620db0/patchbay/internal/preflight"
	"github.com/seed-0b620db0/patchbay/internal/redistest"
	"github.com/seed-0b620db0/patchbay/internal/siotest"
)

// free returns an address that nobody listens to.
func free(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestPeers(t *testing.T) {
	s := redistest.Start(t)
	bus := []string{"ADAPTER=redis", "REDIS_URL=" + s.URL()}
	with := func(vars ...string) []string { return slices.Concat(bus, vars) }
	two, _ := start(t, with("NODE=node-2")...)
	three, _ := start(t, with("NODE=node-3")...)
	before := scrape(t, two)

	r := check(t, preflight.Options{}, bus...)
	want(t, r, preflight.OK, "peers.list", "node-2 at "+two.AdminAddr().String(), "node-3 at "+three.AdminAddr().String())
	want(t, r, preflight.OK, "peers.tag", "the tag node-1 is free")
	want(t, r, preflight.OK, "peers.reach", "node-2 at ", "takes what this node forwards")
	want(t, r, preflight.OK, "peers.reach", "node-3 at ", "takes what this node forwards")
	none(t, r, preflight.Fail, "peers.")
	if len(r.Peers) != 2 || r.Peers[0].Tag != "node-2" || r.Peers[0].Reachable == nil || !*r.Peers[0].Reachable || r.Peers[0].Latency <= 0 || r.Peers[0].Self {
		t.Errorf("got %+v", r.Peers)
	}

	want(t, check(t, preflight.Options{}, with("NODE=node-2")...), preflight.Fail, "peers.tag", "node-2 is that of another node", "GATEWAY_NODE")
	want(t, check(t, preflight.Options{}, with("PEER_SECRET="+strong+"other")...), preflight.Fail, "peers.reach", "node-3 at ", "same secret?", "GATEWAY_PEER_SECRET is the same")
	want(t, check(t, preflight.Options{}, with("PEER_SECRET=")...), preflight.Note, "peers.reach", "are not asked")

	// Nodes that are registered, and not there or not themselves.
	reg := peers.NewRedis(s.Client(t), "socket.io")
	now := time.Now()
	for tag, addr := range map[string]string{"node-8": free(t), "node-9": two.Addr().String(), "node-1": "10.9.9.9:9090"} {
		if _, err := reg.Register(t.Context(), peers.Node{Tag: tag, Addr: addr, ID: peers.NewID(), Started: now}, time.Minute, false); err != nil {
			t.Fatal(err)
		}
	}
	r = check(t, preflight.Options{}, bus...)
	want(t, r, preflight.Fail, "peers.reach", "node-8 at ", "connection refused", "GATEWAY_PEER_ADDR")
	want(t, r, preflight.Fail, "peers.reach", "node-9 at ", "another program")
	want(t, r, preflight.Fail, "peers.tag", "another node, at 10.9.9.9:9090")
	none(t, r, preflight.OK, "peers.address")

	// Nobody has noticed.
	after := scrape(t, two)
	for _, name := range []string{"patchbay_forwarded_requests_total", "patchbay_peer_requests_total", "patchbay_requests_refused_total", "patchbay_nodes"} {
		if a, b := series(before, name), series(after, name); a != b || a == "" {
			t.Errorf("%s: %q, then %q", name, a, b)
		}
	}
}

func scrape(t *testing.T, g *gateway.Gateway) string {
	t.Helper()
	text, err := gateway.Scrape(t.Context(), "http://"+g.AdminAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func series(text, name string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, name) {
			b.WriteString(line)
		}
	}
	return b.String()
}

// Where the others are told to find this node.
func TestPeerAddress(t *testing.T) {
	s := redistest.Start(t)
	for _, c := range []struct {
		vars   string
		status preflight.Status
		words  []string
	}{
		{"ADMIN_ADDR=:0", preflight.Note, []string{"127.0.0.1:0", "this host only"}}, // as Redis sees it
		{"ADMIN_ADDR=127.0.0.1:0 PEER_ADDR=10.9.9.9:9090", preflight.Fail, []string{"10.9.9.9:9090", "for this host only", "GATEWAY_ADMIN_ADDR=:9090"}},
		{"ADMIN_ADDR=:0 PEER_ADDR=10.9.9.9:9090", preflight.Note, []string{"10.9.9.9:9090", "no address of this host"}},
		{"ADMIN_ADDR=:0 PEER_ADDR=no-such-host.invalid:9090", preflight.Fail, []string{"no-such-host.invalid"}},
	} {
		vars := append([]string{"ADAPTER=redis", "REDIS_URL=" + s.URL()}, strings.Fields(c.vars)...)
		want(t, check(t, preflight.Options{}, vars...), c.status, "peers.address", c.words...)
	}
	far := peers.Node{Tag: "far", Addr: "10.9.9.9:9090", ID: peers.NewID(), Started: time.Now()}
	if _, err := peers.NewRedis(s.Client(t), "socket.io").Register(t.Context(), far, time.Minute, false); err != nil {
		t.Fatal(err)
	}
	want(t, check(t, preflight.Options{}, "ADAPTER=redis", "REDIS_URL="+s.URL(), "PEER_SECRET="), preflight.Fail, "peers.address", "this host only")
}

// The node runs here, with the same environment.
func TestBesideTheNode(t *testing.T) {
	s := redistest.Start(t)
	vars := []string{"ADAPTER=redis", "REDIS_URL=" + s.URL(), "ADDR=" + free(t), "ADMIN_ADDR=" + free(t)}
	g, stop := start(t, vars...)
	siotest.New(t, "http://"+g.Addr().String(), "/socket.io/").Open() // ends with the node
	r := check(t, preflight.Options{}, vars...)
	want(t, r, preflight.OK, "node.running", "is ready, and has 1 sessions")
	want(t, r, preflight.OK, "peers.tag", "the tag node-1 is this node's")
	none(t, r, preflight.Fail, "")
	if len(r.Peers) != 1 || !r.Peers[0].Self || r.Peers[0].Reachable == nil || !*r.Peers[0].Reachable {
		t.Errorf("got %+v", r.Peers)
	}
	files := slices.ContainsFunc(r.Capacity.Limits, func(l preflight.Limit) bool {
		return l.Name == "files" && strings.Contains(l.Text, "of the node that runs")
	})
	if !files {
		t.Errorf("whose files: %+v", r.Capacity.Limits)
	}

	other := slices.Concat(vars, []string{"NODE=node-7"})
	r = check(t, preflight.Options{}, other...)
	want(t, r, preflight.Fail, "node.addr", "taken by another program")
	want(t, r, preflight.Fail, "node.admin_addr", "taken by another program: the node node-1")

	s.Stop()
	deadline := time.Now().Add(siotest.Patience)
	for gateway.ProbeHealth(t.Context(), "http://"+g.AdminAddr().String(), true) == nil {
		if time.Now().After(deadline) {
			t.Fatal("it is ready without Redis")
		}
		time.Sleep(5 * time.Millisecond) // there is nothing to wait on
	}
	r = check(t, preflight.Options{}, vars...)
	want(t, r, preflight.Warn, "node.running", "is not ready: bus of /")
	want(t, r, preflight.Fail, "redis.connect")
	stop()
}

// Ports that another program has, or a user may not have, or that do not last.
func TestPorts(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.NotFoundHandler()}
	go func() { _ = srv.Serve(taken) }() // ends by Close
	defer srv.Close()
	addr := taken.Addr().String()
	want(t, check(t, preflight.Options{}, "ADDR="+addr), preflight.Fail, "node.addr", "taken by another program")
	want(t, check(t, preflight.Options{}, "ADMIN_ADDR="+addr), preflight.Fail, "node.admin_addr", "taken by another program")
	_, port, _ := net.SplitHostPort(free(t))
	root := with(t, "proc/sys/net/ipv4/ip_local_port_range", "1024 65535")
	want(t, check(t, preflight.Options{Root: root}, "ADDR=127.0.0.1:"+port), preflight.Warn, "node.addr", "ip_local_reserved_ports")
	want(t, check(t, preflight.Options{}, "ADDR=10.9.9.9:3000"), preflight.Fail, "node.addr", "GATEWAY_ADDR: ")
}
