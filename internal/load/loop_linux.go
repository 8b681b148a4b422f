package load

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
)

// loops are threads that wait with epoll for many connections. A connection that is read in a goroutine of its own costs
// a second system call (to learn that there is nothing more) and a switch for each message, a stack and a buffer.
type loops struct {
	all  []*loop
	next atomic.Uint32
}

func (l *loops) start(n int) error {
	for range n {
		one, err := newLoop()
		if err != nil {
			l.stop()
			return err
		}
		l.all = append(l.all, one)
	}
	return nil
}

func (l *loops) stop() {
	for _, one := range l.all {
		one.stop()
	}
}

// read hands conn to a loop, or to a goroutine if it is not plain TCP.
func (g *Generator) read(w *websocket, conn net.Conn) error {
	if tcp, ok := conn.(*net.TCPConn); ok {
		return g.loops.all[g.loops.next.Add(1)%uint32(len(g.loops.all))].adopt(w, tcp)
	}
	return g.readStream(w, conn)
}

// loop is one of them. Connections are added from anywhere; they are read, and their descriptors closed, by the loop alone.
type loop struct {
	epoll int
	wake  [2]int // a pipe, whose end stops the loop
	ended chan struct{}

	mu    sync.Mutex
	conns []*polled // by the number that epoll has for them
	free  []int32
}

// polled is a connection of a loop.
type polled struct {
	loop *loop
	ws   *websocket
	slot int32

	// Guarded by ws.mu.
	fd      int // -1: closed
	pending []byte
	failed  error
}

const maxPending = 16 << 20

func newLoop() (*loop, error) {
	l := &loop{ended: make(chan struct{})}
	var err error
	if l.epoll, err = syscall.EpollCreate1(syscall.EPOLL_CLOEXEC); err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	if err = syscall.Pipe2(l.wake[:], syscall.O_CLOEXEC); err != nil {
		_ = syscall.Close(l.epoll)
		return nil, os.NewSyscallError("pipe2", err)
	}
	event := syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: -1}
	if err = syscall.EpollCtl(l.epoll, syscall.EPOLL_CTL_ADD, l.wake[0], &event); err != nil {
		return nil, os.NewSyscallError("epoll_ctl", err)
	}
	go l.run() // until stop, which waits for it
	return l, nil
}

func (l *loop) stop() {
	_ = syscall.Close(l.wake[1])
	<-l.ended
	_ = syscall.Close(l.wake[0])
	_ = syscall.Close(l.epoll)
}

// adopt takes the connection out of the runtime's hands.
func (l *loop) adopt(w *websocket, conn *net.TCPConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	p := &polled{loop: l, ws: w, fd: -1}
	var errno syscall.Errno
	err = raw.Control(func(fd uintptr) {
		var own uintptr
		own, _, errno = syscall.Syscall(syscall.SYS_FCNTL, fd, syscall.F_DUPFD_CLOEXEC, 0)
		p.fd = int(own)
	})
	if err == nil && errno != 0 {
		err = os.NewSyscallError("fcntl", errno)
	}
	if err != nil {
		return err
	}
	_ = conn.Close() // and with it the runtime's interest

	w.mu.Lock() // nothing is written, nor the connection closed, before it is complete
	defer w.mu.Unlock()
	w.wire = p
	l.mu.Lock()
	if n := len(l.free); n > 0 {
		p.slot = l.free[n-1]
		l.free = l.free[:n-1]
		l.conns[p.slot] = p
	} else {
		p.slot = int32(len(l.conns))
		l.conns = append(l.conns, p)
	}
	l.mu.Unlock()
	if err := p.interest(syscall.EPOLL_CTL_ADD, syscall.EPOLLIN); err != nil {
		_ = syscall.Close(p.fd)
		p.fd = -1
		l.release(p)
		return err
	}
	return nil
}

func (l *loop) release(p *polled) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns[p.slot] = nil
	l.free = append(l.free, p.slot)
}

func (l *loop) run() {
	defer close(l.ended)
	buf := make([]byte, 1<<16)
	var events [256]syscall.EpollEvent
	var batch [len(events)]*polled
	for {
		n, err := syscall.EpollWait(l.epoll, events[:], -1)
		if err != nil && !errors.Is(err, syscall.EINTR) {
			panic(os.NewSyscallError("epoll_wait", err)) // a mistake of ours
		}
		n = max(n, 0)
		l.mu.Lock()
		for i := range n {
			if events[i].Fd < 0 {
				l.mu.Unlock()
				return
			}
			batch[i] = l.conns[events[i].Fd]
		}
		l.mu.Unlock()
		for i, p := range batch[:n] {
			if err := p.ready(events[i].Events, buf); err != nil {
				l.drop(p, err)
			}
		}
	}
}

// drop ends a connection.
func (l *loop) drop(p *polled, err error) {
	p.ws.mu.Lock()
	if p.failed != nil {
		err = p.failed
	}
	_ = syscall.Close(p.fd)
	p.fd, p.pending = -1, nil
	p.ws.mu.Unlock()
	l.release(p)
	p.ws.c.end(err)
}

// ready reads once, and writes what waits. The descriptor stays open meanwhile: none but this goroutine closes it.
func (p *polled) ready(events uint32, buf []byte) error {
	if events&syscall.EPOLLOUT != 0 {
		if err := p.flush(); err != nil {
			return err
		}
	}
	if events&^syscall.EPOLLOUT == 0 {
		return nil
	}
	n, err := syscall.Read(p.fd, buf)
	switch {
	case errors.Is(err, syscall.EAGAIN), errors.Is(err, syscall.EINTR):
		return nil
	case err != nil:
		return os.NewSyscallError("read", err)
	case n == 0:
		return io.EOF
	}
	return p.ws.feed(buf[:n])
}

func (p *polled) interest(op int, events uint32) error {
	event := syscall.EpollEvent{Events: events, Fd: p.slot}
	return os.NewSyscallError("epoll_ctl", syscall.EpollCtl(p.loop.epoll, op, p.fd, &event))
}

// write is called with ws.mu held. What the system does not take now waits.
func (p *polled) write(b []byte) error {
	if p.fd < 0 {
		return net.ErrClosed
	}
	if len(p.pending) > 0 {
		if len(p.pending)+len(b) > maxPending {
			p.shutLocked(errNotReading)
			return errNotReading
		}
		p.pending = append(p.pending, b...)
		return nil
	}
	n, err := p.put(b)
	if err != nil {
		p.shutLocked(err)
		return err
	}
	if n == len(b) {
		return nil
	}
	p.pending = append(p.pending, b[n:]...)
	return p.interest(syscall.EPOLL_CTL_MOD, syscall.EPOLLIN|syscall.EPOLLOUT)
}

// put writes what the system takes.
func (p *polled) put(b []byte) (int, error) {
	for {
		n, err := syscall.Write(p.fd, b)
		switch {
		case err == nil:
			return n, nil
		case errors.Is(err, syscall.EAGAIN):
			return 0, nil
		case !errors.Is(err, syscall.EINTR):
			return 0, os.NewSyscallError("write", err)
		}
	}
}

func (p *polled) flush() error {
	p.ws.mu.Lock()
	defer p.ws.mu.Unlock()
	n, err := p.put(p.pending)
	if err != nil {
		return err
	}
	if p.pending = p.pending[n:]; len(p.pending) > 0 {
		return nil
	}
	p.pending = nil
	return p.interest(syscall.EPOLL_CTL_MOD, syscall.EPOLLIN)
}

func (p *polled) shut(err error) {
	p.ws.mu.Lock()
	defer p.ws.mu.Unlock()
	p.shutLocked(err)
}

// shutLocked makes the loop see an end.
func (p *polled) shutLocked(err error) {
	if p.fd < 0 {
		return
	}
	if p.failed == nil {
		p.failed = err
	}
	_ = syscall.Shutdown(p.fd, syscall.SHUT_RDWR)
}

// bindLate lets connect choose the port, so that each server's address has all of them.
func bindLate(_, _ string, c syscall.RawConn) error {
	const ipBindAddressNoPort = 24
	var failed error
	err := c.Control(func(fd uintptr) {
		failed = os.NewSyscallError("setsockopt", syscall.SetsockoptInt(int(fd), syscall.IPPROTO_IP, ipBindAddressNoPort, 1))
	})
	return errors.Join(err, failed)
}
