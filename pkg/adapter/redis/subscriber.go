package redis

import (
	"context"
	cryptorand "crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/seed-0b620db0/patchbay/pkg/adapter"
	"github.com/seed-0b620db0/patchbay/pkg/adapter/internal/hub"
)

var errGone = errors.New("redis: Redis has ended the subscription")

// session is one subscription connection.
type session struct {
	hub.Session

	// set at construction
	link   *link
	id     string
	inbox  *adapter.Budget
	wake   chan struct{} // for the writer
	canary canary

	// set by Dial
	key  string // picks the master, in a Redis Cluster
	node goredis.UniversalClient
	sub  *goredis.PubSub

	mu sync.Mutex
	// guarded by mu
	sinks map[topic][]sink // slices are replaced, not changed
	queue []*command       // to be written
	sent  []*command       // to be answered, in this order
}

// topic is a channel or a pattern.
type topic struct {
	pattern bool
	name    string
}

// sink takes what comes for a topic. It is called by the session's reader, with the session's Done.
type sink interface {
	Take(m *goredis.Message, done <-chan struct{})
}

// command changes subscriptions.
type command struct {
	verb     verb
	names    []string
	answered int        // how many names were
	done     chan error // buffered; nil if nobody waits
}

type verb string

const (
	subscribe    verb = "subscribe"
	psubscribe   verb = "psubscribe"
	unsubscribe  verb = "unsubscribe"
	punsubscribe verb = "punsubscribe"
)

func newSession(l *link) *session {
	s := &session{
		Session: hub.NewSession(), link: l, id: randomID(), inbox: adapter.NewBudget(l.opts.MaxInboxBytes),
		wake: make(chan struct{}, 1), sinks: map[topic][]sink{},
	}
	s.canary.init(s)
	return s
}

func randomID() string {
	var b [8]byte
	_, _ = cryptorand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// Serve implements hub.Conn.
func (s *session) Serve(ctx context.Context) {
	var running sync.WaitGroup
	running.Go(s.read)
	running.Go(s.write)
	running.Go(func() { s.canary.sing(ctx) })
	deaf := time.AfterFunc(s.link.opts.CanaryTimeout, s.canary.missed)
	s.canary.listen(deaf)
	defer deaf.Stop()
	<-s.Done()
	_ = s.sub.Close() // unblocks the reader; what it says of a connection that is of no use does not matter
	running.Wait()
}

// Passing implements hub.Conn.
func (*session) Passing(err error) bool { return !answered(err) && !errors.Is(err, errRing) }

// Dial implements hub.Conn. It connects and subscribes to the canary's channel.
func (s *session) Dial(ctx context.Context) error {
	s.key = randomID() // another master each time: one may be dead
	node, err := s.link.node(ctx, s.key)
	if err != nil {
		return err
	}
	s.node = node
	s.sub = bounded(node, s.link.opts.Timeout).Subscribe(ctx) // to nothing: it does not dial yet
	s.sent = []*command{{verb: subscribe, names: []string{s.canary.channel}, done: s.canary.subscribed}}
	if err := s.sub.Subscribe(ctx, s.canary.channel); err != nil {
		return fmt.Errorf("redis: connect: %w", errors.Join(err, s.sub.Close()))
	}
	return nil
}

// stay is the context of all that is done on the connection once it is there. go-redis replaces a connection that fails, in
// the middle of the call that finds out; a context that has ended keeps it from dialling (but for TLS, where that costs
// nothing but time), and bounds nothing else. Its deadline holds for a write.
func stay(timeout time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	cancel()
	return ctx
}

func (s *session) read() {
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // see stay; here without a deadline
	for {
		got, err := s.sub.Receive(ctx)
		switch {
		case err == nil:
		case answered(err):
			if err := s.refused(err); err != nil {
				s.Fail(err)
				return
			}
			continue
		default:
			s.Fail(fmt.Errorf("redis: subscription: %w", err))
			return
		}
		switch got := got.(type) {
		case *goredis.Message:
			s.route(got)
		case *goredis.Subscription:
			if !s.confirmed(got) {
				s.Fail(fmt.Errorf("%w to %q", errGone, got.Channel))
				return
			}
		}
	}
}

func (s *session) route(m *goredis.Message) {
	t := topic{name: m.Channel}
	if m.Pattern != "" {
		t = topic{pattern: true, name: m.Pattern}
	}
	s.mu.Lock()
	sinks := s.sinks[t]
	s.mu.Unlock()
	for _, to := range sinks {
		to.Take(m, s.Done())
	}
}

// confirmed books an answer. It returns false if that was none: Redis has taken a subscription away.
func (s *session) confirmed(got *goredis.Subscription) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.sent) == 0 {
		return false
	}
	c := s.sent[0]
	if string(c.verb) != got.Kind || c.names[c.answered] != got.Channel {
		return false
	}
	if c.answered++; c.answered == len(c.names) {
		s.answerLocked(nil)
	}
	return true
}

// refused books an error as the answer to the oldest command. It returns it if the session cannot go on.
func (s *session) refused(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.sent) == 0 || s.sent[0].done == nil {
		return fmt.Errorf("redis: subscription: %w", err)
	}
	s.answerLocked(fmt.Errorf("redis: %s: %w", s.sent[0].verb, err))
	return nil
}

func (s *session) answerLocked(err error) {
	if c := s.sent[0]; c.done != nil {
		c.done <- err
	}
	s.sent = slices.Delete(s.sent, 0, 1)
}

// write carries out commands. They share round trips: none waits for the answer to another.
func (s *session) write() {
	for {
		select {
		case <-s.wake:
		case <-s.Done():
			return
		}
		for c := s.next(); c != nil; c = s.next() {
			ctx := stay(s.link.opts.Timeout)
			var err error
			switch c.verb {
			case subscribe:
				err = s.sub.Subscribe(ctx, c.names...)
			case psubscribe:
				err = s.sub.PSubscribe(ctx, c.names...)
			case unsubscribe:
				err = s.sub.Unsubscribe(ctx, c.names...)
			case punsubscribe:
				err = s.sub.PUnsubscribe(ctx, c.names...)
			default: // of sharded pub/sub, which has connections of its own
			}
			if err != nil {
				s.Fail(fmt.Errorf("redis: %s: %w", c.verb, err))
				return
			}
		}
	}
}

// next takes a command that is to be written, and expects its answer.
func (s *session) next() *command {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.queue) == 0 {
		s.queue = nil
		return nil
	}
	c := s.queue[0]
	s.queue = s.queue[1:]
	s.sent = append(s.sent, c)
	return c
}

// add subscribes to to topics, patterns first, and returns when Redis has confirmed it: the node is then ready to answer.
func (s *session) add(ctx context.Context, to sink, topics ...topic) error {
	patterns, channels := split(topics)
	commands := make([]*command, 0, 2)
	if len(patterns) > 0 {
		commands = append(commands, &command{verb: psubscribe, names: patterns, done: make(chan error, 1)})
	}
	if len(channels) > 0 {
		commands = append(commands, &command{verb: subscribe, names: channels, done: make(chan error, 1)})
	}
	s.mu.Lock()
	for _, t := range topics {
		s.sinks[t] = append(slices.Clip(s.sinks[t]), to)
	}
	s.queue = append(s.queue, commands...)
	s.mu.Unlock()
	s.awake()
	for _, c := range commands {
		var err error
		select {
		case err = <-c.done:
		case <-s.Done():
			err = s.Err()
		case <-ctx.Done():
			err = fmt.Errorf("redis: %s: %w", c.verb, context.Cause(ctx))
		}
		if err != nil {
			s.remove(to, topics...)
			return err
		}
	}
	return nil
}

// remove takes back add. It does not wait.
func (s *session) remove(to sink, topics ...topic) {
	s.mu.Lock()
	var gone []topic
	for _, t := range topics {
		left := slices.DeleteFunc(slices.Clone(s.sinks[t]), func(o sink) bool { return o == to })
		if len(left) > 0 { // a namespace that was closed and is open again
			s.sinks[t] = left
			continue
		}
		delete(s.sinks, t)
		gone = append(gone, t)
	}
	patterns, channels := split(gone)
	if len(channels) > 0 { // first: nobody should count on us any more
		s.queue = append(s.queue, &command{verb: unsubscribe, names: channels})
	}
	if len(patterns) > 0 {
		s.queue = append(s.queue, &command{verb: punsubscribe, names: patterns})
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

func split(topics []topic) (patterns, channels []string) {
	for _, t := range topics {
		if t.pattern {
			patterns = append(patterns, t.name)
		} else {
			channels = append(channels, t.name)
		}
	}
	return patterns, channels
}
