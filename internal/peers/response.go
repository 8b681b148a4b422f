package peers

import (
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// copySize is that of the pieces in which answers are copied.
const copySize = 32 << 10

// copyBuffers are shared by all that copies.
type copyBuffers struct{ pool sync.Pool }

// Get implements httputil.BufferPool.
func (b *copyBuffers) Get() []byte {
	if p, ok := b.pool.Get().(*[copySize]byte); ok {
		return p[:]
	}
	return make([]byte, copySize)
}

// Put implements httputil.BufferPool.
func (b *copyBuffers) Put(p []byte) {
	if p != nil {
		b.pool.Put((*[copySize]byte)(p))
	}
}

// response gives the client a time for each piece that is written to it, as the Engine.IO server does.
type response struct {
	http.ResponseWriter
	rc      *http.ResponseController
	timeout time.Duration
	last    *atomic.Bool // the next request of the client has to find another way
}

// Unwrap is for [http.ResponseController].
func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// WriteHeader implements http.ResponseWriter.
func (w *response) WriteHeader(status int) {
	if w.last.Load() {
		w.Header().Set("Connection", "close")
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *response) Write(p []byte) (int, error) {
	_ = w.rc.SetWriteDeadline(time.Now().Add(w.timeout)) // every connection of ours has one
	return w.ResponseWriter.Write(p)
}

// end lifts the deadline, which would outlive the request on its connection, when the last byte has been handed over.
func (w *response) end() {
	_ = w.rc.SetWriteDeadline(time.Now().Add(w.timeout))
	_ = w.rc.Flush() // if the client has gone there is nothing to do
	_ = w.rc.SetWriteDeadline(time.Time{})
}
