package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/seed-0b620db0/patchbay/internal/pgtest"
	"github.com/seed-0b620db0/patchbay/pkg/adapter"
	"github.com/seed-0b620db0/patchbay/pkg/adapter/postgres"
	"github.com/seed-0b620db0/patchbay/pkg/sio"
)

// TestPools has pools that speak to PostgreSQL in all ways there are.
func TestPools(t *testing.T) {
	l := newLab(t)
	s := pgtest.Start(t)
	o := impatient()
	for _, way := range []string{
		"default_query_exec_mode=cache_statement", "default_query_exec_mode=cache_describe", "default_query_exec_mode=describe_exec",
		"default_query_exec_mode=exec", "default_query_exec_mode=simple_protocol", "pool_max_conns=1",
	} {
		a := newNode(l, pgtest.PoolOf(t, s.URL()+"&"+way), o)
		b := newNode(l, pgtest.PoolOf(t, s.URL()+"&"+way), o)
		c := b.Client("/")
		a.AwaitNodes(2)
		long, odd := strings.Repeat("x", 9000), `'"\\$1 ü`
		for range 3 {
			for i := range 20 { // a batch
				must(t, a.Emit(t.Context(), "n", i, odd))
			}
			must(t, a.Emit(t.Context(), "long", long))
			must(t, a.Emit(t.Context(), "binary", []byte("\x00\xff'\\")))
			for i := range 20 {
				c.Want(fmt.Sprintf(`2["n",%d,"'\"\\\\$1 ü"]`, i))
			}
			c.Want(`2["long","`+long+`"]`, `51-["binary",{"_placeholder":true,"num":0}]`, "bin:\x00\xff'\\")
		}
		s.Exec(t, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND (`+isListener+`)`)
		b.AwaitDown(1) // and catches up
		b.AwaitUp("/")
		if n := a.Failed.Load() + b.Dropped.Load(); n > 0 {
			t.Error(way, a.Faults.All(), b.Faults.All())
		}
		a.Stop()
		b.Stop()
	}
}

// TestSmallInbox has room for less than one message at a time.
func TestSmallInbox(t *testing.T) {
	l := newLab(t)
	s := pgtest.Start(t)
	a := newNode(l, s.Pool(t), postgres.Options{})
	b := newNode(l, s.Pool(t), postgres.Options{MaxInboxBytes: 100})
	a.Of("/other")
	b.Of("/other")
	b.AwaitUp("/other")
	a.AwaitUp("/other")
	c, other := b.Client("/"), b.Client("/other")
	long := strings.Repeat("x", 9000)
	for i := range 500 {
		must(t, a.Emit(t.Context(), "n", i))
		if i%10 == 0 {
			must(t, a.Of("/other").Emit(t.Context(), "n", i, long))
		}
	}
	for i := range 500 {
		c.Want(fmt.Sprintf(`2["n",%d]`, i))
		if i%10 == 0 {
			other.Want(fmt.Sprintf(`2["n",%d,"%s"]`, i, long))
		}
	}
	b.StayedUp()
}

// TestEncoding has a database that cannot store everything.
func TestEncoding(t *testing.T) {
	l := newLab(t)
	s := pgtest.Start(t)
	s.Exec(t, "CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0")
	url := strings.Replace(s.URL(), "/"+pgtest.Superuser+"?", "/latin?", 1)
	startNode(l, pgtest.PoolOf(t, url), impatient()).Says("not UTF8: LATIN1")
}

// While PostgreSQL is away, emissions reach the clients of this node only.
func ExampleNew() {
	pool, err := pgxpool.New(context.Background(), "postgres://127.0.0.1:1") // nobody is there
	if err != nil {
		fmt.Println(err)
		return
	}
	defer pool.Close()
	io := sio.NewServer(&sio.Options{Adapter: postgres.New(pool, nil)})
	defer io.Close()

	err = io.To("lobby").Emit(context.Background(), "news", "hello")
	fmt.Println(errors.Is(err, adapter.ErrDown))
	// Output: true
}
