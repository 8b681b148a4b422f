// Command server is our side of the benchmark; bench/node/server.mjs is the other, with the same handlers. It prints the
// address it serves on, and ends when its standard input does. With the arguments redis or postgres, and a
// URL, it is a node of a cluster.
package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"

	"github.com/jackc/pgx/v5/pgxpool"
	goredis "github.com/redis/go-redis/v9"

	"github.com/seed-0b620db0/patchbay/pkg/adapter/postgres"
	"github.com/seed-0b620db0/patchbay/pkg/adapter/redis"
	"github.com/seed-0b620db0/patchbay/pkg/eio"
	"github.com/seed-0b620db0/patchbay/pkg/sio"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "server:", err)
		os.Exit(1) //nolint:forbidigo // this is main
	}
}

func run(args []string) error {
	opts := &sio.Options{Engine: eio.Options{MaxHTTPBufferSize: 2_000_000}}
	if len(args) > 0 {
		var err error
		if opts.Adapter, err = busOf(args); err != nil {
			return err
		}
	}
	srv := sio.NewServer(opts)
	srv.On("echo", sio.Reply(func(_ context.Context, _ *sio.Socket, v string) (string, error) { return v, nil }))
	srv.On("binary", sio.Reply(func(_ context.Context, _ *sio.Socket, v []byte) ([]byte, error) { return v, nil }))
	srv.On("join", sio.Receive(func(_ context.Context, s *sio.Socket, room string) error {
		s.Join(room)
		return nil
	}))
	srv.On("broadcast", func(ctx context.Context, _ *sio.Socket, ev *sio.Event) error {
		var room, v string
		if err := ev.Args().Decode(&room, &v); err != nil {
			return err
		}
		return srv.To(room).Emit(ctx, "message", v)
	})
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Fprintln(os.Stdout, lis.Addr())
	failed := make(chan error, 2)
	go func() { failed <- http.Serve(lis, srv) }() // ends with the process
	go func() {                                    // the same
		_, err := io.Copy(io.Discard, os.Stdin)
		failed <- err
	}()
	return <-failed
}

// busOf returns what joins this node to the others: all of it has its default settings.
func busOf(args []string) (sio.NewAdapter, error) {
	switch {
	case len(args) == 2 && args[0] == "redis":
		o, err := goredis.ParseURL(args[1])
		if err != nil {
			return nil, err
		}
		return redis.New(goredis.NewClient(o), nil), nil
	case len(args) == 2 && args[0] == "postgres":
		pool, err := pgxpool.New(context.Background(), args[1])
		if err != nil {
			return nil, err
		}
		return postgres.New(pool, nil), nil
	}
	return nil, fmt.Errorf("unknown arguments %q", args)
}
