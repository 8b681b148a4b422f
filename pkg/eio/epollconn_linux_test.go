package eio_test

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/seed-0b620db0/patchbay/internal/siotest"
	"github.com/seed-0b620db0/patchbay/pkg/eio"
)

// watchedPair returns a connection of a watcher and its other end.
func watchedPair(t *testing.T, network string) (watched, other net.Conn) {
	t.Helper()
	siotest.LeakCheck(t)
	address := "127.0.0.1:0"
	if network == "unix" {
		address = t.TempDir() + "/s"
	}
	ln, err := net.Listen(network, address) //nolint:noctx // it does not block
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if other, err = net.Dial(network, ln.Addr().String()); err != nil { //nolint:noctx // on this machine
		t.Fatal(err)
	}
	c, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	srv := eio.NewServer(nil, nil)
	if watched = srv.Watch(c); watched == nil {
		t.Fatal("not watched")
	}
	t.Cleanup(func() {
		_, _ = watched.Close(), other.Close()
		_ = srv.Close()
		_ = srv.Close() // once more
	})
	return watched, other
}

func eachNetwork(t *testing.T, f func(t *testing.T, watched, other net.Conn)) {
	t.Helper()
	for _, network := range []string{"tcp", "unix"} {
		t.Run(network, func(t *testing.T) {
			watched, other := watchedPair(t, network)
			f(t, watched, other)
		})
	}
}

func inBackground(f func() error) <-chan error {
	done := make(chan error, 1)
	go func() { done <- f() }() // ends with the connection
	return done
}

func reads(c net.Conn) <-chan error {
	return inBackground(func() error {
		_, err := c.Read(make([]byte, 10))
		return err
	})
}

func writes(c net.Conn) <-chan error {
	return inBackground(func() error {
		_, err := c.Write(make([]byte, 32<<20))
		return err
	})
}

func wantError(t *testing.T, done <-chan error, want error) {
	t.Helper()
	err := <-done
	if !errors.Is(err, want) {
		t.Errorf("got %v, want %v", err, want)
	}
	if n, ok := errors.AsType[net.Error](err); !ok || n.Timeout() != errors.Is(want, os.ErrDeadlineExceeded) {
		t.Errorf("%v is not the net.Error it should be", err)
	}
}

const waiting = "eio.(*epollConn).await"

func TestWatchedDeadlines(t *testing.T) {
	eachNetwork(t, func(t *testing.T, c, other net.Conn) {
		done := reads(c)
		awaitStack(t, waiting)
		if err := c.SetReadDeadline(time.Unix(1, 0)); err != nil {
			t.Fatal(err)
		}
		wantError(t, done, os.ErrDeadlineExceeded)
		wantError(t, reads(c), os.ErrDeadlineExceeded) // it stays
		_ = c.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
		wantError(t, reads(c), os.ErrDeadlineExceeded)

		_ = c.SetReadDeadline(time.Now().Add(time.Hour))
		done = reads(c)
		awaitStack(t, waiting)
		_ = c.SetDeadline(time.Time{})
		_, _ = other.Write([]byte("x"))
		if err := <-done; err != nil {
			t.Error(err)
		}

		_ = c.SetWriteDeadline(time.Now().Add(10 * time.Millisecond))
		wantError(t, writes(c), os.ErrDeadlineExceeded)
		_ = c.SetWriteDeadline(time.Time{})
		done = writes(c)
		awaitStack(t, waiting)
		if err := c.SetDeadline(time.Unix(1, 0)); err != nil {
			t.Fatal(err)
		}
		wantError(t, done, os.ErrDeadlineExceeded)
	})
}

func TestWatchedClose(t *testing.T) {
	eachNetwork(t, func(t *testing.T, c, other net.Conn) {
		r, w := reads(c), writes(c)
		eventually(t, "they do not wait", func() bool { return running(waiting) == 2 })
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		wantError(t, r, net.ErrClosed)
		wantError(t, w, net.ErrClosed)
		wantError(t, inBackground(c.Close), net.ErrClosed)
		wantError(t, reads(c), net.ErrClosed)
		wantError(t, writes(c), net.ErrClosed)
		wantError(t, inBackground(func() error { return c.SetDeadline(time.Time{}) }), net.ErrClosed)
		if c.RemoteAddr() == nil || c.LocalAddr() == nil {
			t.Error("no address")
		}
		_, _ = io.Copy(io.Discard, other) // the peer sees the end
	})
}

func TestWatchedTransfer(t *testing.T) {
	eachNetwork(t, func(t *testing.T, c, other net.Conn) {
		if got, want := c.RemoteAddr().String(), other.LocalAddr().String(); got != want {
			t.Errorf("remote address %q, want %q", got, want)
		}
		if got, want := c.LocalAddr().String(), other.RemoteAddr().String(); got != want {
			t.Errorf("local address %q, want %q", got, want)
		}
		done := writes(c)
		awaitStack(t, waiting)
		if n, err := io.CopyN(io.Discard, other, 32<<20); err != nil {
			t.Fatalf("%d bytes, %v", n, err)
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		done = writes(other)
		if n, err := io.CopyN(io.Discard, c, 32<<20); err != nil {
			t.Fatalf("%d bytes, %v", n, err)
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		_ = other.Close()
		if n, err := c.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
			t.Errorf("at the end: %d, %v", n, err)
		}
	})
}
