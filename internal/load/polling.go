package load

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// polling is a client's session over HTTP: a connection for the requests that wait for packets, and one for those that
// bring some. Both are kept alive.
type polling struct {
	c         *Client
	get, post *requester

	mu      sync.Mutex
	out     []byte // payload that the next POST brings
	posting bool
	err     error // why it ended
}

const separator = 0x1e

func (p *polling) text(s string) error {
	return p.queue(func(b []byte) []byte { return append(b, s...) })
}

func (p *polling) message(m *Message) error {
	return p.queue(func(b []byte) []byte {
		b = appendPacket(b, p.c.gen.prefix, m)
		for _, a := range m.Attachments {
			b = base64.StdEncoding.AppendEncode(append(b, separator, 'b'), a)
		}
		return b
	})
}

// maxUnsent bounds what waits for a POST to end.
const maxUnsent = 16 << 20

// queue adds a packet to the next POST, which follows the one under way.
func (p *polling) queue(build func([]byte) []byte) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.err != nil:
		return p.err
	case len(p.out) > maxUnsent:
		return errNotReading
	}
	if len(p.out) > 0 {
		p.out = append(p.out, separator)
	}
	p.out = build(p.out)
	if !p.posting && p.c.state.Load() == stateOpen {
		p.posting = true
		p.c.gen.wg.Go(p.flush)
	}
	return nil
}

// flush sends POSTs as long as there is something to send.
func (p *polling) flush() {
	var spare []byte
	for {
		p.mu.Lock()
		body := p.out
		if len(body) == 0 || p.err != nil {
			p.posting = false
			p.mu.Unlock()
			return
		}
		p.out = spare[:0]
		p.mu.Unlock()
		if err := p.send(context.Background(), body); err != nil {
			p.abort(err)
		}
		spare = body
	}
}

// send brings packets to the server.
func (p *polling) send(ctx context.Context, body []byte) error {
	answer, err := p.post.do(ctx, http.MethodPost, p.c.gen.target(Polling, p.c.sid), body, p.c.gen.opts.Timeout)
	if err == nil && string(answer) != "ok" {
		err = fmt.Errorf("%w: %.50q", errUnexpected, answer)
	}
	return err
}

// close tells the server, which then ends the poll.
func (p *polling) close() {
	if p.c.gen.opts.StopPolling {
		p.c.gen.wg.Go(func() {
			p.abort(p.send(context.Background(), []byte("1")))
			p.c.end(nil)
		})
	} else if err := p.text("1"); err != nil {
		p.abort(err)
	}
}

func (p *polling) abort(err error) {
	p.mu.Lock()
	if p.err == nil {
		p.err = err
	}
	p.mu.Unlock()
	p.get.shut()
	p.post.shut()
}

// fetch waits for packets and takes them.
func (p *polling) fetch(ctx context.Context, timeout time.Duration) error {
	payload, err := p.get.do(ctx, http.MethodGet, p.c.gen.target(Polling, p.c.sid), nil, timeout)
	if err != nil {
		return err
	}
	p.c.seen.Store(Now())
	for more := true; more; {
		var one []byte
		one, payload, more = bytes.Cut(payload, []byte{separator})
		if b, ok := bytes.CutPrefix(one, []byte("b")); ok {
			raw := make([]byte, base64.StdEncoding.DecodedLen(len(b)))
			n, err := base64.StdEncoding.Decode(raw, b)
			if err == nil {
				err = p.c.attachment(raw[:n], false)
			}
			if err != nil {
				return err
			}
			continue
		}
		if err := p.c.engine(one); err != nil {
			return err
		}
	}
	return nil
}

// join makes a session and joins the namespace, one request at a time.
func (c *Client) join(ctx context.Context) (*polling, error) {
	p := &polling{c: c, get: &requester{gen: c.gen}, post: &requester{gen: c.gen}}
	c.transport = p
	defer context.AfterFunc(ctx, func() { p.abort(context.Cause(ctx)) })()
	for c.state.Load() == stateConnecting {
		err := p.fetch(ctx, c.gen.opts.Timeout)
		if err == nil {
			err = p.sendFirst(ctx)
		}
		if err != nil {
			p.abort(err)
			return nil, fmt.Errorf("connect: %w", errors.Join(context.Cause(ctx), err))
		}
	}
	return p, nil
}

// sendFirst sends what waits while the client connects.
func (p *polling) sendFirst(ctx context.Context) error {
	p.mu.Lock()
	if p.c.state.Load() != stateConnecting || len(p.out) == 0 {
		p.mu.Unlock()
		return nil
	}
	body := p.out
	p.out = nil
	p.mu.Unlock()
	return p.send(ctx, body)
}

// connectPolling connects c and starts the goroutine that polls.
func (c *Client) connectPolling(ctx context.Context) error {
	p, err := c.join(ctx)
	if err != nil {
		return err
	}
	if err := c.gen.add(c); err != nil {
		p.abort(err)
		return err
	}
	p.post.reset() // which browsers do too, after a while
	if c.gen.opts.StopPolling {
		p.get.shut()
		return nil
	}
	c.gen.wg.Go(func() { // until the session ends
		ctx := context.WithoutCancel(ctx)
		for {
			if err := p.fetch(ctx, time.Duration(c.patience.Load())); err != nil {
				p.abort(err)
				break
			}
		}
		p.mu.Lock()
		err := p.err
		p.mu.Unlock()
		c.end(err)
	})
	return nil
}

// connectUpgrade connects c with polling and moves it to WebSocket. No request is under way then, so that the server has
// nothing to wait for.
func (c *Client) connectUpgrade(ctx context.Context) error {
	p, err := c.join(ctx)
	if err != nil {
		return err
	}
	if err := c.connectWebSocket(ctx, c.sid); err != nil {
		p.abort(err)
		return err
	}
	p.abort(ErrClosed)
	return nil
}

// requester does one request at a time over a connection that is kept alive.
type requester struct {
	gen *Generator

	// Owned by who does a request.
	in   *bufio.Reader
	body []byte
	head []byte

	mu     sync.Mutex
	conn   net.Conn // nil: there is none
	closed bool
}

// connection returns the connection, a new one if need be.
func (r *requester) connection(ctx context.Context) (conn net.Conn, used bool, err error) {
	r.mu.Lock()
	conn, closed := r.conn, r.closed
	r.mu.Unlock()
	if closed {
		return nil, false, net.ErrClosed
	}
	if conn != nil {
		return conn, true, nil
	}
	ctx, cancel := context.WithTimeout(ctx, r.gen.opts.Timeout)
	defer cancel()
	if conn, err = r.gen.dial(ctx); err != nil {
		return nil, false, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		_ = conn.Close()
		return nil, false, net.ErrClosed
	}
	r.conn = conn
	if r.in == nil {
		r.in = bufio.NewReaderSize(conn, 1024)
	}
	r.in.Reset(conn)
	return conn, false, nil
}

// reset closes the connection; the next request makes one. shut closes it for good.
func (r *requester) reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.conn != nil {
		_ = r.conn.Close()
		r.conn = nil
	}
}

func (r *requester) shut() {
	r.reset()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
}

// do returns the body of the response, which is valid until the next request.
func (r *requester) do(ctx context.Context, method, target string, body []byte, timeout time.Duration) ([]byte, error) {
	for {
		conn, used, err := r.connection(ctx)
		if err != nil {
			return nil, err
		}
		answer, silent, err := r.once(conn, method, target, body, timeout)
		if err == nil {
			return answer, nil
		}
		r.reset()
		if !used || !silent {
			return nil, err
		}
		// The server closed it while it was unused.
	}
}

// once does a request; silent tells that nothing came back before the connection ended.
func (r *requester) once(conn net.Conn, method, target string, body []byte, timeout time.Duration) (answer []byte, silent bool, err error) {
	if err := conn.SetDeadline(time.Now().Add(timeout)); err != nil {
		return nil, false, err
	}
	b := append(r.head[:0], method...)
	b = append(append(append(b, ' '), target...), " HTTP/1.1\r\nHost: "...)
	b = append(append(b, r.gen.url.Host...), "\r\nUser-Agent: "+userAgent+"\r\n"...)
	if method == http.MethodPost {
		b = append(b, "Content-Type: text/plain;charset=UTF-8\r\nContent-Length: "...)
		b = append(strconv.AppendInt(b, int64(len(body)), 10), "\r\n"...)
	}
	b = append(append(b, "\r\n"...), body...)
	if cap(b) <= maxKept {
		r.head = b
	}
	if _, err := conn.Write(b); err != nil {
		return nil, true, err
	}
	if _, err := r.in.Peek(1); err != nil {
		return nil, !errors.Is(err, net.ErrClosed) && !isTimeout(err), err
	}
	res, err := http.ReadResponse(r.in, nil)
	if err != nil {
		return nil, false, err
	}
	defer res.Body.Close()
	if size := int(res.ContentLength); size >= 0 && size <= maxMessage {
		if size > cap(r.body) {
			r.body = make([]byte, size)
		}
		r.body = r.body[:size]
		_, err = io.ReadFull(res.Body, r.body)
	} else {
		r.body, err = io.ReadAll(io.LimitReader(res.Body, maxMessage))
	}
	if err != nil {
		return nil, false, err
	}
	if res.Close {
		r.reset()
	}
	if res.StatusCode != http.StatusOK {
		return nil, false, fmt.Errorf("the server answers %s %.100q", res.Status, r.body)
	}
	return r.body, false, nil
}

func isTimeout(err error) bool {
	timeout, ok := errors.AsType[net.Error](err)
	return ok && timeout.Timeout()
}
