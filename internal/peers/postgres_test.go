package peers_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-0b620db0/patchbay/internal/peers"
	"github.com/seed-0b620db0/patchbay/internal/pgtest"
	"github.com/seed-0b620db0/patchbay/internal/siotest"
)

// Many nodes that start at once make one table, and one of those with the same tag gets it.
func TestPostgresRegistryRace(t *testing.T) {
	siotest.LeakCheck(t)
	server := pgtest.Start(t)
	pool := server.Pool(t)
	reg := peers.NewPostgres(pool, "", "socket.io")
	const nodes = 8
	errs := make([]error, 2*nodes)
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() {
			n := peers.Node{Tag: fmt.Sprint("n-", i%nodes), Addr: fmt.Sprint("10.0.0.1:", i), ID: peers.NewID(), Started: time.Now()}
			_, errs[i] = reg.Register(t.Context(), n, time.Minute, true)
		})
	}
	wg.Wait()
	for i := range nodes {
		if (errs[i] == nil) == (errs[i+nodes] == nil) {
			t.Errorf("n-%d: %v, %v", i, errs[i], errs[i+nodes])
		}
	}
	if got, err := reg.List(t.Context()); err != nil || len(got) != nodes {
		t.Errorf("got %+v, %v", got, err)
	}
}

// The table may hold what is not ours. What is over does not stay.
func TestPostgresRegistryStrangers(t *testing.T) {
	siotest.LeakCheck(t)
	server := pgtest.Start(t)
	pool := server.Pool(t)
	reg, other := peers.NewPostgres(pool, "", "chat"), peers.NewPostgres(pool, "", "socket.io")
	a := peers.Node{Tag: "a", Addr: "10.0.0.1:9090", ID: peers.NewID(), Started: time.Now()}
	if _, err := reg.Register(t.Context(), a, time.Minute, false); err != nil {
		t.Fatal(err)
	}
	server.Exec(t, `INSERT INTO patchbay_nodes SELECT 'chat', 't' || i, '', 'x', now(), now() - interval '1 s' FROM generate_series(1, 10) i`,
		`INSERT INTO patchbay_nodes VALUES ('gone', 'a', '', 'x', now(), now() - interval '1 s'), ('chat', '', '', 'x', now(), now() + interval '1 h'),
			('chat', 'b', '', '', now(), now() + interval '1 h')`)
	if renewed, err := reg.Register(t.Context(), a, time.Minute, false); err != nil || !renewed {
		t.Error(renewed, err)
	}
	if got, err := reg.List(t.Context()); err != nil || len(got) != 1 || got[0].Tag != "a" {
		t.Errorf("got %+v, %v", got, err)
	}
	if got, err := other.List(t.Context()); err != nil || len(got) != 0 {
		t.Errorf("another prefix: %+v, %v", got, err)
	}
	var rows int
	if err := pool.QueryRow(t.Context(), "SELECT count(*) FROM patchbay_nodes").Scan(&rows); err != nil || rows != 3 {
		t.Errorf("dead entries stay: %d, %v", rows, err)
	}
	server.Exec(t, fmt.Sprintf(`INSERT INTO patchbay_nodes SELECT 'chat', 't' || i, '', 'x', now(), now() + interval '1 h' FROM generate_series(1, %d) i`,
		peers.MaxNodes+100))
	if got, err := reg.List(t.Context()); err != nil || len(got) != peers.MaxNodes {
		t.Errorf("%d nodes, %v", len(got), err)
	}
}

// Who may not make the table is told what to do.
func TestPostgresRegistryPermissions(t *testing.T) {
	siotest.LeakCheck(t)
	server := pgtest.Start(t)
	reg := peers.NewPostgres(pgtest.PoolOf(t, server.User(t, "gateway", "pw")), "", "socket.io")
	a := peers.Node{Tag: "a", Addr: "10.0.0.1:9090", ID: peers.NewID(), Started: time.Now()}
	server.Exec(t, "REVOKE CREATE ON SCHEMA public FROM PUBLIC")
	if got, err := reg.List(t.Context()); err != nil || len(got) > 0 {
		t.Errorf("a list without a table: %+v, %v", got, err)
	}
	if err := reg.Remove(t.Context(), a); err != nil {
		t.Error(err)
	}
	_, err := reg.Register(t.Context(), a, time.Minute, false)
	if err == nil || !strings.Contains(err.Error(), "permission denied for schema public") {
		t.Fatal(err)
	}
	_, statement, ok := strings.Cut(err.Error(), "DELETE after: ")
	if !ok {
		t.Fatal(err)
	}
	server.Exec(t, statement)
	if _, err := reg.Register(t.Context(), a, time.Minute, false); err == nil || !strings.Contains(err.Error(), "permission denied for table patchbay_nodes") {
		t.Error(err)
	}
	server.Exec(t, "GRANT SELECT, INSERT, UPDATE, DELETE ON patchbay_nodes TO gateway")
	if _, err := reg.Register(t.Context(), a, time.Minute, false); err != nil {
		t.Error(err)
	}

	server.Kill()
	if _, err := reg.List(t.Context()); err == nil {
		t.Error("a list of nothing")
	}
	if err := reg.Remove(t.Context(), a); err == nil {
		t.Error("removed from nothing")
	}
	if _, err := reg.Register(t.Context(), a, time.Minute, false); err == nil {
		t.Error("registered nowhere")
	}
}
