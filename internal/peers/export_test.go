package peers

import (
	"net/http"
	"time"
)

// What the tests see of the inside.

// WindowSize, MaxAge and MaxNodes are limits that the tests must reach.
const (
	WindowSize = windowSize
	MaxAge     = maxAge
	MaxNodes   = maxNodes
)

// Window is the memory of a sender's numbers.
type Window struct{ w window }

// Take tells whether seq has not come before.
func (w *Window) Take(seq uint64) bool { return w.w.take(seq) }

// Senders returns how many windows are kept.
func (f *Forwarder) Senders() int {
	f.windows.mu.Lock()
	defer f.windows.mu.Unlock()
	return len(f.windows.byID)
}

// Stamp is what a node says of a request that it forwards.
type Stamp struct {
	Tag, ID string
	Seq     uint64
	Time    time.Time
	Addr    string
	Secure  bool
}

// Sign returns the header of a request to the node with the tag to.
func Sign(secret string, s Stamp, to, method, target string) string {
	return sign([]byte(secret), &stamp{s.Tag, s.ID, s.Seq, s.Time.UnixMilli(), s.Addr, s.Secure}, to, method, target)
}

// OwnerOf returns the tag in the sid of a request.
func OwnerOf(r *http.Request) string { return ownerOf(r) }

// Reachable tells whether the node with the tag may be dialed.
func (d *Directory) Reachable(tag string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.peers[tag].reachable()
}

// Authentic tells whether a header is that of a request to the node with the tag self.
func Authentic(secret, header, self, method, target string) bool {
	_, err := authentic([]byte(secret), http.Header{Header: {header}}, self, method, target)
	return err == nil
}
