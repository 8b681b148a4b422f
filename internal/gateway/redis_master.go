package gateway

import (
	"context"
	"net"
	"sync"
	"syscall"

	goredis "github.com/redis/go-redis/v9"
)

// masters ends the connections to a master as soon as there is one to its successor. The client of Redis does that with those
// that it sends commands over, but leaves subscriptions where they are: until the old master has heard that it is none any
// more, which takes ten seconds, they would hear nothing.
type masters struct {
	mu sync.Mutex
	// guarded by mu
	addr  string // of the master that was connected to last
	conns map[*masterConn]struct{}
}

var _ goredis.Hook = (*masters)(nil)

// DialHook implements goredis.Hook.
func (m *masters) DialHook(next goredis.DialHook) goredis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := next(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return m.add(conn), nil
	}
}

// ProcessHook implements goredis.Hook.
func (*masters) ProcessHook(next goredis.ProcessHook) goredis.ProcessHook { return next }

// ProcessPipelineHook implements goredis.Hook.
func (*masters) ProcessPipelineHook(next goredis.ProcessPipelineHook) goredis.ProcessPipelineHook {
	return next
}

func (m *masters) add(conn net.Conn) net.Conn {
	c := &masterConn{conn, m}
	addr := conn.RemoteAddr().String()
	var old map[*masterConn]struct{}
	m.mu.Lock()
	if m.addr != addr {
		m.addr, old, m.conns = addr, m.conns, make(map[*masterConn]struct{})
	}
	m.conns[c] = struct{}{}
	m.mu.Unlock()
	for c := range old {
		_ = c.Conn.Close() // who uses it hears of it
	}
	if s, ok := conn.(syscall.Conn); ok { // by which the client sees whether it is still good
		return struct {
			*masterConn
			syscall.Conn
		}{c, s}
	}
	return c
}

type masterConn struct {
	net.Conn
	of *masters
}

// Close implements net.Conn.
func (c *masterConn) Close() error {
	c.of.mu.Lock()
	delete(c.of.conns, c)
	c.of.mu.Unlock()
	return c.Conn.Close()
}
