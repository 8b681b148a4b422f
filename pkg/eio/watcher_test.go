package eio_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/seed-0b620db0/patchbay/internal/siotest"
	"github.com/seed-0b620db0/patchbay/pkg/eio"
)

// site is a server behind sockets of the system. At its end it checks that goroutines and descriptors are gone.
type site struct {
	*eio.Server
	t      *testing.T
	addr   net.Addr
	peers  chan *peer
	queued atomic.Int64
	watch  bool
}

// everyWay runs f over sockets that are watched, and such as have a goroutine each.
func everyWay(t *testing.T, opts eio.Options, f func(t *testing.T, s *site)) {
	t.Helper()
	for _, way := range []struct {
		name, network string
		watch         bool
	}{{"tcp", "tcp", true}, {"unix", "unix", true}, {"unwatched", "tcp", false}} {
		t.Run(way.name, func(t *testing.T) {
			siotest.LeakCheck(t)
			address := "127.0.0.1:0"
			if way.network == "unix" {
				address = t.TempDir() + "/s"
			}
			f(t, newSite(t, way.network, address, way.watch, opts))
		})
	}
}

func newSite(t *testing.T, network, address string, watch bool, opts eio.Options) *site {
	t.Helper()
	before := 0
	t.Cleanup(func() {
		eventually(t, "descriptors are left", func() bool { return descriptors(t) <= before })
	})
	ln, err := net.Listen(network, address) //nolint:noctx // it does not block
	if err != nil {
		t.Skip(err)
	}
	before = descriptors(t) - 1 // the runtime has its own by now
	s := &site{t: t, addr: ln.Addr(), peers: make(chan *peer, 1000), watch: watch}
	opts.Hooks.Queued = func(n int) { s.queued.Add(int64(n)) }
	s.Server = eio.NewServer(func(es *eio.Session) eio.Handler {
		p := &peer{s: es, changed: make(chan struct{}, 1)}
		p.onMessage = func(m string) {
			if data, ok := strings.CutPrefix(m, "echo"); ok {
				_ = es.Send(text(data))
			}
		}
		s.peers <- p
		return p
	}, &opts)
	if !watch {
		s.Unwatch()
	}
	srv := &http.Server{Handler: s.Server, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)}
	served := make(chan struct{})
	go func() { // until Close
		defer close(served)
		_ = srv.Serve(ln)
	}()
	t.Cleanup(func() {
		_ = s.Close()
		_ = srv.Close()
		<-served
		if n := s.queued.Load(); n != 0 {
			t.Errorf("Hooks.Queued sums up to %d bytes, want 0", n)
		}
	})
	return s
}

func descriptors(t *testing.T) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0 // not Linux
	}
	return len(all)
}

// dial opens a session, and closes the connection at the end of the test.
func (s *site) dial() (*wsClient, *peer) {
	s.t.Helper()
	w, err := s.tryDial()
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = w.Close() })
	return w, <-s.peers
}

func (s *site) tryDial() (*wsClient, error) {
	c, err := net.Dial(s.addr.Network(), s.addr.String()) //nolint:noctx // on this machine
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(c, "GET %s?%s HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n", enginePath, wsQuery)
	w := &wsClient{Conn: c, t: s.t, br: bufio.NewReader(c)}
	res, err := http.ReadResponse(w.br, nil)
	if err == nil && res.StatusCode != http.StatusSwitchingProtocols {
		err = errors.New(res.Status)
	}
	if err == nil {
		_, err = w.recv() // the open packet
	}
	if err != nil {
		_ = c.Close()
	}
	return w, err
}

func (p *peer) awaitEnd(t *testing.T, reason eio.CloseReason) error {
	t.Helper()
	eventually(t, "the session does not end", func() bool { return len(p.ends()) > 0 })
	e := p.ends()[0]
	if e.reason != reason {
		t.Errorf("end: got %v, want %q", e, reason)
	}
	return e.err
}

// awaitStack waits until a goroutine is in the function.
func awaitStack(t *testing.T, function string) {
	t.Helper()
	eventually(t, "nobody is in "+function, func() bool { return running(function) > 0 })
}

func running(function string) int {
	buf := make([]byte, 8<<20)
	return strings.Count(string(buf[:runtime.Stack(buf, true)]), function+"(")
}

func TestSocketFramesInPieces(t *testing.T) {
	everyWay(t, eio.Options{}, func(t *testing.T, s *site) {
		w, p := s.dial()
		for i := range 50 {
			data := strings.Repeat(fmt.Sprint(i, ","), 1+i*3)
			for _, b := range clientFrame(opText, "4echo"+data) {
				if _, err := w.Conn.Write([]byte{b}); err != nil {
					t.Fatal(err)
				}
			}
			w.want("4" + data)
		}
		f := clientFrame(opText, "4echoslow")
		for i := range f {
			if _, err := w.Conn.Write(f[i : i+1]); err != nil {
				t.Fatal(err)
			}
			if i < len(f)-1 {
				awaitStack(t, "eio.(*wsConn).read")
			}
		}
		w.want("4slow")
		p.wantEchoes(t, 51)
	})
}

func (p *peer) wantEchoes(t *testing.T, n int) {
	t.Helper()
	if got := len(p.messages()); got != n {
		t.Errorf("%d messages, want %d", got, n)
	}
}

func TestSocketManyMessagesAtOnce(t *testing.T) {
	everyWay(t, eio.Options{}, func(t *testing.T, s *site) {
		w, _ := s.dial()
		var all []byte
		for i := range 3000 { // more than a buffer, and pieces of frames at its end
			all = append(all, clientFrame(opText, fmt.Sprint("4echo", i))...)
		}
		sent := make(chan error, 1)
		go func() { // ends with the connection
			_, err := w.Conn.Write(all)
			sent <- err
		}()
		for i := range 3000 {
			w.want(fmt.Sprint("4", i))
		}
		if err := <-sent; err != nil {
			t.Error(err)
		}
	})
}

func TestSocketLargeMessages(t *testing.T) {
	everyWay(t, eio.Options{MaxHTTPBufferSize: 2 << 20, MaxQueueBytes: 8 << 20}, func(t *testing.T, s *site) {
		w, _ := s.dial()
		for i := range 4 {
			data := strings.Repeat(fmt.Sprint(i), 1<<20)
			go func() { _ = w.write(opText, "4echo"+data) }() // ends with the connection
			w.want("4" + data)
		}
	})
}

const flood = 40 // messages of 1 MiB: more than the system keeps for a client that does not read

func (p *peer) flood() {
	for range flood {
		_ = p.s.Send(text(strings.Repeat("x", 1<<20)))
	}
}

// A pong is taken on a short way of its own if it comes alone. Each ping shows that the pong before has been heard, however
// it came, and nothing that came with it is lost.
func TestSocketPongs(t *testing.T) {
	everyWay(t, eio.Options{PingInterval: 1e7, PingTimeout: 1e10}, func(t *testing.T, s *site) {
		w, p := s.dial()
		pong := clientFrame(opText, "3")
		masked := []byte{0x81, 0x81, 0xa5, 1, 2, 3, '3' ^ 0xa5}
		message := clientFrame(opText, "4a")
		for _, sent := range [][][]byte{
			{pong},
			{masked},
			{pong[:3], pong[3:]},
			{slices.Concat(pong, message)},
			{slices.Concat(message, pong)},
			{message, pong},
			{slices.Concat(pong, pong)},
			{slices.Concat(pong, message[:5]), message[5:]},
			{slices.Concat(clientFrame(opPing, ""), pong)},
			{slices.Concat([]byte{0x01, 0x80, 0, 0, 0, 0}, []byte{0x80}, pong[1:])}, // in two fragments
			{pong},
		} {
			w.want("2")
			for _, b := range sent {
				if _, err := w.Conn.Write(b); err != nil {
					t.Fatal(err)
				}
			}
			if bytes.Contains(sent[0], []byte{0x89}) {
				w.wantFrame(opPong, "")
			}
		}
		w.want("2")
		p.await(4)
		for _, b := range [][]byte{{0x81, 0x81, 0, 0, 0, 0, '7'}, {0x81, 0x01, '3'}} { // unknown, unmasked
			w, p := s.dial()
			w.want("2")
			if _, err := w.Conn.Write(b); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the session does not end", func() bool { return len(p.ends()) > 0 })
		}
		for range 3 { // the end comes with the pong, or right behind it
			w, p := s.dial()
			w.want("2")
			w.send("3")
			_ = w.Close()
			_ = p.awaitEnd(t, eio.ReasonTransportClose)
		}
	})
}

func TestSocketStopsAndGoesOnReading(t *testing.T) {
	everyWay(t, eio.Options{MaxQueueBytes: 64 << 20}, func(t *testing.T, s *site) {
		w, p := s.dial()
		for range 2 {
			p.flood()
			awaitStack(t, "eio.(*wsConn).writeRest")
			w.send("4echohello") // reading goes on
			p.await(1)
			for range flood {
				if got := w.text(); len(got) != 1+1<<20 {
					t.Fatalf("a message of %d bytes", len(got))
				}
			}
			w.want("4hello")
		}
	})
}

func TestSocketNeverReads(t *testing.T) {
	everyWay(t, eio.Options{MaxQueueBytes: 64 << 20, WriteTimeout: 1e8}, func(t *testing.T, s *site) {
		_, p := s.dial()
		p.flood()
		err := p.awaitEnd(t, eio.ReasonTransportClose)
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("error: %v", err)
		}
	})
}

func TestSocketClientLeaves(t *testing.T) {
	for name, leave := range map[string]func(w *wsClient){
		"close": func(w *wsClient) { _ = w.Close() },
		"half":  func(w *wsClient) { _ = w.Conn.(interface{ CloseWrite() error }).CloseWrite() },
		"reset": func(w *wsClient) {
			if tcp, ok := w.Conn.(*net.TCPConn); ok {
				_ = tcp.SetLinger(0)
			}
			_ = w.Close()
		},
		"data and close": func(w *wsClient) {
			_ = w.write(opText, "4last")
			_ = w.Close()
		},
	} {
		t.Run(name, func(t *testing.T) {
			everyWay(t, eio.Options{MaxQueueBytes: 64 << 20}, func(t *testing.T, s *site) {
				w, p := s.dial() // idle
				leave(w)
				_ = p.awaitEnd(t, eio.ReasonTransportClose)
				if name == "data and close" {
					p.wantEchoes(t, 1)
				} else {
					w, p = s.dial() // in a frame
					_, _ = w.Conn.Write(clientFrame(opText, "4hello")[:7])
					awaitStack(t, "eio.(*wsConn).read")
					leave(w)
					_ = p.awaitEnd(t, eio.ReasonTransportClose)
				}

				w, p = s.dial() // being written to
				p.flood()
				awaitStack(t, "eio.(*wsConn).writeRest")
				leave(w)
				_ = p.awaitEnd(t, eio.ReasonTransportClose)
			})
		})
	}
}

func TestSocketServerCloses(t *testing.T) {
	everyWay(t, eio.Options{MaxQueueBytes: 64 << 20}, func(t *testing.T, s *site) {
		w, p := s.dial() // idle
		p.s.Close()
		w.wantClose(1005)
		_ = p.awaitEnd(t, eio.ReasonForcedClose)

		w, p = s.dial() // in a frame, which the client finishes before it answers
		f := clientFrame(opText, "4hello")
		_, _ = w.Conn.Write(f[:7])
		awaitStack(t, "eio.(*wsConn).read")
		p.s.Close()
		if f, err := w.recv(); err != nil || f.op != opClose {
			t.Errorf("got %v, %v, want a close frame", f, err)
		}
		_, _ = w.Conn.Write(f[7:])
		_ = w.write(opClose, "")
		w.wantEnd()
		_ = p.awaitEnd(t, eio.ReasonForcedClose)

		w, p = s.dial() // being written to: what is queued comes first
		p.flood()
		awaitStack(t, "eio.(*wsConn).writeRest")
		p.s.Close()
		for range flood {
			w.text()
		}
		w.wantClose(1005)
		_ = p.awaitEnd(t, eio.ReasonForcedClose)
	})
}

// Descriptors go from one connection to the next while events of the last are under way; nobody gets what is another's.
func TestSocketComeAndGo(t *testing.T) {
	total := int64(1500)
	if testing.Short() {
		total = 400
	}
	everyWay(t, eio.Options{}, func(t *testing.T, s *site) {
		stop := make(chan struct{})
		var drain, clients sync.WaitGroup
		drain.Go(func() {
			for i := 0; ; i++ {
				select {
				case p := <-s.peers:
					if i%5 == 0 {
						p.s.Close()
					}
				case <-stop:
					return
				}
			}
		})
		var next atomic.Int64
		for range 16 {
			clients.Go(func() {
				for i := next.Add(1); i <= total; i = next.Add(1) {
					s.comeAndGo(int(i))
				}
			})
		}
		clients.Wait()
		close(stop)
		drain.Wait()
		eventually(t, "sessions are left", func() bool { return s.Len() == 0 })
	})
}

func (s *site) comeAndGo(i int) {
	w, err := s.tryDial()
	if err != nil {
		return // the server closes some
	}
	defer w.Close()
	for j := range i % 4 {
		data := fmt.Sprint(i, "/", j)
		if w.write(opText, "4echo"+data) != nil {
			return
		}
		f, err := w.recv()
		if err != nil || f.op == opClose {
			return
		}
		if f.data != "4"+data {
			s.t.Errorf("got %v, want %q", f, data)
		}
	}
	switch i / 4 % 4 {
	case 0:
		_ = w.write(opText, "4echoabc")
	case 1:
		_, _ = w.Conn.Write(clientFrame(opText, "4hello")[:5])
	case 2:
		if tcp, ok := w.Conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
	case 3:
		_ = w.write(opClose, "")
		_, _ = io.Copy(io.Discard, w.br)
	}
}

func TestSocketServerShutsWithAllKinds(t *testing.T) {
	everyWay(t, eio.Options{MaxQueueBytes: 64 << 20}, func(t *testing.T, s *site) {
		var peers []*peer
		for i := range 30 {
			w, p := s.dial()
			peers = append(peers, p)
			switch i % 3 {
			case 0: // idle
			case 1:
				_, _ = w.Conn.Write(clientFrame(opText, "4hello")[:7])
			case 2:
				if i < 9 {
					p.flood()
				}
			}
		}
		awaitStack(t, "eio.(*wsConn).read")
		awaitStack(t, "eio.(*wsConn).writeRest")
		_ = s.Close()
		for _, p := range peers {
			_ = p.awaitEnd(t, eio.ReasonShutdown)
		}
		for _, f := range []string{"eio.(*wsConn).Run", "eio.(*watcher).run", "eio.(*wsConn).await"} {
			eventually(t, f+" runs after Close", func() bool { return running(f) == 0 }) // it may be about to return
		}
	})
}

func TestSocketIdleCostsNoGoroutine(t *testing.T) {
	everyWay(t, eio.Options{}, func(t *testing.T, s *site) {
		if !s.watch || runtime.GOOS != "linux" {
			t.Skip("not watched")
		}
		const clients = 100
		var all []*wsClient
		for range clients {
			w, _ := s.dial()
			all = append(all, w)
		}
		for _, w := range all {
			w.send("4echoa")
			w.want("4a")
		}
		eventually(t, "goroutines are kept for idle clients", func() bool {
			return running("eio.(*wsConn).Run") == 0 && running("eio.(*watcher).run") == 1 && running("eio.(*wsConn).await") == 0
		})
	})
}
