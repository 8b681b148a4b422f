package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"regexp"
	"slices"
	"sync"
	"time"

	"github.com/seed-0b620db0/patchbay/pkg/eio"
	"github.com/seed-0b620db0/patchbay/pkg/sio"
	"github.com/seed-0b620db0/patchbay/pkg/sio/sioproto"
)

// relay lets clients talk to each other without any code behind the gateway: they join, leave and publish to rooms. It is
// documented in docs/relay.md.
type relay struct {
	node     string
	maxRooms int

	mu      sync.Mutex
	sockets map[*eio.Session][]*sio.Socket // to tell rooms of an upgraded transport
	current map[string]*sio.Socket         // by id: two have the same while a session is being recovered
}

// member is what others are told of a socket. It is the socket's data.
type member struct {
	ID        string        `json:"id"`
	User      string        `json:"user"`
	Node      string        `json:"node"`
	Transport eio.Transport `json:"transport"`
}

// meta is the last argument of a published event.
type meta struct {
	Room string `json:"room"`
	From string `json:"from"`
	User string `json:"user"`
	Node string `json:"node"`
	Time int64  `json:"time"` // ms since the epoch
}

// reply is the acknowledgement of all three events.
type reply struct {
	OK      bool     `json:"ok"`
	Error   string   `json:"error,omitempty"`
	Room    string   `json:"room,omitempty"`
	Members []member `json:"members,omitempty"`
	Total   int      `json:"total,omitempty"` // of members, of which no more than maxMembers are listed
}

type presence struct {
	Room   string `json:"room"`
	Action string `json:"action"` // join, leave, or update when the transport has changed
	Member member `json:"member"`
}

// joinTimeout is how long the answer to a join waits: until the bus brings what is said in the room, and for other nodes to say
// who is there. One that has just died, and is not known to have, is waited for in vain.
const joinTimeout = time.Second

const (
	maxMembers  = 100
	maxRoomName = 128 // bytes

	joinEvent     = "join"
	leaveEvent    = "leave"
	publishEvent  = "publish"
	presenceEvent = "presence"
)

// relayEvents are those of clients.
var relayEvents = []string{joinEvent, leaveEvent, publishEvent}

// What a client is told.
var (
	errRoom        = errors.New("a room is a string of 1 to 128 bytes")
	errSocketRoom  = errors.New("this is the form of a socket id")
	errEvent       = errors.New("publish takes a room, the name of an event, and its arguments")
	errReserved    = errors.New("this event name is reserved")
	errForbidden   = errors.New("not allowed by the token")
	errRate        = errors.New("too many joins, try again later")
	errRooms       = errors.New("too many rooms")
	errPlaceholder = errors.New("an argument looks like a binary placeholder")
	errInternal    = errors.New("internal error")
)

// socketID is the form of a socket's own room: who could join that would read what is meant for the socket alone.
var socketID = regexp.MustCompile(`^[A-Za-z0-9_-]{20}$`)

func newRelay(c *Config) *relay {
	return &relay{node: c.Node, maxRooms: c.RelayMaxRooms, sockets: make(map[*eio.Session][]*sio.Socket), current: make(map[string]*sio.Socket)}
}

// serve sets the handlers of a namespace.
func (rl *relay) serve(h *sio.Handlers) {
	h.OnConnect(rl.connect)
	h.OnDisconnecting(rl.disconnecting)
	h.On(joinEvent, answer(rl.join))
	h.On(leaveEvent, answer(rl.leave))
	h.On(publishEvent, answer(rl.publish))
}

// answer acknowledges an event with what f returns: what is wrong with a request is the client's business, not ours.
func answer(f func(context.Context, *sio.Socket, sio.Args) (reply, error)) sio.Handler {
	return func(ctx context.Context, s *sio.Socket, ev *sio.Event) error {
		r, err := f(ctx, s, ev.Args())
		if err != nil {
			r = reply{Error: err.Error()}
		}
		r.OK = err == nil
		if !ev.NeedsAck() {
			return nil
		}
		if err := ev.Ack(r); !errors.Is(err, sio.ErrDisconnected) {
			return err
		}
		return nil // the client did not wait for it
	}
}

func (rl *relay) connect(ctx context.Context, s *sio.Socket) error {
	id := identityOf(ctx)
	former := memberOf(s)
	rl.mu.Lock()
	s.SetData(member{ID: s.ID(), User: id.User, Node: rl.node, Transport: s.Session().Transport()})
	rl.sockets[s.Session()] = append(rl.sockets[s.Session()], s)
	rl.current[s.ID()] = s
	rl.mu.Unlock()
	if !s.Recovered() {
		return nil
	}
	for room := range s.Rooms() {
		switch {
		case room == s.ID():
		case former.User != id.User || !allowed(id.may.Join, room): // the session may be another's by now
			s.Leave(room)
		default:
			rl.tell(ctx, s, room, "join")
		}
	}
	return nil
}

func (rl *relay) disconnecting(ctx context.Context, s *sio.Socket, _ sio.Reason) {
	rl.mu.Lock()
	rest := without(rl.sockets[s.Session()], s)
	if len(rest) == 0 {
		delete(rl.sockets, s.Session())
	} else {
		rl.sockets[s.Session()] = rest
	}
	if rl.current[s.ID()] == s {
		delete(rl.current, s.ID())
	}
	rl.mu.Unlock()
	for room := range s.Rooms() {
		if room == s.ID() {
			continue
		}
		// A client that has recovered its session is there again, under the same id: who heard of its return must not
		// hear of its loss afterwards.
		if rl.successor(s) == nil {
			rl.tell(ctx, s, room, "leave")
		}
		if next := rl.successor(s); next != nil && next.In(room) {
			rl.tell(ctx, next, room, "join")
			if !next.In(room) { // it may have said so before
				rl.tell(ctx, next, room, "leave")
			}
		}
	}
}

// successor returns the socket that has taken the place of s, if any.
func (rl *relay) successor(s *sio.Socket) *sio.Socket {
	rl.mu.Lock()
	defer rl.mu.Unlock()
	if next := rl.current[s.ID()]; next != s {
		return next
	}
	return nil
}

func without(sockets []*sio.Socket, s *sio.Socket) []*sio.Socket {
	var out []*sio.Socket
	for _, o := range sockets {
		if o != s {
			out = append(out, o)
		}
	}
	return out
}

// upgraded tells the rooms of a client's sockets that it has another transport now.
func (rl *relay) upgraded(session *eio.Session) {
	rl.mu.Lock()
	sockets := slices.Clone(rl.sockets[session])
	for _, s := range sockets {
		m := memberOf(s)
		m.Transport = session.Transport()
		s.SetData(m)
	}
	rl.mu.Unlock()
	for _, s := range sockets {
		for room := range s.Rooms() {
			if room != s.ID() {
				rl.tell(s.Context(), s, room, "update")
			}
		}
	}
}

func memberOf(s *sio.Socket) member {
	m, ok := s.Data().(member)
	if !ok {
		return member{ID: s.ID()}
	}
	return m
}

// tell lets the others in a room know. That other nodes could not be reached is the adapter's to report.
func (rl *relay) tell(ctx context.Context, s *sio.Socket, room, action string) {
	_ = s.To(room).Emit(ctx, presenceEvent, presence{room, action, memberOf(s)})
}

func roomOf(args sio.Args) (string, error) {
	var room string
	if err := args.Decode(&room); err != nil || room == "" || len(room) > maxRoomName {
		return "", errRoom
	}
	return room, nil
}

func (rl *relay) join(ctx context.Context, s *sio.Socket, args sio.Args) (reply, error) {
	room, err := roomOf(args)
	switch {
	case err != nil:
		return reply{}, err
	case socketID.MatchString(room):
		return reply{}, errSocketRoom
	case !allowed(identityOf(ctx).may.Join, room):
		return reply{}, errForbidden
	case !identityOf(ctx).joins.Allow():
		return reply{}, errRate
	}
	asking, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	if !s.In(room) {
		n := 0
		for range s.Rooms() {
			n++
		}
		if n > rl.maxRooms { // its own room is one of them
			return reply{}, errRooms
		}
		s.Join(room)
		if !s.In(room) { // the client has gone meanwhile, and will not be seen to leave
			return reply{}, sio.ErrDisconnected
		}
		// Before anybody knows that it is here, it gets what they say. If not in time, that is the adapter's to report.
		_ = s.Namespace().AwaitRooms(asking, room)
		rl.tell(ctx, s, room, "join")
	}
	sockets, err := s.Namespace().In(room).FetchSockets(asking)
	if err != nil && len(sockets) == 0 {
		return reply{}, errInternal
	}
	r := reply{Room: room, Total: len(sockets), Members: []member{}}
	for _, o := range sockets[:min(len(sockets), maxMembers)] {
		m := member{ID: o.ID}
		_ = json.Unmarshal(o.Data, &m) // another kind of server may keep other data
		r.Members = append(r.Members, m)
	}
	return r, nil
}

func (rl *relay) leave(ctx context.Context, s *sio.Socket, args sio.Args) (reply, error) {
	room, err := roomOf(args)
	if err != nil {
		return reply{}, err
	}
	if room != s.ID() && s.In(room) {
		s.Leave(room)
		rl.tell(ctx, s, room, "leave")
	}
	return reply{Room: room}, nil
}

func (rl *relay) publish(ctx context.Context, s *sio.Socket, args sio.Args) (reply, error) {
	room, err := roomOf(args)
	if err != nil {
		return reply{}, err
	}
	var event string
	switch err := args.Decode(nil, &event); {
	case err != nil || event == "" || args.Len() < 2:
		return reply{}, errEvent
	case sioproto.IsReserved(event) || event == presenceEvent:
		return reply{}, errReserved
	case !allowed(identityOf(ctx).may.Publish, room):
		return reply{}, errForbidden
	}
	m := memberOf(s)
	// The arguments go on as they came, without being decoded.
	values := append(args.Values()[2:], meta{room, s.ID(), m.User, m.Node, time.Now().UnixMilli()})
	switch err := s.To(room).Emit(ctx, event, values...); {
	case errors.Is(err, sioproto.ErrPlaceholder):
		return reply{}, errPlaceholder
	case errors.Is(err, sioproto.ErrIllegalAttachments):
		return reply{}, errEvent
	}
	return reply{Room: room}, nil
}
