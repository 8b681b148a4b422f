package monitoring_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/seed-0b620db0/patchbay/internal/daemon"
	"github.com/seed-0b620db0/patchbay/internal/gateway"
	"github.com/seed-0b620db0/patchbay/internal/redistest"
	"github.com/seed-0b620db0/patchbay/internal/siotest"
)

// node is a gateway that serves until the test ends.
type node struct {
	*gateway.Gateway
	t    *testing.T
	stop context.CancelFunc
	done chan error
}

func startNode(t *testing.T, vars ...string) *node {
	t.Helper()
	environ := []string{"GATEWAY_ADDR=127.0.0.1:0", "GATEWAY_ADMIN_ADDR=127.0.0.1:0", "GATEWAY_LOG_LEVEL=error"}
	for _, v := range vars {
		environ = append(environ, "GATEWAY_"+v)
	}
	cfg, unknown, err := gateway.Load(environ)
	if err != nil || len(unknown) > 0 {
		t.Fatalf("load: %v, %q", err, unknown)
	}
	g, err := gateway.New(cfg, gateway.NewLogger(t.Output(), cfg))
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Listen(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	n := &node{g, t, stop, make(chan error, 1)}
	go func() { n.done <- g.Serve(ctx) }() // ends by stop
	t.Cleanup(n.end)
	return n
}

// end stops the node, once.
func (n *node) end() {
	if n.stop == nil {
		return
	}
	n.stop()
	n.stop = nil
	if err := <-n.done; err != nil {
		n.t.Errorf("serve: %v", err)
	}
}

func (n *node) client() *siotest.Client {
	return siotest.New(n.t, "http://"+n.Addr().String(), "/socket.io/")
}

// prometheus is a real one.
type prometheus struct {
	t    *testing.T
	port int
}

// startPrometheus has it scrape the targets each second, with the rules of deploy/prometheus.
func startPrometheus(t *testing.T, targets ...string) *prometheus {
	t.Helper()
	program, err := exec.LookPath("prometheus")
	if err != nil {
		siotest.Missing(t, "prometheus is missing: run scripts/need prometheus")
	}
	rules, err := filepath.Abs(rulesFile)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	config := filepath.Join(dir, "prometheus.yml")
	text := fmt.Sprintf("global: { scrape_interval: 1s, evaluation_interval: 1s }\nrule_files: [%q]\nscrape_configs:\n"+
		"  - job_name: patchbay\n    static_configs: [{ targets: [%s] }]\n", rules, strings.Join(targets, ", "))
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p := &prometheus{t: t}
	if err := daemon.OnFreePort(func(port int) error {
		p.port = port
		d, err := daemon.Start(exec.Command(program, "--config.file="+config, "--storage.tsdb.path="+filepath.Join(dir, "data"),
			fmt.Sprintf("--web.listen-address=%s:%d", daemon.Loopback, port)), nil, "Server is ready to receive web requests")
		if err != nil {
			return err
		}
		t.Cleanup(func() { d.End(syscall.SIGTERM) })
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return p
}

// api asks for something below /api/v1 and decodes its data.
func (p *prometheus) api(path string, query url.Values, data any) {
	p.t.Helper()
	address := fmt.Sprintf("http://%s:%d/api/v1/%s?%s", daemon.Loopback, p.port, path, query.Encode())
	req, err := http.NewRequestWithContext(p.t.Context(), http.MethodGet, address, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	r, err := http.DefaultClient.Do(req)
	if err != nil {
		p.t.Fatal(err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	var answer struct {
		Status, Error string
		Data          json.RawMessage
	}
	if err := json.Unmarshal(body, &answer); err != nil || answer.Status != "success" {
		p.t.Fatalf("%s: %s %s", query.Get("query"), answer.Error, body)
	}
	if err := json.Unmarshal(answer.Data, data); err != nil {
		p.t.Fatal(err)
	}
}

// sample is a series with its value now.
type sample struct {
	Metric map[string]string
	Value  [2]any
}

func (p *prometheus) query(expr string) []sample {
	p.t.Helper()
	var data struct{ Result []sample }
	p.api("query", url.Values{"query": {expr}}, &data)
	return data.Result
}

// alerts returns those that are pending or firing, with the instance or job that they are of.
func (p *prometheus) alerts() (names []string) {
	p.t.Helper()
	for _, s := range p.query("ALERTS") {
		names = append(names, s.Metric["alertname"]+" "+s.Metric["instance"])
	}
	slices.Sort(names)
	return names
}

// eventually waits for a condition that no event tells of, and that may need some scrapes.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for !cond() {
		if time.Now().After(deadline) {
			t.Fatalf("still not: %s", what)
		}
		time.Sleep(100 * time.Millisecond) // there is nothing to wait on
	}
}

// use makes traffic of all kinds that a panel shows, between two nodes.
func use(t *testing.T, a, b *node) {
	t.Helper()
	wait := func(w *siotest.WS, part string) {
		for !strings.Contains(w.Text(), part) {
		}
	}
	ann, bob := a.client().Open(), b.client().Open()
	for _, w := range []*siotest.WS{ann, bob} {
		w.Connect("/", "")
		w.Send(`421["join","room"]`)
		wait(w, `431[{"ok":true`)
	}
	wait(ann, "presence")
	for range 20 { // as many as an event needs for a label, and more
		ann.Send(`42["publish","room","message","hello"]`)
		wait(bob, `"message","hello"`)
	}
	poller := a.client()
	poller.Handshake()
	poller.Base = "http://" + b.Addr().String() // a balancer that is not sticky
	poller.Send("40")
	poller.Poll()
	upgraded := a.client()
	upgraded.Handshake()
	upgraded.Send("40")
	upgraded.Upgrade()
	stranger := a.client().Open()
	stranger.Send("40/none,")
	stranger.Text()
	stranger.Connect("/", "")
	stranger.Close()
	a.client().Do(http.MethodGet, a.client().URL("polling", "sid", "unknown"), nil, nil)
}

// mayBeEmpty are queries that have no data while all is well, and why.
var mayBeEmpty = map[string]string{
	"annotation Nodes draining": "no node drains",
	"annotation New versions":   "there is one version", // but in the first two minutes
}

// TestPrometheusHasData asks a real Prometheus, which scrapes two nodes on a real Redis, for all that the dashboard shows. Then
// Redis ends, and the alert for that comes.
func TestPrometheusHasData(t *testing.T) {
	redis := redistest.Start(t)
	vars := []string{
		"ADAPTER=redis", "REDIS_URL=" + redis.URL(), "PEER_SECRET=0123456789abcdef", "RELAY=true",
		"DRAIN_WINDOW=0s", "CANARY_INTERVAL=1s", "CANARY_TIMEOUT=5s",
		"PING_INTERVAL=10m", // nobody reads all the time
	}
	a, b := startNode(t, append(vars, "NODE=a")...), startNode(t, append(vars, "NODE=b")...)
	p := startPrometheus(t, a.AdminAddr().String(), b.AdminAddr().String())
	eventually(t, "both are ready, and scraped", func() bool {
		got := p.query("sum(patchbay_ready) == 2 and sum(patchbay_peers) == 4")
		return len(got) == 1
	})
	use(t, a, b)

	d := readDashboard(t)
	queries := d.queries("patchbay", "5s", "1m")
	if len(queries) < 70 {
		t.Fatalf("%d queries", len(queries))
	}
	var without []string
	defer func() {
		if len(without) > 0 {
			t.Logf("no data: %q", without)
		}
	}()
	eventually(t, "all queries have data", func() bool {
		var empty []string
		for _, q := range queries {
			if len(p.query(q.expr)) == 0 && mayBeEmpty[q.where] == "" {
				empty = append(empty, q.where)
			}
		}
		without = empty
		return len(empty) == 0
	})
	for expr, want := range map[string]string{
		`sum(patchbay_sessions)`:                                                  "4",
		`max(patchbay_events_received_total{event="publish"})`:                    "20",
		`max(patchbay_emits_total{event="message"}) >= bool 5`:                    "1",
		`max(patchbay_forwarded_requests_total{result="forwarded"}) >= bool 1`:    "1",
		`count(count by (node) (patchbay_build_info{node=~"a|b"}))`:               "2",
		`sum(patchbay_requests_refused_total{code="1"})`:                          "1",
		`sum(instance:patchbay_fill:ratio{limit="sessions"} > 0) > bool 0`:        "1",
		`count(instance:patchbay_fill:ratio{limit="files"} > 0)`:                  "2",
		`sum(increase(patchbay_upgrades_total{result="upgraded"}[1m])) >= bool 0`: "1",
		`max(patchbay_bus_canary_age_seconds) < bool 5`:                           "1",
		`sum(patchbay_connects_refused_total{namespace="other"})`:                 "1",
	} {
		eventually(t, expr+" is "+want, func() bool {
			got := p.query(expr)
			return len(got) == 1 && got[0].Value[1] == want
		})
	}
	var rules struct {
		Groups []struct {
			Rules []struct{ Name, Health, LastError string }
		}
	}
	p.api("rules", nil, &rules)
	seen := 0
	for _, g := range rules.Groups {
		for _, r := range g.Rules {
			seen++
			if r.Health != "ok" {
				t.Errorf("rule %s is %s: %s", r.Name, r.Health, r.LastError)
			}
		}
	}
	if seen < 20 {
		t.Errorf("%d rules", seen)
	}
	if got := p.alerts(); len(got) > 0 {
		t.Errorf("alerts while all is well: %q", got)
	}

	redis.Kill()
	eventually(t, "an alert says that Redis is away", func() bool { return slices.Contains(p.alerts(), "PatchbayBusAway ") })
	eventually(t, "the reason is in the metrics", func() bool { return len(p.query(`patchbay_not_ready{reason="bus"} == 1`)) == 2 })
	if got := p.alerts(); slices.ContainsFunc(got, func(name string) bool { return strings.HasPrefix(name, "PatchbayDeaf") }) {
		t.Errorf("no node is deaf: %q", got)
	}
	redis.Restart(t)
	eventually(t, "it is back", func() bool { return len(p.query("sum(patchbay_ready) == 2")) == 1 })

	b.end()
	eventually(t, "an alert says that a node is gone", func() bool {
		return slices.Contains(p.alerts(), "PatchbayDown "+b.AdminAddr().String())
	})
}
