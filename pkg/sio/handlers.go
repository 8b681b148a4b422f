package sio

import (
	"context"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
)

// Middleware admits a client to a namespace or refuses it with an error, for example a [*ConnectError]. The context that it
// returns, if not nil, is the one that the next middleware and all handlers of the socket get.
type Middleware func(ctx context.Context, s *Socket) (context.Context, error)

// Handlers are what a namespace does. They are set before the namespace serves; what is added later holds for what comes
// later. [Namespace] and [ParentNamespace] have one each.
type Handlers struct {
	mu  sync.Mutex // one change at a time
	set atomic.Pointer[handlerSet]
}

// handlerSet is replaced, never changed.
type handlerSet struct {
	use           []Middleware
	connect       []func(context.Context, *Socket) error
	disconnecting []func(context.Context, *Socket, Reason)
	disconnect    []func(context.Context, *Socket, Reason)
	any           []func(context.Context, *Socket, *Event)
	anyOutgoing   []func(*Socket, *Outgoing)
	wrap          []func(Handler) Handler
	on            map[string]Handler
	server        map[string]func(context.Context, *Event) error

	chains   map[string]Handler // on, wrapped
	fallback Handler            // for events without a handler
}

func newHandlers(from *handlerSet) *Handlers {
	h := new(Handlers)
	if from == nil {
		from = new(handlerSet)
	}
	h.set.Store(from)
	return h
}

func (h *Handlers) get() *handlerSet { return h.set.Load() }

func (h *Handlers) change(f func(*handlerSet)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := *h.get()
	f(&c)
	c.chains = make(map[string]Handler, len(c.on))
	for name, handler := range c.on {
		c.chains[name] = c.wrapped(handler)
	}
	if len(c.wrap) > 0 {
		c.fallback = c.wrapped(func(context.Context, *Socket, *Event) error { return nil })
	}
	h.set.Store(&c)
}

func (c *handlerSet) wrapped(h Handler) Handler {
	for _, w := range slices.Backward(c.wrap) {
		h = w(h)
	}
	return h
}

// appended returns a new slice: the old one may still be in use.
func appended[T any](s []T, v ...T) []T { return append(slices.Clip(s), v...) }

// Use adds middlewares, which are asked in order for each client that wants to join.
func (h *Handlers) Use(m ...Middleware) {
	h.change(func(c *handlerSet) { c.use = appended(c.use, m...) })
}

// OnConnect adds a function that is called first of all for each socket that has joined. Its error is reported and
// disconnects the socket.
func (h *Handlers) OnConnect(f func(ctx context.Context, s *Socket) error) {
	h.change(func(c *handlerSet) { c.connect = appended(c.connect, f) })
}

// OnDisconnecting adds a function that is called when a socket has been disconnected; [Socket.Rooms] still tells its rooms.
// The context keeps the socket's values but does not end.
func (h *Handlers) OnDisconnecting(f func(ctx context.Context, s *Socket, reason Reason)) {
	h.change(func(c *handlerSet) { c.disconnecting = appended(c.disconnecting, f) })
}

// OnDisconnect adds a function that is called last of all for each socket that had joined. The context keeps the socket's
// values but does not end.
func (h *Handlers) OnDisconnect(f func(ctx context.Context, s *Socket, reason Reason)) {
	h.change(func(c *handlerSet) { c.disconnect = appended(c.disconnect, f) })
}

// On sets the handler of an event; a second one for the same event takes the place of the first.
func (h *Handlers) On(event string, handler Handler) {
	h.change(func(c *handlerSet) {
		c.on = maps.Clone(c.on)
		if c.on == nil {
			c.on = make(map[string]Handler)
		}
		c.on[event] = handler
	})
}

// OnAny adds a function that sees each event before its handler and the event middlewares.
func (h *Handlers) OnAny(f func(ctx context.Context, s *Socket, ev *Event)) {
	h.change(func(c *handlerSet) { c.any = appended(c.any, f) })
}

// OnAnyOutgoing adds a function that sees each event that is sent to a socket of this node; acknowledgements are none. It is
// called on the sender's goroutine and must not block.
func (h *Handlers) OnAnyOutgoing(f func(s *Socket, out *Outgoing)) {
	h.change(func(c *handlerSet) { c.anyOutgoing = appended(c.anyOutgoing, f) })
}

// UseEvent adds a middleware around the handlers of all events, those without a handler included; the first added is the
// outermost.
func (h *Handlers) UseEvent(wrap func(next Handler) Handler) {
	h.change(func(c *handlerSet) { c.wrap = appended(c.wrap, wrap) })
}

// OnServerEvent sets the handler of an event that other servers of the cluster send with [Namespace.ServerSideEmit].
func (h *Handlers) OnServerEvent(event string, f func(ctx context.Context, ev *Event) error) {
	h.change(func(c *handlerSet) {
		c.server = maps.Clone(c.server)
		if c.server == nil {
			c.server = make(map[string]func(context.Context, *Event) error)
		}
		c.server[event] = f
	})
}
