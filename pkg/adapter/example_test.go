package adapter_test

import (
	"context"
	"fmt"
	"runtime"

	"github.com/seed-0b620db0/patchbay/pkg/adapter"
	"github.com/seed-0b620db0/patchbay/pkg/adapter/adaptertest"
	"github.com/seed-0b620db0/patchbay/pkg/sio"
)

// Two nodes over a bus within this process. Others come from packages redis and postgres.
func ExampleCluster() {
	network := adaptertest.NewNetwork(nil)
	node := func(i int) *sio.Server {
		return sio.NewServer(&sio.Options{Adapter: adapter.Cluster(network.Open(i), &adapter.Options{Node: fmt.Sprint("node", i)})})
	}
	a, b := node(0), node(1)
	defer a.Close()
	defer b.Close()
	b.OnServerEvent("ping", func(_ context.Context, ev *sio.Event) error { return ev.Ack("pong") })

	ctx := context.Background()
	for n := 0; n < 2; n, _ = a.Adapter().ServerCount(ctx) {
		runtime.Gosched() // the buses are opened in the background
	}
	for args, err := range a.ServerSideEmitWithAck(ctx, "ping") {
		var answer string
		if err == nil {
			err = args.Decode(&answer)
		}
		fmt.Println(answer, err)
	}
	// Output: pong <nil>
}
