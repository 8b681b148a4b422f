package sio_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-0b620db0/patchbay/pkg/eio"
	"github.com/seed-0b620db0/patchbay/pkg/sio"
)

func TestLesson29_Shutdown(t *testing.T) {
	for _, stop := range []struct {
		name string
		f    func(l *lab) error
	}{
		{"Shutdown", func(l *lab) error { return l.Shutdown(context.Background()) }},
		{"Close", func(l *lab) error { return l.Close() }},
	} {
		for _, transport := range transports {
			t.Run(stop.name+" "+string(transport), func(t *testing.T) {
				var closed atomic.Int64
				opts := &sio.Options{Adapter: func(*sio.Local) sio.Adapter { return counted{closed: &closed} }}
				bubble(t, opts, func(t *testing.T, l *lab) {
					var g log
					l.On("e", func(ctx context.Context, _ *sio.Socket, _ *sio.Event) error {
						<-ctx.Done()
						time.Sleep(time.Minute)
						g.add("event done, adapters closed: %d", closed.Load())
						return nil
					})
					l.OnDisconnect(func(_ context.Context, _ *sio.Socket, r sio.Reason) {
						time.Sleep(time.Minute)
						g.add("%s, adapters closed: %d", r, closed.Load())
					})
					l.Of("/other")
					c := l.open(transport)
					c.connect("/", "")
					c.connect("/other", "")
					c.send(`2["e"]`)
					synctest.Wait()
					start := time.Now()
					if err := stop.f(l); err != nil {
						t.Error(err)
					}
					if d := time.Since(start); d < 2*time.Minute || d > 2*time.Minute+6*time.Second {
						t.Errorf("took %v, the handlers 2m", d)
					}
					g.want(t, "event done, adapters closed: 0", "server shutting down, adapters closed: 0")
					if closed.Load() != 2 {
						t.Errorf("%d adapters closed, want 2", closed.Load())
					}
					c.wantGone()
					c.wantNone() // above all no DISCONNECT, which would keep it from coming back
					if err := stop.f(l); err != nil || closed.Load() != 2 {
						t.Errorf("the second time: %v, %d adapters closed", err, closed.Load())
					}
				})
			})
		}
	}
}

// The end of a polling client that has no request open is found by a timer, or by its next request. Its handlers are
// waited for all the same.
func TestShutdownWithPollingClientBetweenPolls(t *testing.T) {
	for _, returns := range []bool{false, true} {
		name := "never comes back"
		if returns {
			name = "comes back"
		}
		t.Run(name, func(t *testing.T) {
			opts := &sio.Options{}
			opts.Engine.Hooks.Closed = func(*eio.Session, eio.CloseReason, error) {
				time.Sleep(time.Millisecond) // stands for being put aside by the scheduler at that moment
			}
			bubble(t, opts, func(t *testing.T, l *lab) {
				var g log
				l.OnDisconnect(func(_ context.Context, _ *sio.Socket, r sio.Reason) { g.add("%s", r) })
				c := l.handshake()
				c.send("0")
				synctest.Wait()
				done := make(chan error)
				go func() { done <- l.Shutdown(context.Background()) }() // ends with the test
				synctest.Wait()
				if returns {
					wantClose(t, c)
				}
				if err := <-done; err != nil {
					t.Error(err)
				}
				g.want(t, "server shutting down")
			})
		})
	}
}

func TestShutdownDeadline(t *testing.T) {
	bubble(t, nil, func(t *testing.T, l *lab) {
		release := make(chan struct{})
		l.On("e", func(context.Context, *sio.Socket, *sio.Event) error { <-release; return nil })
		c := l.ws()
		c.connect("/", "")
		c.send(`2["e"]`)
		synctest.Wait()
		start := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		if err := l.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		if d := time.Since(start); d != 3*time.Second {
			t.Errorf("took %v, want 3s", d)
		}
		close(release)
	})
}

// The peer of a WebSocket may not answer the close frame; the deadline holds all the same.
func TestShutdownDeadlineWithDeafPeer(t *testing.T) {
	bubble(t, nil, func(t *testing.T, l *lab) {
		conn, err := l.listener.Dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_, _ = conn.Write([]byte("GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: memory\r\nConnection: Upgrade\r\n" +
			"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"))
		synctest.Wait()
		if l.Engine().Len() != 1 {
			t.Fatal("no session")
		}
		start := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_ = l.Shutdown(ctx)
		if d := time.Since(start); d > time.Second {
			t.Errorf("took %v, want at most 1s", d)
		}
	})
}

func TestShutdownInsideAHandler(t *testing.T) {
	bubble(t, nil, func(t *testing.T, l *lab) {
		got := make(chan error, 1)
		l.On("stop", func(ctx context.Context, _ *sio.Socket, _ *sio.Event) error {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
			defer cancel()
			got <- l.Shutdown(ctx)
			return nil
		})
		c := l.ws()
		c.connect("/", "")
		c.send(`2["stop"]`)
		if err := <-got; !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
	})
}

func TestAfterShutdown(t *testing.T) {
	bubble(t, nil, func(t *testing.T, l *lab) {
		c := l.handshake()
		if err := l.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		c.sid = ""
		if body, err := c.do(t.Context(), "GET", ""); err == nil || !strings.Contains(err.Error(), "503") {
			t.Errorf("handshake: %q, %v", body, err)
		}
		for _, err := range l.EmitWithAck(t.Context(), "e") {
			if !errors.Is(err, sio.ErrServerClosed) {
				t.Errorf("EmitWithAck: %v", err)
			}
		}
		if err := l.Emit(t.Context(), "e"); err != nil { // to nobody
			t.Error(err)
		}
	})
}

// A middleware that runs is ended by its context.
func TestShutdownDuringMiddleware(t *testing.T) {
	bubble(t, nil, func(t *testing.T, l *lab) {
		var g log
		l.Use(func(ctx context.Context, _ *sio.Socket) (context.Context, error) {
			<-ctx.Done()
			time.Sleep(time.Second)
			if e, ok := errors.AsType[*sio.DisconnectError](context.Cause(ctx)); ok {
				g.add("%s", e.Reason)
			}
			return ctx, nil
		})
		c := l.ws()
		c.send("0")
		synctest.Wait()
		if err := l.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		g.want(t, "server shutting down")
		c.wantNone()
	})
}
