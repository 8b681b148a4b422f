// Command gateway is a node of a Socket.IO gateway cluster. Its environment configures it; gateway -help lists the variables
// and the commands.
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
	"github.com/seed-0b620db0/patchbay/internal/preflight"
)

const commands = `
gateway check     says what is wrong with this environment, and what breaks at how many clients
gateway health    asks the node of this environment whether it is well
gateway loadtest  puts load on a Socket.IO server
gateway version   says what this program was made of

Each has -help.`

func main() {
	flag.Usage = func() {
		fmt.Fprintln(os.Stderr, "gateway is a node of a Socket.IO gateway cluster. It is configured by environment variables:")
		_ = gateway.Help(os.Stderr)
		fmt.Fprintln(os.Stderr, commands)
	}
	showsVersion := flag.Bool("version", false, "")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	args := flag.Args()
	switch {
	case *showsVersion:
		args = []string{"version"}
	case len(args) == 0:
		if err := run(ctx); err != nil {
			fmt.Fprintln(os.Stderr, "gateway:", err)
			os.Exit(1)
		}
		return
	}
	command, args := args[0], args[1:]
	switch command {
	case "check":
		os.Exit(preflight.Main(ctx, os.Environ(), args, build(), os.Stdout, os.Stderr))
	case "health":
		os.Exit(health(ctx, args, os.Stderr))
	case "loadtest":
		os.Exit(loadtest.Run(ctx, args, os.Stdout, os.Stderr))
	case "version":
		os.Exit(showVersion(args, os.Stdout, os.Stderr))
	default:
		fmt.Fprintf(os.Stderr, "gateway: unknown argument %q\n", command)
		flag.Usage()
		os.Exit(2)
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
	return gateway.Run(ctx, cfg, build(), log)
}
