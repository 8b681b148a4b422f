package sio

import (
	"context"
	"slices"

	"github.com/seed-0b620db0/patchbay/internal/crew"
)

// task is something that happens to a socket. Just one field is set, or none: then the socket has ended.
type task struct {
	event   *Event
	connect bool
}

// enqueue hands an event to the socket's handlers. When too many wait, the connection's reader waits too.
func (s *Socket) enqueue(ev *Event) {
	s.mu.Lock()
	for s.state == socketConnected && len(s.tasks) >= s.ns.srv.opts.MaxEvents {
		if s.room == nil {
			s.room = make(chan struct{})
		}
		room := s.room
		s.mu.Unlock()
		s.conn.session.Sooner() // or nobody would make room
		<-room                  // or s has ended; its context may be done before
		s.mu.Lock()
	}
	if s.state == socketConnected {
		s.tasks = append(s.tasks, task{event: ev})
	}
	s.runUnlock(s.conn.session.Later)
}

// start lets tasks run, OnConnect first.
func (s *Socket) start() {
	s.mu.Lock()
	s.started = true
	s.tasks = slices.Insert(s.tasks, 0, task{connect: true})
	s.runUnlock(nil)
}

// runUnlock unlocks mu and sees to it that somebody works through the tasks: later, if it may be, or a goroutine.
func (s *Socket) runUnlock(later func(interface{ Run() }) bool) {
	run := s.started && !s.running && len(s.tasks) > 0
	s.running = s.running || run
	s.mu.Unlock()
	if !run {
		return
	}
	t := crew.Task((*worker)(s))
	s.counted = s.ns.srv.enter()
	switch {
	case !s.counted: // the end of each socket is told to its handlers, also when the server is closing
		t.Run()
	case later == nil || !later(t):
		s.ns.srv.crew.Go(t)
	}
}

// busy tells whether more events wait.
func (s *Socket) busy() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.tasks) > 0
}

// worker is a Socket as a task for the crew.
type worker Socket

// Run implements crew.Task.
func (w *worker) Run() {
	if w.counted {
		defer w.ns.srv.running.Done()
	}
	(*Socket)(w).run()
}

// run works through the tasks, one at a time; it leaves when there are none.
func (s *Socket) run() {
	for {
		s.mu.Lock()
		if len(s.tasks) == 0 {
			s.tasks, s.running = s.one[:0], false
			s.mu.Unlock()
			return
		}
		t := s.tasks[0]
		s.tasks[0] = task{}
		s.tasks = s.tasks[1:]
		s.wakeLocked()
		s.mu.Unlock()
		s.perform(t)
	}
}

// wakeLocked has a reader that waits for room look again.
func (s *Socket) wakeLocked() {
	if s.room != nil {
		close(s.room)
		s.room = nil
	}
}

func (s *Socket) perform(t task) {
	set := s.ns.get()
	ctx := s.Context()
	switch {
	case t.connect:
		for _, f := range set.connect {
			if err := s.guard("", func() error { return f(ctx, s) }); err != nil {
				s.disconnect(err)
				return
			}
		}
	case t.event != nil:
		s.performEvent(ctx, set, t.event)
	default:
		ctx = context.WithoutCancel(ctx)
		for _, f := range set.disconnecting {
			_ = s.guard("", func() error { f(ctx, s, s.reason); return nil }) // guard has reported a panic
		}
		s.mu.Lock()
		s.rooms, s.left = roomSet{}, true
		s.mu.Unlock()
		for _, f := range set.disconnect {
			_ = s.guard("", func() error { f(ctx, s, s.reason); return nil })
		}
		s.ns.release()
	}
}

func (s *Socket) performEvent(ctx context.Context, set *handlerSet, ev *Event) {
	if s.dismissed() {
		return
	}
	if f := s.ns.srv.opts.Hooks.Received; f != nil {
		f(s, ev.name)
	}
	h := set.chains[ev.name]
	if h == nil {
		h = set.fallback
	}
	_ = s.guard(ev.name, func() error {
		for _, f := range set.any {
			f(ctx, s, ev)
		}
		if h == nil {
			return nil
		}
		return h(ctx, s, ev)
	})
}

// dismissed tells whether the server has put the socket out: what it still had to say is not heard. The events of a client
// that left, or was lost, are.
func (s *Socket) dismissed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state == socketDisconnected && s.reason == ReasonServerDisconnect
}
