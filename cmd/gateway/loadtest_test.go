package main_test

import (
	"bufio"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/seed-0b620db0/patchbay/internal/siotest"
)

// summary is what loadtest -json prints, in part.
type summary struct {
	Connected, Failed, Lost, Sent, Received, Missing, Errors int
	Connect                                                  map[string]float64 `json:"connectMs"`
	Delivery                                                 map[string]float64 `json:"deliveryMs"`
	FirstError                                               string
	Interrupted, OK                                          bool
}

// loadtest runs the command to its end.
func loadtest(t *testing.T, args ...string) (int, summary, string) {
	t.Helper()
	code, stdout, stderr := execute(t, nil, append([]string{"loadtest", "-json"}, args...)...)
	var s summary
	if err := json.Unmarshal([]byte(stdout), &s); err != nil {
		t.Fatalf("exit %d: %v: %s%s", code, err, stdout, stderr)
	}
	return code, s, stderr
}

func token(t *testing.T, claims map[string]any) string {
	t.Helper()
	s, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{
		"sub": "ann", "exp": time.Now().Add(time.Hour).Unix(), "patchbay": claims,
	}).SignedString([]byte(secret))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestUnknownArgument(t *testing.T) {
	for _, args := range [][]string{{"foo"}, {""}, {"loadtests"}} {
		code, stdout, stderr := execute(t, nil, args...)
		if code != 2 || stdout != "" || !strings.Contains(stderr, "gateway: unknown argument") || !strings.Contains(stderr, "GATEWAY_ADDR") {
			t.Errorf("%q: exit %d: %s", args, code, stderr)
		}
	}
}

func TestLoadtestHelp(t *testing.T) {
	if _, _, stderr := execute(t, nil, "-help"); !strings.Contains(stderr, "gateway loadtest") {
		t.Errorf("gateway -help does not mention loadtest: %s", stderr)
	}
	code, _, stderr := execute(t, nil, "loadtest", "-help")
	if code != 0 {
		t.Errorf("exit %d", code)
	}
	for _, name := range []string{
		"url", "clients", "ramp", "rooms", "rate", "transport", "duration", "namespace", "auth", "event", "payload", "mode", "json",
	} {
		if !strings.Contains(stderr, "\n  -"+name) {
			t.Errorf("no -%s in the help", name)
		}
	}
	for _, args := range [][]string{
		{"-clients=0"},
		{"-ramp=0"},
		{"-rate=-1"},
		{"-rate=NaN"},
		{"-payload=3"},
		{"-mode=fast"},
		{"-transport=pigeon"},
		{"-url=nowhere"},
		{"-rooms=-1"},
		{"-duration=-1s"},
		{"-timeout=0"},
		{"-auth={"},
		{"-auth=@nowhere"},
		{"-frobnicate"},
		{"surplus"},
	} {
		if code, stdout, stderr := execute(t, nil, append([]string{"loadtest"}, args...)...); code != 2 || stdout != "" || stderr == "" {
			t.Errorf("%q: exit %d: %s%s", args, code, stdout, stderr)
		}
	}
}

func TestLoadtestRelay(t *testing.T) {
	p := start(t)
	all := token(t, map[string]any{"join": []string{"load:*"}, "publish": []string{"load:*"}})
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(all+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, transport := range []string{"websocket", "polling", "upgrade"} {
		code, s, stderr := loadtest(t, "-url", p.public, "-transport", transport, "-mode=relay", "-auth=@"+file, "-clients=20", "-rooms=4",
			"-ramp=500", "-rate=100", "-duration=500ms")
		if code != 0 || !s.OK || s.Connected != 20 || s.Lost+s.Failed+s.Missing+s.Errors != 0 || s.Sent == 0 || s.Received != 4*s.Sent {
			t.Errorf("%s: exit %d: %+v", transport, code, s)
		}
		if s.Connect["p99"] <= 0 || s.Delivery["p99"] < s.Delivery["p50"] || s.Delivery["max"] < s.Delivery["p99.9"] || s.Delivery["p50"] <= 0 {
			t.Errorf("%s: %+v", transport, s)
		}
		if strings.Contains(stderr, all) {
			t.Errorf("the token is in the output: %s", stderr)
		}
	}

	// A client that may not join has failed; events that may not be published are errors.
	code, s, _ := loadtest(t, "-url", p.public, "-mode=relay", "-auth", token(t, nil), "-clients=5", "-duration=200ms")
	if code != 1 || s.OK || s.Failed != 5 || s.Connected != 0 || !strings.Contains(s.FirstError, "not allowed by the token") {
		t.Errorf("may not join: exit %d: %+v", code, s)
	}
	join := token(t, map[string]any{"join": []string{"*"}})
	code, s, _ = loadtest(t, "-url", p.public, "-mode=relay", "-auth", `{"token":"`+join+`"}`, "-clients=3", "-rooms=3", "-duration=200ms")
	if code != 1 || s.OK || s.Connected != 3 || s.Errors == 0 || s.Errors != s.Sent {
		t.Errorf("may not publish: exit %d: %+v", code, s)
	}
	code, s, _ = loadtest(t, "-url", p.public, "-mode=idle", "-clients=3", "-duration=100ms")
	if code != 1 || s.Failed != 3 || !strings.Contains(s.FirstError, "Token required") {
		t.Errorf("no token: exit %d: %+v", code, s)
	}
	if code, s, _ = loadtest(t, "-url", "http://127.0.0.1:1", "-clients=3", "-ramp=100"); code != 1 || s.Failed != 3 {
		t.Errorf("no server: exit %d: %+v", code, s)
	}
}

// running starts the command and returns once its progress shows that clients are connected.
func running(t *testing.T, args ...string) (*exec.Cmd, func() (int, summary)) {
	t.Helper()
	cmd := exec.Command(binary, append([]string{"loadtest", "-json"}, args...)...)
	var stdout strings.Builder
	cmd.Stdout = &stdout
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(siotest.Patience, func() { _ = cmd.Process.Kill() })
	lines := bufio.NewReader(stderr)
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			t.Fatalf("it has ended: %v, %s", cmd.Wait(), line)
		}
		if strings.Contains(line, "connected 10 ") {
			break
		}
	}
	return cmd, func() (int, summary) {
		t.Helper()
		defer timer.Stop()
		_, _ = io.Copy(io.Discard, lines)
		_ = cmd.Wait() // its result is in the state
		var s summary
		if err := json.Unmarshal([]byte(stdout.String()), &s); err != nil {
			t.Fatalf("%v: %v: %s", cmd.ProcessState, err, stdout.String())
		}
		return cmd.ProcessState.ExitCode(), s
	}
}

// Clients whose server is killed are lost, and the command ends at once and says so.
func TestLoadtestServerKilled(t *testing.T) {
	for _, transport := range []string{"websocket", "polling", "upgrade"} {
		p := start(t, "GATEWAY_JWT_SECRET=")
		_, wait := running(t, "-url", p.public, "-transport", transport, "-mode=idle", "-clients=10", "-duration=1h")
		p.signal(syscall.SIGKILL)
		if code, s := wait(); code != 1 || s.OK || s.Lost != 10 || s.Connected != 10 || s.FirstError == "" {
			t.Errorf("%s: exit %d: %+v", transport, code, s)
		}
	}
}

// An interrupt ends the command in order, with its summary.
func TestLoadtestInterrupt(t *testing.T) {
	p := start(t, "GATEWAY_JWT_SECRET=")
	cmd, wait := running(t, "-url", p.public, "-mode=relay", "-clients=10", "-duration=0")
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if code, s := wait(); code != 0 || !s.OK || !s.Interrupted || s.Connected != 10 || s.Sent == 0 || s.Received != 9*s.Sent {
		t.Errorf("exit %d: %+v", code, s)
	}
}

// The command works with the official server too. The gateway's relay does not acknowledge unknown events, this does.
func TestLoadtestOfficialServer(t *testing.T) {
	const dir = "../../bench/node"
	cmd, err := siotest.NodeJS(t.Context(), dir, []string{"socket.io"}, dir+"/server.mjs")
	if err != nil {
		siotest.Missing(t, err.Error())
	}
	stdin, stdout := siotest.Pipes(t, cmd)
	defer func() { _ = cmd.Wait() }()
	defer stdin.Close() // which ends it
	addr, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	url := "http://" + strings.TrimSpace(addr)
	for _, transport := range []string{"websocket", "polling", "upgrade"} {
		code, s, _ := loadtest(t, "-url", url, "-transport", transport, "-clients=20", "-ramp=500", "-rate=200", "-duration=500ms")
		if code != 0 || !s.OK || s.Connected != 20 || s.Sent == 0 || s.Received != s.Sent {
			t.Errorf("%s: exit %d: %+v", transport, code, s)
		}
	}
	// An event that is not acknowledged is missing.
	code, s, _ := loadtest(t, "-url", url, "-event=unheard", "-clients=2", "-rate=10", "-duration=100ms")
	if code != 1 || s.OK || s.Sent == 0 || s.Missing != s.Sent {
		t.Errorf("exit %d: %+v", code, s)
	}
}
