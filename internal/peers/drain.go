package peers

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/seed-0b620db0/patchbay/internal/drain"
)

// reroutePath is no path of clients', which have no segment that begins with a dot.
const reroutePath = "/.reroute"

const (
	rerouteTimeout = 2 * time.Second // for an owner to hear of it, and for the client to get the last answer
	maxReroutes    = 16              // asked for at a time
)

// passage is a request that may be under way for long: a poll that waits, or a connection that was upgraded.
type passage struct {
	peer  *Peer
	query string
	cut   func()
	over  chan struct{} // closed at its end; made by Drain
}

// pass enters p. The function that it returns takes it out again.
func (f *Forwarder) pass(p *passage) (over func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.passages[p] = struct{}{}
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.passages, p)
		if p.over != nil {
			close(p.over)
		}
	}
}

// Drain has clients find another way to the nodes that their sessions are on, at the pace: polls that wait are answered, and
// tunnels end, both by their owners, so that nothing is lost; from now on answers end their connection, on which the next
// request would come to this node. It returns when that is done, or ctx is. What is forwarded all the same is left to
// [Forwarder.Stop].
func (f *Forwarder) Drain(ctx context.Context, pace drain.Pace) {
	f.draining.Store(true)
	f.reroute(ctx, pace)
	f.reroute(ctx, drain.Pace{}) // who has come over a connection from before
}

func (f *Forwarder) reroute(ctx context.Context, pace drain.Pace) {
	f.mu.Lock()
	all := slices.Collect(maps.Keys(f.passages))
	for _, p := range all {
		if p.over == nil {
			p.over = make(chan struct{})
		}
	}
	f.mu.Unlock()
	var moving sync.WaitGroup
	places := make(chan struct{}, maxReroutes)
	drain.Each(ctx, pace, nil, all, func(p *passage) {
		select {
		case <-p.over:
			return
		default:
		}
		places <- struct{}{} // each is given back within rerouteTimeout
		moving.Go(func() { f.move(ctx, p, func() { <-places }) })
	})
	moving.Wait()
}

// move has the owner end a passage, or cuts it. asked is called when the owner has answered.
func (f *Forwarder) move(ctx context.Context, p *passage, asked func()) {
	ctx, cancel := context.WithTimeout(ctx, rerouteTimeout)
	defer cancel()
	err := f.askReroute(ctx, p)
	asked()
	if err != nil {
		f.opts.Logger.Debug("reroute_failed", "peer", p.peer.Tag, "addr", p.peer.Addr, "error", err)
		p.cut()
		return
	}
	select {
	case <-p.over:
	case <-ctx.Done():
		p.cut()
	}
}

var errNotRerouted = errors.New("the owner does not know how")

func (f *Forwarder) askReroute(ctx context.Context, p *passage) error {
	u := &url.URL{Scheme: "http", Host: p.peer.Addr, Path: Prefix + reroutePath, RawQuery: url.Values{"sid": {sidOf(p.query)}}.Encode()}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), nil)
	if err != nil {
		return err
	}
	f.sign(r, p.peer, "-", false)
	res, err := f.transport.RoundTrip(r)
	if err != nil {
		return err
	}
	_ = res.Body.Close() // it has none
	if err := f.taken(res, p.peer); err != nil {
		return err
	}
	if res.StatusCode != http.StatusNoContent {
		return fmt.Errorf("%w: %s", errNotRerouted, res.Status)
	}
	return nil
}
