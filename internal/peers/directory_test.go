package peers_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-0b620db0/patchbay/internal/peers"
)

// counted counts the calls of a registry and can hold List up.
type counted struct {
	peers.Registry
	mu    sync.Mutex
	lists int
	hold  chan struct{}
}

func (c *counted) List(ctx context.Context) ([]peers.Node, error) {
	c.mu.Lock()
	c.lists++
	hold := c.hold
	c.mu.Unlock()
	all, err := c.Registry.List(ctx)
	if hold != nil {
		<-hold
	}
	return all, err
}

func (c *counted) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lists
}

// member is a node with its directory, until the end of the test.
type member struct {
	*peers.Directory
	self peers.Node
	stop func()

	mu     sync.Mutex
	states []error
	known  int
}

func join(t *testing.T, reg peers.Registry, tag, addr string) *member {
	t.Helper()
	m := &member{self: peers.Node{Tag: tag, Addr: addr, ID: peers.NewID(), Started: time.Now()}}
	m.Directory = peers.NewDirectory(reg, &peers.DirectoryOptions{
		State: func(err error) {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.states = append(m.states, err)
		},
		Known: func(n int) {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.known = n
		},
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { // ends by stop
		defer close(done)
		m.Run(ctx, m.self)
	}()
	m.stop = func() {
		cancel()
		<-done
	}
	t.Cleanup(m.stop)
	return m
}

// state returns the last that was reported, and how often something was.
func (m *member) state() (error, int) { //nolint:staticcheck // a state, and not a failure
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.states) == 0 {
		return errors.New("none yet"), 0
	}
	return m.states[len(m.states)-1], len(m.states)
}

func (m *member) leave(t *testing.T) {
	t.Helper()
	m.stop()
	if err := m.Leave(t.Context(), m.self); err != nil {
		t.Error(err)
	}
}

func (m *member) knows(t *testing.T, tags ...string) {
	t.Helper()
	var got []string
	for _, n := range m.Nodes() {
		got = append(got, n.Tag)
	}
	slices.Sort(got)
	m.mu.Lock()
	defer m.mu.Unlock()
	if !slices.Equal(got, tags) || m.known != len(tags) {
		t.Errorf("%s knows %q (reported %d), want %q", m.self.Tag, got, m.known, tags)
	}
}

// pass lets time pass, until all has been done that is due by then.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestDirectoryKnowsTheNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := peers.NewMemory()
		a := join(t, reg, "a", "10.0.0.1:9090")
		pass(time.Second)
		b := join(t, reg, "b", "10.0.0.2:9090")
		pass(time.Millisecond)
		if p := a.Lookup(t.Context(), "b"); p == nil || p.Addr != "10.0.0.2:9090" || p.ID != b.self.ID {
			t.Errorf("a new node is not found: %+v", p)
		}
		pass(6 * time.Second)
		a.knows(t, "a", "b")
		b.knows(t, "a", "b")
		for _, m := range []*member{a, b} {
			if err, n := m.state(); err != nil || n != 1 {
				t.Errorf("%s: %v, told %d times", m.self.Tag, err, n)
			}
		}
		gone := a.Lookup(t.Context(), "b")
		b.leave(t)
		pass(6 * time.Second)
		a.knows(t, "a")
		if a.Lookup(t.Context(), gone.Tag) != nil {
			t.Error("one that has left is found")
		}
		c := join(t, reg, "c", "10.0.0.3:9090")
		pass(6 * time.Second)
		c.stop() // dies, 0.3 s to 1.3 s after it was heard of for the last time
		pass(13 * time.Second)
		a.knows(t, "a", "c")
		pass(8 * time.Second)
		a.knows(t, "a")
	})
}

// A node is ready only when all others can find it, even those that have just looked for something else.
func TestDirectoryRegisteredMeansFound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := peers.NewMemory()
		a := join(t, reg, "a", "x:1")
		pass(time.Second)
		stop := make(chan struct{})
		defer close(stop)
		go func() { // ends with the test
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				case <-time.After(time.Millisecond):
					a.Lookup(t.Context(), fmt.Sprint("unknown-", i))
				}
			}
		}()
		pass(123 * time.Millisecond)
		for i := range 20 {
			m := join(t, reg, fmt.Sprint("new-", i), "x:2")
			for {
				if err, _ := m.state(); err == nil {
					break
				}
				time.Sleep(time.Millisecond)
			}
			if a.Lookup(t.Context(), m.self.Tag) == nil {
				t.Errorf("%s is not found", m.self.Tag)
			}
		}
	})
}

// Whatever clients ask for, the registry is asked a few times a second.
func TestDirectoryUnknownTags(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := &counted{Registry: peers.NewMemory()}
		a := join(t, reg, "a", "x:1")
		pass(time.Second)
		before := reg.count()
		begun := time.Now()
		for i := range 10_000 {
			if a.Lookup(t.Context(), fmt.Sprint(i)) != nil {
				t.Fatal("found")
			}
			time.Sleep(100 * time.Microsecond)
		}
		synctest.Wait()
		if n := reg.count() - before; n > 6 || n < 3 {
			t.Errorf("%d looks in %v", n, time.Since(begun))
		}
		a.knows(t, "a")

		// Those who come while one is under way wait for it, no longer than they want to.
		pass(time.Second)
		reg.mu.Lock()
		reg.hold = make(chan struct{})
		reg.mu.Unlock()
		before = reg.count()
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() { a.Lookup(t.Context(), "z") })
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		a.Lookup(ctx, "z")
		if ctx.Err() == nil {
			t.Error("it did not wait")
		}
		close(reg.hold)
		wg.Wait()
		if n := reg.count() - before; n != 1 {
			t.Errorf("%d looks", n)
		}
	})
}

// An answer that was overtaken by a later one is not believed.
func TestDirectoryStaleAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := &counted{Registry: peers.NewMemory()}
		a := join(t, reg, "a", "x:1")
		pass(4500 * time.Millisecond)
		reg.mu.Lock()
		hold := make(chan struct{})
		reg.hold = hold
		reg.mu.Unlock()
		var wg sync.WaitGroup
		wg.Go(func() { a.Lookup(t.Context(), "b") }) // is told of nobody, slowly
		synctest.Wait()
		reg.mu.Lock()
		reg.hold = nil
		reg.mu.Unlock()
		join(t, reg, "b", "x:2")
		pass(1500 * time.Millisecond) // within which a has looked again
		a.knows(t, "a", "b")
		close(hold)
		wg.Wait()
		a.knows(t, "a", "b")
	})
}

func TestDirectoryRegistryAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := peers.NewMemory()
		away := errors.New("away")
		reg.Fail(away)
		a := join(t, reg, "a", "x:1")
		pass(time.Second)
		if err, _ := a.state(); !errors.Is(err, away) {
			t.Errorf("state: %v", err)
		}
		reg.Fail(nil)
		b := join(t, reg, "b", "x:2")
		pass(10 * time.Second)
		if err, _ := a.state(); err != nil {
			t.Errorf("state: %v", err)
		}
		a.knows(t, "a", "b")

		// What is known stays known, and unknown tags are not looked for.
		reg.Fail(away)
		pass(10 * time.Second)
		a.Lookup(t.Context(), "z")
		if err, _ := a.state(); err != nil {
			t.Errorf("it is still registered: %v", err)
		}
		pass(time.Minute)
		a.knows(t, "a", "b")
		if err, _ := a.state(); !errors.Is(err, away) {
			t.Errorf("state: %v", err)
		}
		// It comes back empty. Others are believed to live until they had time to enter themselves again.
		reg.Forget()
		reg.Fail(nil)
		for range 60 {
			pass(100 * time.Millisecond)
			a.knows(t, "a", "b")
			b.knows(t, "a", "b")
		}
		b.stop()
		reg.Forget() // without anybody noticing but by what is missing
		pass(14 * time.Second)
		a.knows(t, "a", "b")
		pass(20 * time.Second)
		a.knows(t, "a")
	})
}

// The registry is emptied between two renewals. Who looks for something before all have entered themselves again drops
// nobody.
func TestDirectoryRegistryEmptied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := peers.NewMemory()
		a, b := join(t, reg, "a", "x:1"), join(t, reg, "b", "x:2")
		pass(10 * time.Second)
		peer := a.Lookup(t.Context(), "b")
		reg.Forget()
		for range 60 {
			for _, m := range []*member{a, b} {
				m.Lookup(t.Context(), "z")
				m.knows(t, "a", "b")
			}
			pass(100 * time.Millisecond)
		}
		if a.Lookup(t.Context(), "b") != peer {
			t.Error("it was dropped")
		}
		b.stop() // dies
		pass(40 * time.Second)
		a.knows(t, "a")
	})
}

// A look that began before a node had entered itself is no answer to who asks for it afterwards.
func TestDirectoryEarlyLook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := &counted{Registry: peers.NewMemory()}
		a := join(t, reg, "a", "x:1")
		pass(time.Second)
		reg.mu.Lock()
		hold := make(chan struct{})
		reg.hold = hold
		reg.mu.Unlock()
		var wg sync.WaitGroup
		wg.Go(func() { a.Lookup(t.Context(), "z") })
		synctest.Wait()
		reg.mu.Lock()
		reg.hold = nil
		reg.mu.Unlock()
		b := join(t, reg, "b", "x:2")
		pass(time.Second)
		if err, _ := b.state(); err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			if a.Lookup(t.Context(), "b") == nil {
				t.Error("one that is registered is not found")
			}
		})
		synctest.Wait()
		close(hold)
		wg.Wait()
	})
}

func TestDirectoryTagTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := peers.NewMemory()
		first := join(t, reg, "a", "10.0.0.1:9090")
		pass(time.Second)
		second := join(t, reg, "a", "10.0.0.2:9090")
		pass(time.Minute)
		err, _ := second.state()
		taken, ok := errors.AsType[*peers.TakenError](err)
		if !ok || taken.By.Addr != "10.0.0.1:9090" {
			t.Fatalf("state: %v", err)
		}
		if err, n := first.state(); err != nil || n != 1 {
			t.Errorf("the first: %v, told %d times", err, n)
		}
		if p := second.Lookup(t.Context(), "a"); p == nil || p.ID != first.self.ID {
			t.Errorf("it was stolen: %+v", p)
		}
		// The entry of a dead one is free when its time is over.
		first.stop()
		pass(9 * time.Second)
		if err, _ := second.state(); err == nil {
			t.Error("taken over too early")
		}
		pass(12 * time.Second)
		if err, _ := second.state(); err != nil {
			t.Errorf("not taken over: %v", err)
		}
		// One at the same address is its own successor, at once; who was there hears of it.
		third := join(t, reg, "a", "10.0.0.2:9090")
		pass(time.Second)
		if err, _ := third.state(); err != nil {
			t.Errorf("the successor: %v", err)
		}
		pass(6 * time.Second)
		if err, _ := second.state(); err == nil {
			t.Error("two have the tag, and nobody complains")
		}
		if err, _ := third.state(); err != nil {
			t.Errorf("the successor: %v", err)
		}
	})
}
