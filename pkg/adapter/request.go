package adapter

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/seed-0b620db0/patchbay/pkg/sio"
)

const (
	// maxEarly bounds the acknowledgements that come ahead of the number that is to be expected.
	maxEarly = 1024
	// maxClients bounds what a node may say that it has.
	maxClients = 1 << 24
)

// request is a question to the other nodes, and who has yet to answer it.
//
// Those it waits for are known by name, or are only a number. An answer without a name is taken for one of the latter, or
// of anybody if there are none.
type request struct {
	// set at construction
	id     string
	wants  Type                    // one from each node
	answer func(sio.Args, error)   // nil if it wants FetchSocketsResponse
	end    context.CancelCauseFunc // called when there is nothing left to wait for

	// owned by who asks
	question Type // 0: nobody was asked
	began    time.Time

	calls sync.WaitGroup // of answer

	mu sync.Mutex
	// guarded by mu
	over     bool // there are no more calls of answer
	held     bool // it may not end yet, as it has not been asked everywhere
	nodes    map[NodeID]*respondent
	waiting  int // of nodes, those that have not answered
	unnamed  int // answers expected from others
	nameless int // answers that have come without a name
	sockets  []sio.RemoteSocket

	// Clients and acknowledgements, if those are wanted.
	clients, acks int // of other nodes
	early         int // acknowledgements that nobody had announced
	local         int // acknowledgements that clients of this node still owe
}

// respondent is a node that was asked, or has answered, by name.
type respondent struct {
	answered, gone bool
	clients, acks  int
}

func newRequest(wants Type, answer func(sio.Args, error), end context.CancelCauseFunc) *request {
	return &request{
		id: newRequestID(), wants: wants, answer: answer, end: end,
		held: true, nodes: make(map[NodeID]*respondent),
	}
}

// expect has r wait for nodes.
func (r *request) expect(names []NodeID, unnamed int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, id := range names {
		r.nodes[id] = new(respondent)
	}
	r.waiting, r.unnamed = len(names), unnamed
}

// abandon has r wait for no other node: it could not be asked.
func (r *request) abandon() {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.nodes)
	r.waiting, r.unnamed = 0, 0
}

// release lets r end, once so many more clients of this node have answered.
func (r *request) release(local int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.held = false
	r.local += local
	r.settleLocked()
}

// missingLocked returns how many nodes have not answered.
func (r *request) missingLocked() int { return max(0, r.waiting+r.unnamed-r.nameless) }

func (r *request) settleLocked() {
	if !r.held && r.missingLocked() == 0 && r.acks >= r.clients && r.local == 0 {
		r.end(nil)
	}
}

// writeOff ends the wait for a node.
func (r *request) writeOff(id NodeID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.nodes[id]
	if n == nil || n.gone {
		return
	}
	n.gone = true
	if n.answered {
		r.clients -= max(0, n.clients-n.acks)
		n.clients = n.acks
	} else {
		r.waiting--
	}
	r.settleLocked()
}

// recount takes it that so many nodes are there that are not among alive. Some of those that r asked without knowing their
// names may be known by now, so that only those count that it asked by name.
func (r *request) recount(alive []NodeID, others int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, id := range alive {
		if r.nodes[id] == nil {
			others++
		}
	}
	r.unnamed = min(r.unnamed, others)
	r.settleLocked()
}

// receive takes an answer of another node. It tells whether one was expected.
func (r *request) receive(m *Message) bool {
	r.mu.Lock()
	if r.over { // it was, until now
		r.mu.Unlock()
		return true
	}
	ok, calls := false, false
	switch {
	case m.Type == r.wants:
		ok = r.respondLocked(m)
		calls = ok && m.Type == ServerSideEmitResponse
	case m.Type == BroadcastAck && r.wants == BroadcastClientCount:
		ok = r.ackLocked(m.From)
		calls = ok
	}
	if calls {
		r.calls.Add(1)
	}
	r.settleLocked()
	r.mu.Unlock()
	if calls {
		r.answer(args(m.Value), nil)
		r.calls.Done()
	}
	return ok
}

func (r *request) respondLocked(m *Message) bool {
	if m.Clients < 0 || m.Clients > maxClients {
		return false
	}
	n := r.nodes[m.From]
	switch {
	case n != nil && n.answered:
		return false
	case n != nil:
		if !n.gone {
			r.waiting--
		}
		n.answered, n.gone = true, false
	case m.From != "" && r.unnamed > 0 && r.missingLocked() > 0: // those without a name may be of nodes that are known by name
		n = &respondent{answered: true}
		r.nodes[m.From] = n
		r.unnamed--
	case m.From == "" && r.missingLocked() > 0:
		n = new(respondent) // that nobody finds
		r.nameless++
	default:
		return false
	}
	n.clients = m.Clients
	r.clients += m.Clients
	r.sockets = append(r.sockets, m.Sockets...)
	return true
}

func (r *request) ackLocked(from NodeID) bool {
	n := r.nodes[from]
	switch {
	case n != nil && n.answered:
		if n.acks >= n.clients {
			return false
		}
	case r.acks >= r.clients: // the number may be on its way
		if r.missingLocked() == 0 || r.early >= maxEarly {
			return false
		}
		r.early++
	}
	if n != nil {
		n.acks++
	}
	r.acks++
	return true
}

// answerLocal takes the answer of a client of this node.
func (r *request) answerLocal(a sio.Args, err error) {
	r.mu.Lock()
	if r.over {
		r.mu.Unlock()
		return
	}
	r.local-- // below zero until release
	r.calls.Add(1)
	r.settleLocked()
	r.mu.Unlock()
	r.answer(a, err)
	r.calls.Done()
}

// finish ends the calls of answer, and returns what came of the request; cause is why the wait has ended.
func (r *request) finish(cause error) error {
	r.mu.Lock()
	r.over = true
	nodes, clients := r.missingLocked(), max(0, r.clients-r.acks)+max(0, r.local)
	silent := r.silentLocked()
	r.mu.Unlock()
	r.calls.Wait()
	if r.wants == BroadcastClientCount {
		if errors.Is(cause, context.DeadlineExceeded) {
			cause = fmt.Errorf("%w: %w", sio.ErrAckTimeout, cause)
		}
		if clients > 0 {
			cause = fmt.Errorf("%w: %d clients did not answer", cause, clients)
		}
	}
	switch {
	case nodes > 0:
		return &PartialError{Silent: silent, Unnamed: nodes - len(silent), Err: cause}
	case clients > 0:
		return cause
	default:
		return nil
	}
}

// silentLocked returns the names of nodes that have not answered for sure.
func (r *request) silentLocked() []NodeID {
	if r.nameless > r.unnamed { // some of them have, and did not tell who they are
		return nil
	}
	var ids []NodeID
	for id, n := range r.nodes {
		if !n.answered && !n.gone {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}
