// Package loadtest is the gateway's loadtest command: it connects clients to a Socket.IO server, lets them send, and tells
// what came of it.
package loadtest

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/seed-0b620db0/patchbay/internal/load"
)

// The modes.
const (
	modeEcho  = "echo"
	modeRelay = "relay"
	modeIdle  = "idle"
)

const usage = `gateway loadtest puts load on a Socket.IO server and exits with 1 if a client was lost or refused, or an answer
is missing.

  -mode echo   each client in turn emits an event, which the server acknowledges
  -mode relay  clients join rooms and publish to them, as the gateway's relay lets them
  -mode idle   clients connect and stay

`

// options are the flags.
type options struct {
	load.Options
	clients, rooms, payload int
	ramp, rate              float64
	duration                time.Duration
	mode, event, room       string
	json                    bool
}

// minPayload is the size of the time that a payload holds.
const minPayload = 16

func parse(args []string, stderr io.Writer) (*options, error) {
	o := &options{Options: load.Options{Loops: runtime.GOMAXPROCS(0)}}
	flags := flag.NewFlagSet("gateway loadtest", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		fmt.Fprint(stderr, usage)
		flags.PrintDefaults()
	}
	flags.StringVar(&o.URL, "url", "http://localhost:3000", "`address` of the server, with its path if that is not /socket.io/")
	flags.IntVar(&o.clients, "clients", 100, "`number` of clients")
	flags.Float64Var(&o.ramp, "ramp", 200, "clients that connect in a second")
	transport := flags.String("transport", string(load.WebSocket), "websocket, polling, or upgrade from the one to the other")
	flags.StringVar(&o.Namespace, "namespace", "/", "namespace to join")
	auth := flags.String("auth", "", "what clients join it with: a JSON object, or a `token` for auth.token, or @ and the name of a file with either")
	insecure := flags.Bool("insecure", false, "take any certificate")
	flags.DurationVar(&o.Timeout, "timeout", 20*time.Second, "time to connect")
	flags.StringVar(&o.mode, "mode", modeEcho, "echo, relay or idle")
	flags.Float64Var(&o.rate, "rate", 100, "events a second, of all clients together")
	flags.DurationVar(&o.duration, "duration", 30*time.Second, "how long to send once all clients are connected; 0: until interrupted")
	flags.StringVar(&o.event, "event", "", "`name` of the event (default echo, in relay mode message)")
	flags.IntVar(&o.payload, "payload", 64, "`bytes` of the event's argument, a string; at least 16")
	flags.IntVar(&o.rooms, "rooms", 0, "`number` of rooms in relay mode (default one for each 10 clients)")
	flags.StringVar(&o.room, "room", "load", "`prefix` of their names, load:0 and so on")
	flags.BoolVar(&o.json, "json", false, "print the summary as JSON")
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	if flags.NArg() > 0 {
		return nil, fmt.Errorf("unknown argument %q", flags.Arg(0))
	}
	o.Transport = load.Transport(*transport)
	o.TLS = &tls.Config{InsecureSkipVerify: *insecure}
	o.event = cmp.Or(o.event, map[string]string{modeRelay: "message"}[o.mode], "echo")
	o.rooms = cmp.Or(o.rooms, max(1, o.clients/10))
	var err error
	if o.Auth, err = authOf(*auth); err != nil {
		return nil, err
	}
	return o, o.check()
}

func (o *options) check() error {
	for _, c := range []struct {
		bad  bool
		text string
	}{
		{o.mode != modeEcho && o.mode != modeRelay && o.mode != modeIdle, "-mode is echo, relay or idle"},
		{o.clients < 1, "-clients is at least 1"},
		{o.rooms < 1, "-rooms is at least 1"},
		{!(o.ramp > 0), "-ramp is more than 0"},
		{!(o.rate > 0), "-rate is more than 0; use -mode idle for no events"},
		{o.payload < minPayload, "-payload is at least 16"},
		{o.duration < 0, "-duration is not negative"},
		{o.Timeout <= 0, "-timeout is more than 0"},
	} {
		if c.bad {
			return errors.New(c.text)
		}
	}
	return nil
}

// authOf returns the payload of the packet that joins a namespace.
func authOf(s string) (json.RawMessage, error) {
	if name, ok := strings.CutPrefix(s, "@"); ok {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("-auth: %w", err)
		}
		s = strings.TrimSpace(string(text))
	}
	if s == "" {
		return nil, nil
	}
	if !strings.HasPrefix(s, "{") {
		return json.Marshal(map[string]string{"token": s})
	}
	if !json.Valid([]byte(s)) {
		return nil, errors.New("-auth: the object is not JSON")
	}
	return json.RawMessage(s), nil
}

// Run runs the command and returns its exit code: 0, or 1 if something went wrong with the clients, or 2 if the command
// cannot run. When ctx is done it comes to an orderly end.
func Run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o, err := parse(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	var t *test
	if err == nil {
		t, err = newTest(o)
	}
	if err != nil {
		fmt.Fprintln(stderr, "gateway loadtest:", err)
		return 2
	}
	sum := t.run(ctx, stderr)
	if err := sum.print(stdout, o.json); err != nil {
		fmt.Fprintln(stderr, "gateway loadtest:", err)
		return 2
	}
	if !sum.OK {
		return 1
	}
	return 0
}
