//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/seed-0b620db0/patchbay/internal/load"
)

// cluster is clients that are split between two nodes, and one more on each, who sends.
type cluster struct {
	senders [2]*load.Client
	stop    []func()
}

func (c *cluster) close() {
	for _, f := range c.stop {
		f()
	}
}

// cluster connects the clients, when the nodes hear each other. Those of both nodes are in each of the rooms.
func (t *trial) cluster(ctx context.Context, rooms int, receive func(text []byte)) (*cluster, error) {
	c := new(cluster)
	var joined atomic.Int64
	var met [2]atomic.Bool
	prefix := []byte(`["message",`)
	each := t.size.members / 2
	for i, srv := range []*process{t.srv, t.peer} {
		g, stop, err := generatorFor(srv, load.Options{})
		if err != nil {
			c.close()
			return nil, err
		}
		c.stop = append(c.stop, stop)
		all, err := t.connect(ctx, g, each+1, func(_ *load.Client, m *load.Message) {
			if m.Type == load.Ack {
				joined.Add(1)
				return
			}
			text, ok := bytes.CutPrefix(m.Data, prefix)
			if !ok {
				t.lost.add(fmt.Errorf("got %.100q", m.Data))
				return
			}
			if name, ok := bytes.CutPrefix(text, []byte(`"node`)); ok {
				if int(name[0]-'0') != i {
					met[i].Store(true)
				}
				return
			}
			receive(text)
		})
		if err == nil {
			err = all[0].Send(&load.Message{Type: load.Event, ID: 0, Data: []byte(`["join","nodes"]`)})
		}
		for k := 0; k < each && err == nil; k++ {
			err = all[k+1].Send(&load.Message{Type: load.Event, ID: 0, Data: fmt.Appendf(nil, `["join","room%d"]`, k%rooms)})
		}
		if err != nil {
			c.close()
			return nil, err
		}
		c.senders[i] = all[0]
	}
	err := until(ctx, func() bool { return joined.Load() == int64(2*each+2) })
	if err == nil {
		err = c.meet(ctx, &met)
	}
	if err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

// meet waits until the nodes hear each other: they serve clients before that.
func (c *cluster) meet(ctx context.Context, met *[2]atomic.Bool) error {
	calls := 0
	var lost error
	err := until(ctx, func() bool {
		for i, sender := range c.senders {
			if calls%20 == 0 && lost == nil {
				lost = sender.Send(&load.Message{Type: load.Event, ID: load.NoAck, Data: fmt.Appendf(nil, `["broadcast","nodes","node%d"]`, i)})
			}
		}
		calls++
		return lost != nil || met[0].Load() && met[1].Load()
	})
	if err != nil {
		err = fmt.Errorf("the nodes do not hear each other: %w", err)
	}
	return errors.Join(lost, err)
}

// clusterBroadcasts sends to all at a fixed rate, from either node in turn. It returns what was used by what was published.
func clusterBroadcasts(ctx context.Context, t *trial, name string) (published usage, err error) {
	var from, done atomic.Int64
	var times load.Histogram
	c, err := t.cluster(ctx, 1, func(text []byte) {
		due, ok := load.Stamped(text)
		if !ok {
			t.lost.add(fmt.Errorf("got %.100q", text))
		}
		if start := from.Load(); start > 0 && due >= start {
			times.Record(time.Duration(load.Now() - due))
		}
		done.Add(1)
	})
	if err != nil {
		return usage{}, err
	}
	defer c.close()
	members := t.size.members / 2 * 2
	used, err := t.paced(ctx, 20, 2*t.size.run, &from, &done, members, func(i int, due int64) error {
		return broadcastTo(c.senders[i%2], "room0", due, 'a')
	})
	t.note(name, used)
	t.values[name+"/cpu"] = used.each(time.Microsecond)
	t.latency(name, &times)
	return used.by(members), err
}

// clusterInFlight sends a broadcast to the next room, from the next node, when all members of one have received theirs. It
// returns what was used by what was published.
func clusterInFlight(ctx context.Context, t *trial, row string, rooms, inFlight int) (published usage, err error) {
	var done, next atomic.Int64
	left := make([]atomic.Int64, inFlight)
	each := t.size.members / 2 / rooms * 2
	var c *cluster
	send := func(slot int) {
		left[slot].Store(int64(each))
		n := int(next.Add(1))
		err := broadcastTo(c.senders[n%2], fmt.Sprint("room", n%rooms), 0, byte('0'+slot))
		if err != nil && !errors.Is(err, load.ErrClosed) {
			t.lost.add(err)
		}
	}
	c, err = t.cluster(ctx, rooms, func(text []byte) {
		done.Add(1)
		if slot := int(text[payload] - '0'); left[slot].Add(-1) == 0 {
			send(slot)
		}
	})
	if err != nil {
		return usage{}, err
	}
	defer c.close()
	for slot := range inFlight {
		send(slot)
	}
	if err := pause(ctx, t.size.warm); err != nil {
		return usage{}, err
	}
	used, err := t.measure(&done, func() error { return pause(ctx, t.size.run) })
	t.note(row, used)
	t.values[row] = used.each(time.Microsecond)
	return used.by(each), err
}

func clusterOfOneRoom(row string) func(ctx context.Context, t *trial) error {
	return func(ctx context.Context, t *trial) error {
		_, err := clusterInFlight(ctx, t, row, 1, 8)
		return err
	}
}
