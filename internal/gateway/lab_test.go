package gateway_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-0b620db0/patchbay/internal/gateway"
	"github.com/seed-0b620db0/patchbay/internal/siotest"
	"github.com/seed-0b620db0/patchbay/pkg/sio"
)

// node is a gateway that serves on loopback until the test ends.
type node struct {
	*gateway.Gateway
	t             testing.TB
	public, admin string // base addresses
	log           *logBuffer
	stop          context.CancelFunc
	done          chan error
}

// logBuffer takes a log that several goroutines write.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// line returns the only line with a message.
func (b *logBuffer) line(t testing.TB, msg string) map[string]any {
	t.Helper()
	var found []map[string]any
	for text := range strings.Lines(b.String()) {
		var line map[string]any
		if err := json.Unmarshal([]byte(text), &line); err != nil {
			t.Fatalf("line %q: %v", text, err)
		}
		if line["msg"] == msg {
			found = append(found, line)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d lines say %s", len(found), msg)
	}
	return found[0]
}

// load reads a configuration from NAME=value lines whose names lack their prefix.
func load(t testing.TB, vars ...string) *gateway.Config {
	t.Helper()
	cfg, unknown, err := gateway.Load(environ(vars...))
	if err != nil || len(unknown) > 0 {
		t.Fatalf("load %q: %v, unknown: %q", vars, err, unknown)
	}
	return cfg
}

func environ(vars ...string) []string {
	var out []string
	for _, v := range vars {
		out = append(out, gateway.Prefix+v)
	}
	return out
}

// start runs a gateway. Its end fails the test if it was not clean.
func start(t *testing.T, vars ...string) *node {
	t.Helper()
	siotest.LeakCheck(t)
	return startWith(t, gateway.New, vars...)
}

// startWith is start of another kind of gateway, of which there may be several in a test.
func startWith(t testing.TB, open func(*gateway.Config, *slog.Logger) (*gateway.Gateway, error), vars ...string) *node {
	t.Helper()
	vars = append([]string{"ADDR=127.0.0.1:0", "ADMIN_ADDR=127.0.0.1:0", "NODE=node-1", "LOG_LEVEL=debug", "DRAIN_WINDOW=0s"}, vars...)
	cfg := load(t, vars...)
	n := &node{t: t, log: new(logBuffer), done: make(chan error, 1)}
	g, err := open(cfg, gateway.NewLogger(n.log, cfg))
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Listen(t.Context()); err != nil {
		t.Fatal(err)
	}
	n.Gateway, n.public, n.admin = g, "http://"+g.Addr().String(), "http://"+g.AdminAddr().String()
	ctx, stop := context.WithCancel(context.Background())
	n.stop = stop
	go func() { n.done <- g.Serve(ctx) }() // ends by stop
	t.Cleanup(n.shutdown)
	return n
}

// shutdown ends the gateway, once.
func (n *node) shutdown() {
	n.t.Helper()
	if n.stop == nil {
		return
	}
	if err := n.IO().Close(); err != nil { // else it would wait for polling clients that the test has left behind
		n.t.Errorf("close: %v", err)
	}
	n.stop()
	n.stop = nil
	select {
	case err := <-n.done:
		if err != nil {
			n.t.Errorf("serve: %v", err)
		}
	case <-time.After(siotest.Patience):
		n.t.Fatal("the gateway does not end")
	}
}

func (n *node) client() *siotest.Client { return siotest.New(n.t, n.public, "/socket.io/") }

// socket returns the only socket of "/". It is found a moment after its client has heard that it is connected.
func (n *node) socket() (s *sio.Socket) {
	n.t.Helper()
	eventually(n.t, "there is one socket", func() bool {
		all := slices.Collect(n.IO().Sockets())
		if len(all) == 1 {
			s = all[0]
		}
		return len(all) == 1
	})
	return s
}

// get sends any request to one of the two listeners.
func (n *node) get(addr string, header ...string) siotest.Response {
	n.t.Helper()
	return n.do(http.MethodGet, addr, header...)
}

func (n *node) do(method, addr string, header ...string) siotest.Response {
	n.t.Helper()
	h := http.Header{}
	for i := 0; i+1 < len(header); i += 2 {
		h.Add(header[i], header[i+1])
	}
	r := siotest.New(n.t, "", "").Do(method, addr, h, nil)
	if r.Err != nil {
		n.t.Fatalf("%s %s: %v", method, addr, r.Err)
	}
	return r
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

// peer is a client of the relay, on a WebSocket and in one namespace.
type peer struct {
	*siotest.WS
	t     testing.TB
	id    string
	pid   string
	ns    string // as on the wire: empty or "/name,"
	next  int    // ack id
	inbox []string
}

// dial connects a peer to "/". auth is JSON or empty.
func (n *node) dial(auth string) *peer {
	n.t.Helper()
	return newPeer(n.t, n.client().Open(), "/", auth)
}

func newPeer(t testing.TB, w *siotest.WS, namespace, auth string) *peer {
	t.Helper()
	c := w.Connect(namespace, auth)
	p := &peer{WS: w, t: t, id: c.SID, pid: c.PID}
	if namespace != "/" {
		p.ns = namespace + ","
	}
	return p
}

// answer is the acknowledgement of the relay.
type answer struct {
	OK      bool     `json:"ok"`
	Error   string   `json:"error"`
	Room    string   `json:"room"`
	Members []member `json:"members"`
	Total   int      `json:"total"`
}

type member struct {
	ID        string `json:"id"`
	User      string `json:"user"`
	Node      string `json:"node"`
	Transport string `json:"transport"`
}

// call emits an event and returns its acknowledgement; what comes before that is kept for event.
func (p *peer) call(args ...any) answer {
	p.t.Helper()
	data, err := json.Marshal(args)
	if err != nil {
		p.t.Fatal(err)
	}
	return p.callRaw(string(data))
}

// callRaw is call with the JSON array given.
func (p *peer) callRaw(data string, attachments ...string) answer {
	p.t.Helper()
	p.next++
	head := "42"
	if len(attachments) > 0 {
		head = fmt.Sprintf("45%d-", len(attachments))
	}
	p.Send(fmt.Sprintf("%s%s%d%s", head, p.ns, p.next, data))
	for _, a := range attachments {
		p.SendBinary(a)
	}
	return p.acked(p.next)
}

func (p *peer) acked(id int) answer {
	p.t.Helper()
	prefix := fmt.Sprintf("43%s%d[", p.ns, id)
	for {
		f := p.Recv()
		if f.Binary {
			p.t.Fatalf("unexpected %v", f)
		}
		data, ok := strings.CutPrefix(f.Data, prefix)
		if !ok {
			p.inbox = append(p.inbox, f.Data)
			continue
		}
		var a answer
		if err := json.Unmarshal([]byte(strings.TrimSuffix(data, "]")), &a); err != nil {
			p.t.Fatalf("ack %q: %v", f.Data, err)
		}
		if a.OK == (a.Error != "") {
			p.t.Fatalf("ack %q is neither good nor bad", f.Data)
		}
		return a
	}
}

// join enters a room, which must be allowed.
func (p *peer) join(room string) answer {
	p.t.Helper()
	a := p.call("join", room)
	if !a.OK || a.Room != room {
		p.t.Fatalf("join %q: %+v", room, a)
	}
	return a
}

// event returns the next event as its JSON array.
func (p *peer) event() string {
	p.t.Helper()
	var got string
	if len(p.inbox) > 0 {
		got, p.inbox = p.inbox[0], p.inbox[1:]
	} else {
		got = p.Text()
	}
	data, ok := strings.CutPrefix(got, "42"+p.ns)
	if !ok {
		p.t.Fatalf("want an event, got %q", got)
	}
	return data
}

type presence struct {
	Room   string `json:"room"`
	Action string `json:"action"`
	Member member `json:"member"`
}

// presence returns the next event, which must be a presence.
func (p *peer) presence() presence {
	p.t.Helper()
	got := p.event()
	var args []json.RawMessage
	var name string
	var pr presence
	if err := json.Unmarshal([]byte(got), &args); err != nil || len(args) < 2 || json.Unmarshal(args[0], &name) != nil ||
		name != "presence" || json.Unmarshal(args[1], &pr) != nil {
		p.t.Fatalf("want a presence, got %s", got)
	}
	return pr
}

// quiet fails if an event has come. What the server was asked for before is answered by then, as events come in order.
func (p *peer) quiet() {
	p.t.Helper()
	p.call("leave", "a room that nobody is in")
	if len(p.inbox) > 0 {
		p.t.Fatalf("unexpected: %q", p.inbox)
	}
}

type meta struct {
	Room string `json:"room"`
	From string `json:"from"`
	User string `json:"user"`
	Node string `json:"node"`
	Time int64  `json:"time"`
}

// published splits an event into its arguments, without the name, and its meta.
func (p *peer) published(event string) (args []json.RawMessage, m meta) {
	p.t.Helper()
	return p.parse(event, p.event())
}

// parse is published of an event that has been read.
func (p *peer) parse(event, got string) (args []json.RawMessage, m meta) {
	p.t.Helper()
	if err := json.Unmarshal([]byte(got), &args); err != nil || len(args) < 2 || string(args[0]) != fmt.Sprintf("%q", event) {
		p.t.Fatalf("want %q, got %s", event, got)
	}
	last := len(args) - 1
	if err := json.Unmarshal(args[last], &m); err != nil {
		p.t.Fatalf("meta %s: %v", args[last], err)
	}
	return args[1:last], m
}

// describe writes a value out, what its pointers point to included.
func describe(v any) string {
	var b strings.Builder
	var walk func(reflect.Value)
	walk = func(v reflect.Value) {
		switch v.Kind() {
		case reflect.Pointer:
			if v.IsNil() {
				b.WriteString("nil")
			} else {
				walk(v.Elem())
			}
		case reflect.Struct:
			for i := range v.NumField() {
				if v.Type().Field(i).IsExported() {
					fmt.Fprintf(&b, "%s{", v.Type().Field(i).Name)
					walk(v.Field(i))
					b.WriteString("}")
				}
			}
		case reflect.Func:
			fmt.Fprint(&b, v.IsNil())
		default:
			fmt.Fprintf(&b, "%v", v)
		}
	}
	walk(reflect.ValueOf(v))
	return b.String()
}
