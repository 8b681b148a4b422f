package load

import (
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// The states of a client.
const (
	stateConnecting = iota
	stateOpen
	stateEnded
)

// Client is one client of a Generator.
type Client struct {
	// Set at construction.
	gen     *Generator
	handler Handler

	// Set while connecting.
	transport transport
	sid       string

	// Owned by the reader.
	part *Message // its attachments are still to come
	need int

	state    atomic.Int32
	closing  atomic.Int64 // when Close was called; 0: it was not
	seen     atomic.Int64 // when something last came
	patience atomic.Int64 // how long that may be ago; 0: for ever
}

// transport carries a client's packets.
type transport interface {
	// text sends an Engine.IO packet, message sends m.
	text(p string) error
	message(m *Message) error
	// close begins an orderly end, abort ends at once. Either leads to one call of Client.end.
	close()
	abort(err error)
}

// Send sends an event or acknowledgement. It does not wait for the server to read it.
func (c *Client) Send(m *Message) error {
	if c.closing.Load() != 0 {
		return ErrClosed
	}
	return c.transport.message(m)
}

// Close begins an orderly end of the connection.
func (c *Client) Close() {
	if c.state.Load() == stateOpen && c.closing.CompareAndSwap(0, Now()) {
		c.transport.close()
	}
}

var (
	errServerClosed  = errors.New("closed by the server")
	errDisconnected  = errors.New("disconnected by the server")
	errNotReading    = errors.New("the server does not read")
	errUnexpected    = errors.New("unexpected packet")
	errPlainExpected = errors.New("attachment without a packet")
)

// engine takes an Engine.IO packet in its text form.
func (c *Client) engine(p []byte) error {
	if len(p) == 0 {
		return errMalformed
	}
	switch p[0] {
	case '0':
		return c.opened(p[1:])
	case '1':
		return errServerClosed
	case '2':
		return c.transport.text("3")
	case '4':
		return c.socket(p[1:])
	case '6':
		return nil
	}
	return fmt.Errorf("%w: %.50q", errUnexpected, p)
}

// opened takes the handshake and joins the namespace.
func (c *Client) opened(p []byte) error {
	var open struct {
		SID                       string
		PingInterval, PingTimeout int64
	}
	if err := json.Unmarshal(p, &open); err != nil {
		return fmt.Errorf("handshake: %w", err)
	}
	c.sid = open.SID
	if !c.gen.opts.StopPolling {
		c.patience.Store((open.PingInterval + open.PingTimeout) * int64(time.Millisecond))
	}
	return c.transport.text(string(c.gen.hello))
}

// socket takes a Socket.IO packet.
func (c *Client) socket(p []byte) error {
	if c.part != nil {
		return errUnexpected
	}
	got, err := parsePacket(p, c.gen.prefix)
	if err != nil {
		return err
	}
	switch got.kind {
	case '0':
		c.state.CompareAndSwap(stateConnecting, stateOpen)
	case '1':
		return errDisconnected
	case '2', '3':
		c.handler.Receive(c, &Message{Type: Type(got.kind), ID: got.id, Data: got.data})
	case '4':
		return fmt.Errorf("refused: %s", got.data)
	case '5', '6':
		c.part, c.need = &Message{Type: Type(got.kind - 3), ID: got.id, Data: append([]byte(nil), got.data...)}, got.attachments
	default:
		return errMalformed
	}
	return nil
}

// attachment takes a binary message.
func (c *Client) attachment(p []byte, lent bool) error {
	if c.part == nil {
		return errPlainExpected
	}
	if lent && c.need > 1 {
		p = append([]byte(nil), p...)
	}
	c.part.Attachments = append(c.part.Attachments, p)
	if c.need--; c.need == 0 {
		m := c.part
		c.part = nil
		c.handler.Receive(c, m)
	}
	return nil
}

// end is called once by the transport, when it is over, by the reader.
func (c *Client) end(err error) {
	joined := c.state.Swap(stateEnded) == stateOpen
	c.gen.remove(c)
	if joined && c.closing.Load() == 0 {
		c.handler.Lost(c, err)
	}
}
