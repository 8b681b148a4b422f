package eio_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-0b620db0/patchbay/pkg/eio"
)

const (
	opContinuation = 0
	opText         = 1
	opBinary       = 2
	opClose        = 8
	opPing         = 9
	opPong         = 10
)

// frame is a WebSocket frame as it came over the wire.
type frame struct {
	op   byte
	data string
}

func (f frame) String() string { return fmt.Sprintf("op %d %.80q", f.op, f.data) }

// wsClient speaks WebSocket by hand: it does nothing by itself, so that a test decides about pongs and close frames, and it
// takes no frame that RFC 6455 forbids a server to send.
type wsClient struct {
	net.Conn
	t        testing.TB
	br       *bufio.Reader
	response *http.Response
	rsv1     bool // compression was negotiated

	wmu sync.Mutex
}

// rawDial connects and sends an upgrade request without reading the answer.
func (l *lab) rawDial(query string, headers ...string) net.Conn {
	l.t.Helper()
	c, err := l.listener.Dial(context.Background())
	if err != nil {
		l.t.Fatal(err)
	}
	fmt.Fprintf(c, "GET %s?%s HTTP/1.1\r\nHost: memory\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n", enginePath, query)
	for _, h := range headers {
		fmt.Fprintf(c, "%s\r\n", h)
	}
	fmt.Fprint(c, "\r\n")
	l.t.Cleanup(func() { c.Close() })
	return c
}

// dial upgrades; a refusal is found in the response, with its body.
func (l *lab) dial(query string, headers ...string) (*wsClient, response) {
	l.t.Helper()
	c := l.rawDial(query, headers...)
	w := &wsClient{Conn: c, t: l.t, br: bufio.NewReader(c)}
	res, err := http.ReadResponse(w.br, nil)
	if err != nil {
		return w, response{err: err}
	}
	w.response = res
	w.rsv1 = res.Header.Get("Sec-WebSocket-Extensions") != ""
	r := response{status: res.StatusCode, header: res.Header, length: res.ContentLength}
	if res.StatusCode != http.StatusSwitchingProtocols {
		b, err := io.ReadAll(res.Body)
		r.body, r.err = string(b), err
	}
	return w, r
}

// wsSession is the client of a WebSocket session.
type wsSession struct {
	*wsClient
	open opened
	peer *peer
}

// ws opens a session over WebSocket.
func (l *lab) ws(headers ...string) *wsSession {
	l.t.Helper()
	w, r := l.dial(wsQuery, headers...)
	if r.status != http.StatusSwitchingProtocols {
		l.t.Fatalf("handshake: %v", r)
	}
	o, err := parseOpen(w.text())
	if err != nil {
		l.t.Fatal(err)
	}
	synctest.Wait() // the open packet may be here before the handler
	return &wsSession{w, o, l.last()}
}

// probe opens the WebSocket of an upgrade.
func (p *poller) probe() *wsClient {
	p.l.t.Helper()
	w, r := p.l.dial(wsQuery + "&sid=" + p.sid)
	if r.status != http.StatusSwitchingProtocols {
		p.l.t.Fatalf("probe: %v", r)
	}
	return w
}

// upgrade moves the session to WebSocket the way a client does that has no poll open.
func (p *poller) upgrade() *wsClient {
	p.l.t.Helper()
	w := p.probe()
	w.send("2probe")
	w.want("3probe")
	w.send("5")
	return w
}

// recv reads one frame, of any kind.
func (w *wsClient) recv() (frame, error) {
	h, err := w.br.ReadByte()
	if err != nil {
		return frame{}, err
	}
	n7, err := w.br.ReadByte()
	if err != nil {
		return frame{}, noEOF(err)
	}
	f := frame{op: h & 0xf}
	switch {
	case h&0x80 == 0:
		return f, errors.New("a fragment: the server sends whole messages")
	case h&0x30 != 0 || h&0x40 != 0 && !w.rsv1:
		return f, errors.New("reserved bits are set")
	case n7&0x80 != 0:
		return f, errors.New("a masked frame from the server")
	case f.op != opText && f.op != opBinary && f.op != opClose && f.op != opPing && f.op != opPong:
		return f, fmt.Errorf("opcode %d", f.op)
	case f.op >= opClose && n7 > 125:
		return f, errors.New("a control frame of more than 125 bytes")
	}
	n := uint64(n7)
	var ext [8]byte
	switch n7 {
	case 126:
		_, err = io.ReadFull(w.br, ext[:2])
		n = uint64(binary.BigEndian.Uint16(ext[:]))
	case 127:
		_, err = io.ReadFull(w.br, ext[:])
		n = binary.BigEndian.Uint64(ext[:])
	}
	if n > 1<<30 {
		return f, fmt.Errorf("a frame of %d bytes", n)
	}
	b := make([]byte, n)
	if err == nil {
		_, err = io.ReadFull(w.br, b)
	}
	f.data = string(b)
	return f, noEOF(err)
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// text reads one frame, which must be text.
func (w *wsClient) text() string {
	w.t.Helper()
	f, err := w.recv()
	if err != nil || f.op != opText {
		w.t.Fatalf("websocket: got %v, %v, want text", f, err)
	}
	return f.data
}

func (w *wsClient) want(packets ...string) {
	w.t.Helper()
	for _, p := range packets {
		if got := w.text(); got != p {
			w.t.Fatalf("websocket: got %.80q, want %.80q", got, p)
		}
	}
}

func (w *wsClient) wantFrame(op byte, data string) {
	w.t.Helper()
	if f, err := w.recv(); err != nil || f != (frame{op, data}) {
		w.t.Errorf("websocket: got %v, %v, want %v", f, err, frame{op, data})
	}
}

// wantClose reads the close frame, which must come next; code 1005 stands for one without a status. It answers it, and
// waits for the end of the connection.
func (w *wsClient) wantClose(code int) {
	w.t.Helper()
	f, err := w.recv()
	if err != nil || f.op != opClose {
		w.t.Errorf("websocket: got %v, %v, want a close frame with %d", f, err, code)
		return
	}
	got := 1005
	if len(f.data) >= 2 {
		got = int(binary.BigEndian.Uint16([]byte(f.data)))
	}
	if got != code {
		w.t.Errorf("websocket: close frame with %d, want %d", got, code)
	}
	_ = w.write(opClose, f.data)
	w.wantEnd()
}

// wantEnd waits for the end of the connection, with no frame before it.
func (w *wsClient) wantEnd() {
	w.t.Helper()
	if f, err := w.recv(); err == nil {
		w.t.Errorf("websocket: got %v, want the end", f)
	}
}

func clientFrame(op byte, data string) []byte {
	var b bytes.Buffer
	b.WriteByte(0x80 | op)
	switch n := len(data); {
	case n < 126:
		b.WriteByte(0x80 | byte(n))
	case n < 1<<16:
		b.WriteByte(0x80 | 126)
		_ = binary.Write(&b, binary.BigEndian, uint16(n))
	default:
		b.WriteByte(0x80 | 127)
		_ = binary.Write(&b, binary.BigEndian, uint64(n))
	}
	b.WriteString("\x00\x00\x00\x00" + data) // a mask of zeros is a mask
	return b.Bytes()
}

func (w *wsClient) write(op byte, data string) error {
	w.wmu.Lock()
	defer w.wmu.Unlock()
	_, err := w.Conn.Write(clientFrame(op, data))
	return err
}

func (w *wsClient) send(packets ...string) {
	w.t.Helper()
	for _, p := range packets {
		if err := w.write(opText, p); err != nil {
			w.t.Fatalf("websocket: write %.80q: %v", p, err)
		}
	}
}

// packets splits a polling payload, and drops the noops.
func packets(body string) []string {
	var all []string
	for p := range strings.SplitSeq(body, "\x1e") {
		if p != "6" {
			all = append(all, p)
		}
	}
	return all
}

var _ eio.Handler = (*peer)(nil)

// slowReader takes 100 KB a second.
type slowReader struct{ net.Conn }

func (r *slowReader) Read(p []byte) (int, error) {
	n, err := r.Conn.Read(p[:min(len(p), 4096)])
	time.Sleep(time.Duration(n) * time.Second / 100_000)
	return n, err
}
