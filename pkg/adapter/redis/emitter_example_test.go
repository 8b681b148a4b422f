package redis_test

import (
	"context"
	"fmt"
	"strings"

	goredis "github.com/redis/go-redis/v9"

	"github.com/seed-0b620db0/patchbay/pkg/adapter/redis"
)

func ExampleNewEmitter() {
	rdb := goredis.NewClient(&goredis.Options{Addr: "localhost:6379"})
	defer rdb.Close()
	rdb.AddHook(printer{}) // prints commands rather than sending them

	ctx := context.Background()
	io := redis.NewEmitter(rdb, nil)
	if err := io.To("news").Except("muted").Emit(ctx, "headline", "Go 2 postponed", []byte{1, 2, 3}); err != nil {
		fmt.Println(err)
	}
	admins := io.Of("/admin")
	if err := admins.To("on call").SocketsJoin(ctx, "incident 7"); err != nil {
		fmt.Println(err)
	}
	if err := admins.ServerSideEmit(ctx, "reload"); err != nil {
		fmt.Println(err)
	}
	// Output:
	// publish socket.io#/#news# (91 bytes)
	// publish socket.io-request#/admin# {"type":2,"opts":{"rooms":["on call"],"except":[]},"rooms":["incident 7"]}
	// publish socket.io-request#/admin# {"uid":"emitter","type":6,"data":["reload"]}
}

func ExampleNewShardedEmitter() {
	rdb := goredis.NewClient(&goredis.Options{Addr: "localhost:6379"})
	defer rdb.Close()
	rdb.AddHook(printer{})

	io := redis.NewShardedEmitter(rdb, &redis.ShardedEmitterOptions{Mode: redis.Dynamic}) // as the servers have it
	if err := io.To("news").Volatile().Emit(context.Background(), "tick", 1); err != nil {
		fmt.Println(err)
	}
	// Output:
	// spublish socket.io#/#news# {"type":3,"data":{"packet":{"type":2,"data":["tick",1]},"opts":{"rooms":["news"],"except":[],"flags":{"volatile":true}}},"uid":"emitter","nsp":"/"}
}

func ExampleNewStreamsEmitter() {
	rdb := goredis.NewClient(&goredis.Options{Addr: "localhost:6379"})
	defer rdb.Close()
	rdb.AddHook(printer{})

	io := redis.NewStreamsEmitter(rdb, nil)
	if err := io.In("room").DisconnectSockets(context.Background(), true); err != nil {
		fmt.Println(err)
	}
	// Output:
	// xadd socket.io maxlen ~ 10000 * uid emitter nsp / type 6 data {"opts":{"rooms":["room"],"except":[],"flags":{}},"close":true}
}

// printer stands in for a server.
type printer struct{}

func (printer) DialHook(next goredis.DialHook) goredis.DialHook { return next }

func (printer) ProcessPipelineHook(next goredis.ProcessPipelineHook) goredis.ProcessPipelineHook {
	return next
}

func (printer) ProcessHook(goredis.ProcessHook) goredis.ProcessHook {
	return func(_ context.Context, cmd goredis.Cmder) error {
		var words []string
		for _, arg := range cmd.Args() {
			if b, ok := arg.([]byte); ok {
				if arg = string(b); b[0] != '{' {
					arg = fmt.Sprintf("(%d bytes)", len(b))
				}
			}
			words = append(words, fmt.Sprint(arg))
		}
		fmt.Println(strings.Join(words, " "))
		return nil
	}
}
