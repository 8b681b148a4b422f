package gateway_test

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/seed-0b620db0/patchbay/internal/siotest"
)

// The upstreams take turns, which is what nginx does if it is told nothing else.
const nginxConf = `
daemon off;
master_process off;
pid nginx.pid;
error_log stderr warn;
events {}
http {
	log_format line '$status $upstream_addr $request_method $request_uri';
	access_log access.log line;
	client_body_temp_path body;
	proxy_temp_path proxy;
	fastcgi_temp_path fastcgi;
	uwsgi_temp_path uwsgi;
	scgi_temp_path scgi;
	map $http_upgrade $connection_upgrade {
		default upgrade;
		"" "";
	}
	upstream nodes {
		%s
		%s
	}
	server {
		listen %s;
		location / {
			proxy_pass http://nodes;
			proxy_http_version 1.1;
			proxy_set_header Host $http_host;
			proxy_set_header Upgrade $http_upgrade;
			proxy_set_header Connection $connection_upgrade;
			proxy_next_upstream off;
		}
	}
}
`

// The same behind nginx, with connections kept to the nodes and without.
func TestForwardingBehindNginx(t *testing.T) {
	if _, err := exec.LookPath("nginx"); err != nil {
		siotest.Missing(t, "nginx is missing: run scripts/need nginx")
	}
	for name, kept := range map[string]string{"closed": "", "kept": "keepalive 16;"} {
		t.Run(name, func(t *testing.T) {
			g := newGrid(t)
			a, b := g.start("RELAY=true"), g.start("RELAY=true")
			addr, log := startNginx(t, a, b, kept)
			stockClients(t, "http://"+addr, func() {
				turns := map[string]int{}
				for line := range strings.Lines(log()) {
					status, rest, _ := strings.Cut(line, " ")
					node, _, _ := strings.Cut(rest, " ")
					if status != "200" && status != "101" {
						t.Error(line)
					}
					turns[node]++
				}
				for _, n := range []*node{a, b} {
					if turns[strings.TrimPrefix(n.public, "http://")] < 50 {
						t.Errorf("who got how many: %v", turns)
					}
				}
			})
		})
	}
}

// startNginx runs it until the end of the test. log returns a line for each request that is over.
func startNginx(t *testing.T, a, b *node, kept string) (addr string, log func() string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0") // a port that is free a moment later
	if err != nil {
		t.Fatal(err)
	}
	addr = l.Addr().String()
	_ = l.Close()
	server := func(n *node) string { return "server " + strings.TrimPrefix(n.public, "http://") + ";" }
	dir := t.TempDir()
	conf := fmt.Sprintf(nginxConf, server(a), server(b)+kept, addr)
	if err := os.WriteFile(filepath.Join(dir, "nginx.conf"), []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("nginx", "-p", dir, "-c", "nginx.conf", "-e", "stderr")
	var stderr bytes.Buffer // read when it has ended
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // unless it has ended
		if err := cmd.Wait(); err != nil || t.Failed() {
			t.Errorf("nginx: %v\n%s", err, stderr.String())
		}
	})
	eventually(t, "nginx listens", func() bool {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
	return addr, func() string {
		text, err := os.ReadFile(filepath.Join(dir, "access.log"))
		if err != nil {
			t.Error(err)
		}
		return string(text)
	}
}
