package eio

import (
	"runtime"
	"slices"
	"sync"
)

// writers write what is queued to WebSockets. There are at most as many as there are cores, and each does one session after
// the other, without ever waiting for a client: so a message to thousands wakes a few goroutines and not thousands, all
// cores take part, and what is queued meanwhile for a session that has not had its turn leaves in the same write. A client
// that does not take what it is sent gets a goroutine to itself, until it has caught up.
type writers struct {
	srv *Server // set at construction

	mu sync.Mutex
	// guarded by mu
	ready   []*Session // with something to write, in the order in which they wait
	next    int        // ready[:next] have had their turn
	running int
}

// writeBuffers are where small messages that leave together are put side by side.
var writeBuffers = newPool(func() *[]byte { return new(make([]byte, 0, coalesce)) })

const coalesce = 32 << 10

// schedule gives s its turn. It refuses once the server is closed.
func (w *writers) schedule(s *Session) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.running < runtime.GOMAXPROCS(0) {
		if w.srv.start(w.run) {
			w.running++
		} else if w.running == 0 {
			return false
		}
	}
	w.ready = append(w.ready, s)
	return true
}

// again gives s another turn. It is called by a writer.
func (w *writers) again(s *Session) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ready = append(w.ready, s)
}

// turns is how many sessions a writer takes at a time: enough that the lock costs little, few enough that the work is shared.
const turns = 16

// workspace is what a writer needs.
type workspace struct {
	batch []queued
	buf   *[]byte
}

var workspaces = newPool(func() *workspace { return &workspace{buf: writeBuffers.get()} })

// run is one writer. It leaves when there is nothing more to write.
func (w *writers) run() {
	ws := workspaces.get()
	defer workspaces.put(ws)
	var mine [turns]*Session
	for n := w.take(mine[:]); n > 0; n = w.take(mine[:]) {
		for _, s := range mine[:n] {
			if ws.write(s) {
				w.again(s)
			}
		}
	}
}

// writeNow gives s, which has no writer yet, its turn on the caller's goroutine.
func (w *writers) writeNow(s *Session) {
	ws := workspaces.get()
	defer workspaces.put(ws)
	if ws.write(s) && !w.schedule(s) {
		s.takeBatch(nil) // the server is closed
	}
}

// write writes what is queued, as much as goes without waiting. It tells whether there is more to write.
func (ws *workspace) write(s *Session) (more bool) {
	batch := s.takeBatch(ws.batch[:0])
	if len(batch) == 0 {
		return false
	}
	total, left, err := s.stream.writeNow(rest{batch: batch}, *ws.buf)
	if len(left.piece) > 0 || len(left.batch) > 0 {
		slow := &slowWrite{s: s, buf: ws.buf, batch: batch, left: left, total: total, locked: len(left.piece) > 0}
		slow.start()
		ws.batch, ws.buf = nil, writeBuffers.get() // those are in other hands
		return false
	}
	more = s.written(batch, total, err)
	clear(batch) // what has been written is not ours to keep
	ws.batch = batch[:0]
	return more
}

// take moves the next sessions to dst. Without any the writer counts as gone.
func (w *writers) take(dst []*Session) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := copy(dst, w.ready[w.next:])
	clear(w.ready[w.next : w.next+n])
	if w.next += n; w.next == len(w.ready) {
		w.next = 0
		if w.ready = w.ready[:0]; cap(w.ready) > 1<<16 {
			w.ready = nil
		}
	} else if w.next >= 1024 && w.next > len(w.ready)/2 { // so that it does not grow for ever while nobody gets to the end
		w.ready = slices.Delete(w.ready, 0, w.next)
		w.next = 0
	}
	if n == 0 {
		w.running--
	}
	return n
}

// slowWrite goes on with a batch that its client did not take all at once, in a goroutine that may wait for it.
type slowWrite struct {
	s      *Session
	batch  []queued
	left   rest    // of batch
	buf    *[]byte // which left may be in
	total  int     // bytes written by now
	locked bool    // a frame has been broken off: the connection is locked
}

func (w *slowWrite) start() {
	if w.s.srv.start(w.run) {
		return
	}
	w.s.stream.abort() // the server is closed
	if w.locked {
		w.s.stream.conn.unlock()
	}
	w.s.written(w.batch, w.total, ErrClosed)
}

func (w *slowWrite) run() {
	conn := w.s.stream.conn
	if !w.locked {
		conn.lock()
	}
	n, err := w.s.stream.writeRest(w.left, *w.buf)
	conn.unlock()
	writeBuffers.put(w.buf)
	if w.s.written(w.batch, w.total+n, err) {
		w.s.write()
	}
}
