package sio_test

import (
	"fmt"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/seed-0b620db0/patchbay/internal/siotest"
	"github.com/seed-0b620db0/patchbay/pkg/eio"
	"github.com/seed-0b620db0/patchbay/pkg/sio"
)

// One client of a thousand stops to read. The others get everything while it is stuck, it loses volatile events first, and is
// closed when its queue is full.
func TestOneSlowClientOfAThousand(t *testing.T) {
	members := 1000
	if testing.Short() {
		members = 50
	}
	var (
		queued, dropped atomic.Int64
		gone            = make(chan sio.Reason, members)
	)
	opts := &sio.Options{}
	opts.Engine.MaxQueueBytes = 16 << 20
	opts.Engine.Hooks.Queued = func(n int) { queued.Add(int64(n)) }
	opts.Engine.Hooks.Dropped = func(*eio.Session) { dropped.Add(1) }
	opts.Hooks.Disconnected = func(_ *sio.Socket, r sio.Reason) { gone <- r }
	srv := sio.NewServer(opts)
	ts := httptest.NewServer(srv)
	t.Cleanup(func() {
		if err := srv.Close(); err != nil {
			t.Error(err)
		}
		ts.Close()
	})

	clients := make([]*siotest.WS, members)
	var slow string
	for i := range clients {
		clients[i] = siotest.New(t, ts.URL, "/socket.io/").Open()
		slow = clients[i].Connect("/", "").SID // the last one
	}
	others := clients[:members-1]
	round := func(events int, emit func(text string) error) {
		t.Helper()
		var wg sync.WaitGroup
		for _, c := range others {
			wg.Go(func() {
				for n := range events {
					if got, want := c.Text(), fmt.Sprintf(`42["e","%d"]`, n); got != want {
						t.Errorf("got %q, want %q", got, want)
						return
					}
				}
			})
		}
		for n := range events {
			if err := emit(fmt.Sprint(n)); err != nil {
				t.Error(err)
			}
		}
		wg.Wait()
	}
	text := strings.Repeat("x", 64<<10)
	fill := func(events int) {
		t.Helper()
		for range events {
			if err := srv.To(slow).Emit(t.Context(), "much", text); err != nil {
				t.Error(err)
			}
		}
	}

	// The buffers of the system are full when much is still queued after all others have got something that came later.
	stuck := func() bool { return queued.Load() > 2<<20 }
	for n := 0; !stuck(); n++ {
		if n == 10 {
			t.Fatal("the system takes whatever is written to a client that does not read")
		}
		fill(64)
		round(1, func(text string) error { return srv.Emit(t.Context(), "e", text) })
	}
	round(20, func(text string) error { return srv.Emit(t.Context(), "e", text) })
	if !stuck() || srv.Len() != members {
		t.Fatalf("%d bytes are queued to the slow client, %d clients are connected", queued.Load(), srv.Len())
	}

	before := dropped.Load()
	round(1, func(text string) error { return srv.Volatile().Emit(t.Context(), "e", text) })
	if got := dropped.Load() - before; got != 1 {
		t.Errorf("a volatile event was dropped for %d clients", got)
	}

	fill(256)
	if r := <-gone; r != sio.Reason(eio.ReasonSlowConsumer) || len(gone) > 0 {
		t.Errorf("disconnected with %q, and %d others", r, len(gone))
	}
	round(20, func(text string) error { return srv.Emit(t.Context(), "e", text) })
	until(t, "nothing is queued any more", func() bool { return queued.Load() == 0 })
}
