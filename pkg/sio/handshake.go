package sio

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/seed-0b620db0/patchbay/pkg/eio"
)

// Handshake is how a client came: the first HTTP request of its connection, shared by all its namespaces, and what it gave
// as auth for this one.
type Handshake struct {
	req  *eio.Request
	auth json.RawMessage
}

// Header returns the headers of the request, put together anew for each call.
func (h *Handshake) Header() http.Header { return h.req.Header() }

// Query returns the parameters of the request, those of the protocol included.
func (h *Handshake) Query() url.Values { return h.req.Query() }

// URL returns the request target.
func (h *Handshake) URL() string { return h.req.URL() }

// Address returns the address of the peer without its port; behind a proxy it is the proxy's.
func (h *Handshake) Address() string {
	host, _, err := net.SplitHostPort(h.req.RemoteAddr())
	if err != nil {
		return h.req.RemoteAddr()
	}
	return host
}

// CrossDomain tells whether the request had an Origin.
func (h *Handshake) CrossDomain() bool { return h.req.Header().Get("Origin") != "" }

// Secure tells whether the connection was TLS.
func (h *Handshake) Secure() bool { return h.req.Secure() }

// Issued returns when the connection was made.
func (h *Handshake) Issued() time.Time { return h.req.Time() }

// Auth decodes what the client gave as auth, an object, into dst. Without any it leaves dst as it is.
func (h *Handshake) Auth(dst any) error {
	if h.auth == nil {
		return nil
	}
	if err := json.Unmarshal(h.auth, dst); err != nil {
		return fmt.Errorf("sio: decode auth: %w", err)
	}
	return nil
}

// HandshakeData is a handshake as servers tell each other of it; the fields are those of the official server.
type HandshakeData struct {
	Headers map[string]string `json:"headers"`
	Time    string            `json:"time"`
	Address string            `json:"address"`
	XDomain bool              `json:"xdomain"`
	Secure  bool              `json:"secure"`
	Issued  int64             `json:"issued"` // ms since the epoch
	URL     string            `json:"url"`
	Query   map[string]string `json:"query"`
	Auth    json.RawMessage   `json:"auth"`
}

// Data returns h in that form.
func (h *Handshake) Data() HandshakeData {
	d := HandshakeData{
		Headers: make(map[string]string), Query: make(map[string]string),
		Time:    h.Issued().Format("Mon Jan 02 2006 15:04:05 GMT-0700 (MST)"),
		Address: h.Address(), XDomain: h.CrossDomain(), Secure: h.Secure(), Issued: h.Issued().UnixMilli(),
		URL: h.URL(), Auth: h.auth,
	}
	for name, values := range h.Header() {
		d.Headers[strings.ToLower(name)] = strings.Join(values, ", ")
	}
	if host := h.req.Host(); host != "" {
		d.Headers["host"] = host
	}
	for name, values := range h.Query() {
		d.Query[name] = values[len(values)-1]
	}
	if d.Auth == nil {
		d.Auth = json.RawMessage("{}")
	}
	return d
}
