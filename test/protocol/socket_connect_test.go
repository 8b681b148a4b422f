package protocol_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestSocket_2_2_NoConnectionByItself(t *testing.T) {
	f := use(t, options{})
	w := f.ws(t)
	w.Send("3") // the answer to anything would come now
	first := w.Connect("/", "")
	if first.SID == w.SID {
		t.Error("the socket id is the session id")
	}
}

func TestSocket_2_2_SeveralNamespaces(t *testing.T) {
	f := use(t, options{})
	w := f.ws(t)
	main, a := w.Connect("/", ""), w.Connect("/a", "")
	if main.SID == a.SID {
		t.Error("two namespaces, one id")
	}
	w.Send(`42/a,["echo","in a"]`, `42["echo","in main"]`)
	w.ExpectInAnyOrder(`42/a,["echo","in a"]`, `42["echo","in main"]`) // they are independent
	s := f.state(t)
	want(t, "session", s.Namespaces["/"][main.SID].Session, w.SID)
	want(t, "session", s.Namespaces["/a"][a.SID].Session, w.SID)
	t.Run("without the main one", func(t *testing.T) {
		w := f.ws(t)
		w.Connect("/a", "")
		w.Send(`42/a,["echo"]`)
		w.Expect(`42/a,["echo"]`)
	})
}

func TestSocket_2_2_UnknownNamespace(t *testing.T) {
	f := use(t, options{})
	w := f.ws(t)
	w.Send("40/nowhere,", `40/other,{"token":1}`)
	w.ExpectInAnyOrder(`44/nowhere,{"message":"Invalid namespace"}`, `44/other,{"message":"Invalid namespace"}`)
	w.Connect("/", "")
	echo(t, w)
}

func TestSocket_2_2_Refusal(t *testing.T) {
	f := use(t, options{})
	for _, tc := range []struct{ name, send, want string }{
		{"no data", `40{"refuse":"plain"}`, `44{"message":"not authorized"}`},
		{"data", `40{"refuse":"data"}`, `44{"message":"not authorized","data":{"content":"retry","n":1}}`},
		{"data null", `40{"refuse":"null"}`, `44{"message":"not authorized","data":null}`},
		{"other namespace", `40/a,{"refuse":"data"}`, `44/a,{"message":"not authorized","data":{"content":"retry","n":1}}`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := f.ws(t)
			w.Send(tc.send)
			w.Expect(tc.want)
			w.Connect("/b", "") // the connection stays, and takes another try
			w.Connect("/", "")
			w.Connect("/a", "")
			echo(t, w)
		})
	}
	t.Run("it ends the chain and makes no socket", func(t *testing.T) {
		f := fresh(t, options{})
		w := f.ws(t)
		w.Send(`40{"refuse":"plain","room":"lobby"}`)
		w.Text()
		s := f.state(t)
		want(t, "steps", len(s.Middleware), 1)
		want(t, "sockets", len(s.Namespaces["/"]), 0)
		want(t, "disconnects", len(s.Disconnects), 0)
		// The room that it joined is left: nobody is in it.
		want(t, "members", f.do(t, "fetch", args{"to": []string{"lobby"}}), "[]")
		f.do(t, "emit", args{"to": []string{"lobby"}, "event": "x", "args": []any{}})
		w.Connect("/", "")
		echo(t, w)
	})
}

func TestSocket_2_2_MiddlewaresRunInOrder(t *testing.T) {
	f := use(t, options{})
	for _, nsp := range []string{"/", "/a", "/dynamic-22"} {
		w := f.ws(t)
		c := w.Connect(nsp, "")
		var got []string
		for _, m := range f.state(t).Middleware {
			if m.ID == c.SID {
				got = append(got, m.Namespace+" "+m.Step)
			}
		}
		wantSlice(t, "steps", got, []string{nsp + " first", nsp + " second"})
	}
}

func TestSocket_2_2_AfterTheMiddlewares(t *testing.T) {
	f := use(t, options{})
	t.Run("events of the connect handler follow the reply", func(t *testing.T) {
		w := f.ws(t)
		c := w.Connect("/", `{"greet":true}`)
		w.Expect(fmt.Sprintf(`42["welcome",%q]`, c.SID))
	})
	t.Run("the socket is in the room of its id, and in rooms of the middleware", func(t *testing.T) {
		w := f.ws(t)
		c := w.Connect("/", `{"room":"lobby-22"}`)
		rooms := f.state(t).Namespaces["/"][c.SID].Rooms
		slices.Sort(rooms)
		wanted := []string{c.SID, "lobby-22"}
		slices.Sort(wanted)
		wantSlice(t, "rooms", rooms, wanted)
	})
	t.Run("the session ends meanwhile", func(t *testing.T) {
		w := f.ws(t)
		w.Send(`40{"wait":"gone"}`)
		f.await(t, "middleware waits", func(s state) bool { return slices.Contains(s.Waiting, "gone") })
		w.Close()
		f.wantClosed(t, w.SID, "transport close")
		f.do(t, "release", args{"key": "gone"})
		f.await(t, "middleware released", func(s state) bool { return !slices.Contains(s.Waiting, "gone") })
		for id, so := range f.state(t).Namespaces["/"] {
			if so.Session == w.SID {
				t.Errorf("socket %s of a closed session", id)
			}
		}
	})
}

func TestSocket_2_2_EmitInMiddleware(t *testing.T) {
	t.Run("goes out before the reply", func(t *testing.T) {
		f := use(t, options{})
		w := f.ws(t)
		w.Send(`40{"early":true}`)
		w.Expect(`42["early",1]`)
		w.Connected("/")
	})
	t.Run("with recovery", func(t *testing.T) {
		f := use(t, recovering)
		w := f.ws(t)
		w.Send(`40{"early":true}`)
		if differs(t, "emit-in-middleware-with-recovery") {
			want(t, "event", strings.HasPrefix(w.Text(), `42["early",1`), true)
		}
		w.Connected("/")
	})
}

func TestSocket_2_2_ConnectTimeout(t *testing.T) {
	f := use(t, options{ConnectTimeout: 300})
	t.Run("nothing joined", func(t *testing.T) {
		start := time.Now()
		w := f.ws(t)
		w.ExpectClose()
		if took := time.Since(start); took < 300*time.Millisecond-early {
			t.Errorf("closed after %v", took)
		}
		f.wantClosed(t, w.SID, "forced close")
	})
	t.Run("polling", func(t *testing.T) {
		c := f.polling(t)
		r := c.Get()
		if r.Status == http.StatusOK {
			want(t, "poll", r.Body, "1")
		}
		f.wantClosed(t, c.SID, "forced close")
	})
	t.Run("refused", func(t *testing.T) {
		w := f.ws(t)
		w.Send("40/nowhere,")
		w.DrainClose()
		f.wantClosed(t, w.SID, "forced close")
	})
	t.Run("joined once, it has no say any more", func(t *testing.T) {
		f := use(t, options{ConnectTimeout: 3000})
		w, c := f.joined(t)
		w.Send("41")
		f.wantDisconnect(t, c.SID, "client namespace disconnect")
		time.Sleep(3500 * time.Millisecond) // what must not happen cannot be awaited
		w.Connect("/", "")
		echo(t, w)
	})
}

func TestSocket_2_2_SecondConnectDuringMiddleware(t *testing.T) {
	f := use(t, options{})
	w := f.ws(t)
	w.Send(`40{"wait":"first-of-two"}`)
	f.await(t, "middleware waits", func(s state) bool { return slices.Contains(s.Waiting, "first-of-two") })
	w.Send("40")
	if differs(t, "second-connect-during-middleware") {
		w.ExpectClose()
		f.wantClosed(t, w.SID, "forced close")
		f.do(t, "release", args{"key": "first-of-two"})
		return
	}
	second := w.Connected("/")
	f.do(t, "release", args{"key": "first-of-two"})
	first := w.Connected("/")
	want(t, "two sockets", first.SID != second.SID, true)
}

func TestSocket_2_2_PacketForANamespaceNotJoined(t *testing.T) {
	f := use(t, options{})
	for name, p := range map[string]string{
		"event": `42/a,["echo"]`, "ack": "43/a,1[]", "disconnect": "41/a,", "unknown namespace": `42/nowhere,["echo"]`,
		"header with attachments": `451-/a,["echo",{"_placeholder":true,"num":0}]`,
	} {
		t.Run(name, func(t *testing.T) {
			w, c := f.joined(t)
			w.Send(p)
			if strings.HasPrefix(p, "45") {
				w.SendBinary("x")
			}
			w.ExpectClose()
			f.wantDisconnect(t, c.SID, "forced close")
		})
	}
	t.Run("before anything is joined", func(t *testing.T) {
		w := f.ws(t)
		w.Send(`42["echo"]`)
		w.ExpectClose()
		f.wantClosed(t, w.SID, "forced close")
	})
	t.Run("while the middleware runs", func(t *testing.T) {
		w := f.ws(t)
		w.Send(`40{"wait":"impatient"}`)
		f.await(t, "middleware waits", func(s state) bool { return slices.Contains(s.Waiting, "impatient") })
		w.Send(`42["echo"]`)
		w.ExpectClose()
		f.do(t, "release", args{"key": "impatient"})
	})
	t.Run("just left by the client", func(t *testing.T) {
		w, _ := f.joined(t)
		c := w.Connect("/a", "")
		w.Send("41/a,")
		f.wantDisconnect(t, c.SID, "client namespace disconnect") // in one read with the next packet it is never closed
		w.Send(`42/a,["echo"]`)
		if differs(t, "packet-after-leaving-a-namespace") {
			echo(t, w)
			return
		}
		w.ExpectClose()
	})
	t.Run("just left by the server", func(t *testing.T) {
		w, _ := f.joined(t)
		w.Connect("/a", "")
		w.Send(`42/a,["disconnect-me",false]`)
		w.Expect("41/a,")
		w.Send(`42/a,["echo"]`)
		if differs(t, "packet-after-leaving-a-namespace") {
			echo(t, w)
			return
		}
		w.ExpectClose()
	})
}

func TestSocket_2_2_Handshake(t *testing.T) {
	f := use(t, options{})
	c := f.client(t)
	c.Query = url.Values{"token": {"abc"}}
	c.Header = http.Header{"X-Custom": {"yes"}, "Origin": {"http://a.example"}}
	c.Handshake()
	first := c.SID
	// What later requests say does not count.
	c.Query, c.Header = url.Values{"token": {"later"}}, http.Header{"X-Custom": {"no"}}
	before := time.Now().Add(-time.Minute).UnixMilli()
	c.Send(`40{"a":[1,"two"]}`)
	c.Poll()
	c.Send(`420["handshake"]`)
	var got []struct {
		Headers map[string]string
		Time    string
		Address string
		Xdomain bool
		Secure  bool
		Issued  int64
		URL     string
		Query   map[string]string
		Auth    json.RawMessage
	}
	reply := c.Poll()[0]
	if err := json.Unmarshal([]byte(strings.TrimPrefix(reply, "430")), &got); err != nil {
		t.Fatalf("%s: %v", reply, err)
	}
	h := got[0]
	want(t, "header", h.Headers["x-custom"], "yes")
	want(t, "auth", string(h.Auth), `{"a":[1,"two"]}`)
	want(t, "query", fmt.Sprint(h.Query["token"], h.Query["EIO"], h.Query["transport"], h.Query["sid"]), "abc4polling")
	want(t, "address", strings.Contains(h.Address, "127.0.0.1"), true)
	want(t, "xdomain, secure", fmt.Sprint(h.Xdomain, h.Secure), "true false")
	want(t, "issued", h.Issued > before, true)
	want(t, "time", h.Time != "", true)
	want(t, "url", strings.HasPrefix(h.URL, "/socket.io/?"), true)
	want(t, "session", c.SID, first)
	t.Run("auth belongs to the namespace", func(t *testing.T) {
		w := f.ws(t)
		w.Connect("/", `{"who":"main"}`)
		w.Connect("/a", `{"who":"a"}`)
		w.Connect("/b", "")
		for nsp, auth := range map[string]string{"": `"auth":{"who":"main"}`, "/a,": `"auth":{"who":"a"}`, "/b,": `"auth":{}`} {
			w.Send("42" + nsp + `1["handshake"]`)
			if got := w.Text(); !strings.Contains(got, auth) {
				t.Errorf("%s: got %s, want %s", nsp, got, auth)
			}
		}
	})
}

func TestSocket_2_3_DynamicNamespaces(t *testing.T) {
	f := use(t, options{})
	label := func(t *testing.T, nsp, auth string) string {
		t.Helper()
		w := f.ws(t)
		c := w.Connect(nsp, auth)
		w.Send("42" + nsp + `,["echo",1]`)
		w.Expect("42" + nsp + `,["echo",1]`)
		return f.state(t).Namespaces[nsp][c.SID].Label
	}
	t.Run("by expression", func(t *testing.T) { want(t, "label", label(t, "/dynamic-101", ""), "dynamic") })
	t.Run("by function", func(t *testing.T) { want(t, "label", label(t, "/fn-ok", ""), "function") })
	t.Run("by function, from auth", func(t *testing.T) { want(t, "label", label(t, "/fn-auth", `{"token":"ok"}`), "function") })
	t.Run("the first that matches counts, later ones have their turn", func(t *testing.T) {
		want(t, "label", label(t, "/late-1", ""), "late")
	})
	for name, send := range map[string]string{
		"no match": "/dynamic-x,", "denied": "/fn-denied,", "error": "/fn-error,", "auth missing": `/fn-auth2,`,
	} {
		t.Run(name, func(t *testing.T) {
			w := f.ws(t)
			w.Send("40" + send)
			w.Expect("44" + send + `{"message":"Invalid namespace"}`)
		})
	}
	t.Run("children are apart", func(t *testing.T) {
		one, two := f.ws(t), f.ws(t)
		one.Connect("/dynamic-201", "")
		two.Connect("/dynamic-202", "")
		f.do(t, "emit", args{"namespace": "/dynamic-201", "event": "x", "args": []any{1}})
		one.Expect(`42/dynamic-201,["x",1]`)
		two.Send(`42/dynamic-202,["echo"]`)
		two.Expect(`42/dynamic-202,["echo"]`)
	})
	t.Run("new_namespace fires once for each, not for the main one", func(t *testing.T) {
		for range 2 {
			f.ws(t).Connect("/dynamic-301", "")
		}
		var n int
		for _, name := range f.state(t).Created {
			if name == "/dynamic-301" {
				n++
			}
			if name == "/" {
				t.Error("fired for /")
			}
		}
		want(t, "times", n, 1)
	})
}

func TestSocket_2_3_EmitOfAParent(t *testing.T) {
	f := fresh(t, options{})
	one, two, other := f.ws(t), f.ws(t), f.ws(t)
	one.Connect("/dynamic-1", `{"room":"r"}`)
	two.Connect("/dynamic-2", "")
	other.Connect("/late-1", `{"room":"r"}`)
	f.do(t, "parent", args{"parent": "dynamic", "event": "all", "args": []any{1}})
	f.do(t, "parent", args{"parent": "dynamic", "to": []string{"r"}, "event": "some", "args": []any{2}})
	one.Expect(`42/dynamic-1,["all",1]`, `42/dynamic-1,["some",2]`)
	two.Expect(`42/dynamic-2,["all",1]`)
	two.Send(`42/dynamic-2,["echo"]`)
	two.Expect(`42/dynamic-2,["echo"]`)
	other.Send(`42/late-1,["echo"]`)
	other.Expect(`42/late-1,["echo"]`)
}

func TestSocket_2_3_StaticNameThatMatches(t *testing.T) {
	f := fresh(t, options{})
	f.do(t, "of", args{"namespace": "/dynamic-9"})
	w := f.ws(t)
	c := w.Connect("/dynamic-9", "")
	want(t, "label", f.state(t).Namespaces["/dynamic-9"][c.SID].Label, "dynamic")
	f.do(t, "parent", args{"parent": "dynamic", "event": "x", "args": []any{}})
	w.Expect(`42/dynamic-9,["x"]`)
}

func TestSocket_2_3_CleanupEmptyChildNamespaces(t *testing.T) {
	exists := func(s state, nsp string) bool { _, ok := s.Namespaces[nsp]; return ok }
	t.Run("off", func(t *testing.T) {
		f := use(t, options{})
		w := f.ws(t)
		c := w.Connect("/dynamic-401", "")
		w.Send("41/dynamic-401,")
		f.wantDisconnect(t, c.SID, "client namespace disconnect")
		want(t, "exists", exists(f.state(t), "/dynamic-401"), true)
	})
	f := use(t, options{CleanupEmptyChildNamespaces: true})
	t.Run("the last socket leaves", func(t *testing.T) {
		w, w2 := f.ws(t), f.ws(t)
		c := w.Connect("/dynamic-1", "")
		c2 := w2.Connect("/dynamic-1", "")
		w.Send("41/dynamic-1,")
		f.wantDisconnect(t, c.SID, "client namespace disconnect")
		want(t, "exists with one left", exists(f.state(t), "/dynamic-1"), true)
		w2.Close()
		f.wantDisconnect(t, c2.SID, "transport close")
		f.await(t, "namespace is gone", func(s state) bool { return !exists(s, "/dynamic-1") })
		w.Connect("/dynamic-1", "") // made again
		w.Send(`42/dynamic-1,["echo"]`)
		w.Expect(`42/dynamic-1,["echo"]`)
	})
	t.Run("the only candidate is refused", func(t *testing.T) {
		w := f.ws(t)
		w.Send(`40/dynamic-2,{"refuse":"plain"}`)
		w.Expect(`44/dynamic-2,{"message":"not authorized"}`)
		f.await(t, "namespace is gone", func(s state) bool { return !exists(s, "/dynamic-2") })
	})
	t.Run("static ones stay", func(t *testing.T) {
		w := f.ws(t)
		c := w.Connect("/a", "")
		w.Send("41/a,")
		f.wantDisconnect(t, c.SID, "client namespace disconnect")
		want(t, "exists", exists(f.state(t), "/a"), true)
	})
}

func TestSocket_2_4_SocketMiddleware(t *testing.T) {
	f := use(t, options{})
	w, c := f.joined(t)
	w.Send(`42["blocked","x"]`)
	echo(t, w) // the handler of "blocked" would have answered before
	s := f.await(t, "error event", func(s state) bool {
		return slices.ContainsFunc(s.SocketErrors, func(e socketError) bool { return e.ID == c.SID })
	})
	// A catch-all listener sees the event even so.
	wantSlice(t, "events", s.Namespaces["/"][c.SID].Events, []string{"blocked", "echo"})
	i := slices.IndexFunc(s.SocketErrors, func(e socketError) bool { return e.ID == c.SID })
	want(t, "message", s.SocketErrors[i].Message, "blocked")
}
