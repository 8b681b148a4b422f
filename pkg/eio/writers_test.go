package eio_test

import (
	"bytes"
	"io"
	"net"
	"runtime/debug"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-0b620db0/patchbay/pkg/eio"
)

// Who sends may hold what Handler.Closed needs.
func TestSendNowDoesNotCallClosed(t *testing.T) {
	everyWay(t, eio.Options{}, func(t *testing.T, s *site) {
		w, p := s.dial()
		done := make(chan struct{})
		p.mu.Lock()                  // Message and Closed take it before they look at these
		p.onMessage = func(string) { // nobody reads meanwhile, so it is the write that fails
			defer close(done)
			if tcp, ok := w.Conn.(*net.TCPConn); ok {
				_ = tcp.SetLinger(0)
			}
			_ = w.Close()
			for p.s.SendNow(text("x")) == nil {
			}
		}
		p.onClosed = func() {
			if stack := debug.Stack(); bytes.Contains(stack, []byte("(*Session).SendNow(")) {
				t.Errorf("Handler.Closed is called by SendNow:\n%s", stack)
			}
		}
		p.mu.Unlock()
		w.send("4go")
		<-done
		_ = p.awaitEnd(t, eio.ReasonTransportClose)
	})
}

// What follows a frame that was broken off would be part of it for the client.
func TestNothingFollowsABrokenFrame(t *testing.T) {
	everyWay(t, eio.Options{WriteTimeout: 1e8}, func(t *testing.T, s *site) {
		w, p := s.dial()
		_ = p.s.Send(text(strings.Repeat("x", flood<<20)))
		awaitStack(t, "eio.(*wsConn).writeRest")
		_ = w.write(opPing, "a pong is due")
		_ = p.awaitEnd(t, eio.ReasonTransportClose)
		got, _ := io.ReadAll(w.br)
		const header = 10 + len("4")
		if len(got) < header || len(got) >= header+flood<<20 {
			t.Fatalf("got %d bytes", len(got))
		}
		if rest := bytes.Trim(got[header:], "x"); len(rest) > 0 {
			t.Errorf("within the frame there is %q", rest)
		}
	})
}

type taskFunc func()

func (f taskFunc) Run() { f() }

// A reader that waits because the other transport still delivers gives away the task that it has put off.
func TestLaterDoesNotWaitForTheOtherTransport(t *testing.T) {
	first, second, ran := make(chan struct{}), make(chan struct{}), make(chan struct{})
	opts := &eio.Options{}
	opts.Hooks.Received = func(transport eio.Transport, n int) { // who is next
		switch {
		case transport == eio.Polling && n == len("post 2"):
			<-first
		case transport == eio.WebSocket && n == len("stream 2"):
			<-second
		}
	}
	bubble(t, opts, func(t *testing.T, l *lab) {
		adopted := make(chan struct{})
		l.accept = func(p *peer) {
			p.onMessage = func(m string) {
				switch m {
				case "post":
					<-adopted
				case "stream":
					if !p.s.Later(taskFunc(func() { close(ran) })) {
						t.Error("refused")
						close(ran)
					}
					close(first)
				case "post 2":
					close(second)
					select {
					case <-ran:
					case <-time.After(time.Minute):
						t.Error("the task waits for this message")
					}
				}
			}
		}
		p := l.poller()
		post := p.postLater(bodyOf("4post\x1e4post 2"))
		w := p.upgrade()
		_, _ = w.Conn.Write(append(clientFrame(opText, "4stream"), clientFrame(opText, "4stream 2")...))
		synctest.Wait()
		close(adopted)
		wantResponse(t, post.wait(), 200, "ok")
		p.peer.wantMessages(t, "post", "stream", "post 2", "stream 2")
	})
}

// Close ends a session at once whose handshake it has met.
func TestCloseDuringAHandshake(t *testing.T) {
	for name, query := range map[string]string{"polling": pollQuery, "websocket": wsQuery} {
		t.Run(name, func(t *testing.T) {
			bubble(t, nil, func(t *testing.T, l *lab) {
				accepting, accept := make(chan struct{}), make(chan struct{})
				l.accept = func(*peer) {
					close(accepting)
					<-accept
				}
				if name == "polling" {
					go l.request("GET", query, nil, nil) // ends with the server
				} else {
					l.rawDial(query)
				}
				<-accepting
				closed := make(chan struct{})
				go func() { // ends with the server
					defer close(closed)
					_ = l.Close()
				}()
				synctest.Wait()
				begun := time.Now()
				close(accept)
				<-closed
				if d := time.Since(begun); d != 0 {
					t.Errorf("it took %v", d)
				}
			})
		})
	}
}
