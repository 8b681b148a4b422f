package main_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/seed-0b620db0/patchbay/internal/siotest"
)

var binary string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "gateway")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "gateway")
	if runtime.GOOS == "windows" {
		binary += ".exe"
	}
	if out, err := exec.Command("go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		panic(string(out))
	}
	return m.Run()
}

// execute runs the program to its end.
func execute(t *testing.T, env []string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	cmd := exec.Command(binary, args...)
	cmd.Env = env
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	timer := time.AfterFunc(siotest.Patience, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	if err := cmd.Run(); err != nil {
		exit, ok := errors.AsType[*exec.ExitError](err)
		if !ok {
			t.Fatal(err)
		}
		return exit.ExitCode(), out.String(), errs.String()
	}
	return 0, out.String(), errs.String()
}

const secret = "a secret of enough bytes"

func TestHelp(t *testing.T) {
	for _, flag := range []string{"-help", "--help", "-h"} {
		code, stdout, stderr := execute(t, []string{"GATEWAY_JWT_SECRET=" + secret}, flag)
		text := stdout + stderr
		if code != 0 || strings.Contains(text, secret) {
			t.Errorf("%s: exit %d: %s", flag, code, text)
		}
		for _, want := range []string{"GATEWAY_ADDR ", "[:3000]", "GATEWAY_ADMIN_ADDR ", "GATEWAY_RELAY ", "GATEWAY_JWT_SECRET ", "GATEWAY_SHUTDOWN_TIMEOUT "} {
			if !strings.Contains(text, want) {
				t.Errorf("%s: no %q in the help", flag, want)
			}
		}
	}
	if code, _, stderr := execute(t, nil, "-port=3000"); code != 2 || !strings.Contains(stderr, "GATEWAY_ADDR") {
		t.Errorf("an unknown flag: exit %d: %s", code, stderr)
	}
}

func TestBadStart(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	free := []string{"GATEWAY_ADDR=127.0.0.1:0", "GATEWAY_ADMIN_ADDR=127.0.0.1:0"}
	for _, c := range []struct{ set, name string }{
		{"GATEWAY_PING_INTERVAL=soon", "GATEWAY_PING_INTERVAL"},
		{"GATEWAY_MAX_SESSIONS=0", "GATEWAY_MAX_SESSIONS"},
		{"GATEWAY_JWT_SECRET=tiny-key", "GATEWAY_JWT_SECRET"},
		{"GATEWAY_JWT_PUBLIC_KEY_FILE=nowhere.pem", "GATEWAY_JWT_PUBLIC_KEY_FILE"},
		{"GATEWAY_PATH=/{", "GATEWAY_PATH"},
		{"GATEWAY_ADDR=nonsense", "GATEWAY_ADDR"},
		{"GATEWAY_ADDR=" + taken.Addr().String(), "GATEWAY_ADDR"},
		{"GATEWAY_ADMIN_ADDR=" + taken.Addr().String(), "GATEWAY_ADMIN_ADDR"},
	} {
		code, _, stderr := execute(t, append(free, c.set))
		if code != 1 || !strings.Contains(stderr, "gateway: "+c.name+": ") || strings.Contains(stderr, "goroutine ") || strings.Contains(stderr, "tiny-key") {
			t.Errorf("%s: exit %d: %s", c.set, code, stderr)
		}
	}
}

// Without Redis there is no start.
func TestNoRedis(t *testing.T) {
	env := []string{
		"GATEWAY_ADDR=127.0.0.1:0", "GATEWAY_ADMIN_ADDR=127.0.0.1:0", "GATEWAY_ADAPTER=redis", "GATEWAY_REDIS_URL=redis://:hunter2@127.0.0.1:1",
		"GATEWAY_PEER_SECRET=" + secret, "GATEWAY_START_TIMEOUT=1s", "GATEWAY_LOG_LEVEL=debug",
	}
	code, _, stderr := execute(t, env)
	if code != 1 || !strings.Contains(stderr, "gateway: GATEWAY_START_TIMEOUT: not ready after 1s: ") || !strings.Contains(stderr, "connection refused") {
		t.Errorf("exit %d: %s", code, stderr)
	}
	if strings.Contains(stderr, "hunter2") || strings.Contains(stderr, secret) || strings.Contains(stderr, "goroutine ") {
		t.Errorf("on standard error: %s", stderr)
	}
	for line := range strings.Lines(stderr) { // the client of Redis too has its place in the log
		if !strings.HasPrefix(line, "{") && !strings.HasPrefix(line, "gateway: ") {
			t.Errorf("not a line of the log: %s", line)
		}
	}
}

// process is a running gateway.
type process struct {
	t             *testing.T
	cmd           *exec.Cmd
	public, admin string
	ended         chan struct{}

	mu  sync.Mutex
	log []map[string]any
}

func start(t *testing.T, env ...string) *process {
	t.Helper()
	p := &process{t: t, cmd: exec.Command(binary), ended: make(chan struct{})}
	p.cmd.Env = append([]string{
		"GATEWAY_ADDR=127.0.0.1:0", "GATEWAY_ADMIN_ADDR=127.0.0.1:0", "GATEWAY_RELAY=true", "GATEWAY_JWT_SECRET=" + secret, "GATEWAY_DRAIN_WINDOW=0s",
	}, env...)
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	listening := make(chan map[string]any, 1)
	go func() { // ends with the process
		defer close(p.ended)
		lines := bufio.NewScanner(stderr)
		for lines.Scan() {
			var line map[string]any
			if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
				line = map[string]any{"msg": lines.Text()}
			}
			p.mu.Lock()
			p.log = append(p.log, line)
			p.mu.Unlock()
			if line["msg"] == "listening" {
				listening <- line
			}
		}
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill() // unless it has ended, as it should
		<-p.ended
	})
	select {
	case line := <-listening:
		p.public, p.admin = fmt.Sprintf("http://%v", line["addr"]), fmt.Sprintf("http://%v", line["admin_addr"])
	case <-p.ended:
		t.Fatalf("it did not start: %v", p.lines())
	case <-time.After(siotest.Patience):
		t.Fatal("it does not start")
	}
	return p
}

func (p *process) lines() []map[string]any {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]map[string]any(nil), p.log...)
}

func (p *process) signal(s os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// wait returns how the process ended, and fails the test if it does not within the bound.
func (p *process) wait(bound time.Duration) *os.ProcessState {
	p.t.Helper()
	begin := time.Now()
	timer := time.AfterFunc(siotest.Patience, func() { _ = p.cmd.Process.Kill() })
	defer timer.Stop()
	<-p.ended
	_ = p.cmd.Wait() // its result is in the state
	if took := time.Since(begin); took > bound {
		p.t.Errorf("it took %v to end", took)
	}
	return p.cmd.ProcessState
}

func (p *process) client() *siotest.Client { return siotest.New(p.t, p.public, "/socket.io/") }

func (p *process) status(addr string) int {
	p.t.Helper()
	r := siotest.New(p.t, "", "").Do(http.MethodGet, addr, nil, nil)
	if r.Err != nil {
		return 0
	}
	return r.Status
}

// Clients are sent away in a way that lets them come back: the transport closes, no namespace says DISCONNECT.
func TestTerminate(t *testing.T) {
	for _, signal := range []os.Signal{syscall.SIGTERM, os.Interrupt} {
		p := start(t)
		ws, waiting, idle := p.client().Open(), p.client(), p.client()
		ws.Send("40")
		ws.Expect(`44{"message":"Token required"}`)
		for _, c := range []*siotest.Client{waiting, idle} {
			c.Handshake()
		}
		poll := waiting.GetAsync()
		// A connection without a request, as balancers and browsers keep them.
		conn, err := net.Dial("tcp", strings.TrimPrefix(p.public, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		p.signal(signal)
		if code := ws.ExpectClose(); code != 1005 && code != 1000 && code != 1001 {
			t.Errorf("close code %d", code)
		}
		if r := poll.Wait(); r.Status != http.StatusOK || r.Body != "1" {
			t.Errorf("the waiting poll: %d %q %v", r.Status, r.Body, r.Err)
		}
		if state := p.wait(15 * time.Second); state.ExitCode() != 0 {
			t.Errorf("%v: %v: %v", signal, state, p.lines())
		}
		if log := p.lines(); log[len(log)-1]["msg"] != "stopped" {
			t.Errorf("the last line is %v", log[len(log)-1])
		}
	}
}

// Sockets in a namespace, over both transports.
func TestTerminateConnected(t *testing.T) {
	p := start(t, "GATEWAY_JWT_SECRET=", "GATEWAY_RECOVERY=true")
	ws := p.client().Open()
	ws.Connect("/", "")
	c := p.client()
	c.Handshake()
	c.Send("40")
	c.Poll()
	poll := c.GetAsync()
	p.signal(syscall.SIGTERM)
	for {
		f, err := ws.TryRecv(siotest.Patience)
		if err != nil {
			break
		}
		if strings.HasPrefix(f.Data, "41") {
			t.Errorf("a namespace said DISCONNECT: %v", f)
		}
	}
	if r := poll.Wait(); r.Status != http.StatusOK || r.Body != "1" {
		t.Errorf("the waiting poll: %d %q %v", r.Status, r.Body, r.Err)
	}
	if state := p.wait(10 * time.Second); state.ExitCode() != 0 {
		t.Errorf("%v: %v", state, p.lines())
	}
}

// The window is that of GATEWAY_DRAIN_WINDOW: the first client goes long before the last.
func TestDrainWindow(t *testing.T) {
	const n, window = 40, 2 * time.Second
	p := start(t, "GATEWAY_JWT_SECRET=", "GATEWAY_DRAIN_WINDOW="+window.String())
	var clients []*siotest.WS
	for range n {
		w := p.client().Open()
		w.Connect("/", "")
		clients = append(clients, w)
	}
	p.signal(syscall.SIGTERM)
	begun := time.Now()
	ends := make(chan time.Duration, n)
	for _, w := range clients {
		go func() { // ends with the connection
			w.DrainClose()
			ends <- time.Since(begun)
		}()
	}
	var all []time.Duration
	for range n {
		all = append(all, <-ends)
	}
	if first, last := all[0], all[n-1]; first > window/4 || last < window/2 {
		t.Errorf("the first went after %v, the last after %v", first, last)
	}
	if state := p.wait(window + 5*time.Second); state.ExitCode() != 0 {
		t.Errorf("%v: %v", state, p.lines())
	}
}

func TestShutdownDelay(t *testing.T) {
	p := start(t, "GATEWAY_JWT_SECRET=", "GATEWAY_SHUTDOWN_DELAY=1m")
	ws := p.client().Open()
	ws.Connect("/", "")
	if got := p.status(p.admin + "/readyz"); got != http.StatusOK {
		t.Errorf("readyz: %d", got)
	}
	p.signal(syscall.SIGTERM)
	deadline := time.Now().Add(siotest.Patience)
	for p.status(p.admin+"/readyz") != http.StatusServiceUnavailable {
		if time.Now().After(deadline) {
			t.Fatal("still ready")
		}
		time.Sleep(5 * time.Millisecond) // the signal leaves no other trace
	}
	if got := p.status(p.admin + "/healthz"); got != http.StatusOK {
		t.Errorf("healthz: %d", got)
	}
	if r := p.client().Do(http.MethodGet, p.public+"/socket.io/?EIO=4&transport=polling", nil, nil); r.Status != http.StatusOK || !r.Closes {
		t.Errorf("%d, closes: %v: the client would come again over the same connection", r.Status, r.Closes)
	}
	if !strings.Contains(p.client().Do(http.MethodGet, p.admin+"/metrics", nil, nil).Body, "patchbay_draining 1\n") {
		t.Error("no metric says so")
	}
	// The balancer does not know yet: clients old and new are served.
	p.client().Open().Connect("/", "")
	ws.Send(`421["leave","x"]`)
	ws.Expect(`431[{"ok":true,"room":"x"}]`)
	p.signal(syscall.SIGTERM)
	if state := p.wait(5 * time.Second); state.Success() || !strings.Contains(state.String(), "signal: terminated") {
		t.Errorf("after a second signal: %v", state)
	}
}

// A client that does not go holds the end up for no longer than GATEWAY_SHUTDOWN_TIMEOUT.
func TestShutdownTimeout(t *testing.T) {
	p := start(t, "GATEWAY_SHUTDOWN_TIMEOUT=500ms")
	conn, err := net.Dial("tcp", strings.TrimPrefix(p.public, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "POST /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nx"); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(siotest.Patience)
	for !strings.Contains(siotest.New(t, "", "").Do(http.MethodGet, p.admin+"/metrics", nil, nil).Body, `refused_total{code="2"} 1`) {
		if time.Now().After(deadline) {
			t.Fatal("the request does not arrive")
		}
		time.Sleep(5 * time.Millisecond) // the response waits for the body
	}
	p.signal(syscall.SIGTERM)
	p.wait(5 * time.Second) // the code tells that it was not orderly, or not: both are fair
	if p.status(p.public+"/") != 0 {
		t.Error("somebody still listens")
	}
}

func TestLog(t *testing.T) {
	p := start(t, "GATEWAY_LOG_LEVEL=debug", "GATEWAY_ADR=:1", "GATEWAY_JWT_SECRETS=not for the log", "GATEWAY_SERVICE_HOST=10.0.0.1", "GATEWAY_NODE=n7")
	w := p.client().Open()
	w.Send(`40{"token":"eyJhbGciOiJub25lIn0.e30.","user":"private name"}`)
	w.Expect(`44{"message":"Invalid token"}`)
	w.Send("4nonsense")
	w.DrainClose()
	p.signal(syscall.SIGTERM)
	p.wait(10 * time.Second)
	var unknown []any
	found := map[any]map[string]any{}
	for _, line := range p.lines() {
		text, err := json.Marshal(line)
		if err != nil {
			t.Fatal(err)
		}
		for _, private := range []string{secret, "not for the log", "eyJhbGciOiJub25lIn0", "private name"} {
			if strings.Contains(string(text), private) {
				t.Errorf("in the log: %s", text)
			}
		}
		if line["msg"] == "unknown_variable" {
			unknown = append(unknown, line["name"])
		}
		if line["level"] == nil || line["time"] == nil {
			t.Errorf("not a line of the log: %s", text)
		}
		found[line["msg"]] = line
	}
	if len(unknown) != 2 || unknown[0] != "GATEWAY_ADR" || unknown[1] != "GATEWAY_JWT_SECRETS" {
		t.Errorf("unknown variables: %v", unknown)
	}
	if l := found["listening"]; l["node"] != "n7" || l["version"] == "" || l["version"] == nil {
		t.Errorf("got %v", l)
	}
	for _, msg := range []string{"token_refused", "protocol_error", "shutting_down", "stopped"} {
		if found[msg] == nil {
			t.Errorf("no %s in the log", msg)
		}
	}
}

func TestLogFormatAndLevel(t *testing.T) {
	cmd := exec.Command(binary)
	cmd.Env = []string{"GATEWAY_ADDR=127.0.0.1:0", "GATEWAY_ADMIN_ADDR=127.0.0.1:0", "GATEWAY_LOG_FORMAT=text", "GATEWAY_RELAY=true"}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Wait() }()
	defer func() { _ = cmd.Process.Kill() }()
	lines := bufio.NewReader(stderr)
	for _, want := range []string{"level=WARN msg=relay_without_tokens", "level=INFO msg=listening"} {
		if line, err := lines.ReadString('\n'); err != nil || !strings.Contains(line, want) {
			t.Errorf("got %q, %v, want %s", line, err, want)
		}
	}
}
