package k8s_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

const domain = "patchbay.svc.cluster.test"

// names answers for a cluster's DNS, and remembers what it was asked.
type names struct {
	addrs map[string][4]byte // by full name

	mu    sync.Mutex
	asked []string
}

func (n *names) serve(conn net.PacketConn) {
	buf := make([]byte, 512)
	for {
		size, from, err := conn.ReadFrom(buf)
		if err != nil {
			return
		}
		var m dnsmessage.Message
		if m.Unpack(buf[:size]) != nil || len(m.Questions) != 1 {
			continue
		}
		q := m.Questions[0]
		n.mu.Lock()
		n.asked = append(n.asked, q.Name.String())
		n.mu.Unlock()
		m.Response, m.RecursionAvailable = true, true
		switch addr, ok := n.addrs[q.Name.String()]; {
		case !ok:
			m.RCode = dnsmessage.RCodeNameError
		case q.Type == dnsmessage.TypeA:
			m.Answers = []dnsmessage.Resource{{
				Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 5}, Body: &dnsmessage.AResource{A: addr},
			}}
		}
		if out, err := m.Pack(); err == nil {
			_, _ = conn.WriteTo(out, from) // it asks again
		}
	}
}

// names returns what it was asked since the last call.
func (n *names) take() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	asked := n.asked
	n.asked = nil
	return asked
}

// arrivals are the requests that came to all backends: "name method body".
type arrivals struct {
	mu   sync.Mutex
	list []string
}

func (a *arrivals) add(s string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.list = append(a.list, s)
}

func (a *arrivals) take() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	list := a.list
	a.list = nil
	return list
}

// backend listens on an address as a pod would.
func (a *arrivals) backend(t *testing.T, name, addr string) net.Addr {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		a.add(strings.TrimSpace(name + " " + r.Method + " " + string(body) + " " + r.Header.Get("Upgrade")))
		if string(body) == "die" {
			panic(http.ErrAbortHandler)
		}
		_, _ = io.WriteString(w, name)
	})}
	done := make(chan struct{})
	go func() { // ends with Close
		defer close(done)
		_ = srv.Serve(l)
	}()
	t.Cleanup(func() {
		_ = srv.Close()
		<-done
	})
	return l.Addr()
}

// balancer runs nginx with the files of the component and the pod's own script, told of other addresses and folders.
func balancer(t *testing.T, dns, service net.Addr, podPort int) (url string) {
	t.Helper()
	nginx, err := exec.LookPath("nginx")
	if err != nil {
		if nginx, err = exec.LookPath("/usr/sbin/nginx"); err != nil {
			t.Fatal("nginx is not installed: scripts/need nginx")
		}
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := free.Addr().String()
	dir := t.TempDir()
	run := filepath.Join(dir, "run")
	replace := strings.NewReplacer(
		"listen 8080", "listen "+addr, "listen 127.0.0.1:8081", "listen unix:"+run+"/status.sock",
		"s/@RESOLVER@/$resolver/; ", "", "@RESOLVER@", dns.String(), "gateway.@DOMAIN@:80", service.String(), ":3000", fmt.Sprintf(":%d", podPort),
		"/etc/resolv.conf", dir+"/resolv.conf", "/config/", dir+"/", "/run/nginx", run, "exec nginx", "exec "+nginx,
		"/var/log/nginx/access.log", run+"/access.log",
	)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.Mkdir(run, 0o755))
	must(os.WriteFile(dir+"/resolv.conf", []byte("nameserver 127.0.0.53\nsearch "+domain+" svc.cluster.test cluster.test\noptions ndots:5\n"), 0o600))
	for _, folder := range []string{manifest + "/components/nginx", "deploy/nginx"} {
		entries, err := os.ReadDir(filepath.Join(repo, folder))
		must(err)
		for _, e := range entries {
			if _, err := os.Stat(filepath.Join(dir, e.Name())); err == nil || e.IsDir() {
				continue // the component's own goes first
			}
			text, err := os.ReadFile(filepath.Join(repo, folder, e.Name()))
			must(err)
			must(os.WriteFile(filepath.Join(dir, e.Name()), []byte(replace.Replace(string(text))), 0o600))
		}
	}
	must(free.Close())
	cmd := exec.Command("sh", filepath.Join(dir, "start.sh"))
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	must(cmd.Start())
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }() // ends with the process
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		if err := <-done; err != nil {
			t.Errorf("nginx: %v", err)
		}
	})
	deadline := time.Now().Add(10 * time.Second)
	for {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			_ = conn.Close()
			return "http://" + addr
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		select {
		case err := <-done:
			done <- err
			t.Fatalf("nginx ended: %v", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// TestNginxFindsTheOwner runs the balancer of components/nginx with a DNS server that knows two pods, one of which is gone.
func TestNginxFindsTheOwner(t *testing.T) {
	var arrived arrivals
	owner := arrived.backend(t, "owner", "127.0.0.2:0").(*net.TCPAddr)
	service := arrived.backend(t, "service", "127.0.0.1:0")
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	const headless = ".gateway-headless." + domain + "."
	dns := &names{addrs: map[string][4]byte{
		"127-0-0-2" + headless: {127, 0, 0, 2}, "127-0-0-9" + headless: {127, 0, 0, 9},
		"127-0-0-2." + domain + ".": {127, 0, 0, 66}, "evil.example.": {127, 0, 0, 66}, // nobody may get there
	}}
	served := make(chan struct{})
	go func() { // ends with conn
		defer close(served)
		dns.serve(conn)
	}()
	t.Cleanup(func() {
		_ = conn.Close()
		<-served
	})
	url := balancer(t, conn.LocalAddr(), service, owner.Port)

	for _, c := range []struct {
		name, sid, body, upgrade string
		want                     []string // what arrives
		status                   int
		asks                     bool // the DNS
	}{
		{"a handshake", "", "", "", []string{"service GET"}, 200, false},
		{"a WebSocket of its own", "", "", "websocket", []string{"service GET  websocket"}, 200, false},
		{"a poll", "x.127-0-0-2", "", "", []string{"owner GET"}, 200, true},
		{"a POST", "x.127-0-0-2", "hello", "", []string{"owner POST hello"}, 200, true},
		{"an upgrade", "x.127-0-0-2", "", "websocket", []string{"owner GET  websocket"}, 200, true},
		{"a pod whose name is gone", "x.10-1-2-3", "hello", "", []string{"service POST hello"}, 200, true},
		{"a pod that does not answer", "x.127-0-0-9", "hello", "", []string{"service POST hello"}, 200, true},
		{"a pod that breaks off", "x.127-0-0-2", "die", "", []string{"owner POST die"}, 502, true},
		{"IPv6", "x.fd00-10-244--1f", "", "", []string{"service GET"}, 200, true},
		{"a tag of another form", "x.gateway-1", "", "", []string{"service GET"}, 200, false},
		{"no tag", "xyz", "", "", []string{"service GET"}, 200, false},
		{"a name of its own", "x.evil.example", "", "", []string{"service GET"}, 200, false},
		{"an address", "x.127.0.0.66", "", "", []string{"service GET"}, 200, false},
		{"one name below another", "x.127-0-0-2.127-0-0-2", "", "", []string{"owner GET"}, 200, true},
		{"a dot that is hidden", "x.127-0-0-2%2eevil%2eexample", "", "", []string{"service GET"}, 200, false},
		{"a port", "x.127-0-0-2:22", "", "", []string{"service GET"}, 200, false},
		{"the end of a name", "x.127-0-0-2.evil.example%00", "", "", []string{"service GET"}, 200, false},
		{"a path", "x.127-0-0-2/@evil.example", "", "", []string{"service GET"}, 200, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			method := http.MethodGet
			if c.body != "" {
				method = http.MethodPost
			}
			req, err := http.NewRequestWithContext(ctx, method, url+"/socket.io/?EIO=4&transport=polling&sid="+c.sid, strings.NewReader(c.body))
			if err != nil {
				t.Fatal(err)
			}
			if c.upgrade != "" {
				req.Header.Set("Upgrade", c.upgrade)
				req.Header.Set("Connection", "Upgrade")
			}
			res, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, res.Body)
			_ = res.Body.Close()
			if res.StatusCode != c.status {
				t.Errorf("answered %d, want %d", res.StatusCode, c.status)
			}
			if got := arrived.take(); !slices.Equal(got, c.want) {
				t.Errorf("%q, want %q", got, c.want)
			}
			asked := dns.take()
			if len(asked) > 0 && !c.asks {
				t.Errorf("DNS was asked for %q", asked)
			}
			for _, name := range asked {
				if label, ok := strings.CutSuffix(name, headless); !ok || strings.Contains(label, ".") {
					t.Errorf("DNS was asked for %q", name)
				}
			}
		})
	}
}
