package redis

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/seed-0b620db0/patchbay/pkg/adapter"
	"github.com/seed-0b620db0/patchbay/pkg/adapter/internal/envelope"
	"github.com/seed-0b620db0/patchbay/pkg/sio"
)

// StreamsOptions configure [NewStreams]. The zero value of each field stands for its default. Those without a remark are as
// in [Options].
type StreamsOptions struct {
	Cluster adapter.Options
	// StreamName is the key of the stream, or begins the keys of all: "-0", "-1" and so on are added. Default "socket.io".
	StreamName string
	// StreamCount is the number of streams over which the namespaces are spread, to use more masters of a Redis Cluster. A
	// node reads each over a connection of its own. It is the same for all nodes. Default 1.
	StreamCount int
	// ChannelPrefix begins the names of the channels for what is not kept: requests and responses. Default "socket.io"; the
	// adapter of [New] must have another Key if both are used with one Redis.
	ChannelPrefix string
	// UseShardedPubSub takes sharded pub/sub for them, as [NewSharded] does. It is the same for all nodes.
	UseShardedPubSub bool
	// MaxLen is about how many entries a stream keeps. Default 10000.
	MaxLen int64
	// ReadCount bounds the entries that are read at a time, and BlockTime the wait for one. Defaults 100 and 5 s.
	ReadCount int64
	BlockTime time.Duration
	// OnlyPlaintext writes binary into streams as JSON.stringify does, for others to read. Receivers do not make binary of it
	// again.
	OnlyPlaintext bool

	Timeout time.Duration
	// MaxQueueBytes is for each server and way.
	MaxQueueBytes                  int
	MaxInboxBytes, MaxMessageBytes int
	CanaryInterval, CanaryTimeout  time.Duration
}

// streamsConfig are StreamsOptions with their defaults.
type streamsConfig struct {
	Options

	name               string
	count              int
	sharded, plaintext bool
	maxLen, readCount  int64
	blockTime          time.Duration
}

func (o *StreamsOptions) withDefaults() streamsConfig {
	if o == nil {
		o = &StreamsOptions{}
	}
	all := Options{
		Cluster: o.Cluster, Key: o.ChannelPrefix, Timeout: o.Timeout, MaxQueueBytes: o.MaxQueueBytes,
		MaxInboxBytes: o.MaxInboxBytes, MaxMessageBytes: o.MaxMessageBytes,
		CanaryInterval: o.CanaryInterval, CanaryTimeout: o.CanaryTimeout,
	}
	return streamsConfig{
		Options: all.withDefaults(),
		name:    cmp.Or(o.StreamName, "socket.io"), count: cmp.Or(o.StreamCount, 1),
		sharded: o.UseShardedPubSub, plaintext: o.OnlyPlaintext,
		maxLen: cmp.Or(o.MaxLen, 10000), readCount: cmp.Or(o.ReadCount, 100), blockTime: max(cmp.Or(o.BlockTime, 5*time.Second), time.Millisecond),
	}
}

// NewStreams returns the adapter for one [sio.Server] over Redis streams. What clients are to get is kept in a stream for a
// while: a node that was cut off reads on where it was, and gets what it has missed, unless that was trimmed
// ([adapter.Hooks.Dropped] tells). Requests to other nodes and their responses go over pub/sub, and may overtake what is in
// the stream. The caller closes rdb, after the server.
//
// With several streams, official servers write what is for a namespace whose hash is negative to a stream like
// "socket.io--3", which they do not read: such namespaces do not work between them. Nodes of this package write to
// "socket.io-3" instead, which all read, and read both: they reach all nodes, and all reach them. An official emitter knows
// of no streams but the one it is given; any from "socket.io-0" on will do for any namespace.
func NewStreams(rdb goredis.UniversalClient, opts *StreamsOptions) sio.NewAdapter {
	l := newStreamsLink(rdb, opts.withDefaults())
	return adapter.Cluster(func(ctx context.Context, local *sio.Local, self adapter.NodeID) (adapter.Bus, error) {
		b, err := openStreams(ctx, l, local, self)
		if err != nil {
			return nil, err
		}
		return b, nil
	}, &l.opts.Cluster)
}

// maxOldPeers bounds what is known of nodes that answer in the stream.
const maxOldPeers = 1024

// streams is the bus of a namespace over streams.
type streams struct {
	// set at construction
	link    *streamsLink
	lines   lines
	inbox   *inbox
	ns      string
	self    adapter.NodeID
	main    string // the channel that all nodes listen to
	stream  string // that this node writes to
	readers []*streamReader
	missed  map[string]streamID // by stream: what comes after has been missed
	until   map[string]streamID // and up to where

	end    sync.Once
	err    error         // why; readable when failed is closed
	failed chan struct{} // the node is deaf

	taking sync.WaitGroup // readers that hand over an entry

	mu  sync.Mutex
	old map[adapter.NodeID]struct{} // nodes of version 0.2, which know no pub/sub; guarded by mu
}

var (
	_ adapter.Bus    = (*streams)(nil)
	_ adapter.Census = (*streams)(nil)
)

func openStreams(ctx context.Context, l *streamsLink, local *sio.Local, self adapter.NodeID) (*streams, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*l.opts.Timeout) // its parts have their own, save the readers
	defer cancel()
	lines, in, err := l.open(ctx, local, self)
	if err != nil {
		return nil, err
	}
	b := &streams{
		link: l, lines: lines, inbox: in, ns: local.Namespace(), self: self,
		main: l.opts.Key + "#" + local.Namespace() + "#", failed: make(chan struct{}),
		until: map[string]streamID{}, old: map[adapter.NodeID]struct{}{},
	}
	stream, names := streamNames(l.opts.name, l.opts.count, b.ns)
	b.stream = stream
	b.readers = l.acquire(ctx, names)
	for _, r := range b.readers {
		if err := r.await(ctx); err != nil {
			b.close()
			return nil, err
		}
	}
	for _, r := range b.readers {
		b.until[r.stream] = r.enter(b)
	}
	b.missed = l.recall(b.ns)
	return b, nil
}

// close gives back what openStreams took.
func (b *streams) close() {
	b.lines.close()
	b.link.release(b.readers)
}

func (b *streams) fail(err error) {
	b.end.Do(func() {
		b.err = err
		close(b.failed)
	})
}

// Publish implements adapter.Bus.
func (b *streams) Publish(ctx context.Context, m *adapter.Message) error {
	return b.publish(ctx, m, nil)
}

// Append is Publish of a broadcast that returns its entry's id, once that is there: the offset of official servers, from
// which a client that comes back is given what it has missed.
func (b *streams) Append(ctx context.Context, m *adapter.Message) (offset string, err error) {
	type result struct {
		offset string
		err    error
	}
	done := make(chan result, 1)
	if err := b.publish(ctx, m, func(offset string, err error) { done <- result{offset, err} }); err != nil {
		return "", err
	}
	select {
	case r := <-done:
		return r.offset, r.err
	case <-ctx.Done():
		return "", fmt.Errorf("redis: append: %w", context.Cause(ctx))
	}
}

func (b *streams) publish(ctx context.Context, m *adapter.Message, done func(offset string, err error)) error {
	select {
	case <-b.failed:
		return fmt.Errorf("%w: %w", adapter.ErrDown, b.err)
	default:
	}
	switch {
	case m.Type == adapter.InitialHeartbeat || m.Type == adapter.Heartbeat || m.Type == adapter.Close:
		return nil // Redis knows who is there
	case ephemeral(m) && !(m.Type.Response() && b.isOld(m.To)):
		channel, payload, err := b.encode(m)
		if err != nil {
			return fmt.Errorf("redis: encode %s: %w", m.Type, err)
		}
		return b.lines.publish(ctx, &parcel{namespace: b.ns, kind: m.Type, channel: channel, payload: payload})
	}
	fields, err := streamFields(m, b.ns, b.link.opts.plaintext)
	if err != nil {
		return fmt.Errorf("redis: encode %s: %w", m.Type, err)
	}
	return b.link.add(ctx, &streamParcel{
		parcel: parcel{namespace: b.ns, kind: m.Type, channel: b.stream}, link: b.link, fields: fields, done: done,
	})
}

// encode returns what is ephemeral.
func (b *streams) encode(m *adapter.Message) (channel string, payload []byte, err error) {
	channel = b.main
	if m.Type.Response() {
		channel += string(m.To) + "#"
	}
	payload, err = envelope.AppendMsgpack(nil, m, b.ns)
	return channel, payload, err
}

func (b *streams) isOld(id adapter.NodeID) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	_, ok := b.old[id]
	return ok
}

// Count implements adapter.Census. Nodes of version 0.2 are not among them.
func (b *streams) Count(ctx context.Context, known []adapter.NodeID) (nodes int, alive []adapter.NodeID, err error) {
	return count(ctx, b.lines.numSub, b.main, b.main, b.self, known)
}

// Run implements adapter.Bus.
func (b *streams) Run(ctx context.Context, recv func(*adapter.Message)) error {
	defer b.close()
	over := make(chan struct{}) // failed is closed, and nothing comes from the readers any more
	positions := map[string]streamID{}
	stop := make(chan struct{})
	var watch sync.WaitGroup
	watch.Go(func() {
		down, reason := b.lines.failed()
		select {
		case <-down:
			b.fail(reason())
		case <-b.failed:
		case <-stop:
		}
		for _, r := range b.readers {
			positions[r.stream] = r.leave(b)
		}
		b.taking.Wait()
		close(over)
	})
	err := b.catchUp(ctx, recv)
	behind := err != nil
	if !behind {
		err = b.inbox.Receive(ctx, over, func() error { return b.err },
			each(func(m *goredis.Message) { b.receive(m, recv) }))
	}
	b.fail(errUnused) // so that no reader waits for this bus
	close(stop)
	watch.Wait()
	if behind { // what is in the inbox is not used
		maps.Copy(positions, b.until)
		maps.Copy(positions, b.missed)
	}
	if ctx.Err() == nil {
		b.link.note(b.ns, positions)
	}
	return err
}

// catchUp hands over what was missed while the bus was down.
func (b *streams) catchUp(ctx context.Context, recv func(*adapter.Message)) error {
	for stream, last := range b.missed {
		until, ok := b.until[stream]
		if !ok {
			continue
		}
		from, lost, err := resume(ctx, b.link.rdb, stream, last)
		if err != nil {
			return fmt.Errorf("redis: read %q: %w", stream, err)
		}
		if lost != nil {
			b.dropped(lost)
		}
		for from.less(until) {
			if ctx.Err() != nil {
				return fmt.Errorf("redis: %w", context.Cause(ctx))
			}
			got, err := b.link.rdb.XRangeN(ctx, stream, from.next().String(), until.String(), b.link.opts.readCount).Result()
			if err != nil {
				return fmt.Errorf("redis: read %q: %w", stream, err)
			}
			if len(got) == 0 {
				break
			}
			for _, e := range got {
				if m, ns, _ := entryMessage(stream, e); ns == b.ns {
					b.receive(m, recv)
				}
				if from, err = parseStreamID(e.ID); err != nil {
					return err
				}
				b.missed[stream] = from
			}
		}
		delete(b.missed, stream)
	}
	return nil
}

func (b *streams) receive(got *goredis.Message, recv func(*adapter.Message)) {
	m, err := b.parse(got)
	switch {
	case errors.Is(err, errNotUs):
		return
	case err != nil:
		b.dropped(fmt.Errorf("redis: message on %.100q: %w", got.Channel, err))
		return
	}
	if f := b.link.opts.Cluster.Hooks.Received; f != nil {
		f(b.ns, m.Type, len(got.Payload))
	}
	recv(m)
}

func (b *streams) dropped(err error) {
	if f := b.link.opts.Cluster.Hooks.Dropped; f != nil {
		f(b.ns, err)
	}
}

func (b *streams) parse(got *goredis.Message) (*adapter.Message, error) {
	if len(got.Payload) > b.link.opts.MaxMessageBytes {
		return nil, fmt.Errorf("%w to be read: %d bytes", errTooLong, len(got.Payload))
	}
	if got.PayloadSlice != nil {
		return b.parseEntry(got)
	}
	m, ns, _, err := envelope.Parse([]byte(got.Payload))
	if err != nil {
		return nil, err
	}
	if m.From == b.self || ns != b.ns {
		return nil, errNotUs
	}
	if m.Type.Response() && got.Channel != b.main {
		m.To = b.self
	}
	return m, nil
}

// parseEntry parses an entry of the stream. Nodes of version 0.2 have all messages there.
func (b *streams) parseEntry(got *goredis.Message) (*adapter.Message, error) {
	uid, kind := got.PayloadSlice[0], got.PayloadSlice[1]
	if uid == string(b.self) {
		return nil, errNotUs
	}
	m, err := parseEntry(uid, kind, got.Payload)
	if err != nil {
		return nil, err
	}
	m.Offset = got.Pattern
	if m.RequestID != "" && !m.Type.Response() {
		b.mu.Lock()
		if len(b.old) >= maxOldPeers {
			clear(b.old)
		}
		b.old[m.From] = struct{}{}
		b.mu.Unlock()
	}
	return m, nil
}
