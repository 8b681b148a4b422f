package gateway_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestRelayJoinListsMembersAndTellsThem(t *testing.T) {
	n := start(t, "RELAY=true")
	ann, bob := n.dial(`{"user":"ann"}`), n.dial(`{"user":"bob"}`)
	if a := ann.join("r"); a.Total != 1 || len(a.Members) != 1 || a.Members[0] != (member{ann.id, "ann", "node-1", "websocket"}) {
		t.Errorf("first join: %+v", a)
	}
	a := bob.join("r")
	who := map[string]member{}
	for _, m := range a.Members {
		who[m.ID] = m
	}
	if a.Total != 2 || len(who) != 2 || who[bob.id] != (member{bob.id, "bob", "node-1", "websocket"}) || who[ann.id].User != "ann" {
		t.Errorf("second join: %+v", a)
	}
	if p := ann.presence(); p != (presence{"r", "join", member{bob.id, "bob", "node-1", "websocket"}}) {
		t.Errorf("got %+v", p)
	}
	if a := bob.join("r"); a.Total != 2 {
		t.Errorf("a second join of the same room: %+v", a)
	}
	ann.quiet() // of which the others hear nothing
	if a := bob.call("leave", "r"); !a.OK || a.Room != "r" {
		t.Errorf("leave: %+v", a)
	}
	if p := ann.presence(); p != (presence{"r", "leave", member{bob.id, "bob", "node-1", "websocket"}}) {
		t.Errorf("got %+v", p)
	}
	if a := bob.call("leave", "r"); !a.OK {
		t.Errorf("a second leave: %+v", a)
	}
	ann.quiet()
	bob.quiet()
}

func TestRelayPublish(t *testing.T) {
	n := start(t, "RELAY=true")
	ann, bob, eve := n.dial(`{"user":"ann"}`), n.dial(`{"user":"bob"}`), n.dial(`{}`)
	ann.join("r")
	bob.join("other")
	before := time.Now().UnixMilli()
	if a := bob.call("publish", "r", "hi", "a", 1, nil, true, []int{}, map[string]any{"x": "<&>"}); !a.OK || a.Room != "r" {
		t.Errorf("publish: %+v", a)
	}
	args, m := ann.published("hi")
	if got := fmt.Sprintf("%s", args); got != `["a" 1 null true [] {"x":"\u003c\u0026\u003e"}]` {
		t.Errorf("the arguments came as %s", got)
	}
	if m.Room != "r" || m.From != bob.id || m.User != "bob" || m.Node != "node-1" || m.Time < before || m.Time > time.Now().UnixMilli() {
		t.Errorf("meta: %+v", m)
	}
	bob.quiet() // neither the sender, who is not in the room,
	eve.quiet() // nor others get it
	if a := ann.call("publish", "r", "hi"); !a.OK {
		t.Errorf("publish to one's own room: %+v", a)
	}
	ann.quiet() // nor a sender who is
	if a := ann.call("publish", bob.id, "direct"); !a.OK {
		t.Errorf("publish to a socket: %+v", a)
	}
	if args, m := bob.published("direct"); len(args) != 0 || m.Room != bob.id || m.From != ann.id {
		t.Errorf("got %s, %+v", args, m)
	}
	if a := ann.call("publish", "nobody here", "hi"); !a.OK {
		t.Errorf("publish to an empty room: %+v", a)
	}
}

// What is published arrives as the same text that was sent, whatever it is.
func TestRelayForwardsArgumentsUntouched(t *testing.T) {
	n := start(t, "RELAY=true")
	ann, bob := n.dial(`{}`), n.dial(`{}`)
	ann.join("r")
	for _, data := range []string{
		`"žluťoučký 🐎"`, `"\u2028"`, "\"\u2028\"", `"\ud83d\ude00"`, `"</script>&"`, `1e400`, `-0`, `0.1000`, `12345678901234567890`,
		`{"b":1,"a":2,"b":3}`, `{"__proto__":{"x":1}}`, `{"_placeholder":false,"num":0}`, `[[[[[]]]]]`, `""`, `"\u0000"`, `null,null`,
		`{"room":"x","from":"y","user":"z","node":"n","time":1}`,
	} {
		if a := bob.callRaw(`["publish","r","e",` + data + `]`); !a.OK {
			t.Errorf("%s: %+v", data, a)
			continue
		}
		got := ann.event()
		if !strings.HasPrefix(got, `["e",`+data+`,{"room":"r","from":"`+bob.id) {
			t.Errorf("%s came as %s", data, got)
		}
	}
}

func TestRelayForwardsBinary(t *testing.T) {
	n := start(t, "RELAY=true")
	ann, bob := n.dial(`{}`), n.dial(`{}`)
	ann.join("r")
	for _, c := range []struct {
		sent        string
		attachments []string
		want        string
	}{
		{`{"_placeholder":true,"num":0}`, []string{"\x00\xff"}, ``},
		{`{"a":[1,{"b":{"_placeholder":true,"num":0}}]}`, []string{"one"}, ``},
		{`{"_placeholder":true,"num":0},{"x":[{"_placeholder":true,"num":1}]}`, []string{"", "two"}, ``},
		{
			`{"_placeholder":true,"num":1},{"_placeholder":true,"num":0}`,
			[]string{"zero", "one"},
			`{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}`,
		},
	} {
		if a := bob.callRaw(`["publish","r","e",`+c.sent+`]`, c.attachments...); !a.OK {
			t.Errorf("%s: %+v", c.sent, a)
			continue
		}
		want, order := c.sent, c.attachments
		if c.want != "" {
			want, order = c.want, []string{order[1], order[0]}
		}
		head := fmt.Sprintf(`45%d-["e",%s,{"room":"r"`, len(order), want)
		if got := ann.Text(); !strings.HasPrefix(got, head) {
			t.Errorf("%s came as %s", c.sent, got)
		}
		for _, a := range order {
			ann.ExpectBinary(a)
		}
	}
}

// A blob that is named by many arguments must not be sent many times: a packet of a few bytes would become one that no
// client takes, or that fills the node's memory.
func TestRelayDoesNotMultiplyAttachments(t *testing.T) {
	n := start(t, "RELAY=true")
	ann, bob := n.dial(`{}`), n.dial(`{}`)
	ann.join("r")
	const times = 12
	refs := strings.TrimSuffix(strings.Repeat(`{"_placeholder":true,"num":0},`, times), ",")
	if a := bob.callRaw(`["publish","r","e",`+refs+`]`, "blob"); !a.OK {
		return // refused is good too
	}
	got := ann.Text()
	if !strings.HasPrefix(got, "451-[") || strings.Count(got, "_placeholder") != times {
		t.Errorf("came as %.200s", got)
	}
	ann.ExpectBinary("blob")
}

func TestRelayRefusesBadRequests(t *testing.T) {
	n := start(t, "RELAY=true")
	ann, bob := n.dial(`{}`), n.dial(`{}`)
	ann.join("r")
	long := strings.Repeat("x", 129)
	const badRoom, badEvent = "1 to 128", "publish takes"
	for _, c := range []struct{ data, text string }{
		{`["join"]`, badRoom},
		{`["join",""]`, badRoom},
		{`["join",null]`, badRoom},
		{`["join",7]`, badRoom},
		{`["join",["r"]]`, badRoom},
		{`["join",{"room":"r"}]`, badRoom},
		{`["join","` + long + `"]`, badRoom},
		{`["join","` + strings.Repeat("é", 65) + `"]`, badRoom}, // 130 bytes
		{`["leave"]`, badRoom},
		{`["leave",{}]`, badRoom},
		{`["publish"]`, badRoom},
		{`["publish","","e"]`, badRoom},
		{`["publish","` + long + `","e"]`, badRoom},
		{`["publish","r"]`, badEvent},
		{`["publish","r",1]`, badEvent},
		{`["publish","r",{}]`, badEvent},
		{`["publish","r",null]`, badEvent},
		{`["publish","r","connect"]`, "reserved"},
		{`["publish","r","connect_error"]`, "reserved"},
		{`["publish","r","disconnect"]`, "reserved"},
		{`["publish","r","disconnecting"]`, "reserved"},
		{`["publish","r","newListener"]`, "reserved"},
		{`["publish","r","removeListener"]`, "reserved"},
		{`["publish","r","presence",{"room":"r","action":"leave"}]`, "reserved"},
		{`["publish","r","\u0070resence"]`, "reserved"},
		{`["publish","r","e",{"_placeholder":true,"num":0}]`, ""},
		{`["join","AAAAAAAAAAAAAAAAAAAA"]`, "socket id"},
		{`["join","` + ann.id + `"]`, "socket id"},
		{`["join","` + bob.id + `"]`, "socket id"}, // its own
	} {
		a := bob.callRaw(c.data)
		if c.text == "" { // text that only looks like binary may pass as it is
			if a.OK {
				ann.event()
			}
			continue
		}
		if a.OK || !strings.Contains(a.Error, c.text) {
			t.Errorf("%s: %+v", c.data, a)
		}
	}
	for _, data := range []string{`["join",{"_placeholder":true,"num":0}]`, `["publish",{"_placeholder":true,"num":0},"e"]`, `["publish","r",{"_placeholder":true,"num":0}]`} {
		if a := bob.callRaw(data, "r"); a.OK {
			t.Errorf("%s: %+v", data, a)
		}
	}
	if a := bob.callRaw(`["join","` + strings.Repeat("é", 64) + `"]`); !a.OK {
		t.Errorf("128 bytes: %+v", a)
	}
	ann.quiet()
	if a := bob.call("leave", bob.id); !a.OK {
		t.Errorf("leave the own room: %+v", a)
	}
	ann.call("publish", bob.id, "still here")
	bob.published("still here")
}

// What asks for no acknowledgement gets none, whether it was right or wrong.
func TestRelayWithoutAcknowledgement(t *testing.T) {
	n := start(t, "RELAY=true")
	ann, bob := n.dial(`{}`), n.dial(`{}`)
	ann.Send(`42["join","r"]`, `42["join"]`, `42["publish"]`, `42["leave",7]`, `42["unknown",1]`, `42[7]`, `42["join","AAAAAAAAAAAAAAAAAAAA"]`)
	ann.quiet()
	bob.Send(`42["publish","r","e"]`)
	if args, m := ann.published("e"); len(args) != 0 || m.From != bob.id {
		t.Errorf("got %s %+v", args, m)
	}
	bob.quiet()
}

func TestRelayTooManyRooms(t *testing.T) {
	n := start(t, "RELAY=true", "RELAY_MAX_ROOMS=3")
	ann := n.dial(`{}`)
	for _, room := range []string{"a", "b", "c"} {
		ann.join(room)
	}
	if a := ann.call("join", "d"); a.OK || a.Error != "too many rooms" {
		t.Errorf("a fourth: %+v", a)
	}
	ann.join("b") // it is in there
	ann.call("leave", "a")
	ann.join("d")
}

func TestRelayBoundsTheListOfMembers(t *testing.T) {
	n := start(t, "RELAY=true", "MAX_NAMESPACES=200", `NAMESPACE_PATTERN=^/n\d+$`)
	const more = 3
	var last *peer
	for range 100 + more {
		last = n.dial(`{}`)
		last.Send(`42["join","r"]`)
	}
	var a answer
	eventually(t, "all have joined", func() bool { a = last.call("join", "r"); return a.Total == 100+more })
	if len(a.Members) != 100 {
		t.Errorf("%d members listed, want 100", len(a.Members))
	}
}

func TestRelayUserNames(t *testing.T) {
	n := start(t, "RELAY=true")
	ann := n.dial(`{}`)
	ann.join("r")
	for _, c := range []struct{ auth, want string }{
		{``, ""},
		{`{"user":""}`, ""},
		{`{"user":"<b>\"ann\"</b>"}`, `<b>"ann"</b>`},
		{`{"user":"` + strings.Repeat("x", 200) + `"}`, strings.Repeat("x", 128)},
		{`{"user":"` + strings.Repeat("x", 127) + `é"}`, strings.Repeat("x", 127)}, // no half characters
	} {
		bob := n.dial(c.auth)
		bob.join("r")
		if p := ann.presence(); p.Member.User != c.want {
			t.Errorf("auth %s: user %q, want %q", c.auth, p.Member.User, c.want)
		}
		bob.call("leave", "r")
		ann.presence()
		bob.call("publish", "r", "e")
		if _, m := ann.published("e"); m.User != c.want {
			t.Errorf("auth %s: meta says %q, want %q", c.auth, m.User, c.want)
		}
	}
	for _, auth := range []string{`{"user":7}`, `{"token":{}}`} {
		w := n.client().Open()
		w.Send("40" + auth)
		w.Expect(`44{"message":"Bad auth"}`)
	}
}

func TestRelayNamespaces(t *testing.T) {
	n := start(t, "RELAY=true", "NAMESPACES=/a,/b", `NAMESPACE_PATTERN=^/dyn-\w+$`)
	t.Run("those that are not listed are refused", func(t *testing.T) {
		w := n.client().Open()
		for _, ns := range []string{"/c,", "/a/,", "/A,", "/dyn-,", "/xdyn-1,", "/dyn-1/,", ""} { // the last is "/"
			w.Send("40" + ns)
			w.Expect("44" + ns + `{"message":"Invalid namespace"}`)
		}
	})
	t.Run("rooms are apart", func(t *testing.T) {
		a, b, x, y := n.client().Open(), n.client().Open(), n.client().Open(), n.client().Open()
		inA, inB := newPeer(t, a, "/a", ""), newPeer(t, b, "/b", "")
		x1, x2 := newPeer(t, x, "/dyn-1", ""), newPeer(t, y, "/dyn-2", "")
		for _, p := range []*peer{inA, inB, x1, x2} {
			if got := p.join("r"); got.Total != 1 {
				t.Errorf("%s: %+v", p.ns, got)
			}
		}
		inA.call("publish", "r", "e")
		x1.call("publish", "r", "e")
		inB.quiet()
		x2.quiet()
		x3 := newPeer(t, n.client().Open(), "/dyn-1", "")
		x3.call("publish", "r", "e", 1)
		if args, m := x1.published("e"); string(args[0]) != "1" || m.From != x3.id {
			t.Errorf("got %s %+v", args, m)
		}
	})
	t.Run("the same session in two", func(t *testing.T) {
		w := n.client().Open()
		p1 := newPeer(t, w, "/a", `{"user":"1"}`)
		p2 := newPeer(t, w, "/b", `{"user":"2"}`)
		watch := newPeer(t, n.client().Open(), "/b", "")
		watch.join("twice")
		p1.join("twice")
		p2.join("twice")
		if p := watch.presence(); p.Member.ID != p2.id || p.Member.User != "2" {
			t.Errorf("got %+v", p)
		}
		w.Send("41/b,")
		if p := watch.presence(); p.Action != "leave" || p.Member.ID != p2.id {
			t.Errorf("got %+v", p)
		}
		if a := p1.join("twice"); a.Total != 1 {
			t.Errorf("the other socket of the session: %+v", a)
		}
	})
}

// Without the relay the three events are events without a handler.
func TestNoRelay(t *testing.T) {
	n := start(t)
	ann, bob := n.dial(`{}`), n.dial(`{}`)
	for _, p := range []*peer{ann, bob} {
		p.Send(`421["join","r"]`, `422["publish","r","e"]`, `42["leave","r"]`)
		p.Send("41", "40")
		p.Connected("/") // nothing came before it
	}
}

func TestRelayMetaIsOfTheServer(t *testing.T) {
	n := start(t, "RELAY=true")
	ann, bob := n.dial(`{}`), n.dial(`{"user":"bob","id":"x","node":"x"}`)
	ann.join("r")
	forged, err := json.Marshal(meta{Room: "r", From: "root", User: "root", Node: "x", Time: 1})
	if err != nil {
		t.Fatal(err)
	}
	bob.callRaw(`["publish","r","e",` + string(forged) + `]`)
	if args, m := ann.published("e"); len(args) != 1 || m.From != bob.id || m.User != "bob" || m.Node != "node-1" {
		t.Errorf("got %s, meta %+v", args, m)
	}
}

// A join costs more than the client pays for it, as it lists the members.
func TestRelayTooManyJoins(t *testing.T) {
	n := start(t, "RELAY=true", "RELAY_MAX_ROOMS=20")
	ann, bob := n.dial(`{}`), n.dial(`{}`)
	for i := range 20 {
		ann.join(fmt.Sprint(i)) // all the rooms it may have, at once
	}
	var last answer
	for range 20 {
		last = ann.call("join", "0")
	}
	if last.OK || last.Error != "too many joins, try again later" {
		t.Errorf("got %+v", last)
	}
	for _, event := range []string{"leave", "publish"} {
		if a := ann.call(event, "0", "e"); !a.OK {
			t.Errorf("%s: %+v", event, a)
		}
	}
	bob.join("0")
}
