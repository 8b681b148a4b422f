package sio

import (
	"container/list"
	"context"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// recovery is the adapter of a node that is alone and remembers, for a while, what it sent and whom it lost.
//
// Each event, but for those that want an acknowledgement, gets an offset as one more argument, and a client that comes back
// names the last one it has seen. A stock client takes the last argument of any event for an offset if it is a string, so
// that in the official server a volatile event spoils a later recovery. Here a volatile event carries the offset of the
// event before it; and a client that has seen no event at all gets what came since it joined.
type recovery struct {
	memory
	opts  RecoveryOptions
	keep  time.Duration // how long events are kept: they may be missed before we know that the client is gone
	epoch string        // tells our offsets from those of an earlier process

	// mu also orders emissions: an event with a smaller offset is queued to each socket before one with a larger.
	mu       sync.Mutex
	log      []logged // oldest first
	next     uint64   // the position of the next event
	bytes    int
	live     map[string]tracked       // by pid
	sessions map[string]*list.Element // by pid
	claims   map[string]chan struct{} // by pid: restored, and neither admitted nor given back yet
	order    *list.List               // of saved, the first to expire at the front
	timer    *time.Timer
}

type logged struct {
	out    *Outgoing // with its offset
	target Target
	at     time.Time
}

type tracked struct {
	socket *Socket
	start  uint64
	gone   chan struct{} // closed when Persist has been called
}

type saved struct {
	session *SocketState
	expires time.Time
}

var _ Recoverer = (*recovery)(nil)

func newRecovery(l *Local, opts RecoveryOptions, grace time.Duration) *recovery {
	r := &recovery{
		memory: memory{l}, opts: opts, keep: opts.MaxDisconnection + grace, epoch: newID()[:8], next: 1,
		live: make(map[string]tracked), claims: make(map[string]chan struct{}),
		sessions: make(map[string]*list.Element), order: list.New(),
	}
	r.timer = time.AfterFunc(opts.MaxDisconnection, func() { r.locked(r.expireLocked) })
	r.timer.Stop()
	return r
}

func (r *recovery) locked(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f()
}

// Close forgets everything.
func (r *recovery) Close() error {
	r.locked(func() {
		r.timer.Stop()
		r.log, r.bytes = nil, 0
		for _, t := range r.live {
			close(t.gone)
		}
		clear(r.live)
		for _, c := range r.claims {
			close(c)
		}
		clear(r.claims)
		clear(r.sessions)
		r.order.Init()
	})
	return nil
}

// offset names a position: everything up to the event there has been seen.
func (r *recovery) offset(position uint64) string {
	return r.epoch + "." + strconv.FormatUint(position, 36)
}

// parse returns the position that follows offset. It is 0 if that is one of another process, and ok false if it is none.
func (r *recovery) parse(offset string) (position uint64, ok bool) {
	epoch, digits, found := strings.Cut(offset, ".")
	n, err := strconv.ParseUint(digits, 36, 63)
	if !found || len(epoch) != len(r.epoch) || err != nil {
		return 0, false
	}
	if epoch != r.epoch {
		return 0, true
	}
	return n + 1, true
}

// firstLocked is the position of the oldest event that is kept.
func (r *recovery) firstLocked() uint64 { return r.next - uint64(len(r.log)) }

// recordLocked gives out its offset and keeps it, if it is one to keep.
func (r *recovery) recordLocked(out *Outgoing, t Target, keep bool) *Outgoing {
	if out.Volatile || !keep {
		return out.withArg(r.offset(r.next - 1))
	}
	out = out.withArg(r.offset(r.next))
	r.next++
	r.log = append(r.log, logged{out, t, time.Now()})
	r.bytes += out.size()
	drop := 0
	for n := len(r.log); drop < n; drop++ {
		e := r.log[drop]
		if n-drop <= r.opts.MaxPackets && r.bytes <= r.opts.MaxBytes && time.Since(e.at) <= r.keep {
			break
		}
		r.bytes -= e.out.size()
	}
	clear(r.log[:drop])
	r.log = r.log[drop:]
	return out
}

// Broadcast implements Adapter.
func (r *recovery) Broadcast(_ context.Context, out *Outgoing, t Target) error {
	ns := r.local.ns
	r.mu.Lock()
	found := ns.queue(r.recordLocked(out, t, true), t)
	r.mu.Unlock()
	ns.observe(out, found)
	return nil
}

// Send implements Recoverer.
func (r *recovery) Send(s *Socket, out *Outgoing) error {
	r.mu.Lock()
	// What is sent while middlewares run is not part of a session yet.
	joining, waiting := s.stage()
	out2 := r.recordLocked(out, Target{Rooms: []string{s.id}}, !joining)
	err := s.queue(out2, s.ns.message(out2, nil), joining || !waiting)
	r.mu.Unlock()
	s.observe(out)
	return err
}

// Restore implements Recoverer. A session can be restored once.
func (r *recovery) Restore(ctx context.Context, pid, offset string) (*SocketState, error) {
	for {
		session, old, busy := r.claim(pid, offset)
		if busy == nil {
			return session, nil
		}
		if old != nil { // its client knows of the loss before we do
			old.conn.lost()
		}
		select {
		case <-busy:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// claim takes a session out. If it is in use, busy is closed when it is so no longer; by whom, old tells, unless that is an
// earlier try of the client that is still with its middlewares.
func (r *recovery) claim(pid, offset string) (session *SocketState, old *Socket, busy <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if t, alive := r.live[pid]; alive {
		return nil, t.socket, t.gone
	}
	if c := r.claims[pid]; c != nil {
		return nil, nil, c
	}
	r.expireLocked()
	e := r.sessions[pid]
	if e == nil {
		return nil, nil, nil
	}
	session = r.forgetLocked(e)
	position, ok := r.parse(offset)
	if !ok && offset != "" || position > r.next {
		return nil, nil, nil
	}
	session.position, session.restored = max(position, session.start), r.next
	if session.position < r.firstLocked() {
		return nil, nil, nil
	}
	r.claims[pid] = make(chan struct{})
	return session, nil, nil
}

// settleLocked lets those go on who wait for a session that was restored.
func (r *recovery) settleLocked(pid string) {
	if c := r.claims[pid]; c != nil {
		delete(r.claims, pid)
		close(c)
	}
}

// Admit implements Recoverer.
func (r *recovery) Admit(_ context.Context, s *Socket, restored *SocketState, deliver func([]*Outgoing)) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	var missed []*Outgoing
	if restored != nil {
		first := r.firstLocked()
		if restored.position < first {
			r.settleLocked(restored.PID)
			return false
		}
		in := restored.in
		for i, e := range r.log[restored.position-first:] {
			if restored.position+uint64(i) == restored.restored { // from here on the middlewares may have put it into rooms
				in = func(room string) bool { return restored.in(room) || s.In(room) }
			}
			if e.target.selects(in) {
				missed = append(missed, e.out)
			}
		}
	}
	start := r.next
	if restored != nil {
		defer r.settleLocked(restored.PID)
		start = restored.position // what it missed may be lost once more
	}
	connected := s.Connected() // if so, Persist has not been called, and waits for us if it is
	deliver(missed)
	switch {
	case restored != nil && !s.Connected(): // gone, maybe before it had its rooms; Persist takes no notice of who is not live
		r.saveLocked(restored)
	case connected:
		r.live[s.pid] = tracked{s, start, make(chan struct{})}
	}
	return true
}

func (s *SocketState) in(room string) bool { return room == s.ID || slices.Contains(s.Rooms, room) }

// selects tells whether a socket is selected that is in those rooms.
func (t Target) selects(in func(room string) bool) bool {
	return (len(t.Rooms) == 0 || slices.ContainsFunc(t.Rooms, in)) && !slices.ContainsFunc(t.Except, in)
}

// Persist implements Recoverer.
func (r *recovery) Persist(s *SocketState, recoverable bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if t, ok := r.live[s.PID]; ok {
		s.start = t.start
		delete(r.live, s.PID)
		close(t.gone)
	}
	if s.start == 0 { // it was never admitted
		return
	}
	if recoverable {
		r.saveLocked(s)
	}
	r.settleLocked(s.PID)
}

func (r *recovery) saveLocked(s *SocketState) {
	if e := r.sessions[s.PID]; e != nil {
		r.forgetLocked(e)
	}
	if r.order.Len() == 0 {
		r.timer.Reset(r.opts.MaxDisconnection)
	}
	r.sessions[s.PID] = r.order.PushBack(&saved{s, time.Now().Add(r.opts.MaxDisconnection)})
	r.expireLocked()
}

func (r *recovery) forgetLocked(e *list.Element) *SocketState {
	v, ok := r.order.Remove(e).(*saved)
	if !ok {
		panic("sio: foreign value in the list")
	}
	delete(r.sessions, v.session.PID)
	return v.session
}

// expireLocked forgets sessions whose time is up, or that are too many.
func (r *recovery) expireLocked() {
	for e := r.order.Front(); e != nil; e = r.order.Front() {
		v, ok := e.Value.(*saved)
		if !ok {
			panic("sio: foreign value in the list")
		}
		left := time.Until(v.expires)
		if left > 0 && r.order.Len() <= r.opts.MaxSessions {
			r.timer.Reset(left)
			return
		}
		r.forgetLocked(e)
	}
	r.timer.Stop()
}
