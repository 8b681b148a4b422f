package redis

import (
	"context"
	"runtime"
	"sync"

	goredis "github.com/redis/go-redis/v9"

	"github.com/seed-0b620db0/patchbay/pkg/adapter"
	"github.com/seed-0b620db0/patchbay/pkg/sio"
)

// ErrOldRedis and others that tests look for.
var (
	ErrOldRedis = errOldRedis
	ErrTrimmed  = errTrimmed
	ErrGoneBack = errGoneBack
)

// EncodeSharded encodes m as a node in a mode does.
func EncodeSharded(mode Mode, m *adapter.Message, ns string) (channel string, payload []byte, err error) {
	b := &sharded{mode: mode, ns: ns, main: "socket.io#" + ns + "#"}
	return b.encode(m)
}

// ParseSharded parses what comes to node self.
func ParseSharded(channel, payload, ns string, self adapter.NodeID) (*adapter.Message, error) {
	main := "socket.io#" + ns + "#"
	o, _ := (*ShardedOptions)(nil).withDefaults()
	b := &sharded{link: newShardLink(nil, o), ns: ns, self: self, main: main, own: main + string(self) + "#"}
	return b.parse(&goredis.Message{Channel: channel, Payload: payload})
}

// StreamNames returns which stream of a number a namespace writes to, and which it reads.
func StreamNames(count int, ns string) (write string, read []string) {
	return streamNames("socket.io", count, ns)
}

// EncodeStreams encodes m: as an entry's fields, or for a channel.
func EncodeStreams(m *adapter.Message, ns string, plaintext bool) (fields []any, channel string, payload []byte, err error) {
	if !ephemeral(m) {
		fields, err = streamFields(m, ns, plaintext)
		return fields, "", nil, err
	}
	b := &streams{ns: ns, main: "socket.io#" + ns + "#"}
	channel, payload, err = b.encode(m)
	return nil, channel, payload, err
}

// ParseStreams parses what comes to node self: an entry if there are fields.
func ParseStreams(channel, payload string, fields map[string]any, ns string, self adapter.NodeID) (*adapter.Message, error) {
	b := &streams{
		link: newStreamsLink(nil, (*StreamsOptions)(nil).withDefaults()), ns: ns, self: self, main: "socket.io#" + ns + "#",
		old: map[adapter.NodeID]struct{}{},
	}
	if fields == nil {
		return b.parse(&goredis.Message{Channel: channel, Payload: payload})
	}
	m, got, _ := entryMessage("socket.io", goredis.XMessage{ID: "1-1", Values: fields})
	if got != ns {
		return nil, errNotUs
	}
	return b.parse(m)
}

// Appender is a bus that returns where in its log a broadcast is.
type Appender interface {
	Append(ctx context.Context, m *adapter.Message) (offset string, err error)
}

// OpenStreams opens a bus of streams.
func OpenStreams(ctx context.Context, rdb goredis.UniversalClient, opts *StreamsOptions, local *sio.Local, self adapter.NodeID) (adapter.Bus, error) {
	return openStreams(ctx, newStreamsLink(rdb, opts.withDefaults()), local, self)
}

// HandOver has a reader hand an entry to a bus that fails meanwhile. It tells whether the entry is noted as taken, so that it
// will not be read again, and whether the bus has it.
func HandOver() (noted, taken bool) {
	r := &streamReader{takers: map[string][]*streams{}}
	b := &streams{ns: "/", inbox: newInbox(adapter.NewBudget(1)), failed: make(chan struct{})}
	b.inbox.Take(&goredis.Message{}, nil) // so that the reader has to wait
	r.enter(b)
	var reading sync.WaitGroup
	reading.Go(func() { r.deliver(goredis.XMessage{ID: "1-1", Values: map[string]any{"nsp": "/"}}) })
	runtime.Gosched()
	b.fail(errUnused)
	noted = r.leave(b) == streamID{1, 1}
	b.taking.Wait()
	_ = b.inbox.Receive(context.Background(), b.failed, func() error { return b.err }, each(func(m *goredis.Message) {
		taken = taken || m.Pattern == "1-1"
	}))
	reading.Wait()
	return noted, taken
}
