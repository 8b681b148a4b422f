package siotest

import (
	"context"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// defaultBuffer is what one direction of a connection holds before a write waits: about what a small
// TCP socket does.
const defaultBuffer = 64 << 10

// Listener is a net.Listener in memory. It and its connections wait on channels and condition variables
// only, so that a bubble of testing/synctest can tell that they are idle.
type Listener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
	buffer int
}

var _ net.Listener = (*Listener)(nil)

// Listen returns a listener whose connections hold up to buffer bytes in each direction; 0 means 64 KiB.
// A small buffer makes a slow reader visible to the writer at once.
func Listen(buffer int) *Listener {
	if buffer <= 0 {
		buffer = defaultBuffer
	}
	return &Listener{conns: make(chan net.Conn), closed: make(chan struct{}), buffer: buffer}
}

// Accept waits for the next Dial.
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close ends Accept and refuses new connections; those that exist stay.
func (l *Listener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

// Addr is a name only.
func (l *Listener) Addr() net.Addr { return memAddr{} }

// Dial connects and returns the client's end when the server has accepted.
func (l *Listener) Dial(ctx context.Context) (net.Conn, error) {
	client, server := Pipe(l.buffer)
	select {
	case l.conns <- server:
		return client, nil
	case <-l.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// DialContext has the signature that http.Transport wants; the address is not looked at.
func (l *Listener) DialContext(ctx context.Context, _, _ string) (net.Conn, error) {
	return l.Dial(ctx)
}

// Pipe returns the two ends of a connection that holds up to buffer bytes in each direction.
func Pipe(buffer int) (a, b net.Conn) {
	ab, ba := newStream(buffer), newStream(buffer)
	return &conn{in: ba, out: ab}, &conn{in: ab, out: ba}
}

type memAddr struct{}

func (memAddr) Network() string { return "memory" }
func (memAddr) String() string  { return "memory" }

type conn struct{ in, out *stream }

func (c *conn) Read(p []byte) (int, error)  { return c.in.read(p) }
func (c *conn) Write(p []byte) (int, error) { return c.out.write(p) }

// Close lets the peer read what was written, and fails its writes.
func (c *conn) Close() error {
	c.in.close(true)
	c.out.close(false)
	return nil
}

func (c *conn) LocalAddr() net.Addr  { return memAddr{} }
func (c *conn) RemoteAddr() net.Addr { return memAddr{} }

func (c *conn) SetDeadline(t time.Time) error {
	c.in.setDeadline(&c.in.readBy, t)
	c.out.setDeadline(&c.out.writeBy, t)
	return nil
}

func (c *conn) SetReadDeadline(t time.Time) error {
	c.in.setDeadline(&c.in.readBy, t)
	return nil
}

func (c *conn) SetWriteDeadline(t time.Time) error {
	c.out.setDeadline(&c.out.writeBy, t)
	return nil
}

// stream is one direction of a connection.
type stream struct {
	limit int // set at construction

	mu      sync.Mutex
	changed sync.Cond // anything below
	buf     []byte
	reader  bool // closed by the reader: writes fail
	writer  bool // closed by the writer: reads end once buf is empty
	readBy  deadline
	writeBy deadline
}

type deadline struct {
	timer   *time.Timer
	version int // of the last set; a timer of an earlier one has no say
	expired bool
	at      time.Time // zero: none
}

func newStream(limit int) *stream {
	s := &stream{limit: limit}
	s.changed.L = &s.mu
	return s
}

func (s *stream) read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case s.reader:
			return 0, net.ErrClosed
		case s.readBy.over():
			return 0, os.ErrDeadlineExceeded
		case len(p) == 0:
			return 0, nil
		case len(s.buf) > 0:
			n := copy(p, s.buf)
			s.buf = s.buf[n:]
			s.changed.Broadcast()
			return n, nil
		case s.writer:
			return 0, io.EOF
		}
		s.changed.Wait()
	}
}

func (s *stream) write(p []byte) (n int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case s.writer:
			return n, net.ErrClosed
		case s.writeBy.over():
			return n, os.ErrDeadlineExceeded
		case s.reader:
			return n, io.ErrClosedPipe
		}
		if room := min(s.limit-len(s.buf), len(p)-n); room > 0 {
			s.buf = append(s.buf, p[n:n+room]...)
			n += room
			s.changed.Broadcast()
		}
		if n == len(p) {
			return n, nil
		}
		s.changed.Wait()
	}
}

func (s *stream) close(byReader bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := &s.writeBy
	if byReader {
		s.reader, d = true, &s.readBy
		s.buf = nil
	} else {
		s.writer = true
	}
	if d.timer != nil {
		d.timer.Stop()
	}
	s.changed.Broadcast()
}

// over does not rely on the timer alone: of two that fire at the same time one comes first.
func (d *deadline) over() bool { return d.expired || !d.at.IsZero() && !time.Now().Before(d.at) }

func (s *stream) setDeadline(d *deadline, t time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	d.version++
	d.expired, d.at = false, t
	if !t.IsZero() {
		version := d.version
		if wait := time.Until(t); wait <= 0 {
			d.expired = true
		} else {
			d.timer = time.AfterFunc(wait, func() {
				s.mu.Lock()
				defer s.mu.Unlock()
				if d.version == version {
					d.expired = true
					s.changed.Broadcast()
				}
			})
		}
	}
	s.changed.Broadcast()
}
