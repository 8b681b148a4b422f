package peers

import (
	"context"
	"sync"
	"time"
)

// Memory is a Registry of the nodes of one process, for tests.
type Memory struct {
	mu      sync.Mutex
	entries map[string]memoryEntry
	err     error
}

type memoryEntry struct {
	Node
	until time.Time
}

var _ Registry = (*Memory)(nil)

// NewMemory returns an empty registry.
func NewMemory() *Memory { return &Memory{entries: make(map[string]memoryEntry)} }

// Fail makes all calls fail with err, until it is nil again.
func (m *Memory) Fail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.err = err
}

// Forget empties the registry.
func (m *Memory) Forget() {
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.entries)
}

// Register implements Registry.
func (m *Memory) Register(_ context.Context, n Node, ttl time.Duration, succeed bool) (renewed bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return false, m.err
	}
	old, ok := m.entries[n.Tag]
	ok = ok && time.Now().Before(old.until)
	if ok && old.ID != n.ID && (!succeed || old.Addr != n.Addr) {
		return false, &TakenError{By: old.Node}
	}
	m.entries[n.Tag] = memoryEntry{n, time.Now().Add(ttl)}
	return ok && old.ID == n.ID, nil
}

// Remove implements Registry.
func (m *Memory) Remove(_ context.Context, n Node) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err == nil && m.entries[n.Tag].ID == n.ID {
		delete(m.entries, n.Tag)
	}
	return m.err
}

// List implements Registry.
func (m *Memory) List(context.Context) ([]Node, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var all []Node
	for _, e := range m.entries {
		if time.Now().Before(e.until) {
			all = append(all, e.Node)
		}
	}
	return all, m.err
}
