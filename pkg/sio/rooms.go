package sio

import (
	"hash/maphash"
	"slices"
	"sync"
)

const indexShards = 16 // enough that joins and broadcasts to different rooms rarely meet

// index knows the sockets of a namespace by id and by room. Its locks are held for look-ups and changes only, never while
// something is sent.
type index struct {
	seed     maphash.Seed
	shards   [indexShards]shard
	watch    func(room string) // a room has its first member, or none any more; may be nil
	watchOwn func(id string)   // the same for the room of one socket
}

type shard struct {
	mu      sync.RWMutex
	sockets map[string]*Socket              // by id: its own room, which needs no set
	rooms   map[string]map[*Socket]struct{} // never empty sets
}

func newIndex() *index { return &index{seed: maphash.MakeSeed()} }

func (x *index) shard(key string) *shard {
	return &x.shards[maphash.String(x.seed, key)%indexShards]
}

// add makes a connected socket visible.
func (x *index) add(s *Socket) {
	h := x.shard(s.id)
	h.mu.Lock()
	if h.sockets == nil {
		h.sockets = make(map[string]*Socket)
	}
	h.sockets[s.id] = s
	h.mu.Unlock()
	if x.watchOwn != nil {
		x.watchOwn(s.id)
	}
}

// remove takes a socket and its rooms out. The socket does not join any more.
func (x *index) remove(s *Socket, rooms []string) {
	h := x.shard(s.id)
	h.mu.Lock()
	was := h.sockets[s.id] == s
	if was {
		delete(h.sockets, s.id)
	}
	h.mu.Unlock()
	if was && x.watchOwn != nil {
		x.watchOwn(s.id)
	}
	for _, room := range rooms {
		x.drop(s, room, func(string) bool { return true })
	}
}

// join puts s into a room, unless it is disconnected: the check and the change are one, so that no socket stays behind.
func (x *index) join(s *Socket, room string) {
	h := x.shard(room)
	h.mu.Lock()
	first := false
	if s.noteRoom(room) {
		set := h.rooms[room]
		if first = set == nil; first {
			set = make(map[*Socket]struct{}, 1)
			if h.rooms == nil {
				h.rooms = make(map[string]map[*Socket]struct{})
			}
			h.rooms[room] = set
		}
		set[s] = struct{}{}
	}
	h.mu.Unlock()
	if first && x.watch != nil {
		x.watch(room)
	}
}

// leave takes s out of a room.
func (x *index) leave(s *Socket, room string) {
	x.drop(s, room, s.forgetRoom)
}

// drop takes s out of a room if it may, which is asked under the lock: socket and index agree on where it is.
func (x *index) drop(s *Socket, room string, may func(room string) bool) {
	h := x.shard(room)
	h.mu.Lock()
	set, last := h.rooms[room], false
	if _, ok := set[s]; may(room) && ok {
		delete(set, s)
		if last = len(set) == 0; last {
			delete(h.rooms, room)
		}
	}
	h.mu.Unlock()
	if last && x.watch != nil {
		x.watch(room)
	}
}

// get returns the socket with this id, or nil.
func (x *index) get(id string) *Socket {
	h := x.shard(id)
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.sockets[id]
}

func (x *index) has(room string) bool {
	h := x.shard(room)
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.sockets[room] != nil || h.rooms[room] != nil
}

func (x *index) len() int {
	n := 0
	for i := range x.shards {
		h := &x.shards[i]
		h.mu.RLock()
		n += len(h.sockets)
		h.mu.RUnlock()
	}
	return n
}

func (x *index) rooms() []string {
	var out []string
	for i := range x.shards {
		h := &x.shards[i]
		h.mu.RLock()
		for room := range h.rooms {
			out = append(out, room)
		}
		h.mu.RUnlock()
	}
	return out
}

// appendRoom appends the members of a room to dst.
func (x *index) appendRoom(dst []*Socket, room string) []*Socket {
	h := x.shard(room)
	h.mu.RLock()
	defer h.mu.RUnlock()
	set := h.rooms[room]
	own := h.sockets[room]
	dst = slices.Grow(dst, len(set)+1)
	if _, twice := set[own]; own != nil && !twice {
		dst = append(dst, own)
	}
	for s := range set {
		dst = append(dst, s)
	}
	return dst
}

func (x *index) appendAll(dst []*Socket) []*Socket {
	for i := range x.shards {
		h := &x.shards[i]
		h.mu.RLock()
		dst = slices.Grow(dst, len(h.sockets))
		for _, s := range h.sockets {
			dst = append(dst, s)
		}
		h.mu.RUnlock()
	}
	return dst
}

// find returns the sockets of a target, each once.
func (x *index) find(t Target) []*Socket {
	var out []*Socket
	switch len(t.Rooms) {
	case 0:
		out = x.appendAll(nil)
	case 1:
		out = x.appendRoom(nil, t.Rooms[0])
	default:
		seen := make(map[*Socket]struct{})
		for _, room := range t.Rooms {
			for _, s := range x.appendRoom(nil, room) {
				if _, dup := seen[s]; !dup {
					seen[s] = struct{}{}
					out = append(out, s)
				}
			}
		}
	}
	if len(t.Except) > 0 {
		out = slices.DeleteFunc(out, func(s *Socket) bool { return slices.ContainsFunc(t.Except, s.In) })
	}
	return out
}

// roomSet is the set of rooms that a socket is in. Most are in a few, for which a map would cost more than the rest of the
// socket.
type roomSet struct {
	few  []string
	many map[string]struct{} // instead of few, beyond maxFew
}

const maxFew = 16

func (r *roomSet) has(room string) bool {
	if r.many != nil {
		_, ok := r.many[room]
		return ok
	}
	return slices.Contains(r.few, room)
}

func (r *roomSet) add(room string) {
	switch {
	case r.has(room):
	case r.many != nil:
		r.many[room] = struct{}{}
	case len(r.few) < maxFew:
		r.few = append(r.few, room)
	default:
		r.many = make(map[string]struct{}, 2*maxFew)
		for _, old := range r.few {
			r.many[old] = struct{}{}
		}
		r.many[room], r.few = struct{}{}, nil
	}
}

// remove tells whether room was there.
func (r *roomSet) remove(room string) bool {
	ok := r.has(room)
	delete(r.many, room)
	if i := slices.Index(r.few, room); i >= 0 {
		r.few = slices.Delete(r.few, i, i+1)
	}
	return ok
}

// names returns the rooms, with memory for one more.
func (r *roomSet) names() []string {
	names := make([]string, 0, len(r.few)+len(r.many)+1)
	names = append(names, r.few...)
	for room := range r.many {
		names = append(names, room)
	}
	return names
}
