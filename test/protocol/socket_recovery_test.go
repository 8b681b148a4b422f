package protocol_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed-0b620db0/patchbay/internal/siotest"
)

// recovering has connection state recovery on, with middlewares skipped as the official default is.
var recovering = options{Recovery: &recovery{MaxDisconnectionDuration: 120000, SkipMiddlewares: new(true)}}

// offsetOf reads one text frame, which must be an event with the given values and an offset behind
// them, and returns the offset.
func offsetOf(t *testing.T, w *siotest.WS, values string) string {
	t.Helper()
	return offsetIn(t, w.Text(), values)
}

func offsetIn(t *testing.T, got, values string) string {
	t.Helper()
	m := regexp.MustCompile(`^42\[` + regexp.QuoteMeta(values) + `,"([^"]+)"\]$`).FindStringSubmatch(got)
	if m == nil {
		t.Fatalf("got %s, want [%s] and an offset", got, values)
	}
	return m[1]
}

// emitTo has the server emit to one room, of which the socket's id is one.
func emitTo(t *testing.T, f *fixture, room, event string, values ...any) {
	t.Helper()
	if values == nil {
		values = []any{}
	}
	f.do(t, "emit", args{"to": []string{room}, "event": event, "args": values})
}

// lose drops the connection and waits until the server has noticed.
func lose(t *testing.T, f *fixture, w *siotest.WS, id string) {
	t.Helper()
	w.Drop()
	f.wantDisconnect(t, id, "transport close")
}

// seen joins, and gets an event with this offset.
func (f *fixture) seen(t *testing.T) (w *siotest.WS, c siotest.Connected, offset string) {
	t.Helper()
	w, c = f.joined(t)
	emitTo(t, f, c.SID, "seen")
	return w, c, offsetOf(t, w, `"seen"`)
}

// lost is seen by a client that loses its connection then.
func (f *fixture) lost(t *testing.T) (c siotest.Connected, offset string) {
	t.Helper()
	w, c, offset := f.seen(t)
	lose(t, f, w, c.SID)
	return c, offset
}

// resume is the connection of a client that asks for its session; what it is answered is still to be read.
func (f *fixture) resume(t *testing.T, c siotest.Connected, offset string) *siotest.WS {
	t.Helper()
	w := f.ws(t)
	w.Send(resume(c, offset))
	return w
}

func resume(c siotest.Connected, offset string) string {
	return fmt.Sprintf(`40{"pid":%q,"offset":%q}`, c.PID, offset)
}

func TestSocket_2_9_Offsets(t *testing.T) {
	f := use(t, recovering)
	w, c := f.joined(t)
	t.Run("events carry one, and they differ", func(t *testing.T) {
		w := w.In(t)
		w.Send(`42["echo","a"]`, `42["echo"]`)
		one, two := offsetOf(t, w, `"echo","a"`), offsetOf(t, w, `"echo"`)
		want(t, "distinct", one != two, true)
		emitTo(t, f, c.SID, "x", 1)
		offsetOf(t, w, `"x",1`)
	})
	t.Run("binary events too", func(t *testing.T) {
		w := w.In(t)
		emitTo(t, f, c.SID, "x", args{"$binary": "AQID"}, "z")
		got := w.Text()
		want(t, got, regexp.MustCompile(`^451-\["x",\{"_placeholder":true,"num":0\},"z","[^"]+"\]$`).MatchString(got), true)
		w.ExpectBinary("\x01\x02\x03")
	})
	t.Run("acks do not", func(t *testing.T) {
		w := w.In(t)
		w.Send(`421["ack","x"]`)
		w.Expect(`431["x"]`)
	})
	t.Run("events that want an ack do not", func(t *testing.T) {
		w := w.In(t)
		w.Send(`42["ask","question",20000,1]`)
		w.Send("43" + asked(t, w, ",1") + `[2]`)
		offsetOf(t, w, `"answer",null,2`)
	})
	t.Run("volatile events", func(t *testing.T) {
		w := w.In(t)
		got := volatileTo(t, f, w, c.SID, "v", 1)
		if differs(t, "recovery-after-volatile") {
			offsetIn(t, got, `"v",1`)
			return
		}
		want(t, "event", got, `42["v",1]`)
	})
	t.Run("none without the option", func(t *testing.T) {
		w, _ := use(t, options{}).joined(t)
		echo(t, w)
	})
}

func TestSocket_2_9_Recovery(t *testing.T) {
	f := fresh(t, recovering) // it emits to all but a room
	w, c := f.joined(t)
	w.Send(`420["join","r-recovery"]`, `421["set",{"name":"x"}]`)
	w.Expect("430[]", "431[]")
	emitTo(t, f, c.SID, "seen", 1)
	offset := offsetOf(t, w, `"seen",1`)
	lose(t, f, w, c.SID)
	emitTo(t, f, c.SID, "missed", 1)
	emitTo(t, f, "r-recovery", "missed", 2, args{"$binary": "AQID"})
	emitTo(t, f, "another room", "not mine")
	f.do(t, "emit", args{"except": []string{"r-recovery"}, "event": "not mine", "args": []any{}})
	f.do(t, "emit", args{"to": []string{c.SID}, "volatile": true, "event": "volatile", "args": []any{}})
	f.do(t, "emit", args{"to": []string{"nowhere", "r-recovery"}, "except": []string{"nowhere"}, "event": "missed", "args": []any{3}})

	w = f.resume(t, c, offset)
	offsetOf(t, w, `"missed",1`)
	got := w.Text()
	want(t, got, regexp.MustCompile(`^451-\["missed",2,\{"_placeholder":true,"num":0\},"[^"]+"\]$`).MatchString(got), true)
	w.ExpectBinary("\x01\x02\x03")
	offsetOf(t, w, `"missed",3`)
	again := w.Connected("/")
	want(t, "ids", again, c)
	s := f.state(t).Namespaces["/"][c.SID]
	want(t, "recovered", s.Recovered, true)
	want(t, "session", s.Session, w.SID)
	want(t, "data", string(s.Data), `{"name":"x"}`)
	want(t, "in the room", slices.Contains(s.Rooms, "r-recovery"), true)
	emitTo(t, f, "r-recovery", "live")
	offsetOf(t, w, `"live"`)
}

func TestSocket_2_9_NothingMissed(t *testing.T) {
	f := use(t, recovering)
	c, offset := f.lost(t)
	w := f.resume(t, c, offset)
	want(t, "ids", w.Connected("/"), c)
}

func TestSocket_2_9_RecoveryOfANamespace(t *testing.T) {
	f := use(t, recovering)
	w := f.ws(t)
	c := w.Connect("/a", "")
	w.Send(`42/a,["echo"]`)
	var seen []string
	if err := json.Unmarshal([]byte(strings.TrimPrefix(w.Text(), "42/a,")), &seen); err != nil {
		t.Fatal(err)
	}
	lose(t, f, w, c.SID)
	f.do(t, "emit", args{"namespace": "/a", "to": []string{c.SID}, "event": "missed", "args": []any{}})
	w = f.ws(t)
	w.Send("40/a," + resume(c, seen[1])[2:])
	want(t, "missed", strings.HasPrefix(w.Text(), `42/a,["missed","`), true)
	want(t, "ids", w.Connected("/a"), c)
}

func TestSocket_2_9_Failure(t *testing.T) {
	f := use(t, recovering)
	prepare := func(t *testing.T) (siotest.Connected, string) {
		t.Helper()
		c, offset := f.lost(t)
		emitTo(t, f, c.SID, "missed")
		return c, offset
	}
	for name, connect := range map[string]func(c siotest.Connected, offset string) string{
		"unknown private id": func(_ siotest.Connected, offset string) string {
			return resume(siotest.Connected{PID: "nobody"}, offset)
		},
		"unknown offset":   func(c siotest.Connected, _ string) string { return resume(c, "nothing") },
		"pid is no string": func(_ siotest.Connected, offset string) string { return `40{"pid":1,"offset":"` + offset + `"}` },
		"socket id instead of the private one": func(c siotest.Connected, offset string) string {
			return resume(siotest.Connected{PID: c.SID}, offset)
		},
	} {
		t.Run(name, func(t *testing.T) {
			c, offset := prepare(t)
			w := f.ws(t)
			w.Send(connect(c, offset))
			fresh := w.Connected("/")
			want(t, "new socket id", fresh.SID != c.SID, true)
			want(t, "new private id", fresh.PID != c.PID, true)
			s := f.state(t)
			want(t, "recovered", s.Namespaces["/"][fresh.SID].Recovered, false)
			want(t, "middlewares run", slices.ContainsFunc(s.Middleware, func(m step) bool { return m.ID == fresh.SID }), true)
		})
	}
	t.Run("no offset", func(t *testing.T) {
		w, c := f.joined(t)
		lose(t, f, w, c.SID)
		emitTo(t, f, c.SID, "missed")
		w = f.ws(t)
		w.Send(fmt.Sprintf(`40{"pid":%q}`, c.PID))
		if differs(t, "recovery-without-offset") {
			offsetOf(t, w, `"missed"`)
			want(t, "ids", w.Connected("/"), c)
			return
		}
		want(t, "new socket id", w.Connected("/").SID != c.SID, true)
	})
	t.Run("the session is not lost yet", func(t *testing.T) {
		w, c, offset := f.seen(t)
		other := f.resume(t, c, offset)
		if differs(t, "recovery-before-the-loss-is-noticed") {
			want(t, "ids", other.Connected("/"), c)
			w.ExpectClose()
			return
		}
		want(t, "new socket id", other.Connected("/").SID != c.SID, true)
		w.Send(`42["echo"]`)
		offsetOf(t, w, `"echo"`)
	})
}

func TestSocket_2_9_TooLate(t *testing.T) {
	f := use(t, options{Recovery: &recovery{MaxDisconnectionDuration: 100, SkipMiddlewares: new(true)}})
	c, offset := f.lost(t)
	time.Sleep(300 * time.Millisecond) // the time that is too long
	w := f.resume(t, c, offset)
	want(t, "new socket id", w.Connected("/").SID != c.SID, true)
}

func TestSocket_2_9_ReasonsThatAreSaved(t *testing.T) {
	f := use(t, recovering)
	for name, tc := range map[string]struct {
		end    func(t *testing.T, w *siotest.WS, id string)
		reason string
		saved  bool
	}{
		"close frame":       {func(_ *testing.T, w *siotest.WS, _ string) { w.Close() }, "transport close", true},
		"invalid packet":    {func(_ *testing.T, w *siotest.WS, _ string) { w.Send("42{}") }, "forced close", true},
		"invalid state":     {func(_ *testing.T, w *siotest.WS, _ string) { w.Send(`42/a,["x"]`) }, "forced close", true},
		"invalid UTF-8":     {func(_ *testing.T, w *siotest.WS, _ string) { w.Send("4\xff") }, "transport error", true},
		"wrong heartbeat":   {func(_ *testing.T, w *siotest.WS, _ string) { w.Send("2") }, "transport error", true},
		"parse error":       {func(_ *testing.T, w *siotest.WS, _ string) { w.Send("9") }, "parse error", false},
		"client disconnect": {func(_ *testing.T, w *siotest.WS, _ string) { w.Send("41") }, "client namespace disconnect", false},
		"server disconnect": {func(_ *testing.T, w *siotest.WS, _ string) { w.Send(`42["disconnect-me",false]`) }, "server namespace disconnect", false},
		"server closes":     {func(_ *testing.T, w *siotest.WS, _ string) { w.Send(`42["disconnect-me",true]`) }, "server namespace disconnect", false},
	} {
		t.Run(name, func(t *testing.T) {
			w, c, offset := f.seen(t)
			tc.end(t, w, c.SID)
			f.wantDisconnect(t, c.SID, tc.reason)
			w = f.resume(t, c, offset)
			want(t, "recovered", w.Connected("/") == c, tc.saved)
		})
	}
	t.Run("ping timeout", func(t *testing.T) {
		f := use(t, options{Recovery: recovering.Recovery, PingInterval: 3000, PingTimeout: 300})
		_, c, offset := f.seen(t)
		f.wantDisconnect(t, c.SID, "ping timeout")
		w := f.resume(t, c, offset)
		want(t, "ids", w.Connected("/"), c)
	})
	t.Run("lost poll", func(t *testing.T) {
		p := f.polling(t)
		p.Send("40")
		var c siotest.Connected
		if err := json.Unmarshal([]byte(p.Poll()[0][2:]), &c); err != nil {
			t.Fatal(err)
		}
		emitTo(t, f, c.SID, "seen")
		var seen []string
		if err := json.Unmarshal([]byte(p.Poll()[0][2:]), &seen); err != nil {
			t.Fatal(err)
		}
		pollPending(t, f, p).Abort()
		f.wantDisconnect(t, c.SID, "transport error")
		p = f.polling(t)
		p.Send(resume(c, seen[1]))
		r := p.Do(http.MethodGet, p.URL("polling"), nil, nil)
		want(t, "reply", r.Body, fmt.Sprintf(`40{"sid":%q,"pid":%q}`, c.SID, c.PID))
	})
}

func TestSocket_2_9_RestoredTwice(t *testing.T) {
	f := use(t, recovering)
	c, offset := f.lost(t)
	w := f.resume(t, c, offset)
	want(t, "first", w.Connected("/"), c)
	other := f.resume(t, c, offset)
	second := other.Connected("/")
	if differs(t, "session-restored-once") {
		// It is the same session, which has moved: the connection that had it is closed.
		w.ExpectClose()
	}
	want(t, "second", second, c)
}

func TestSocket_2_9_RecoveredAgain(t *testing.T) {
	f := use(t, recovering)
	w, c, offset := f.seen(t)
	for i := range 3 {
		lose(t, f, w, c.SID)
		// The log of disconnects has one for each round.
		f.await(t, "disconnected", func(s state) bool {
			n := 0
			for _, d := range s.Disconnects {
				if d.ID == c.SID {
					n++
				}
			}
			return n == i+1 && len(s.Namespaces["/"][c.SID].Session) == 0
		})
		emitTo(t, f, c.SID, "missed", i)
		w = f.resume(t, c, offset)
		offset = offsetOf(t, w, fmt.Sprintf(`"missed",%d`, i))
		want(t, "ids", w.Connected("/"), c)
	}
}

func TestSocket_2_9_SkipMiddlewares(t *testing.T) {
	steps := func(t *testing.T, o options) int {
		t.Helper()
		f := use(t, o)
		c, offset := f.lost(t)
		w := f.resume(t, c, offset)
		want(t, "ids", w.Connected("/"), c)
		n := 0
		for _, m := range f.state(t).Middleware {
			if m.ID == c.SID {
				n++
			}
		}
		return n // two for each time
	}
	t.Run("true", func(t *testing.T) { want(t, "steps", steps(t, recovering), 2) })
	t.Run("false", func(t *testing.T) {
		want(t, "steps", steps(t, options{Recovery: &recovery{MaxDisconnectionDuration: 120000, SkipMiddlewares: new(false)}}), 4)
	})
	t.Run("default", func(t *testing.T) {
		n := 2
		if differs(t, "recovery-middlewares-run") {
			n = 4
		}
		want(t, "steps", steps(t, options{Recovery: &recovery{MaxDisconnectionDuration: 120000}}), n)
	})
	t.Run("a middleware may refuse a restored session", func(t *testing.T) {
		f := use(t, options{Recovery: &recovery{MaxDisconnectionDuration: 120000, SkipMiddlewares: new(false)}})
		c, offset := f.lost(t)
		w := f.ws(t)
		w.Send(strings.Replace(resume(c, offset), "{", `{"refuse":"plain",`, 1))
		w.Expect(`44{"message":"not authorized"}`)
		if _, there := f.state(t).Namespaces["/"][c.SID]; there {
			t.Error("refused and connected")
		}
	})
}

// The client takes the last argument of any event for its offset, if it is a string.
func TestSocket_2_9_VolatileEventAsOffset(t *testing.T) {
	f := use(t, recovering)
	w, c, _ := f.seen(t)
	got := volatileTo(t, f, w, c.SID, "v")
	var last []string
	if err := json.Unmarshal([]byte(strings.TrimPrefix(got, "42")), &last); err != nil {
		t.Fatal(err)
	}
	offset := last[len(last)-1]
	lose(t, f, w, c.SID)
	emitTo(t, f, c.SID, "missed")
	w = f.resume(t, c, offset)
	if differs(t, "recovery-after-volatile") {
		offsetOf(t, w, `"missed"`)
		want(t, "ids", w.Connected("/"), c)
		return
	}
	want(t, "new socket id", w.Connected("/").SID != c.SID, true)
}

func TestSocket_2_10_ClientFiles(t *testing.T) {
	f := use(t, options{})
	c := f.client(t)
	get := func(file string, h http.Header) siotest.Response {
		return c.Do(http.MethodGet, f.URL+"/socket.io/"+file, h, nil)
	}
	if differs(t, "client-files") {
		wantRefused(t, get("socket.io.js", nil), 400, unknownTransport)
		return
	}
	r := get("socket.io.min.js", nil)
	want(t, "status", r.Status, http.StatusOK)
	want(t, "Content-Type", r.Header.Get("Content-Type"), "application/javascript; charset=utf-8")
	want(t, "Cache-Control", r.Header.Get("Cache-Control"), "public, max-age=0")
	tag := r.Header.Get("ETag")
	for _, match := range []string{tag, "W/" + tag} {
		want(t, match, get("socket.io.min.js", http.Header{"If-None-Match": {match}}).Status, http.StatusNotModified)
	}
	r = get("socket.io.js.map", nil)
	want(t, "Content-Type", r.Header.Get("Content-Type"), "application/json; charset=utf-8")
}
