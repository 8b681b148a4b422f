// Package crew runs short tasks in goroutines that are kept for the next one.
//
// A new goroutine starts with a small stack, and work that goes through a decoder, a handler and an encoder makes it grow:
// the stack is copied, once or twice, for each event of each client. A goroutine that has done such work before has a stack
// that fits.
package crew

import "sync"

// Task is what a crew does.
type Task interface{ Run() }

// Func makes a Task of a function.
type Func func()

// Run implements Task.
func (f Func) Run() { f() }

// Crew is a set of goroutines. The zero value is ready for use; its methods may be called from any goroutine.
type Crew struct {
	mu sync.Mutex
	// guarded by mu
	idle   []chan Task // the last to become idle is the first to go on: its stack is still in the cache
	closed bool
}

// maxIdle bounds what is kept of a burst: each holds some kilobytes of stack.
const maxIdle = 256

// Go runs t in a goroutine. It does not wait for it and does not limit how many there are.
func (c *Crew) Go(t Task) {
	c.mu.Lock()
	n := len(c.idle) - 1
	if n < 0 {
		c.mu.Unlock()
		go c.work(t) // ends when it is one too many, or with Close
		return
	}
	next := c.idle[n]
	c.idle[n] = nil
	c.idle = c.idle[:n]
	c.mu.Unlock()
	next <- t // it has room for one
}

func (c *Crew) work(t Task) {
	next := make(chan Task, 1)
	for t != nil {
		t.Run()
		c.mu.Lock()
		if c.closed || len(c.idle) >= maxIdle {
			c.mu.Unlock()
			return
		}
		c.idle = append(c.idle, next)
		c.mu.Unlock()
		t = <-next
	}
}

// Close lets the goroutines go that have nothing to do, and the others when they are done.
func (c *Crew) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for _, next := range c.idle {
		close(next)
	}
	c.idle = nil
}
