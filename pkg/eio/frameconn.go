package eio

import (
	"bufio"
	"errors"
	"net"
	"net/http"
	"os"
	"sync"
	"syscall"
	"time"
)

// frameConn is the connection below a WebSocket. Each Write holds whole frames: the library's control frames fit into its
// buffer, and who writes frames of our own holds the connection for all of them.
//
// An idle client costs no buffer: what comes in is read into a borrowed one, which goes back when it has been looked at.
type frameConn struct {
	net.Conn
	watched watchedConn     // the same connection, if the server's watcher has it
	raw     syscall.RawConn // else, nil if the connection is no socket of the system: TLS, or a test's
	reader  *wsConn
	timeout time.Duration // for each piece of a write that blocks
	library bool          // the library writes the data frames too

	// owned by the reader; once awake, by whoever the library lets read
	in       []byte             // read and not yet asked for
	inBuf    *[]byte            // the borrowed buffer that in is in, if it is borrowed
	readErr  error              // comes after in
	readRaw  func(uintptr) bool // c.tryRead
	buffered *bufio.Reader      // the library's: between in and the frames

	broken error // owned by who writes: why a frame has been broken off for good

	mu sync.Mutex
	// guarded by mu
	parked bool          // a goroutine waits in await
	awake  bool          // none may any more
	left   chan struct{} // closed when it has gone, for who waits for that
	busy   bool          // somebody writes
	free   chan struct{} // closed when nobody does any more; a channel, so that synctest sees who waits as idle, made for who waits
	owed   []byte        // the pong that goes out behind what is being written; of several the last, as RFC 6455, 5.5.3 allows
}

// newFrameConn takes over a connection and what has been read from it already.
func newFrameConn(reader *wsConn, conn net.Conn, early []byte) *frameConn {
	if watched := reader.session.srv.watch(conn, reader); watched != nil {
		return &frameConn{Conn: watched, watched: watched, reader: reader, in: early}
	}
	c := &frameConn{Conn: conn, reader: reader, in: early, raw: rawConn(conn)}
	if c.raw != nil {
		c.readRaw = c.tryRead
	}
	return c
}

// direct tells whether the connection can be written to without ever blocking.
func (c *frameConn) direct() bool { return c.watched != nil || c.raw != nil }

// hijacker hands out a connection with small buffers: those of net/http, twice 4 KiB, would stay with an idle client
// for as long as it is connected.
type hijacker struct {
	http.ResponseWriter
	reader *wsConn // who is going to read it
	conn   *frameConn
}

const (
	// Reads of the library that are larger go past its buffer, so this is for frame headers.
	wsReadBuffer = 64
	// A control frame fits, so that the library writes each in one call.
	wsWriteBuffer = 128
	// If it writes data frames too: these have far larger buffers of their own.
	wsLibraryWriteBuffer = 4 << 10
)

func (h *hijacker) Unwrap() http.ResponseWriter { return h.ResponseWriter }

func (h *hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(h.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	var early []byte // frames that came right behind the request
	if n := rw.Reader.Buffered(); n > 0 {
		b, _ := rw.Reader.Peek(n)
		early = append(early, b...)
	}
	h.conn = newFrameConn(h.reader, conn, early)
	size := wsWriteBuffer
	if h.Header().Get("Sec-WebSocket-Extensions") != "" {
		size = wsLibraryWriteBuffer
	}
	h.conn.buffered = bufio.NewReaderSize(h.conn, wsReadBuffer)
	return h.conn, bufio.NewReadWriter(h.conn.buffered, bufio.NewWriterSize(h.conn, size)), nil
}

// inBuffers are borrowed while there is something to read.
var inBuffers = newPool(func() *[]byte { return new(make([]byte, inBuffer)) })

const inBuffer = 4 << 10

func (c *frameConn) Read(p []byte) (int, error) {
	if len(c.in) == 0 {
		c.reader.runLater()
		if c.readErr == nil {
			if !c.direct() || len(p) >= inBuffer {
				return c.Conn.Read(p)
			}
			c.fill()
		}
		if c.readErr != nil {
			return 0, c.readErr
		}
	}
	n := copy(p, c.in)
	if c.in = c.in[n:]; len(c.in) == 0 {
		c.in = nil
		c.giveBack()
	}
	return n, nil
}

// giveBack returns the borrowed buffer, if there is one.
func (c *frameConn) giveBack() {
	if c.inBuf != nil {
		inBuffers.put(c.inBuf)
		c.inBuf = nil
	}
}

// fill waits for something to read.
func (c *frameConn) fill() {
	if c.watched == nil {
		if err := c.raw.Read(c.readRaw); err != nil {
			c.readErr = err
		}
		return
	}
	for !c.fillNow() {
		if err := c.watched.awaitRead(); err != nil {
			c.readErr = err
			return
		}
	}
}

// park tells whether the reader may go, as all that came in has been looked at. It has to leave a goroutine in await, if
// the connection is not watched; if it is, the reader may be back already.
func (c *frameConn) park() bool {
	if !c.direct() {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.awake || // else the library may be looking at the rest
		len(c.in) > 0 || c.readErr != nil || c.buffered.Buffered() > 0 {
		return false
	}
	if c.watched == nil {
		c.parked = true
		return true
	}
	for !c.watched.park() {
		if c.fillNow() { // under the lock, or it could meet the library; it does not wait
			return false
		}
	}
	return true
}

// takePong tells whether what came in is a pong packet and nothing else, which then is gone. It is for when nobody reads.
func (c *frameConn) takePong() bool {
	c.mu.Lock() // as in park
	defer c.mu.Unlock()
	if c.awake || !c.fillNow() || !isPong(c.in) {
		return false
	}
	c.in = nil
	c.giveBack()
	return true
}

// isPong tells whether b is the text message "3" in one frame: a pong packet, as every client sends it.
func isPong(b []byte) bool {
	const fin, masked, mask = 0x80, 0x80, 4
	return len(b) == 2+mask+1 && b[0] == fin|opText && b[1] == masked|1 && b[2+mask]^b[2] == '3'
}

// await waits for something to read, in a goroutine that does nothing else: it makes do with the smallest stack there is,
// and is most of what an idle client costs.
func (c *frameConn) await() {
	c.fill()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.parked = false
	if c.awake {
		if errors.Is(c.readErr, os.ErrDeadlineExceeded) {
			c.readErr = nil
		}
		_ = c.SetReadDeadline(time.Time{}) // it fails if the connection is closed
	}
	if c.left != nil {
		close(c.left)
	}
}

// wake ends await, for good: from here on the library may read whenever it likes to.
func (c *frameConn) wake() {
	c.mu.Lock()
	c.awake = true
	if c.watched != nil {
		c.mu.Unlock()
		c.watched.unpark()
		return
	}
	if !c.parked {
		c.mu.Unlock()
		return
	}
	if c.left == nil {
		c.left = make(chan struct{})
	}
	left := c.left
	_ = c.SetReadDeadline(time.Unix(1, 0)) // under the lock, or it could come after await has lifted it
	c.mu.Unlock()
	<-left
}

// tryRead reads what there is, and tells whether there was something, if only an error.
func (c *frameConn) tryRead(fd uintptr) bool {
	buf := inBuffers.get()
	n, again, err := readNow(fd, *buf)
	return c.filled(buf, n, again, err)
}

// fillNow is tryRead for a watched connection.
func (c *frameConn) fillNow() bool {
	buf := inBuffers.get()
	n, again, err := c.watched.readNow(*buf)
	return c.filled(buf, n, again, err)
}

func (c *frameConn) filled(buf *[]byte, n int, again bool, err error) bool {
	if n == 0 {
		inBuffers.put(buf)
		c.readErr = err
		return !again
	}
	c.in, c.inBuf = (*buf)[:n], buf
	return true
}

// lock waits until nobody writes.
func (c *frameConn) lock() {
	c.mu.Lock()
	for c.busy {
		if c.free == nil {
			c.free = make(chan struct{})
		}
		free := c.free
		c.mu.Unlock()
		<-free
		c.mu.Lock()
	}
	c.busy = true
	c.mu.Unlock()
}

func (c *frameConn) tryLock() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.busy {
		return false
	}
	c.busy = true
	return true
}

// unlock sends the pong that came due in the meantime.
func (c *frameConn) unlock() {
	for {
		owed := c.release()
		if owed == nil {
			return
		}
		_, _ = c.writeLocked(owed) // the next write fails as well, and is somebody's business
	}
}

// release gives up the lock, or returns the pong that has to go out first.
func (c *frameConn) release() (owed []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	owed, c.owed = c.owed, nil
	if owed == nil {
		c.busy = false
		if c.free != nil {
			close(c.free)
			c.free = nil
		}
	}
	return owed
}

// pong answers a ping, behind what is being written if need be: the library would give up on a slow client after 5 s, and on
// the connection with it.
func (c *frameConn) pong(payload []byte) {
	c.mu.Lock()
	c.owed = append(appendFrameHeader(make([]byte, 0, 2+len(payload)), opPong, len(payload)), payload...)
	mine := !c.busy
	c.busy = true
	c.mu.Unlock()
	if mine { // else whoever writes unlocks
		c.unlock()
	}
}

// Write is what the library calls.
func (c *frameConn) Write(p []byte) (int, error) {
	c.reader.runLater() // it may be the reader, who may have to wait
	c.lock()
	defer c.unlock()
	return c.writeLocked(p)
}

const writePiece = 256 << 10 // see Options.WriteTimeout

// writeLocked gives the peer the time-out for each piece, so that a slow but living client may take as long as it needs
// for a large message.
func (c *frameConn) writeLocked(p []byte) (n int, err error) {
	if n, err = c.writeNowLocked(p); err != nil || n == len(p) {
		return n, err
	}
	defer func() { c.broken = err }()
	if c.timeout > 0 { // one that has passed would fail the next write that does not block
		defer func() { _ = c.SetWriteDeadline(time.Time{}) }() // it fails if the connection is closed
	}
	for p = p[n:]; err == nil && len(p) > 0; {
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

// rawWrite is one write that does not block.
type rawWrite struct {
	p   []byte
	n   int
	err error
	try func(fd uintptr) bool
}

var rawWrites = newPool(func() *rawWrite {
	w := new(rawWrite)
	w.try = func(fd uintptr) bool {
		w.n, w.err = writeNow(fd, w.p)
		return true
	}
	return w
})

// writeNowLocked writes as much as the system takes at this moment, which may be nothing.
func (c *frameConn) writeNowLocked(p []byte) (int, error) {
	if c.broken != nil { // the client would take what follows for the rest of the frame
		return 0, c.broken
	}
	if c.watched != nil {
		return c.watched.writeNow(p)
	}
	if c.raw == nil || len(p) == 0 {
		return 0, nil
	}
	w := rawWrites.get()
	w.p = p
	err := c.raw.Write(w.try)
	if err == nil {
		err = w.err
	}
	n := w.n
	w.p, w.n, w.err = nil, 0, nil
	rawWrites.put(w)
	return n, err
}
