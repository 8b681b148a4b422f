package eio

import (
	"errors"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// epollConn is a connection of a [watcher]. It is kept small: there is one for each client.
type epollConn struct {
	// set at construction
	watcher *watcher
	task    watchedTask
	number  uint32 // tells it from others that had the descriptor
	fd      int32

	mu sync.Mutex
	// guarded by mu
	waits    *waits // mostly nobody waits
	users    int32  // in a system call; the descriptor is closed when there is none
	readable bool   // perhaps: something has come in since the last read began, or that has not got all
	writable bool   // perhaps: there is room since the last write began
	ended    bool   // the end has come in, which is not reported again
	outgoing bool   // room for writing is reported
	parked   bool   // the task is called when it is readable
	closed   bool
}

type direction uint8

const (
	reading direction = iota
	writing
)

// waits are the deadlines of a connection, and who waits for it. Each has a value for either direction.
type waits struct {
	until [2]time.Time
	woken [2]chan struct{} // closed to wake them all
}

var _ watchedConn = (*epollConn)(nil)

// ready takes an event.
func (c *epollConn) ready(events uint32) {
	c.mu.Lock()
	if events&epollEnd != 0 {
		c.ended = true
	}
	if events&(syscall.EPOLLIN|epollEnd) != 0 {
		c.readable = true
		c.wakeLocked(reading)
	}
	if events&(syscall.EPOLLOUT|syscall.EPOLLHUP|syscall.EPOLLERR) != 0 {
		c.writable = true
		c.wakeLocked(writing)
	}
	run := c.parked && c.readable
	if run {
		c.parked = false
	}
	c.mu.Unlock()
	if run && c.task.Glance() {
		c.watcher.crew.Go(c.task)
	}
}

func (c *epollConn) park() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.parked = !c.readable && !c.closed
	return c.parked
}

func (c *epollConn) unpark() {
	c.mu.Lock()
	run := c.parked
	c.parked = false
	c.mu.Unlock()
	if run {
		c.watcher.crew.Go(c.task)
	}
}

// begin keeps the descriptor open until end. What is reported from here on is news.
func (c *epollConn) begin(d direction) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.users++
	if d == reading {
		c.readable = false
	} else {
		c.writable = false
	}
	return true
}

// end is the other half of begin. After a read that got something there may be more: if there was room for no more than
// that, and if all that is left is the end.
func (c *epollConn) end(some, full bool) {
	c.mu.Lock()
	c.users--
	if full || some && c.ended {
		c.readable = true
	}
	last := c.closed && c.users == 0
	c.mu.Unlock()
	if last {
		c.release()
	}
}

// release gives the descriptor back. With it the system forgets what to watch.
func (c *epollConn) release() {
	c.watcher.leave(c) // first: the next connection may get the descriptor
	_ = syscall.Close(int(c.fd))
}

func (c *epollConn) readNow(p []byte) (n int, again bool, err error) {
	if !c.begin(reading) {
		return 0, false, c.opError("read", net.ErrClosed)
	}
	n, again, err = readNow(uintptr(c.fd), p)
	c.end(!again, n == len(p))
	return n, again, err
}

func (c *epollConn) writeNow(p []byte) (int, error) {
	if !c.begin(writing) {
		return 0, c.opError("write", net.ErrClosed)
	}
	defer c.end(false, false)
	return writeNow(uintptr(c.fd), p)
}

func (c *epollConn) awaitRead() error { return c.await(reading) }

// await returns when d may be possible.
func (c *epollConn) await(d direction) error {
	for {
		woken, until, err := c.enlist(d)
		if err != nil || woken == nil {
			return err
		}
		if until.IsZero() {
			<-woken
			continue
		}
		timer := time.NewTimer(time.Until(until))
		select {
		case <-woken:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// enlist returns what to wait for, or nothing if there is no need to.
func (c *epollConn) enlist(d direction) (woken <-chan struct{}, until time.Time, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.failedLocked(d); err != nil {
		return nil, until, err
	}
	if d == reading && c.readable || d == writing && c.writable {
		return nil, until, nil
	}
	w := c.waitsLocked()
	if w.woken[d] == nil {
		w.woken[d] = make(chan struct{})
	}
	return w.woken[d], w.until[d], nil
}

// failedLocked tells why neither d nor waiting for it is possible any more.
func (c *epollConn) failedLocked(d direction) error {
	op := [...]string{reading: "read", writing: "write"}[d]
	if c.closed {
		return c.opError(op, net.ErrClosed)
	}
	if c.waits != nil {
		if t := c.waits.until[d]; !t.IsZero() && !time.Now().Before(t) {
			return c.opError(op, os.ErrDeadlineExceeded)
		}
	}
	return nil
}

func (c *epollConn) failed(d direction) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.failedLocked(d)
}

func (c *epollConn) waitsLocked() *waits {
	if c.waits == nil {
		c.waits = new(waits)
	}
	return c.waits
}

func (c *epollConn) wakeLocked(d direction) {
	if c.waits == nil {
		return
	}
	if woken := c.waits.woken[d]; woken != nil {
		close(woken)
		c.waits.woken[d] = nil
	}
	if *c.waits == (waits{}) {
		c.waits = nil
	}
}

// Read implements net.Conn.
func (c *epollConn) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for {
		if err := c.failed(reading); err != nil {
			return 0, err
		}
		if n, again, err := c.readNow(p); !again {
			return n, err
		}
		if err := c.await(reading); err != nil {
			return 0, err
		}
	}
}

// Write implements net.Conn.
func (c *epollConn) Write(p []byte) (n int, err error) {
	for {
		if err := c.failed(writing); err != nil {
			return n, err
		}
		m, err := c.writeNow(p[n:])
		if n += m; err != nil || n == len(p) {
			return n, err
		}
		if err := c.reportRoom(); err != nil {
			return n, err
		}
		if err := c.await(writing); err != nil {
			return n, err
		}
	}
}

// reportRoom has room for writing reported from now on, and now if there is any. Few connections ever need it.
func (c *epollConn) reportRoom() error {
	c.mu.Lock()
	if c.outgoing || c.closed { // which await tells
		c.mu.Unlock()
		return nil
	}
	c.outgoing = true
	c.users++
	c.mu.Unlock()
	defer c.end(false, false)
	if err := c.control(syscall.EPOLL_CTL_MOD, epollWrite); err != nil {
		return c.opError("write", err)
	}
	return nil
}

// control says what is to be reported.
func (c *epollConn) control(op int, events uint32) error {
	var err error
	e := &syscall.EpollEvent{Events: events, Fd: c.fd, Pad: int32(c.number)}
	if closed := c.watcher.raw.Control(func(epoll uintptr) {
		err = syscall.EpollCtl(int(epoll), op, int(c.fd), e)
	}); closed != nil {
		return closed
	}
	return os.NewSyscallError("epoll_ctl", err)
}

// Close wakes all who wait. The second call fails, as with other connections.
func (c *epollConn) Close() error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return c.opError("close", net.ErrClosed)
	}
	c.closed = true
	c.wakeLocked(reading)
	c.wakeLocked(writing)
	run, last := c.parked, c.users == 0
	c.parked = false
	c.mu.Unlock()
	if last {
		c.release()
	}
	if run {
		c.watcher.crew.Go(c.task)
	}
	return nil
}

// SetDeadline implements net.Conn.
func (c *epollConn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// SetReadDeadline implements net.Conn. It is for who waits; a connection that is parked stays so.
func (c *epollConn) SetReadDeadline(t time.Time) error { return c.setDeadline(reading, t) }

// SetWriteDeadline implements net.Conn.
func (c *epollConn) SetWriteDeadline(t time.Time) error { return c.setDeadline(writing, t) }

func (c *epollConn) setDeadline(d direction, t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return c.opError("set", net.ErrClosed)
	}
	if c.waits != nil || !t.IsZero() {
		c.waitsLocked().until[d] = t
		c.wakeLocked(d) // to look again
	}
	return nil
}

// LocalAddr implements net.Conn.
func (c *epollConn) LocalAddr() net.Addr { return c.addr(syscall.Getsockname) }

// RemoteAddr implements net.Conn.
func (c *epollConn) RemoteAddr() net.Addr { return c.addr(syscall.Getpeername) }

// addr asks the system: nothing is kept that hardly anybody wants.
func (c *epollConn) addr(get func(fd int) (syscall.Sockaddr, error)) net.Addr {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return &net.TCPAddr{}
	}
	sa, err := get(int(c.fd))
	if err != nil {
		return &net.TCPAddr{}
	}
	switch sa := sa.(type) {
	case *syscall.SockaddrInet4:
		return &net.TCPAddr{IP: sa.Addr[:], Port: sa.Port}
	case *syscall.SockaddrInet6:
		return &net.TCPAddr{IP: sa.Addr[:], Port: sa.Port}
	case *syscall.SockaddrUnix:
		return &net.UnixAddr{Net: "unix", Name: sa.Name}
	}
	return &net.TCPAddr{}
}

func (c *epollConn) opError(op string, err error) error {
	return &net.OpError{Op: op, Net: "tcp", Err: err}
}
