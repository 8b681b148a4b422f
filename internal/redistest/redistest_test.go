package redistest_test

import (
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/seed-0b620db0/patchbay/internal/redistest"
	"github.com/seed-0b620db0/patchbay/internal/siotest"
)

func TestServer(t *testing.T) {
	siotest.LeakCheck(t)
	s := redistest.Start(t, "--maxmemory", "8mb")
	c := s.Client(t)
	if got, err := c.ConfigGet(t.Context(), "maxmemory").Result(); err != nil || got["maxmemory"] != "8388608" {
		t.Fatal(got, err)
	}
	if _, err := s.Do("SET", "k", "v"); err != nil {
		t.Fatal(err)
	}
	if v, err := c.Get(t.Context(), "k").Result(); err != nil || v != "v" {
		t.Fatal(v, err)
	}
	s.Kill()
	if _, err := s.Do("PING"); err == nil {
		t.Error("a killed server answers")
	}
	s.Restart(t)
	s.Restart(t)
	if err := c.Get(t.Context(), "k").Err(); !errors.Is(err, goredis.Nil) {
		t.Error("the server is not a new one:", err)
	}
	if o, err := goredis.ParseURL(s.URL()); err != nil || o.Addr != s.Addr() {
		t.Error(o, err)
	}
	s.Stop()
	s.Stop()
}

func TestCluster(t *testing.T) {
	siotest.LeakCheck(t)
	c := redistest.StartCluster(t)
	client := c.Client(t)
	slot := c.Slot(t, "k")
	if err := client.Set(t.Context(), "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	from := c.Owner(t, slot)
	to := (from + 1) % 3
	c.MoveSlot(t, slot, to)
	if owner := c.Owner(t, slot); owner != to {
		t.Fatal(owner)
	}
	if v, err := client.Get(t.Context(), "k").Result(); err != nil || v != "v" {
		t.Fatal(v, err)
	}

	heir := c.Replicate(t, to)
	c.Kill(to)
	c.Await(t, slot, heir)
	if v, err := c.Servers[heir].Do("GET", "k"); err != nil || v != "v" {
		t.Error("the replica that took over has", v, err)
	}

	c.Kill(from)
	c.Adopt(t, from, heir)
	if owner := c.Owner(t, from*16384/3+1); owner != heir {
		t.Error(owner)
	}
}

func TestSentinel(t *testing.T) {
	siotest.LeakCheck(t)
	for name, change := range map[string]func(*redistest.Sentinel, testing.TB){
		"failover": (*redistest.Sentinel).Failover, "kill": (*redistest.Sentinel).Kill,
	} {
		s := redistest.StartSentinel(t)
		if m := s.Master(t); m != 0 {
			t.Fatal(m)
		}
		change(s, t)
		if _, err := s.Servers[1].Do("INCR", "n"); err != nil || s.Master(t) != 1 {
			t.Errorf("%s: the replica that took over says %v", name, err)
		}
	}
}

func TestProxy(t *testing.T) {
	siotest.LeakCheck(t)
	s := redistest.Start(t)
	p := redistest.NewProxy(t, s.Addr())
	dial := func() net.Conn {
		c, err := net.Dial("tcp", p.Addr())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	send := func(c net.Conn) {
		t.Helper()
		if _, err := io.WriteString(c, "PING\r\n"); err != nil {
			t.Fatal(err)
		}
	}
	read := func(c net.Conn, patience time.Duration) error {
		b := make([]byte, 7)
		_ = c.SetReadDeadline(time.Now().Add(patience))
		_, err := io.ReadFull(c, b)
		if err == nil && string(b) != "+PONG\r\n" {
			t.Fatalf("%q", b)
		}
		return err
	}
	works := func(c net.Conn) {
		t.Helper()
		send(c)
		if err := read(c, redistest.Patience); err != nil {
			t.Fatal(err)
		}
	}
	c := dial()
	works(c)

	p.Delay(30 * time.Millisecond)
	begin := time.Now()
	works(c)
	if d := time.Since(begin); d < 60*time.Millisecond {
		t.Error("too early:", d)
	}
	p.Delay(0)

	for _, freeze := range []func(bool){p.Freeze, p.FreezeClient, p.FreezeServer} {
		freeze(true)
		send(c)
		if err := read(c, 30*time.Millisecond); err == nil {
			t.Error("an answer through a frozen proxy")
		}
		freeze(false)
		if err := read(c, redistest.Patience); err != nil {
			t.Error(err)
		}
	}

	p.Freeze(true)
	send(c)
	p.Cut()
	if err := read(c, redistest.Patience); err == nil || errors.Is(err, io.EOF) || strings.Contains(err.Error(), "timeout") {
		t.Error("not reset:", err)
	}
	p.Freeze(false)

	refused := func(what string) {
		t.Helper()
		c, err := net.Dial("tcp", p.Addr())
		if err == nil { // the reset may also come later
			defer c.Close()
			err = read(c, redistest.Patience)
		}
		if err == nil || strings.Contains(err.Error(), "timeout") {
			t.Errorf("%s: %v", what, err)
		}
	}
	p.Refuse(true)
	refused("refused")
	p.Refuse(false)

	c = dial()
	works(c)
	p.HalfClose()
	send(c)
	if err := read(c, redistest.Patience); !errors.Is(err, io.EOF) {
		t.Error("not closed:", err)
	}
	send(c)
	works(dial())

	s.Kill()
	refused("a dead server")
}
