package peers

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// DirectoryOptions configure a Directory. The zero value of each field stands for its default.
type DirectoryOptions struct {
	// TTL is how long a node counts as alive after it was last heard of. Default 15 s.
	TTL time.Duration
	// Interval is the time between two renewals. Default 5 s.
	Interval time.Duration
	// Pause is the least time between two looks for a tag that is not known. Default 200 ms.
	Pause time.Duration
	// Timeout bounds each call of the registry. Default 2 s.
	Timeout time.Duration

	// State is called when the node is registered (nil), and with the reason when it is not, or not any more. Calls do not
	// overlap.
	State func(error)
	// Known is called with the number of nodes known, this one included.
	Known  func(n int)
	Logger *slog.Logger // Default slog.DiscardHandler.
}

// Directory knows the nodes of a Registry. What it knows stays valid while the registry is out of reach.
type Directory struct {
	// set at construction
	reg  Registry
	opts DirectoryOptions

	running sync.WaitGroup // looks that Lookup has started

	mu sync.Mutex
	// guarded by mu
	peers  map[string]*Peer // by tag
	looked time.Time        // when the last look for an unknown tag began
	flight chan struct{}    // closed when the look under way is done; nil if there is none
	failed bool             // the last call: until one succeeds, Lookup makes none
	closed bool
	self   string // the tag of this node, once it is registered
	looks  uint64 // that have begun
	latest uint64 // of those, the last whose answer was taken over
	// doubt is until when absence proves nothing: after the registry was away, or lost what it held (this node, for one),
	// others need time to enter themselves again.
	doubt time.Time
}

// Peer is a node that the directory knows.
type Peer struct {
	Node

	gone   context.Context //nolint:containedctx // an event: it ends when the directory drops the node
	drop   context.CancelFunc
	broken atomic.Int64 // until when it is not dialed, as it did not answer; Unix ns
}

func newPeer(n Node) *Peer {
	p := &Peer{Node: n}
	p.gone, p.drop = context.WithCancel(context.Background())
	return p
}

// redial is how long a peer is left alone that could not be reached.
const redial = time.Second

func (p *Peer) reachable() bool { return time.Now().UnixNano() >= p.broken.Load() }

// NewDirectory returns a directory that knows nobody yet. opts may be nil.
func NewDirectory(reg Registry, opts *DirectoryOptions) *Directory {
	d := &Directory{reg: reg, peers: make(map[string]*Peer), failed: true}
	if opts != nil {
		d.opts = *opts
	}
	o := &d.opts
	o.TTL = cmp.Or(o.TTL, 15*time.Second)
	o.Interval = cmp.Or(o.Interval, 5*time.Second)
	o.Pause = cmp.Or(o.Pause, 200*time.Millisecond)
	o.Timeout = cmp.Or(o.Timeout, 2*time.Second)
	if o.State == nil {
		o.State = func(error) {}
	}
	if o.Known == nil {
		o.Known = func(int) {}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return d
}

// Run keeps self registered until ctx is done, and then waits for what Lookup has started. The entry stays: see Leave.
func (d *Directory) Run(ctx context.Context, self Node) {
	defer d.close()
	var (
		renewed  time.Time // when the last renewal began that was good
		reported bool
		pause    = d.opts.Pause
	)
	for {
		begun := time.Now()
		err := d.renew(ctx, self, renewed.IsZero())
		if ctx.Err() != nil {
			return
		}
		wait := d.opts.Interval
		switch {
		case err == nil:
			// Others may just have looked, for another tag, and not look again before this pause is over.
			if renewed.IsZero() && !sleep(ctx, d.opts.Pause) {
				return
			}
			renewed, pause = begun, d.opts.Pause
			if !reported {
				d.opts.Logger.Info("registered", "tag", self.Tag, "addr", self.Addr)
				d.opts.State(nil)
				reported = true
			}
		default:
			pause = min(2*pause, d.opts.Interval)
			wait = pause
			d.report(err)
			if _, taken := errors.AsType[*TakenError](err); taken || time.Since(renewed) > d.opts.TTL {
				d.opts.State(err)
				reported = false
			}
		}
		if !sleep(ctx, time.Duration(float64(wait)*(0.9+0.2*rand.Float64()))) { //nolint:gosec // not a secret
			return
		}
	}
}

func (d *Directory) report(err error) {
	if taken, ok := errors.AsType[*TakenError](err); ok {
		d.opts.Logger.Error("node_tag_taken", "tag", taken.By.Tag, "by", taken.By.Addr, "since", taken.By.Started)
		return
	}
	d.opts.Logger.Warn("registry_failed", "error", err)
}

func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// Leave takes self out of the registry. Until then others forward to it: what its clients have to fetch, for one.
func (d *Directory) Leave(ctx context.Context, self Node) error {
	ctx, cancel := context.WithTimeout(ctx, d.opts.Timeout)
	defer cancel()
	return d.reg.Remove(ctx, self)
}

func (d *Directory) close() {
	d.mu.Lock()
	d.closed = true
	d.mu.Unlock()
	d.running.Wait()
}

func (d *Directory) renew(ctx context.Context, self Node, first bool) error {
	ctx, cancel := context.WithTimeout(ctx, d.opts.Timeout)
	defer cancel()
	renewed, err := d.reg.Register(ctx, self, d.opts.TTL, first)
	if _, taken := errors.AsType[*TakenError](err); err != nil && !taken {
		d.fail()
		return err
	}
	if err == nil {
		d.entered(self.Tag, !first && !renewed)
	}
	return errors.Join(err, d.look(ctx))
}

func (d *Directory) fail() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.failed = true
}

// entered is called when this node is registered. If its entry was lost, so may be those of others.
func (d *Directory) entered(tag string, lost bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.self = tag
	if lost {
		d.doubtLocked()
	}
}

func (d *Directory) doubtLocked() { d.doubt = time.Now().Add(d.opts.TTL) }

// look takes over what the registry says.
func (d *Directory) look(ctx context.Context) error {
	d.mu.Lock()
	d.looks++
	number := d.looks
	d.mu.Unlock()
	list, err := d.reg.List(ctx)
	if err != nil {
		d.fail()
		return err
	}
	d.mu.Lock()
	if number < d.latest { // somebody has asked later and been answered sooner
		d.mu.Unlock()
		return nil
	}
	d.latest = number
	if d.failed && len(d.peers) > 0 {
		d.doubtLocked()
	}
	d.failed = false
	listed := make(map[string]struct{}, len(list))
	for _, n := range list {
		listed[n.Tag] = struct{}{}
		if old := d.peers[n.Tag]; old != nil {
			if old.ID == n.ID && old.Addr == n.Addr {
				continue
			}
			old.drop()
		}
		d.peers[n.Tag] = newPeer(n)
	}
	if _, ok := listed[d.self]; !ok && d.self != "" {
		d.doubtLocked()
	}
	for tag, p := range d.peers {
		if _, ok := listed[tag]; !ok && !time.Now().Before(d.doubt) {
			p.drop()
			delete(d.peers, tag)
		}
	}
	known := len(d.peers)
	d.mu.Unlock()
	d.opts.Known(known)
	return nil
}

// Lookup returns the node that has the tag, or nil. It asks the registry only for tags that it does not know, one call for
// all that wait, and seldom.
func (d *Directory) Lookup(ctx context.Context, tag string) *Peer { return d.lookup(ctx, tag, nil) }

// lookup is Lookup when stale is known not to be the answer.
func (d *Directory) lookup(ctx context.Context, tag string, stale *Peer) *Peer {
	for joined := false; ; joined = true {
		d.mu.Lock()
		p, flight, ours := d.findLocked(tag, stale), d.flight, false
		if p == nil && flight == nil && !d.failed && !d.closed && time.Since(d.looked) >= d.opts.Pause {
			flight, ours = make(chan struct{}), true
			d.flight, d.looked = flight, time.Now()
			d.running.Go(d.lookFor)
		}
		d.mu.Unlock()
		if p != nil || flight == nil {
			return p
		}
		select {
		case <-flight:
		case <-ctx.Done():
			return nil
		}
		if ours || joined { // else it may have begun too early for what is looked for
			d.mu.Lock()
			defer d.mu.Unlock()
			return d.findLocked(tag, stale)
		}
	}
}

func (d *Directory) findLocked(tag string, stale *Peer) *Peer {
	if p := d.peers[tag]; p != stale {
		return p
	}
	return nil
}

// reachable tells whether addr is worth dialing: nobody has said lately that it is not.
func (d *Directory) reachable(addr string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, p := range d.peers {
		if p.Addr == addr && !p.reachable() {
			return false
		}
	}
	return true
}

// unreachable says that nobody answers at addr.
func (d *Directory) unreachable(addr string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, p := range d.peers {
		if p.Addr == addr {
			p.broken.Store(time.Now().Add(redial).UnixNano())
		}
	}
}

// lookFor belongs to all who wait for it, and so to none of their contexts.
func (d *Directory) lookFor() {
	ctx, cancel := context.WithTimeout(context.Background(), d.opts.Timeout)
	defer cancel()
	if err := d.look(ctx); err != nil {
		d.report(err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	close(d.flight)
	d.flight = nil
}

// Nodes returns the nodes that are known.
func (d *Directory) Nodes() []Node {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := make([]Node, 0, len(d.peers))
	for _, p := range d.peers {
		all = append(all, p.Node)
	}
	return all
}
