package redistest

import (
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// Proxy passes TCP connections on to a server, and fails when told to.
type Proxy struct {
	listener net.Listener
	upstream string
	running  sync.WaitGroup

	mu     sync.Mutex
	change *sync.Cond // of delay and of what is frozen; on mu
	conns  map[*proxied]struct{}
	refuse bool
	closed bool
	delay  time.Duration
	frozen [2]bool
}

// proxied is a connection and its continuation. Both fields are set before it is entered into Proxy.conns.
type proxied struct {
	ends [2]*net.TCPConn // by who writes to the proxy: client, server
	done chan struct{}
	once sync.Once
}

// Directions through a proxy, by who sends.
const (
	fromClient = iota
	fromServer
)

// NewProxy listens on loopback, for connections to upstream, until the end of the test.
func NewProxy(t testing.TB, upstream string) *Proxy {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(loopback, "0"))
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{listener: l, upstream: upstream, conns: map[*proxied]struct{}{}}
	p.change = sync.NewCond(&p.mu)
	p.running.Go(p.accept)
	t.Cleanup(func() {
		p.mu.Lock()
		p.closed = true
		p.mu.Unlock()
		_ = l.Close()
		p.Cut()
		p.running.Wait()
	})
	return p
}

// Addr returns the address to connect to.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Cut resets all connections. New ones are let through.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		c.reset()
	}
	p.change.Broadcast()
}

// Refuse makes the proxy reset new connections at once.
func (p *Proxy) Refuse(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refuse = on
}

// Delay holds up everything, in both directions, for d.
func (p *Proxy) Delay(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay = d
}

// Freeze lets nothing through in either direction, on connections that seem to be fine. What is sent meanwhile arrives
// when that is over, as it does when a network has failed and is repaired.
func (p *Proxy) Freeze(on bool) { p.freeze(on, fromClient, fromServer) }

// FreezeClient is Freeze of what clients send.
func (p *Proxy) FreezeClient(on bool) { p.freeze(on, fromClient) }

// FreezeServer is Freeze of what the server sends.
func (p *Proxy) FreezeServer(on bool) { p.freeze(on, fromServer) }

func (p *Proxy) freeze(on bool, directions ...int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, d := range directions {
		p.frozen[d] = on
	}
	p.change.Broadcast()
}

// HalfClose tells clients that the server will not send any more, while what they send still reaches it.
func (p *Proxy) HalfClose() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		_ = c.ends[fromClient].CloseWrite() // unless it is closed
	}
}

// Conns returns the number of connections.
func (p *Proxy) Conns() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.conns)
}

func (p *Proxy) accept() {
	for {
		conn, err := p.listener.Accept()
		if err != nil {
			return
		}
		if c, ok := conn.(*net.TCPConn); ok {
			p.running.Go(func() { p.serve(c) })
		}
	}
}

func (p *Proxy) serve(client *net.TCPConn) {
	c := &proxied{done: make(chan struct{})}
	c.ends[fromClient] = client
	if server, err := net.Dial("tcp", p.upstream); err == nil {
		c.ends[fromServer], _ = server.(*net.TCPConn)
	}
	defer c.reset()
	p.mu.Lock()
	if c.ends[fromServer] == nil || p.refuse || p.closed {
		p.mu.Unlock()
		return
	}
	p.conns[c] = struct{}{}
	p.mu.Unlock()
	var pumps sync.WaitGroup
	for d := range c.ends {
		pumps.Go(func() { p.pump(c, d) })
	}
	pumps.Wait()
	p.mu.Lock()
	delete(p.conns, c)
	p.mu.Unlock()
}

// pump passes on what comes from one end, until that is all or the connection is reset.
func (p *Proxy) pump(c *proxied, direction int) {
	src, dst := c.ends[direction], c.ends[1-direction]
	buf := make([]byte, 64<<10)
	for {
		n, err := src.Read(buf)
		if !p.hold(c, direction) {
			return
		}
		if _, failed := dst.Write(buf[:n]); failed != nil && n > 0 {
			if direction == fromClient {
				c.reset()
				return
			}
			err = nil // half closed: the server may still listen
		}
		switch {
		case errors.Is(err, io.EOF):
			_ = dst.CloseWrite() // unless it is closed
			return
		case err != nil:
			c.reset()
			return
		}
	}
}

// hold waits until what was read may be passed on. It returns false if the connection is reset.
func (p *Proxy) hold(c *proxied, direction int) bool {
	p.mu.Lock()
	if delay := p.delay; delay > 0 {
		p.mu.Unlock()
		timer := time.NewTimer(delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-c.done:
			return false
		}
		p.mu.Lock()
	}
	defer p.mu.Unlock()
	for p.frozen[direction] && !c.over() {
		p.change.Wait()
	}
	return !c.over()
}

func (c *proxied) over() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// reset ends the connection, and both ends learn it the hard way.
func (c *proxied) reset() {
	c.once.Do(func() {
		close(c.done)
		for _, conn := range c.ends {
			if conn != nil {
				_ = conn.SetLinger(0) // either fails only on a closed connection
				_ = conn.Close()
			}
		}
	})
}
