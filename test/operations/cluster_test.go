package operations_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/seed-0b620db0/patchbay/internal/pgtest"
	"github.com/seed-0b620db0/patchbay/internal/redistest"
	"github.com/seed-0b620db0/patchbay/internal/siotest"
)

const (
	swarmSize  = 500
	secret     = "a secret that all nodes share"
	appNode    = 9                // which nginx does not know, and which stays
	drainPause = time.Second      // GATEWAY_SHUTDOWN_DELAY
	drainTime  = 3 * time.Second  // GATEWAY_DRAIN_WINDOW
	orderEvery = 2 * time.Second  // of each client
	backWithin = 3 * time.Second  // who was on a node that was killed
	rollings   = 5                // restarts of all nodes
	shutdown   = 20 * time.Second // GATEWAY_SHUTDOWN_TIMEOUT
)

// bus is what nodes meet on.
type bus interface {
	Kill()
	Restart(t testing.TB)
}

// cluster is a lab with nginx in front and a swarm of clients.
type cluster struct {
	*lab
	t     *testing.T
	bus   bus
	front *front
	swarm *clients
	seen  int // bytes of nginx's log that have been looked at
}

const strictVariable = "OPERATIONS_STRICT"

// strictly is for what depends on how much else the machine has to do: it fails the test with OPERATIONS_STRICT=1 (make cluster), and
// is a line of the log without.
func strictly(t *testing.T, ok bool, format string, args ...any) {
	t.Helper()
	switch {
	case ok:
	case os.Getenv(strictVariable) != "":
		t.Errorf(format, args...)
	default:
		t.Logf(format, args...)
	}
}

// TestCluster takes three nodes behind nginx, with five hundred stock clients that talk all the time, through what happens to
// a cluster: a node is killed, drained and added, nginx reloads, Redis or PostgreSQL goes away, and all nodes are restarted,
// one after the other, again and again.
func TestCluster(t *testing.T) {
	for _, adapter := range []string{"redis", "postgres"} {
		t.Run(adapter, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, adapter)
			c.connected()
			c.kill()
			c.drain()
			c.reload()
			c.grow()
			c.outage()
			c.rolling()
		})
	}
}

func newCluster(t *testing.T, adapter string) *cluster {
	t.Helper()
	c := &cluster{t: t}
	vars := []string{
		"PEER_SECRET=" + secret, "SHUTDOWN_DELAY=" + drainPause.String(), "DRAIN_WINDOW=" + drainTime.String(), "SHUTDOWN_TIMEOUT=" + shutdown.String(),
		"CANARY_INTERVAL=500ms", "CANARY_TIMEOUT=5s",
	}
	if adapter == "postgres" {
		s := pgtest.Start(t)
		c.bus, vars = s, append(vars, "ADAPTER=postgres", "POSTGRES_URL="+s.URL())
	} else {
		s := redistest.Start(t)
		c.bus, vars = s, append(vars, "ADAPTER=redis", "REDIS_URL="+s.URL())
	}
	c.lab = newLabOn(t, vars...)
	var err error
	if c.gateway, err = plain(); err != nil { // as it is shipped: how fast clients are back is no question to the race detector
		t.Fatal(err)
	}
	for i := 1; i <= 3; i++ {
		c.start(i)
	}
	c.start(appNode)
	c.front = startNginx(c.lab)
	c.swarm = startScript(t, "swarm.mjs", c.front.base, "http://"+c.addr(appNode, c.public))
	return c
}

// phase tells of one, for who reads the log.
func (c *cluster) phase(format string, args ...any) {
	c.t.Helper()
	c.t.Logf("%s: "+format, append([]any{time.Now().Format("15:04:05")}, args...)...)
}

// outage is a time in which a client was not connected and in its room. From and To are the nodes.
type outage struct {
	Kind, From, To, Reason string
	At                     int64 // Unix ms
	Took                   int64 // ms
}

func (c *cluster) outages() (all []outage) {
	c.t.Helper()
	c.swarm.call("outages", nil, &all)
	return all
}

// request is a line of nginx's log.
type request struct {
	Method, Path, Transport, Tag string
	Status                       int
	UpstreamAddr                 string `json:"upstream_addr"`
	UpstreamStatus               string `json:"upstream_status"`
}

// requests returns those that have ended since it was last called.
func (c *cluster) requests() (all []request) {
	c.t.Helper()
	data, err := os.ReadFile(filepath.Join(c.front.dir, "access.log"))
	if err != nil {
		c.t.Fatal(err)
	}
	whole := strings.LastIndexByte(string(data), '\n') + 1
	for line := range strings.Lines(string(data[c.seen:whole])) {
		var r request
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			c.t.Fatalf("%v: %s", err, line)
		}
		all = append(all, r)
	}
	c.seen = whole
	return all
}

// nothingFailed fails the test if a request has, or a client could not connect, other than on account of a node that is named.
func (c *cluster) nothingFailed(but ...string) {
	c.t.Helper()
	for _, tr := range c.swarm.troubles() {
		if !slices.Contains(but, tr.Node) || tr.What == "join" {
			c.t.Errorf("trouble: %v", tr)
		}
	}
	failed := map[request]int{}
	for _, r := range c.requests() {
		if r.Status != 200 && r.Status != 101 && !slices.Contains(but, r.Tag) {
			failed[r]++
		}
	}
	for r, n := range failed {
		c.t.Errorf("%d times %+v", n, r)
	}
}

// stayed fails the test if a client has lost its connection that was not on a node that is named.
func (c *cluster) stayed(but ...string) (lost []outage) {
	c.t.Helper()
	for _, o := range c.outages() {
		if slices.Contains(but, o.From) {
			lost = append(lost, o)
		} else {
			c.t.Errorf("disconnected: %+v", o)
		}
	}
	return lost
}

func (c *cluster) connected() {
	c.t.Helper()
	c.phase("%d clients connect", swarmSize)
	var nodes map[string]int
	c.swarm.call("open", swarmSize, &nodes)
	for i := 1; i <= 3; i++ {
		if n := nodes[tag(i)]; n < swarmSize/6 {
			c.t.Errorf("%d on %s: %v", n, tag(i), nodes)
		}
	}
	c.swarm.call("rooms", nil, nil)
	c.stayed()
	c.nothingFailed()
	for i := 1; i <= 3; i++ {
		s := c.scrape(i)
		if n := s[`patchbay_requests_refused_total{code="1"}`]; n > 0 {
			c.t.Errorf("%s: %v times Session ID unknown", tag(i), n)
		}
		for _, r := range []string{"forwarded", "unknown", "unreachable", "refused", "failed", "aborted"} {
			if n := s[`patchbay_forwarded_requests_total{result="`+r+`"}`]; n > 0 {
				c.t.Errorf("%s: %v requests were forwarded (%s): nginx is not sticky", tag(i), n, r)
			}
		}
	}
}

// kill: who was on the node is back in time, the rest notice nothing.
func (c *cluster) kill() {
	c.t.Helper()
	nodes := c.settle()
	c.phase("%s is killed: %v", tag(2), nodes)
	c.swarm.call("start", orderEvery.Milliseconds(), nil)
	killed := time.Now()
	c.end(2, syscall.SIGKILL)
	// A client that has not noticed yet still counts as connected.
	c.back(nodes[tag(2)])
	after := c.settle()
	lost := c.stayed(tag(2))
	var last int64
	for _, o := range lost {
		last = max(last, o.At+o.Took-killed.UnixMilli())
		if o.To == tag(2) {
			c.t.Errorf("back on a node that is dead: %+v", o)
		}
	}
	c.phase("%d clients are back within %d ms: %v", len(lost), last, after)
	strictly(c.t, last <= backWithin.Milliseconds(), "the last client was back after %d ms", last)
	c.nothingFailed(tag(2))
	c.start(2)
	c.swarm.call("rooms", nil, nil)
	c.nothingFailed(tag(2))
}

// settle waits until all are connected, and returns how many each node has.
func (c *cluster) settle() (nodes map[string]int) {
	c.t.Helper()
	c.swarm.call("settle", nil, &nodes)
	return nodes
}

// back waits until so many clients have lost their connection, and all are connected again.
func (c *cluster) back(lost int) {
	c.t.Helper()
	c.swarm.call("lost", lost, nil)
}

// drain: clients go one after the other, over the whole window, and are back at once.
func (c *cluster) drain() {
	c.t.Helper()
	nodes := c.settle()
	c.phase("%s is drained: %v", tag(1), nodes)
	begun := time.Now()
	c.terminate(1)
	c.phase("it has ended after %v", time.Since(begun))
	after := c.settle()
	if after[tag(1)] > 0 {
		c.t.Errorf("clients on a node that has ended: %v", after)
	}
	lost := c.stayed(tag(1))
	if len(lost) != nodes[tag(1)] {
		c.t.Errorf("%d clients have moved, %d were there", len(lost), nodes[tag(1)])
	}
	var times []int64
	slowest := int64(0)
	thirds := [3]int{}
	for _, o := range lost {
		at := o.At - begun.Add(drainPause).UnixMilli()
		times = append(times, at)
		thirds[min(max(at*3/drainTime.Milliseconds(), 0), 2)]++
		slowest = max(slowest, o.Took)
		if o.Reason != "transport close" {
			c.t.Errorf("disconnected: %+v", o)
		}
	}
	for _, n := range thirds {
		if n < len(lost)/6 {
			c.t.Errorf("closed in each third of the window: %v", thirds)
		}
	}
	slices.Sort(times)
	// The first back-off is half a second to one and a half.
	c.phase("closed between %d and %d ms, in thirds of the window %v; back after at most %d ms", times[0], times[len(times)-1], thirds, slowest)
	c.nothingFailed()
	c.start(1)
	c.swarm.call("rooms", nil, nil)
	c.nothingFailed()
}

// terminate ends a node in an orderly way.
func (c *cluster) terminate(i int) {
	c.t.Helper()
	c.mu.Lock()
	d := c.nodes[i]
	c.mu.Unlock()
	d.Signal(syscall.SIGTERM)
	select {
	case <-d.Ended():
	case <-time.After(siotest.Patience):
		c.t.Fatalf("%s does not end: %s", tag(i), d.Output())
	}
	if state := d.State(); !state.Success() {
		c.t.Errorf("%s: %v: %s", tag(i), state, d.Output())
	}
	c.end(i, syscall.SIGKILL) // it is forgotten
}

// reload: nobody notices that nginx reads its files again, as long as its old workers may go on.
func (c *cluster) reload() {
	c.t.Helper()
	c.phase("nginx reloads")
	before := c.workers()
	c.front.Signal(syscall.SIGHUP)
	eventually(c.t, "nginx has new workers", func() bool {
		return slices.ContainsFunc(c.workers(), func(pid string) bool { return !slices.Contains(before, pid) })
	})
	c.swarm.call("rooms", nil, nil)
	c.stayed()
	c.nothingFailed()
}

// workers are the processes of nginx but for the first.
func (c *cluster) workers() []string {
	c.t.Helper()
	pid := c.front.PID()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		c.t.Fatal(err)
	}
	return strings.Fields(string(data))
}

// grow: a node that is added gets clients.
func (c *cluster) grow() {
	c.t.Helper()
	c.phase("%s is added", tag(4))
	c.start(4)
	four, three := c.addr(4, c.public), c.addr(3, c.public)
	c.front.edit("patchbay-nodes.conf",
		"    gateway-3  patchbay_gateway-3;\n", "    gateway-3  patchbay_gateway-3;\n    gateway-4  patchbay_gateway-4;\n",
		"    server     "+three+" max_fails=1 fail_timeout=5s;\n", "    server     "+three+" max_fails=1 fail_timeout=5s;\n    server     "+four+" max_fails=1 fail_timeout=5s;\n",
		"    zone       patchbay_any 256k;\n", "    zone       patchbay_any 256k;\n    server     "+four+" max_fails=0;\n",
		"upstream patchbay_any {", "upstream patchbay_gateway-4 {\n    server "+four+" max_fails=0;\n    keepalive 64;\n    keepalive_timeout 60s;\n}\nupstream patchbay_any {")
	c.front.Signal(syscall.SIGHUP)
	eventually(c.t, "it gets a session", func() bool {
		r := c.front.do("GET", c.front.url(), nil, nil)
		return r.Status == 200 && strings.Contains(r.Body, "."+tag(4)+`"`)
	})
	before := c.settle()
	c.terminate(3) // its clients have to go somewhere
	after := c.settle()
	if after[tag(4)] < before[tag(3)]/4 {
		c.t.Errorf("before %v, after %v", before, after)
	}
	c.phase("%v", after)
	c.stayed(tag(3))
	c.nothingFailed()
	c.start(3)
	c.swarm.call("rooms", nil, nil)
	c.terminate(4)
	c.settle()
	c.stayed(tag(4))
	c.nothingFailed()
	c.done()
}

// done ends the orders: each has come.
func (c *cluster) done() {
	c.t.Helper()
	var orders struct {
		Sent, Duplicates int
		Missing, Refused []string
	}
	c.swarm.call("stop", nil, &orders)
	c.phase("%d orders, %d of them twice, %d missing", orders.Sent, orders.Duplicates, len(orders.Missing))
	if orders.Sent < swarmSize {
		c.t.Errorf("only %d orders were sent", orders.Sent)
	}
	if len(orders.Missing) > 0 {
		c.t.Errorf("%d of %d orders are missing, such as %q", len(orders.Missing), orders.Sent, orders.Missing[:min(len(orders.Missing), 10)])
	}
	if len(orders.Refused) > 0 {
		c.t.Errorf("%d orders were refused, such as %q", len(orders.Refused), orders.Refused[:min(len(orders.Refused), 10)])
	}
}

// outage: without the bus nobody is disconnected, and when it is back all is as it was.
func (c *cluster) outage() {
	c.t.Helper()
	c.phase("the bus goes away")
	c.bus.Kill()
	for i := 1; i <= 3; i++ {
		eventually(c.t, tag(i)+" is not ready", func() bool { return c.ready(i) == 503 })
	}
	c.bus.Restart(c.t)
	for _, i := range []int{1, 2, 3, appNode} {
		eventually(c.t, tag(i)+" is ready", func() bool { return c.ready(i) == 200 })
	}
	c.settle()
	c.swarm.call("rooms", nil, nil)
	c.stayed()
	c.nothingFailed()
	c.phase("and back")
}

func (c *cluster) ready(i int) int {
	return siotest.New(c.t, "", "").Do("GET", "http://"+c.addr(i, c.peer)+"/readyz", nil, nil).Status
}

// rolling: all nodes are restarted, one after the other, with traffic.
func (c *cluster) rolling() {
	c.t.Helper()
	c.swarm.call("start", orderEvery.Milliseconds(), nil)
	moved := 0
	for round := range rollings {
		for i := 1; i <= 3; i++ {
			c.terminate(i)
			c.start(i)
			c.settle()
		}
		lost := c.stayed(tag(1), tag(2), tag(3))
		moved += len(lost)
		for _, o := range lost {
			if o.Reason != "transport close" {
				c.t.Errorf("disconnected: %+v", o)
			}
		}
		c.nothingFailed()
		c.phase("restart %d of all nodes: %d clients have moved, %v", round+1, len(lost), c.settle())
	}
	if moved < rollings*swarmSize {
		c.t.Errorf("%d clients have moved", moved)
	}
	c.swarm.call("rooms", nil, nil)
	c.done()
}
