package load

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"
)

// websocket is a client's WebSocket.
type websocket struct {
	c *Client

	// Owned by the reader.
	in     frames
	probed bool // the probe of an upgrade was answered

	mu   sync.Mutex
	wire wire
}

// wire is the connection below.
type wire interface {
	write(p []byte) error // called with websocket.mu held
	shut(err error)       // makes the reader end, with this error
}

var buffers = sync.Pool{New: func() any { return new(make([]byte, 0, 512)) }}

const maxKept = 1 << 16 // larger buffers do not go back to the pool

// sendLocked sends a frame whose payload is what build appends.
func (w *websocket) sendLocked(op byte, build func([]byte) []byte) error {
	buf, ok := buffers.Get().(*[]byte)
	if !ok {
		panic("not a buffer")
	}
	b := build(openFrame((*buf)[:0]))
	err := w.wire.write(closeFrame(b, op))
	if cap(b) <= maxKept {
		*buf = b
		buffers.Put(buf)
	}
	return err
}

func (w *websocket) send(op byte, payload string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.sendLocked(op, func(b []byte) []byte { return append(b, payload...) })
}

func (w *websocket) text(p string) error { return w.send(opText, p) }

// message sends each frame with a write of its own, as stock clients do.
func (w *websocket) message(m *Message) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.sendLocked(opText, func(b []byte) []byte { return appendPacket(b, w.c.gen.prefix, m) }); err != nil {
		return err
	}
	for _, a := range m.Attachments {
		if err := w.sendLocked(opBinary, func(b []byte) []byte { return append(b, a...) }); err != nil {
			return err
		}
	}
	return nil
}

// close sends the close frame; the server answers it and closes the connection.
func (w *websocket) close() {
	if err := w.send(opClose, "\x03\xe8"); err != nil {
		w.abort(err)
	}
}

func (w *websocket) abort(err error) {
	w.mu.Lock()
	wire := w.wire
	w.mu.Unlock()
	wire.shut(err)
}

// feed takes what was read.
func (w *websocket) feed(data []byte) error {
	w.c.seen.Store(Now())
	return w.in.feed(data, w.frame)
}

func (w *websocket) frame(op byte, p []byte) error {
	switch op {
	case opText:
		if !w.probed && bytes.Equal(p, []byte("3probe")) {
			w.probed = true
			return nil
		}
		return w.c.engine(p)
	case opBinary:
		return w.c.attachment(p, true)
	case opPing:
		return w.send(opPong, string(p))
	case opPong:
		return nil
	case opClose:
		if w.c.closing.Load() == 0 {
			_ = w.send(opClose, string(p)) // it may be gone
		}
		if len(p) > 2 {
			return fmt.Errorf("%w: %q", errServerClosed, p[2:])
		}
		return errServerClosed
	}
	return errFrame
}

// connectWebSocket connects c, or with the id of a polling session moves that.
func (c *Client) connectWebSocket(ctx context.Context, sid string) error {
	conn, err := c.gen.dial(ctx)
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	w := &websocket{c: c, wire: &stream{conn: conn}}
	rest, err := c.gen.handshake(conn, sid)
	if err == nil {
		err = w.join(conn, rest, sid != "")
	}
	if err != nil {
		_ = conn.Close()
		if ctx.Err() != nil {
			return fmt.Errorf("connect: %w", context.Cause(ctx))
		}
		return fmt.Errorf("connect: %w", err)
	}
	return nil
}

// join does what comes after the handshake, and hands the connection to a reader.
func (w *websocket) join(conn net.Conn, rest []byte, upgrade bool) error {
	c := w.c
	if upgrade {
		if err := w.text("2probe"); err != nil {
			return err
		}
	} else {
		c.transport = w
	}
	buf := make([]byte, 512)
	for {
		if err := w.feed(rest); err != nil {
			return err
		}
		if upgrade && w.probed || !upgrade && c.state.Load() == stateOpen {
			break
		}
		n, err := conn.Read(buf)
		if err != nil {
			return err
		}
		rest = buf[:n]
	}
	if upgrade {
		if err := w.text("5"); err != nil {
			return err
		}
		c.transport = w
	}
	if err := c.gen.add(c); err != nil {
		return err
	}
	if err := c.gen.read(w, conn); err != nil {
		c.gen.remove(c)
		return err
	}
	return nil
}

// handshake makes conn a WebSocket, and returns what came behind the response.
func (g *Generator) handshake(conn net.Conn, sid string) ([]byte, error) {
	var nonce [16]byte
	_, _ = rand.Read(nonce[:]) // never fails
	key := base64.StdEncoding.EncodeToString(nonce[:])
	_, err := io.WriteString(conn, "GET "+g.target(WebSocket, sid)+" HTTP/1.1\r\nHost: "+g.url.Host+"\r\nUser-Agent: "+userAgent+
		"\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: "+key+"\r\n\r\n")
	if err != nil {
		return nil, err
	}
	buf := make([]byte, 0, 1024)
	for {
		n, err := conn.Read(buf[len(buf):cap(buf)])
		if err != nil {
			return nil, err
		}
		buf = buf[:len(buf)+n]
		head, rest, ok := bytes.Cut(buf, []byte("\r\n\r\n"))
		if !ok {
			if len(buf) >= 16<<10 {
				return nil, errors.New("endless response")
			}
			if len(buf) == cap(buf) {
				buf = append(make([]byte, 0, 2*cap(buf)), buf...)
			}
			continue
		}
		status, _, _ := strings.Cut(string(head), "\r\n")
		if !strings.HasPrefix(status, "HTTP/1.1 101") {
			return nil, fmt.Errorf("the server answers %q %.100q", status, rest)
		}
		sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
		if !bytes.Contains(head, []byte(base64.StdEncoding.EncodeToString(sum[:]))) {
			return nil, errors.New("wrong Sec-WebSocket-Accept")
		}
		return rest, nil
	}
}

const userAgent = "patchbay-load"

// stream is a connection with a goroutine of its own that reads it.
type stream struct {
	conn    net.Conn
	timeout time.Duration // of a write; 0: the connection has its deadline already

	once sync.Once
	err  error
}

func (s *stream) write(p []byte) error {
	if s.timeout > 0 {
		if err := s.conn.SetWriteDeadline(time.Now().Add(s.timeout)); err != nil {
			return err
		}
	}
	_, err := s.conn.Write(p)
	return err
}

func (s *stream) shut(err error) {
	s.once.Do(func() { s.err = err })
	_ = s.conn.Close()
}

// readStream starts the goroutine, which ends with the connection.
func (g *Generator) readStream(w *websocket, conn net.Conn) error {
	if err := conn.SetDeadline(time.Time{}); err != nil {
		return err
	}
	s := &stream{conn: conn, timeout: g.opts.Timeout}
	w.mu.Lock()
	w.wire = s
	w.mu.Unlock()
	g.wg.Go(func() {
		buf := make([]byte, 2048)
		for {
			n, err := conn.Read(buf)
			if err == nil {
				err = w.feed(buf[:n])
			}
			if err != nil {
				s.shut(err)
				w.c.end(s.err)
				return
			}
		}
	})
	return nil
}
