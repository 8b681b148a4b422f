package protocol_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-0b620db0/patchbay/internal/siotest"
)

// options is what a fixture is started with; zero means the server's default. See the fixture of the
// official server for what each does.
type options struct {
	Mode              string   `json:"mode,omitempty"` // "engine", or "" for Socket.IO
	Path              string   `json:"path,omitempty"`
	AddTrailingSlash  *bool    `json:"addTrailingSlash,omitempty"`
	PingInterval      int      `json:"pingInterval,omitempty"`   // ms
	PingTimeout       int      `json:"pingTimeout,omitempty"`    // ms
	UpgradeTimeout    int      `json:"upgradeTimeout,omitempty"` // ms
	MaxHTTPBufferSize int      `json:"maxHttpBufferSize,omitempty"`
	Transports        []string `json:"transports,omitempty"`
	AllowUpgrades     *bool    `json:"allowUpgrades,omitempty"`
	HTTPCompression   *int     `json:"httpCompression,omitempty"`   // threshold in bytes; negative: off
	PerMessageDeflate *int     `json:"perMessageDeflate,omitempty"` // threshold in bytes; nil: off
	Cookie            *cookie  `json:"cookie,omitempty"`
	CORS              *cors    `json:"cors,omitempty"`
	InitialPacket     string   `json:"initialPacket,omitempty"`
	AllowRequest      bool     `json:"allowRequest,omitempty"` // refuse requests with a header x-refuse; its value is the message
	FailingIDs        bool     `json:"failingIDs,omitempty"`   // no id for requests with a header x-no-id
	HeaderHooks       bool     `json:"headerHooks,omitempty"`  // x-initial: 1 on the first response, x-every: 1 on each

	ConnectTimeout              int       `json:"connectTimeout,omitempty"` // ms
	Recovery                    *recovery `json:"recovery,omitempty"`
	CleanupEmptyChildNamespaces bool      `json:"cleanupEmptyChildNamespaces,omitempty"`
}

type cookie struct {
	Name   string `json:"name,omitempty"`
	MaxAge int    `json:"maxAge,omitempty"` // s
	Secure bool   `json:"secure,omitempty"`
}

type cors struct {
	Origin      any  `json:"origin"` // a string or a list of them
	Credentials bool `json:"credentials,omitempty"`
}

type recovery struct {
	MaxDisconnectionDuration int   `json:"maxDisconnectionDuration"` // ms
	SkipMiddlewares          *bool `json:"skipMiddlewares,omitempty"`
}

// running is a started server: where clients go, where the control is, and how to end it.
type running struct {
	URL, Control string
	stop         func()
}

// target is a server that the suite can run against.
type target interface {
	start(o options) (running, error)
}

var targets = map[string]target{"official": official{}, "ours": ours{}}

func targetName() string {
	if name := os.Getenv("PROTOCOL_TARGET"); name != "" {
		return name
	}
	return "ours"
}

// official is the Node.js server, one process for each set of options.
type official struct{}

func (official) start(o options) (running, error) {
	if _, err := os.Stat("official/node_modules/socket.io"); err != nil {
		return running{}, fmt.Errorf("the official server is not installed, run npm ci in test/protocol/official: %w", err)
	}
	arg, err := json.Marshal(o)
	if err != nil {
		return running{}, err
	}
	cmd := exec.Command("node", "fixture.mjs", string(arg))
	cmd.Dir = "official"
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return running{}, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return running{}, err
	}
	if err := cmd.Start(); err != nil {
		return running{}, err
	}
	stop := func() {
		in.Close()     // the fixture ends with its stdin
		_ = cmd.Wait() // how it ended does not matter any more
	}
	line, err := bufio.NewReader(out).ReadBytes('\n')
	var ports struct{ Port, Control int }
	if err == nil {
		err = json.Unmarshal(line, &ports)
	}
	if err != nil {
		stop()
		return running{}, fmt.Errorf("fixture %s: %w", arg, err)
	}
	return running{
		URL:     fmt.Sprintf("http://127.0.0.1:%d", ports.Port),
		Control: fmt.Sprintf("http://127.0.0.1:%d", ports.Control),
		stop:    stop,
	}, nil
}

// fixture is a running server with its options.
type fixture struct {
	running
	opts options
}

var shared struct {
	sync.Mutex
	fixtures map[string]func() (running, error)
	stops    []func()
}

func TestMain(m *testing.M) {
	m.Run() // the test binary exits with its result
	for _, stop := range shared.stops {
		stop()
	}
}

// use returns the fixture that all tests with these options share, and lets the test run in parallel.
func use(t *testing.T, o options) *fixture {
	t.Helper()
	t.Parallel()
	key := fmt.Sprint(mustJSON(t, o))
	shared.Lock()
	if shared.fixtures == nil {
		shared.fixtures = map[string]func() (running, error){}
	}
	once, ok := shared.fixtures[key]
	if !ok {
		once = sync.OnceValues(func() (running, error) {
			r, err := targetOf(t).start(o)
			if err == nil {
				shared.Lock()
				defer shared.Unlock()
				shared.stops = append(shared.stops, r.stop)
			}
			return r, err
		})
		shared.fixtures[key] = once
	}
	shared.Unlock()
	r, err := once()
	if err != nil {
		t.Fatal(err)
	}
	return &fixture{r, o}
}

// fresh starts a fixture for this test alone.
func fresh(t *testing.T, o options) *fixture {
	t.Helper()
	t.Parallel()
	r, err := targetOf(t).start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.stop)
	return &fixture{r, o}
}

func targetOf(t *testing.T) target {
	t.Helper()
	tg, ok := targets[targetName()]
	if !ok {
		t.Fatalf("PROTOCOL_TARGET: no target %q", targetName())
	}
	return tg
}

// client is a client of the fixture without a session.
func (f *fixture) client(t *testing.T) *siotest.Client {
	t.Helper()
	path := f.opts.Path
	switch {
	case path != "":
	case f.opts.Mode == "engine":
		path = "/engine.io"
	default:
		path = "/socket.io"
	}
	if f.opts.AddTrailingSlash == nil || *f.opts.AddTrailingSlash {
		path += "/"
	}
	return siotest.New(t, f.URL, path)
}

// polling is a client with a session over polling.
func (f *fixture) polling(t *testing.T) *siotest.Client {
	t.Helper()
	c := f.client(t)
	c.Handshake()
	return c
}

// ws is a session over WebSocket.
func (f *fixture) ws(t *testing.T) *siotest.WS {
	t.Helper()
	return f.client(t).Open()
}

// joined is a session over WebSocket that has joined the main namespace.
func (f *fixture) joined(t *testing.T) (*siotest.WS, siotest.Connected) {
	t.Helper()
	w := f.ws(t)
	return w, w.Connect("/", "")
}

// state is what the control reports.
type state struct {
	Sessions     map[string]session           `json:"sessions"` // open, by sid
	Closed       map[string]closed            `json:"closed"`   // by sid
	Received     map[string][]any             `json:"received"` // messages by sid, in engine mode
	Errors       []connectionError            `json:"errors"`
	Asked        int                          `json:"asked"` // calls of allowRequest
	Disconnects  []disconnect                 `json:"disconnects"`
	Middleware   []step                       `json:"middleware"`
	SocketErrors []socketError                `json:"socketErrors"`
	Created      []string                     `json:"created"` // namespaces
	Waiting      []string                     `json:"waiting"` // keys of held middlewares
	Namespaces   map[string]map[string]socket `json:"namespaces"`
}

type session struct {
	Transport string
	Polling   bool // a poll is pending
}

type closed struct{ Reason, Description string }

type connectionError struct {
	Code             int
	Message, Context string
}

type disconnect struct {
	Namespace, ID, Reason string
	Rooms                 []string // while disconnecting
	Done                  bool     // the rooms were left when "disconnect" fired
}

type step struct{ Namespace, ID, Step string }

type socketError struct{ ID, Message string }

type socket struct {
	Session   string // sid
	Rooms     []string
	Recovered bool
	Data      json.RawMessage
	Events    []string // names of all events received
	Label     string   // of the namespace whose handlers it got
}

func mustJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func (f *fixture) call(t *testing.T, method, path string, body []byte) []byte {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, f.Control+path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Close = true
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("control %s: %d %s %v", path, res.StatusCode, b, err)
	}
	return b
}

func (f *fixture) state(t *testing.T) state {
	t.Helper()
	var s state
	if err := json.Unmarshal(f.call(t, http.MethodGet, "/state", nil), &s); err != nil {
		t.Fatal(err)
	}
	return s
}

// args are the arguments of a control operation.
type args map[string]any

// do has the server do something and returns the JSON of the result.
func (f *fixture) do(t *testing.T, op string, a args) string {
	t.Helper()
	body := args{"op": op}
	maps.Copy(body, a)
	return string(f.call(t, http.MethodPost, "/do", []byte(mustJSON(t, body))))
}

// await polls the state until cond holds.
func (f *fixture) await(t *testing.T, what string, cond func(state) bool) state {
	t.Helper()
	deadline := time.Now().Add(siotest.Patience)
	for {
		s := f.state(t)
		if cond(s) {
			return s
		}
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s; state %+v", siotest.Patience, what, s)
		}
		time.Sleep(10 * time.Millisecond) // the control has no way to tell us
	}
}

// wantClosed waits until the session is closed and compares the reason.
func (f *fixture) wantClosed(t *testing.T, sid, reason string) closed {
	t.Helper()
	s := f.await(t, "session closed", func(s state) bool { _, ok := s.Closed[sid]; return ok })
	if _, open := s.Sessions[sid]; open {
		t.Errorf("session %s is closed and still there", sid)
	}
	if got := s.Closed[sid]; got.Reason != reason {
		t.Errorf("session closed with %q (%s), want %q", got.Reason, got.Description, reason)
	}
	return s.Closed[sid]
}

// wantDisconnect waits until the socket is disconnected and compares the reason.
func (f *fixture) wantDisconnect(t *testing.T, id, reason string) disconnect {
	t.Helper()
	var d disconnect
	f.await(t, "socket disconnected", func(s state) bool {
		i := slices.IndexFunc(s.Disconnects, func(d disconnect) bool { return d.ID == id && d.Done })
		if i >= 0 {
			d = s.Disconnects[i]
		}
		return i >= 0
	})
	if d.Reason != reason {
		t.Errorf("socket disconnected with %q, want %q", d.Reason, reason)
	}
	return d
}

// wantAlive proves that a polling session in engine mode is open, by an echo.
func wantAlive(t *testing.T, c *siotest.Client) {
	t.Helper()
	c.Send("4alive?")
	for {
		if slices.Contains(c.Poll(), "4alive?") {
			return
		}
	}
}

// wantAliveWS is wantAlive over WebSocket.
func wantAliveWS(t *testing.T, w *siotest.WS) {
	t.Helper()
	w.Send("4alive?")
	w.Expect("4alive?")
}

// wantGone proves that the server does not know the session.
func wantGone(t *testing.T, c *siotest.Client) {
	t.Helper()
	wantRefused(t, c.Get(), http.StatusBadRequest, `{"code":1,"message":"Session ID unknown"}`)
}

func wantRefused(t *testing.T, r siotest.Response, status int, body string) {
	t.Helper()
	if r.Status != status || r.Body != body {
		t.Errorf("got %d %q %v, want %d %q", r.Status, r.Body, r.Err, status, body)
	}
	if ct := r.Header.Get("Content-Type"); !strings.HasPrefix(ct, "application/json") {
		t.Errorf("Content-Type %q of an error", ct)
	}
}

func want[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

func wantSlice[T comparable](t *testing.T, what string, got, want []T) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: got %q, want %q", what, fmt.Sprint(got), fmt.Sprint(want))
	}
}
