package redis

import (
	"context"

	"github.com/seed-0b620db0/patchbay/pkg/adapter"
)

// count does what adapter.Census says: all nodes listen to the channel main, each one to own with its id and a # besides. A
// node whose connection was lost without Redis noticing, which may take it a quarter of an hour, is on main twice: its own
// channel tells, if it is on the same server.
func count(
	ctx context.Context, numSub func(ctx context.Context, channels []string) (map[string]int64, error),
	main, own string, self adapter.NodeID, known []adapter.NodeID,
) (nodes int, alive []adapter.NodeID, err error) {
	channels := make([]string, 0, 2+len(known))
	channels = append(channels, main, own+string(self)+"#")
	for _, id := range known {
		channels = append(channels, own+string(id)+"#")
	}
	n, err := numSub(ctx, channels)
	if err != nil {
		return 0, nil, err
	}
	for i, id := range known {
		if n[channels[2+i]] > 0 {
			alive = append(alive, id)
		}
	}
	all := n[main]
	for _, channel := range channels[1:] {
		all -= max(0, n[channel]-1)
	}
	return int(all), alive, nil
}
