package sio_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-0b620db0/patchbay/pkg/sio"
)

// asked splits an event that wants an acknowledgement into its id and the rest.
func asked(t testing.TB, packet string) (id, rest string) {
	t.Helper()
	i := strings.IndexByte(packet, '[')
	if i < 2 || packet[0] != '2' {
		t.Fatalf("got %q, want an event with an id", packet)
	}
	return packet[1:i], packet[i:]
}

// wantAsked takes the next packet, an event, and returns its id.
func (c *client) wantAsked(event string) string {
	c.l.t.Helper()
	packet, _ := c.next()
	id, rest := asked(c.l.t, packet)
	if rest != event {
		c.l.t.Errorf("got %q, want %q", rest, event)
	}
	return id
}

// An acknowledgement passes the events that wait: a handler may wait for one of its own socket.
func TestAckOvertakesEvents(t *testing.T) {
	bubble(t, nil, func(t *testing.T, l *lab) {
		var g log
		l.On("ask", func(ctx context.Context, s *sio.Socket, ev *sio.Event) error {
			args, err := s.EmitWithAck(ctx, "question", "?")
			if err != nil {
				return err
			}
			var answer string
			var bin []byte
			if err := args.Decode(&answer, &bin); err != nil {
				return err
			}
			g.add("answer %s %s", answer, bin)
			return ev.Ack("thanks")
		})
		l.On("next", func(context.Context, *sio.Socket, *sio.Event) error { g.add("next"); return nil })
		for _, transport := range transports {
			g.lines = nil
			c := l.open(transport)
			c.connect("/", "")
			c.send(`25["ask"]`, `2["next"]`)
			id := c.wantAsked(`["question","?"]`)
			g.want(t)
			if transport == transports[0] {
				c.send("61-"+id+`["yes",{"_placeholder":true,"num":0}]`, "bin:blob")
				g.want(t, "answer yes blob", "next")
			} else {
				c.send("3" + id + `["yes"]`)
				g.want(t, "answer yes ", "next")
			}
			c.want(`35["thanks"]`)
		}
	})
}

func TestLesson19_EmitWithAck(t *testing.T) {
	type result struct {
		args sio.Args
		err  error
		took time.Duration
	}
	var timedOut, acked atomic.Int64
	opts := &sio.Options{AckTimeout: 7 * time.Second, Hooks: sio.Hooks{
		Acked:       func(*sio.Namespace) { acked.Add(1) },
		AckTimedOut: func(*sio.Namespace) { timedOut.Add(1) },
	}}
	bubble(t, opts, func(t *testing.T, l *lab) {
		c := l.ws()
		c.connect("/", "")
		synctest.Wait()
		s := only(t, l.Of("/"))
		ask := func(ctx context.Context) (id string, got func() result) {
			t.Helper()
			done := make(chan result, 1)
			go func() { // ends with the answer or the time
				start := time.Now()
				args, err := s.EmitWithAck(ctx, "q")
				done <- result{args, err, time.Since(start)}
			}()
			return c.wantAsked(`["q"]`), func() result { return <-done }
		}

		id, got := ask(t.Context())
		c.send("3" + id + `[1,"a"]`)
		if r := got(); r.err != nil || r.args.Len() != 2 || string(r.args.Raw(1).JSON) != `"a"` {
			t.Errorf("answer: %v, %v", r.args.Len(), r.err)
		}
		c.send("3"+id+"[2]", "3999999[]", "3[]") // twice, never asked, without id
		id, got = ask(t.Context())
		c.send("3" + id)
		if r := got(); r.err != nil || r.args.Len() != 0 {
			t.Errorf("empty answer: %v, %v", r.args.Len(), r.err)
		}

		_, got = ask(t.Context())
		if r := got(); !errors.Is(r.err, sio.ErrAckTimeout) || !errors.Is(r.err, context.DeadlineExceeded) || r.took != 7*time.Second {
			t.Errorf("default time-out: %v after %v", r.err, r.took)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		id, got = ask(ctx)
		if r := got(); !errors.Is(r.err, sio.ErrAckTimeout) || r.took != time.Minute {
			t.Errorf("own deadline: %v after %v", r.err, r.took)
		}
		cancel()
		c.send("3" + id + "[]") // late
		ctx, stop := context.WithCancelCause(t.Context())
		_, got = ask(ctx)
		mine := errors.New("mine")
		stop(mine)
		if r := got(); !errors.Is(r.err, mine) || errors.Is(r.err, sio.ErrAckTimeout) {
			t.Errorf("cancelled: %v", r.err)
		}
		if n := sio.PendingAcks(s); n != 0 {
			t.Errorf("%d acknowledgements awaited", n)
		}
		synctest.Wait()
		if acked.Load() != 2 || timedOut.Load() != 3 {
			t.Errorf("hooks: %d acked, %d timed out", acked.Load(), timedOut.Load())
		}

		_, got = ask(t.Context())
		_, got2 := ask(s.Context())
		c.cut()
		for _, f := range []func() result{got, got2} {
			r := f()
			if e, ok := errors.AsType[*sio.DisconnectError](r.err); !ok || e.Reason != sio.ReasonTransportClose {
				t.Errorf("disconnect: %v", r.err)
			}
		}
		if _, err := s.EmitWithAck(t.Context(), "q"); !errors.Is(err, sio.ErrDisconnected) {
			t.Errorf("afterwards: %v", err)
		}
		if _, err := s.EmitWithAck(t.Context(), "connect"); err == nil {
			t.Error("a reserved name was sent")
		}
	})
}

func TestMaxPendingAcks(t *testing.T) {
	bubble(t, &sio.Options{MaxPendingAcks: 2}, func(t *testing.T, l *lab) {
		c := l.ws()
		c.connect("/", "")
		synctest.Wait()
		s := only(t, l.Of("/"))
		errs := make(chan error, 2)
		for range 2 {
			go func() { _, err := s.EmitWithAck(t.Context(), "q"); errs <- err }() // ends with the time-out
		}
		c.wantAsked(`["q"]`)
		c.wantAsked(`["q"]`)
		if _, err := s.EmitWithAck(t.Context(), "q"); !errors.Is(err, sio.ErrTooManyAcks) {
			t.Errorf("the third: %v", err)
		}
		for _, err := range l.EmitWithAck(t.Context(), "q") {
			if !errors.Is(err, sio.ErrTooManyAcks) {
				t.Errorf("a broadcast: %v", err)
			}
		}
		c.wantNone()
		for range 2 {
			if err := <-errs; !errors.Is(err, sio.ErrAckTimeout) {
				t.Error(err)
			}
		}
		if n := sio.PendingAcks(s); n != 0 {
			t.Errorf("%d acknowledgements awaited", n)
		}
	})
}

// collected ranges over a broadcast's acknowledgements.
type collected struct {
	answers []string
	errs    []error
	took    time.Duration
}

func gather(b sio.Broadcast, limit int) chan collected {
	done := make(chan collected, 1)
	go func() { // ends with the broadcast
		var c collected
		start := time.Now()
		for args, err := range b.EmitWithAck(context.Background(), "q") {
			if err != nil {
				c.errs = append(c.errs, err)
			} else {
				var s string
				_ = args.Decode(&s)
				c.answers = append(c.answers, s)
			}
			if len(c.answers)+len(c.errs) == limit {
				break
			}
		}
		c.took = time.Since(start)
		slices.Sort(c.answers)
		done <- c
	}()
	return done
}

func TestBroadcastWithAck(t *testing.T) {
	bubble(t, &sio.Options{AckTimeout: 10 * time.Second}, func(t *testing.T, l *lab) {
		clients, sockets := crowd(l, 3)
		pending := func() (n int) {
			synctest.Wait()
			for _, s := range sockets {
				n += sio.PendingAcks(s)
			}
			return n
		}
		answer := func(i int) {
			t.Helper()
			clients[i].send(fmt.Sprintf(`3%s["c%d"]`, clients[i].wantAsked(`["q"]`), i))
		}

		done := gather(l.Except(), 0)
		for i := range clients {
			answer(i)
		}
		if r := <-done; !slices.Equal(r.answers, []string{"c0", "c1", "c2"}) || len(r.errs) != 0 || r.took != 0 {
			t.Errorf("all: %v", r)
		}

		if r := <-gather(l.To("nobody"), 0); len(r.answers)+len(r.errs) != 0 || r.took != 0 {
			t.Errorf("no recipient: %v", r)
		}

		done = gather(l.Except(), 0)
		answer(1)
		r := <-done
		if !slices.Equal(r.answers, []string{"c1"}) || len(r.errs) != 1 || !errors.Is(r.errs[0], sio.ErrAckTimeout) || r.took != 10*time.Second {
			t.Errorf("one of three: %v", r)
		}
		if !strings.Contains(r.errs[0].Error(), "2 of 3") {
			t.Errorf("the error does not say how many are missing: %v", r.errs[0])
		}
		late := clients[0].wantAsked(`["q"]`)
		clients[0].send("3" + late + `["late"]`)
		clients[2].wantAsked(`["q"]`)
		if n := pending(); n != 0 {
			t.Errorf("%d acknowledgements awaited after the time-out", n)
		}

		done = gather(l.Except().Timeout(time.Second), 0)
		if r := <-done; len(r.answers) != 0 || len(r.errs) != 1 || r.took != time.Second {
			t.Errorf("none: %v", r)
		}
		for _, c := range clients {
			c.wantAsked(`["q"]`)
		}

		done = gather(l.Except(), 1) // breaks after the first
		answer(0)
		if r := <-done; !slices.Equal(r.answers, []string{"c0"}) {
			t.Errorf("break: %v", r)
		}
		if n := pending(); n != 0 {
			t.Errorf("%d acknowledgements awaited after a break", n)
		}
		clients[1].wantAsked(`["q"]`)
		clients[2].wantAsked(`["q"]`)

		done = gather(l.Except(), 0)
		answer(0)
		answer(1)
		clients[2].cut()
		r = <-done
		if !slices.Equal(r.answers, []string{"c0", "c1"}) || len(r.errs) != 1 || !errors.Is(r.errs[0], sio.ErrDisconnected) || r.took != 0 {
			t.Errorf("one leaves: %v", r)
		}

		for _, err := range l.To("never").EmitWithAck(t.Context(), "disconnect") {
			if err == nil {
				t.Error("a reserved name was sent")
			}
		}
		_ = l.EmitWithAck(t.Context(), "not ranged over")
		clients[0].wantNone()
	})
}

// What an outgoing listener does on the goroutine that asks on a broadcast's behalf must not end the process.
func TestPanicInOnAnyOutgoing(t *testing.T) {
	if inChild(t) {
		l := newLab(t, nil)
		l.OnAnyOutgoing(func(*sio.Socket, *sio.Outgoing) { panic("boom") })
		c := l.ws()
		c.connect("/", "")
		until(t, "connected", func() bool { return l.Len() == 1 })
		for _, err := range l.Local().Timeout(10*time.Millisecond).EmitWithAck(t.Context(), "q") {
			if err == nil {
				t.Error("somebody answered")
			}
		}
		return
	}
	if out, err := child(t); err != nil {
		t.Errorf("the process died: %v\n%.600s", err, out)
	}
}

func TestEventAck(t *testing.T) {
	bubble(t, nil, func(t *testing.T, l *lab) {
		events := make(chan *sio.Event, 1)
		l.OnAny(func(_ context.Context, _ *sio.Socket, ev *sio.Event) { events <- ev })
		c := l.ws()
		c.connect("/", "")

		c.send(`2["e"]`)
		ev := <-events
		if err := ev.Ack(); !errors.Is(err, sio.ErrNoAck) || ev.NeedsAck() {
			t.Errorf("none was asked for: %v", err)
		}

		c.send(`2007["e"]`)
		ev = <-events
		synctest.Wait() // the handler has returned
		if err := ev.Ack(1, []byte("x"), nil); err != nil || !ev.NeedsAck() {
			t.Errorf("after the handler has returned: %v", err)
		}
		if err := ev.Ack(); !errors.Is(err, sio.ErrAcked) {
			t.Errorf("twice: %v", err)
		}
		c.want(`61-7[1,{"_placeholder":true,"num":0},null]`, "bin:x")

		c.send(`28["e"]`)
		ev = <-events
		if err := ev.Ack(make(chan int)); err == nil || errors.Is(err, sio.ErrAcked) {
			t.Errorf("a value that cannot be encoded: %v", err)
		}
		if err := ev.Ack("fallback"); err != nil { // nothing has gone out
			t.Errorf("after one that could not be encoded: %v", err)
		} else {
			c.want(`38["fallback"]`)
		}

		c.send(`29["e"]`)
		ev = <-events
		c.cut()
		synctest.Wait()
		if err := ev.Ack(); !errors.Is(err, sio.ErrDisconnected) {
			t.Errorf("after the disconnect: %v", err)
		}
	})
}
