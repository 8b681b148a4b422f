package eio

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/coder/websocket"

	"github.com/seed-0b620db0/patchbay/pkg/eio/eioproto"
)

// wsConn is a WebSocket. The library does the handshake, all reading, control frames and compression. Data frames that need
// no compression are built by [Message], once for all clients, and written beside the library's writer; frameConn keeps the
// two from meeting within a frame.
type wsConn struct {
	ws      *websocket.Conn
	conn    *frameConn
	deflate bool // negotiated: data frames go through the library
	base64  bool // b64=1: the client takes text frames only
}

// upgrade makes the request's connection a WebSocket, or answers it with an error.
func (srv *Server) upgrade(w http.ResponseWriter, r *http.Request) (*wsConn, error) {
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
	h := &hijacker{ResponseWriter: w}
	opts.OnPingReceived = func(_ context.Context, payload []byte) bool {
		if h.conn.library {
			return true // which does not write its frames in one piece
		}
		h.conn.pong(payload)
		return false
	}
	ws, err := websocket.Accept(h, r, opts)
	if err != nil {
		return nil, err
	}
	ws.SetReadLimit(int64(srv.opts.MaxHTTPBufferSize))
	h.conn.timeout = srv.opts.WriteTimeout
	c := &wsConn{
		ws: ws, conn: h.conn,
		deflate: w.Header().Get("Sec-WebSocket-Extensions") != "",
		base64:  r.URL.Query().Get("b64") != "",
	}
	h.conn.library = c.deflate || c.base64
	return c, nil
}

// hijacker hands out a connection with small buffers: those of net/http, twice 4 KiB, would stay with an idle client
// for as long as it is connected.
type hijacker struct {
	http.ResponseWriter
	conn *frameConn
}

const wsBufferSize = 512 // a control frame fits, so that the library writes each in one call

func (h *hijacker) Unwrap() http.ResponseWriter { return h.ResponseWriter }

func (h *hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(h.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	h.conn = &frameConn{Conn: conn, busy: make(chan struct{}, 1)}
	if n := rw.Reader.Buffered(); n > 0 { // frames that came right behind the request
		b, _ := rw.Reader.Peek(n)
		h.conn.early = append([]byte(nil), b...)
	}
	return h.conn, bufio.NewReadWriter(bufio.NewReaderSize(h.conn, wsBufferSize), bufio.NewWriterSize(h.conn, wsBufferSize)), nil
}

// frameConn is the connection below a WebSocket. Each Write holds whole frames: the library's control frames fit into its
// buffer, and writeFrames holds the lock for all of its own.
type frameConn struct {
	net.Conn
	early   []byte // read from here first; owned by the reader
	timeout time.Duration
	library bool // the library writes the data frames too

	busy chan struct{} // holds a token while one writes; a channel, so that synctest sees who waits for it as idle

	mu sync.Mutex
	// guarded by mu
	owed []byte // the pong that goes out behind what is being written; of several the last, as RFC 6455, 5.5.3 allows
}

func (c *frameConn) lock() { c.busy <- struct{}{} }

// unlock sends the pong that came due in the meantime.
func (c *frameConn) unlock() {
	for {
		c.mu.Lock()
		owed := c.owed
		c.owed = nil
		if owed == nil {
			<-c.busy
		}
		c.mu.Unlock()
		if owed == nil {
			return
		}
		_, _ = c.writeLocked(owed) // the next write fails as well, and is somebody's business
	}
}

// pong answers a ping, behind what is being written if need be: the library would give up on a slow client after 5 s, and on
// the connection with it.
func (c *frameConn) pong(payload []byte) {
	c.mu.Lock()
	c.owed = append(appendFrameHeader(make([]byte, 0, 2+len(payload)), opPong, len(payload)), payload...)
	c.mu.Unlock()
	select {
	case c.busy <- struct{}{}:
		c.unlock()
	default: // whoever writes unlocks
	}
}

func (c *frameConn) Read(p []byte) (int, error) {
	if len(c.early) > 0 {
		n := copy(p, c.early)
		if c.early = c.early[n:]; len(c.early) == 0 {
			c.early = nil
		}
		return n, nil
	}
	return c.Conn.Read(p)
}

// Write is what the library calls.
func (c *frameConn) Write(p []byte) (int, error) {
	c.lock()
	defer c.unlock()
	return c.writeLocked(p)
}

const writePiece = 256 << 10 // see Options.WriteTimeout

// writeLocked gives the peer the time-out for each piece, so that a slow but living client may take as long as it needs
// for a large message.
func (c *frameConn) writeLocked(p []byte) (n int, err error) {
	for err == nil && (len(p) > 0 || n == 0) {
		if c.timeout > 0 {
			if err = c.SetWriteDeadline(time.Now().Add(c.timeout)); err != nil {
				return n, err
			}
		}
		var m int
		m, err = c.Conn.Write(p[:min(len(p), writePiece)])
		n, p = n+m, p[m:]
		if m == 0 {
			break
		}
	}
	return n, err
}

// writeBuffers are where small messages that leave together are put side by side.
var writeBuffers = sync.Pool{New: func() any { b := make([]byte, 0, coalesce); return &b }}

const coalesce = 32 << 10

// write sends a batch in as few writes as possible, and returns the bytes.
func (c *wsConn) write(batch []queued) (int, error) {
	if c.deflate || c.base64 {
		return c.writeFrameByFrame(batch)
	}
	c.conn.lock()
	defer c.conn.unlock()
	if len(batch) == 1 {
		return c.conn.writeLocked(batch[0].m.webSocketFrames())
	}
	buf, ok := writeBuffers.Get().(*[]byte)
	if !ok {
		panic("eio: foreign value in the pool")
	}
	defer writeBuffers.Put(buf)
	b, total := (*buf)[:0], 0
	flush := func(p []byte) error {
		if len(p) == 0 {
			return nil
		}
		n, err := c.conn.writeLocked(p)
		total += n
		return err
	}
	for _, q := range batch {
		frames := q.m.webSocketFrames()
		if len(b)+len(frames) > cap(b) {
			if err := flush(b); err != nil {
				return total, err
			}
			b = b[:0]
		}
		if len(frames) > cap(b) {
			if err := flush(frames); err != nil {
				return total, err
			}
			continue
		}
		b = append(b, frames...)
	}
	return total, flush(b)
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
			if err = c.ws.Write(context.Background(), kind, data); err != nil {
				return total, err
			}
			total += len(data)
		}
	}
	return total, nil
}

// readBuffers are borrowed while a message is being read; between messages a connection holds none.
var readBuffers = sync.Pool{New: func() any { b := make([]byte, 0, 4<<10); return &b }}

const maxPooledRead = 64 << 10

// read returns the next packet. It blocks without a deadline: the heartbeat ends a silent connection.
func (c *wsConn) read() (eioproto.Packet, error) {
	kind, r, err := c.ws.Reader(context.Background())
	if err != nil {
		return eioproto.Packet{}, err
	}
	buf, ok := readBuffers.Get().(*[]byte)
	if !ok {
		panic("eio: foreign value in the pool")
	}
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
			readBuffers.Put(buf)
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
	srv.changed(func() { srv.leaving[c] = struct{}{} })
	defer srv.changed(func() { delete(srv.leaving, c) })
	if srv.isClosed() { // it has not seen this one
		c.abort()
	}
	_ = c.ws.Close(code, "") // at the latest after two times 5 s
}

// abort lets go of the connection at once.
func (c *wsConn) abort() { _ = c.conn.Close() }

// serveStream reads the session's WebSocket until it ends.
func (s *Session) serveStream(c *wsConn) {
	defer func() { _ = c.ws.CloseNow() }() // waits for the closing handshake, if one is under way
	for {
		p, err := c.read()
		if err != nil {
			s.streamFailed(c, err)
			return
		}
		s.receive(WebSocket, p) // once the session is over, reading goes on for the peer's close frame
	}
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
