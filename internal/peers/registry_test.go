package peers_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed-0b620db0/patchbay/internal/peers"
	"github.com/seed-0b620db0/patchbay/internal/pgtest"
	"github.com/seed-0b620db0/patchbay/internal/redistest"
	"github.com/seed-0b620db0/patchbay/internal/siotest"
)

// All registries keep the same promises.
func TestRegistries(t *testing.T) {
	for name, open := range map[string]func(t *testing.T) peers.Registry{
		"memory": func(*testing.T) peers.Registry { return peers.NewMemory() },
		"redis": func(t *testing.T) peers.Registry {
			return peers.NewRedis(redistest.Start(t).Client(t), "socket.io")
		},
		"redis-cluster": func(t *testing.T) peers.Registry {
			return peers.NewRedis(redistest.StartCluster(t).Client(t), "socket.io")
		},
		"postgres": func(t *testing.T) peers.Registry {
			return peers.NewPostgres(pgtest.Start(t).Pool(t), "", "socket.io")
		},
		"postgres-pooler": func(t *testing.T) peers.Registry { // which knows no prepared statements
			server := pgtest.Start(t)
			server.Exec(t, `CREATE SCHEMA "my ""own"" schema"`)
			pool := pgtest.PoolOf(t, pgtest.Pooler(t, server, pgtest.TransactionMode).URL()+"&default_query_exec_mode=exec")
			return peers.NewPostgres(pool, `my "own" schema`, `it's "\`)
		},
	} {
		t.Run(name, func(t *testing.T) {
			siotest.LeakCheck(t)
			testRegistry(t, open(t))
		})
	}
}

func testRegistry(t *testing.T, reg peers.Registry) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), siotest.Patience)
	defer cancel()
	const ttl = time.Minute
	register := func(n peers.Node, ttl time.Duration, succeed, want bool) {
		t.Helper()
		if renewed, err := reg.Register(ctx, n, ttl, succeed); err != nil || renewed != want {
			t.Errorf("register %+v: %v, %v", n, renewed, err)
		}
	}
	list := func(want ...peers.Node) {
		t.Helper()
		got, err := reg.List(ctx)
		slices.SortFunc(got, func(a, b peers.Node) int { return strings.Compare(a.Tag, b.Tag) })
		if err != nil || !slices.EqualFunc(got, want, func(a, b peers.Node) bool {
			return a.Tag == b.Tag && a.Addr == b.Addr && a.ID == b.ID && a.Started.Truncate(time.Microsecond).Equal(b.Started.Truncate(time.Microsecond)) // PostgreSQL has no less
		}) {
			t.Errorf("got %+v, %v\nwant %+v", got, err, want)
		}
	}
	a := peers.Node{Tag: "a", Addr: "10.0.0.1:9090", ID: peers.NewID(), Started: time.Now()}
	b := peers.Node{Tag: "b", Addr: "[fd00::1]:9090", ID: peers.NewID(), Started: time.Now()}
	try := func() { // it leaves nothing behind
		t.Helper()
		if trial, ok := reg.(peers.Trial); ok {
			if err := trial.Try(ctx); err != nil {
				t.Errorf("try: %v", err)
			}
			over, cancel := context.WithCancel(ctx)
			cancel()
			if err := trial.Try(over); err == nil {
				t.Error("try: no error")
			}
		}
	}
	try()
	list()
	register(a, ttl, true, false)
	try()
	register(b, ttl, true, false)
	register(a, ttl, false, true)
	list(a, b)

	rival := peers.Node{Tag: "a", Addr: "10.0.0.9:9090", ID: peers.NewID(), Started: time.Now()}
	for _, succeed := range []bool{false, true} {
		_, err := reg.Register(ctx, rival, ttl, succeed)
		if taken, ok := errors.AsType[*peers.TakenError](err); !ok || taken.By.ID != a.ID || taken.By.Addr != a.Addr {
			t.Errorf("a rival: %v", err)
		}
	}
	if err := reg.Remove(ctx, rival); err != nil {
		t.Error(err)
	}
	list(a, b)
	heir := a
	heir.ID = peers.NewID()
	if _, err := reg.Register(ctx, heir, ttl, false); err == nil {
		t.Error("an heir that does not ask for it got the tag")
	}
	register(heir, ttl, true, false)
	if err := reg.Remove(ctx, a); err != nil { // too late
		t.Error(err)
	}
	list(heir, b)
	if err := reg.Remove(ctx, heir); err != nil {
		t.Error(err)
	}
	list(b)
	register(rival, 100*time.Millisecond, false, false)
	list(rival, b)
	eventually(t, "its time is over", func() bool {
		got, err := reg.List(ctx)
		return err == nil && len(got) == 1
	})
	register(a, ttl, false, false)
	list(a, b)
}

// The hash may hold what is not ours, and does not stay when all nodes are gone.
func TestRedisRegistryStrangers(t *testing.T) {
	siotest.LeakCheck(t)
	server := redistest.Start(t)
	rdb := server.Client(t)
	reg := peers.NewRedis(rdb, "chat")
	other := peers.NewRedis(rdb, "socket.io")
	ctx := t.Context()
	a := peers.Node{Tag: "a", Addr: "10.0.0.1:9090", ID: peers.NewID(), Started: time.Now()}
	const forever = `{"tag":"x","id":"y","expires":99999999999999}`
	if err := rdb.HSet(ctx, "chat:nodes", "a", "garbage", "b", "[1]", "c", "7", "d", `{"expires":"x"}`, "e", `{"expires":1}`, "f", "", "x", forever,
		"y", `{"expires":99999999999999}`).Err(); err != nil {
		t.Fatal(err)
	}
	if got, err := reg.List(ctx); err != nil || len(got) != 1 || got[0].Tag != "x" {
		t.Errorf("got %+v, %v", got, err)
	}
	if err := reg.Remove(ctx, a); err != nil {
		t.Error(err)
	}
	if _, err := reg.Register(ctx, a, time.Minute, false); err != nil {
		t.Error(err)
	}
	if got, err := rdb.HKeys(ctx, "chat:nodes").Result(); err != nil || len(got) != 3 {
		t.Errorf("dead entries stay: %q, %v", got, err)
	}
	if got, err := reg.List(ctx); err != nil || len(got) != 2 {
		t.Errorf("got %+v, %v", got, err)
	}
	if got, err := other.List(ctx); err != nil || len(got) != 0 {
		t.Errorf("another key: %+v, %v", got, err)
	}
	if ttl, err := rdb.PTTL(ctx, "chat:nodes").Result(); err != nil || ttl <= 0 || ttl > 10*time.Minute {
		t.Errorf("time to live %v, %v", ttl, err)
	}
	many := make([]any, 0, 2*peers.MaxNodes)
	for i := range peers.MaxNodes + 100 {
		many = append(many, i, forever)
	}
	if err := rdb.HSet(ctx, "chat:nodes", many...).Err(); err != nil {
		t.Fatal(err)
	}
	if got, err := reg.List(ctx); err != nil || len(got) > peers.MaxNodes || len(got) < peers.MaxNodes-2 {
		t.Errorf("%d nodes, %v", len(got), err)
	}

	if err := rdb.Set(ctx, "taken:nodes", "x", 0).Err(); err != nil {
		t.Fatal(err)
	}
	reg = peers.NewRedis(rdb, "taken")
	if _, err := reg.Register(ctx, a, time.Minute, false); err == nil {
		t.Error("a key of another kind")
	}
	server.Kill()
	if _, err := reg.List(ctx); err == nil {
		t.Error("a list of nothing")
	}
	if _, err := reg.Register(ctx, a, time.Minute, false); err == nil {
		t.Error("registered nowhere")
	} else if _, taken := errors.AsType[*peers.TakenError](err); taken {
		t.Errorf("nobody said so: %v", err)
	}
}
