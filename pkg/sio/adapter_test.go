package sio_test

import (
	"context"

	"github.com/seed-0b620db0/patchbay/pkg/sio"
)

// nothing is an adapter that does nothing.
type nothing struct{}

var _ sio.Adapter = nothing{}

func (nothing) Broadcast(context.Context, *sio.Outgoing, sio.Target) error { return nil }
func (nothing) BroadcastWithAck(context.Context, *sio.Outgoing, sio.Target, func(sio.Args, error)) error {
	return nil
}
func (nothing) Join(context.Context, sio.Target, []string) error                     { return nil }
func (nothing) Leave(context.Context, sio.Target, []string) error                    { return nil }
func (nothing) Disconnect(context.Context, sio.Target, bool) error                   { return nil }
func (nothing) FetchSockets(context.Context, sio.Target) ([]sio.RemoteSocket, error) { return nil, nil }
func (nothing) ServerSideEmit(context.Context, *sio.Outgoing) error                  { return nil }
func (nothing) ServerSideEmitWithAck(context.Context, *sio.Outgoing, func(sio.Args)) error {
	return nil
}
func (nothing) ServerCount(context.Context) (int, error) { return 1, nil }
func (nothing) Close() error                             { return nil }
