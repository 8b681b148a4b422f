package postgres

import (
	"context"
	cryptorand "crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/seed-0b620db0/patchbay/pkg/adapter"
	"github.com/seed-0b620db0/patchbay/pkg/adapter/internal/hub"
)

var errDeaf = errors.New("postgres: the node is deaf")

// session is one listening connection.
type session struct {
	hub.Session

	// set at construction
	link  *link
	id    string
	inbox *adapter.Budget
	wake  chan struct{} // for the writer

	canary canary
	conn   *listener // set by Dial

	mu sync.Mutex
	// guarded by mu
	takers map[string][]taker // by channel; slices are replaced, not changed
	queue  []*command         // to be sent
	asked  []*command         // to be answered: one exchange at a time
	since  time.Time          // when they were asked
}

// taker takes what comes over a channel. It is called by the session's reader, with the session's Done.
type taker interface {
	take(payload string, done <-chan struct{})
}

// command is a statement for the listening connection.
type command struct {
	sql    string
	alone  bool              // not in one transaction with others: one of them has failed
	done   chan error        // buffered; nil if nobody waits
	result func(text string) // nil if there is none
}

func newSession(l *link) *session {
	s := &session{
		Session: hub.NewSession(), link: l, id: randomID(), inbox: adapter.NewBudget(l.opts.MaxInboxBytes),
		wake: make(chan struct{}, 1), takers: map[string][]taker{},
	}
	s.canary.init(s)
	return s
}

func randomID() string {
	var b [8]byte
	_, _ = cryptorand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// Dial implements hub.Conn. It sees to the table, connects and listens to the canary's channel.
func (s *session) Dial(ctx context.Context) error {
	if err := s.link.opts.check(); err != nil {
		return err
	}
	if err := s.link.prepare(ctx); err != nil {
		return explain(err)
	}
	config, err := s.link.where(ctx)
	if err != nil {
		return err
	}
	s.conn, err = dialListener(ctx, config, s.canary.channel)
	return explain(err)
}

// Passing implements hub.Conn.
func (*session) Passing(err error) bool { return passing(err) }

// Serve implements hub.Conn.
func (s *session) Serve(ctx context.Context) {
	var running sync.WaitGroup
	running.Go(s.read)
	running.Go(s.write)
	running.Go(func() { s.canary.sing(ctx) })
	running.Go(func() { s.link.clean(ctx) })
	deaf := time.AfterFunc(s.link.opts.CanaryTimeout, s.canary.missed)
	s.canary.listen(deaf)
	defer deaf.Stop()
	<-s.Done()
	if errors.Is(s.Err(), hub.ErrUnused) {
		s.link.hears(nil)
	}
	s.conn.close() // unblocks the reader and the writer
	running.Wait()
}

// heard is called with the first canary.
func (s *session) heard() {
	if lost := s.link.hears(&s.canary); !lost.IsZero() && s.link.opts.Hooks.Gap != nil {
		s.link.opts.Hooks.Gap(time.Since(lost))
	}
	s.Ready()
}

func (s *session) read() {
	for {
		if err := s.conn.receive(s); err != nil {
			s.Fail(fmt.Errorf("postgres: listening connection: %w", explain(err)))
			return
		}
	}
}

// notified passes on a notification.
func (s *session) notified(channel, payload string) {
	if channel == s.canary.channel {
		s.canary.take(payload)
		return
	}
	s.mu.Lock()
	takers := s.takers[channel]
	s.mu.Unlock()
	for _, to := range takers {
		to.take(payload, s.Done())
	}
}

// answered books the end of an exchange.
func (s *session) answered(values []string, err error) {
	s.mu.Lock()
	asked := s.asked
	s.asked = nil
	retry := err != nil && len(asked) > 1
	if retry { // it may be the fault of one of them
		for _, c := range asked {
			c.alone = true
		}
		s.queue = append(asked, s.queue...)
	}
	s.mu.Unlock()
	s.awake()
	if retry {
		return
	}
	for _, c := range asked {
		if c.result != nil && err == nil && len(values) > 0 {
			c.result(values[0])
			values = values[1:]
		}
		if c.done != nil {
			c.done <- explain(err)
		}
	}
}

// write sends commands: all that wait in one exchange, when the one before has ended.
func (s *session) write() {
	for {
		select {
		case <-s.wake:
		case <-s.Done():
			return
		}
		commands := s.next()
		if len(commands) == 0 {
			continue
		}
		if err := s.conn.send(commands, s.link.opts.Timeout); err != nil {
			s.Fail(fmt.Errorf("postgres: listening connection: %w", err))
			return
		}
	}
}

// maxCommands bounds an exchange.
const maxCommands = 256

// next takes the commands that are to be sent, and expects their answer.
func (s *session) next() []*command {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.asked) > 0 || len(s.queue) == 0 {
		return nil
	}
	n := 1
	for !s.queue[0].alone && n < min(len(s.queue), maxCommands) && !s.queue[n].alone {
		n++
	}
	s.asked = slices.Clone(s.queue[:n])
	s.since = time.Now()
	if s.queue = s.queue[n:]; len(s.queue) == 0 {
		s.queue = nil
	}
	return s.asked
}

// stalled tells whether an answer is overdue.
func (s *session) stalled() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.asked) > 0 && time.Since(s.since) > s.link.opts.CanaryTimeout
}

// ask queues a command.
func (s *session) ask(c *command) {
	s.mu.Lock()
	s.queue = append(s.queue, c)
	s.mu.Unlock()
	s.awake()
}

// add listens to a channel, and returns when PostgreSQL has confirmed it: the node is then ready to answer.
func (s *session) add(ctx context.Context, to taker, channel string) error {
	c := &command{sql: "LISTEN " + pgx.Identifier{channel}.Sanitize(), done: make(chan error, 1)}
	s.mu.Lock()
	s.takers[channel] = append(slices.Clip(s.takers[channel]), to)
	s.queue = append(s.queue, c)
	s.mu.Unlock()
	s.awake()
	var err error
	select {
	case err = <-c.done:
	case <-s.Done():
		err = s.Err()
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	if err != nil {
		s.remove(to, channel)
		return fmt.Errorf("postgres: listen: %w", err)
	}
	return nil
}

// remove takes back add. It does not wait.
func (s *session) remove(to taker, channel string) {
	s.mu.Lock()
	left := slices.DeleteFunc(slices.Clone(s.takers[channel]), func(o taker) bool { return o == to })
	if len(left) > 0 { // a namespace that was closed and is open again
		s.takers[channel] = left
	} else {
		delete(s.takers, channel)
		s.queue = append(s.queue, &command{sql: "UNLISTEN " + pgx.Identifier{channel}.Sanitize()})
	}
	s.mu.Unlock()
	s.awake()
}

func (s *session) awake() {
	select {
	case s.wake <- struct{}{}:
	default: // it will look anyway
	}
}
