package peers

import (
	"cmp"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// Prefix begins the path of forwarded requests on the internal listener.
const Prefix = "/peer"

// Result is what became of a request for a session of another node.
type Result string

// The results.
const (
	Forwarded   Result = "forwarded"   // answered by the owner, whatever the answer
	Unknown     Result = "unknown"     // no node has the tag
	Unreachable Result = "unreachable" // there is no connection to the owner
	Refused     Result = "refused"     // the owner does not trust this node, or who is at its address is another
	Failed      Result = "failed"      // the owner, or this node, went, or there was no answer in time
	Aborted     Result = "aborted"     // the client went
	TooMany     Result = "too_many"    // [Options.MaxForwards]
)

// Results are all of them.
var Results = []Result{Forwarded, Unknown, Unreachable, Refused, Failed, Aborted, TooMany}

// Options configure a Forwarder. The zero value of each field stands for its default.
type Options struct {
	// Tag and ID are those of this node.
	Tag, ID string
	// Secret is what all nodes share.
	Secret []byte
	// Timeout is how long an owner may take to answer, the request's body included. Default 75 s.
	Timeout time.Duration
	// DialTimeout is how long it may take to connect to one. Default 2 s.
	DialTimeout time.Duration
	// Dial connects to one. Default: that of a [net.Dialer].
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// IdleTimeout is how long a connection to one is kept. It has to be shorter than the owner's. Default 30 s.
	IdleTimeout time.Duration
	// WriteTimeout is the time that a client has to take each 32 KiB. Default 20 s.
	WriteTimeout time.Duration
	// MaxBody is how many bytes an owner takes in one body. Default 1,000,000.
	MaxBody int
	// MaxForwards bounds the requests under way, upgraded ones included. Default 1,000,000.
	MaxForwards int

	// Result is called for each request for a session of another node, with the time until the owner's answer.
	Result func(r Result, d time.Duration)
	// Accepted is called for each request that claims to come from another node; err says why it was not taken.
	Accepted func(err error)
	Logger   *slog.Logger // Default slog.DiscardHandler.
}

// Forwarder passes requests on to the nodes that their sessions are on, and takes those that other nodes pass on.
type Forwarder struct {
	// set at construction
	opts      Options
	dir       *Directory
	proxy     *httputil.ReverseProxy
	transport *http.Transport
	stopped   context.Context //nolint:containedctx // an event: Stop was called
	stop      context.CancelFunc

	seq     atomic.Uint64
	windows windows
	warn    rate.Sometimes
	buffers copyBuffers

	draining atomic.Bool

	mu sync.Mutex
	// guarded by mu
	underWay int
	idle     chan struct{}         // closed when nothing is under way any more; nil until Close
	passages map[*passage]struct{} // those of underWay that may last
}

// NewForwarder returns a forwarder to the nodes that dir knows.
func NewForwarder(dir *Directory, opts *Options) *Forwarder {
	f := &Forwarder{opts: *opts, dir: dir, warn: rate.Sometimes{Interval: 10 * time.Second}, passages: make(map[*passage]struct{})}
	o := &f.opts
	o.Timeout = cmp.Or(o.Timeout, 75*time.Second)
	o.DialTimeout = cmp.Or(o.DialTimeout, 2*time.Second)
	o.IdleTimeout = cmp.Or(o.IdleTimeout, 30*time.Second)
	o.WriteTimeout = cmp.Or(o.WriteTimeout, 20*time.Second)
	o.MaxBody = cmp.Or(o.MaxBody, 1_000_000)
	o.MaxForwards = cmp.Or(o.MaxForwards, 1_000_000)
	if o.Dial == nil {
		o.Dial = new(net.Dialer).DialContext
	}
	if o.Result == nil {
		o.Result = func(Result, time.Duration) {}
	}
	if o.Accepted == nil {
		o.Accepted = func(error) {}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	// Each waiting poll holds a connection, and the next one is due at once: all of them are kept.
	f.transport = &http.Transport{
		DialContext: f.dial, IdleConnTimeout: o.IdleTimeout, MaxIdleConnsPerHost: o.MaxForwards, DisableCompression: true,
		ReadBufferSize: 4 << 10, WriteBufferSize: 4 << 10,
	}
	f.proxy = &httputil.ReverseProxy{
		Rewrite: f.rewrite, ModifyResponse: f.answered, ErrorHandler: f.failed, Transport: f.transport,
		BufferPool: &f.buffers, ErrorLog: slog.NewLogLogger(o.Logger.Handler(), slog.LevelDebug),
	}
	f.stopped, f.stop = context.WithCancel(context.Background())
	return f
}

// Stop ends what is under way. From then on all sessions of other nodes are unknown.
func (f *Forwarder) Stop() { f.stop() }

// Close stops f and returns when nothing runs any more.
func (f *Forwarder) Close() {
	f.Stop()
	f.mu.Lock()
	if f.idle == nil {
		f.idle = make(chan struct{})
		if f.underWay == 0 {
			close(f.idle)
		}
	}
	f.mu.Unlock()
	<-f.idle
	f.transport.CloseIdleConnections()
}

func (f *Forwarder) enter() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.idle != nil || f.stopped.Err() != nil || f.underWay >= f.opts.MaxForwards {
		return false
	}
	f.underWay++
	return true
}

// more counts one more of somebody who is counted.
func (f *Forwarder) more() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.underWay++
}

func (f *Forwarder) leave() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.underWay--
	if f.idle != nil && f.underWay == 0 {
		close(f.idle)
	}
}

// sidOf returns the sid in a query, or "".
func sidOf(query string) string {
	if !strings.Contains(query, "sid=") {
		return ""
	}
	q, _ := url.ParseQuery(query) // what can be read of it
	sids := q["sid"]
	if len(sids) == 0 {
		return ""
	}
	return sids[len(sids)-1] // as the official server reads it
}

// ownerOf returns the tag in the sid of a request: 20 characters, a dot, the tag.
func ownerOf(r *http.Request) string {
	sid := sidOf(r.URL.RawQuery)
	const random = 20
	if len(sid) <= random+1 || len(sid) > random+1+63 || sid[random] != '.' {
		return ""
	}
	return sid[random+1:]
}

// Edge returns a handler for the public listener: what belongs to another node is forwarded there, the rest is local's, and
// so is what cannot be forwarded: local does not know the session either, and says so in the protocol's form.
func (f *Forwarder) Edge(local http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		tag := ownerOf(r)
		if tag == "" || tag == f.opts.Tag {
			local.ServeHTTP(w, r)
			return
		}
		peer := f.dir.Lookup(r.Context(), tag)
		switch {
		case peer == nil:
			f.opts.Result(Unknown, 0)
			local.ServeHTTP(w, r)
		case !f.enter():
			result := TooMany
			if f.stopped.Err() != nil {
				result = Failed
			}
			f.opts.Result(result, 0)
			local.ServeHTTP(w, r)
		default:
			defer f.leave()
			f.forward(w, r, peer, local)
		}
	})
}

func (f *Forwarder) forward(w http.ResponseWriter, r *http.Request, peer *Peer, local http.Handler) {
	if r.ContentLength > int64(f.opts.MaxBody) { // as the owner would
		f.opts.Result(Forwarded, 0)
		w.WriteHeader(http.StatusRequestEntityTooLarge)
		return
	}
	out := &response{ResponseWriter: w, rc: http.NewResponseController(w), timeout: f.opts.WriteTimeout, last: &f.draining}
	var in *body
	send := func(peer *Peer) (Result, error) { return f.attempt(out, r, in, peer) }
	tunneled := isUpgrade(r) && r.ContentLength == 0
	if tunneled {
		send = func(peer *Peer) (Result, error) { return f.upgrade(w, r, peer) }
	}
	if r.ContentLength != 0 {
		in = &body{ReadCloser: r.Body, left: int64(f.opts.MaxBody) + 1, rc: out.rc}
		defer in.end()
	}
	begun := time.Now()
	result, err := send(peer)
	if result == Unreachable && !in.touched() {
		// It may have been started again elsewhere.
		if now := f.dir.lookup(r.Context(), peer.Tag, peer); now != nil {
			peer = now
			result, err = send(peer)
		}
	}
	switch {
	case result == Forwarded && tunneled: // the connection is the tunnel's
	case result == Forwarded:
		out.end()
	case r.Context().Err() != nil || in.failed():
		f.opts.Result(Aborted, time.Since(begun))
		panic(http.ErrAbortHandler) // there is nobody to answer
	default:
		f.opts.Result(result, time.Since(begun))
		f.warn.Do(func() {
			f.opts.Logger.Warn("forward_failed", "result", string(result), "peer", peer.Tag, "addr", peer.Addr, "error", err)
		})
		local.ServeHTTP(w, r)
	}
}

// attempt is a request on its way to one node.
type attempt struct {
	peer  *Peer
	begun time.Time
	timer *time.Timer // ends the wait for an answer
	err   error       // there was no answer
}

type attemptKey struct{}

func attemptOf(ctx context.Context) *attempt {
	a, ok := ctx.Value(attemptKey{}).(*attempt)
	if !ok {
		panic("peers: not a forwarded request") // the function below makes all of them
	}
	return a
}

// attempt forwards a request to a node. Unless the result is Forwarded, nothing has been written to w.
func (f *Forwarder) attempt(w http.ResponseWriter, r *http.Request, in *body, peer *Peer) (Result, error) {
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(peer.gone, cancel)() //nolint:contextcheck // an event, not a call's context
	defer context.AfterFunc(f.stopped, cancel)() //nolint:contextcheck // the same
	a := &attempt{peer: peer, begun: time.Now(), timer: time.AfterFunc(f.opts.Timeout, cancel)}
	defer a.timer.Stop()
	if r.Method == http.MethodGet { // it may be a poll
		defer f.pass(&passage{peer: peer, query: r.URL.RawQuery, cut: cancel})()
	}
	r = r.WithContext(context.WithValue(ctx, attemptKey{}, a))
	if in != nil {
		r.Body = in
	}
	f.proxy.ServeHTTP(w, r)
	if a.err == nil {
		return Forwarded, nil
	}
	if _, ok := errors.AsType[*refusal](a.err); ok {
		return Refused, a.err
	}
	if _, ok := errors.AsType[*dialError](a.err); ok {
		return Unreachable, a.err
	}
	return Failed, a.err
}

// rewrite makes the request to the owner.
func (f *Forwarder) rewrite(p *httputil.ProxyRequest) {
	p.Out.Header.Del("Upgrade")
	p.Out.Header.Del("Connection")
	p.Out.Header.Del("Expect") // this server's to fulfil; the answer of the owner's would cost what we have in the header so far
	f.address(p.Out, p.In, attemptOf(p.In.Context()).peer)
}

// address makes out, which is a copy of in, a request to peer.
func (f *Forwarder) address(out, in *http.Request, peer *Peer) {
	out.URL.Scheme, out.URL.Host = "http", peer.Addr
	out.URL.RawQuery = in.URL.RawQuery
	out.URL.Path = Prefix + in.URL.Path
	if out.URL.RawPath != "" {
		out.URL.RawPath = Prefix + out.URL.RawPath
	}
	for _, name := range []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"} {
		if v, ok := in.Header[name]; ok { // what a balancer has told us
			out.Header[name] = v
		}
	}
	f.sign(out, peer, in.RemoteAddr, in.TLS != nil)
}

// sign makes r a request that the peer takes for one of this node's.
func (f *Forwarder) sign(r *http.Request, peer *Peer, addr string, secure bool) {
	s := &stamp{Tag: f.opts.Tag, ID: f.opts.ID, seq: f.seq.Add(1), time: time.Now().UnixMilli(), addr: addr, secure: secure}
	r.Header.Set(Header, sign(f.opts.Secret, s, peer.Tag, r.Method, r.URL.RequestURI()))
}

// dial connects to a node. The transport calls it for whoever comes first to use the connection: the address is all there is
// to know a node by. One that did not answer is left alone for a while; the connections there are to it are still used.
func (f *Forwarder) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	if !f.dir.reachable(addr) {
		return nil, &dialError{errNoAnswer}
	}
	ctx, cancel := context.WithTimeoutCause(ctx, f.opts.DialTimeout, errDialTimeout)
	defer cancel()
	conn, err := f.opts.Dial(ctx, network, addr)
	if err == nil {
		return conn, nil
	}
	if ctx.Err() == nil || errors.Is(context.Cause(ctx), errDialTimeout) { // else nobody waits for it any more
		f.dir.unreachable(addr)
	}
	return nil, &dialError{err}
}

var (
	errDialTimeout = errors.New("no connection in time")
	errNoAnswer    = errors.New("no connection a moment ago")
)

type dialError struct{ error }

func (e *dialError) Unwrap() error { return e.error }

// refusal is the owner's word that a request was not taken.
type refusal struct{ reason string }

func (e *refusal) Error() string { return "refused: " + e.reason }

// answered looks at what has come from the owner's address.
func (f *Forwarder) answered(res *http.Response) error {
	a := attemptOf(res.Request.Context())
	a.timer.Stop()
	if err := f.taken(res, a.peer); err != nil {
		return err
	}
	f.opts.Result(Forwarded, time.Since(a.begun))
	return nil
}

// taken tells whether an answer is the owner's.
func (f *Forwarder) taken(res *http.Response, peer *Peer) error {
	word := res.Header.Get(Header)
	res.Header.Del(Header)
	if word != takenBy(peer.Tag) {
		return &refusal{cmp.Or(word, "this is another program")}
	}
	return nil
}

func (f *Forwarder) failed(_ http.ResponseWriter, r *http.Request, err error) {
	attemptOf(r.Context()).err = err
}

// body is that of a request to be forwarded. It ends one byte beyond the limit, so that the owner refuses it as it does any
// other.
type body struct {
	io.ReadCloser
	rc *http.ResponseController

	left int64 // owned by the reader

	mu sync.Mutex
	// guarded by mu
	read  bool
	ended bool
	err   error
}

// touched tells whether the body cannot be sent any more.
func (b *body) touched() bool {
	if b == nil {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.read
}

func (b *body) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, io.EOF
	}
	n, err := b.ReadCloser.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.read = true
	if err == nil {
		return n, nil
	}
	switch {
	case err != io.EOF:
		b.err = err
	case !b.ended:
		// The time for the body is over, and not that for the answer: the deadline would end the request.
		_ = b.rc.SetReadDeadline(time.Time{}) // every connection of ours has one
	}
	return n, err
}

// end is called when the request is done, and its connection may be another's.
func (b *body) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ended = true
}

func (b *body) failed() bool {
	if b == nil {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.err != nil
}
