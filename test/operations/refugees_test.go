package operations_test

import (
	"context"
	"encoding/json"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/seed-0b620db0/patchbay/internal/load"
)

// refugeeVariable makes this program the clients of a node that is about to die: its address, and those of two others.
const refugeeVariable = "OPERATIONS_REFUGEES"

// refugees connects the clients and tells of it on out, and tells again when all have lost their node and are back. It ends with in.
func refugees(addrs []string, in io.Reader, out io.Writer) error {
	if err := syscall.Setpriority(syscall.PRIO_PROCESS, 0, 19); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() { // ends with the owner
		_, _ = io.Copy(io.Discard, in) // nothing comes
		cancel()
	}()
	f := &flight{ctx: ctx}
	for _, addr := range addrs {
		g, err := load.New(&load.Options{URL: "http://" + addr, Timeout: 30 * time.Second})
		if err != nil {
			return err
		}
		defer g.Close()
		f.to = append(f.to, g)
	}
	f.away.Add(stormSize)
	var wg sync.WaitGroup
	places := make(chan struct{}, 64)
	for range stormSize {
		places <- struct{}{}
		wg.Go(func() {
			defer func() { <-places }()
			if _, err := f.to[0].Connect(ctx, &refugee{f}); err != nil {
				f.fault(err)
			}
		})
	}
	wg.Wait()
	report := json.NewEncoder(out)
	if err := report.Encode(f.report()); err != nil {
		return err
	}
	f.away.Wait()
	if err := report.Encode(f.report()); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

type flight struct {
	ctx  context.Context //nolint:containedctx // that of the process
	to   []*load.Generator
	away sync.WaitGroup // clients that are not back yet

	attempts, refused, lost atomic.Int64
	err                     atomic.Pointer[string]
}

func (f *flight) report() fleeing {
	r := fleeing{Attempts: f.attempts.Load(), Refused: f.refused.Load(), Lost: f.lost.Load()}
	if text := f.err.Load(); text != nil {
		r.Error = *text
	}
	return r
}

func (f *flight) fault(err error) {
	text := err.Error()
	f.err.Store(&text)
}

// refugee is a client that loses its node.
type refugee struct{ f *flight }

func (*refugee) Receive(*load.Client, *load.Message) {}

// Lost has it come back, to one of the others, as a stock client does: after one second, then two, four, five, each give or take
// half of it.
func (r *refugee) Lost(*load.Client, error) {
	f := r.f
	go func() { // ends when it is back, or with the process
		for delay := time.Second; f.ctx.Err() == nil; delay = min(2*delay, 5*time.Second) {
			time.Sleep(delay/2 + rand.N(delay)) // of the protocol
			f.attempts.Add(1)
			_, err := f.to[1+rand.IntN(2)].Connect(f.ctx, settler{f})
			switch {
			case err == nil:
				f.away.Done()
				return
			case strings.Contains(err.Error(), "503"):
				f.refused.Add(1)
			case f.ctx.Err() == nil:
				f.fault(err)
			}
		}
	}()
}

// settler is a client that is back, and has to stay.
type settler struct{ f *flight }

func (settler) Receive(*load.Client, *load.Message) {}

func (s settler) Lost(_ *load.Client, err error) {
	s.f.lost.Add(1)
	s.f.fault(err)
}

// runRefugees is what TestMain does if it is asked to.
func runRefugees(addrs string) {
	if err := refugees(strings.Split(addrs, ","), os.Stdin, os.Stdout); err != nil {
		panic(err)
	}
}
