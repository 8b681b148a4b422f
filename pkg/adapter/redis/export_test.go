package redis

import (
	"errors"

	"github.com/seed-0b620db0/patchbay/pkg/adapter"
)

// ErrNotUs and errors of the wire.
var (
	ErrNotUs   = errNotUs
	ErrTooLong = errTooLong
	ErrDeaf    = errDeaf
)

// ClassicKind is one of the three kinds of channels.
type ClassicKind int

// The kinds.
const (
	ClassicBroadcast ClassicKind = iota
	ClassicRequest
	ClassicResponse
)

// ParseClassic parses what came on a channel of a kind.
func ParseClassic(kind ClassicKind, b []byte, ns string, self adapter.NodeID) (m *adapter.Message, confirm bool, err error) {
	switch kind {
	case ClassicBroadcast:
		m, err = parseClassicBroadcast(b, ns, self)
	case ClassicRequest:
		m, confirm, err = parseClassicRequest(b, ns, self)
	case ClassicResponse:
		m, err = parseClassicResponse(b, self)
	default:
		err = errors.New("no such kind")
	}
	return m, confirm, err
}

// EncodeClassic encodes m as node self does.
func EncodeClassic(m *adapter.Message, ns string, self adapter.NodeID, specific bool) (channel string, payload []byte, err error) {
	c := newClassicChannels("socket.io", ns, self)
	return c.encode(m, ns, specific)
}

// ClassicNames returns the pattern and the channels that a node subscribes to.
func ClassicNames(key, ns string, self adapter.NodeID) (names []string) {
	c := newClassicChannels(key, ns, self)
	for _, t := range c.topics() {
		names = append(names, t.name)
	}
	return names
}

// ClassicRoom returns the room that a channel of namespace ns is of.
func ClassicRoom(ns, channel string) string {
	c := newClassicChannels("socket.io", ns, "me")
	return c.room(channel)
}
