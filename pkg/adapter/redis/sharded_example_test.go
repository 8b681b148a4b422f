package redis_test

import (
	"context"
	"errors"
	"fmt"

	goredis "github.com/redis/go-redis/v9"

	"github.com/seed-0b620db0/patchbay/pkg/adapter"
	"github.com/seed-0b620db0/patchbay/pkg/adapter/redis"
	"github.com/seed-0b620db0/patchbay/pkg/sio"
)

// A Redis Cluster, whose shards share the work.
func ExampleNewSharded() {
	rdb := goredis.NewClusterClient(&goredis.ClusterOptions{Addrs: []string{"127.0.0.1:1"}}) // nobody is there
	defer rdb.Close()
	io := sio.NewServer(&sio.Options{Adapter: redis.NewSharded(rdb, &redis.ShardedOptions{Mode: redis.DynamicPrivate})})
	defer io.Close()

	err := io.To("lobby").Emit(context.Background(), "news", "hello")
	fmt.Println(errors.Is(err, adapter.ErrDown))
	// Output: true
}

// Namespaces spread over four streams, of which each keeps about 50,000 entries.
func ExampleNewStreams() {
	rdb := goredis.NewClient(&goredis.Options{Addr: "127.0.0.1:1"}) // nobody is there
	defer rdb.Close()
	io := sio.NewServer(&sio.Options{Adapter: redis.NewStreams(rdb, &redis.StreamsOptions{StreamCount: 4, MaxLen: 50_000})})
	defer io.Close()

	err := io.To("lobby").Emit(context.Background(), "news", "hello")
	fmt.Println(errors.Is(err, adapter.ErrDown))
	// Output: true
}
