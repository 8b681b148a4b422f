package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"

	"github.com/seed-0b620db0/patchbay/internal/gateway"
)

// Set by the linker: -ldflags "-X main.version=v1.2.3 -X main.commit=0123456789ab". What is empty, the go command knows.
var version, commit string

func build() gateway.Build { return gateway.NewBuild(version, commit) }

// showVersion is the command that says what this program was made of.
func showVersion(args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("gateway version", flag.ContinueOnError)
	flags.SetOutput(stderr)
	asJSON := flags.Bool("json", false, "print an object")
	if code, ok := parse(flags, args, stderr); !ok {
		return code
	}
	b := build()
	if !*asJSON {
		fmt.Fprintln(stdout, "gateway", b)
		return 0
	}
	if err := json.NewEncoder(stdout).Encode(b); err != nil {
		fmt.Fprintln(stderr, "gateway version:", err)
		return 1
	}
	return 0
}

// parse reads the flags of a command that has no arguments. If ok is false, the command ends with the code.
func parse(flags *flag.FlagSet, args []string, stderr io.Writer) (code int, ok bool) {
	err := flags.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0, false
	case err != nil:
		return 2, false
	case flags.NArg() > 0:
		fmt.Fprintf(stderr, "%s: unknown argument %q\n", flags.Name(), flags.Arg(0))
		flags.Usage()
		return 2, false
	}
	return 0, true
}
