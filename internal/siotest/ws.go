package siotest

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// Frame is one WebSocket message.
type Frame struct {
	Binary bool
	Data   string
}

func (f Frame) String() string {
	if f.Binary {
		return fmt.Sprintf("binary %x", f.Data)
	}
	return fmt.Sprintf("text %q", f.Data)
}

// WS is a WebSocket with a server.
type WS struct {
	Conn     *websocket.Conn
	Response Response // to the upgrade request, without a body
	Opened   Open     // set by Client.Open
	SID      string   // of the session

	t testing.TB
}

// In returns w for use in a subtest, so that its failures are those of the subtest.
func (w *WS) In(t testing.TB) *WS {
	t.Helper()
	sub := *w
	sub.t = t
	return &sub
}

func (w *WS) write(typ websocket.MessageType, data string) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	if err := w.Conn.Write(ctx, typ, []byte(data)); err != nil {
		w.t.Fatalf("websocket: write %q: %v", data, err)
	}
}

// Send writes text frames, one a packet.
func (w *WS) Send(packets ...string) {
	w.t.Helper()
	for _, p := range packets {
		w.write(websocket.MessageText, p)
	}
}

// SendBinary writes a binary frame.
func (w *WS) SendBinary(data string) {
	w.t.Helper()
	w.write(websocket.MessageBinary, data)
}

// TryRecv reads one frame. A failed read ends the connection.
func (w *WS) TryRecv(timeout time.Duration) (Frame, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	typ, b, err := w.Conn.Read(ctx)
	return Frame{typ == websocket.MessageBinary, string(b)}, err
}

// Recv reads one frame.
func (w *WS) Recv() Frame {
	w.t.Helper()
	f, err := w.TryRecv(Patience)
	if err != nil {
		w.t.Fatalf("websocket: read: %v", err)
	}
	return f
}

// Text reads one frame, which must be text.
func (w *WS) Text() string {
	w.t.Helper()
	f := w.Recv()
	if f.Binary {
		w.t.Fatalf("websocket: want text, got %v", f)
	}
	return f.Data
}

// Expect reads as many frames as there are packets and compares them, in order.
func (w *WS) Expect(packets ...string) {
	w.t.Helper()
	for _, want := range packets {
		if got := w.Text(); got != want {
			w.t.Fatalf("websocket: got %q, want %q", got, want)
		}
	}
}

// ExpectInAnyOrder reads as many frames, which must be text and equal to packets in some order.
func (w *WS) ExpectInAnyOrder(packets ...string) {
	w.t.Helper()
	got := make([]string, len(packets))
	for i := range got {
		got[i] = w.Text()
	}
	slices.Sort(got)
	if want := slices.Sorted(slices.Values(packets)); !slices.Equal(got, want) {
		w.t.Fatalf("websocket: got %q, want %q", got, want)
	}
}

// ExpectBinary reads one frame, which must be binary and equal to data.
func (w *WS) ExpectBinary(data string) {
	w.t.Helper()
	if f := w.Recv(); !f.Binary || f.Data != data {
		w.t.Fatalf("websocket: got %v, want binary %x", f, data)
	}
}

// ExpectClose waits for the end of the connection, with no frame before it, and returns the status of
// the close frame: 1005 when it carried none, -1 when there was no close frame.
func (w *WS) ExpectClose() websocket.StatusCode {
	w.t.Helper()
	f, err := w.TryRecv(Patience)
	if err == nil {
		w.t.Fatalf("websocket: got %v, want the close", f)
	}
	if w.expired(err) {
		w.t.Fatalf("websocket: not closed: %v", err)
	}
	return websocket.CloseStatus(err)
}

// DrainClose is ExpectClose that first skips frames.
func (w *WS) DrainClose() websocket.StatusCode {
	w.t.Helper()
	for {
		if _, err := w.TryRecv(Patience); err != nil {
			if w.expired(err) {
				w.t.Fatalf("websocket: not closed: %v", err)
			}
			return websocket.CloseStatus(err)
		}
	}
}

func (w *WS) expired(err error) bool {
	return strings.Contains(err.Error(), context.DeadlineExceeded.Error())
}

// Close ends the connection with a close frame, as a client that leaves.
func (w *WS) Close() { w.Conn.Close(websocket.StatusNormalClosure, "") }

// Drop ends the connection without a close frame, as a lost network.
func (w *WS) Drop() { w.Conn.CloseNow() } //nolint:errcheck // as above

// Connected is what a server says when a namespace is joined.
type Connected struct {
	SID string `json:"sid"`
	PID string `json:"pid"`
}

// Connect joins a namespace ("/" or "/name") and returns the answer. auth is JSON, or empty.
func (w *WS) Connect(nsp, auth string) Connected {
	w.t.Helper()
	w.Send("40" + prefix(nsp) + auth)
	return w.Connected(nsp)
}

// Connected reads the answer to a CONNECT.
func (w *WS) Connected(nsp string) Connected {
	w.t.Helper()
	got := w.Text()
	data, ok := strings.CutPrefix(got, "40"+prefix(nsp))
	var c Connected
	if !ok || json.Unmarshal([]byte(data), &c) != nil || c.SID == "" {
		w.t.Fatalf("connect to %s: got %q", nsp, got)
	}
	return c
}

func prefix(nsp string) string {
	if nsp == "/" {
		return ""
	}
	return nsp + ","
}
