package redis

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/seed-0b620db0/patchbay/pkg/adapter"
)

const (
	minReplace = 20 * time.Millisecond // pause before what was refused is tried again; it doubles
	maxReplace = time.Second
)

// shardLink is what the namespaces of one server share over sharded pub/sub, while there are any.
type shardLink struct {
	*link // for what it knows of servers; it opens no session

	using sync.Mutex
	// guarded by using
	users  int
	shards *shards
}

func newShardLink(rdb goredis.UniversalClient, opts Options) *shardLink {
	return &shardLink{link: newLink(rdb, opts)}
}

func (l *shardLink) acquire(ctx context.Context) (*shards, error) {
	if _, ok := l.rdb.(*goredis.Ring); ok {
		return nil, errRing
	}
	l.using.Lock()
	defer l.using.Unlock()
	if l.shards == nil {
		l.shards = newShards(ctx, l.link)
	}
	l.users++
	return l.shards, nil
}

// release gives back what acquire returned. The last one waits until everything was published and nothing runs.
func (l *shardLink) release() {
	l.using.Lock()
	l.users--
	var last *shards
	if l.users == 0 {
		last, l.shards = l.shards, nil
	}
	l.using.Unlock()
	if last != nil {
		last.close()
	}
}

// shards keeps the subscriptions of shard channels: each on the master that its slot is on, and nowhere else. One goroutine
// finds out what has to change, and each connection has a writer, which carries that out, and a reader. What a server takes
// away, because the slot has left or the server died, is subscribed again where the slot is then.
type shards struct {
	// set at construction
	*link
	budget  *adapter.Budget
	canary  shardCanary
	outlets *outlets
	epoch   time.Time
	stop    context.CancelFunc
	manager sync.WaitGroup
	writers sync.WaitGroup // of connections; started by the manager only
	wake    chan struct{}  // for the manager

	mu sync.Mutex
	// guarded by mu
	channels map[string]*shardChannel
	byAddr   map[string]*shardConn
	changed  map[shardRoom]struct{} // to be compared with what is subscribed
	homeless []*shardChannel        // to be given to a connection
	refused  []*shardChannel        // the same, after a pause and a look at who has which slot
	moved    chan struct{}          // closed when something was settled; nil if nobody waits for that
	pause    time.Duration          // before the next look at what was refused
	due      bool                   // that look is
	looked   time.Time              // when the last one was
	busy     bool                   // inspect runs
	refusal  error                  // the last
}

// shardChannel is a channel that somebody wants, or did until now. All is guarded by shards.mu.
type shardChannel struct {
	name       string
	takers     []shardTaker // who wants it; slices are replaced, not changed
	conn       *shardConn   // where it is, or is about to be
	subscribed bool         // in the eyes of the server
	asked      verb         // what is under way, if anything
	queued     bool         // the connection is to look at it
	alone      bool         // it was refused, maybe because of others
	placing    bool         // it is in homeless or refused
}

// upLocked tells whether what is published on the channel comes, and goes on coming.
func (ch *shardChannel) upLocked() bool { return ch.subscribed && ch.asked == "" }

// shardTaker takes what comes on channels. All but Take are called under shards.mu.
type shardTaker interface {
	sink
	// subscribed is called when ch is up.
	subscribed(ch *shardChannel)
	// refused is called when ch could not be subscribed. That is tried again.
	refused(ch *shardChannel, err error)
	// lost is called when ch is up no more: with its connection, or because it has to move.
	lost(ch *shardChannel, err error, moves bool)
}

// shardRoom is a room, or all rooms, of which it is not known whether its channel is to be subscribed.
type shardRoom struct {
	bus  *sharded
	room string
	all  bool
}

func newShards(ctx context.Context, l *link) *shards {
	s := &shards{
		link: l, outlets: newOutlets(l.rdb, &l.opts), budget: adapter.NewBudget(l.opts.MaxInboxBytes), epoch: time.Now(),
		wake: make(chan struct{}, 1), channels: map[string]*shardChannel{}, byAddr: map[string]*shardConn{}, changed: map[shardRoom]struct{}{},
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(ctx)) // others use it too
	s.stop = stop
	s.canary.init(s)
	s.manager.Go(func() { s.manage(ctx) })
	s.manager.Go(func() { s.canary.sing(ctx) })
	return s
}

func (s *shards) close() {
	s.outlets.close()
	s.stop()
	s.manager.Wait()
	for _, c := range s.conns() {
		c.fail(errUnused)
	}
	s.writers.Wait()
	s.canary.close()
}

func (s *shards) awake() {
	select {
	case s.wake <- struct{}{}:
	default: // it will look anyway
	}
}

// settledLocked tells those who wait that something has changed.
func (s *shards) settledLocked() {
	if s.moved != nil {
		close(s.moved)
		s.moved = nil
	}
}

// movedLocked returns what is closed when something has changed.
func (s *shards) movedLocked() <-chan struct{} {
	if s.moved == nil {
		s.moved = make(chan struct{})
	}
	return s.moved
}

// manage runs until ctx is done.
func (s *shards) manage(ctx context.Context) {
	retry := time.NewTimer(0)
	retry.Stop()
	defer retry.Stop()
	look := time.NewTicker(s.opts.CanaryInterval)
	defer look.Stop()
	var looking sync.WaitGroup
	defer looking.Wait()
	for {
		select {
		case <-s.wake:
		case <-look.C:
			looking.Go(func() { s.inspect(ctx) })
		case <-retry.C:
			looking.Go(func() {
				refresh(ctx, s.rdb, s.opts.Timeout)
				s.retry()
			})
		case <-ctx.Done():
			return
		}
		s.compare()
		s.place(ctx)
		if pause, ok := s.plan(); ok {
			retry.Reset(pause)
		}
	}
}

// plan returns when to look at what was refused, if that is not planned yet.
func (s *shards) plan() (pause time.Duration, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.refused) == 0 || s.due {
		return 0, false
	}
	s.due = true
	if time.Since(s.looked) > 2*maxReplace {
		s.pause = 0
	}
	pause = s.pause
	if pause == maxReplace { // it has been tried for a while
		s.opts.Cluster.Logger.Warn("channels_not_subscribed", "channels", len(s.refused), "error", s.refusal)
	}
	s.pause = min(max(2*pause, minReplace), maxReplace)
	return pause, true
}

// compare finds out which rooms have changed, and notes what follows for their channels.
func (s *shards) compare() {
	s.mu.Lock()
	changed := s.changed
	s.changed = map[shardRoom]struct{}{}
	for r := range changed {
		r.bus.changed = 0
	}
	s.mu.Unlock()
	for r := range changed {
		r.bus.compare(r)
	}
}

// enterLocked has t take what comes on a channel.
func (s *shards) enterLocked(t shardTaker, name string) *shardChannel {
	ch := s.channels[name]
	if ch == nil {
		ch = &shardChannel{name: name}
		s.channels[name] = ch
	}
	if slices.Contains(ch.takers, t) {
		return ch
	}
	ch.takers = append(slices.Clip(ch.takers), t)
	switch {
	case ch.upLocked():
		t.subscribed(ch)
	case ch.conn != nil:
		ch.conn.lookLocked(ch)
	case !ch.placing:
		s.placeLocked(ch)
	}
	return ch
}

// leaveLocked is the opposite.
func (s *shards) leaveLocked(t shardTaker, name string) {
	ch := s.channels[name]
	if ch == nil {
		return
	}
	ch.takers = slices.DeleteFunc(slices.Clone(ch.takers), func(o shardTaker) bool { return o == t })
	switch {
	case len(ch.takers) > 0:
	case ch.conn != nil:
		ch.conn.lookLocked(ch)
	case !ch.placing:
		delete(s.channels, name)
	}
}

func (s *shards) placeLocked(ch *shardChannel) {
	ch.placing = true
	s.homeless = append(s.homeless, ch)
	s.awake()
}

// replaceLocked does the same after a pause.
func (s *shards) replaceLocked(ch *shardChannel) {
	ch.placing = true
	s.refused = append(s.refused, ch)
	s.awake()
}

// retry has what was refused placed again.
func (s *shards) retry() {
	s.mu.Lock()
	s.homeless = append(s.homeless, s.refused...)
	s.refused = nil
	s.due = false
	s.looked = time.Now()
	s.mu.Unlock()
	s.awake()
}

// place gives channels to the connections that are for them.
func (s *shards) place(ctx context.Context) {
	s.mu.Lock()
	homeless := s.homeless
	s.homeless = nil
	s.mu.Unlock()
	if len(homeless) == 0 {
		return
	}
	type home struct {
		node goredis.UniversalClient
		addr string
		err  error
	}
	homes := make([]home, len(homeless))
	for i, ch := range homeless {
		homes[i].node, homes[i].addr, homes[i].err = locate(ctx, s.rdb, ch.name)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, ch := range homeless {
		ch.placing = false
		h := homes[i]
		switch {
		case len(ch.takers) == 0:
			delete(s.channels, ch.name)
		case h.err != nil:
			s.refuseLocked(ch, h.err)
		default:
			c := s.byAddr[h.addr]
			if c == nil {
				c = newShardConn(s, h.node, h.addr)
				s.byAddr[h.addr] = c
				s.writers.Go(func() { c.run(ctx) })
			}
			ch.conn = c
			c.channels[ch] = struct{}{}
			c.lookLocked(ch)
		}
	}
	if len(s.refused) > 0 {
		s.settledLocked()
	}
}

// refuseLocked notes that ch could not be subscribed.
func (s *shards) refuseLocked(ch *shardChannel, err error) {
	ch.alone = true
	s.refusal = err
	for _, t := range ch.takers {
		t.refused(ch, err)
	}
	s.replaceLocked(ch)
}

// inspect looks after all connections. A server that is no master any more still sends, but is not asked who listens.
func (s *shards) inspect(ctx context.Context) {
	s.mu.Lock()
	busy := s.busy
	s.busy = true
	s.mu.Unlock()
	if busy {
		return
	}
	defer func() {
		s.mu.Lock()
		s.busy = false
		s.mu.Unlock()
	}()
	for _, c := range s.conns() {
		c.inspect()
	}
	masters := refresh(ctx, s.rdb, s.opts.Timeout)
	for _, c := range s.conns() {
		if _, ok := masters[c.addr]; masters != nil && !ok {
			c.fail(errDemoted)
		}
	}
}

func (s *shards) conns() []*shardConn {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Values(s.byAddr))
}

var errDemoted = errors.New("redis: the server is no master any more")

// numSub returns the number of subscribers of each channel, as the master of its slot has it.
func (s *shards) numSub(ctx context.Context, channels []string) (map[string]int64, error) {
	timeout := s.opts.Timeout
	if deadline, ok := ctx.Deadline(); ok { // which go-redis does not look at
		timeout = max(time.Millisecond, min(timeout, time.Until(deadline)))
	}
	type part struct {
		node     goredis.UniversalClient
		channels []string
	}
	parts := map[string]*part{}
	for _, channel := range channels {
		node, addr, err := locate(ctx, s.rdb, channel)
		if err != nil {
			return nil, err
		}
		p := parts[addr]
		if p == nil {
			p = &part{node: node}
			parts[addr] = p
		}
		p.channels = append(p.channels, channel)
	}
	var (
		asking sync.WaitGroup
		mu     sync.Mutex
		sum    = make(map[string]int64, len(channels))
		errs   []error
	)
	for _, p := range parts {
		asking.Go(func() {
			n, err := numSub(ctx, "shardnumsub", bounded(p.node, timeout), p.channels)
			mu.Lock()
			defer mu.Unlock()
			for channel, n := range n {
				sum[channel] += n
			}
			if err != nil {
				errs = append(errs, err)
			}
		})
	}
	asking.Wait()
	return sum, errors.Join(errs...)
}
