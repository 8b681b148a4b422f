package eio

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/seed-0b620db0/patchbay/pkg/eio/eioproto"
)

// poll is a GET that waits for packets. Its goroutine is the HTTP handler's; others only signal it.
type poll struct {
	wake chan struct{} // capacity 1: something to send, or last is set
	last atomic.Pointer[Message]
}

func (p *poll) signal() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// finish answers the poll with m and nothing else; the session has let go of it.
func (p *poll) finish(m *Message) {
	p.last.Store(m)
	p.signal()
}

// post is a POST that is being read or processed.
type post struct {
	rc         *http.ResponseController
	processing bool // guarded by the session's mu
	aborted    atomic.Bool
}

// abort makes the POST end without a response.
func (p *post) abort() {
	p.aborted.Store(true)
	_ = p.rc.SetReadDeadline(time.Unix(1, 0)) // without support for deadlines the body's own end has to do
}

// servePolling answers a plain request of a session that is polling.
func (s *Session) servePolling(w http.ResponseWriter, r *http.Request) {
	switch r.Method {
	case http.MethodGet:
		s.serveGet(w, r)
	case http.MethodPost:
		s.servePost(w, r)
	default:
		w.WriteHeader(http.StatusInternalServerError)
	}
}

func (s *Session) serveGet(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	switch {
	case s.state == stateClosed:
		s.mu.Unlock()
		s.srv.refuse(w, r, refusal(CodeSessionUnknown, "", nil))
		return
	case s.stream != nil:
		s.mu.Unlock()
		s.srv.refuse(w, r, refusal(CodeBadRequest, "TRANSPORT_MISMATCH", nil))
		return
	case s.poll != nil:
		s.mu.Unlock()
		s.fail(ReasonTransportError, errPollOverlap)
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	p := &poll{wake: make(chan struct{}, 1)}
	s.poll = p
	if len(s.queue) > 0 {
		p.signal()
	}
	s.mu.Unlock()

	select {
	case <-p.wake:
	case <-r.Context().Done():
		s.mu.Lock()
		ours := s.poll == p // else the session has let go of it, and may be elsewhere by now
		s.mu.Unlock()
		if ours {
			s.end(ReasonTransportError, errPollAborted, farewellAbort)
		}
		return
	}

	s.mu.Lock()
	var batch []queued
	closing, reason := false, s.endReason
	if s.poll == p {
		s.poll = nil
		batch = s.takeLocked(nil)
		closing = s.state == stateClosing
		if last := len(batch) - 1; closing && last > 0 && batch[last].m == closeMessage {
			// A client that finds the close in the same payload as a message may close before it has looked at the message
			// (socket.io-client does): it gets the close with its next poll, as from the official server.
			batch, s.queue, closing = batch[:last], []queued{batch[last]}, false
		}
	}
	s.mu.Unlock()
	if last := p.last.Load(); last != nil {
		batch = []queued{{m: last}}
		closing = false
	} else {
		defer s.sent(batch)
	}
	if closing { // the batch ends with the close packet; who has read it finds no session any more
		s.srv.sentAway(s.id, reason)
		s.end(reason, nil, farewellAbort)
	}
	n, err := s.respond(w, r, batch)
	if err != nil {
		s.end(ReasonTransportError, err, farewellAbort)
		return
	}
	s.sentHook(Polling, batch, n)
}

// respond writes the payload of batch as the answer to a poll.
func (s *Session) respond(w http.ResponseWriter, r *http.Request, batch []queued) (int, error) {
	n, compress := len(batch)-1, false
	for _, q := range batch {
		n += len(q.m.payload())
		compress = compress || !q.m.noCompress
	}
	body := make([]byte, 0, max(n, 0))
	for i, q := range batch {
		if i > 0 {
			body = append(body, eioproto.Separator)
		}
		body = append(body, q.m.payload()...)
	}
	if s.jsonp != "" {
		body = jsonpBody(s.jsonp, body)
	}
	return len(body), s.srv.writePolling(w, r, "text/plain; charset=UTF-8", body, compress)
}

// writePolling writes a response of the polling transport, compressed if it is worth it and the client takes it.
func (srv *Server) writePolling(w http.ResponseWriter, r *http.Request, contentType string, body []byte, compress bool) error {
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Cache-Control", "no-store")
	if ua := r.UserAgent(); strings.Contains(ua, ";MSIE") || strings.Contains(ua, "Trident/") {
		h.Set("X-XSS-Protection", "0")
	}
	if srv.isDraining() { // who comes back over the same connection would come to this server
		h.Set("Connection", "close")
	}
	if f := srv.opts.Headers; f != nil {
		f(h, r)
	}
	out := &pacedWriter{ResponseWriter: w, rc: http.NewResponseController(w), timeout: srv.opts.WriteTimeout}
	if err := srv.writeBody(out, r, body, compress); err != nil {
		return err
	}
	if err := out.flush(); err != nil {
		return err
	}
	// A deadline outlives the request on its connection, where the next one may be somebody else's: it is lifted again
	// when the last byte has been handed over.
	return out.deadline(time.Time{})
}

// pacedWriter gives the client the time-out for each piece of a response, as [frameConn] does.
type pacedWriter struct {
	http.ResponseWriter
	rc      *http.ResponseController
	timeout time.Duration
}

func (w *pacedWriter) Write(p []byte) (n int, err error) {
	for len(p) > 0 && err == nil {
		if err = w.deadline(time.Now().Add(w.timeout)); err != nil {
			return n, err
		}
		var m int
		m, err = w.ResponseWriter.Write(p[:min(len(p), writePiece)])
		n, p = n+m, p[m:]
	}
	return n, err
}

func (w *pacedWriter) flush() error {
	if err := w.deadline(time.Now().Add(w.timeout)); err != nil {
		return err
	}
	if err := w.rc.Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	return nil
}

func (w *pacedWriter) deadline(t time.Time) error {
	if err := w.rc.SetWriteDeadline(t); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	return nil
}

func (srv *Server) writeBody(w http.ResponseWriter, r *http.Request, body []byte, compress bool) error {
	threshold := srv.opts.HTTPCompressionThreshold
	if compress && threshold >= 0 && len(body) >= threshold {
		if enc := acceptedEncoding(r.Header.Get("Accept-Encoding")); enc != "" {
			w.Header().Set("Content-Encoding", enc)
			return compressTo(w, enc, body)
		}
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	_, err := w.Write(body)
	return err
}

func (s *Session) servePost(w http.ResponseWriter, r *http.Request) {
	p := &post{rc: http.NewResponseController(w)}
	s.mu.Lock()
	switch {
	case s.state == stateClosed:
		s.mu.Unlock()
		s.srv.refuse(w, r, refusal(CodeSessionUnknown, "", nil))
		return
	case s.stream != nil:
		s.mu.Unlock()
		s.srv.refuse(w, r, refusal(CodeBadRequest, "TRANSPORT_MISMATCH", nil))
		return
	case s.post != nil:
		s.mu.Unlock()
		s.fail(ReasonTransportError, errPostOverlap)
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	s.post = p
	s.mu.Unlock()
	release := func() {
		s.mu.Lock()
		if s.post == p {
			s.post = nil
		}
		s.mu.Unlock()
	}
	defer release()

	if r.Header.Get("Content-Type") == "application/octet-stream" { // the binary payload of EIO3
		s.fail(ReasonTransportError, errContent)
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	body, err := s.readBody(w, r, p)
	if p.aborted.Load() {
		panic(http.ErrAbortHandler) // the connection ends without an answer
	}
	if tooBig, ok := errors.AsType[*http.MaxBytesError](err); ok {
		s.srv.opts.Logger.Debug("post_too_large", "limit", tooBig.Limit)
		w.WriteHeader(http.StatusRequestEntityTooLarge)
		return
	}
	if err != nil {
		s.end(ReasonTransportError, errors.Join(errPostAborted, err), farewellClose)
		panic(http.ErrAbortHandler)
	}

	s.mu.Lock()
	p.processing = true
	s.mu.Unlock()
	s.receivePayload(body)
	release() // with the answer the client may send the next one, over another connection
	if p.aborted.Load() {
		panic(http.ErrAbortHandler)
	}
	// "ok" says that the packets were processed, whatever came of it.
	if err := s.srv.writePolling(w, r, "text/html", []byte("ok"), false); err != nil {
		s.end(ReasonTransportError, errors.Join(errPostAborted, err), farewellClose)
	}
}

func (s *Session) readBody(w http.ResponseWriter, r *http.Request, p *post) ([]byte, error) {
	limit := int64(s.srv.opts.MaxHTTPBufferSize)
	if r.ContentLength > limit {
		return nil, &http.MaxBytesError{Limit: limit}
	}
	if err := p.rc.SetReadDeadline(time.Now().Add(s.srv.opts.BodyTimeout)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return nil, err
	}
	var buf bytes.Buffer // grows with what really comes, whatever Content-Length promises
	_, err := io.Copy(&buf, http.MaxBytesReader(w, r.Body, limit))
	if err != nil || p.aborted.Load() {
		return nil, err
	}
	if err := p.rc.SetReadDeadline(time.Time{}); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return nil, err
	}
	body := buf.Bytes()
	if s.jsonp != "" {
		return jsonpData(body), nil
	}
	return body, nil
}

// receivePayload handles the packets of a body; what comes before an error counts.
func (s *Session) receivePayload(body []byte) {
	defer s.srv.hold()()
	if !utf8.Valid(body) {
		s.fail(ReasonParseError, errUTF8)
		return
	}
	n := 0
	for p, err := range eioproto.Payload(body) {
		if n++; n > s.srv.opts.MaxPayloadPackets && err == nil {
			err = errTooManyPackets
		}
		if err != nil {
			s.fail(ReasonParseError, err)
			return
		}
		if !s.receive(Polling, p) {
			return
		}
	}
}
