package operations_test

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/seed-0b620db0/patchbay/internal/daemon"
)

// kind is a balancer, and what it can do.
type kind struct {
	name  string
	start func(*lab) *front

	asksAgain bool // a handshake that one node refuses goes to another: its clients see no 503
	checks    bool // it asks /readyz
	json      bool // its own errors are JSON
	counts    bool // whoever opens a session goes to the node with the fewest connections of all
	limits    int  // how many sessions an address may surely open at once; 0 if there is no limit
	after     func(*front)
	lingers   bool // who sends too much can read that it was too much
}

var kinds = []kind{
	{name: "nginx", start: startNginx, after: nothingInFiles, asksAgain: true, json: true, lingers: true},
	// Its threads, one for each core, count first and look then: of two at the limit neither may get in.
	{name: "haproxy", start: startHAProxy, limits: 1001 - runtime.NumCPU(), asksAgain: true, checks: true, json: true},
	{name: "caddy", start: startCaddy, counts: true, checks: true, json: true, lingers: true},
}

// optional are run if the environment says where they are.
var optional = []kind{
	{name: "nginx_sticky", start: startNginxSticky, after: nothingInFiles, counts: true, asksAgain: true, json: true, lingers: true},
	{name: "traefik", start: startTraefik, limits: 1000, checks: true, lingers: true},
	{name: "envoy", start: startEnvoy, asksAgain: true, checks: true, json: true, lingers: true},
}

func eachKind(t *testing.T, test func(*testing.T, kind)) {
	t.Helper()
	all := kinds
	for _, k := range optional {
		if os.Getenv("BALANCERS_"+strings.ToUpper(k.name)) != "" {
			all = append(all, k)
		}
	}
	for _, k := range all {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			test(t, k)
		})
	}
}

// names replaces those of the nodes, with the port after them.
func (l *lab) names() []string {
	var pairs []string
	for i := 1; i <= 3; i++ {
		pairs = append(pairs, tag(i)+":3000", l.addr(i, l.public))
	}
	return pairs
}

// nginx installs the files of nginx. The folders it would keep files in are made where the test may.
func (l *lab) nginx(nodes string) *front {
	l.t.Helper()
	f := l.newFront()
	temp := "http {"
	for _, name := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		temp += fmt.Sprintf("\n%s_temp_path %s/%s;", name, f.dir, name)
	}
	f.install("nginx/nginx.conf", "/var/log/nginx", f.dir, "/run/nginx.pid", f.dir+"/nginx.pid", "http {", temp)
	f.install("nginx/patchbay-http.conf")
	f.install("nginx/patchbay-locations.conf")
	f.install("nginx/patchbay.conf", "/var/log/nginx", f.dir,
		"listen 8080 ", fmt.Sprintf("listen %s:%d ", daemon.Loopback, f.port), "127.0.0.1:8081", fmt.Sprintf("%s:%d", daemon.Loopback, f.status))
	f.install("nginx/"+nodes, l.names()...)
	return f
}

func (f *front) runNginx(program string) {
	f.l.t.Helper()
	f.run(program, "-p", f.dir, "-c", f.dir+"/nginx.conf", "-e", "stderr", "-g", "daemon off;")
}

func startNginx(l *lab) *front {
	f := l.nginx("patchbay-nodes.conf")
	f.runNginx(program(l.t, "nginx"))
	return f
}

func startNginxSticky(l *lab) *front {
	f := l.nginx("sticky.conf")
	f.edit("nginx.conf", "patchbay-nodes.conf", "sticky.conf")
	f.runNginx(program(l.t, "nginx_sticky"))
	return f
}

func startHAProxy(l *lab) *front {
	f := l.newFront()
	f.install("balancers/haproxy/haproxy.cfg", append(l.names(),
		"bind :8080", fmt.Sprintf("bind %s:%d", daemon.Loopback, f.port), "port 9090", fmt.Sprint("port ", l.peer))...)
	f.run(program(l.t, "haproxy"), "-W", "-f", "haproxy.cfg")
	return f
}

func startCaddy(l *lab) *front {
	f := l.newFront()
	f.install("balancers/caddy/Caddyfile", append(l.names(),
		"\n:8080 {", fmt.Sprintf("\nhttp://%s:%d {", daemon.Loopback, f.port), "health_port 9090", fmt.Sprint("health_port ", l.peer),
		"\n{\n", "\n{\nadmin off\n")...)
	f.run(program(l.t, "caddy"), "run", "--adapter", "caddyfile", "--config", "Caddyfile")
	return f
}

func startTraefik(l *lab) *front {
	f := l.newFront()
	f.install("balancers/traefik/traefik.yml", `":8080"`, fmt.Sprintf(`"%s:%d"`, daemon.Loopback, f.port), "127.0.0.1:8081", fmt.Sprintf("%s:%d", daemon.Loopback, f.status))
	f.install("balancers/traefik/dynamic.yml", append(l.names(), "port: 9090", fmt.Sprint("port: ", l.peer))...)
	f.run(program(l.t, "traefik"), "--configFile=traefik.yml")
	return f
}

func startEnvoy(l *lab) *front {
	f := l.newFront()
	pairs := []string{
		"address: 0.0.0.0, port_value: 8080", fmt.Sprintf("address: %s, port_value: %d", daemon.Loopback, f.port),
		"port_value: 3000", fmt.Sprint("port_value: ", l.public), "port_value: 9090", fmt.Sprint("port_value: ", l.peer),
		"port_value: 9901", fmt.Sprint("port_value: ", f.status),
	}
	for i := 1; i <= 3; i++ {
		pairs = append(pairs, "address: "+tag(i), "address: "+l.prefix+strconv.Itoa(i))
	}
	f.install("balancers/envoy/envoy.yaml", pairs...)
	f.run(program(l.t, "envoy"), "-c", "envoy.yaml", "--use-dynamic-base-id", "--concurrency", "2", "--log-level", "warning")
	return f
}
