package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/seed-0b620db0/patchbay/internal/gateway"
)

const healthUsage = `gateway health asks the node of this environment (GATEWAY_ADMIN_ADDR) whether its process runs, and exits with 0 if it
does, with 1 and the reason on standard error if not.

`

// health is the command for the health check of a container.
func health(ctx context.Context, args []string, stderr io.Writer) int {
	flags := flag.NewFlagSet("gateway health", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		fmt.Fprint(stderr, healthUsage)
		flags.PrintDefaults()
	}
	ready := flags.Bool("ready", false, "ask whether it should get clients")
	base := flags.String("addr", "", "`URL` of its internal address, such as http://10.0.0.7:9090 (default: on this host, by GATEWAY_ADMIN_ADDR)")
	if code, ok := parse(flags, args, stderr); !ok {
		return code
	}
	var err error
	switch {
	case *base == "":
		*base, err = gateway.AdminURL(os.Environ())
	case !strings.Contains(*base, "://"):
		*base = "http://" + *base
	}
	if err == nil {
		err = gateway.ProbeHealth(ctx, *base, *ready)
	}
	if err == nil {
		return 0
	}
	if not, ok := errors.AsType[*gateway.NotReadyError](err); ok && len(not.Reasons) > 0 {
		for _, reason := range not.Reasons {
			fmt.Fprintln(stderr, "gateway health: not ready:", reason)
		}
		return 1
	}
	fmt.Fprintln(stderr, "gateway health:", err)
	return 1
}
