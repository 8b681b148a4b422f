package eio

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// Request is what a session keeps of its first HTTP request. It may be read from any goroutine and must not be changed.
type Request struct {
	header     http.Header
	uri        string
	host       string
	remoteAddr string
	secure     bool
	time       time.Time
	ctx        context.Context //nolint:containedctx // the application's values for this session, see Options.Context
}

func newRequest(r *http.Request, ctx context.Context) *Request { //nolint:revive // the context is data here
	return &Request{
		header: r.Header, uri: r.RequestURI, host: r.Host, remoteAddr: r.RemoteAddr,
		secure: r.TLS != nil, time: time.Now(), ctx: ctx,
	}
}

// Header returns the headers.
func (r *Request) Header() http.Header { return r.header }

// URL returns the request target as the client sent it.
func (r *Request) URL() string { return r.uri }

// Host returns the Host header.
func (r *Request) Host() string { return r.host }

// RemoteAddr returns the address of the peer, "host:port", which may be a proxy's.
func (r *Request) RemoteAddr() string { return r.remoteAddr }

// Secure tells whether the connection to this server was TLS.
func (r *Request) Secure() bool { return r.secure }

// Time returns when the request came in.
func (r *Request) Time() time.Time { return r.time }

// Context returns what Options.Context made of the request.
func (r *Request) Context() context.Context { return r.ctx }

// Query parses the query string. Where a key stands more than once, the official server takes the last.
func (r *Request) Query() url.Values {
	u, err := url.ParseRequestURI(r.uri)
	if err != nil {
		return url.Values{}
	}
	return u.Query()
}
