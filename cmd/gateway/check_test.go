package main_test

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed-0b620db0/patchbay/internal/redistest"
	"github.com/seed-0b620db0/patchbay/internal/siotest"
)

// report is what docs/check.md says of the object.
type report struct {
	OK            *bool
	Node, Adapter string
	Build         struct{ Version, Commit, Go, Platform string }
	Time          time.Time
	Seconds       float64
	Counts        map[string]int
	Findings      []struct{ Check, Status, Text, Advice string }
	Peers         []struct {
		Tag, Addr string
		Started   time.Time
		Self      bool
		Reachable *bool
		LatencyMS float64 `json:"latency_ms"`
		SkewMS    float64 `json:"clock_skew_ms"`
	}
	Capacity *struct {
		Clients int64
		Limits  []struct {
			Name, Text  string
			Value       int64
			Direct      *int64
			BehindNginx *int64 `json:"behind_nginx"`
		}
		Direct *struct {
			Clients int64
			Limit   string
		}
		BehindNginx *struct {
			Clients int64
			Limit   string
		} `json:"behind_nginx"`
	}
}

// checkJSON runs the command. No key of its answer is unknown.
func checkJSON(t *testing.T, env []string, args ...string) (code int, r report) {
	t.Helper()
	code, stdout, stderr := execute(t, env, append([]string{"check", "-json"}, args...)...)
	d := json.NewDecoder(strings.NewReader(stdout))
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil || stderr != "" || r.OK == nil {
		t.Fatalf("%v: %s%s", err, stdout, stderr)
	}
	if *r.OK != (code == 0) || len(r.Findings) == 0 || r.Time.IsZero() || r.Build.Go == "" {
		t.Errorf("exit %d: %s", code, stdout)
	}
	return code, r
}

func (r *report) status(check string) (all []string) {
	for _, f := range r.Findings {
		if f.Check == check {
			all = append(all, f.Status)
		}
	}
	return all
}

func TestCheck(t *testing.T) {
	env := []string{"GATEWAY_ADDR=127.0.0.1:0", "GATEWAY_ADMIN_ADDR=127.0.0.1:0", "GATEWAY_JWT_SECRET=" + secret, "GATEWAY_NODE=n1"}
	code, stdout, stderr := execute(t, env, "check")
	for _, want := range []string{"Configuration\n", "This node\n", "This host\n", "Capacity\n", "  ok    config.valid ", "  warn  config.jwt ", "-> ", " failures, in "} {
		if !strings.Contains(stdout, want) {
			t.Errorf("no %q", want)
		}
	}
	if code != 0 || stderr != "" || strings.Contains(stdout, secret) {
		t.Errorf("exit %d: %s%s", code, stdout, stderr)
	}
	code, r := checkJSON(t, env, "-clients=1234567890")
	if code != 0 || r.Node != "n1" || r.Adapter != "memory" || r.Capacity.Clients != 1234567890 || !slices.Contains(r.status("capacity.clients"), "warn") {
		t.Errorf("exit %d: %+v", code, r)
	}
	code, r = checkJSON(t, append(env, "GATEWAY_PING_INTERVAL=soon"))
	if code != 1 || r.Capacity != nil || r.status("config.valid")[0] != "fail" {
		t.Errorf("exit %d: %+v", code, r)
	}
	for args, want := range map[string]string{"check now": `unknown argument "now"`, "check -now": "-now", "check -clients=-1": "-clients", "check -clients=many": "-clients"} {
		if code, stdout, stderr := execute(t, env, strings.Fields(args)...); code != 2 || stdout != "" || !strings.Contains(stderr, want) {
			t.Errorf("%s: exit %d: %s%s", args, code, stdout, stderr)
		}
	}
	if code, _, stderr := execute(t, env, "check", "-help"); code != 0 || !strings.Contains(stderr, "-clients") {
		t.Errorf("exit %d: %s", code, stderr)
	}
}

// It runs beside the node, which does not notice.
func TestCheckBesideTheNode(t *testing.T) {
	s := redistest.Start(t)
	var addrs []string
	for range 2 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		addrs = append(addrs, l.Addr().String())
		_ = l.Close()
	}
	env := []string{
		"GATEWAY_ADDR=" + addrs[0], "GATEWAY_ADMIN_ADDR=" + addrs[1], "GATEWAY_NODE=n1", "GATEWAY_ADAPTER=redis", "GATEWAY_REDIS_URL=" + s.URL(),
		"GATEWAY_PEER_SECRET=" + secret, "GATEWAY_JWT_SECRET=" + secret,
	}
	code, r := checkJSON(t, env)
	if code != 0 || r.status("node.addr")[0] != "ok" || r.status("peers.tag")[0] != "ok" || len(r.Peers) != 0 {
		t.Errorf("before: exit %d: %+v", code, r)
	}
	p := start(t, env...)
	deadline := time.Now().Add(siotest.Patience)
	for p.status(p.admin+"/readyz") != http.StatusOK {
		if time.Now().After(deadline) {
			t.Fatal("not ready")
		}
		time.Sleep(5 * time.Millisecond) // there is nothing to wait on
	}
	w := p.client().Open()
	before := p.lines()
	for range 3 {
		code, r = checkJSON(t, env)
		if code != 0 || r.status("node.running") == nil || len(r.Peers) != 1 || !r.Peers[0].Self || r.Peers[0].Reachable == nil || !*r.Peers[0].Reachable {
			t.Errorf("beside: exit %d: %+v", code, r)
		}
	}
	w.Send("40{}")
	w.Expect(`44{"message":"Token required"}`)
	for _, line := range p.lines()[len(before):] {
		if line["level"] != "DEBUG" {
			t.Errorf("the node has noticed: %v", line)
		}
	}
	env[2] = "GATEWAY_NODE=n2"
	code, r = checkJSON(t, env)
	if code != 1 || r.status("node.admin_addr")[0] != "fail" || r.status("node.addr")[0] != "fail" {
		t.Errorf("another node: exit %d: %s", code, fmt.Sprint(r))
	}
}
