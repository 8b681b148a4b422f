//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/seed-0b620db0/patchbay/internal/load"
)

// trial is one scenario on one server.
type trial struct {
	srv    *process
	peer   *process // a second node beside it, joined by bus; mostly nil
	bus    *bus     // the same
	size   size
	wanted func(row string) bool
	values map[string]float64 // by row
	notes  []string
	others []float64 // % of a core that other processes used during the measurements
	first  bool      // of the rounds
	lost   lost
}

// size is how large the scenarios are.
type size struct {
	idle, polling, churn     int // clients
	members, crowd           int // of the rooms
	warm, run, beats, settle time.Duration
}

var (
	full  = size{idle: 10_000, polling: 5_000, churn: 10_000, members: 1_000, crowd: 10_000, warm: time.Second, run: 5 * time.Second, beats: 50 * time.Second, settle: 5 * time.Second}
	quick = size{idle: 1_000, polling: 500, churn: 500, members: 200, crowd: 1_000, warm: 200 * time.Millisecond, run: 800 * time.Millisecond, beats: time.Second, settle: 200 * time.Millisecond}
)

// lost counts clients that went away, and answers that are not what they should be.
type lost struct {
	n     atomic.Int64
	first atomic.Pointer[error]
}

func (l *lost) add(err error) {
	l.n.Add(1)
	l.first.CompareAndSwap(nil, &err)
}

func (l *lost) err() error {
	if n := l.n.Load(); n > 0 {
		return fmt.Errorf("%d clients lost or answered wrongly, first: %w", n, *l.first.Load())
	}
	return nil
}

// handler makes a load.Handler of a func.
type handler struct {
	*trial
	receive func(c *load.Client, m *load.Message)
}

func (h handler) Receive(c *load.Client, m *load.Message) {
	if h.receive != nil {
		h.receive(c, m)
	}
}

func (h handler) Lost(_ *load.Client, err error) { h.lost.add(err) }

// generator makes one for the server; stop is to be deferred.
func (t *trial) generator(o load.Options) (g *load.Generator, stop func(), err error) {
	return generatorFor(t.srv, o)
}

func generatorFor(srv *process, o load.Options) (g *load.Generator, stop func(), err error) {
	o.URL, o.Loops = srv.url, runtime.NumCPU() // one would still be reading when our server is done
	if g, err = load.New(&o); err != nil {
		return nil, nil, err
	}
	return g, g.Close, nil
}

// atOnce is how many clients connect at the same time.
const atOnce = 16

// connect adds n clients as fast as it goes.
func (t *trial) connect(ctx context.Context, g *load.Generator, n int, receive func(*load.Client, *load.Message)) ([]*load.Client, error) {
	clients := make([]*load.Client, n)
	errs := make([]error, atOnce)
	var next atomic.Int64
	var wg sync.WaitGroup
	for k := range atOnce {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n && errs[k] == nil; i = int(next.Add(1)) - 1 {
				clients[i], errs[k] = g.Connect(ctx, handler{t, receive})
			}
		})
	}
	wg.Wait()
	return clients, errors.Join(errs...)
}

// usage is what was used between two readings.
type usage struct {
	cpu, bus, own, all, wall time.Duration // of the servers, of what joins them, of this process, of the machine
	n                        float64       // things done
}

// measure reads before and after f.
func (t *trial) measure(count *atomic.Int64, f func() error) (usage, error) {
	n, own, all, begin := count.Load(), ownCPU(), machineCPU(), time.Now()
	cpu, bus, err := t.cpu()
	if err != nil {
		return usage{}, err
	}
	if err := f(); err != nil {
		return usage{}, err
	}
	after, busAfter, err := t.cpu()
	if err != nil {
		return usage{}, err
	}
	u := usage{
		cpu: after - cpu, bus: busAfter - bus, own: ownCPU() - own, all: machineCPU() - all, wall: time.Since(begin), n: float64(count.Load() - n),
	}
	if u.n == 0 {
		err = errors.New("nothing was done")
	}
	return u, errors.Join(err, t.lost.err())
}

// cpu returns the time that the servers have used, and what joins them.
func (t *trial) cpu() (servers, bus time.Duration, err error) {
	servers, err = t.srv.cpu()
	if t.peer == nil || err != nil {
		return servers, 0, err
	}
	more, err1 := t.peer.cpu()
	bus, err2 := t.bus.cpu()
	return servers + more, bus, errors.Join(err1, err2)
}

// each returns the server's CPU time for each thing done, in units of unit.
func (u usage) each(unit time.Duration) float64 { return float64(u.cpu) / float64(unit) / u.n }

// busEach returns the same of what joins the servers.
func (u usage) busEach(unit time.Duration) float64 { return float64(u.bus) / float64(unit) / u.n }

// by returns what was used when n of what was counted are one.
func (u usage) by(n int) usage {
	u.n /= float64(n)
	return u
}

func (u usage) rate() float64 { return u.n / u.wall.Seconds() }

// note tells, beside a row, what the load cost this process, which must not be what limits it, and what others used
// meanwhile, who should not be there.
func (t *trial) note(what string, u usage) {
	share := func(d time.Duration) float64 { return 100 * d.Seconds() / u.wall.Seconds() }
	others := max(0, share(u.all-u.cpu-u.bus-u.own))
	t.others = append(t.others, others)
	bus := ""
	if t.bus != nil {
		bus = fmt.Sprintf("bus %.0f, ", share(u.bus))
	}
	t.notes = append(t.notes, fmt.Sprintf("%s: %.0f/s, %% of a core: server %.0f, %sgenerator %.0f, others %.0f",
		what, u.rate(), share(u.cpu), bus, share(u.own), others))
}

// latency sets a scenario's rows of percentiles.
func (t *trial) latency(scenario string, h *load.Histogram) {
	for name, q := range map[string]float64{"/p50": 0.5, "/p99": 0.99, "/p99.9": 0.999} {
		t.values[scenario+name] = float64(h.Quantile(q)) / float64(time.Microsecond)
	}
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// until waits for a condition that other threads make true, with a limit.
func until(ctx context.Context, cond func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for !cond() {
		if err := pause(ctx, time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// machineCPU returns the time that all processes of the machine have used.
func machineCPU() time.Duration {
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	var user, nice, system, idle, wait, irq, softirq int64
	if _, err := fmt.Sscanf(string(stat), "cpu %d %d %d %d %d %d %d", &user, &nice, &system, &idle, &wait, &irq, &softirq); err != nil {
		return 0
	}
	return time.Duration(user+nice+system+irq+softirq) * tick
}

// ownCPU returns the time that all threads of this process have used.
func ownCPU() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
