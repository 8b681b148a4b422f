//go:build linux

// Command bench measures our server beside Node's and prints a table, see README.md. It reads /proc, hence Linux.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1) //nolint:forbidigo // this is main
	}
}

const defaultOurs = "bin/bench-server" // where make bench puts it

// settings are the flags.
type settings struct {
	ours, node, only, out string
	pattern               *regexp.Regexp
	rounds                int
	quick                 bool
	size                  size
}

func parse(args []string) (*settings, error) {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	s := &settings{size: full}
	flags.StringVar(&s.ours, "ours", defaultOurs, "our `program`, built from ./bench/server")
	flags.StringVar(&s.node, "node", "bench/node/server.mjs", "Node's `script`")
	flags.StringVar(&s.only, "only", "", "measure this `server` alone: ours or node")
	flags.StringVar(&s.out, "out", "", "write the table to this `file` too")
	flags.IntVar(&s.rounds, "rounds", 3, "how often each row is measured on each server; the table shows medians")
	pattern := flags.String("run", "", "measure the rows that this `pattern` matches")
	flags.BoolVar(&s.quick, "quick", false, "small and short: shows that it runs, not how fast the servers are")
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	if s.quick {
		s.size = quick
		s.rounds = 1
	}
	var err error
	if s.pattern, err = regexp.Compile(*pattern); err != nil {
		return nil, err
	}
	switch {
	case flags.NArg() > 0:
		return nil, fmt.Errorf("unknown argument %q", flags.Arg(0))
	case s.only != "" && s.only != "ours" && s.only != "node":
		return nil, fmt.Errorf("-only is ours or node, not %q", s.only)
	case s.rounds < 1:
		return nil, errors.New("-rounds is at least 1")
	}
	return s, nil
}

// commands returns how to start each server.
func (s *settings) commands() map[string][]string {
	return map[string][]string{"ours": {s.ours}, "node": {"node", s.node}}
}

func (s *settings) wanted(row string) bool { return s.pattern.MatchString(row) }

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	s, err := parse(args)
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	if err != nil {
		return err
	}
	files(stderr, s.size)
	res := results{}
	var others []float64
	var buses []string
	failed := 0
	for round := range s.rounds {
		for _, sc := range scenarios {
			if round > 0 && sc.once || !s.wants(sc) {
				continue
			}
			// In turn, and the other one first the next time, so that noise hits both.
			order := []string{"ours", "node"}
			if round%2 == 1 {
				order = []string{"node", "ours"}
			}
			for _, name := range order {
				if s.only != "" && s.only != name {
					continue
				}
				begin := time.Now()
				t, err := s.measure(ctx, sc, name, round == 0)
				if ctx.Err() != nil {
					return context.Cause(ctx)
				}
				fmt.Fprintf(stderr, "round %d  %-4s  %-40s %4.0fs  %s\n", round+1, name, cmp.Or(describe(t, sc, s), "-"),
					time.Since(begin).Seconds(), strings.Join(t.notes, "; "))
				others = append(others, t.others...)
				if t.bus != nil && t.bus.product != "" && !slices.Contains(buses, t.bus.product) {
					buses = append(buses, t.bus.product)
				}
				if err != nil {
					fmt.Fprintf(stderr, "round %d  %-4s  %s: %v\n", round+1, name, sc.rows[0], err)
					failed++
					continue
				}
				res.add(name, t.values)
			}
		}
	}
	text := s.table(res) + "\n" + s.environment(ctx, others, buses)
	fmt.Fprint(stdout, text)
	if s.out != "" {
		if err := os.WriteFile(s.out, []byte(title+text), 0o666); err != nil {
			return err
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d scenarios failed", failed)
	}
	return nil
}

func (s *settings) wants(sc scenario) bool { return slices.ContainsFunc(sc.rows, s.wanted) }

// measure runs a scenario on a fresh server, or two.
func (s *settings) measure(ctx context.Context, sc scenario, name string, first bool) (*trial, error) {
	t := &trial{first: first, size: s.size, wanted: s.wanted, values: map[string]float64{}}
	command := s.commands()[name]
	if sc.bus != "" {
		var err error
		if t.bus, err = startBus(ctx, sc.bus); err != nil {
			return t, err
		}
		defer t.bus.stop()
		command = append(command, sc.bus, t.bus.url)
		if t.peer, err = start(ctx, command...); err != nil {
			return t, err
		}
		defer t.peer.stop()
	}
	var err error
	if t.srv, err = start(ctx, command...); err != nil {
		return t, err
	}
	defer t.srv.stop()
	return t, sc.run(ctx, t)
}

func describe(t *trial, sc scenario, s *settings) string {
	var parts []string
	for _, row := range sc.rows {
		if v, ok := t.values[row]; ok && s.wanted(row) {
			parts = append(parts, fmt.Sprintf("%s %s", row, format(v)))
		}
	}
	return strings.Join(parts, "  ")
}

// files raises the limit of open files, which the servers inherit, and says if it is too low.
func files(stderr io.Writer, size size) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return
	}
	limit.Cur = limit.Max
	_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit)
	if need := uint64(max(size.idle, size.crowd, 2*size.polling) + 500); limit.Cur < need {
		fmt.Fprintf(stderr, "bench: %d files may be open, the largest scenarios need %d and will fail: raise ulimit -n\n", limit.Cur, need)
	}
}
