package gateway_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/seed-0b620db0/patchbay/internal/gateway"
	"github.com/seed-0b620db0/patchbay/internal/siotest"
	"github.com/seed-0b620db0/patchbay/pkg/sio"
)

// bareRelay is a relay on a server of its own, with an event "block" whose handler waits: what a client sends after it is
// handled when the test says so.
type bareRelay struct {
	*gateway.Relay
	t       *testing.T
	base    string
	entered chan struct{}
	goOn    chan struct{}
}

func newBareRelay(t *testing.T, vars ...string) *bareRelay {
	t.Helper()
	siotest.LeakCheck(t)
	r, err := gateway.NewRelay(load(t, append([]string{"NODE=node-1"}, vars...)...))
	if err != nil {
		t.Fatal(err)
	}
	b := &bareRelay{Relay: r, t: t, entered: make(chan struct{}), goOn: make(chan struct{})}
	r.IO.On("block", func(context.Context, *sio.Socket, *sio.Event) error {
		b.entered <- struct{}{}
		<-b.goOn
		return nil
	})
	srv := httptest.NewServer(r.IO)
	b.base = srv.URL
	t.Cleanup(func() {
		if err := r.IO.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		srv.Close()
		if r.Sockets() != 0 || r.Sessions() != 0 {
			t.Errorf("%d sockets of %d sessions are still known to the relay", r.Sockets(), r.Sessions())
		}
	})
	return b
}

func (b *bareRelay) client() *siotest.Client { return siotest.New(b.t, b.base, "/socket.io/") }

func (b *bareRelay) dial() *peer {
	b.t.Helper()
	return newPeer(b.t, b.client().Open(), "/", `{"user":"u"}`)
}

// gone makes p send packets that are handled only after it is disconnected.
func (b *bareRelay) gone(p *peer, packets ...string) {
	b.t.Helper()
	before := b.IO.Len()
	p.Send(`42["block"]`)
	<-b.entered
	p.Send(packets...)
	p.Close()
	eventually(b.t, "the client is gone", func() bool { return b.IO.Len() == before-1 })
	b.goOn <- struct{}{}
}

func TestRelayPresenceOnDisconnect(t *testing.T) {
	b := newBareRelay(t)
	ann := b.dial()
	ann.join("r")
	ann.join("s")
	for name, leave := range map[string]func(*peer){
		"a DISCONNECT": func(p *peer) { p.Send("41") },
		"a close":      func(p *peer) { p.Close() },
		"a lost line":  func(p *peer) { p.Drop() },
		"bad input":    func(p *peer) { p.Send("4nonsense") },
	} {
		bob := b.dial()
		bob.join("r")
		bob.join("s")
		ann.presence()
		ann.presence()
		leave(bob)
		rooms := map[string]bool{}
		for range 2 {
			p := ann.presence()
			if p.Action != "leave" || p.Member.ID != bob.id || p.Member.User != "u" {
				t.Errorf("after %s: %+v", name, p)
			}
			rooms[p.Room] = true
		}
		if len(rooms) != 2 {
			t.Errorf("after %s: left %v", name, rooms)
		}
		if a := ann.join("r"); a.Total != 1 {
			t.Errorf("after %s: %+v", name, a)
		}
	}
	if b.Sockets() != 1 || b.Sessions() != 1 {
		t.Errorf("the relay keeps %d sockets of %d sessions", b.Sockets(), b.Sessions())
	}
}

// A join that is handled after its client has gone must not tell the room of a member that never leaves.
func TestRelayJoinOfAClientThatIsGone(t *testing.T) {
	b := newBareRelay(t)
	ann, bob := b.dial(), b.dial()
	ann.join("r")
	b.gone(bob, `42["join","r"]`)
	eventually(t, "the relay has forgotten it", func() bool { return b.Sockets() == 1 })
	state := 0
	for ann.call("leave", "nowhere"); len(ann.inbox) > 0; {
		switch p := ann.presence(); p.Action {
		case "join":
			state++
		case "leave":
			state--
		}
	}
	if state != 0 {
		t.Errorf("the room was told of %d members that are not there", state)
	}
	if a := ann.join("r"); a.Total != 1 {
		t.Errorf("got %+v", a)
	}
}

func TestRelayAckToAClientThatIsGone(t *testing.T) {
	b := newBareRelay(t)
	ann, bob := b.dial(), b.dial()
	ann.join("r")
	b.gone(bob, `421["publish","r","e"]`, `422["publish",7]`, `423["leave","r"]`)
	if _, m := ann.published("e"); m.From != bob.id { // what it said is still heard
		t.Errorf("got %+v", m)
	}
	eventually(t, "the relay has forgotten it", func() bool { return b.Sockets() == 1 })
	if errs := b.HandlerErrors(); len(errs) > 0 {
		t.Errorf("that a client has gone is no error of a handler: %v", errors.Join(errs...))
	}
}

func TestRelayPresenceOnUpgrade(t *testing.T) {
	b := newBareRelay(t)
	ann := b.dial()
	ann.join("r")
	c := b.client()
	c.Handshake()
	c.Send("40")
	c.Poll()
	c.Send(`421["join","r"]`)
	if got := strings.Join(c.Poll(), ""); !strings.Contains(got, `"transport":"polling"`) {
		t.Errorf("join over polling: %s", got)
	}
	if p := ann.presence(); p.Action != "join" || p.Member.Transport != "polling" {
		t.Errorf("got %+v", p)
	}
	w, rest := c.Upgrade()
	if len(rest) > 0 {
		t.Errorf("on the last poll: %q", rest)
	}
	if p := ann.presence(); p.Action != "update" || p.Room != "r" || p.Member.Transport != "websocket" {
		t.Errorf("got %+v", p)
	}
	for _, m := range ann.join("r").Members {
		if m.Transport != "websocket" {
			t.Errorf("listed as %+v", m)
		}
	}
	w.Send("41") // a session without sockets
	if p := ann.presence(); p.Action != "leave" || p.Member.Transport != "websocket" {
		t.Errorf("got %+v", p)
	}
	eventually(t, "it is forgotten", func() bool { return b.Sockets() == 1 && b.Sessions() == 1 })
}

// recoverPeer connects again with the session of p.
func recoverPeer(t *testing.T, c *siotest.Client, p *peer, offset, more string) (*peer, []string) {
	t.Helper()
	w := c.Open()
	w.Send(fmt.Sprintf(`40{"pid":%q,"offset":%q%s}`, p.pid, offset, more))
	var missed []string
	for {
		got := w.Text()
		if data, ok := strings.CutPrefix(got, "40"); ok {
			var s siotest.Connected
			if err := json.Unmarshal([]byte(data), &s); err != nil {
				t.Fatalf("connect: %q", got)
			}
			return &peer{WS: w, t: t, id: s.SID, pid: s.PID}, missed
		}
		missed = append(missed, got)
	}
}

// offsetOf is the last argument of an event of a server with recovery.
func offsetOf(t *testing.T, event string) string {
	t.Helper()
	var args []any
	if err := json.Unmarshal([]byte(event), &args); err != nil {
		t.Fatal(err)
	}
	offset, ok := args[len(args)-1].(string)
	if !ok {
		t.Fatalf("no offset in %s", event)
	}
	return offset
}

func TestRelayRecovery(t *testing.T) {
	n := start(t, "RELAY=true", "RECOVERY=true")
	ann, bob := n.dial(`{"user":"ann"}`), n.dial(`{"user":"bob"}`)
	ann.join("r")
	bob.join("r")
	if p := ann.presence(); p.Action != "join" {
		t.Errorf("got %+v", p)
	}
	ann.call("publish", "r", "first")
	offset := offsetOf(t, bob.event())
	bob.Drop()
	if p := ann.presence(); p.Action != "leave" || p.Member.ID != bob.id {
		t.Errorf("got %+v", p)
	}
	ann.call("publish", "r", "missed", 1)
	back, missed := recoverPeer(t, n.client(), bob, offset, `,"user":"bob"`)
	if back.id != bob.id || len(missed) != 1 || !strings.Contains(missed[0], `"missed",1,{"room":"r"`) {
		t.Fatalf("recovered as %s (was %s), missed %q", back.id, bob.id, missed)
	}
	if p := ann.presence(); p.Action != "join" || p.Member.ID != bob.id || p.Member.User != "bob" {
		t.Errorf("got %+v", p)
	}
	ann.call("publish", "r", "after")
	if got := back.event(); !strings.HasPrefix(got, `["after",{"room":"r"`) {
		t.Errorf("got %s", got)
	}
	if a := ann.join("r"); a.Total != 2 {
		t.Errorf("got %+v", a)
	}
}

// A client that comes back before the server knows of its loss: whatever the others are told, they end up with it as a
// member.
func TestRelayRecoveryBeforeTheLossIsKnown(t *testing.T) {
	n := start(t, "RELAY=true", "RECOVERY=true")
	ann := n.dial(`{"user":"ann"}`)
	ann.join("r")
	for range 20 {
		bob := n.dial(`{"user":"bob"}`)
		bob.join("r")
		ann.presence()
		ann.call("publish", "r", "first")
		offset := offsetOf(t, bob.event())
		back, _ := recoverPeer(t, n.client(), bob, offset, `,"user":"bob"`)
		if back.id != bob.id {
			t.Fatal("not recovered")
		}
		back.call("leave", "r") // after its OnConnect, and before the acknowledgement
		var told []string
		// The end of the old socket may have told of its return a moment later, and then tells that it has left, too.
		eventually(t, "the others know that it has left", func() bool {
			ann.call("leave", "nowhere")
			for len(ann.inbox) > 0 {
				if p := ann.presence(); p.Member.ID == back.id {
					told = append(told, p.Action)
				}
			}
			told = slices.Compact(told) // the old socket may have left between the two, which changes nothing
			return len(told) > 0 && told[len(told)-1] == "leave"
		})
		if last := len(told) - 1; last < 1 || told[last-1] == "leave" {
			t.Fatalf("the others were told %q", told)
		}
		back.Close()
	}
}

// Rooms of a former session are given back only as far as the token allows now, and to the same user only.
func TestRecoveredRoomsNeedPermission(t *testing.T) {
	n := start(t, "RELAY=true", "RECOVERY=true", "JWT_SECRET="+secret)
	both := sign(t, "HS256", []byte(secret), claims{"sub": "ann", "patchbay": claims{"join": []string{"*"}, "publish": []string{"*"}}})
	less := sign(t, "HS256", []byte(secret), claims{"sub": "ann", "patchbay": claims{"join": []string{"a"}}})
	other := sign(t, "HS256", []byte(secret), claims{"sub": "eve", "patchbay": claims{"join": []string{"*"}}})
	watch := n.dial(`{"token":"` + both + `"}`)
	for _, c := range []struct{ name, token, rooms string }{
		{"the same token", both, "ab"},
		{"fewer permissions", less, "a"},
		{"another user", other, ""},
	} {
		ann := n.dial(`{"token":"` + both + `"}`)
		ann.join("a")
		ann.join("b")
		watch.call("publish", "a", "first")
		offset := offsetOf(t, ann.event())
		ann.Drop()
		back, _ := recoverPeer(t, n.client(), ann, offset, `,"token":"`+c.token+`"`)
		back.call("leave", "nowhere") // OnConnect has run
		got := ""
		for _, room := range []string{"a", "b"} {
			a := watch.join(room)
			for _, m := range a.Members {
				if m.ID == back.id {
					got += room
				}
			}
			watch.call("leave", room)
		}
		if got != c.rooms {
			t.Errorf("%s: in rooms %q, want %q", c.name, got, c.rooms)
		}
		back.Send("41")
	}
}

// Whatever a client sends as arguments, it gets an answer, the socket stays, and nobody else is hurt.
func TestRelayGarbage(t *testing.T) {
	n := start(t, "RELAY=true")
	ann, bob := n.dial(`{}`), n.dial(`{}`)
	ann.join("r")
	seed := rand.Uint64()
	rnd := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // a reproducible test
	values := []string{
		`"r"`, `"e"`, `""`, `null`, `true`, `0`, `-1.5e300`, `[]`, `{}`, `["r"]`, `{"room":"r"}`, `"presence"`, `"connect"`, `"\ud800"`,
		`"\u0000"`, `{"_placeholder":true}`, `{"_placeholder":true,"num":-1}`, `{"_placeholder":true,"num":"0"}`, `{"_placeholder":true,"num":9}`,
		`{"a":{"_placeholder":true,"num":0}}`, `"` + strings.Repeat("x", 200) + `"`, `"AAAAAAAAAAAAAAAAAAAA"`, strings.Repeat("[", 100) + strings.Repeat("]", 100),
	}
	for i := range 400 {
		args := []string{[]string{`"join"`, `"leave"`, `"publish"`}[rnd.IntN(3)]}
		for range rnd.IntN(6) {
			args = append(args, values[rnd.IntN(len(values))])
		}
		data := "[" + strings.Join(args, ",") + "]"
		a := bob.callRaw(data) // fails the test if there is none
		if a.OK && a.Room == "" {
			t.Fatalf("seed %d, %d: %s: %+v", seed, i, data, a)
		}
	}
	ann.call("publish", "r", "e")
	if a := ann.call("join", "r"); !a.OK {
		t.Errorf("after all: %+v", a)
	}
	for name, count := range map[string]string{"handler_errors_total": "0", "protocol_errors_total": "0"} {
		if got := n.scrape()["patchbay_"+name]; fmt.Sprint(got) != count {
			t.Errorf("%s is %v", name, got)
		}
	}
	bob.call("leave", "r")
}

// Binary packets whose placeholders are wrong are the protocol's to refuse: the client is closed, nobody else.
func TestRelayBadPlaceholders(t *testing.T) {
	n := start(t, "RELAY=true")
	ann := n.dial(`{}`)
	ann.join("r")
	for _, arg := range []string{`{"_placeholder":true}`, `{"_placeholder":true,"num":1}`, `{"_placeholder":true,"num":-1}`} {
		bob := n.dial(`{}`)
		bob.Send(`451-["publish","r","e",` + arg + `]`)
		bob.DrainClose()
	}
	ann.quiet()
}
