package postgres

import (
	"context"
	"fmt"

	"github.com/seed-0b620db0/patchbay/pkg/adapter"
)

// bus is that of a namespace.
type bus struct {
	// set at construction
	link    *link
	session *session
	inbox   *adapter.Inbox[letter]
	ns      string
	wire    *wire
	memory  *memory

	// owned by Run
	recv      func(*adapter.Message)
	rows      map[int64]row      // that were read ahead
	token     bool               // of link.reading is ours
	broken    error              // why the last could not be read
	recovered map[int64]struct{} // may come again
}

var _ adapter.Bus = (*bus)(nil)

// letter is what was heard, until its turn comes.
type letter struct {
	payload string

	// set when it was looked at
	read bool
	in   incoming
	err  error
}

// size of the memory that it takes.
func (t letter) size() int { return len(t.payload) + 128 }

func openBus(ctx context.Context, l *link, ns string, self adapter.NodeID) (adapter.Bus, error) {
	s, err := l.hub.Acquire(ctx, ns)
	if err != nil {
		return nil, err
	}
	b := &bus{
		link: l, session: s, inbox: adapter.NewInbox(s.inbox, letter.size), ns: ns,
		wire: newWire(l.opts.ChannelPrefix, ns, self, l.opts.PayloadThreshold),
		rows: map[int64]row{}, recovered: map[int64]struct{}{},
	}
	if err := s.add(ctx, b, b.wire.channel); err != nil {
		b.inbox.Close()
		l.hub.Release(s)
		return nil, err
	}
	b.memory = l.remember(ctx, ns)
	return b, nil
}

// take implements taker. What the node itself has sent costs no room.
func (b *bus) take(payload string, done <-chan struct{}) {
	if !b.wire.isOwn(payload) {
		b.inbox.Take(letter{payload: payload}, done)
	}
}

// Publish implements adapter.Bus.
func (b *bus) Publish(ctx context.Context, m *adapter.Message) error {
	out, err := b.wire.encode(m)
	if err != nil {
		return err
	}
	return b.link.publish(ctx, b.session, &parcel{outgoing: out, namespace: b.ns, kind: m.Type, channel: b.wire.channel})
}

// Run implements adapter.Bus.
func (b *bus) Run(ctx context.Context, recv func(*adapter.Message)) error {
	defer b.link.hub.Release(b.session)
	defer b.session.remove(b, b.wire.channel)
	defer b.endReading()
	b.recv = recv
	b.catchUp(ctx)
	err := b.inbox.Receive(ctx, b.session.Done(), b.session.Err,
		func(letters []letter) { b.receive(ctx, letters) })
	b.memory.loses(b.session.canary.lastHeard())
	return err
}

// receive works on the first of letters. What it needs is read together with what the others need.
func (b *bus) receive(ctx context.Context, letters []letter) {
	t := &letters[0]
	b.open(t)
	switch {
	case t.err != nil:
		b.dropped(t.err)
	case t.in.own:
	case t.in.message != nil:
		b.handOver(t.in.message, len(t.payload))
	default:
		b.receiveRow(ctx, t.in.id, letters[1:])
	}
}

// open parses a letter, once.
func (b *bus) open(t *letter) {
	if !t.read {
		t.in, t.err = b.wire.parse(t.payload)
		t.read = true
	}
}

func (b *bus) handOver(m *adapter.Message, bytes int) {
	if hook := b.link.opts.Cluster.Hooks.Received; hook != nil {
		hook(b.ns, m.Type, bytes)
	}
	b.recv(m)
}

func (b *bus) dropped(err error) {
	if hook := b.link.opts.Cluster.Hooks.Dropped; hook != nil {
		hook(b.ns, fmt.Errorf("postgres: message on %q: %w", b.wire.channel, err))
	}
}
