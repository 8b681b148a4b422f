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
	firstPause     = 50 * time.Millisecond
)

// The transport that a passage is of, in the query of a request to reroute it.
const (
	pollPassage   = "polling"
	tunnelPassage = "websocket"
)

// passage is a request that may be under way for long: a poll that waits, or a connection that was upgraded.
type passage struct {
	peer      *Peer
	transport string
	query     string
	cut       func()
	over      chan struct{} // closed at its end; made by Drain
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
// request would come to this node. It returns when that is done, or ctx is. What has come meanwhile is left to another call, or to
// [Forwarder.Stop].
func (f *Forwarder) Drain(ctx context.Context, pace drain.Pace) {
	f.draining.Store(true)
	f.mu.Lock()
	all := slices.Collect(maps.Keys(f.passages))
	for _, p := range all {
		if p.over == nil {
			p.over = make(chan struct{})
		}
	}
	f.mu.Unlock()
	m := rerouting{f: f, places: make(chan struct{}, maxReroutes)}
	drain.Each(ctx, pace, nil, all, func(p *passage) {
		select {
		case <-p.over:
			return
		default:
		}
		m.places <- struct{}{} // each is given back within rerouteTimeout
		if _, ok := m.hang.Load(p.peer); ok {
			<-m.places
			p.cut() // the next one would take as long, and others wait
			return
		}
		m.moving.Go(func() { m.move(ctx, p) })
	})
	m.moving.Wait()
}

type rerouting struct {
	f      *Forwarder
	places chan struct{}
	hang   sync.Map // *Peer: it did not answer in time
	moving sync.WaitGroup
}

// move has the owner end a passage, or cuts it. It has a place, and gives it back.
func (m *rerouting) move(ctx context.Context, p *passage) {
	ctx, cancel := context.WithTimeout(ctx, rerouteTimeout)
	defer cancel()
	for pause := firstPause; ; pause *= 2 {
		err := m.f.askReroute(ctx, p)
		if errors.Is(err, context.DeadlineExceeded) && pause == firstPause {
			m.hang.Store(p.peer, nil)
		}
		<-m.places
		if err != nil {
			m.f.opts.Logger.Debug("reroute_failed", "peer", p.peer.Tag, "addr", p.peer.Addr, "error", err)
			p.cut()
			return
		}
		select {
		case <-p.over:
			return
		case <-ctx.Done():
			p.cut()
			return
		case <-time.After(pause): // the request may have overtaken the poll
		}
		select {
		case m.places <- struct{}{}:
		case <-ctx.Done():
			p.cut()
			return
		}
	}
}

var errNotRerouted = errors.New("the owner does not know how")

func (f *Forwarder) askReroute(ctx context.Context, p *passage) error {
	u := &url.URL{Scheme: "http", Host: p.peer.Addr, Path: Prefix + reroutePath}
	u.RawQuery = url.Values{"sid": {sidOf(p.query)}, "transport": {p.transport}}.Encode()
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
