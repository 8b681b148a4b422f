package adapter

import (
	"context"

	"github.com/seed-0b620db0/patchbay/pkg/sio"
)

// Bus carries the messages of one namespace between nodes. It chooses the encoding and the channels.
type Bus interface {
	// Publish sends m to node m.To, or to all other nodes if that is empty. It may return before m has left, but keeps the
	// order of the calls; it waits only while too much is under way already, and no longer than until ctx is done. If there
	// is room, it takes m even though ctx is done: a handler whose client has just left may still have something to say.
	// While the link is down it fails at once.
	Publish(ctx context.Context, m *Message) error
	// Run hands over messages of other nodes until ctx is done or the link fails, and then lets go of everything: a Bus
	// runs once. When ctx is done, what Publish has taken is still sent. Messages of one sender come in their order; calls
	// of recv for several senders may overlap. recv does not block. What cannot be understood is not handed over but
	// reported to [Hooks.Dropped]: all JSON in a message is well-formed, with an attachment for each placeholder. Messages
	// of this very node, and responses for others, may be handed over: they are ignored.
	Run(ctx context.Context, recv func(*Message)) error
}

// Open makes the bus of a namespace and returns once it is subscribed: from then on this node gets what others send. It
// is called again, after a pause, when that fails or Run returns. ctx is done when the namespace is closed.
type Open func(ctx context.Context, local *sio.Local, self NodeID) (Bus, error)

// Census is a [Bus] that knows who listens. On others nodes tell each other by heartbeats.
type Census interface {
	// Count returns the number of nodes that listen, this one included, and which of known are among them.
	Count(ctx context.Context, known []NodeID) (nodes int, alive []NodeID, err error)
}

// RoomBus is a [Bus] whose subscriptions follow the rooms of this node.
type RoomBus interface {
	// RoomChanged is [sio.RoomWatcher.RoomChanged], and [sio.SocketWatcher.SocketChanged]. It does not block. Rooms that
	// had members before Open are the bus's own concern ([sio.Local.Rooms], [sio.Local.IDs]).
	RoomChanged(room string)
	// AwaitRooms returns when those of rooms that have members on this node are subscribed, or with an error when ctx is done
	// or the link fails.
	AwaitRooms(ctx context.Context, rooms []string) error
}
