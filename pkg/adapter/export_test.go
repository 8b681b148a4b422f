package adapter

import "github.com/seed-0b620db0/patchbay/pkg/sio"

// Pending returns how many requests an adapter waits for, and how many it works on for other nodes.
func Pending(a sio.Adapter) (own, others int) {
	c := a.(*cluster)
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.pending), c.serving + c.answering + c.relaying
}

// Receive hands a message to an adapter as its bus does.
func Receive(a sio.Adapter, m *Message) {
	a.(*cluster).receive(m)
}

// MaxRelays is maxRelays.
const MaxRelays = maxRelays
