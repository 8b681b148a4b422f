package peers

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"time"
)

// Node is what others know of a node.
type Node struct {
	Tag     string    `json:"tag"`  // in the ids of its sessions
	Addr    string    `json:"addr"` // host:port of its internal listener
	ID      string    `json:"id"`   // of this run of it
	Started time.Time `json:"started"`
}

// NewID returns an id for a run of a node.
func NewID() string {
	var b [12]byte
	_, _ = rand.Read(b[:]) // never fails
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// Registry is where nodes find each other.
type Registry interface {
	// Register enters n, or renews its entry, for the time of ttl; renewed tells whether there was one. It fails with a
	// [*TakenError] while another run has the tag. With succeed a node takes over what has its own address: where n
	// listens, nobody else does any more.
	Register(ctx context.Context, n Node, ttl time.Duration, succeed bool) (renewed bool, err error)
	// Remove takes the entry of n out, if it is still its own.
	Remove(ctx context.Context, n Node) error
	// List returns the nodes whose time is not over.
	List(ctx context.Context) ([]Node, error)
}

// Trial is an ability of a Registry.
type Trial interface {
	// Try does what Register does, in the same place, and takes it back: it fails when Register would. Nobody sees an entry.
	Try(ctx context.Context) error
}

// TakenError says that another node has the tag.
type TakenError struct{ By Node }

func (e *TakenError) Error() string {
	return fmt.Sprintf("the tag %q is that of another node, at %s, which started %s", e.By.Tag, e.By.Addr, e.By.Started.UTC().Format(time.RFC3339))
}
