package redis

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/seed-0b620db0/patchbay/pkg/adapter"
	"github.com/seed-0b620db0/patchbay/pkg/sio"
)

// resumeWithin is how long a namespace that has lost Redis may take to come back, once Redis is there, and still be given
// what it has missed. One that comes later is a new one of the same name.
const resumeWithin = 30 * time.Second

// maxLost bounds the namespaces of which that is remembered. With more, all begin anew.
const maxLost = 1 << 14

// streamsLink is what the namespaces of one server share over streams: readers and queues, while there are any.
type streamsLink struct {
	// set at construction
	rdb     goredis.UniversalClient
	opts    streamsConfig
	plain   *link
	sharded *shardLink // instead of plain

	mu sync.Mutex
	// guarded by mu
	users   int
	outlets *outlets
	readers map[string]*streamReader
	lost    map[string]lostAt // by namespace: those that have lost Redis
	upSince time.Time         // when the last bus was opened for the first time after Redis was lost
}

// lostAt says up to where a namespace was read when it lost Redis.
type lostAt struct {
	positions map[string]streamID // by stream
	noted     time.Time
}

func newStreamsLink(rdb goredis.UniversalClient, opts streamsConfig) *streamsLink {
	l := &streamsLink{rdb: rdb, opts: opts, readers: map[string]*streamReader{}, lost: map[string]lostAt{}}
	if opts.sharded {
		l.sharded = newShardLink(rdb, opts.Options)
	} else {
		l.plain = newLink(rdb, opts.Options)
	}
	return l
}

// acquire returns readers of streams.
func (l *streamsLink) acquire(ctx context.Context, names []string) []*streamReader {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.users++
	if l.outlets == nil {
		l.outlets = newOutlets(l.rdb, &l.opts.Options)
	}
	readers := make([]*streamReader, len(names))
	for i, name := range names {
		r := l.readers[name]
		if r == nil {
			r = newStreamReader(ctx, l, name)
			l.readers[name] = r
		}
		r.users++
		readers[i] = r
	}
	return readers
}

// release gives back what acquire returned. The last one waits until everything was sent and nothing runs.
func (l *streamsLink) release(readers []*streamReader) {
	l.mu.Lock()
	var idle []*streamReader
	for _, r := range readers {
		if r.users--; r.users == 0 {
			delete(l.readers, r.stream)
			idle = append(idle, r)
		}
	}
	var out *outlets
	if l.users--; l.users == 0 {
		out, l.outlets = l.outlets, nil
	}
	l.mu.Unlock()
	if out != nil {
		out.close()
	}
	for _, r := range idle {
		r.stop()
		<-r.ended
	}
}

// note keeps where a namespace was that has lost Redis.
func (l *streamsLink) note(ns string, positions map[string]streamID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.lost) >= maxLost {
		clear(l.lost)
	}
	l.lost[ns] = lostAt{positions, time.Now()}
	l.upSince = time.Time{}
}

// recall returns what note was told, to one that has come back.
func (l *streamsLink) recall(ns string) map[string]streamID {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.upSince.IsZero() {
		l.upSince = time.Now()
	}
	for name, at := range l.lost {
		if time.Since(l.upSince) > resumeWithin && time.Since(at.noted) > resumeWithin {
			delete(l.lost, name)
		}
	}
	positions := l.lost[ns].positions
	delete(l.lost, ns)
	return positions
}

// lines is how what is ephemeral goes: plain or sharded pub/sub.
type lines interface {
	publish(ctx context.Context, p *parcel) error
	numSub(ctx context.Context, channels []string) (map[string]int64, error)
	failed() (over <-chan struct{}, reason func() error)
	close()
}

// open subscribes to a namespace's channels.
func (l *streamsLink) open(ctx context.Context, local *sio.Local, self adapter.NodeID) (lines, *inbox, error) {
	if l.sharded != nil {
		b, err := openSharded(ctx, l.sharded, Static, local, self)
		if err != nil {
			return nil, nil, err
		}
		return shardLines{b}, b.inbox, nil
	}
	s, err := l.plain.hub.Acquire(ctx, local.Namespace())
	if err != nil {
		return nil, nil, err
	}
	main := l.opts.Key + "#" + local.Namespace() + "#"
	p := &plainLines{
		link: l.plain, session: s, inbox: newInbox(s.inbox),
		topics: []topic{{name: main + string(self) + "#"}, {name: main}},
	}
	if err := s.add(ctx, p.inbox, p.topics...); err != nil {
		p.inbox.Close()
		l.plain.hub.Release(s)
		return nil, nil, err
	}
	return p, p.inbox, nil
}

type plainLines struct {
	link    *link
	session *session
	inbox   *inbox
	topics  []topic
}

func (p *plainLines) publish(ctx context.Context, m *parcel) error {
	return p.link.publish(ctx, p.session, m)
}

func (p *plainLines) numSub(ctx context.Context, channels []string) (map[string]int64, error) {
	return p.link.numSub(ctx, channels)
}

func (p *plainLines) failed() (over <-chan struct{}, reason func() error) {
	return p.session.Done(), p.session.Err
}

func (p *plainLines) close() {
	p.inbox.Close()
	p.session.remove(p.inbox, p.topics...)
	p.link.hub.Release(p.session)
}

// shardLines are those of a bus of sharded pub/sub, which is not run.
type shardLines struct{ *sharded }

func (s shardLines) publish(ctx context.Context, p *parcel) error { return s.shards.publish(ctx, p) }

func (s shardLines) numSub(ctx context.Context, channels []string) (map[string]int64, error) {
	return s.shards.numSub(ctx, channels)
}

func (s shardLines) failed() (over <-chan struct{}, reason func() error) {
	return s.sharded.failed, func() error { return s.err }
}

func (s shardLines) close() { s.sharded.close() }

// streamParcel is a message on its way to a stream.
type streamParcel struct {
	parcel
	link   *streamsLink
	fields []any
	done   func(offset string, err error) // may be nil
}

// addOnce is a command that is not tried again when its connection fails: see publishOnce.
type addOnce struct{ *goredis.StringCmd }

// NoRetry implements [goredis.Cmder].
func (addOnce) NoRetry() bool { return true }

// add queues p for its stream. It waits only while the queue is full.
func (l *streamsLink) add(ctx context.Context, p *streamParcel) error {
	if p.size() > l.opts.MaxMessageBytes {
		return fmt.Errorf("%w to be published: %d bytes", errTooLong, p.size())
	}
	l.mu.Lock()
	out := l.outlets
	l.mu.Unlock()
	if out == nil {
		return adapter.ErrClosed
	}
	p.since = time.Now()
	return out.put(ctx, p.channel, p, p.size())
}

func (p *streamParcel) server(ctx context.Context) (goredis.UniversalClient, error) {
	node, _, err := locate(ctx, p.link.rdb, p.channel)
	return node, err
}

func (p *streamParcel) size() int {
	n := len(p.channel)
	for _, f := range p.fields {
		switch f := f.(type) {
		case string:
			n += len(f)
		case []byte:
			n += len(f)
		}
	}
	return n
}

func (p *streamParcel) command(ctx context.Context) goredis.Cmder {
	args := make([]any, 0, 6+len(p.fields))
	args = append(args, "xadd", p.channel, "maxlen", "~", strconv.FormatInt(p.link.opts.maxLen, 10), "*")
	return addOnce{goredis.NewStringCmd(ctx, append(args, p.fields...)...)}
}

func (p *streamParcel) sent(cmd goredis.Cmder, err error) {
	offset := ""
	if add, ok := cmd.(addOnce); ok && err == nil {
		offset = add.Val()
	}
	if p.done != nil {
		p.done(offset, err)
	}
	h := &p.link.opts.Cluster.Hooks
	switch {
	case err != nil:
		if h.PublishFailed != nil {
			h.PublishFailed(p.namespace, p.kind, err)
		}
	case h.Published != nil:
		h.Published(p.namespace, p.kind, p.size(), time.Since(p.since))
	}
}
