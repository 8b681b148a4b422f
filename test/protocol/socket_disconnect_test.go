package protocol_test

import (
	"net/http"
	"slices"
	"testing"

	"github.com/coder/websocket"

	"github.com/seed-0b620db0/patchbay/internal/siotest"
)

func TestSocket_2_8_ByTheServer(t *testing.T) {
	f := use(t, options{})
	t.Run("one namespace", func(t *testing.T) {
		w, c := f.joined(t)
		a := w.Connect("/a", "")
		w.Send(`42/a,["disconnect-me",false]`)
		w.Expect("41/a,")
		f.wantDisconnect(t, a.SID, "server namespace disconnect")
		echo(t, w)
		w.Send(`42["disconnect-me",false]`)
		w.Expect("41")
		f.wantDisconnect(t, c.SID, "server namespace disconnect")
		w.Connect("/a", "") // the connection stays
	})
	t.Run("with the connection: each namespace in the order joined", func(t *testing.T) {
		w := f.ws(t)
		a := w.Connect("/a", "")
		c := w.Connect("/", "")
		w.Send(`42["disconnect-me",true]`)
		w.Expect("41/a,", "41")
		want(t, "status", w.ExpectClose(), websocket.StatusNoStatusRcvd)
		f.wantDisconnect(t, c.SID, "server namespace disconnect")
		f.wantDisconnect(t, a.SID, "server namespace disconnect")
		f.wantClosed(t, w.SID, "forced close")
	})
}

func TestSocket_2_8_ByTheClient(t *testing.T) {
	f := use(t, options{})
	t.Run("41 has no reply", func(t *testing.T) {
		w, c := f.joined(t)
		a := w.Connect("/a", "")
		w.Send("41/a,")
		f.wantDisconnect(t, a.SID, "client namespace disconnect")
		echo(t, w)
		w.Send("41")
		f.wantDisconnect(t, c.SID, "client namespace disconnect")
		again := w.Connect("/", "")
		want(t, "a new id", again.SID != c.SID, true)
		echo(t, w)
	})
	t.Run("close frame", func(t *testing.T) {
		w, c := f.joined(t)
		a := w.Connect("/a", "")
		w.Close()
		f.wantDisconnect(t, c.SID, "transport close")
		f.wantDisconnect(t, a.SID, "transport close")
	})
	t.Run("close packet over polling", func(t *testing.T) {
		c := f.polling(t)
		c.Send("40")
		c.Poll()
		id := socketOf(t, f, c.SID)
		c.Send("41")
		f.wantDisconnect(t, id, "client namespace disconnect")
		c.Send("1")
		f.wantClosed(t, c.SID, "transport close")
	})
	t.Run("lost poll", func(t *testing.T) {
		c := f.polling(t)
		c.Send("40")
		c.Poll()
		id := socketOf(t, f, c.SID)
		pollPending(t, f, c).Abort()
		f.wantDisconnect(t, id, "transport error")
	})
}

// socketOf returns the id of the session's socket in the main namespace.
func socketOf(t *testing.T, f *fixture, sid string) string {
	t.Helper()
	var id string
	f.await(t, "socket of the session", func(s state) bool {
		for i, so := range s.Namespaces["/"] {
			if so.Session == sid {
				id = i
			}
		}
		return id != ""
	})
	return id
}

func TestSocket_2_8_EngineReasons(t *testing.T) {
	t.Run("ping timeout", func(t *testing.T) {
		f := use(t, options{PingInterval: 3000, PingTimeout: 300})
		w, c := f.joined(t)
		w.DrainClose()
		f.wantDisconnect(t, c.SID, "ping timeout")
	})
	t.Run("parse error is Engine.IO's", func(t *testing.T) {
		f := use(t, options{})
		w, c := f.joined(t)
		w.Send("9")
		w.ExpectClose()
		f.wantDisconnect(t, c.SID, "parse error")
	})
	t.Run("message over the limit", func(t *testing.T) {
		f := use(t, options{MaxHTTPBufferSize: 1000})
		w, c := f.joined(t)
		w.Send(`42["echo","` + string(make([]byte, 2000)) + `"]`)
		want(t, "status", w.ExpectClose(), websocket.StatusMessageTooBig)
		f.wantDisconnect(t, c.SID, "transport error")
	})
}

func TestSocket_2_8_Violation(t *testing.T) {
	f := use(t, options{})
	t.Run("every socket of the connection hears of it", func(t *testing.T) {
		w, c := f.joined(t)
		a := w.Connect("/a", "")
		w.Send("42{}")
		w.ExpectClose()
		for _, id := range []string{c.SID, a.SID} {
			f.wantDisconnect(t, id, "forced close")
			if differs(t, "socket-error-event") {
				continue
			}
			want(t, "error event", slices.ContainsFunc(f.state(t).SocketErrors, func(e socketError) bool { return e.ID == id }), true)
		}
	})
	t.Run("polling with a poll pending", func(t *testing.T) {
		c := f.polling(t)
		c.Send("40")
		c.Poll()
		id := socketOf(t, f, c.SID)
		poll := pollPending(t, f, c)
		want(t, "post", c.Post(`42{}`).Body, "ok")
		want(t, "poll", poll.Wait().Body, "1")
		f.wantDisconnect(t, id, "forced close")
	})
	t.Run("polling without one: invalid packet", func(t *testing.T) {
		c := f.polling(t)
		c.Send("40")
		c.Poll()
		id := socketOf(t, f, c.SID)
		want(t, "post", c.Post(`42{}`).Body, "ok")
		r := c.Get()
		want(t, "status", r.Status, http.StatusOK)
		want(t, "the close", r.Packets()[len(r.Packets())-1], "1")
		f.wantDisconnect(t, id, "forced close")
	})
	t.Run("polling without one: invalid state", func(t *testing.T) {
		c := f.polling(t)
		c.Send("40")
		c.Poll()
		id := socketOf(t, f, c.SID)
		c.Send(`42/a,["echo"]`)
		r := c.Get()
		want(t, "status", r.Status, http.StatusOK)
		want(t, "the close", r.Packets()[len(r.Packets())-1], "1")
		f.wantDisconnect(t, id, "forced server close")
	})
	t.Run("what follows in the payload has no effect", func(t *testing.T) {
		c := f.polling(t)
		c.Send("40")
		c.Poll()
		id := socketOf(t, f, c.SID)
		c.Send(`42{}`, `42["set",1]`)
		f.wantClosed(t, closeByPolling(t, c), "forced close")
		want(t, "the socket is gone", len(f.state(t).Namespaces["/"][id].Events), 0)
	})
}

func TestSocket_2_8_OrderOfDisconnecting(t *testing.T) {
	f := use(t, options{})
	w, c := f.joined(t)
	w.Send(`420["join","r1","r2"]`)
	w.Expect("430[]")
	w.Send("41")
	d := f.wantDisconnect(t, c.SID, "client namespace disconnect") // waits until "disconnect" has fired without rooms
	wantSlice(t, "rooms while disconnecting", slices.Sorted(slices.Values(d.Rooms)), slices.Sorted(slices.Values([]string{c.SID, "r1", "r2"})))
}

func TestSocket_2_8_EventsAfterTheDisconnection(t *testing.T) {
	f := use(t, options{})
	c := f.polling(t)
	c.Send("40")
	c.Poll()
	id := socketOf(t, f, c.SID)
	// One payload, so that they are read together.
	c.Send("41", `42["echo","late"]`)
	f.wantDisconnect(t, id, "client namespace disconnect")
	f.do(t, "emit", args{"to": []string{id}, "event": "late", "args": []any{}})
	c.Send("40")
	got := c.PollN(1)
	want(t, "packets", len(got), 1)
	want(t, "connect reply", connectReply.MatchString(got[0]), true)
}

func TestSocket_2_8_Shutdown(t *testing.T) {
	f := fresh(t, options{})
	w, c := f.joined(t)
	a := w.Connect("/a", "")
	p := f.polling(t)
	p.Send("40")
	p.Poll()
	poll := pollPending(t, f, p)
	f.do(t, "shutdown", nil)
	want(t, "status, and no 41 before", w.ExpectClose(), websocket.StatusNoStatusRcvd)
	want(t, "poll", poll.Wait().Body, "1")
	f.wantDisconnect(t, c.SID, "server shutting down")
	f.wantDisconnect(t, a.SID, "server shutting down")
}

// closeByPolling polls until the close and returns the sid.
func closeByPolling(t *testing.T, c *siotest.Client) string {
	t.Helper()
	for !slices.Contains(c.Poll(), "1") {
	}
	return c.SID
}
