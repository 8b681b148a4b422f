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

// scenario fills rows. Each runs on a server of its own.
type scenario struct {
	rows []string
	once bool   // is many rounds in itself
	bus  string // joins two nodes
	run  func(ctx context.Context, t *trial) error
}

var scenarios = []scenario{
	{rows: []string{"idle/rss", "idle/heartbeat", "connect/cpu", "connect/rate"}, run: idle},
	{rows: []string{"room/cpu", "room/p50", "room/p99", "room/p99.9"}, run: func(ctx context.Context, t *trial) error {
		return broadcasts(ctx, t, "room", t.size.crowd, 2, 2*t.size.run)
	}},
	{rows: []string{"polling/between"}, run: func(ctx context.Context, t *trial) error { return idlePolling(ctx, t, "polling/between", true) }},
	{rows: []string{"polling/waiting"}, run: func(ctx context.Context, t *trial) error { return idlePolling(ctx, t, "polling/waiting", false) }},
	{rows: []string{"echo/1"}, run: func(ctx context.Context, t *trial) error { return echoes(ctx, t, "echo/1", load.WebSocket, 1) }},
	{rows: []string{"echo/8"}, run: func(ctx context.Context, t *trial) error { return echoes(ctx, t, "echo/8", load.WebSocket, 8) }},
	{rows: []string{"echo/p50", "echo/p99", "echo/p99.9"}, run: echoLatency},
	{rows: []string{"broadcast/cpu", "broadcast/p50", "broadcast/p99", "broadcast/p99.9"}, run: func(ctx context.Context, t *trial) error {
		return broadcasts(ctx, t, "broadcast", t.size.members, 20, 2*t.size.run)
	}},
	{rows: []string{"broadcast/8"}, run: broadcastsInFlight},
	{rows: []string{"polling/echo"}, run: func(ctx context.Context, t *trial) error { return echoes(ctx, t, "polling/echo", load.Polling, 1) }},
	{rows: []string{"binary/cpu", "binary/rate"}, run: binaries},
	{rows: []string{"redis/cpu", "redis/p50", "redis/p99", "redis/p99.9"}, bus: "redis", run: func(ctx context.Context, t *trial) error {
		_, err := clusterBroadcasts(ctx, t, "redis")
		return err
	}},
	{rows: []string{"redis/8"}, bus: "redis", run: clusterOfOneRoom("redis/8")},
	{rows: []string{"redis/rooms"}, bus: "redis", run: func(ctx context.Context, t *trial) error {
		_, err := clusterInFlight(ctx, t, "redis/rooms", t.size.members/10, 32)
		return err
	}},
	{rows: []string{"postgres/cpu", "postgres/p50", "postgres/p99", "postgres/p99.9", "postgres/db"}, bus: "postgres", run: postgresBroadcasts},
	{rows: []string{"postgres/8"}, bus: "postgres", run: clusterOfOneRoom("postgres/8")},
	{rows: []string{"postgres/rooms", "postgres/publishes", "postgres/db-rooms"}, bus: "postgres", run: postgresRooms},
	{rows: []string{"churn/growth"}, once: true, run: churn},
}

// Payloads are strings of this many characters, which hold the time they were due.
const payload = 64

func idle(ctx context.Context, t *trial) error {
	g, stop, err := t.generator(load.Options{})
	if err != nil {
		return err
	}
	defer stop()
	var joined atomic.Int64
	err = t.growth(ctx, "idle/rss", t.size.idle, func() error {
		used, err := t.measure(&joined, func() error {
			clients, err := t.connect(ctx, g, t.size.idle, nil)
			joined.Add(int64(len(clients)))
			return err
		})
		if err != nil {
			return err
		}
		t.note("connect", used)
		t.values["connect/cpu"], t.values["connect/rate"] = used.each(time.Microsecond), used.rate()
		return nil
	})
	if err != nil {
		return err
	}
	if !t.first || !t.wanted("idle/heartbeat") {
		return nil
	}
	// The clients came in a rush, and their pings do: whole intervals hold the same number of them.
	used, err := t.measure(&joined, func() error {
		joined.Add(max(1, int64(t.size.beats/(25*time.Second))*int64(t.size.idle)))
		return pause(ctx, t.size.beats)
	})
	t.note("heartbeat", used)
	t.values["idle/heartbeat"] = 100 * used.cpu.Seconds() / used.wall.Seconds()
	return err
}

// growth sets row to the memory in KiB that the server uses more for each of n clients when connect has brought them.
func (t *trial) growth(ctx context.Context, row string, n int, connect func() error) error {
	if err := pause(ctx, t.size.settle/5); err != nil {
		return err
	}
	before, err := t.srv.rss()
	if err != nil {
		return err
	}
	if err := connect(); err != nil {
		return err
	}
	if err := pause(ctx, t.size.settle); err != nil {
		return err
	}
	after, err := t.srv.rss()
	if err != nil {
		return err
	}
	t.values[row] = (after - before) / float64(n) / 1024
	return nil
}

func idlePolling(ctx context.Context, t *trial, row string, between bool) error {
	g, stop, err := t.generator(load.Options{Transport: load.Polling, StopPolling: between})
	if err != nil {
		return err
	}
	defer stop()
	err = t.growth(ctx, row, t.size.polling, func() error {
		_, err := t.connect(ctx, g, t.size.polling, nil)
		return err
	})
	return errors.Join(err, t.lost.err())
}

func churn(ctx context.Context, t *trial) error {
	g, stop, err := t.generator(load.Options{})
	if err != nil {
		return err
	}
	defer stop()
	var first, last float64
	for i := range 5 {
		if _, err := t.connect(ctx, g, t.size.churn, nil); err != nil {
			return err
		}
		g.CloseClients()
		if err := pause(ctx, t.size.settle); err != nil {
			return err
		}
		if last, err = t.srv.rss(); err != nil {
			return err
		}
		if i == 0 {
			first = last
		}
	}
	t.notes = append(t.notes, fmt.Sprintf("RSS %.1f MB, then %.1f MB", first/1e6, last/1e6))
	t.values["churn/growth"] = last / first
	return t.lost.err()
}

// echoes keeps some events of each of 100 clients in flight.
func echoes(ctx context.Context, t *trial, row string, transport load.Transport, inFlight int) error {
	text := load.Stamp(nil, 0, payload)
	used, err := t.pingPong(ctx, transport, 100, inFlight, load.Message{Data: fmt.Appendf(nil, `["echo",%s]`, text)}, fmt.Appendf(nil, "[%s]", text))
	t.note(row, used)
	t.values[row] = used.each(time.Microsecond)
	return err
}

func binaries(ctx context.Context, t *trial) error {
	m := load.Message{Data: []byte(`["binary",{"_placeholder":true,"num":0}]`), Attachments: [][]byte{bytes.Repeat([]byte("0123456789"), 100_000)}}
	used, err := t.pingPong(ctx, load.WebSocket, 4, 1, m, []byte(`[{"_placeholder":true,"num":0}]`))
	t.note("binary", used)
	t.values["binary/cpu"], t.values["binary/rate"] = used.each(time.Millisecond), used.rate()
	return err
}

// pingPong sends m again for each acknowledgement, which must be the expected one.
func (t *trial) pingPong(ctx context.Context, transport load.Transport, clients, inFlight int, m load.Message, expected []byte) (usage, error) {
	g, stop, err := t.generator(load.Options{Transport: transport})
	if err != nil {
		return usage{}, err
	}
	defer stop()
	m.Type = load.Event
	var done atomic.Int64
	send := func(c *load.Client, id int) {
		again := m
		again.ID = id
		if err := c.Send(&again); err != nil && !errors.Is(err, load.ErrClosed) {
			t.lost.add(err)
		}
	}
	all, err := t.connect(ctx, g, clients, func(c *load.Client, got *load.Message) {
		if got.Type != load.Ack || !bytes.Equal(got.Data, expected) || len(got.Attachments) != len(m.Attachments) ||
			len(got.Attachments) > 0 && !bytes.Equal(got.Attachments[0], m.Attachments[0]) {
			t.lost.add(fmt.Errorf("got %.100q", got.Data))
		}
		done.Add(1)
		send(c, got.ID)
	})
	if err != nil {
		return usage{}, err
	}
	for _, c := range all {
		for id := range inFlight {
			send(c, id)
		}
	}
	if err := pause(ctx, t.size.warm); err != nil {
		return usage{}, err
	}
	return t.measure(&done, func() error { return pause(ctx, t.size.run) })
}

// echoLatency sends at a fixed rate, whatever comes back.
func echoLatency(ctx context.Context, t *trial) error {
	const perSecond = 2_000
	g, stop, err := t.generator(load.Options{})
	if err != nil {
		return err
	}
	defer stop()
	var from, done atomic.Int64
	var times load.Histogram
	all, err := t.connect(ctx, g, 100, func(_ *load.Client, m *load.Message) {
		due, ok := load.Stamped(m.Data[1:])
		if !ok {
			t.lost.add(fmt.Errorf("got %.100q", m.Data))
		}
		if start := from.Load(); start > 0 && due >= start {
			times.Record(time.Duration(load.Now() - due))
		}
		done.Add(1)
	})
	if err != nil {
		return err
	}
	used, err := t.paced(ctx, perSecond, 2*t.size.run, &from, &done, 1, func(i int, due int64) error {
		text := append(load.Stamp([]byte(`["echo",`), due, payload), ']')
		return all[i%len(all)].Send(&load.Message{Type: load.Event, ID: i, Data: text})
	})
	t.note("echo at a fixed rate", used)
	t.latency("echo", &times)
	return err
}

// paced calls send at a fixed rate, for warming and then for d, and waits for all answers: each brings some.
func (t *trial) paced(ctx context.Context, perSecond float64, d time.Duration, from, done *atomic.Int64, each int, send func(i int, due int64) error) (usage, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	sent := make(chan int64, 1)
	go func() { // until cancel; its result is awaited
		var n int64
		load.Pace(ctx, perSecond, func(i int, due int64) {
			if err := send(i, due); err != nil {
				t.lost.add(err)
			}
			n++
		})
		sent <- n
	}()
	used, err := usage{}, pause(ctx, t.size.warm)
	if err == nil {
		from.Store(load.Now())
		used, err = t.measure(done, func() error { return pause(ctx, d) })
	}
	cancel()
	want := <-sent * int64(each)
	if err != nil {
		return used, err
	}
	if err := until(context.WithoutCancel(ctx), func() bool { return done.Load() >= want }); err != nil {
		return used, fmt.Errorf("%d of %d arrived: %w", done.Load(), want, err)
	}
	if got := done.Load(); got != want {
		return used, fmt.Errorf("%d arrived of %d sent", got, want)
	}
	return used, t.lost.err()
}

// room makes clients that have joined a room, and one that has not.
func (t *trial) room(ctx context.Context, g *load.Generator, members int, receive func(m *load.Message, text []byte)) (*load.Client, error) {
	var joined atomic.Int64
	prefix := []byte(`["message",`)
	all, err := t.connect(ctx, g, members+1, func(_ *load.Client, m *load.Message) {
		if m.Type == load.Ack {
			joined.Add(1)
			return
		}
		text, ok := bytes.CutPrefix(m.Data, prefix)
		if !ok {
			t.lost.add(fmt.Errorf("got %.100q", m.Data))
			return
		}
		receive(m, text)
	})
	if err != nil {
		return nil, err
	}
	for _, c := range all[1:] {
		if err := c.Send(&load.Message{Type: load.Event, ID: 0, Data: []byte(`["join","room"]`)}); err != nil {
			return nil, err
		}
	}
	return all[0], until(ctx, func() bool { return joined.Load() == int64(members) })
}

func broadcast(c *load.Client, due int64, slot byte) error { return broadcastTo(c, "room", due, slot) }

func broadcastTo(c *load.Client, room string, due int64, slot byte) error {
	data := append(load.Stamp(fmt.Appendf(nil, `["broadcast",%q,`, room), due, payload), ']')
	data[len(data)-3] = slot // the last of the characters
	return c.Send(&load.Message{Type: load.Event, ID: load.NoAck, Data: data})
}

func broadcasts(ctx context.Context, t *trial, name string, members int, perSecond float64, d time.Duration) error {
	g, stop, err := t.generator(load.Options{})
	if err != nil {
		return err
	}
	defer stop()
	var from, done atomic.Int64
	var times load.Histogram
	sender, err := t.room(ctx, g, members, func(_ *load.Message, text []byte) {
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
		return err
	}
	used, err := t.paced(ctx, perSecond, d, &from, &done, members, func(_ int, due int64) error { return broadcast(sender, due, 'a') })
	t.note(name, used)
	t.values[name+"/cpu"] = used.each(time.Microsecond)
	t.latency(name, &times)
	return err
}

// broadcastsInFlight sends a broadcast again when all members have received it.
func broadcastsInFlight(ctx context.Context, t *trial) error {
	const inFlight = 8
	g, stop, err := t.generator(load.Options{})
	if err != nil {
		return err
	}
	defer stop()
	var done atomic.Int64
	var left [inFlight]atomic.Int64
	var sender *load.Client
	send := func(slot byte) {
		left[slot].Store(int64(t.size.members))
		if err := broadcast(sender, 0, 'a'+slot); err != nil && !errors.Is(err, load.ErrClosed) {
			t.lost.add(err)
		}
	}
	sender, err = t.room(ctx, g, t.size.members, func(_ *load.Message, text []byte) {
		done.Add(1)
		if slot := text[payload] - 'a'; left[slot].Add(-1) == 0 {
			send(slot)
		}
	})
	if err != nil {
		return err
	}
	for slot := range inFlight {
		send(byte(slot))
	}
	if err := pause(ctx, t.size.warm); err != nil {
		return err
	}
	used, err := t.measure(&done, func() error { return pause(ctx, t.size.run) })
	t.note("broadcast/8", used)
	t.values["broadcast/8"] = used.each(time.Microsecond)
	return err
}
