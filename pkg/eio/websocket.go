package eio

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/coder/websocket"

	"github.com/seed-0b620db0/patchbay/internal/crew"
	"github.com/seed-0b620db0/patchbay/pkg/eio/eioproto"
)

// wsConn is a WebSocket. The library does the handshake, all reading, control frames and compression. Data frames that need
// no compression are built by [Message], once for all clients, and written beside the library's writer; frameConn keeps the
// two from meeting within a frame.
type wsConn struct {
	session *Session // whose transport it is, or wants to be
	ws      *websocket.Conn
	conn    *frameConn
	later   laterTask
	deflate bool // negotiated: data frames go through the library
	base64  bool // b64=1: the client takes text frames only
}

// unbounded is what the library's calls get: the heartbeat and the connection's time-outs end them.
var unbounded = context.Background()

// upgrade makes the request's connection a WebSocket, or answers it with an error.
func (s *Session) upgrade(w http.ResponseWriter, r *http.Request) (*wsConn, error) {
	srv := s.srv
	opts := &websocket.AcceptOptions{
		InsecureSkipVerify: true, // origins are Options.AllowRequest's business, as in the official server
		CompressionMode:    websocket.CompressionDisabled,
	}
	if first, _, _ := strings.Cut(r.Header.Get("Sec-WebSocket-Protocol"), ","); first != "" {
		opts.Subprotocols = []string{strings.TrimSpace(first)}
	}
	if d := srv.opts.PerMessageDeflate; d != nil {
		opts.CompressionMode, opts.CompressionThreshold = websocket.CompressionNoContextTakeover, d.Threshold
	}
	c := &wsConn{session: s}
	opts.OnPingReceived = c.pinged // nothing that holds the request: it would stay as long as the connection
	h := &hijacker{ResponseWriter: w, reader: c}
	ws, err := websocket.Accept(h, r, opts)
	if err != nil {
		return nil, err
	}
	h.conn.buffered.Reset(h.conn) // nothing is in it; the library has put a reader of its own below
	ws.SetReadLimit(int64(srv.opts.MaxHTTPBufferSize))
	c.ws, c.conn = ws, h.conn
	c.deflate = w.Header().Get("Sec-WebSocket-Extensions") != ""
	c.base64 = r.URL.Query().Get("b64") != ""
	c.conn.timeout = srv.opts.WriteTimeout
	c.conn.library = c.deflate || c.base64
	return c, nil
}

// pinged answers a ping frame. It tells whether the library should.
func (c *wsConn) pinged(_ context.Context, payload []byte) bool {
	if c.conn.library {
		return true // which does not write its frames in one piece
	}
	c.runLater() // the pong may have to wait
	c.conn.pong(payload)
	return false
}

// direct tells whether the connection can be written to without ever blocking.
func (c *wsConn) direct() bool { return c.conn.direct() && !c.conn.library }

// write sends a batch in as few writes as possible, and returns the bytes.
func (c *wsConn) write(batch []queued) (int, error) {
	if c.conn.library {
		return c.writeFrameByFrame(batch)
	}
	c.conn.lock()
	defer c.conn.unlock()
	buf := writeBuffers.get()
	defer writeBuffers.put(buf)
	return c.writeRest(rest{batch: batch}, *buf)
}

// rest is what is still to be written of a batch: first a piece of it that is encoded already, then the others.
type rest struct {
	piece []byte
	batch []queued
}

// next takes the next piece: one large message, or as many small ones as fit into buf side by side.
func (r *rest) next(buf []byte) []byte {
	if p := r.piece; len(p) > 0 {
		r.piece = nil
		return p
	}
	b := buf[:0]
	for i, q := range r.batch {
		frames := q.m.webSocketFrames()
		if len(b)+len(frames) > cap(b) {
			if i == 0 {
				r.batch = r.batch[1:]
				return frames
			}
			r.batch = r.batch[i:]
			return b
		}
		if len(r.batch) == 1 { // nothing to put it beside
			r.batch = nil
			return frames
		}
		b = append(b, frames...)
	}
	r.batch = nil
	return b
}

// writeRest writes all of r; the connection is locked.
func (c *wsConn) writeRest(r rest, buf []byte) (total int, err error) {
	for err == nil {
		p := r.next(buf)
		if len(p) == 0 {
			break
		}
		var n int
		n, err = c.conn.writeLocked(p)
		total += n
	}
	return total, err
}

// writeNow writes as much of r as it can without blocking. What it returns as left over may be in buf, and keeps the
// connection locked: the frame that was broken off must go on first.
func (c *wsConn) writeNow(r rest, buf []byte) (total int, left rest, err error) {
	if !c.conn.tryLock() {
		return 0, r, nil
	}
	for {
		p := r.next(buf)
		if len(p) == 0 {
			if p = c.conn.release(); p == nil {
				return total, rest{}, nil
			}
		}
		n, err := c.conn.writeNowLocked(p)
		total += n
		if err != nil {
			c.conn.unlock()
			return total, rest{}, err
		}
		if n < len(p) {
			r.piece = p[n:]
			return total, r, nil
		}
	}
}

func (c *wsConn) writeFrameByFrame(batch []queued) (total int, err error) {
	for _, q := range batch {
		for _, f := range q.m.frames {
			kind, data := websocket.MessageText, f.Data
			if f.Binary && !c.base64 {
				kind = websocket.MessageBinary
			} else {
				data = q.m.packet(f).AppendText(nil)
			}
			if err = c.ws.Write(unbounded, kind, data); err != nil {
				return total, err
			}
			total += len(data)
		}
	}
	return total, nil
}

// readBuffers are borrowed while a message is being read; between messages a connection holds none.
var readBuffers = newPool(func() *[]byte { return new(make([]byte, 0, 4<<10)) })

const maxPooledRead = 64 << 10

// read returns the next packet. It blocks without a deadline: the heartbeat ends a silent connection.
func (c *wsConn) read() (eioproto.Packet, error) {
	kind, r, err := c.ws.Reader(unbounded)
	if err != nil {
		return eioproto.Packet{}, err
	}
	buf := readBuffers.get()
	b := (*buf)[:0]
	for err == nil {
		if len(b) == cap(b) {
			b = append(b, 0)[:len(b)]
		}
		var n int
		n, err = r.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
	}
	defer func() {
		if cap(b) <= maxPooledRead {
			*buf = b
			readBuffers.put(buf)
		}
	}()
	if !errors.Is(err, io.EOF) {
		return eioproto.Packet{}, err
	}
	data := append(make([]byte, 0, len(b)), b...)
	if kind == websocket.MessageBinary {
		return eioproto.Packet{Type: eioproto.Message, Binary: true, Data: data}, nil
	}
	if !utf8.Valid(data) {
		return eioproto.Packet{}, errUTF8
	}
	p, err := eioproto.ParseText(data)
	if err != nil {
		return p, parseError{err}
	}
	return p, nil
}

type parseError struct{ error }

func (e parseError) Unwrap() error { return e.error }

// close says goodbye and lets go of the connection, without waiting for either.
func (c *wsConn) close(srv *Server) { c.closeCode(srv, websocket.StatusNoStatusRcvd) }

func (c *wsConn) closeCode(srv *Server, code websocket.StatusCode) {
	// The library waits up to 5 s to write the frame and as long for the peer's.
	if !srv.start(func() { c.goodbye(srv, code) }) {
		c.abort()
	}
}

// goodbye goes through the close handshake; Server.Close cuts it short.
func (c *wsConn) goodbye(srv *Server, code websocket.StatusCode) {
	c.conn.wake()
	srv.changed(func() { srv.leaving[c] = struct{}{} })
	defer srv.changed(func() { delete(srv.leaving, c) })
	if srv.isClosed() { // it has not seen this one
		c.abort()
	}
	_ = c.ws.Close(code, "") // at the latest after two times 5 s
}

// abort lets go of the connection at once.
func (c *wsConn) abort() { _ = c.conn.Close() }

// serve starts to read what is the session's transport now. It refuses once the server is closed.
func (c *wsConn) serve() bool {
	if !c.session.srv.enter() {
		return false
	}
	c.session.srv.crew.Go(c)
	return true
}

// Run reads the session's WebSocket until it ends, which Close waits for. While the client is silent no goroutine does: the
// server's watcher runs it again. Where there is none, the goroutine leaves it to a smaller one.
func (c *wsConn) Run() {
	for n := 1; ; n++ {
		later := c.later.take()
		if c.conn.park() {
			if c.conn.watched == nil {
				go c.await() // comes back here
			}
			if later != nil {
				later.Run()
			}
			return
		}
		if later != nil && (n%laterMessages == 0 || !c.later.put(later)) {
			c.session.srv.crew.Go(later)
		}
		p, err := c.read()
		if err != nil {
			c.runLater()
			c.session.streamFailed(c, err)
			_ = c.ws.CloseNow() // waits for the closing handshake, if one is under way
			c.session.srv.leave()
			return
		}
		c.session.receive(WebSocket, p) // once the session is over, reading goes on for the peer's close frame
	}
}

// Glance takes a lone pong while nobody reads, which saves most of what a heartbeat costs: a goroutine to wake, and the
// library's reader. It tells whether there is more to it, or may be.
func (c *wsConn) Glance() bool {
	s := c.session
	return !s.awaitsPong() || !c.conn.takePong() || !s.receive(WebSocket, eioproto.Packet{Type: eioproto.Pong}) || !c.conn.park()
}

// laterTask is a task that a reader has been given to run when it has nothing more to read.
type laterTask struct {
	mu   sync.Mutex
	task crew.Task // guarded by mu
}

// laterMessages is for how many messages such a task is put off.
const laterMessages = 16

// put takes a task if it has none.
func (l *laterTask) put(t crew.Task) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.task != nil {
		return false
	}
	l.task = t
	return true
}

func (l *laterTask) take() crew.Task {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.task
	l.task = nil
	return t
}

// runLater gives what was put off to another goroutine: this one has to wait.
func (c *wsConn) runLater() {
	if t := c.later.take(); t != nil {
		c.session.srv.crew.Go(t)
	}
}

func (c *wsConn) await() {
	c.conn.await()
	c.session.srv.crew.Go(c)
}

// streamFailed ends the session for the end of its WebSocket. A close frame and the loss of the connection are a
// "transport close", what the peer did against the rules is a "transport error", as with the ws package.
func (s *Session) streamFailed(c *wsConn, err error) {
	_, network := errors.AsType[net.Error](err)
	_, parse := errors.AsType[parseError](err)
	code := websocket.StatusNoStatusRcvd
	switch {
	case parse:
		s.end(ReasonParseError, err, farewellNone)
	case errors.Is(err, errUTF8):
		code = websocket.StatusInvalidFramePayloadData
		s.end(ReasonTransportError, err, farewellNone)
	case network, websocket.CloseStatus(err) != -1, errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF),
		errors.Is(err, net.ErrClosed), errors.Is(err, io.ErrClosedPipe):
		s.end(ReasonTransportClose, nil, farewellAbort)
		return
	default:
		s.end(ReasonTransportError, err, farewellNone)
	}
	// Here and not in a goroutine, or the connection would be gone before. The library, which may have sent its own close
	// frame, goes on reading for a while, so that the peer sees it.
	c.goodbye(s.srv, code)
}
