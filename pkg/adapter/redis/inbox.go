package redis

import (
	goredis "github.com/redis/go-redis/v9"

	"github.com/seed-0b620db0/patchbay/pkg/adapter"
)

// inbox holds what a session has read for one bus.
type inbox = adapter.Inbox[*goredis.Message]

var _ sink = (*inbox)(nil)

func newInbox(b *adapter.Budget) *inbox {
	return adapter.NewInbox(b, func(m *goredis.Message) int { // memory that it takes
		return len(m.Channel) + len(m.Pattern) + len(m.Payload) + 128
	})
}

// each makes of what handles one message what an inbox calls.
func each(handle func(m *goredis.Message)) func(items []*goredis.Message) {
	return func(items []*goredis.Message) { handle(items[0]) }
}
