package main_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/seed-0b620db0/patchbay/internal/siotest"
)

// get returns a body.
func (p *process) get(addr string) string {
	p.t.Helper()
	r := siotest.New(p.t, "", "").Do(http.MethodGet, addr, nil, nil)
	if r.Err != nil {
		p.t.Fatal(r.Err)
	}
	return r.Body
}

func TestHealth(t *testing.T) {
	p := start(t, "GATEWAY_SHUTDOWN_DELAY=1m")
	_, port, err := net.SplitHostPort(strings.TrimPrefix(p.admin, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	// A proxy is for the way out, and what else is wrong has no say here.
	around := []string{"HTTP_PROXY=http://127.0.0.1:1", "http_proxy=http://127.0.0.1:1", "GATEWAY_PING_INTERVAL=nonsense"}
	for _, addr := range []string{"127.0.0.1:", ":", "0.0.0.0:", "[::]:", "localhost:"} {
		for _, args := range []string{"health", "health -ready", "health --ready -addr=" + p.admin, "health -addr 127.0.0.1:" + port} {
			env := append(around, "GATEWAY_ADMIN_ADDR="+addr+port)
			if code, stdout, stderr := execute(t, env, strings.Fields(args)...); code != 0 || stdout+stderr != "" {
				t.Errorf("%s on %s: exit %d: %s", args, addr, code, stderr)
			}
		}
	}
	p.signal(syscall.SIGTERM)
	deadline := time.Now().Add(siotest.Patience)
	for p.status(p.admin+"/readyz") != http.StatusServiceUnavailable {
		if time.Now().After(deadline) {
			t.Fatal("still ready")
		}
		time.Sleep(5 * time.Millisecond) // the signal leaves no other trace
	}
	env := []string{"GATEWAY_ADMIN_ADDR=:" + port}
	if code, _, stderr := execute(t, env, "health"); code != 0 {
		t.Errorf("alive: exit %d: %s", code, stderr)
	}
	if code, _, stderr := execute(t, env, "health", "-ready"); code != 1 || stderr != "gateway health: not ready: shutting down\n" {
		t.Errorf("ready: exit %d: %s", code, stderr)
	}
}

// On all addresses means on those of IPv6 too.
func TestHealthIPv6(t *testing.T) {
	l, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})}
	go func() { _ = s.Serve(l) }() // ends by Close
	defer s.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if code, _, stderr := execute(t, []string{"GATEWAY_ADMIN_ADDR=[::]:" + port}, "health"); code != 0 {
		t.Errorf("exit %d: %s", code, stderr)
	}
}

func TestHealthFails(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0") // takes connections, and no more
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	broken := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/healthz":
			w.WriteHeader(http.StatusInternalServerError)
		default:
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = io.WriteString(w, `{"ready":false,"reasons":["bus of /: down","not registered"]}`)
		}
	}))
	defer broken.Close()
	moved := httptest.NewServer(http.RedirectHandler(broken.URL, http.StatusFound))
	defer moved.Close()
	for _, c := range []struct {
		addr, args string
		code       int
		want       string
	}{
		{"127.0.0.1:1", "health", 1, "connection refused"},
		{silent.Addr().String(), "health", 1, "no answer within 2s"},
		{broken.Listener.Addr().String(), "health", 1, "gateway health: status 500\n"},
		{broken.Listener.Addr().String(), "health -ready", 1, "gateway health: not ready: bus of /: down\ngateway health: not ready: not registered\n"},
		{moved.Listener.Addr().String(), "health", 1, "status 302"},
		{"nonsense", "health", 1, "GATEWAY_ADMIN_ADDR: "},
		{"127.0.0.1:nonsense", "health", 1, "GATEWAY_ADMIN_ADDR: "},
		{"127.0.0.1:0", "health", 1, "GATEWAY_ADMIN_ADDR: port 0"},
		{"127.0.0.1:1", "health now", 2, `unknown argument "now"`},
		{"127.0.0.1:1", "health -now", 2, "-now"},
		{"127.0.0.1:1", "health -help", 0, "-ready"},
	} {
		begin := time.Now()
		code, stdout, stderr := execute(t, []string{"GATEWAY_ADMIN_ADDR=" + c.addr}, strings.Fields(c.args)...)
		what := fmt.Sprintf("%s of %s", c.args, c.addr)
		if code != c.code || stdout != "" || !strings.Contains(stderr, c.want) {
			t.Errorf("%s: exit %d: %s", what, code, stderr)
		}
		if took := time.Since(begin); took > 10*time.Second {
			t.Errorf("%s took %v", what, took)
		}
	}
}
