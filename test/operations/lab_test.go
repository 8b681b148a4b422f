// Package operations_test runs clusters as an operator has them, with stock clients: behind the balancers, through the files of
// deploy/nginx and deploy/balancers as they are; through kills, drains, restarts of everything, and a storm of reconnects.
//
// # What is substituted
//
// Nodes have addresses of loopback of their own (127.x.y.1 and so on), which take the place of their names, so that their
// ports are the same, as in production; the ports (3000, 9090) are replaced by free ones, and so are what a balancer listens
// on and the folders it writes to. Everything else is what is in the file.
//
// # What is run
//
// nginx, HAProxy and Caddy are Debian's. Others are run if the environment says where they are:
//
//	BALANCERS_NGINX_STICKY   an nginx from 1.29.6 on, with sticky.conf
//	BALANCERS_NGINX          another nginx than the one on PATH
//	BALANCERS_CADDY          another Caddy, likewise
//	BALANCERS_TRAEFIK, BALANCERS_ENVOY
package operations_test

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/seed-0b620db0/patchbay/internal/daemon"
	"github.com/seed-0b620db0/patchbay/internal/redistest"
	"github.com/seed-0b620db0/patchbay/internal/siotest"
)

// delay is how long a node that ends waits for its balancer. The checks of all balancers need less.
const delay = 4 * time.Second

var (
	builtMu sync.Mutex
	built   []string // the folders that TestMain removes
)

// TestMain makes this very program the clients of a node that dies when it is started as that.
func TestMain(m *testing.M) {
	if addrs := os.Getenv(refugeeVariable); addrs != "" {
		runRefugees(addrs)
		return
	}
	m.Run()
	for _, dir := range built {
		_ = os.RemoveAll(dir) // of the system's temporary folder
	}
}

// binary builds the gateway, with the race detector if the tests have it; plain never.
var (
	binary = sync.OnceValues(func() (string, error) { return build(raceEnabled) })
	plain  = sync.OnceValues(func() (string, error) { return build(false) })
)

func build(race bool) (string, error) {
	dir, err := os.MkdirTemp("", "operations")
	if err != nil {
		return "", err
	}
	builtMu.Lock()
	built = append(built, dir)
	builtMu.Unlock()
	out := filepath.Join(dir, "gateway")
	text, err := exec.Command("go", "build", "-race="+strconv.FormatBool(race), "-o", out, "../../cmd/gateway").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, text)
	}
	return out, nil
}

// lab are three nodes on one Redis. Nothing is forwarded between them.
type lab struct {
	t            *testing.T
	gateway      string
	redis        *redistest.Server // unless they are on another bus
	vars         []string          // of all nodes, NAME=value, without the prefix
	prefix       string            // of their addresses: "127.1.2."
	public, peer int               // their ports

	mu sync.Mutex
	// guarded by mu
	nodes map[int]*daemon.Daemon
}

// newLab starts no node yet.
func newLab(t *testing.T) *lab {
	t.Helper()
	server := redistest.Start(t)
	// Short pings, so that a poll that waits is answered by one many times in a test; patience, as the machine may be slow.
	l := newLabOn(t, "ADAPTER=redis", "REDIS_URL="+server.URL(), "PING_INTERVAL=1s", "PING_TIMEOUT=20s", "SHUTDOWN_DELAY="+delay.String(), "DRAIN_WINDOW=1s")
	l.redis = server
	return l
}

// newLabOn is newLab with whatever vars say that nodes have in common.
func newLabOn(t *testing.T, vars ...string) *lab {
	t.Helper()
	if runtime.GOOS != "linux" {
		siotest.Missing(t, "these tests need Linux, whose loopback is a whole network")
	}
	l := &lab{t: t, vars: vars, nodes: map[int]*daemon.Daemon{}}
	l.prefix = fmt.Sprintf("127.%d.%d.", 1+rand.IntN(250), rand.IntN(250))
	l.public, l.peer = l.port(), l.port()
	var err error
	if l.gateway, err = binary(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.endAll)
	return l
}

// endAll kills the nodes there are.
func (l *lab) endAll() {
	for i := range l.nodes {
		l.end(i, syscall.SIGKILL)
	}
}

// port returns one that is free on the addresses of all nodes.
func (l *lab) port() int {
	l.t.Helper()
	for range 20 {
		port, err := daemon.FreePort()
		if err != nil {
			l.t.Fatal(err)
		}
		var errs error
		for i := 1; i <= 3; i++ {
			ln, err := net.Listen("tcp", l.addr(i, port))
			if errs = errors.Join(errs, err); err == nil {
				_ = ln.Close()
			}
		}
		if errs == nil {
			return port
		}
	}
	l.t.Fatal("no port is free")
	return 0
}

func (l *lab) addr(i, port int) string {
	return net.JoinHostPort(l.prefix+strconv.Itoa(i), strconv.Itoa(port))
}

func tag(i int) string { return fmt.Sprint("gateway-", i) }

// launch starts a node, which tells its log when it is ready. vars are NAME=value, without the prefix.
func (l *lab) launch(i int, text string, vars ...string) {
	l.t.Helper()
	cmd := exec.Command(l.gateway)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	own := []string{"ADDR=" + l.addr(i, l.public), "ADMIN_ADDR=" + l.addr(i, l.peer), "NODE=" + tag(i), "RELAY=true", "START_TIMEOUT=0"}
	for _, v := range slices.Concat(own, l.vars, vars) {
		cmd.Env = append(cmd.Env, "GATEWAY_"+v)
	}
	d, err := daemon.Start(cmd, nil, text)
	if err != nil {
		l.t.Fatal(err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.nodes[i] = d
}

// start starts a node and waits until it is ready.
func (l *lab) start(i int, vars ...string) {
	l.t.Helper()
	l.launch(i, `"msg":"ready"`, vars...)
}

// end ends a node, and returns when it has.
func (l *lab) end(i int, sig syscall.Signal) {
	l.mu.Lock()
	d := l.nodes[i]
	delete(l.nodes, i)
	l.mu.Unlock()
	if d == nil {
		return
	}
	d.End(sig)
	if out := string(d.Output()); strings.Contains(out, "DATA RACE") {
		l.t.Errorf("%s: %s", tag(i), out)
	}
}

// samples are the values of a scrape by series.
type samples map[string]float64

func (l *lab) scrape(i int) samples {
	l.t.Helper()
	r := siotest.New(l.t, "", "").Do(http.MethodGet, "http://"+l.addr(i, l.peer)+"/metrics", nil, nil)
	if r.Err != nil || r.Status != http.StatusOK {
		l.t.Fatalf("scrape of %s: %d %v", tag(i), r.Status, r.Err)
	}
	out := samples{}
	for line := range strings.Lines(r.Body) {
		if series, value, ok := strings.Cut(strings.TrimSpace(line), " "); ok && strings.HasPrefix(line, "patchbay_") {
			out[series], _ = strconv.ParseFloat(value, 64) // labels with a space are of no interest here
		}
	}
	if len(out) == 0 {
		l.t.Fatalf("scrape of %s: nothing", tag(i))
	}
	return out
}

// front is a balancer that runs.
type front struct {
	*daemon.Daemon
	l      *lab
	dir    string
	port   int    // that clients use
	status int    // of its own, if there is one
	base   string // for clients
}

// program is a command that Debian or the environment has.
func program(t *testing.T, name string) string {
	t.Helper()
	if path := os.Getenv("BALANCERS_" + strings.ToUpper(name)); path != "" {
		return path
	}
	path, err := exec.LookPath(name)
	if err != nil {
		path, err = exec.LookPath("/usr/sbin/" + name)
	}
	if err != nil {
		siotest.Missing(t, name+" is missing: run scripts/need "+name)
	}
	return path
}

// newFront returns one whose files are not there yet.
func (l *lab) newFront() *front {
	l.t.Helper()
	f := &front{l: l, dir: l.t.TempDir()}
	for _, port := range []*int{&f.port, &f.status} {
		var err error
		if *port, err = daemon.FreePort(); err != nil {
			l.t.Fatal(err)
		}
	}
	f.base = "http://" + net.JoinHostPort(daemon.Loopback, strconv.Itoa(f.port))
	return f
}

// install copies a committed file into the folder of the balancer, with the nodes' names and ports replaced, and pairs of what a
// balancer has of its own. Each must be in the file.
func (f *front) install(file string, pairs ...string) {
	f.l.t.Helper()
	data, err := os.ReadFile(filepath.Join("../../deploy", file))
	if err != nil {
		f.l.t.Fatal(err)
	}
	f.write(filepath.Join(f.dir, filepath.Base(file)), string(data), pairs)
}

// edit changes a file that is installed.
func (f *front) edit(file string, pairs ...string) {
	f.l.t.Helper()
	path := filepath.Join(f.dir, file)
	data, err := os.ReadFile(path)
	if err != nil {
		f.l.t.Fatal(err)
	}
	f.write(path, string(data), pairs)
}

func (f *front) write(path, text string, pairs []string) {
	f.l.t.Helper()
	for i := 0; i+1 < len(pairs); i += 2 {
		if !strings.Contains(text, pairs[i]) {
			f.l.t.Fatalf("%s has no %q", path, pairs[i])
		}
		text = strings.ReplaceAll(text, pairs[i], pairs[i+1])
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		f.l.t.Fatal(err)
	}
}

// run starts it, until the end of the test.
func (f *front) run(args ...string) {
	f.l.t.Helper()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir = f.dir
	var err error
	if f.Daemon, err = daemon.Start(cmd, nil); err != nil {
		f.l.t.Fatal(err)
	}
	f.l.t.Cleanup(func() {
		f.End(syscall.SIGKILL)
		if f.l.t.Failed() {
			f.l.t.Logf("%s: %s", args[0], f.Output())
		}
	})
	eventually(f.l.t, args[0]+" listens", func() bool {
		select {
		case <-f.Ended():
			f.l.t.Fatalf("%s has ended", args[0])
		default:
		}
		conn, err := net.Dial("tcp", strings.TrimPrefix(f.base, "http://"))
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
}

// eventually waits for a condition that no event tells of.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(siotest.Patience)
	for pause := time.Millisecond; !cond(); pause = min(2*pause, 50*time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("still not: %s", what)
		}
		time.Sleep(pause) // there is nothing to wait on
	}
}

// url is an address behind the balancer: pairs are the query.
func (f *front) url(pairs ...string) string {
	q := url.Values{"EIO": {"4"}, "transport": {"polling"}}
	for i := 0; i+1 < len(pairs); i += 2 {
		q.Set(pairs[i], pairs[i+1])
	}
	return f.base + "/socket.io/?" + q.Encode()
}

func (f *front) do(method, addr string, header http.Header, body io.Reader) siotest.Response {
	f.l.t.Helper()
	r := siotest.New(f.l.t, "", "").Do(method, addr, header, body)
	if r.Err != nil {
		f.l.t.Errorf("%s %s: %v", method, addr, r.Err)
	}
	return r
}
