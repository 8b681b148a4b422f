package sio_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-0b620db0/patchbay/pkg/eio"
	"github.com/seed-0b620db0/patchbay/pkg/sio"
)

// A client whose events nobody takes is not read any more, and lives on: it gets its pings, and counts as alive.
func TestBackPressure(t *testing.T) {
	for _, transport := range transports {
		t.Run(string(transport), func(t *testing.T) {
			bubble(t, &sio.Options{MaxEvents: 4}, func(t *testing.T, l *lab) {
				var (
					g       log
					release = make(chan struct{})
				)
				l.OnConnect(func(context.Context, *sio.Socket) error { <-release; return nil })
				l.On("e", sio.Receive(func(_ context.Context, _ *sio.Socket, n int) error { g.add("%d", n); return nil }))
				c := l.open(transport)
				c.connect("/", "")
				var sent sync.WaitGroup
				var want []string
				sent.Go(func() { // over polling a POST waits with its packet
					for n := range 20 {
						if err := c.trySend(fmt.Sprintf(`2["e",%d]`, n)); err != nil {
							t.Error(err)
						}
					}
				})
				for n := range 20 {
					want = append(want, fmt.Sprint(n))
				}
				time.Sleep(5*time.Minute + time.Second)
				c.wantAlive()
				if n := c.pings.Load(); n < 4 { // a stock client gives up without one in 45 s
					t.Errorf("%d pings in five minutes", n)
				}
				close(release)
				sent.Wait()
				g.want(t, want...)
				c.wantAlive()
				time.Sleep(5 * time.Minute)
				c.wantAlive()
			})
		})
	}
}

// MaxEvents bounds what waits, however it came to wait.
func TestMaxEvents(t *testing.T) {
	const limit = 4
	var arrived atomic.Int64 // what the reader has taken from the client
	opts := &sio.Options{MaxEvents: limit}
	opts.Engine.Hooks.Received = func(eio.Transport, int) { arrived.Add(1) }
	bubble(t, opts, func(t *testing.T, l *lab) {
		var (
			handled atomic.Int64
			connect = make(chan struct{})
			event   = make(chan struct{})
		)
		l.OnConnect(func(context.Context, *sio.Socket) error { <-connect; return nil })
		l.On("e", func(context.Context, *sio.Socket, *sio.Event) error { handled.Add(1); <-event; return nil })
		c := l.ws()
		c.connect("/", "")
		for range 10 * limit {
			c.send(`2["e"]`)
		}
		synctest.Wait()
		if n := arrived.Load() - 1; n > limit+1 { // one more is in the reader's hands
			t.Errorf("during OnConnect %d events were read, want %d", n, limit+1)
		}
		close(connect)
		synctest.Wait()
		if n := arrived.Load() - 1; n > limit+2 { // one more runs
			t.Errorf("during the first event %d events were read, want %d", n, limit+2)
		}
		close(event)
		synctest.Wait()
		if handled.Load() != 10*limit {
			t.Errorf("%d events handled", handled.Load())
		}
	})
}

// A reader that waits for room leaves when the socket ends, whatever ends it.
func TestBackPressureEnds(t *testing.T) {
	for name, end := range map[string]func(l *lab, s *sio.Socket){
		"Disconnect": func(_ *lab, s *sio.Socket) { s.Disconnect(false) },
		"close":      func(_ *lab, s *sio.Socket) { s.Disconnect(true) },
		"Shutdown": func(l *lab, _ *sio.Socket) {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			_ = l.Shutdown(ctx)
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, &sio.Options{MaxEvents: 1}, func(t *testing.T, l *lab) {
				l.On("e", func(ctx context.Context, _ *sio.Socket, _ *sio.Event) error { <-ctx.Done(); return nil })
				c := l.ws()
				c.connect("/", "")
				for range 5 {
					c.send(`2["e"]`)
				}
				synctest.Wait()
				end(l, only(t, l.Of("/")))
				synctest.Wait()
				if l.Len() != 0 {
					t.Error("the socket is still there")
				}
				if name == "Disconnect" { // the connection is read again
					l.Of("/other")
					c.want("1")
					c.connect("/other", "")
				}
			})
		})
	}
}

// countedContext is a context of a middleware that is done, and tells how often it was asked.
type countedContext struct {
	context.Context //nolint:containedctx // it is one
	done            chan struct{}
	asked           func()
}

func (c countedContext) Done() <-chan struct{} { c.asked(); return c.done }

// A middleware may give the socket a context with a deadline, such as the end of a token. That must not set the reader
// spinning when there is no room.
func TestBackPressureWithContextThatIsDone(t *testing.T) {
	l := newLab(t, &sio.Options{MaxEvents: 1})
	var asked atomic.Int64
	release := make(chan struct{})
	once := sync.OnceFunc(func() { close(release) })
	ended := make(chan struct{})
	close(ended)
	l.Use(func(ctx context.Context, _ *sio.Socket) (context.Context, error) {
		return countedContext{ctx, ended, func() {
			if asked.Add(1) > 1000 {
				once()
			}
		}}, nil
	})
	done := make(chan struct{})
	var n atomic.Int64
	l.On("e", func(context.Context, *sio.Socket, *sio.Event) error {
		<-release
		if n.Add(1) == 5 {
			close(done)
		}
		return nil
	})
	c := l.ws()
	c.connect("/", "")
	for range 5 {
		c.send(`2["e"]`)
	}
	settle := time.AfterFunc(200*time.Millisecond, once)
	defer settle.Stop()
	<-done
	if asked.Load() > 1000 {
		t.Error("the reader spins")
	}
}

// So may the application give the session one.
func TestBackPressureWithSessionContextThatIsDone(t *testing.T) {
	opts := &sio.Options{MaxEvents: 1}
	opts.Engine.Context = func(*http.Request) context.Context {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		return ctx
	}
	bubble(t, opts, func(t *testing.T, l *lab) {
		release := make(chan struct{})
		var n atomic.Int64
		l.On("e", func(context.Context, *sio.Socket, *sio.Event) error { <-release; n.Add(1); return nil })
		c := l.ws()
		c.connect("/", "")
		for range 5 {
			c.send(`2["e"]`)
		}
		synctest.Wait() // it does not return while the reader spins
		close(release)
		synctest.Wait()
		if n.Load() != 5 {
			t.Errorf("%d events", n.Load())
		}
	})
}

func TestSlowConsumer(t *testing.T) {
	opts := &sio.Options{}
	opts.Engine.MaxQueueBytes = 64 << 10
	bubble(t, opts, func(t *testing.T, l *lab) {
		var g log
		l.OnDisconnect(func(_ context.Context, s *sio.Socket, r sio.Reason) { g.add("%s", r) })
		slow := l.handshake() // never polls
		slow.send("0")
		healthy := l.ws()
		healthy.connect("/", "")
		synctest.Wait()
		text := strings.Repeat("x", 1000)
		for n := range 200 {
			if err := l.Emit(t.Context(), "e", n, text); err != nil {
				t.Fatal(err)
			}
			healthy.want(fmt.Sprintf(`2["e",%d,%q]`, n, text))
		}
		g.want(t, "slow consumer")
		if l.Len() != 1 {
			t.Errorf("%d sockets, want the healthy one", l.Len())
		}
	})
}

func TestSlowConsumerIsToldToTheSender(t *testing.T) {
	opts := &sio.Options{}
	opts.Engine.MaxQueueBytes = 1000
	bubble(t, opts, func(t *testing.T, l *lab) {
		c := l.handshake()
		c.send("0")
		synctest.Wait()
		s := only(t, l.Of("/"))
		var err error
		for n := 0; err == nil && n < 100; n++ {
			err = s.Emit("e", strings.Repeat("x", 100))
		}
		if !errors.Is(err, sio.ErrDisconnected) {
			t.Errorf("got %v", err)
		}
		synctest.Wait()
		if e, ok := errors.AsType[*sio.DisconnectError](context.Cause(s.Context())); !ok || e.Reason != sio.ReasonSlowConsumer || e.Err == nil {
			t.Errorf("the cause is %v", context.Cause(s.Context()))
		}
	})
}

func TestVolatile(t *testing.T) {
	bubble(t, nil, func(t *testing.T, l *lab) {
		idle, ready := l.handshake(), l.ws()
		idle.send("0")
		ready.connect("/", "")
		if body, err := idle.do(t.Context(), "GET", ""); err != nil || !strings.HasPrefix(body, "40{") {
			t.Fatalf("got %q, %v", body, err)
		}
		synctest.Wait()
		_ = l.Volatile().Emit(t.Context(), "dropped")
		for s := range l.Sockets() {
			synctest.Wait()
			_ = s.Volatile().Emit("one")
		}
		_ = l.Emit(t.Context(), "kept")
		ready.want(`2["dropped"]`, `2["one"]`, `2["kept"]`)
		if body, err := idle.do(t.Context(), "GET", ""); err != nil || body != `42["kept"]` {
			t.Errorf("got %q, %v", body, err)
		}
	})
}
