package redis

import (
	"context"
	"fmt"
	"strconv"
	"sync/atomic"

	goredis "github.com/redis/go-redis/v9"

	"github.com/seed-0b620db0/patchbay/pkg/adapter"
	"github.com/seed-0b620db0/patchbay/pkg/adapter/internal/envelope"
)

// EmitterOptions configure [NewEmitter]. The zero value of each field stands for its default.
type EmitterOptions struct {
	// Key begins the names of all channels, as the servers have it. Default "socket.io".
	Key string
	// MaxMessageBytes bounds a message. Larger ones are refused. Default 32 MiB, as servers do not read more.
	MaxMessageBytes int
}

// NewEmitter returns an emitter to servers with the adapter of [New], or the official one. Each message is byte for byte what
// @socket.io/redis-emitter 5 publishes. How long Redis may take is set, here and with the others, by the time-outs of the
// client and the deadline of the context.
func NewEmitter(rdb goredis.UniversalClient, opts *EmitterOptions) adapter.Emitter {
	if opts == nil {
		opts = &EmitterOptions{}
	}
	o := (&Options{Key: opts.Key, MaxMessageBytes: opts.MaxMessageBytes}).withDefaults()
	return adapter.NewEmitter((&classicEmitter{emitterClient: emitterClient{rdb, o.MaxMessageBytes}, key: o.Key}).send)
}

type classicEmitter struct {
	emitterClient
	key  string
	turn atomic.Int64 // picks the master of a Redis Cluster: one and the same keeps the order, and any will do
}

func (e *classicEmitter) send(ctx context.Context, m *adapter.Message, ns string) error {
	channels := newClassicChannels(e.key, ns, adapter.EmitterID)
	channel, payload, err := channels.encode(m, ns, false)
	if err != nil {
		return err
	}
	turn := e.turn.Load()
	cmd := publishOnce{goredis.NewIntCmd(ctx, "publish", channel, payload)}
	err = e.do(ctx, strconv.FormatInt(turn, 10), cmd, len(channel)+len(payload))
	if !answered(err) {
		e.turn.CompareAndSwap(turn, turn+1) // that master may be dead
	}
	return err
}

// ShardedEmitterOptions configure [NewShardedEmitter]. The zero value of each field stands for its default.
type ShardedEmitterOptions struct {
	// ChannelPrefix begins the names of all channels, as the servers have it. Default "socket.io".
	ChannelPrefix string
	// Mode is that of the servers, or emissions to one room are lost.
	Mode Mode
	// MaxMessageBytes is as in [EmitterOptions].
	MaxMessageBytes int
}

// NewShardedEmitter returns an emitter to servers with the adapter of [NewSharded], or the official one, whose channel prefix
// and mode it must be given: in another mode it publishes on channels that nobody listens to, and nobody says so. In a Redis
// Cluster rdb must be a [goredis.ClusterClient], and channels may overtake each other. There is no official emitter of this
// kind.
func NewShardedEmitter(rdb goredis.UniversalClient, opts *ShardedEmitterOptions) adapter.Emitter {
	if opts == nil {
		opts = &ShardedEmitterOptions{}
	}
	o, mode := (&ShardedOptions{
		ChannelPrefix: opts.ChannelPrefix, Mode: opts.Mode, MaxMessageBytes: opts.MaxMessageBytes,
	}).withDefaults()
	return adapter.NewEmitter((&shardedEmitter{
		emitterClient: emitterClient{rdb, o.MaxMessageBytes}, prefix: o.Key, mode: mode,
	}).send)
}

type shardedEmitter struct {
	emitterClient
	prefix string
	mode   Mode
}

func (e *shardedEmitter) send(ctx context.Context, m *adapter.Message, ns string) error {
	encode := envelope.AppendJSON
	if envelope.HasBinary(m) {
		encode = envelope.AppendMsgpack
	}
	payload, err := encode(nil, m, ns)
	if err != nil {
		return fmt.Errorf("redis: encode %s: %w", m.Type, err)
	}
	channel := e.prefix + "#" + ns + "#"
	if m.Type == adapter.Broadcast && len(m.Target.Rooms) == 1 && e.mode.hasChannel(m.Target.Rooms[0]) {
		channel += m.Target.Rooms[0] + "#"
	}
	return e.do(ctx, channel, publishOnce{goredis.NewIntCmd(ctx, "spublish", channel, payload)}, len(channel)+len(payload))
}

// StreamsEmitterOptions configure [NewStreamsEmitter]. The zero value of each field stands for its default, which is that of
// the servers' [StreamsOptions]; all are as the servers have them.
type StreamsEmitterOptions struct {
	StreamName    string
	StreamCount   int
	MaxLen        int64
	OnlyPlaintext bool
	// MaxMessageBytes is as in [EmitterOptions].
	MaxMessageBytes int
}

// NewStreamsEmitter returns an emitter to servers with the adapter of [NewStreams], or the official one. Everything goes into
// the stream, as with @socket.io/redis-streams-emitter: clients that come back within its reach get what was emitted
// meanwhile, and servers that were cut off do too.
func NewStreamsEmitter(rdb goredis.UniversalClient, opts *StreamsEmitterOptions) adapter.Emitter {
	if opts == nil {
		opts = &StreamsEmitterOptions{}
	}
	o := (&StreamsOptions{
		StreamName: opts.StreamName, StreamCount: opts.StreamCount, MaxLen: opts.MaxLen, OnlyPlaintext: opts.OnlyPlaintext,
		MaxMessageBytes: opts.MaxMessageBytes,
	}).withDefaults()
	return adapter.NewEmitter((&streamsEmitter{
		emitterClient: emitterClient{rdb, o.MaxMessageBytes}, name: o.name, count: o.count,
		maxLen: strconv.FormatInt(o.maxLen, 10), plaintext: o.plaintext,
	}).send)
}

type streamsEmitter struct {
	emitterClient
	name      string
	count     int
	maxLen    string
	plaintext bool
}

func (e *streamsEmitter) send(ctx context.Context, m *adapter.Message, ns string) error {
	fields, err := streamFields(m, ns, e.plaintext)
	if err != nil {
		return fmt.Errorf("redis: encode %s: %w", m.Type, err)
	}
	stream, _ := streamNames(e.name, e.count, ns)
	p := streamParcel{parcel: parcel{channel: stream}, fields: fields}
	args := append([]any{"xadd", stream, "maxlen", "~", e.maxLen, "*"}, fields...)
	return e.do(ctx, stream, addOnce{goredis.NewStringCmd(ctx, args...)}, p.size())
}
