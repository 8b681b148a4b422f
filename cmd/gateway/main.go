// Command gateway is a node of a Socket.IO gateway cluster. Its environment configures it; gateway -help lists the variables.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/seed-0b620db0/patchbay/internal/gateway"
)

func main() {
	flag.Usage = func() {
		fmt.Fprintln(os.Stderr, "gateway is a node of a Socket.IO gateway cluster. It is configured by environment variables:")
		_ = gateway.Help(os.Stderr)
	}
	flag.Parse()
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "gateway:", err)
		os.Exit(1)
	}
}

func run() error {
	cfg, unknown, err := gateway.Load(os.Environ())
	if err != nil {
		return err
	}
	log := gateway.NewLogger(os.Stderr, cfg)
	for _, name := range unknown {
		log.Warn("unknown_variable", "name", name)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	return gateway.Run(ctx, cfg, log)
}
