package postgres

import "time"

// ErrDeaf is why a session ends that hears nothing.
var ErrDeaf = errDeaf

// Memory is what is known of a namespace from one bus to the next.
type Memory struct{ m memory }

// MaxMemory bounds it.
const MaxMemory = maxMemory

// Add notes an attachment.
func (m *Memory) Add(id int64) { m.m.add(id) }

// Has returns what tells whether one was noted.
func (m *Memory) Has(window time.Duration) func(id int64) bool { return m.m.has(window) }
