package protocol_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed-0b620db0/patchbay/internal/siotest"
)

func TestSocket_2_5_AckOfTheServer(t *testing.T) {
	f := use(t, options{})
	w, _ := f.joined(t)
	for _, tc := range []struct{ send, want string }{
		{`420["ack"]`, `430[]`},
		{`421["ack",1,"x",{"y":null}]`, `431[1,"x",{"y":null}]`},
		{`42456["ack",1]`, `43456[1]`},
		{`421["ack",1]`, `431[1]`}, // the server does not mind an id that was used before
	} {
		w.Send(tc.send)
		w.Expect(tc.want)
	}
	t.Run("it works once", func(t *testing.T) {
		w := w.In(t)
		w.Send(`425["ack-twice"]`)
		w.Expect(`435[1]`, `42["after"]`)
	})
	t.Run("binary", func(t *testing.T) {
		w := w.In(t)
		w.Send(`451-7["ack",{"_placeholder":true,"num":0}]`)
		w.SendBinary("x")
		w.Expect(`461-7[{"_placeholder":true,"num":0}]`)
		w.ExpectBinary("x")
	})
	t.Run("other namespace", func(t *testing.T) {
		w := w.In(t)
		w.Connect("/a", "")
		w.Send(`42/a,3["ack",1]`)
		w.Expect(`43/a,3[1]`)
	})
	t.Run("in order", func(t *testing.T) {
		w := w.In(t)
		w.Send(`421["ack"]`, `42["echo"]`, `422["ack"]`)
		w.Expect(`431[]`, `42["echo"]`, `432[]`)
	})
}

var question = regexp.MustCompile(`^42(\d+)(\["question".*\])$`)

// asked reads the question that the server was told to ask and returns its ack id.
func asked(t *testing.T, w *siotest.WS, args string) string {
	t.Helper()
	got := w.Text()
	m := question.FindStringSubmatch(got)
	if m == nil || m[2] != `["question"`+args+`]` {
		t.Fatalf("got %s, want a question with an ack id", got)
	}
	return m[1]
}

func TestSocket_2_5_AckOfTheClient(t *testing.T) {
	f := use(t, options{})
	w, _ := f.joined(t)
	t.Run("answered", func(t *testing.T) {
		w := w.In(t)
		w.Send(`42["ask","question",20000,"now?"]`)
		id := asked(t, w, `,"now?"`)
		w.Send("43" + id + `["yes",{"n":1}]`)
		w.Expect(`42["answer",null,"yes",{"n":1}]`)
	})
	t.Run("answered with nothing", func(t *testing.T) {
		w := w.In(t)
		w.Send(`42["ask","question",20000]`)
		w.Send("43" + asked(t, w, "") + `[]`)
		w.Expect(`42["answer",null]`)
	})
	t.Run("answered with bytes", func(t *testing.T) {
		w := w.In(t)
		w.Send(`42["ask","question",20000]`)
		w.Send("461-" + asked(t, w, "") + `[{"_placeholder":true,"num":0}]`)
		w.SendBinary("x")
		w.Expect(`451-["answer",null,{"_placeholder":true,"num":0}]`)
		w.ExpectBinary("x")
	})
	t.Run("twice: the second is ignored", func(t *testing.T) {
		w := w.In(t)
		w.Send(`42["ask","question",20000]`)
		id := asked(t, w, "")
		w.Send("43"+id+`[1]`, "43"+id+`[2]`)
		w.Expect(`42["answer",null,1]`)
		echo(t, w)
	})
	t.Run("unknown ids are ignored", func(t *testing.T) {
		w := w.In(t)
		w.Send(`43123456[1]`)
		echo(t, w)
	})
	t.Run("out of order", func(t *testing.T) {
		w := w.In(t)
		w.Send(`42["ask","question",20000,1]`, `42["ask","question",20000,2]`)
		// Two handlers that run at once may ask in either order.
		ids := map[string]string{}
		for range 2 {
			m := question.FindStringSubmatch(w.Text())
			if m == nil {
				t.Fatal("not a question with an ack id")
			}
			ids[m[2]] = m[1]
		}
		one, two := ids[`["question",1]`], ids[`["question",2]`]
		if one == two || one == "" || two == "" {
			t.Fatalf("questions: %v", ids)
		}
		w.Send("43" + two + `["two"]`)
		w.Expect(`42["answer",null,"two"]`)
		w.Send("43" + one + `["one"]`)
		w.Expect(`42["answer",null,"one"]`)
	})
	t.Run("not in time, and late", func(t *testing.T) {
		w := w.In(t)
		w.Send(`42["ask","question",50]`)
		id := asked(t, w, "")
		w.Expect(`42["answer","operation has timed out"]`)
		w.Send("43" + id + `[1]`)
		echo(t, w)
	})
	t.Run("of another client is not taken", func(t *testing.T) {
		w := w.In(t)
		w.Send(`42["ask","question",500]`)
		id := asked(t, w, "")
		other, _ := f.joined(t)
		other.Send("43" + id + `["intruder"]`)
		echo(t, other)
		w.Expect(`42["answer","operation has timed out"]`)
	})
	t.Run("the two directions are independent", func(t *testing.T) {
		w := w.In(t)
		w.Send(`42["ask","question",20000]`)
		id := asked(t, w, "")
		w.Send("42" + id + `["ack","mine"]`)
		w.Expect("43" + id + `["mine"]`)
		w.Send("43" + id + `["theirs"]`)
		w.Expect(`42["answer",null,"theirs"]`)
	})
}

// answers is what a broadcast with acks comes to.
type answers struct {
	Error     string
	Responses []json.RawMessage
}

func (a answers) String() string {
	var s []string
	for _, r := range a.Responses {
		s = append(s, string(r))
	}
	slices.Sort(s)
	return a.Error + "[" + strings.Join(s, ",") + "]"
}

// askAll has the server ask a room in the background.
func askAll(t *testing.T, f *fixture, a args) <-chan answers {
	t.Helper()
	a["event"] = "question"
	if a["args"] == nil {
		a["args"] = []any{}
	}
	done := make(chan answers, 1)
	body := args{"op": "emitWithAck"}
	maps.Copy(body, a)
	b := []byte(mustJSON(t, body))
	go func() { // ends with the answer of the control
		var got answers
		if err := json.Unmarshal(f.call(t, "POST", "/do", b), &got); err != nil {
			t.Error(err)
		}
		done <- got
	}()
	return done
}

func TestSocket_2_5_BroadcastAck(t *testing.T) {
	f := use(t, options{})
	three := func(t *testing.T, room string) []*siotest.WS {
		t.Helper()
		var all []*siotest.WS
		for range 3 {
			w, _ := f.joined(t)
			w.Send(`420["join","` + room + `"]`)
			w.Expect("430[]")
			all = append(all, w)
		}
		return all
	}
	t.Run("all answer", func(t *testing.T) {
		ws := three(t, "ack-all")
		done := askAll(t, f, args{"to": []string{"ack-all"}, "timeout": 20000, "args": []any{"x"}})
		for i, w := range ws {
			w.Send("43" + asked(t, w, `,"x"`) + fmt.Sprintf(`["a%d","second values are dropped"]`, i))
		}
		want(t, "answers", (<-done).String(), `["a0","a1","a2"]`)
	})
	t.Run("some do not", func(t *testing.T) {
		ws := three(t, "ack-some")
		done := askAll(t, f, args{"to": []string{"ack-some"}, "timeout": 3000})
		id := asked(t, ws[0], "")
		ws[0].Send("43" + id + `["only"]`)
		want(t, "answers", (<-done).String(), `operation has timed out["only"]`)
		ws[1].Send("43" + asked(t, ws[1], "") + `["late"]`)
		echo(t, ws[1])
	})
	t.Run("nobody is there", func(t *testing.T) {
		done := askAll(t, f, args{"to": []string{"empty-room"}, "timeout": 20000})
		want(t, "answers", (<-done).String(), `[]`)
	})
	t.Run("without a timeout", func(t *testing.T) {
		ws := three(t, "ack-without")
		done := askAll(t, f, args{"to": []string{"ack-without"}})
		if differs(t, "broadcast-ack-without-timeout") {
			for _, w := range ws {
				w.Send("43" + asked(t, w, "") + `[1]`)
			}
			want(t, "answers", (<-done).String(), `[1,1,1]`)
			return
		}
		want(t, "answers", (<-done).String(), `operation has timed out[]`)
	})
}

// trio are three clients in one namespace, with nobody else in it.
func trio(t *testing.T, f *fixture, nsp string) (ws [3]*siotest.WS, ids [3]string) {
	t.Helper()
	for i := range ws {
		ws[i] = f.ws(t)
		ids[i] = ws[i].Connect(nsp, "").SID
	}
	return ws, ids
}

// join joins rooms and waits until that is done.
func join(t *testing.T, w *siotest.WS, nsp string, rooms ...string) {
	t.Helper()
	b := strings.Trim(mustJSON(t, rooms), "[]")
	w.Send(`42` + nsp + `,99["join",` + b + `]`)
	w.Expect(`43` + nsp + `,99[]`)
}

// quiet proves that nothing was sent to the client before now.
func quiet(t *testing.T, w *siotest.WS, nsp string) {
	t.Helper()
	w.Send(`42` + nsp + `,["echo","quiet?"]`)
	w.Expect(`42` + nsp + `,["echo","quiet?"]`)
}

func TestSocket_2_6_Broadcast(t *testing.T) {
	f := use(t, options{})
	t.Run("to everyone", func(t *testing.T) {
		const nsp = "/dynamic-601"
		ws, _ := trio(t, f, nsp)
		f.do(t, "emit", args{"namespace": nsp, "event": "x", "args": []any{1, args{"$binary": "AQID"}}})
		for _, w := range ws {
			w.Expect(`451-` + nsp + `,["x",1,{"_placeholder":true,"num":0}]`)
			w.ExpectBinary("\x01\x02\x03")
		}
	})
	t.Run("to a union of rooms, each once", func(t *testing.T) {
		const nsp = "/dynamic-602"
		ws, _ := trio(t, f, nsp)
		join(t, ws[0], nsp, "r1", "r2")
		join(t, ws[1], nsp, "r2")
		f.do(t, "emit", args{"namespace": nsp, "to": []string{"r1", "r2"}, "event": "x", "args": []any{}})
		ws[0].Expect(`42` + nsp + `,["x"]`)
		ws[1].Expect(`42` + nsp + `,["x"]`)
		for _, w := range ws {
			quiet(t, w, nsp)
		}
	})
	t.Run("minus the rooms excepted", func(t *testing.T) {
		const nsp = "/dynamic-603"
		ws, ids := trio(t, f, nsp)
		join(t, ws[0], nsp, "in", "out")
		join(t, ws[1], nsp, "in")
		f.do(t, "emit", args{"namespace": nsp, "to": []string{"in"}, "except": []string{"out"}, "event": "x", "args": []any{}})
		ws[1].Expect(`42` + nsp + `,["x"]`)
		f.do(t, "emit", args{"namespace": nsp, "except": []string{"in", "nowhere"}, "event": "y", "args": []any{}})
		ws[2].Expect(`42` + nsp + `,["y"]`)
		f.do(t, "emit", args{"namespace": nsp, "except": []string{ids[2]}, "local": true, "event": "z", "args": []any{}})
		ws[0].Expect(`42` + nsp + `,["z"]`)
		ws[1].Expect(`42` + nsp + `,["z"]`)
		for _, w := range ws {
			quiet(t, w, nsp)
		}
	})
	t.Run("the id of a socket is a room", func(t *testing.T) {
		const nsp = "/dynamic-604"
		ws, ids := trio(t, f, nsp)
		f.do(t, "emit", args{"namespace": nsp, "to": []string{ids[1]}, "event": "x", "args": []any{}})
		ws[1].Expect(`42` + nsp + `,["x"]`)
		for _, w := range ws {
			quiet(t, w, nsp)
		}
	})
	t.Run("of a socket, without itself", func(t *testing.T) {
		const nsp = "/dynamic-605"
		ws, _ := trio(t, f, nsp)
		join(t, ws[0], nsp, "r")
		join(t, ws[1], nsp, "r", "muted")
		ws[0].Send(`42` + nsp + `,["others","x",1]`)
		ws[1].Expect(`42` + nsp + `,["x",1]`)
		ws[2].Expect(`42` + nsp + `,["x",1]`)
		ws[0].Send(`42` + nsp + `,["to",["r"],[],"y"]`)
		ws[1].Expect(`42` + nsp + `,["y"]`)
		ws[0].Send(`42` + nsp + `,["to",["r"],["muted"],"z"]`)
		quiet(t, ws[0], nsp)
		quiet(t, ws[1], nsp)
		quiet(t, ws[2], nsp)
	})
	t.Run("a room left", func(t *testing.T) {
		const nsp = "/dynamic-606"
		ws, ids := trio(t, f, nsp)
		join(t, ws[0], nsp, "r")
		ws[0].Send(`42` + nsp + `,1["leave","r"]`)
		ws[0].Expect(`43` + nsp + `,1[]`)
		f.do(t, "emit", args{"namespace": nsp, "to": []string{"r"}, "event": "x", "args": []any{}})
		quiet(t, ws[0], nsp)
		wantSlice(t, "rooms", f.state(t).Namespaces[nsp][ids[0]].Rooms, []string{ids[0]})
	})
	t.Run("rooms end with the socket", func(t *testing.T) {
		const nsp = "/dynamic-607"
		ws, ids := trio(t, f, nsp)
		join(t, ws[0], nsp, "r")
		ws[0].Drop()
		f.wantDisconnect(t, ids[0], "transport close")
		want(t, "members", f.do(t, "fetch", args{"namespace": nsp, "to": []string{"r"}}), "[]")
	})
}

func TestSocket_2_6_Volatile(t *testing.T) {
	f := use(t, options{})
	connect := func(t *testing.T) (*siotest.Client, string) {
		t.Helper()
		c := f.polling(t)
		c.Send("40")
		var got siotest.Connected
		if err := json.Unmarshal([]byte(strings.TrimPrefix(c.Poll()[0], "40")), &got); err != nil {
			t.Fatal(err)
		}
		return c, got.SID
	}
	t.Run("without a poll pending it is dropped", func(t *testing.T) {
		c, id := connect(t)
		f.do(t, "socket", args{"id": id, "volatile": true, "event": "lost", "args": []any{}})
		f.do(t, "emit", args{"to": []string{id}, "volatile": true, "event": "lost", "args": []any{args{"$binary": "AQID"}}})
		f.do(t, "socket", args{"id": id, "event": "kept", "args": []any{}})
		wantSlice(t, "poll", c.Poll(), []string{`42["kept"]`})
	})
	t.Run("with one pending it is sent", func(t *testing.T) {
		c, id := connect(t)
		poll := pollPending(t, f, c)
		f.do(t, "socket", args{"id": id, "volatile": true, "event": "seen", "args": []any{}})
		want(t, "poll", poll.Wait().Body, `42["seen"]`)
	})
	t.Run("attachments stay with their packet", func(t *testing.T) {
		c, id := connect(t)
		poll := pollPending(t, f, c)
		f.do(t, "socket", args{"id": id, "volatile": true, "event": "seen", "args": []any{args{"$binary": "AQID"}}})
		got := poll.Wait().Packets()
		if len(got) < 2 {
			got = append(got, c.Poll()...)
		}
		wantSlice(t, "packets", got, []string{`451-["seen",{"_placeholder":true,"num":0}]`, "bAQID"})
	})
	t.Run("websocket", func(t *testing.T) {
		w, c := f.joined(t)
		want(t, "event", volatileTo(t, f, w, c.SID, "seen"), `42["seen"]`)
	})
}

// volatileTo has the server emit a volatile event until the client was ready for it, which it is not while
// the write before it has not been noticed to have ended, and returns what arrived.
func volatileTo(t *testing.T, f *fixture, w *siotest.WS, room, event string, values ...any) string {
	t.Helper()
	if values == nil {
		values = []any{}
	}
	for deadline := time.Now().Add(siotest.Patience); time.Now().Before(deadline); {
		f.do(t, "emit", args{"to": []string{room}, "volatile": true, "event": event, "args": values})
		w.Send(`42999["ack"]`)
		if got := w.Text(); got != "43999[]" {
			w.Expect("43999[]")
			return got
		}
	}
	t.Fatal("every volatile event was dropped")
	return ""
}

func TestSocket_2_7_UtilityMethods(t *testing.T) {
	f := use(t, options{})
	const nsp = "/dynamic-701"
	ws, ids := trio(t, f, nsp)
	members := func(to ...string) []string {
		t.Helper()
		if to == nil {
			to = []string{}
		}
		var got []struct {
			ID    string
			Rooms []string
		}
		if err := json.Unmarshal([]byte(f.do(t, "fetch", args{"namespace": nsp, "to": to})), &got); err != nil {
			t.Fatal(err)
		}
		var m []string
		for _, s := range got {
			m = append(m, s.ID)
			if !slices.Contains(s.Rooms, s.ID) {
				t.Errorf("%s is not in its own room: %q", s.ID, s.Rooms)
			}
		}
		slices.Sort(m)
		return m
	}
	sorted := func(ids ...string) []string { return slices.Sorted(slices.Values(ids)) }
	wantSlice(t, "all", members(), sorted(ids[:]...))
	f.do(t, "join", args{"namespace": nsp, "to": []string{ids[0], ids[1]}, "rooms": []string{"r", "s"}})
	wantSlice(t, "joined", members("r"), sorted(ids[0], ids[1]))
	f.do(t, "leave", args{"namespace": nsp, "to": []string{ids[0]}, "rooms": []string{"r"}})
	wantSlice(t, "one left", members("r"), sorted(ids[1]))
	wantSlice(t, "other room", members("s"), sorted(ids[0], ids[1]))
	f.do(t, "disconnect", args{"namespace": nsp, "to": []string{"r"}, "close": false})
	ws[1].Expect("41" + nsp + ",")
	f.wantDisconnect(t, ids[1], "server namespace disconnect")
	ws[1].Connect("/", "")
	echo(t, ws[1]) // the connection was kept
	f.do(t, "disconnect", args{"namespace": nsp, "to": []string{"s"}, "close": true})
	ws[0].Expect("41" + nsp + ",")
	ws[0].ExpectClose()
	wantSlice(t, "rest", members(), sorted(ids[2]))
	quiet(t, ws[2], nsp)
}
