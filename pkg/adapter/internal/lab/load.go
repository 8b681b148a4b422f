package lab

import (
	"sync"
	"sync/atomic"
	"time"
)

// Load emits numbers until it is stopped, while a client of the same server must get them all, without a pause.
type Load struct {
	Emitted atomic.Int64
	Slowest atomic.Int64 // emission, in ns

	lab     *Lab
	node    *Node
	stop    chan struct{}
	running sync.WaitGroup
}

// Load starts a load of a thousand a second at most.
func (n *Node) Load(local *Client) *Load {
	g := &Load{lab: n.lab, node: n, stop: make(chan struct{})}
	emitting := make(chan struct{})
	g.running.Go(func() {
		defer close(emitting)
		ticker := time.NewTicker(time.Millisecond)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
			case <-g.stop:
				return
			}
			begin := time.Now()
			_ = n.Emit(n.lab.Context(), Numbered, g.Emitted.Load()) // the hooks count what fails
			g.Slowest.Store(max(g.Slowest.Load(), int64(time.Since(begin))))
			g.Emitted.Add(1)
		}
	})
	g.running.Go(func() {
		for i := int64(0); ; i++ {
			begin := time.Now()
			p, _ := local.Next()
			if got, ok := Number(p); !ok || int64(got) != i {
				<-emitting
				if p != `2["end"]` || i != g.Emitted.Load() {
					n.lab.Errorf("local delivery: got %q, want number %d", p, i)
				}
				return
			}
			if d := time.Since(begin); d > 2*time.Second { // which is forever on a slow machine, too
				n.lab.Errorf("local delivery paused for %v", d)
			}
		}
	})
	g.running.Go(func() {
		<-emitting
		_ = n.Local().Emit(n.lab.Context(), "end")
	})
	return g
}

// End stops the load, waits for its own client, and until all that was emitted is accounted for.
func (g *Load) End() {
	g.lab.Helper()
	close(g.stop)
	g.running.Wait()
	g.lab.Until("all is accounted for", func() bool { return g.node.Published.Load()+g.node.Failed.Load() >= g.Emitted.Load() })
}
