package loadtest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-0b620db0/patchbay/internal/load"
)

// test is one run.
type test struct {
	o      *options
	gen    *load.Generator
	prefix []byte // of the packets that deliver an event of the relay

	connected, failed, lost      atomic.Int64 // clients; those lost had been connected
	sent, due, received, refused atomic.Int64 // events sent, deliveries that must follow, those that did, refusals
	answered                     atomic.Int64 // events of the relay that were accepted or refused
	firstError                   atomic.Pointer[string]
	connects, deliveries         load.Histogram

	mu    sync.Mutex
	all   []*member
	rooms [][]*member
}

// member is a client and its room.
type member struct {
	*test
	c      *load.Client
	room   int
	joined chan error // of the relay; has room for one answer
	gone   atomic.Bool
	ready  bool // counts as connected; guarded by test.mu
}

func newTest(o *options) (*test, error) {
	gen, err := load.New(&o.Options)
	if err != nil {
		return nil, err
	}
	name, err := json.Marshal(o.event)
	if err != nil {
		return nil, err
	}
	return &test{o: o, gen: gen, prefix: fmt.Appendf(nil, "[%s,", name), rooms: make([][]*member, o.rooms)}, nil
}

func (t *test) failure(err error) {
	text := err.Error()
	t.firstError.CompareAndSwap(nil, &text)
}

// grace is the time that answers have to arrive when all is sent.
const grace = 5 * time.Second

// run connects the clients, sends, waits for the rest, and closes them.
func (t *test) run(ctx context.Context, progress io.Writer) *summary {
	stop := t.report(progress)
	begin := time.Now()
	t.connect(ctx)
	ramped := time.Since(begin)
	if ctx.Err() == nil && t.connected.Load() > 0 {
		t.send(ctx)
	}
	sending := time.Since(begin) - ramped
	t.await(grace, func() bool { return t.missing() <= 0 || t.gen.Len() == 0 })
	sum := t.sum(ramped, sending)
	sum.Interrupted = ctx.Err() != nil
	t.gen.Close()
	stop()
	return sum
}

// missing is how many deliveries, and answers of the relay, are still to come.
func (t *test) missing() int64 {
	n := t.due.Load() - t.received.Load()
	if t.o.mode == modeRelay {
		n += max(0, t.sent.Load()-t.answered.Load())
	}
	return n
}

// await looks at cond until it is true or d is over.
func (t *test) await(d time.Duration, cond func() bool) {
	for deadline := time.Now().Add(d); !cond() && time.Now().Before(deadline); {
		time.Sleep(5 * time.Millisecond) // counters of many clients, not worth a signal for each
	}
}

// maxConnecting bounds the clients that connect at the same time; if the server is slower than the ramp, that waits.
const maxConnecting = 1000

// connect adds the clients, at the rate of the ramp. The time each takes counts from when it was due.
func (t *test) connect(ctx context.Context) {
	pacing, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	defer wg.Wait()
	slots := make(chan struct{}, maxConnecting)
	load.Pace(pacing, t.o.ramp, func(i int, due int64) {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			m := &member{test: t, room: i % t.o.rooms, joined: make(chan error, 1)}
			err := m.connect(ctx)
			switch {
			case err == nil:
				t.connects.Record(time.Duration(load.Now() - due))
				t.connected.Add(1)
			case ctx.Err() == nil:
				t.failed.Add(1)
				t.failure(err)
			}
		})
		if i == t.o.clients-1 {
			cancel()
		}
	})
}

// connect connects one client and joins its room.
func (m *member) connect(ctx context.Context) error {
	c, err := m.gen.Connect(ctx, m)
	if err != nil {
		return err
	}
	m.c = c
	if m.o.mode == modeRelay {
		if err := m.emit(joinID, "join", m.roomName()); err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(ctx, m.o.Timeout)
		defer cancel()
		select {
		case err = <-m.joined:
		case <-ctx.Done():
			err = fmt.Errorf("join: %w", context.Cause(ctx))
		}
		if err != nil {
			c.Close()
			return err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.gone.Load() {
		return errors.New("the connection ended at once")
	}
	m.ready = true
	m.all = append(m.all, m)
	m.rooms[m.room] = append(m.rooms[m.room], m)
	return nil
}

// Acknowledgement ids are the time the event was due, in µs, so that nothing needs to be remembered. This one is of a time
// before any event.
const joinID = 0

func (m *member) roomName() string { return m.o.room + ":" + strconv.Itoa(m.room) }

// emit sends an event whose arguments are strings.
func (m *member) emit(id int, args ...string) error {
	data, err := json.Marshal(args)
	if err != nil {
		return err
	}
	return m.c.Send(&load.Message{Type: load.Event, ID: id, Data: data})
}

// send lets the clients send in turn, until the time is over or none is left.
func (t *test) send(ctx context.Context) {
	if t.o.duration > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, t.o.duration)
		defer cancel()
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	rate := t.o.rate
	if t.o.mode == modeIdle {
		rate = 10 // looks whether anybody is left
	}
	load.Pace(ctx, rate, func(i int, due int64) {
		if t.gen.Len() == 0 {
			cancel()
			return
		}
		if m := t.all[i%len(t.all)]; t.o.mode != modeIdle && !m.gone.Load() {
			m.publish(due)
		}
	})
}

// publish sends one event.
func (m *member) publish(due int64) {
	text := string(load.Stamp(nil, due, m.o.payload))
	text = text[1 : len(text)-1]
	deliveries := 1
	args := []string{m.o.event, text}
	if m.o.mode == modeRelay {
		args = []string{"publish", m.roomName(), m.o.event, text}
		deliveries = 0
		for _, other := range m.rooms[m.room] {
			if other != m && !other.gone.Load() {
				deliveries++
			}
		}
	}
	m.due.Add(int64(deliveries))
	if err := m.emit(int(due/1000), args...); err != nil {
		m.due.Add(int64(-deliveries))
		if !m.gone.Load() && !errors.Is(err, load.ErrClosed) {
			m.failure(err) // it will be lost
		}
		return
	}
	m.sent.Add(1)
}

// Receive counts deliveries: of the relay they are events, else acknowledgements.
func (m *member) Receive(_ *load.Client, got *load.Message) {
	switch {
	case got.Type == load.Ack && m.o.mode == modeEcho:
		m.delivered(int64(got.ID) * 1000)
	case got.Type == load.Ack && m.o.mode == modeRelay:
		err := answer(got.Data)
		if got.ID == joinID {
			select {
			case m.joined <- err:
			default: // a second answer
			}
			break
		}
		m.answered.Add(1)
		if err != nil {
			m.refused.Add(1)
			m.failure(err)
		}
	case m.o.mode == modeRelay:
		if text, ok := bytes.CutPrefix(got.Data, m.prefix); ok {
			if due, ok := load.Stamped(text); ok {
				m.delivered(due)
			}
		}
	}
}

func (t *test) delivered(due int64) {
	t.deliveries.Record(time.Duration(load.Now() - due))
	t.received.Add(1)
}

// answer returns what an acknowledgement of the relay says.
func answer(data []byte) error {
	var got []struct {
		OK    bool
		Error string
	}
	if err := json.Unmarshal(data, &got); err != nil {
		return err
	}
	if len(got) == 0 || !got[0].OK {
		return fmt.Errorf("the relay refuses: %.200s", data)
	}
	return nil
}

// Lost counts the client, unless connect does because it has not finished.
func (m *member) Lost(_ *load.Client, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.gone.Store(true)
	if !m.ready {
		select {
		case m.joined <- err:
		default: // there is an answer
		}
		return
	}
	m.lost.Add(1)
	m.failure(fmt.Errorf("a client was lost: %w", err))
}
