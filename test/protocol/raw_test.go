package protocol_test

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/seed-0b620db0/patchbay/internal/siotest"
)

// rawConn is a TCP connection on which the bytes are ours.
type rawConn struct {
	net.Conn
	r *bufio.Reader
}

func dialRaw(t *testing.T, f *fixture) *rawConn {
	t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(f.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(siotest.Patience)); err != nil {
		t.Fatal(err)
	}
	return &rawConn{c, bufio.NewReader(c)}
}

// request writes the head of a request and what follows it.
func (c *rawConn) request(t *testing.T, method, addr string, headers []string, body string) {
	t.Helper()
	_, target, _ := strings.Cut(strings.TrimPrefix(addr, "http://"), "/")
	head := fmt.Sprintf("%s /%s HTTP/1.1\r\nHost: 127.0.0.1\r\n", method, target)
	for _, h := range headers {
		head += h + "\r\n"
	}
	if _, err := io.WriteString(c, head+"\r\n"+body); err != nil {
		t.Fatal(err)
	}
}

var upgradeHeaders = []string{
	"Connection: Upgrade", "Upgrade: websocket",
	"Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
}

// rest reads until the server hangs up; a reset counts as that.
func (c *rawConn) rest(t *testing.T) string {
	t.Helper()
	b, err := io.ReadAll(c.r)
	if ne, ok := err.(net.Error); ok && ne.Timeout() { //nolint:errorlint // net.Conn returns it as it is
		t.Fatalf("the server did not hang up; it wrote %q", b)
	}
	return string(b)
}

// response reads one HTTP response.
func (c *rawConn) response(t *testing.T) (*http.Response, string) {
	t.Helper()
	res, err := http.ReadResponse(c.r, nil)
	if err != nil {
		t.Fatalf("no response: %v", err)
	}
	if res.StatusCode == http.StatusSwitchingProtocols {
		return res, ""
	}
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(b)
}

// frame reads one WebSocket frame as it is on the wire. Frames of a server are not masked.
func (c *rawConn) frame(t *testing.T) (head byte, payload string) {
	t.Helper()
	var h [2]byte
	if _, err := io.ReadFull(c.r, h[:]); err != nil {
		t.Fatalf("no frame: %v", err)
	}
	if h[1]&0x80 != 0 {
		t.Fatal("a masked frame from the server")
	}
	n := uint64(h[1])
	var err error
	switch n {
	case 126:
		var v uint16
		err = binary.Read(c.r, binary.BigEndian, &v)
		n = uint64(v)
	case 127:
		err = binary.Read(c.r, binary.BigEndian, &n)
	}
	b := make([]byte, n)
	if err == nil {
		_, err = io.ReadFull(c.r, b)
	}
	if err != nil {
		t.Fatal(err)
	}
	return h[0], string(b)
}

// writeFrame writes one masked frame with the given first byte; the mask is zero.
func (c *rawConn) writeFrame(t *testing.T, head byte, payload string) {
	t.Helper()
	if len(payload) > 125 {
		t.Fatal("short frames only")
	}
	if _, err := io.WriteString(c, string([]byte{head, 0x80 | byte(len(payload)), 0, 0, 0, 0})+payload); err != nil {
		t.Fatal(err)
	}
}
