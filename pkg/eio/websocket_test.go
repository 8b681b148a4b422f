package eio_test

import (
	"bytes"
	"compress/flate"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-0b620db0/patchbay/pkg/eio"
)

func TestWebSocketBothWays(t *testing.T) {
	bubble(t, nil, func(t *testing.T, l *lab) {
		c := l.ws()
		if len(c.open.Upgrades) != 0 {
			t.Errorf("upgrades: %v", c.open.Upgrades)
		}
		c.send("4a", "4", "4été", "bAQID", "bAQ==") // base64 in a text frame is binary here too
		_ = c.write(opBinary, "raw")
		_ = c.write(opBinary, "")
		c.send("0", "5", "6")
		c.peer.wantMessages(t, "a", "", "été", "bin:\x01\x02\x03", "bin:\x01", "bin:raw", "bin:")
		for _, n := range []int{0, 1, 124, 125, 126, 65534, 65535, 65536} { // around the steps of the length
			s := strings.Repeat("x", n)
			_ = c.peer.s.Send(text(s))
			_ = c.peer.s.Send(bin(s))
			c.want("4" + s)
			c.wantFrame(opBinary, s)
		}
		c.peer.wantOpen(t)
	})
}

func TestLesson5_WebSocketFragmentsAndEarlyFrames(t *testing.T) {
	bubble(t, nil, func(t *testing.T, l *lab) {
		c := l.ws()
		begin, end := clientFrame(opText, "4a"), clientFrame(opContinuation, "b")
		begin[0] &^= 0x80
		_, _ = c.Conn.Write(append(append(begin, clientFrame(opPing, "in between")...), end...))
		c.wantFrame(opPong, "in between")
		c.peer.wantMessages(t, "ab")

		// Frames that come in one piece with the request, more of them than the small buffer holds.
		early := l.rawDial(wsQuery, "X-Pad: x")
		for i := range 200 {
			_, _ = early.Write(clientFrame(opText, fmt.Sprint("4", i)))
		}
		synctest.Wait()
		if got := l.last().messages(); len(got) != 200 || got[0] != "0" || got[199] != "199" {
			t.Errorf("%d messages", len(got))
		}
	})
}

func TestWebSocketFaults(t *testing.T) {
	unmasked := func(w *wsClient) { _, _ = w.Conn.Write([]byte{0x81, 2, '4', 'x'}) }
	for _, c := range []struct {
		name   string
		fault  func(*wsClient)
		code   int // of the close frame that the peer sees
		reason eio.CloseReason
	}{
		{"message too large", func(w *wsClient) { _ = w.write(opText, "4"+strings.Repeat("x", 1000)) }, 1009, eio.ReasonTransportError},
		{"invalid UTF-8", func(w *wsClient) { _ = w.write(opText, "4\xff") }, 1007, eio.ReasonTransportError},
		{"unknown type", func(w *wsClient) { _ = w.write(opText, "9") }, 1005, eio.ReasonParseError},
		{"empty packet", func(w *wsClient) { _ = w.write(opText, "") }, 1005, eio.ReasonParseError},
		{"bad base64", func(w *wsClient) { _ = w.write(opText, "b*") }, 1005, eio.ReasonParseError},
		{"ping", func(w *wsClient) { _ = w.write(opText, "2") }, 1005, eio.ReasonTransportError},
		{"unknown opcode", func(w *wsClient) { _ = w.write(3, "x") }, 1002, eio.ReasonTransportError},
		{"unmasked", unmasked, 1005, eio.ReasonTransportError},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, &eio.Options{MaxHTTPBufferSize: 1000}, func(t *testing.T, l *lab) {
				w := l.ws()
				c.fault(w.wsClient)
				w.wantClose(c.code)
				w.peer.wantEnd(t, c.reason)
				w.peer.wantMessages(t)
			})
		})
	}
	t.Run("as large as allowed", func(t *testing.T) {
		bubble(t, &eio.Options{MaxHTTPBufferSize: 1000}, func(t *testing.T, l *lab) {
			w := l.ws()
			_ = w.write(opText, "4"+strings.Repeat("x", 999))
			w.peer.wantMessages(t, strings.Repeat("x", 999))
		})
	})
}

// The client vanishes before it has read the handshake; what is written to it fails while the session is being opened.
func TestWebSocketThatIsGoneBeforeItIsOpen(t *testing.T) {
	slow := func(*eio.Session) { time.Sleep(time.Second) } // everything else gets its chance
	for name, hooks := range map[string]eio.Hooks{
		"hook Opened": {Opened: slow},
		"hook Queued": {Queued: func(n int) {
			if n > 0 {
				slow(nil)
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, &eio.Options{Hooks: hooks}, func(t *testing.T, l *lab) {
				l.accept = func(p *peer) {
					slow(nil)
					_ = p.s.Send(text("a"))
				}
				_ = l.rawDial(wsQuery).Close()
				time.Sleep(10 * time.Second)
				l.last().wantEnd(t, eio.ReasonTransportClose)
			})
		})
	}
}

func TestSubprotocol(t *testing.T) {
	bubble(t, nil, func(t *testing.T, l *lab) {
		for offered, want := range map[string]string{"": "", "first": "first", "first, second": "first", " spaced ,x": "spaced"} {
			var h []string
			if offered != "" {
				h = append(h, "Sec-WebSocket-Protocol: "+offered)
			}
			if got := l.ws(h...).response.Header.Get("Sec-WebSocket-Protocol"); got != want {
				t.Errorf("offered %q: got %q", offered, got)
			}
		}
	})
}

func TestBase64WebSocket(t *testing.T) {
	bubble(t, nil, func(t *testing.T, l *lab) {
		c, r := l.dial(wsQuery + "&b64=1")
		if r.status != 101 {
			t.Fatal(r)
		}
		c.text()
		synctest.Wait()
		_ = l.last().s.Send(eio.NewMessage(eio.Frame{Data: []byte("head")}, eio.Frame{Data: []byte{1, 2, 3, 4}, Binary: true}))
		c.want("4head", "bAQIDBA==")
	})
}

func TestPerMessageDeflate(t *testing.T) {
	const offer = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"
	long := strings.Repeat("x", 2000)
	t.Run("negotiated", func(t *testing.T) {
		bubble(t, &eio.Options{PerMessageDeflate: &eio.PerMessageDeflate{}}, func(t *testing.T, l *lab) {
			c := l.ws(offer)
			if !c.rsv1 {
				t.Fatal("not negotiated")
			}
			_ = c.peer.s.Send(text("short"))
			_ = c.peer.s.Send(text(long))
			c.want("4short")
			f, err := c.recv()
			if err != nil || len(f.data) > 100 {
				t.Fatalf("%v, %v", f, err)
			}
			b, err := io.ReadAll(flate.NewReader(io.MultiReader(strings.NewReader(f.data), strings.NewReader("\x00\x00\xff\xff\x01\x00\x00\xff\xff"))))
			if err != nil || string(b) != "4"+long {
				t.Errorf("%.50q, %v", b, err)
			}

			var z bytes.Buffer
			w, _ := flate.NewWriter(&z, flate.BestSpeed)
			_, _ = io.WriteString(w, "4"+long)
			_ = w.Flush()
			compressed := clientFrame(opText, strings.TrimSuffix(z.String(), "\x00\x00\xff\xff"))
			compressed[0] |= 0x40
			_, _ = c.Conn.Write(compressed)
			c.peer.wantMessages(t, long)
		})
	})
	t.Run("not wanted by the client", func(t *testing.T) {
		bubble(t, &eio.Options{PerMessageDeflate: &eio.PerMessageDeflate{}}, func(t *testing.T, l *lab) {
			c := l.ws()
			_ = c.peer.s.Send(text(long))
			c.want("4" + long)
		})
	})
	t.Run("not offered by the server", func(t *testing.T) {
		bubble(t, nil, func(t *testing.T, l *lab) {
			c := l.ws(offer)
			if c.rsv1 {
				t.Error("negotiated")
			}
			_ = c.peer.s.Send(text(long))
			c.want("4" + long)
		})
	})
	t.Run("a bomb", func(t *testing.T) {
		bubble(t, &eio.Options{PerMessageDeflate: &eio.PerMessageDeflate{}, MaxHTTPBufferSize: 10_000}, func(t *testing.T, l *lab) {
			c := l.ws(offer)
			var z bytes.Buffer
			w, _ := flate.NewWriter(&z, flate.BestSpeed)
			_, _ = io.WriteString(w, "4"+strings.Repeat("x", 1_000_000))
			_ = w.Flush()
			f := clientFrame(opText, strings.TrimSuffix(z.String(), "\x00\x00\xff\xff"))
			f[0] |= 0x40
			_, _ = c.Conn.Write(f)
			c.wantClose(1009)
			c.peer.wantEnd(t, eio.ReasonTransportError)
		})
	})
}
