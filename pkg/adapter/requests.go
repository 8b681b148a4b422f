package adapter

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/seed-0b620db0/patchbay/pkg/sio"
)

// recountEvery is how often a request looks whether those that it waits for are still there.
const recountEvery = time.Second

// FetchSockets implements sio.Adapter.
func (c *cluster) FetchSockets(ctx context.Context, t sio.Target) ([]sio.RemoteSocket, error) {
	found, err := c.local.FetchSockets(t)
	if t.Local {
		return found, err
	}
	ctx, r, cancel := c.request(ctx, FetchSocketsResponse, nil)
	defer cancel()
	asked := c.ask(ctx, r, &Message{Type: FetchSockets, Target: t})
	err = errors.Join(err, c.await(ctx, r, asked, 0))
	return append(found, r.sockets...), err
}

// ServerSideEmitWithAck implements sio.Adapter.
func (c *cluster) ServerSideEmitWithAck(ctx context.Context, out *sio.Outgoing, answer func(sio.Args)) error {
	ctx, r, cancel := c.request(ctx, ServerSideEmitResponse, func(a sio.Args, _ error) { answer(a) })
	defer cancel()
	asked := c.ask(ctx, r, &Message{Type: ServerSideEmit, Event: out})
	return c.await(ctx, r, asked, 0)
}

// BroadcastWithAck implements sio.Adapter. answer must not block.
func (c *cluster) BroadcastWithAck(ctx context.Context, out *sio.Outgoing, t sio.Target, answer func(sio.Args, error)) error {
	ctx, r, cancel := c.request(ctx, BroadcastClientCount, answer)
	defer cancel()
	clients, forget := c.local.BroadcastWithAck(out, t, r.answerLocal)
	defer forget()
	var asked error
	if !t.Local {
		deadline, _ := ctx.Deadline()
		timeout := max(time.Until(deadline), time.Millisecond) // 0 would leave it to the others
		asked = c.ask(ctx, r, &Message{Type: Broadcast, Event: out, Target: t, Timeout: timeout})
	}
	return c.await(ctx, r, asked, clients)
}

// request returns a request, whose end ends its context, as does that of the cluster.
func (c *cluster) request(ctx context.Context, wants Type, answer func(sio.Args, error)) (context.Context, *request, func()) {
	free := func() {}
	if _, ok := ctx.Deadline(); !ok {
		ctx, free = context.WithTimeout(ctx, c.opts.RequestTimeout)
	}
	ctx, end := context.WithCancelCause(ctx)
	stop := context.AfterFunc(c.life, func() { end(ErrClosed) })
	return ctx, newRequest(wants, answer, end), func() {
		stop()
		end(nil)
		free()
	}
}

// ask publishes m, and has r wait for all that get it.
func (c *cluster) ask(ctx context.Context, r *request, m *Message) error {
	r.question, r.began = m.Type, time.Now()
	l := c.link.Load()
	if l.bus == nil {
		return c.publishTo(ctx, l, m)
	}
	names, unnamed, err := c.survey(ctx, l)
	// Who hears of others by their heartbeats only may be too new to know any. Nothing is emitted in vain, so only a
	// question is not asked then.
	if len(names)+unnamed == 0 && (l.census != nil && err == nil || m.Type == FetchSockets) {
		r.question = 0
		return err
	}
	m.RequestID = r.id
	c.expect(r, names, unnamed)
	if e := c.publishTo(ctx, l, m); e != nil {
		r.abandon()
		return errors.Join(err, e)
	}
	return err
}

// expect has r wait for the nodes that were found, but for those that have left since.
func (c *cluster) expect(r *request, names []NodeID, unnamed int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r.expect(slices.DeleteFunc(names, func(id NodeID) bool {
		_, ok := c.seen[id]
		return !ok
	}), unnamed)
	c.pending[r.id] = r
}

// await returns when r has ended, with what was wrong with asking, and what came of it. clients of this node were asked too.
func (c *cluster) await(ctx context.Context, r *request, asked error, clients int) error {
	r.release(clients)
	if r.question != 0 {
		c.recount(ctx, r)
	}
	<-ctx.Done()
	c.mu.Lock()
	delete(c.pending, r.id)
	c.mu.Unlock()
	err := errors.Join(asked, r.finish(context.Cause(ctx)))
	if f := c.opts.Hooks.Request; f != nil && r.question != 0 {
		f(c.ns, r.question, time.Since(r.began), err)
	}
	return err
}

// recount writes off those that are not there any more, until ctx is done.
func (c *cluster) recount(ctx context.Context, r *request) {
	t := time.NewTicker(recountEvery)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			if alive, unnamed, err := c.survey(ctx, c.link.Load()); err == nil {
				r.recount(alive, unnamed)
			}
		case <-ctx.Done():
			return
		}
	}
}

// response takes the response to a request. Those that come late are ignored.
func (c *cluster) response(m *Message) {
	c.mu.Lock()
	r := c.pending[m.RequestID]
	c.mu.Unlock()
	if r != nil && !r.receive(m) {
		c.dropped(m, errUnexpected)
	}
}
