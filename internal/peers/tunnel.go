package peers

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"
)

const (
	maxAnswer = 64 << 10        // bytes of what an owner answers to an upgrade
	linger    = 5 * time.Second // that one end has to close when the other has
)

func isUpgrade(r *http.Request) bool {
	return strings.EqualFold(r.Header.Get("Upgrade"), "websocket")
}

// hopHeaders are those of a connection, not of a request.
var hopHeaders = []string{"Connection", "Proxy-Connection", "Keep-Alive", "Te", "Trailer", "Transfer-Encoding", "Upgrade"}

// removeHopHeaders also tells whether the connection was to be upgraded: that header alone does not say so.
func removeHopHeaders(h http.Header) (upgrade bool) {
	for _, v := range h["Connection"] {
		for name := range strings.SplitSeq(v, ",") {
			name = strings.TrimSpace(name)
			upgrade = upgrade || strings.EqualFold(name, "Upgrade")
			h.Del(name)
		}
	}
	for _, name := range hopHeaders {
		h.Del(name)
	}
	return upgrade
}

// upgrade forwards a request for a WebSocket. It is not the proxy's business, as that would hold on to a few tens of
// kilobytes for as long as the connection lasts. Unless the result is Forwarded, nothing has been written to w.
func (f *Forwarder) upgrade(w http.ResponseWriter, r *http.Request, peer *Peer) (Result, error) {
	begun := time.Now()
	ctx := r.Context()
	owner, err := f.dial(ctx, "tcp", peer.Addr)
	if err != nil {
		return Unreachable, err
	}
	t := &tunnel{f: f, owner: owner}
	t.passage = passage{peer: peer, query: strings.Clone(r.URL.RawQuery), cut: t.closeOwner}
	abort := context.AfterFunc(ctx, t.closeOwner)
	t.events[0] = context.AfterFunc(peer.gone, t.closeOwner) //nolint:contextcheck // an event, not a call's context
	t.events[1] = context.AfterFunc(f.stopped, t.closeOwner) //nolint:contextcheck // the same
	kept := false
	defer func() {
		abort()
		if !kept {
			t.end()
		}
	}()
	if err := owner.SetDeadline(begun.Add(f.opts.Timeout)); err != nil {
		return Failed, err
	}
	if err := f.outgoing(r, peer).Write(owner); err != nil {
		return Failed, err
	}
	limit := &io.LimitedReader{R: owner, N: maxAnswer}
	br := bufio.NewReaderSize(limit, 1<<10)
	res, err := http.ReadResponse(br, r)
	if err != nil {
		return Failed, err
	}
	defer res.Body.Close()
	if err := f.taken(res, peer); err != nil {
		return Refused, err
	}
	f.opts.Result(Forwarded, time.Since(begun))
	if res.StatusCode != http.StatusSwitchingProtocols {
		answer(w, res)
		return Forwarded, nil
	}
	rest, _ := br.Peek(br.Buffered()) // what is in memory
	// From here on the client has an answer, or none: there is no other.
	kept = abort() && owner.SetDeadline(time.Time{}) == nil && t.connect(w, res, rest)
	if !kept {
		panic(http.ErrAbortHandler)
	}
	return Forwarded, nil
}

// outgoing returns the request to the owner.
func (f *Forwarder) outgoing(r *http.Request, peer *Peer) *http.Request {
	out := r.Clone(r.Context())
	if removeHopHeaders(out.Header) {
		out.Header.Set("Connection", "Upgrade")
	}
	out.Header.Set("Upgrade", "websocket")
	if out.UserAgent() == "" {
		out.Header.Set("User-Agent", "") // else it gets one
	}
	out.Body = nil
	f.address(out, r, peer)
	return out
}

// answer passes an answer on that is no upgrade.
func answer(w http.ResponseWriter, res *http.Response) {
	removeHopHeaders(res.Header)
	h := w.Header()
	for name, values := range res.Header {
		h[name] = append(h[name], values...)
	}
	h.Set("Connection", "close") // as the owner's
	w.WriteHeader(res.StatusCode)
	_, _ = io.Copy(w, res.Body) // the client may have gone
}

// tunnel is an upgraded connection.
type tunnel struct {
	f             *Forwarder
	passage       passage
	passed        func()
	client, owner net.Conn
	events        [2]func() bool // to stop waiting for what ends it
	open          atomic.Int32   // directions
}

// connect answers the client and starts to copy. rest is what has come from the owner behind its answer.
func (t *tunnel) connect(w http.ResponseWriter, res *http.Response, rest []byte) bool {
	header := w.Header().Clone()
	for name, values := range res.Header {
		header[name] = append(header[name], values...)
	}
	client, brw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return false
	}
	var b bytes.Buffer
	b.WriteString("HTTP/1.1 101 Switching Protocols\r\n")
	_ = header.Write(&b) // into memory
	b.WriteString("\r\n")
	b.Write(rest)
	early, _ := brw.Reader.Peek(brw.Reader.Buffered()) // came before it was asked for
	err = client.SetWriteDeadline(time.Now().Add(t.f.opts.WriteTimeout))
	if err == nil {
		_, err = client.Write(b.Bytes())
	}
	if err == nil && len(early) > 0 {
		_, err = t.owner.Write(early)
	}
	if err != nil {
		_ = client.Close() // it is of no use any more
		return false
	}
	t.client = client
	t.open.Store(2)
	t.f.more()
	t.passed = t.f.pass(&t.passage)
	// Both end when one of the connections does, which the owner's end, its disappearance from the directory or Stop see to.
	go t.copy(client, t.owner, t.f.opts.WriteTimeout)
	go t.copy(t.owner, client, 0) // an owner that is alive reads when it can, and no sooner
	return true
}

// closeOwner ends the tunnel: the rest follows from it.
func (t *tunnel) closeOwner() { _ = t.owner.Close() }

// end lets go of everything.
func (t *tunnel) end() {
	for _, stop := range t.events {
		stop()
	}
	t.closeOwner()
}

// copy copies one direction until it ends. timeout is for each write; 0 is none.
func (t *tunnel) copy(dst, src net.Conn, timeout time.Duration) {
	if err := t.pump(dst, src, timeout); errors.Is(err, io.EOF) && closeWrite(dst) == nil {
		_ = dst.SetReadDeadline(time.Now().Add(linger)) // it fails if there is nothing left to read
	} else {
		_ = t.client.Close()
		_ = t.owner.Close()
	}
	if t.open.Add(-1) > 0 {
		return
	}
	_ = t.client.Close()
	t.end()
	t.passed()
	t.f.leave()
}

func closeWrite(c net.Conn) error {
	if half, ok := c.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return c.Close()
}

// pump takes a small buffer to wait with, and a large one while there is more.
func (t *tunnel) pump(dst, src net.Conn, timeout time.Duration) error {
	small := make([]byte, 1<<10)
	var large []byte
	defer func() { t.f.buffers.Put(large) }()
	for {
		buf := small
		if large != nil {
			buf = large
		}
		n, err := src.Read(buf)
		if n > 0 {
			if timeout > 0 {
				if err := dst.SetWriteDeadline(time.Now().Add(timeout)); err != nil {
					return err
				}
			}
			if _, err := dst.Write(buf[:n]); err != nil {
				return err
			}
		}
		if err != nil {
			return err
		}
		switch more := n == len(buf); {
		case more && large == nil:
			large = t.f.buffers.Get()
		case !more && large != nil:
			t.f.buffers.Put(large)
			large = nil
		}
	}
}
