// Package node is a process of ours in a fleet, which a test steers over standard input and output. The protocol is in
// README.md of the folder above.
package node

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

// timeout bounds each operation, save those that have their own.
const timeout = 10 * time.Second

// Nodes that know each other by heartbeats are forgotten soon, as in adapters.mjs.
const (
	heartbeatInterval = time.Second
	heartbeatTimeout  = 4 * time.Second
)

// The kinds of processes.
const (
	Server  = "patchbay"
	Emitter = "patchbayEmitter"
)

// op is an operation. Those that wait for others are not waited for, so that the next request can be read.
type op struct {
	f     func(ctx context.Context, p *params) (any, error)
	waits bool
}

// Run is a process of the kind: it answers the requests that it reads from in until that ends.
func Run(kind string, in io.Reader, out io.Writer) error {
	var ops map[string]op
	switch kind {
	case Server:
		s := &server{events: map[string][]any{}}
		defer s.close()
		ops = s.ops()
	case Emitter:
		e := &emitter{}
		defer e.close()
		ops = e.ops()
	default:
		return fmt.Errorf("node: there is no kind %q", kind)
	}
	return serve(ops, in, out)
}

func serve(ops map[string]op, in io.Reader, out io.Writer) error {
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		errs []error
	)
	ctx, cancel := context.WithCancel(context.Background())
	answer := func(id json.RawMessage, result any, err error) {
		m := map[string]any{"id": id, "result": tag(result)}
		if err != nil {
			m["error"] = err.Error()
		}
		mu.Lock()
		defer mu.Unlock()
		if err := json.NewEncoder(out).Encode(m); err != nil {
			errs = append(errs, err)
		}
	}
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		p := new(params)
		if err := json.Unmarshal(lines.Bytes(), p); err != nil {
			answer(p.ID, nil, err)
			continue
		}
		o, ok := ops[p.Op]
		if !ok {
			answer(p.ID, nil, fmt.Errorf("no such op: %q", p.Op))
			continue
		}
		run := func() {
			ctx, cancel := context.WithTimeout(ctx, timeout)
			defer cancel()
			result, err := o.f(ctx, p)
			answer(p.ID, result, err)
		}
		if o.waits {
			wg.Go(run)
		} else {
			run()
		}
	}
	cancel()
	wg.Wait()
	return errors.Join(append(errs, lines.Err())...)
}

// params are a request. README.md tells which op takes which of them.
type params struct {
	ID json.RawMessage
	Op string

	Adapter, Bus        string
	Namespaces, Dynamic []string

	Nsp, From       string
	To, Except      []string
	Local, Volatile bool
	Compress        *bool
	Timeout         int // milliseconds

	Event       string
	Args        []value
	Reply       []value
	Rooms       []string
	Close       bool
	Socket, Act string
	Data        value
	replies     bool
}

// UnmarshalJSON tells an empty list from none.
func (p *params) UnmarshalJSON(b []byte) error {
	type plain params
	if err := json.Unmarshal(b, (*plain)(p)); err != nil {
		return err
	}
	p.replies = p.Reply != nil
	return nil
}

func (p *params) args() []any { return values(p.Args) }

func values(in []value) []any {
	out := make([]any, len(in))
	for i, v := range in {
		out[i] = v.v
	}
	return out
}
