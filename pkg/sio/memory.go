package sio

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"
)

// memory is the adapter of a node that is alone.
type memory struct{ local *Local }

var _ Adapter = memory{}

func newMemory(l *Local, recovery *RecoveryOptions, grace time.Duration) Adapter {
	if recovery == nil {
		return memory{l}
	}
	return newRecovery(l, *recovery, grace)
}

func (m memory) Broadcast(_ context.Context, out *Outgoing, t Target) error {
	m.local.Broadcast(out, t)
	return nil
}

func (m memory) BroadcastWithAck(ctx context.Context, out *Outgoing, t Target, answer func(Args, error)) error {
	var missing atomic.Int64 // below zero until the number of clients is known
	done := make(chan struct{})
	count := func(n int) {
		if missing.Add(int64(n)) == 0 {
			close(done)
		}
	}
	n, cancel := m.local.BroadcastWithAck(out, t, func(a Args, err error) {
		answer(a, err)
		count(-1)
	})
	defer cancel()
	count(n)
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%w: %d of %d clients did not answer", ackError(ctx), missing.Load(), n)
	}
}

func (m memory) Join(_ context.Context, t Target, rooms []string) error {
	m.local.Join(t, rooms)
	return nil
}

func (m memory) Leave(_ context.Context, t Target, rooms []string) error {
	m.local.Leave(t, rooms)
	return nil
}

func (m memory) Disconnect(_ context.Context, t Target, closeTransport bool) error {
	m.local.Disconnect(t, closeTransport)
	return nil
}

func (m memory) FetchSockets(_ context.Context, t Target) ([]RemoteSocket, error) {
	return m.local.FetchSockets(t)
}

func (memory) ServerSideEmit(context.Context, *Outgoing) error { return nil }

func (memory) ServerSideEmitWithAck(context.Context, *Outgoing, func(Args)) error { return nil }

func (memory) ServerCount(context.Context) (int, error) { return 1, nil }

func (memory) Close() error { return nil }
