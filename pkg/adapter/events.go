package adapter

import "github.com/seed-0b620db0/patchbay/pkg/sio"

const (
	// maxEventBytes bounds the events of other servers that wait for the handler; more are dropped.
	maxEventBytes = 16 << 20
	// maxAnswers bounds the answers to them that are being published; more are dropped.
	maxAnswers = 1 << 14
)

// serverEvent puts an event of another server behind those that have come from it. There is a goroutine for a server while
// there are any.
func (c *cluster) serverEvent(m *Message) {
	if m.Event == nil {
		c.dropped(m, errMalformed)
		return
	}
	c.mu.Lock()
	waiting, handled := c.events[m.From]
	full := c.eventBytes > 0 && c.eventBytes+eventBytes(m) > maxEventBytes
	if !full {
		c.events[m.From] = append(waiting, m)
		c.eventBytes += eventBytes(m)
	}
	c.mu.Unlock()
	switch {
	case full:
		c.dropped(m, errTooMany)
	case !handled && !c.serve(m, func() { c.handleEvents(m.From) }):
		for c.nextEvent(m.From) != nil { // it is the only one, unless a server has several connections
		}
	}
}

// eventBytes is about what it costs to keep m.
func eventBytes(m *Message) int {
	n := 512 + len(m.From) + len(m.RequestID) + len(m.Event.Payload)
	for _, a := range m.Event.Attachments {
		n += len(a)
	}
	return n
}

// handleEvents hands the events of a server to the application, one after the other.
func (c *cluster) handleEvents(from NodeID) {
	for m := c.nextEvent(from); m != nil && c.life.Err() == nil; m = c.nextEvent(from) {
		var answer func(sio.Args)
		if m.RequestID != "" {
			answer = func(a sio.Args) { // of the handler, or of what it has started: it does not wait
				c.work(m, &c.answering, maxAnswers, func() {
					_ = c.respond(c.life, m, &Message{Type: ServerSideEmitResponse, Value: a.Raw(0)})
				})
			}
		}
		if _, err := c.local.ServerEvent(c.life, m.Event, answer); err != nil {
			c.opts.Logger.Warn("server_event", "namespace", c.ns, "event", m.Event.Name(), "error", err)
		}
	}
}

// nextEvent takes the event of a server that is to be handled next, or nil: then nobody is at them any more.
func (c *cluster) nextEvent(from NodeID) *Message {
	c.mu.Lock()
	defer c.mu.Unlock()
	waiting := c.events[from]
	if len(waiting) == 0 {
		delete(c.events, from)
		return nil
	}
	m := waiting[0]
	waiting[0] = nil
	c.events[from] = waiting[1:]
	c.eventBytes -= eventBytes(m)
	return m
}
