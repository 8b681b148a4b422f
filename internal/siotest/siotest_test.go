package siotest_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-0b620db0/patchbay/internal/siotest"
)

func TestListenerServesHTTPInABubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := siotest.Listen(0)
		srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(time.Hour) // of the bubble's clock
			_, _ = io.Copy(w, r.Body)
		})}
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				t.Errorf("serve: %v", err)
			}
		})
		tr := &http.Transport{DialContext: l.DialContext}
		start := time.Now()
		res, err := (&http.Client{Transport: tr}).Post("http://memory/", "text/plain", strings.NewReader("hello"))
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil || string(b) != "hello" || time.Since(start) != time.Hour {
			t.Errorf("got %q, %v after %v", b, err, time.Since(start))
		}
		tr.CloseIdleConnections()
		if err := srv.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		wg.Wait()
		if _, err := l.Dial(t.Context()); !errors.Is(err, net.ErrClosed) {
			t.Errorf("dial after close: %v", err)
		}
	})
}

func TestPipeHijackedConnection(t *testing.T) {
	// net/http takes a connection back from its background read by a deadline in the past.
	synctest.Test(t, func(t *testing.T) {
		l := siotest.Listen(0)
		srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			c, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			b, err := io.ReadAll(io.LimitReader(c, 4))
			if err != nil {
				t.Error(err)
			}
			fmt.Fprintf(c, "got %s", b)
		})}
		var wg sync.WaitGroup
		wg.Go(func() { _ = srv.Serve(l) })
		c, err := l.Dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: memory\r\n\r\n")
		synctest.Wait()
		fmt.Fprint(c, "ping")
		if b, err := io.ReadAll(c); err != nil || string(b) != "got ping" {
			t.Errorf("got %q, %v", b, err)
		}
		c.Close()
		srv.Close()
		wg.Wait()
	})
}

func TestPipe(t *testing.T) {
	t.Run("a write waits when the buffer is full", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			a, b := siotest.Pipe(4)
			wrote := make(chan error, 1)
			go func() { _, err := a.Write([]byte("12345678")); wrote <- err }()
			synctest.Wait()
			if len(wrote) != 0 {
				t.Fatal("eight bytes went into a buffer of four")
			}
			got := make([]byte, 8)
			if _, err := io.ReadFull(b, got); err != nil || string(got) != "12345678" {
				t.Errorf("got %q, %v", got, err)
			}
			if err := <-wrote; err != nil {
				t.Error(err)
			}
		})
	})
	t.Run("deadlines", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			a, b := siotest.Pipe(4)
			start := time.Now()
			_ = a.SetDeadline(start.Add(time.Minute))
			if _, err := a.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) != time.Minute {
				t.Errorf("read: %v after %v", err, time.Since(start))
			}
			n, err := a.Write([]byte("12345"))
			if n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("write past the deadline: %d, %v", n, err)
			}
			_ = a.SetDeadline(time.Time{})
			if _, err := a.Write([]byte("12")); err != nil {
				t.Errorf("write after the deadline was taken away: %v", err)
			}
			_ = a.SetWriteDeadline(time.Now().Add(time.Second))
			if n, err := a.Write([]byte("3456")); n != 2 || !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("write into a full buffer: %d, %v", n, err)
			}
			_ = b.SetReadDeadline(time.Now().Add(-time.Second))
			if _, err := b.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("read with a deadline in the past: %v", err)
			}
		})
	})
	t.Run("close", func(t *testing.T) {
		a, b := siotest.Pipe(8)
		_, _ = a.Write([]byte("last"))
		a.Close()
		if got, err := io.ReadAll(b); err != nil || string(got) != "last" {
			t.Errorf("got %q, %v", got, err)
		}
		if _, err := b.Write([]byte("x")); err == nil {
			t.Error("a write to a closed peer went well")
		}
		if _, err := a.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("read of the own closed end: %v", err)
		}
	})
	t.Run("data is not shared", func(t *testing.T) {
		a, b := siotest.Pipe(8)
		p := []byte("abc")
		_, _ = a.Write(p)
		copy(p, "xyz")
		got := make([]byte, 3)
		if _, err := io.ReadFull(b, got); err != nil || !bytes.Equal(got, []byte("abc")) {
			t.Errorf("got %q, %v", got, err)
		}
	})
}

// recorder stands in for a test whose verdict is looked at.
type recorder struct {
	testing.TB
	cleanup []func()
	failed  string
}

func (r *recorder) Helper()          {}
func (r *recorder) Cleanup(f func()) { r.cleanup = append(r.cleanup, f) }
func (r *recorder) Errorf(format string, args ...any) {
	r.failed = fmt.Sprintf(format, args...)
}

func TestLeakCheck(t *testing.T) {
	t.Run("finds a goroutine", func(t *testing.T) {
		r := &recorder{TB: t}
		siotest.LeakCheck(r)
		ctx, stop := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { <-ctx.Done() })
		r.cleanup[0]()
		if !strings.Contains(r.failed, "TestLeakCheck") {
			t.Errorf("want the stack of this test's goroutine, got %q", r.failed)
		}
		stop()
		wg.Wait()
	})
	t.Run("waits for one that leaves", func(t *testing.T) {
		r := &recorder{TB: t}
		siotest.LeakCheck(r)
		leave := time.NewTimer(50 * time.Millisecond)
		go func() { <-leave.C }()
		r.cleanup[0]()
		if r.failed != "" {
			t.Error(r.failed)
		}
	})
}
