package adaptertest_test

import (
	"context"
	"testing"

	"github.com/seed-0b620db0/patchbay/pkg/adapter"
	"github.com/seed-0b620db0/patchbay/pkg/adapter/adaptertest"
	"github.com/seed-0b620db0/patchbay/pkg/sio"
)

func backend(o adaptertest.NetworkOptions) adaptertest.Backend {
	net := adaptertest.NewNetwork(&o)
	return adaptertest.Backend{
		Adapter: func(node int, opts adapter.Options) sio.NewAdapter { return adapter.Cluster(net.Open(node), &opts) },
		Cut:     net.Cut,
		Hostile: func(ns string) {
			for i := range 256 {
				// A name would be taken for a node's, which is waited for.
				for _, m := range []adapter.Message{{}, {From: adapter.EmitterID}, {RequestID: "1"}, {RequestID: "1", To: "x"}} {
					if m.Type = adapter.Type(i); m.Type != adapter.DisconnectSockets { // it would be meant
						_ = net.Inject(context.Background(), ns, &m)
					}
				}
			}
		},
		Nameless: o.Nameless,
	}
}

func TestNetwork(t *testing.T) {
	for name, o := range map[string]adaptertest.NetworkOptions{
		"census": {}, "heartbeats": {Heartbeats: true}, "nameless": {Nameless: true}, "slow": {Delay: 1 << 27},
	} {
		t.Run(name, func(t *testing.T) {
			adaptertest.RunInBubble(t, func(t *testing.T) adaptertest.Backend { return backend(o) })
		})
	}
}

// TestNetworkInRealTime shows that the suite can do without a bubble.
func TestNetworkInRealTime(t *testing.T) {
	if testing.Short() {
		t.Skip("some of it waits")
	}
	adaptertest.Run(t, func(t *testing.T) adaptertest.Backend { return backend(adaptertest.NetworkOptions{}) })
}
