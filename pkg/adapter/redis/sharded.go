package redis

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/seed-0b620db0/patchbay/pkg/adapter"
	"github.com/seed-0b620db0/patchbay/pkg/adapter/internal/envelope"
	"github.com/seed-0b620db0/patchbay/pkg/sio"
)

// Mode tells which rooms have channels of their own, which only nodes with members of the room listen to. All nodes must
// have the same: between others, emissions to one room are lost.
type Mode uint8

// The modes.
const (
	Dynamic        Mode = iota // rooms, save those of single sockets and others whose names have 20 characters
	DynamicPrivate             // all rooms, those of single sockets too
	Static                     // none
)

// String returns the name that the official adapter has for the mode.
func (m Mode) String() string {
	switch m {
	case Dynamic:
		return "dynamic"
	case DynamicPrivate:
		return "dynamic-private"
	default:
		return "static"
	}
}

// ShardedOptions configure [NewSharded]. The zero value of each field stands for its default. Those without a remark are as
// in [Options].
type ShardedOptions struct {
	Cluster adapter.Options
	// ChannelPrefix begins the names of all channels. It is the same for all nodes. Default "socket.io".
	ChannelPrefix string
	Mode          Mode
	Timeout       time.Duration
	// MaxQueueBytes is for each master of a Redis Cluster.
	MaxQueueBytes                  int
	MaxInboxBytes, MaxMessageBytes int
	CanaryInterval, CanaryTimeout  time.Duration
}

func (o *ShardedOptions) withDefaults() (Options, Mode) {
	if o == nil {
		o = &ShardedOptions{}
	}
	all := Options{
		Cluster: o.Cluster, Key: o.ChannelPrefix, Timeout: o.Timeout, MaxQueueBytes: o.MaxQueueBytes,
		MaxInboxBytes: o.MaxInboxBytes, MaxMessageBytes: o.MaxMessageBytes,
		CanaryInterval: o.CanaryInterval, CanaryTimeout: o.CanaryTimeout,
	}
	return all.withDefaults(), o.Mode
}

// NewSharded returns the adapter for one [sio.Server] over the sharded pub/sub of Redis 7 or newer. In a Redis Cluster what
// is published goes to the nodes that want it by way of one shard only, and there is one connection for each master that has
// a channel of ours. The caller closes rdb, after the server.
//
// A room's channel is subscribed when the room gets its first member on this node: what other nodes emit to it reaches that
// member a moment later than it joined, which [sio.Namespace.AwaitRooms] waits for. Messages of one node on different channels
// may overtake each other in a Redis Cluster. A slot that moves takes its channels with it, and what is published until they are
// subscribed on its new master is lost for the nodes that had them.
func NewSharded(rdb goredis.UniversalClient, opts *ShardedOptions) sio.NewAdapter {
	o, mode := opts.withDefaults()
	l := newShardLink(rdb, o)
	return adapter.Cluster(func(ctx context.Context, local *sio.Local, self adapter.NodeID) (adapter.Bus, error) {
		b, err := openSharded(ctx, l, mode, local, self)
		if err != nil {
			return nil, err
		}
		return b, nil
	}, &o.Cluster)
}

// maxChangedRooms bounds what is remembered of a namespace's rooms that have changed. If there are more, all are compared.
const maxChangedRooms = 1 << 16

var (
	errNotHeard = errors.New("no canary was heard")
	errUnsure   = errors.New("subscriptions not confirmed")
)

// sharded is the bus of a namespace over sharded pub/sub.
type sharded struct {
	// set at construction
	link   *shardLink
	shards *shards
	mode   Mode
	inbox  *inbox
	local  *sio.Local
	ns     string
	self   adapter.NodeID
	main   string // the channel that all nodes listen to
	own    string // responses to this node

	end    sync.Once
	err    error         // why; readable when failed is closed
	failed chan struct{} // main or own is lost

	// guarded by shards.mu
	rooms   map[string]struct{}        // whose channels are wanted
	waits   map[*shardChannel]struct{} // not tried yet
	up      map[string]struct{}        // main, own, or both
	refusal error                      // of one of them
	left    bool
	overdue *time.Timer // since one of them moves
	changed int         // rooms that are to be compared
}

var (
	_ adapter.Bus     = (*sharded)(nil)
	_ adapter.Census  = (*sharded)(nil)
	_ adapter.RoomBus = (*sharded)(nil)
	_ shardTaker      = (*sharded)(nil)
)

func openSharded(ctx context.Context, l *shardLink, mode Mode, local *sio.Local, self adapter.NodeID) (*sharded, error) {
	s, err := l.acquire(ctx)
	if err != nil {
		return nil, err
	}
	main := l.opts.Key + "#" + local.Namespace() + "#"
	b := &sharded{
		link: l, shards: s, mode: mode, inbox: newInbox(s.budget), local: local, ns: local.Namespace(), self: self,
		main: main, own: main + string(self) + "#", failed: make(chan struct{}),
		rooms: map[string]struct{}{}, waits: map[*shardChannel]struct{}{}, up: map[string]struct{}{},
	}
	rooms := b.allRooms()
	s.mu.Lock()
	for _, channel := range []string{b.main, b.own} {
		s.enterLocked(b, channel)
	}
	for _, room := range rooms {
		if b.hasChannel(room) {
			b.enterLocked(room)
		}
	}
	s.mu.Unlock()
	if err := b.await(ctx); err != nil {
		b.close()
		return nil, err
	}
	return b, nil
}

func (b *sharded) allRooms() []string {
	switch b.mode {
	case Dynamic:
		return b.local.Rooms()
	case DynamicPrivate:
		return append(b.local.Rooms(), b.local.IDs(sio.Target{})...)
	default:
		return nil
	}
}

// await returns when the node gets what others send: all channels are subscribed, but for those of rooms whose server does
// not let it.
func (b *sharded) await(ctx context.Context) error {
	s := b.shards
	timeout := time.NewTimer(s.opts.Timeout)
	defer timeout.Stop()
	for {
		s.mu.Lock()
		up, heard, rest, moved, refusal := len(b.up) == 2, s.canary.heard, len(b.waits), s.movedLocked(), b.refusal
		s.mu.Unlock()
		if up && heard && rest == 0 {
			return nil
		}
		var err error
		select {
		case <-moved:
			continue
		case <-b.failed:
			return b.err
		case <-ctx.Done():
			err = context.Cause(ctx)
		case <-timeout.C:
			err = context.DeadlineExceeded
		}
		switch {
		case refusal != nil && !up:
			return refusal
		case !up:
			return fmt.Errorf("redis: %w: %w", errUnsure, err)
		case !heard:
			return fmt.Errorf("redis: %w: %w", errNotHeard, err)
		case ctx.Err() != nil:
			return fmt.Errorf("redis: %w", err)
		}
		return nil
	}
}

// close gives back what openSharded took.
func (b *sharded) close() {
	b.inbox.Close()
	s := b.shards
	s.mu.Lock()
	b.left = true
	if b.overdue != nil {
		b.overdue.Stop()
	}
	s.leaveLocked(b, b.main) // first: nobody should count on this node any more
	s.leaveLocked(b, b.own)
	for room := range b.rooms {
		s.leaveLocked(b, b.channel(room))
	}
	b.rooms = nil
	s.settledLocked()
	s.mu.Unlock()
	b.link.release()
}

func (b *sharded) channel(room string) string { return b.main + room + "#" }

func (b *sharded) hasChannel(room string) bool { return b.mode.hasChannel(room) }

// hasChannel tells whether there is a channel for the room.
func (m Mode) hasChannel(room string) bool {
	return m == DynamicPrivate || m == Dynamic && utf16Len(room) != 20
}

// utf16Len returns what JavaScript takes for the length of s.
func utf16Len(s string) int {
	n := 0
	for _, r := range s {
		n++
		if r >= 1<<16 {
			n++
		}
	}
	return n
}

// RoomChanged implements adapter.RoomBus.
func (b *sharded) RoomChanged(room string) {
	if b.hasChannel(room) {
		b.change(shardRoom{bus: b, room: room})
	}
}

// AwaitRooms implements adapter.RoomBus.
func (b *sharded) AwaitRooms(ctx context.Context, rooms []string) error {
	for _, room := range rooms {
		if !b.hasChannel(room) {
			continue
		}
		if err := b.awaitRoom(ctx, room); err != nil {
			return err
		}
	}
	return nil
}

func (b *sharded) awaitRoom(ctx context.Context, room string) error {
	s := b.shards
	for {
		s.mu.Lock()
		if b.left {
			s.mu.Unlock()
			return adapter.ErrDown
		}
		if _, known := b.rooms[room]; known && s.channels[b.channel(room)].upLocked() {
			s.mu.Unlock()
			return nil
		}
		moved := s.movedLocked()
		s.mu.Unlock()
		if !b.local.HasRoom(room) { // if it is left after this, compare tells
			return nil
		}
		select {
		case <-moved:
		case <-b.failed:
			return fmt.Errorf("%w: %w", adapter.ErrDown, b.err)
		case <-ctx.Done():
			return fmt.Errorf("redis: channel of room %.100q: %w: %w", room, errUnsure, context.Cause(ctx))
		}
	}
}

func (b *sharded) change(r shardRoom) {
	s := b.shards
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.changed[r]; ok || b.left {
		return
	}
	if b.changed++; b.changed > maxChangedRooms {
		r = shardRoom{bus: b, all: true}
	}
	s.changed[r] = struct{}{}
	s.awake()
}

// compare makes what is wanted agree with what holds for a room, or for all.
func (b *sharded) compare(r shardRoom) {
	s := b.shards
	rooms := []string{r.room}
	if r.all {
		rooms = b.allRooms()
		s.mu.Lock()
		rooms = slices.AppendSeq(rooms, maps.Keys(b.rooms))
		s.mu.Unlock()
	}
	for _, room := range rooms {
		if !b.hasChannel(room) {
			continue
		}
		has := b.local.HasRoom(room)
		s.mu.Lock()
		_, had := b.rooms[room]
		switch {
		case b.left || has == had:
		case has:
			b.enterLocked(room)
		default:
			delete(b.rooms, room)
			if channel := b.channel(room); channel != b.own { // a room may have the name of a node
				delete(b.waits, s.channels[channel])
				s.leaveLocked(b, channel)
			}
		}
		if !has {
			s.settledLocked() // who waits for it need not
		}
		s.mu.Unlock()
	}
}

func (b *sharded) enterLocked(room string) {
	b.rooms[room] = struct{}{}
	if ch := b.shards.enterLocked(b, b.channel(room)); !ch.subscribed {
		b.waits[ch] = struct{}{}
	}
}

// Take implements sink.
func (b *sharded) Take(m *goredis.Message, done <-chan struct{}) { b.inbox.Take(m, done) }

func (b *sharded) subscribed(ch *shardChannel) {
	delete(b.waits, ch)
	if ch.name == b.main || ch.name == b.own {
		b.up[ch.name] = struct{}{}
	}
}

func (b *sharded) refused(ch *shardChannel, err error) {
	delete(b.waits, ch)
	if ch.name == b.main || ch.name == b.own {
		b.refusal = err
	}
}

// lost ends the bus if it is deaf now: at once, or if a channel takes too long to move.
func (b *sharded) lost(ch *shardChannel, err error, moves bool) {
	if ch.name != b.main && ch.name != b.own {
		return
	}
	delete(b.up, ch.name)
	err = fmt.Errorf("redis: channel %.100q: %w", ch.name, err)
	if !moves {
		b.fail(err)
		return
	}
	if b.overdue != nil {
		b.overdue.Stop()
	}
	b.overdue = time.AfterFunc(b.link.opts.Timeout, func() {
		b.shards.mu.Lock()
		up := len(b.up) == 2
		b.shards.mu.Unlock()
		if !up {
			b.fail(err)
		}
	})
}

func (b *sharded) fail(err error) {
	b.end.Do(func() {
		b.err = err
		close(b.failed)
	})
}

// Publish implements adapter.Bus.
func (b *sharded) Publish(ctx context.Context, m *adapter.Message) error {
	select {
	case <-b.failed:
		return fmt.Errorf("%w: %w", adapter.ErrDown, b.err)
	default:
	}
	if m.Type == adapter.InitialHeartbeat || m.Type == adapter.Heartbeat || m.Type == adapter.Close {
		return nil // Redis knows who is there
	}
	channel, payload, err := b.encode(m)
	if err != nil {
		return fmt.Errorf("redis: encode %s: %w", m.Type, err)
	}
	return b.shards.publish(ctx, &parcel{namespace: b.ns, kind: m.Type, channel: channel, payload: payload})
}

func (b *sharded) encode(m *adapter.Message) (channel string, payload []byte, err error) {
	if envelope.HasBinary(m) {
		payload, err = envelope.AppendMsgpack(nil, m, b.ns)
	} else {
		payload, err = envelope.AppendJSON(nil, m, b.ns)
	}
	return b.channelOf(m), payload, err
}

func (b *sharded) channelOf(m *adapter.Message) string {
	switch {
	case m.Type.Response():
		return b.channel(string(m.To))
	case m.Type == adapter.Broadcast && m.RequestID == "" && len(m.Target.Rooms) == 1 && b.hasChannel(m.Target.Rooms[0]):
		return b.channel(m.Target.Rooms[0])
	default:
		return b.main
	}
}

// Count implements adapter.Census.
func (b *sharded) Count(ctx context.Context, known []adapter.NodeID) (nodes int, alive []adapter.NodeID, err error) {
	return count(ctx, b.shards.numSub, b.main, b.main, b.self, known)
}

// Run implements adapter.Bus.
func (b *sharded) Run(ctx context.Context, recv func(*adapter.Message)) error {
	defer b.close()
	b.change(shardRoom{bus: b, all: true}) // what has changed while it was opened
	return b.inbox.Receive(ctx, b.failed, func() error { return b.err },
		each(func(m *goredis.Message) { b.receive(m, recv) }))
}

func (b *sharded) receive(got *goredis.Message, recv func(*adapter.Message)) {
	hooks := &b.link.opts.Cluster.Hooks
	m, err := b.parse(got)
	switch {
	case errors.Is(err, errNotUs):
		return
	case err != nil:
		if hooks.Dropped != nil {
			hooks.Dropped(b.ns, fmt.Errorf("redis: message on %.100q: %w", got.Channel, err))
		}
		return
	}
	if hooks.Received != nil {
		hooks.Received(b.ns, m.Type, len(got.Payload))
	}
	recv(m)
}

func (b *sharded) parse(got *goredis.Message) (*adapter.Message, error) {
	if len(got.Payload) > b.link.opts.MaxMessageBytes {
		return nil, fmt.Errorf("%w to be read: %d bytes", errTooLong, len(got.Payload))
	}
	m, ns, _, err := envelope.Parse([]byte(got.Payload))
	if err != nil {
		return nil, err
	}
	if m.From == b.self || ns != b.ns {
		return nil, errNotUs
	}
	if got.Channel == b.own && m.Type.Response() {
		m.To = b.self
	}
	return m, nil
}
