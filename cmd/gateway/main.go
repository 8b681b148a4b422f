// Command gateway is a node of a Socket.IO gateway cluster. Its environment configures it; gateway -help lists the variables.
// gateway loadtest puts load on a Socket.IO server.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/seed-0b620db0/patchbay/internal/gateway"
	"github.com/seed-0b620db0/patchbay/internal/loadtest"
)

func main() {
	flag.Usage = func() {
		fmt.Fprintln(os.Stderr, "gateway is a node of a Socket.IO gateway cluster. It is configured by environment variables:")
		_ = gateway.Help(os.Stderr)
		fmt.Fprintln(os.Stderr, "\ngateway loadtest puts load on a Socket.IO server: see gateway loadtest -help.")
	}
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	switch {
	case flag.NArg() == 0:
	case flag.Arg(0) == "loadtest":
		os.Exit(loadtest.Run(ctx, flag.Args()[1:], os.Stdout, os.Stderr))
	default:
		fmt.Fprintf(os.Stderr, "gateway: unknown argument %q\n", flag.Arg(0))
		flag.Usage()
		os.Exit(2)
	}
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "gateway:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	cfg, unknown, err := gateway.Load(os.Environ())
	if err != nil {
		return err
	}
	log := gateway.NewLogger(os.Stderr, cfg)
	for _, name := range unknown {
		log.Warn("unknown_variable", "name", name)
	}
	return gateway.Run(ctx, cfg, log)
}
