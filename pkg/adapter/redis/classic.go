package redis

import (
	"context"
	"errors"
	"fmt"

	goredis "github.com/redis/go-redis/v9"

	"github.com/seed-0b620db0/patchbay/pkg/adapter"
	"github.com/seed-0b620db0/patchbay/pkg/sio"
)

// classic is the bus of a namespace over plain pub/sub.
type classic struct {
	link     *link
	session  *session
	inbox    *inbox
	local    *sio.Local
	ns       string
	self     adapter.NodeID
	channels classicChannels
}

var (
	_ adapter.Bus    = (*classic)(nil)
	_ adapter.Census = (*classic)(nil)
)

func openClassic(ctx context.Context, l *link, local *sio.Local, self adapter.NodeID) (adapter.Bus, error) {
	s, err := l.hub.Acquire(ctx, local.Namespace())
	if err != nil {
		return nil, err
	}
	b := &classic{
		link: l, session: s, inbox: newInbox(s.inbox), local: local, ns: local.Namespace(), self: self,
		channels: newClassicChannels(l.opts.Key, local.Namespace(), self),
	}
	if err := s.add(ctx, b.inbox, b.channels.topics()...); err != nil {
		b.inbox.Close()
		l.hub.Release(s)
		return nil, err
	}
	return b, nil
}

// Publish implements adapter.Bus.
func (b *classic) Publish(ctx context.Context, m *adapter.Message) error {
	channel, payload, err := b.channels.encode(m, b.ns, b.link.opts.SpecificResponseChannel)
	if err != nil || channel == "" {
		return err
	}
	return b.link.publish(ctx, b.session, &parcel{namespace: b.ns, kind: m.Type, channel: channel, payload: payload})
}

// Count implements adapter.Census.
func (b *classic) Count(ctx context.Context, known []adapter.NodeID) (nodes int, alive []adapter.NodeID, err error) {
	return count(ctx, b.link.numSub, b.channels.request, b.channels.response, b.self, known)
}

// Run implements adapter.Bus.
func (b *classic) Run(ctx context.Context, recv func(*adapter.Message)) error {
	defer b.link.hub.Release(b.session)
	defer b.session.remove(b.inbox, b.channels.topics()...)
	return b.inbox.Receive(ctx, b.session.Done(), b.session.Err, each(func(m *goredis.Message) { b.receive(ctx, m, recv) }))
}

func (b *classic) receive(ctx context.Context, got *goredis.Message, recv func(*adapter.Message)) {
	m, confirm, err := b.parse(got)
	hooks := &b.link.opts.Cluster.Hooks
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
	if confirm {
		b.confirm(ctx, m)
	}
}

func (b *classic) parse(got *goredis.Message) (m *adapter.Message, confirm bool, err error) {
	if len(got.Payload) > b.link.opts.MaxMessageBytes {
		return nil, false, fmt.Errorf("%w to be read: %d bytes", errTooLong, len(got.Payload))
	}
	switch {
	case got.Pattern != "":
		if room := b.channels.room(got.Channel); room != "" && !b.local.HasRoom(room) {
			return nil, false, errNotUs
		}
		m, err = parseClassicBroadcast([]byte(got.Payload), b.ns, b.self)
	case got.Channel == b.channels.request:
		m, confirm, err = parseClassicRequest([]byte(got.Payload), b.ns, b.self)
		if confirm && !b.local.HasRoom(m.Target.Rooms[0]) {
			return nil, false, errNotUs
		}
	default:
		m, err = parseClassicResponse([]byte(got.Payload), b.self)
	}
	return m, confirm, err
}

// confirm answers the old form of a request. If there is no room for that, who asked waits in vain, as for a node that is
// gone.
func (b *classic) confirm(ctx context.Context, m *adapter.Message) {
	if m.RequestID == "" {
		return
	}
	payload, err := encodeClassicDone(m.RequestID, b.self)
	if err != nil {
		return
	}
	channel := b.channels.response
	if b.link.opts.SpecificResponseChannel && m.From != adapter.EmitterID {
		channel += string(m.From) + "#"
	}
	ctx, cancel := context.WithCancel(ctx)
	cancel() // the bus does not wait here
	_ = b.link.publish(ctx, b.session, &parcel{namespace: b.ns, kind: m.Type, channel: channel, payload: payload})
}
