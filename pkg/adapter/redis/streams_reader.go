package redis

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

const (
	minReread = 50 * time.Millisecond // pause after reading has failed; it doubles
	maxReread = time.Second
)

var (
	errTrimmed  = errors.New("redis: entries may have been trimmed before they were read")
	errGoneBack = errors.New("redis: the stream has lost entries")
	errNoReader = errors.New("redis: the stream is not read yet")
)

// streamReader reads a stream for all namespaces.
type streamReader struct {
	// set at construction
	link   *streamsLink
	stream string
	stop   context.CancelFunc
	ended  chan struct{}

	users int // guarded by link.mu

	mu sync.Mutex
	// guarded by mu
	takers  map[string][]*streams // by namespace; slices are replaced, not changed
	started bool                  // last is set
	last    streamID              // the entry that was read last, or the end of the stream at the start
	err     error                 // why it is not read now
	changed chan struct{}         // closed, and replaced, when started or err has changed
}

func newStreamReader(ctx context.Context, l *streamsLink, stream string) *streamReader {
	r := &streamReader{
		link: l, stream: stream, ended: make(chan struct{}), takers: map[string][]*streams{}, changed: make(chan struct{}),
		err: errNoReader,
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(ctx)) // others use it too
	r.stop = stop
	go r.run(ctx) // ends with stop; who does that waits for it
	return r
}

// enter has b take the entries of its namespace. They are those after the one returned.
func (r *streamReader) enter(b *streams) streamID {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.takers[b.ns] = append(slices.Clip(r.takers[b.ns]), b)
	return r.last
}

// leave takes back enter. It returns the last entry that b has taken, or takes: b.taking tells.
func (r *streamReader) leave(b *streams) streamID {
	r.mu.Lock()
	defer r.mu.Unlock()
	left := slices.DeleteFunc(slices.Clone(r.takers[b.ns]), func(o *streams) bool { return o == b })
	if len(left) == 0 {
		delete(r.takers, b.ns)
	} else {
		r.takers[b.ns] = left
	}
	return r.last
}

// await returns when the stream is read.
func (r *streamReader) await(ctx context.Context) error {
	for {
		r.mu.Lock()
		err, changed := r.err, r.changed
		r.mu.Unlock()
		if err == nil {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("redis: read %q: %w: %w", r.stream, err, context.Cause(ctx))
		}
	}
}

func (r *streamReader) set(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err == nil && err == nil {
		return
	}
	r.err = err
	close(r.changed)
	r.changed = make(chan struct{})
}

// run reads until ctx is done. If it cannot for longer than Timeout, the node is deaf.
func (r *streamReader) run(ctx context.Context) {
	defer close(r.ended)
	var since time.Time
	pause := minReread
	for {
		err := r.read(ctx)
		if ctx.Err() != nil {
			return
		}
		r.mu.Lock()
		was := r.err
		r.mu.Unlock()
		r.set(err)
		if was == nil {
			since, pause = time.Now(), minReread
		}
		if time.Since(since) > r.link.opts.Timeout {
			r.fail(err)
		}
		timer := time.NewTimer(pause)
		pause = min(2*pause, maxReread)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
		refresh(ctx, r.link.rdb, r.link.opts.Timeout)
	}
}

func (r *streamReader) fail(err error) {
	for _, b := range r.all() {
		b.fail(fmt.Errorf("redis: read %q: %w", r.stream, err))
	}
}

// read reads over one connection, until it fails.
func (r *streamReader) read(ctx context.Context) error {
	o := &r.link.opts
	dialing, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()
	node, _, err := locate(dialing, r.link.rdb, r.stream)
	if err != nil {
		return err
	}
	c, interrupt := dedicate(ctx, node, o.Timeout)
	defer interrupt()
	defer context.AfterFunc(ctx, interrupt)()
	if err := r.position(dialing, c); err != nil {
		return err
	}
	cancel()
	block := time.Duration(-1) // the first time it does not wait: it is to find out whether reading works
	for count := o.readCount; ctx.Err() == nil; {
		got, err := c.XRead(ctx, &goredis.XReadArgs{
			Streams: []string{r.stream, r.last.String()}, // nobody else writes last
			Count:   count, Block: block,
		}).Result()
		if err != nil && !errors.Is(err, goredis.Nil) { // which says that nothing came
			return err
		}
		block = o.blockTime
		r.set(nil)
		bytes, n := 0, int64(0)
		for _, stream := range got {
			n += int64(len(stream.Messages))
		}
		if n >= min(count, o.maxLen) { // so many may be waiting that some were trimmed
			if _, lost, err := resume(ctx, c, r.stream, r.last); err == nil && lost != nil {
				r.dropped(lost)
			}
		}
		for _, stream := range got {
			for _, e := range stream.Messages {
				bytes += r.deliver(e)
			}
		}
		if bytes > o.MaxInboxBytes { // an answer is in memory as a whole
			count = max(1, count/2)
		} else if count < o.readCount {
			count++
		}
	}
	return context.Cause(ctx)
}

// position finds out from where to read on: at first, the end. Later it tells whether something is missing.
func (r *streamReader) position(ctx context.Context, c goredis.UniversalClient) error {
	r.mu.Lock()
	started, last := r.started, r.last
	r.mu.Unlock()
	if !started {
		last, err := lastEntry(ctx, c, r.stream)
		if err != nil {
			return err
		}
		r.mu.Lock()
		r.last, r.started = last, true
		r.mu.Unlock()
		return nil
	}
	from, lost, err := resume(ctx, c, r.stream, last)
	if err != nil {
		return err
	}
	r.mu.Lock()
	r.last = from
	r.mu.Unlock()
	if lost != nil {
		r.dropped(lost)
	}
	return nil
}

// dropped tells of entries that nobody will see.
func (r *streamReader) dropped(err error) {
	for _, b := range r.all() {
		b.dropped(err)
	}
}

func (r *streamReader) all() []*streams {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Concat(slices.Collect(maps.Values(r.takers))...)
}

// lastEntry returns the id of the last entry, or 0-0.
func lastEntry(ctx context.Context, c goredis.UniversalClient, stream string) (streamID, error) {
	got, err := c.XRevRangeN(ctx, stream, "+", "-", 1).Result()
	if err != nil || len(got) == 0 {
		return streamID{}, err
	}
	return parseStreamID(got[0].ID)
}

// resume tells where to read on after last, and what may have been missed.
func resume(ctx context.Context, c goredis.UniversalClient, stream string, last streamID) (from streamID, lost, err error) {
	if last == (streamID{}) { // it was empty
		return last, nil, nil
	}
	got, err := c.XRangeN(ctx, stream, last.String(), last.String(), 1).Result()
	if err != nil || len(got) > 0 {
		return last, nil, err
	}
	newest, err := lastEntry(ctx, c, stream)
	if err != nil {
		return last, nil, err
	}
	if newest.less(last) { // it was deleted, or the server that took over did not have all
		return newest, fmt.Errorf("%w: %q was read up to %v, and ends with %v", errGoneBack, stream, last, newest), nil
	}
	oldest, err := c.XRangeN(ctx, stream, "-", "+", 1).Result()
	if err != nil || len(oldest) == 0 {
		return last, nil, err
	}
	first, err := parseStreamID(oldest[0].ID)
	if err == nil && last.less(first) {
		lost = fmt.Errorf("%w: %q was read up to %v, and begins with %v", errTrimmed, stream, last, first)
	}
	return last, lost, err
}

// deliver hands an entry to those it is for. It returns its size.
func (r *streamReader) deliver(e goredis.XMessage) int {
	m, ns, size := entryMessage(r.stream, e)
	id, err := parseStreamID(e.ID)
	if err != nil {
		return size // Redis has no others
	}
	r.mu.Lock()
	r.last = id
	takers := r.takers[ns]
	for _, b := range takers {
		b.taking.Add(1)
	}
	r.mu.Unlock()
	for _, b := range takers {
		b.inbox.Take(m, b.failed)
		b.taking.Done()
	}
	return size
}

// maxEntryHead bounds the sender's name and the type of an entry, in bytes: neither belongs to what is counted as the message.
const maxEntryHead = 1 << 10

// entryMessage gives an entry the form of what comes over pub/sub, so that it can wait in the same inbox: the pattern is
// the id. One whose head is too long has none.
func entryMessage(stream string, e goredis.XMessage) (m *goredis.Message, ns string, size int) {
	field := func(name string) string {
		s, _ := e.Values[name].(string) // go-redis has no other values
		return s
	}
	for name, v := range e.Values {
		s, _ := v.(string)
		size += len(name) + len(s)
	}
	head := []string{field("uid"), field("type")}
	if len(head[0])+len(head[1]) > maxEntryHead {
		clear(head)
	}
	return &goredis.Message{Channel: stream, Pattern: e.ID, Payload: field("data"), PayloadSlice: head}, field("nsp"), size
}

// dedicate returns a client with one connection of its own to node, and what closes both, in the middle of a command too.
// ctx bounds dialling.
func dedicate(ctx context.Context, node goredis.UniversalClient, timeout time.Duration) (goredis.UniversalClient, func()) {
	of, ok := node.(*goredis.Client)
	if !ok {
		return node, func() {}
	}
	o := *of.Options()
	o.PoolSize, o.MinIdleConns, o.MaxRetries, o.DialerRetries = 1, 0, -1, 1
	o.ReadTimeout, o.WriteTimeout, o.DialTimeout = timeout, timeout, min(timeout, o.DialTimeout)
	o.Limiter, o.PushNotificationProcessor, o.ClientSideCacheConfig, o.ClientSideCache = nil, nil, nil, nil
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	var (
		mu     sync.Mutex
		conns  []net.Conn
		closed bool
		dial   = o.Dialer
	)
	o.Dialer = func(dialing context.Context, network, addr string) (net.Conn, error) {
		dialing, cancel := context.WithCancel(dialing)
		defer cancel()
		defer context.AfterFunc(ctx, cancel)()
		conn, err := dial(dialing, network, addr)
		if err != nil {
			return nil, err
		}
		mu.Lock()
		defer mu.Unlock()
		if closed {
			return nil, errors.Join(net.ErrClosed, conn.Close())
		}
		conns = append(conns, conn)
		return conn, nil
	}
	c := goredis.NewClient(&o)
	return c, sync.OnceFunc(func() {
		mu.Lock()
		defer mu.Unlock()
		closed = true
		for _, conn := range conns {
			_ = conn.Close() // go-redis may have closed it
		}
		_ = c.Close() // the same
	})
}
