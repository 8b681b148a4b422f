package adapter

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/seed-0b620db0/patchbay/pkg/sio"
)

// minBackoff is the pause before a bus is opened for the second time.
const minBackoff = 50 * time.Millisecond

// maxChanged bounds what is remembered of rooms that change while a bus is being opened.
const maxChanged = 1 << 16

// link is what the messages of a namespace go through. Each bus makes a new one, and so does the loss of it.
type link struct {
	bus    Bus     // nil: err says why
	census Census  // the bus, if it is one; else there are heartbeats
	rooms  RoomBus // the bus, if it is one
	err    error
}

func downLink(reason error) *link { return &link{err: fmt.Errorf("%w: %w", ErrDown, reason)} }

// run keeps the bus open until ctx is done.
func (c *cluster) run(ctx context.Context) {
	log := c.opts.Logger.With("namespace", c.ns, "node", c.self)
	c.state(errNotOpen)
	for backoff := minBackoff; ctx.Err() == nil; {
		opened := time.Now()
		err := c.session(ctx)
		if ctx.Err() != nil {
			break
		}
		c.state(err)
		if time.Since(opened) > c.opts.MaxBackoff { // it was up, or took its time to fail
			backoff = minBackoff
		}
		pause := min(backoff, c.opts.MaxBackoff)
		pause -= rand.N(pause/2 + 1) // so that the nodes do not come back all at once
		backoff = min(2*backoff, c.opts.MaxBackoff)
		log.Warn("bus_down", "error", err, "retry", pause)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
	if f := c.opts.Hooks.Closed; f != nil {
		f(c.ns)
	}
}

func (c *cluster) state(err error) {
	if f := c.opts.Hooks.State; f != nil {
		f(c.ns, err)
	}
}

// session opens a bus and returns when it has ended, with the reason.
func (c *cluster) session(ctx context.Context) error {
	c.mu.Lock()
	c.changed = make(map[string]struct{})
	c.mu.Unlock()
	bus, err := c.open(ctx, c.local, c.self)
	if err != nil {
		c.replace(downLink(err))
		return err
	}
	l := &link{bus: bus}
	l.census, _ = bus.(Census)
	l.rooms, _ = bus.(RoomBus)
	c.up(l)
	c.state(nil)
	c.opts.Logger.Info("bus_up", "namespace", c.ns, "node", c.self)

	var beats sync.WaitGroup
	beating, stop := context.WithCancel(ctx)
	if l.census == nil {
		beats.Go(func() { c.beat(beating) })
	}
	if err = bus.Run(ctx, c.receive); err == nil {
		err = errEnded
	}
	c.replace(downLink(err))
	stop()
	beats.Wait()
	return err
}

// up makes l the link, and tells it of the rooms that have changed while it was being made.
func (c *cluster) up(l *link) {
	changed := c.replace(l)
	if l.rooms == nil {
		return
	}
	for room := range changed {
		l.rooms.RoomChanged(room)
	}
	if len(changed) == maxChanged { // there may have been more
		for _, room := range append(c.local.Rooms(), c.local.IDs(sio.Target{})...) {
			l.rooms.RoomChanged(room)
		}
	}
}

// replace makes l the link, unless the namespace is closed. It returns the rooms that have changed since c.changed was made.
func (c *cluster) replace(l *link) (changed map[string]struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.link.Store(l)
	}
	changed, c.changed = c.changed, nil
	return changed
}

// RoomChanged implements sio.RoomWatcher.
func (c *cluster) RoomChanged(room string) {
	l := c.link.Load()
	if l.bus == nil { // or was, a moment ago
		c.mu.Lock()
		if l = c.link.Load(); c.changed != nil && len(c.changed) < maxChanged {
			c.changed[room] = struct{}{}
		}
		c.mu.Unlock()
	}
	if l.rooms != nil {
		l.rooms.RoomChanged(room)
	}
}

// AwaitRooms implements sio.RoomAwaiter.
func (c *cluster) AwaitRooms(ctx context.Context, rooms []string) error {
	l := c.link.Load()
	if l.rooms == nil {
		return l.err
	}
	return l.rooms.AwaitRooms(ctx, rooms)
}

// SocketChanged implements sio.SocketWatcher.
func (c *cluster) SocketChanged(id string) { c.RoomChanged(id) }
