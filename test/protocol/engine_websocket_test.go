package protocol_test

import (
	"compress/flate"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/coder/websocket"
)

func TestEngine_1_9_Handshake(t *testing.T) {
	f := use(t, bare)
	t.Run("no extension, no subprotocol", func(t *testing.T) {
		w := f.client(t).DialOptions(&websocket.DialOptions{CompressionMode: websocket.CompressionContextTakeover})
		want(t, "status", w.Response.Status, http.StatusSwitchingProtocols)
		want(t, "extensions", w.Response.Header.Get("Sec-WebSocket-Extensions"), "")
		want(t, "protocol", w.Response.Header.Get("Sec-WebSocket-Protocol"), "")
	})
	t.Run("the first subprotocol is echoed", func(t *testing.T) {
		w := f.client(t).DialOptions(&websocket.DialOptions{Subprotocols: []string{"first", "second"}})
		want(t, "protocol", w.Response.Header.Get("Sec-WebSocket-Protocol"), "first")
	})
	t.Run("a handshake that is no WebSocket", func(t *testing.T) {
		c := dialRaw(t, f)
		c.request(t, http.MethodGet, f.URL+"/engine.io/?EIO=4&transport=websocket",
			[]string{"Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"}, "")
		res, _ := c.response(t)
		want(t, "status", res.StatusCode, http.StatusBadRequest)
	})
}

func TestEngine_1_9_OnePacketPerFrame(t *testing.T) {
	f := use(t, bare)
	w := f.ws(t)
	f.do(t, "send", args{"sid": w.SID, "data": []string{"a", "b", "c"}})
	w.Expect("4a", "4b", "4c")
	// Frames may come in fragments.
	c := dialRaw(t, f)
	c.request(t, http.MethodGet, f.URL+"/engine.io/?EIO=4&transport=websocket", upgradeHeaders, "")
	c.response(t)
	c.frame(t)
	c.writeFrame(t, 0x01, "4he")
	c.writeFrame(t, 0x89, "ping in between")
	c.writeFrame(t, 0x80, "llo")
	head, payload := c.frame(t)
	want(t, "pong", head, 0x8a)
	want(t, "pong payload", payload, "ping in between")
	head, payload = c.frame(t)
	want(t, "text", head, 0x81)
	want(t, "echo", payload, "4hello")
}

func TestEngine_1_9_MessageOverTheLimit(t *testing.T) {
	f := use(t, options{Mode: "engine", MaxHTTPBufferSize: 100})
	w := f.ws(t)
	w.Send("4" + strings.Repeat("x", 99))
	w.Expect("4" + strings.Repeat("x", 99))
	w.Send("4" + strings.Repeat("x", 100))
	want(t, "status", w.ExpectClose(), websocket.StatusMessageTooBig)
	f.wantClosed(t, w.SID, "transport error")

	w = f.ws(t)
	w.SendBinary(strings.Repeat("x", 101))
	want(t, "status", w.ExpectClose(), websocket.StatusMessageTooBig)
}

func TestEngine_1_9_CloseByTheServer(t *testing.T) {
	f := use(t, bare)
	w := f.ws(t)
	f.do(t, "send", args{"sid": w.SID, "data": []string{"last"}})
	f.do(t, "close", args{"sid": w.SID})
	w.Expect("4last")
	want(t, "status", w.ExpectClose(), websocket.StatusNoStatusRcvd)
	f.wantClosed(t, w.SID, "forced close")
}

func TestEngine_1_9_CloseByTheClient(t *testing.T) {
	f := use(t, bare)
	t.Run("with a close frame", func(t *testing.T) {
		w := f.ws(t)
		w.Close()
		f.wantClosed(t, w.SID, "transport close")
	})
	t.Run("with the connection", func(t *testing.T) {
		w := f.ws(t)
		w.Drop()
		f.wantClosed(t, w.SID, "transport close")
	})
}

func TestEngine_1_9_ClosePacket(t *testing.T) {
	f := use(t, bare)
	w := f.ws(t)
	w.Send("1")
	if differs(t, "close-packet-on-websocket") {
		w.ExpectClose()
		f.wantClosed(t, w.SID, "transport close")
		return
	}
	wantAliveWS(t, w)
}

func TestEngine_1_9_InvalidUTF8(t *testing.T) {
	f := use(t, bare)
	w := f.ws(t)
	w.Send("4\xff\xfe")
	want(t, "status", w.ExpectClose(), websocket.StatusInvalidFramePayloadData)
	f.wantClosed(t, w.SID, "transport error")
}

func TestEngine_1_9_PerMessageDeflate(t *testing.T) {
	f := use(t, options{Mode: "engine", PerMessageDeflate: new(100)})
	t.Run("messages from the threshold on are compressed", func(t *testing.T) {
		c := dialRaw(t, f)
		c.request(t, http.MethodGet, f.URL+"/engine.io/?EIO=4&transport=websocket",
			append([]string{"Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; client_no_context_takeover"}, upgradeHeaders...), "")
		res, _ := c.response(t)
		want(t, "negotiated", strings.HasPrefix(res.Header.Get("Sec-WebSocket-Extensions"), "permessage-deflate"), true)
		c.frame(t) // the open packet, 1 byte more or less than the threshold
		c.writeFrame(t, 0x81, "4short")
		head, payload := c.frame(t)
		want(t, "short: first byte", head, 0x81)
		want(t, "short", payload, "4short")
		long := "4" + strings.Repeat("x", 110)
		c.writeFrame(t, 0x81, long)
		head, payload = c.frame(t)
		want(t, "long: first byte, RSV1 set", head, 0xc1)
		// The sender takes the last four bytes off; RFC 7692 §7.2.2.
		b, err := io.ReadAll(flate.NewReader(strings.NewReader(payload + "\x00\x00\xff\xff\x01\x00\x00\xff\xff")))
		if err != nil || string(b) != long {
			t.Errorf("got %q, %v", b, err)
		}
	})
	t.Run("a client library", func(t *testing.T) {
		w := f.client(t).DialOptions(&websocket.DialOptions{CompressionMode: websocket.CompressionContextTakeover, CompressionThreshold: 50})
		w.Text()
		for _, s := range []string{"4short", "4" + strings.Repeat("long", 300), "4" + strings.Repeat("x", 99), "4" + strings.Repeat("long", 301)} {
			w.Send(s)
			w.Expect(s)
		}
	})
	t.Run("a client without it", func(t *testing.T) {
		w := f.client(t).DialOptions(&websocket.DialOptions{CompressionMode: websocket.CompressionDisabled})
		w.Text()
		want(t, "extensions", w.Response.Header.Get("Sec-WebSocket-Extensions"), "")
		w.Send("4" + strings.Repeat("x", 2000))
		w.Expect("4" + strings.Repeat("x", 2000))
	})
}
