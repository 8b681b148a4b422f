package preflight_test

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/seed-0b620db0/patchbay/internal/gateway"
	"github.com/seed-0b620db0/patchbay/internal/siotest"
)

// start runs a node with the environment until the end of the test, or until stop. It is ready when start returns.
func start(t *testing.T, vars ...string) (g *gateway.Gateway, stop func()) {
	t.Helper()
	siotest.LeakCheck(t)
	cfg, _, err := gateway.Load(environment(append([]string{"SHUTDOWN_DELAY=0s", "DRAIN_WINDOW=0s"}, vars...)...))
	if err != nil {
		t.Fatal(err)
	}
	if g, err = gateway.New(cfg, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	if err := g.Listen(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- g.Serve(ctx) }() // ends by stop
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	base := "http://" + g.AdminAddr().String()
	deadline := time.Now().Add(siotest.Patience)
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		err := gateway.ProbeHealth(t.Context(), base, true)
		if err == nil {
			return g, stop
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(pause) // there is nothing to wait on
	}
}
