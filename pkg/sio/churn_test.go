package sio_test

import (
	"context"
	"fmt"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/coder/websocket"

	"github.com/seed-0b620db0/patchbay/internal/siotest"
	"github.com/seed-0b620db0/patchbay/pkg/sio"
)

// Lessons 4, 7, 8: who comes and goes leaves nothing behind.
func TestLesson8_ChurnLeavesNothing(t *testing.T) {
	siotest.LeakCheck(t)
	l := newLab(t, &sio.Options{CleanupEmptyChildNamespaces: true})
	children := l.OfRegexp(regexp.MustCompile("^/child-"))
	for _, h := range []*sio.Handlers{l.Handlers, children.Handlers} {
		h.OnConnect(func(_ context.Context, s *sio.Socket) error {
			s.Join("all", "room-"+s.ID())
			return nil
		})
		h.On("e", sio.Reply(func(ctx context.Context, s *sio.Socket, n int) (int, error) {
			s.Join(fmt.Sprint("room-", n%100))
			s.SetData(n)
			return n, s.Volatile().Emit("seen", n)
		}))
	}
	const workers = 8
	round := func(n int) {
		var wg sync.WaitGroup
		for w := range workers {
			wg.Go(func() {
				for i := range n {
					visit(t, l, w*n+i)
				}
			})
		}
		wg.Wait()
	}
	settled := func() (goroutines int, heap uint64) {
		until(t, "all have left", func() bool {
			return l.disconnected.Load() == l.connected.Load() && l.Engine().Len() == 0
		})
		until(t, "the namespaces are gone", func() bool { return len(l.Namespaces()) == 1 })
		for range 3 {
			runtime.GC()
		}
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return busyGoroutines(), m.HeapAlloc
	}
	round(50) // what is made once and kept, such as pools
	goroutines, heap := settled()
	n := 20_000 / perVisit / workers
	if testing.Short() {
		n /= 10
	}
	round(n)
	l.mu.Lock()
	l.clients = nil
	l.mu.Unlock()
	var now int
	until(t, "the goroutines have left", func() bool { now = busyGoroutines(); return now <= goroutines+2 })
	_, grown := settled()
	if grown > heap+heap/2+1<<20 {
		t.Errorf("the heap was %d KiB and is %d KiB after %d connects", heap>>10, grown>>10, l.connected.Load())
	}
	if rooms := sio.Rooms(l.Of("/")); len(rooms) != 0 {
		t.Errorf("%d rooms are left", len(rooms))
	}
	if c := l.connected.Load(); !testing.Short() && c < 20_000 {
		t.Errorf("only %d connects", c)
	}
}

// busyGoroutines counts the goroutines, but for those of a crew that have nothing to do.
func busyGoroutines() int {
	buf := make([]byte, 8<<20)
	n := 0
	for stack := range strings.SplitSeq(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
		if !strings.Contains(stack, "crew.(*Crew).work") || strings.Contains(stack, ".Run(") {
			n++
		}
	}
	return n
}

const perVisit = 4 // namespaces

// visit comes, does a little of everything, and goes in one of several ways.
func visit(t *testing.T, l *lab, i int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), siotest.Patience)
	defer cancel()
	conn, err := l.listener.Dial(ctx)
	if err != nil {
		t.Error(err)
		return
	}
	defer conn.Close()
	ws, _, err := websocket.Dial(ctx, base+"websocket", &websocket.DialOptions{HTTPClient: oneConn(conn)})
	if err != nil {
		t.Error(err)
		return
	}
	defer func() { _ = ws.CloseNow() }()
	send := func(packet string) {
		if err := ws.Write(ctx, websocket.MessageText, []byte("4"+packet)); err != nil {
			t.Error(err)
		}
	}
	var child, sid string
	for k := range perVisit {
		ns := "/"
		if k > 0 {
			child = fmt.Sprintf("/child-%d", (i+k)%7)
			ns = child
		}
		send("0" + prefix(ns))
		for sid = ""; sid == ""; { // past what comes before the answer
			_, packet, err := ws.Read(ctx)
			if err != nil {
				t.Error(err)
				return
			}
			j, _ := parseConnect(ns, string(packet[1:]))
			sid = j.SID
		}
		if i%11 != 0 { // else it leaves without a word
			send(fmt.Sprintf(`2%s0["e",%d]`, prefix(ns), i))
		}
	}
	switch i % 5 {
	case 0: // is lost
		conn.Close()
	case 1:
		send("1")
		send("1" + child + ",")
	case 2:
		send("nonsense")
	case 3:
		if s := l.Of(child).Socket(sid); s != nil { // nil: it is not visible yet
			s.Disconnect(true)
		}
	default:
		_ = ws.Close(websocket.StatusNormalClosure, "")
	}
}
