package load_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/seed-0b620db0/patchbay/internal/load"
	"github.com/seed-0b620db0/patchbay/internal/siotest"
	"github.com/seed-0b620db0/patchbay/pkg/eio"
	"github.com/seed-0b620db0/patchbay/pkg/sio"
)

// server is a Socket.IO server in this process. It counts the echoes it made.
type server struct {
	*sio.Server
	http   *httptest.Server
	echoes atomic.Int64
}

func newServer(t *testing.T, secure bool, o *sio.Options) *server {
	t.Helper()
	s := &server{Server: sio.NewServer(o)}
	for _, ns := range []*sio.Namespace{s.Namespace, s.Of("/other")} {
		ns.Use(func(ctx context.Context, s *sio.Socket) (context.Context, error) {
			var auth struct{ Token string }
			if err := s.Handshake().Auth(&auth); err != nil || auth.Token == "bad" {
				return nil, &sio.ConnectError{Message: "bad token"}
			}
			return ctx, nil
		})
		ns.On("echo", func(_ context.Context, _ *sio.Socket, ev *sio.Event) error {
			s.echoes.Add(1)
			return ev.Ack(ev.Args().Values()...)
		})
		ns.On("join", sio.Receive(func(_ context.Context, s *sio.Socket, room string) error {
			s.Join(room)
			return nil
		}))
		ns.On("broadcast", sio.Receive(func(ctx context.Context, s *sio.Socket, room string) error {
			return s.To(room).Emit(ctx, "message", "text", []byte("binary"))
		}))
		ns.On("leave me", sio.Receive(func(_ context.Context, s *sio.Socket, transport bool) error {
			s.Disconnect(transport)
			return nil
		}))
	}
	s.http = httptest.NewUnstartedServer(s)
	if secure {
		s.http.StartTLS()
	} else {
		s.http.Start()
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		s.http.Close()
	})
	return s
}

// witness is a handler that keeps what it is told.
type witness struct {
	t    *testing.T
	got  chan string
	lost chan error
}

func newWitness(t *testing.T, room int) *witness {
	t.Helper()
	return &witness{t, make(chan string, room), make(chan error, room)}
}

func (w *witness) Receive(_ *load.Client, m *load.Message) {
	w.got <- fmt.Sprintf("%c %d %s %s", m.Type, m.ID, m.Data, bytes.Join(m.Attachments, []byte(" ")))
}

func (w *witness) Lost(_ *load.Client, err error) { w.lost <- err }

func (w *witness) expect(want string) {
	w.t.Helper()
	select {
	case got := <-w.got:
		if got != want {
			w.t.Errorf("got %.200q, want %.200q", got, want)
		}
	case <-time.After(siotest.Patience):
		w.t.Fatalf("nothing comes, want %.200q", want)
	}
}

// expectLost waits until n clients were lost, and returns why the last was.
func (w *witness) expectLost(n int) (err error) {
	w.t.Helper()
	for i := range n {
		select {
		case err = <-w.lost:
		case <-time.After(siotest.Patience):
			w.t.Fatalf("%d of %d lost", i, n)
		}
	}
	return err
}

// end closes the generator and checks that no client was lost by that.
func (w *witness) end(g *load.Generator) {
	w.t.Helper()
	g.Close()
	if n := g.Len(); n != 0 {
		w.t.Errorf("%d clients are left", n)
	}
	select {
	case err := <-w.lost:
		w.t.Errorf("lost: %v", err)
	default:
	}
}

func newGenerator(t *testing.T, o load.Options) *load.Generator {
	t.Helper()
	if o.Timeout == 0 {
		o.Timeout = siotest.Patience
	}
	g, err := load.New(&o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Close)
	return g
}

func connect(t *testing.T, g *load.Generator, h load.Handler) *load.Client {
	t.Helper()
	c, err := g.Connect(t.Context(), h)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func send(t *testing.T, c *load.Client, id int, data string, attachments ...[]byte) {
	t.Helper()
	if err := c.Send(&load.Message{Type: load.Event, ID: id, Data: []byte(data), Attachments: attachments}); err != nil {
		t.Fatal(err)
	}
}

// settle waits until the server has as many sockets.
func settle(t *testing.T, ns *sio.Namespace, n int) {
	t.Helper()
	for deadline := time.Now().Add(siotest.Patience); ns.Len() != n; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the server has %d sockets, want %d", ns.Len(), n)
		}
	}
}

func everyTransport(t *testing.T, test func(t *testing.T, secure bool, o load.Options)) {
	t.Helper()
	for _, transport := range []load.Transport{load.WebSocket, load.Polling, load.Upgrade} {
		for _, scheme := range []string{"http", "https"} {
			t.Run(fmt.Sprintf("%s/%s", transport, scheme), func(t *testing.T) {
				siotest.LeakCheck(t)
				test(t, scheme == "https", load.Options{Transport: transport})
			})
		}
	}
}

// aim points o at the server.
func (s *server) aim(o load.Options) load.Options {
	o.URL = s.http.URL
	if cert := s.http.Certificate(); cert != nil {
		roots := x509.NewCertPool()
		roots.AddCert(cert)
		o.TLS = &tls.Config{RootCAs: roots}
	}
	return o
}

func TestClient(t *testing.T) {
	everyTransport(t, func(t *testing.T, secure bool, o load.Options) {
		s := newServer(t, secure, nil)
		o = s.aim(o)
		o.Namespace, o.Auth = "other", json.RawMessage(`{"token":"good"}`)
		g, w := newGenerator(t, o), newWitness(t, 10)
		a, b := connect(t, g, w), connect(t, g, w)
		if got, want := s.Of("/other").Len(), 2; got != want || s.Len() != 0 {
			t.Fatalf("%d sockets, want %d", got, want)
		}
		send(t, a, 7, `["echo","x",[1]]`)
		w.expect(`3 7 ["x",[1]] `)
		big := strings.Repeat("0123456789", 50_000)
		send(t, a, 8, `["echo",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]`, []byte(big), []byte("small"))
		w.expect(`3 8 [{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}] ` + big + " small")
		send(t, b, 0, `["join","room"]`)
		w.expect(`3 0 [] `)
		send(t, a, load.NoAck, `["broadcast","room"]`)
		w.expect(`2 -1 ["message","text",{"_placeholder":true,"num":0}] binary`)
		a.Close()
		settle(t, s.Of("/other"), 1)
		if err := a.Send(&load.Message{Type: load.Event}); !errors.Is(err, load.ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
		w.end(g)
		settle(t, s.Of("/other"), 0)
		if _, err := g.Connect(t.Context(), w); err == nil {
			t.Error("connected by a closed generator")
		}
	})
}

// Everything that is sent arrives, nothing twice, and every client is accounted for.
func TestCounts(t *testing.T) {
	everyTransport(t, func(t *testing.T, secure bool, o load.Options) {
		const clients, each = 20, 50
		s := newServer(t, secure, nil)
		g := newGenerator(t, s.aim(o))
		acked := make([]atomic.Int64, clients*each)
		var lost atomic.Int64
		var done sync.WaitGroup
		done.Add(clients * each)
		h := &funcs{
			receive: func(_ *load.Client, m *load.Message) {
				if acked[m.ID].Add(1) == 1 {
					done.Done()
				}
			},
			lost: func(*load.Client, error) { lost.Add(1) },
		}
		for i := range clients {
			c := connect(t, g, h)
			for k := range each {
				send(t, c, i*each+k, `["echo"]`)
			}
		}
		done.Wait()
		if n := s.echoes.Load(); n != clients*each || lost.Load() != 0 || g.Len() != clients {
			t.Errorf("%d echoes of %d, %d lost, %d connected", n, clients*each, lost.Load(), g.Len())
		}
		g.Close()
		for i := range acked {
			if n := acked[i].Load(); n != 1 {
				t.Errorf("acknowledgement %d came %d times", i, n)
			}
		}
		if lost.Load() != 0 {
			t.Errorf("%d lost by Close", lost.Load())
		}
	})
}

type funcs struct {
	receive func(*load.Client, *load.Message)
	lost    func(*load.Client, error)
}

func (f *funcs) Receive(c *load.Client, m *load.Message) { f.receive(c, m) }
func (f *funcs) Lost(c *load.Client, err error)          { f.lost(c, err) }

// A client that the server sends away, in whatever way, is lost.
func TestLost(t *testing.T) {
	everyTransport(t, func(t *testing.T, secure bool, o load.Options) {
		s := newServer(t, secure, nil)
		g, w := newGenerator(t, s.aim(o)), newWitness(t, 10)
		send(t, connect(t, g, w), load.NoAck, `["leave me",false]`)
		if err := w.expectLost(1); !strings.Contains(err.Error(), "disconnected by the server") {
			t.Errorf("a disconnect: %v", err)
		}
		send(t, connect(t, g, w), load.NoAck, `["leave me",true]`)
		w.expectLost(1)
		for range 5 {
			connect(t, g, w)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		w.expectLost(5)
		w.end(g)
	})
}

func TestRefused(t *testing.T) {
	everyTransport(t, func(t *testing.T, secure bool, o load.Options) {
		s := newServer(t, secure, &sio.Options{Engine: eio.Options{MaxSessions: 2}})
		o = s.aim(o)
		for want, change := range map[string]func(*load.Options){
			"bad token":         func(o *load.Options) { o.Auth = json.RawMessage(`{"token":"bad"}`) },
			"Invalid namespace": func(o *load.Options) { o.Namespace = "/nowhere" },
			"404":               func(o *load.Options) { o.URL += "/elsewhere/" },
			"refused":           func(o *load.Options) { o.URL = "http://127.0.0.1:1" },
		} {
			wrong := o
			change(&wrong)
			g, w := newGenerator(t, wrong), newWitness(t, 1)
			if _, err := g.Connect(t.Context(), w); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, want %s", err, want)
			}
			w.end(g)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := newGenerator(t, o).Connect(ctx, newWitness(t, 1)); !errors.Is(err, context.Canceled) {
			t.Errorf("canceled: %v", err)
		}
	})
}

func TestHeartbeat(t *testing.T) {
	pongs := make(chan string, 5)
	url := raw(t, func(ctx context.Context, c *websocket.Conn) {
		for range cap(pongs) {
			if err := c.Write(ctx, websocket.MessageText, []byte("2")); err != nil {
				return
			}
			_, pong, err := c.Read(ctx)
			if err != nil {
				return
			}
			pongs <- string(pong)
		}
		close(pongs)
		<-ctx.Done()
	})
	connect(t, newGenerator(t, load.Options{URL: url}), newWitness(t, 1))
	n := 0
	for pong := range pongs {
		if n++; pong != "3" {
			t.Errorf("a ping is answered %q", pong)
		}
	}
	if n != cap(pongs) {
		t.Errorf("%d pongs", n)
	}
}

// raw is a server that joins clients to "/" and then leaves everything to f.
func raw(t *testing.T, f func(ctx context.Context, c *websocket.Conn)) string {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, nil)
		if err != nil {
			t.Error(err)
			return
		}
		defer c.CloseNow()
		for _, packet := range []string{`0{"sid":"x","pingInterval":20,"pingTimeout":20}`, `40{"sid":"y"}`} {
			if err := c.Write(r.Context(), websocket.MessageText, []byte(packet)); err != nil {
				t.Error(err)
			}
		}
		if _, hello, err := c.Read(r.Context()); err != nil || string(hello) != "40" {
			t.Errorf("got %q, %v", hello, err)
		}
		f(t.Context(), c)
	}))
	t.Cleanup(srv.CloseClientConnections)
	return srv.URL
}

// A server that says nothing has lost its clients, though their connections stand.
func TestSilentServer(t *testing.T) {
	url := raw(t, func(ctx context.Context, _ *websocket.Conn) { <-ctx.Done() })
	g, w := newGenerator(t, load.Options{URL: url}), newWitness(t, 1)
	connect(t, g, w)
	if err := w.expectLost(1); !strings.Contains(err.Error(), "no ping") {
		t.Errorf("got %v", err)
	}
}

// What a server does not read is bounded.
func TestDeafServer(t *testing.T) {
	url := raw(t, func(ctx context.Context, c *websocket.Conn) {
		for c.Write(ctx, websocket.MessageText, []byte("2")) == nil { // alive, but deaf
			time.Sleep(time.Millisecond)
		}
	})
	g, w := newGenerator(t, load.Options{URL: url, Timeout: time.Second}), newWitness(t, 1)
	c := connect(t, g, w)
	m := &load.Message{Type: load.Event, ID: load.NoAck, Data: []byte(`["x"]`), Attachments: [][]byte{make([]byte, 1<<20)}}
	sent := 0
	for c.Send(m) == nil {
		if sent++; sent > 200 {
			t.Fatal("all is taken")
		}
	}
	w.expectLost(1)
}

func TestMalformed(t *testing.T) {
	for name, packet := range map[string]string{
		"no packet":             "",
		"no message":            "4",
		"unknown type":          "9",
		"unknown message":       "49",
		"text for a binary":     `451-["a",{"_placeholder":true,"num":0}]`,
		"handshake with no end": "0{",
	} {
		url := raw(t, func(ctx context.Context, c *websocket.Conn) {
			for range 2 {
				if err := c.Write(ctx, websocket.MessageText, []byte(packet)); err != nil {
					return
				}
			}
			<-ctx.Done()
		})
		g, w := newGenerator(t, load.Options{URL: url}), newWitness(t, 1)
		if _, err := g.Connect(t.Context(), w); err == nil { // else it came with the handshake
			if err := w.expectLost(1); strings.Contains(err.Error(), "no ping") {
				t.Errorf("%s: it was taken", name)
			}
		}
	}
}

func TestOptions(t *testing.T) {
	for _, o := range []load.Options{{}, {URL: "ftp://host"}, {URL: "http://"}, {URL: "http://host", Transport: "pigeon"}, {URL: "http://%zz"}} {
		if g, err := load.New(&o); err == nil {
			g.Close()
			t.Errorf("%+v is taken", o)
		}
	}
}

// A client that does not poll costs the server a session, and the generator nothing.
func TestStopPolling(t *testing.T) {
	s := newServer(t, false, nil)
	g, w := newGenerator(t, s.aim(load.Options{Transport: load.Polling, StopPolling: true})), newWitness(t, 1)
	for range 3 {
		connect(t, g, w)
	}
	settle(t, s.Namespace, 3)
	w.end(g)
	settle(t, s.Namespace, 0)
}

// The calls are due at even times, however late they come.
func TestPace(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var dues []int64
	load.Pace(ctx, 1000, func(i int, due int64) {
		if i != len(dues) || due > load.Now() {
			t.Errorf("call %d comes as %d, %d ns early", len(dues), i, due-load.Now())
		}
		if dues = append(dues, due); i == 20 {
			cancel()
		}
	})
	if len(dues) != 21 {
		t.Fatalf("%d calls", len(dues))
	}
	for i := range 20 {
		if step := dues[i+1] - dues[i]; step != int64(time.Millisecond) {
			t.Errorf("call %d is due %d ns after the one before", i+1, step)
		}
	}
}

func TestStamp(t *testing.T) {
	for _, at := range []int64{0, 1, 1 << 40} {
		text := load.Stamp(nil, at, 64)
		got, ok := load.Stamped(text)
		if !ok || got != at || len(text) != 66 || !json.Valid(text) {
			t.Errorf("%d became %s", at, text)
		}
	}
	for _, other := range []string{"", `"short"`, `"not hexadecimal at all"`, `{"0000000000000000":1}`} {
		if _, ok := load.Stamped([]byte(other)); ok {
			t.Errorf("%s is a stamp", other)
		}
	}
}
