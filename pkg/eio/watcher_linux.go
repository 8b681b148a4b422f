package eio

import (
	"errors"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/seed-0b620db0/patchbay/internal/crew"
)

// watcher waits for all WebSockets of a server at once, in one goroutine. The runtime's own way takes one for each.
//
// Its epoll instance is in turn watched by the runtime, as files are, so that waiting takes no thread. It reports edges: a
// connection is reported when something comes in, and again only when more does. Events bear a descriptor and the number of
// the connection that had it, as the system gives descriptors to others while events are under way.
type watcher struct {
	// set at construction
	crew *crew.Crew
	file *os.File // the epoll instance
	raw  syscall.RawConn
	done chan struct{} // closed when run has returned

	mu sync.Mutex
	// guarded by mu
	conns []*epollConn // by descriptor
	last  uint32       // number of a connection
}

func watchable(c net.Conn) bool {
	switch c.(type) {
	case *net.TCPConn, *net.UnixConn:
		return true
	}
	return false
}

// newWatcher returns nil if the system refuses; connections are then read in the usual way.
func newWatcher(tasks *crew.Crew) *watcher {
	fd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil
	}
	if err := syscall.SetNonblock(fd, true); err != nil { // which tells NewFile to watch it
		_ = syscall.Close(fd) // nothing is lost with it
		return nil
	}
	w := &watcher{crew: tasks, file: os.NewFile(uintptr(fd), "epoll"), done: make(chan struct{})}
	if err = w.file.SetReadDeadline(time.Time{}); err == nil { // it fails if the runtime does not watch it
		w.raw, err = w.file.SyscallConn()
	}
	if err != nil {
		_ = w.file.Close()
		return nil
	}
	go w.run() // until close
	return w
}

// close ends the goroutine and returns when it has gone. There must be no connections to be watched any more.
func (w *watcher) close() {
	_ = w.file.Close() // it fails the second time
	<-w.done
}

// epollBatch is how many events are fetched at a time.
const epollBatch = 128

func (w *watcher) run() {
	defer close(w.done)
	events, conns := make([]syscall.EpollEvent, epollBatch), make([]*epollConn, epollBatch)
	// It returns when the file is closed.
	_ = w.raw.Read(func(fd uintptr) bool {
		for {
			n, err := syscall.EpollWait(int(fd), events, 0)
			if errors.Is(err, syscall.EINTR) {
				continue
			}
			if err != nil {
				panic("eio: " + os.NewSyscallError("epoll_wait", err).Error()) // it can only be a mistake of ours
			}
			w.lookUp(events[:n], conns)
			for i, c := range conns[:n] {
				if c != nil {
					c.ready(events[i].Events)
				}
			}
			clear(conns[:n])
			if n < len(events) { // there will be a new edge for what comes now
				return false
			}
		}
	})
}

func (w *watcher) lookUp(events []syscall.EpollEvent, conns []*epollConn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, e := range events {
		if int(e.Fd) < len(w.conns) {
			if c := w.conns[e.Fd]; c != nil && c.number == uint32(e.Pad) {
				conns[i] = c
			}
		}
	}
}

const (
	epollEdge  = 1 << 31 // syscall.EPOLLET is negative on some systems
	epollRead  = syscall.EPOLLIN | syscall.EPOLLRDHUP | epollEdge
	epollWrite = epollRead | syscall.EPOLLOUT
	epollEnd   = syscall.EPOLLRDHUP | syscall.EPOLLHUP | syscall.EPOLLERR
)

// add takes over a connection, with a descriptor of our own: only so does the runtime let go of it. If that fails it returns
// nil, and conn is as it was.
func (w *watcher) add(conn net.Conn, task watchedTask) watchedConn {
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return nil
	}
	fd := -1
	if err := raw.Control(func(old uintptr) {
		if n, _, errno := syscall.Syscall(syscall.SYS_FCNTL, old, syscall.F_DUPFD_CLOEXEC, 0); errno == 0 {
			fd = int(n)
		}
	}); err != nil || fd < 0 {
		return nil
	}
	c := &epollConn{watcher: w, task: task, fd: int32(fd)}
	w.enter(c)
	if err := c.control(syscall.EPOLL_CTL_ADD, epollRead); err != nil {
		_ = c.Close()
		return nil
	}
	_ = conn.Close() // the socket stays open
	return c
}

func (w *watcher) enter(c *epollConn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if n := int(c.fd) + 1; n > len(w.conns) {
		w.conns = append(w.conns, make([]*epollConn, n-len(w.conns))...)
	}
	w.last++
	c.number = w.last
	w.conns[c.fd] = c
}

func (w *watcher) leave(c *epollConn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.conns[c.fd] = nil
}
