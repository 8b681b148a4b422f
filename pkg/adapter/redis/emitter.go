package redis

import (
	"context"
	"fmt"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

// emitterClient carries out the commands of an emitter.
type emitterClient struct {
	rdb      goredis.UniversalClient
	maxBytes int
}

// do carries out cmd, which sends size bytes, on the server that has the slot of key. It is carried out once at most.
func (c *emitterClient) do(ctx context.Context, key string, cmd goredis.Cmder, size int) error {
	if size > c.maxBytes {
		return fmt.Errorf("%w to be published: %d bytes", errTooLong, size)
	}
	node, _, err := locate(ctx, c.rdb, key)
	if err != nil {
		return err
	}
	if deadline, ok := ctx.Deadline(); ok { // which go-redis does not look at
		node = bounded(node, max(time.Millisecond, time.Until(deadline)))
	}
	err = node.Process(ctx, cmd)
	if cluster, ok := c.rdb.(*goredis.ClusterClient); ok {
		switch {
		case redirects(err): // it was not carried out
			err = cluster.Process(ctx, cmd)
		case !answered(err):
			cluster.ReloadState(ctx) // does not wait; another may have taken over
		}
	}
	return published(err)
}
