package eio_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-0b620db0/patchbay/internal/siotest"
	"github.com/seed-0b620db0/patchbay/pkg/eio"
)

// Many clients come and go over real connections, in every way a client can; afterwards the process is what it was.
func TestLesson7_ManyConnectsAndDisconnects(t *testing.T) {
	total := 20_000
	if testing.Short() {
		total = 400
	}
	siotest.LeakCheck(t)
	var opened, closed, queued atomic.Int64
	srv := eio.NewServer(func(s *eio.Session) eio.Handler {
		return &echo{s, &closed}
	}, &eio.Options{Hooks: eio.Hooks{
		Opened: func(*eio.Session) { opened.Add(1) },
		Queued: func(n int) { queued.Add(int64(n)) },
	}})
	ts := httptest.NewServer(srv)
	defer ts.Close()
	addr := ts.Listener.Addr().String()

	round := func(n int) {
		var next atomic.Int64
		var wg sync.WaitGroup
		for range 16 {
			wg.Go(func() {
				for i := next.Add(1); i <= int64(n); i = next.Add(1) {
					if err := visit(addr, int(i)); err != nil {
						t.Errorf("client %d: %v", i, err)
						return
					}
				}
			})
		}
		wg.Wait()
		for _, s := range srv.Snapshot() { // of clients that left without a word
			s.Close()
		}
		eventually(t, "sessions are left", func() bool {
			for _, s := range srv.Snapshot() {
				visitClosed(addr, s.ID())
			}
			return srv.Len() == 0
		})
	}
	round(total / 20) // pools and the runtime take what they need
	before := footprint(t)
	round(total)
	after := footprint(t)
	if o, c := opened.Load(), closed.Load(); o != c || o == 0 {
		t.Errorf("%d sessions, %d ends", o, c)
	}
	eventually(t, "bytes are left in queues", func() bool { return queued.Load() == 0 })
	// What is left per client, if anything were, would be at least a session of some hundred bytes.
	if grown := int64(after) - int64(before); grown > int64(total)*100+2<<20 {
		t.Errorf("the heap has grown by %d bytes over %d clients", grown, total)
	}
	if err := srv.Close(); err != nil {
		t.Error(err)
	}
}

type echo struct {
	s      *eio.Session
	closed *atomic.Int64
}

func (e *echo) Message(data []byte, binary bool) {
	_ = e.s.Send(eio.NewMessage(eio.Frame{Data: data, Binary: binary}))
}

func (e *echo) Closed(eio.CloseReason, error) { e.closed.Add(1) }

// visit is one client, whose way to come and to go is chosen by i.
func visit(addr string, i int) error {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(siotest.Patience))
	br := bufio.NewReader(c)
	request := func(method, query, extra, body string) (string, error) {
		fmt.Fprintf(c, "%s %s?%s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n%s\r\n%s", method, enginePath, query, len(body), extra, body)
		res, err := http.ReadResponse(br, nil)
		if err != nil {
			return "", err
		}
		if res.StatusCode == http.StatusSwitchingProtocols {
			return "", nil
		}
		b, err := io.ReadAll(res.Body)
		return string(b), err
	}
	const upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
	reset := func() { // no goodbye, not even from the kernel
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
	}
	if i%2 == 0 {
		if _, err := request("GET", wsQuery, upgrade, ""); err != nil {
			return err
		}
		switch i / 2 % 4 {
		case 0: // gone at once
			reset()
		case 1:
			_, err = br.ReadByte()
		case 2: // in order
			_, _ = c.Write(append(clientFrame(opText, "4hello"), clientFrame(opClose, "\x03\xe8")...))
			_, err = io.Copy(io.Discard, br)
		case 3: // in the middle of a frame
			_, err = c.Write(clientFrame(opText, "4hello")[:5])
			reset()
		}
		return err
	}
	open, err := request("GET", pollQuery, "", "")
	if err != nil {
		return err
	}
	o, err := parseOpen(open)
	if err != nil {
		return err
	}
	query := pollQuery + "&sid=" + o.SID
	switch i / 2 % 4 {
	case 0: // in order
		if _, err = request("POST", query, "", "4hello"); err == nil {
			_, err = request("GET", query, "", "")
		}
		if err == nil {
			_, err = request("POST", query, "", "1")
		}
	case 1: // an aborted poll
		fmt.Fprintf(c, "GET %s?%s HTTP/1.1\r\nHost: x\r\n\r\n", enginePath, query)
		reset()
	case 2: // an aborted POST
		fmt.Fprintf(c, "POST %s?%s HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n4hello", enginePath, query)
	case 3: // an upgrade that is cut off
		if _, err = request("GET", wsQuery+"&sid="+o.SID, upgrade, ""); err == nil {
			_, err = c.Write(append(clientFrame(opText, "2probe"), clientFrame(opText, "5")...))
		}
	}
	return err
}

// visitClosed fetches what waits for a client that is told to leave.
func visitClosed(addr, sid string) {
	res, err := http.Get("http://" + addr + enginePath + "?" + pollQuery + "&sid=" + sid) //nolint:noctx // the test's own server
	if err == nil {
		_, _ = io.Copy(io.Discard, res.Body)
		_ = res.Body.Close()
	}
	http.DefaultClient.CloseIdleConnections()
}

// footprint is the heap in use when all that can go has gone.
func footprint(t *testing.T) uint64 {
	t.Helper()
	eventually(t, "goroutines are left", func() bool {
		buf := make([]byte, 4<<20)
		stacks := string(buf[:runtime.Stack(buf, true)])
		return !strings.Contains(stacks, "pkg/eio.(*Session)") && !strings.Contains(stacks, "pkg/eio.(*wsConn)")
	})
	var m runtime.MemStats
	for range 3 { // finalizers, and pools that keep things for two rounds
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// eventually looks again and again, for as long as one should be patient.
func eventually(t testing.TB, complaint string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(siotest.Patience)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal(complaint)
		}
	}
}
