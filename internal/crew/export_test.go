package crew

// Idle returns how many goroutines have nothing to do.
func (c *Crew) Idle() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.idle)
}
