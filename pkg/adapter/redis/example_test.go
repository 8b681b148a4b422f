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

// While Redis is away, emissions reach the clients of this node only.
func ExampleNew() {
	rdb := goredis.NewClient(&goredis.Options{Addr: "127.0.0.1:1"}) // nobody is there
	defer rdb.Close()
	io := sio.NewServer(&sio.Options{Adapter: redis.New(rdb, nil)})
	defer io.Close()

	err := io.To("lobby").Emit(context.Background(), "news", "hello")
	fmt.Println(errors.Is(err, adapter.ErrDown))
	// Output: true
}
