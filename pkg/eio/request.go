package eio

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Request is what a session keeps of its first HTTP request. It may be read from any goroutine.
type Request struct {
	lines  string // the target, the host, the remote address and each header, all ending in a newline: one piece of memory
	secure bool
	time   time.Time
	ctx    context.Context //nolint:containedctx // the application's values for this session, see Options.Context
}

func newRequest(r *http.Request, ctx context.Context) *Request { //nolint:revive // the context is data here
	var b strings.Builder
	n := len(r.RequestURI) + len(r.Host) + len(r.RemoteAddr) + 3
	for key, values := range r.Header {
		for _, v := range values {
			n += len(key) + len(v) + 2
		}
	}
	b.Grow(n)
	for _, s := range []string{r.RequestURI, r.Host, r.RemoteAddr} {
		b.WriteString(s)
		b.WriteByte('\n')
	}
	for key, values := range r.Header {
		for _, v := range values {
			b.WriteString(key)
			b.WriteByte(':')
			b.WriteString(strings.ReplaceAll(v, "\n", " ")) // which only a middleware can have put there
			b.WriteByte('\n')
		}
	}
	return &Request{lines: b.String(), secure: r.TLS != nil, time: time.Now(), ctx: ctx}
}

// line returns line i and what follows it.
func (r *Request) line(i int) (line, rest string) {
	for rest = r.lines; i >= 0; i-- {
		line, rest, _ = strings.Cut(rest, "\n")
	}
	return line, rest
}

// Header returns the headers, put together anew for each call.
func (r *Request) Header() http.Header {
	h := make(http.Header)
	_, rest := r.line(2)
	for line := range strings.Lines(rest) {
		key, value, _ := strings.Cut(line[:len(line)-1], ":")
		h[key] = append(h[key], value)
	}
	return h
}

// URL returns the request target as the client sent it.
func (r *Request) URL() string {
	uri, _ := r.line(0)
	return uri
}

// Host returns the Host header.
func (r *Request) Host() string {
	host, _ := r.line(1)
	return host
}

// RemoteAddr returns the address of the peer, "host:port", which may be a proxy's.
func (r *Request) RemoteAddr() string {
	addr, _ := r.line(2)
	return addr
}

// Secure tells whether the connection to this server was TLS.
func (r *Request) Secure() bool { return r.secure }

// Time returns when the request came in.
func (r *Request) Time() time.Time { return r.time }

// Context returns what Options.Context made of the request.
func (r *Request) Context() context.Context { return r.ctx }

// Query parses the query string. Where a key stands more than once, the official server takes the last.
func (r *Request) Query() url.Values {
	u, err := url.ParseRequestURI(r.URL())
	if err != nil {
		return url.Values{}
	}
	return u.Query()
}
