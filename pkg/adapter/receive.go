package adapter

import (
	"context"
	"sync"

	"github.com/seed-0b620db0/patchbay/pkg/sio"
)

// maxRelays bounds the broadcasts of other nodes whose acknowledgements are waited for; of more no answer is sent. They are not
// among the requests that [Options.MaxRequests] bounds: one client that does not answer would keep those away.
const maxRelays = 1 << 13

// receive takes what the bus brings. What has to be in order is done at once, and does not block; the rest is handed to
// goroutines.
func (c *cluster) receive(m *Message) {
	if m.From == c.self {
		return
	}
	if m.Type == Close {
		c.left(m.From)
		return
	}
	c.heard(m.From)
	if m.To != "" && m.To != c.self {
		return
	}
	switch m.Type {
	case InitialHeartbeat:
		c.askedToBeat()
	case Heartbeat: // heard
	case Broadcast:
		c.deliver(m)
	case SocketsJoin:
		c.local.Join(m.Target, m.Rooms)
	case SocketsLeave:
		c.local.Leave(m.Target, m.Rooms)
	case DisconnectSockets:
		c.local.Disconnect(m.Target, m.CloseTransport)
	case ServerSideEmit:
		c.serverEvent(m)
	case FetchSockets:
		c.serve(m, func() {
			sockets, err := c.local.FetchSockets(m.Target)
			if err != nil {
				c.opts.Logger.Warn("fetch_sockets", "namespace", c.ns, "error", err)
			}
			_ = c.respond(c.life, m, &Message{Type: FetchSocketsResponse, Sockets: sockets})
		})
	case AllRooms:
		c.serve(m, func() {
			rooms := append(c.local.Rooms(), c.local.IDs(sio.Target{})...)
			_ = c.respond(c.life, m, &Message{Type: AllRoomsResponse, Rooms: rooms})
		})
	case AllSockets:
		c.serve(m, func() {
			_ = c.respond(c.life, m, &Message{Type: AllSocketsResponse, Rooms: c.local.IDs(m.Target)})
		})
	case FetchSocketsResponse, ServerSideEmitResponse, BroadcastClientCount, BroadcastAck:
		c.response(m)
	default:
		c.dropped(m, errUnexpected)
	}
}

// serve works for another node, in a goroutine unless there are too many.
func (c *cluster) serve(m *Message, f func()) bool {
	return c.work(m, &c.serving, c.opts.MaxRequests, f)
}

// work runs f in a goroutine unless there are too many of its kind, whose number, guarded by mu, is n.
func (c *cluster) work(m *Message, n *int, most int, f func()) bool {
	c.mu.Lock()
	closed, full := c.closed, *n >= most
	if !closed && !full {
		*n++
		c.served.Add(1)
	}
	c.mu.Unlock()
	switch {
	case closed:
		return false
	case full:
		c.dropped(m, errTooMany)
		return false
	}
	go func() { // ends with f, which c.life ends
		defer c.served.Done()
		f()
		c.mu.Lock()
		*n--
		c.mu.Unlock()
	}()
	return true
}

// respond sends a response to who has asked m.
func (c *cluster) respond(ctx context.Context, m, response *Message) error {
	response.To, response.RequestID = m.From, m.RequestID
	return c.publish(ctx, response)
}

func (c *cluster) deliver(m *Message) {
	switch {
	case m.Event == nil:
		c.dropped(m, errMalformed)
	case m.RequestID == "":
		c.local.Broadcast(m.Event, m.Target)
	default:
		r := &ackRelay{more: make(chan struct{}, 1)}
		n, cancel := c.local.BroadcastWithAck(m.Event, m.Target, r.take)
		if !c.work(m, &c.relaying, maxRelays, func() {
			defer cancel()
			c.relay(m, r, n)
		}) {
			cancel() // the clients have the event; nobody hears what they say to it
		}
	}
}

// ackRelay holds the acknowledgements of clients that have yet to be sent to the node that asked for them.
type ackRelay struct {
	more chan struct{}

	mu sync.Mutex
	// guarded by mu
	values []sio.Raw
	ended  int // clients that have acknowledged or are gone
}

func (r *ackRelay) take(a sio.Args, err error) {
	r.mu.Lock()
	r.ended++
	if err == nil { // else there is nothing that could be said
		r.values = append(r.values, a.Raw(0))
	}
	r.mu.Unlock()
	select {
	case r.more <- struct{}{}:
	default:
	}
}

// relay sends the number of clients, and then what they acknowledge.
func (c *cluster) relay(m *Message, r *ackRelay, clients int) {
	patience := m.Timeout
	if patience <= 0 {
		patience = c.opts.AckTimeout
	}
	ctx, cancel := context.WithTimeout(c.life, patience)
	defer cancel()
	if c.respond(ctx, m, &Message{Type: BroadcastClientCount, Clients: clients}) != nil {
		return // who asked can make nothing of the rest
	}
	for ended := 0; ended < clients; {
		select {
		case <-r.more:
		case <-ctx.Done():
			return
		}
		r.mu.Lock()
		values := r.values
		r.values, ended = nil, r.ended
		r.mu.Unlock()
		for _, v := range values {
			_ = c.respond(ctx, m, &Message{Type: BroadcastAck, Value: v})
		}
	}
}

// args returns a value as the arguments of an acknowledgement.
func args(v sio.Raw) sio.Args {
	payload := make([]byte, 0, len(v.JSON)+2)
	payload = append(payload, '[')
	payload = append(payload, v.JSON...)
	payload = append(payload, ']')
	return sio.NewArgs(payload, v.Attachments)
}
