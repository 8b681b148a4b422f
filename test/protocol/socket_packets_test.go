package protocol_test

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	"github.com/seed-0b620db0/patchbay/internal/siotest"
)

// echo proves that the connection is open and the main namespace joined.
func echo(t *testing.T, w *siotest.WS) {
	t.Helper()
	w.Send(`42["echo","alive?"]`)
	w.Expect(`42["echo","alive?"]`)
}

func TestSocket_2_1_Events(t *testing.T) {
	f := use(t, options{})
	w, _ := f.joined(t)
	for _, tc := range []struct{ name, send, want string }{
		{"values", `42["echo",1,"2",{"3":[false,null]}]`, `42["echo",1,"2",{"3":[false,null]}]`},
		{"no values", `42["echo"]`, `42["echo"]`},
		{"spaces are compacted", `42[ "echo" , {"a" : 1} ]`, `42["echo",{"a":1}]`},
		{"escapes", `42["echo","\u20ac\u00e4\n\"\\\/<>&"]`, `42["echo","€ä\n\"\\/<>&"]`},
		{"key order", `42["echo",{"z":1,"a":2,"m":3}]`, `42["echo",{"z":1,"a":2,"m":3}]`},
		{"the namespace may be written out", `42/,["echo",1]`, `42["echo",1]`},
		{"a placeholder of a text event is an object", `42["echo",{"_placeholder":true,"num":0}]`, `42["echo",{"_placeholder":true,"num":0}]`},
		{"send", `42["message","x"]`, `42["message","x"]`},
		{"number", `42["echo",1.5,-0.25,1e3]`, `42["echo",1.5,-0.25,1000]`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w.Send(tc.send)
			if tc.name == "number" {
				// The notation of a number is the encoder's own affair, its value is not.
				var got []any
				if err := json.Unmarshal([]byte(strings.TrimPrefix(w.Text(), "42")), &got); err != nil {
					t.Fatal(err)
				}
				want(t, "numbers", mustJSON(t, got), `["echo",1.5,-0.25,1000]`)
				return
			}
			if tc.name == "escapes" && differs(t, "raw-json") {
				got := w.Text()
				var packet, echo any
				if json.Unmarshal([]byte(got[2:]), &packet) != nil || json.Unmarshal([]byte(tc.want[2:]), &echo) != nil {
					t.Fatalf("got %s", got)
				}
				want(t, "value", mustJSON(t, packet), mustJSON(t, echo))
				return
			}
			w.Expect(tc.want)
		})
	}
}

func TestSocket_2_1_BinaryEvents(t *testing.T) {
	f := use(t, options{})
	t.Run("websocket", func(t *testing.T) {
		w, _ := f.joined(t)
		w.Send(`452-["echo",{"a":{"_placeholder":true,"num":0}},[{"_placeholder":true,"num":1}]]`)
		w.SendBinary("\x01\x02")
		w.SendBinary("\x03")
		w.Expect(`452-["echo",{"a":{"_placeholder":true,"num":0}},[{"_placeholder":true,"num":1}]]`)
		w.ExpectBinary("\x01\x02")
		w.ExpectBinary("\x03")
	})
	t.Run("polling", func(t *testing.T) {
		c := f.polling(t)
		c.Send("40")
		c.Poll()
		c.Send(`451-["echo",{"_placeholder":true,"num":0}]`, "bAQID")
		wantSlice(t, "echo", c.PollN(2), []string{`451-["echo",{"_placeholder":true,"num":0}]`, "bAQID"})
	})
	t.Run("other namespace and ack id", func(t *testing.T) {
		w := f.ws(t)
		w.Connect("/a", "")
		w.Send(`451-/a,7["ack",{"_placeholder":true,"num":0}]`)
		w.SendBinary("x")
		w.Expect(`461-/a,7[{"_placeholder":true,"num":0}]`)
		w.ExpectBinary("x")
	})
	t.Run("numbered depth first, in the order of the values", func(t *testing.T) {
		w, _ := f.joined(t)
		w.Send(`42["bytes"]`)
		w.Expect(`454-["bytes",{"first":{"_placeholder":true,"num":0},"list":[{"_placeholder":true,"num":1},{"last":{"_placeholder":true,"num":2}}]},{"_placeholder":true,"num":3}]`)
		for _, b := range []string{"\x01", "\x02", "\x03", "\x04"} {
			w.ExpectBinary(b)
		}
	})
	t.Run("ten attachments are allowed", func(t *testing.T) {
		w, _ := f.joined(t)
		w.Send(`4510-["echo",{"_placeholder":true,"num":9}]`)
		for i := range 10 {
			w.SendBinary(string(rune('a' + i)))
		}
		// Attachments that nothing refers to are dropped.
		w.Expect(`451-["echo",{"_placeholder":true,"num":0}]`)
		w.ExpectBinary("j")
	})
	t.Run("an attachment used twice", func(t *testing.T) {
		w, _ := f.joined(t)
		w.Send(`451-["echo",{"_placeholder":true,"num":0},{"_placeholder":true,"num":0}]`)
		w.SendBinary("x")
		if differs(t, "shared-attachments") {
			w.Expect(`451-["echo",{"_placeholder":true,"num":0},{"_placeholder":true,"num":0}]`)
			w.ExpectBinary("x")
			return
		}
		w.Expect(`452-["echo",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]`)
		w.ExpectBinary("x")
		w.ExpectBinary("x")
	})
	t.Run("an empty attachment", func(t *testing.T) {
		w, _ := f.joined(t)
		w.Send(`451-["echo",{"_placeholder":true,"num":0}]`)
		w.SendBinary("")
		w.Expect(`451-["echo",{"_placeholder":true,"num":0}]`)
		w.ExpectBinary("")
	})
	t.Run("engine packets may come in between", func(t *testing.T) {
		w, _ := f.joined(t)
		w.Send(`452-["echo",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]`)
		w.SendBinary("x")
		w.Send("3")
		w.SendBinary("y")
		w.Expect(`452-["echo",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]`)
		w.ExpectBinary("x")
		w.ExpectBinary("y")
	})
	t.Run("attachments over the upgrade", func(t *testing.T) {
		c := f.polling(t)
		c.Send("40")
		c.Poll()
		c.Send(`451-["echo",{"_placeholder":true,"num":0}]`)
		w, _ := c.Upgrade()
		w.SendBinary("x")
		w.Expect(`451-["echo",{"_placeholder":true,"num":0}]`)
		w.ExpectBinary("x")
	})
}

func TestSocket_2_1_AcceptedOddities(t *testing.T) {
	f := use(t, options{})
	for _, p := range []string{"42", "431", "43", `43999["nobody waits"]`, `42[7,"numeric"]`, `42["nobody listens"]`, `42[""]`, "42/"} {
		t.Run(p, func(t *testing.T) {
			w, _ := f.joined(t)
			w.Send(p)
			echo(t, w)
		})
	}
	t.Run("a numeric event name reaches the application", func(t *testing.T) {
		w, c := f.joined(t)
		w.Send(`42[7,"x"]`)
		echo(t, w)
		wantSlice(t, "events", f.state(t).Namespaces["/"][c.SID].Events, []string{"7", "echo"})
	})
	t.Run("leading zeros of an ack id", func(t *testing.T) {
		w, _ := f.joined(t)
		w.Send(`42007["ack","x"]`)
		w.Expect(`437["x"]`)
	})
	t.Run("a space in an ack id", func(t *testing.T) {
		w, c := f.joined(t)
		w.Send(`421 2["ack","x"]`)
		if differs(t, "ack-id-with-space") {
			w.ExpectClose()
			f.wantDisconnect(t, c.SID, "forced close")
			return
		}
		want(t, "an ack", strings.HasPrefix(w.Text(), "43"), true)
	})
	t.Run("an ack id of a CONNECT has no meaning", func(t *testing.T) {
		w := f.ws(t)
		w.Send("401")
		w.Connected("/")
	})
	t.Run("a large ack id", func(t *testing.T) {
		w, _ := f.joined(t)
		w.Send(`429007199254740991["ack"]`)
		w.Expect(`439007199254740991[]`)
	})
}

func TestSocket_2_1_InvalidPackets(t *testing.T) {
	f := use(t, options{})
	invalid := map[string]string{
		"no data": "4", "unknown type": "49", "letter": "4abc", "space": "4 2",
		"empty array": "42[]", "object": "42{}", "string": `42"echo"`, "null": "42null", "number": "421234.5",
		"bad JSON": `42["echo"`, "trailing": `42["echo"]x`, "object as name": "42[{}]", "null as name": "42[null]", "boolean as name": "42[true]",
		"array as name":    `42[["echo"]]`,
		"reserved connect": `42["connect"]`, "reserved connect_error": `42["connect_error"]`, "reserved disconnect": `42["disconnect"]`,
		"reserved disconnecting": `42["disconnecting"]`, "reserved newListener": `42["newListener"]`, "reserved removeListener": `42["removeListener"]`,
		"ack that is no array": `431{"a":1}`, "ack with a string": `431"x"`,
		"disconnect with a payload": `41{}`, "disconnect with an array": `41["x"]`,
		"no attachment": `450-["echo"]`, "11 attachments": `4511-["echo"]`, "no dash": `451["echo"]`, "no number": `45-["echo"]`,
		"number with a letter": `45x-["echo"]`, "negative": `45-1-["echo"]`, "fraction": `451.5-["echo"]`, "number only": "455", "huge": `4599999999999999999999-["echo"]`,
		"connect twice": "40", "connect twice with auth": `40{"a":1}`, "connect_error": `44{"message":"x"}`, "connect_error with a string": `44"x"`,
		"binary reserved": `451-["connect",{"_placeholder":true,"num":0}]`,
	}
	for name, p := range invalid {
		t.Run(name, func(t *testing.T) {
			w, c := f.joined(t)
			w.Send(p)
			w.ExpectClose()
			f.wantDisconnect(t, c.SID, "forced close")
			f.wantClosed(t, w.SID, "forced close")
		})
	}
	for _, p := range []string{`40[]`, `40"x"`, `40null`, `40{"a"`, `40true`} {
		t.Run("connect with "+p[2:], func(t *testing.T) {
			w := f.ws(t)
			w.Send(p)
			w.ExpectClose()
			f.wantClosed(t, w.SID, "forced close")
		})
	}
}

func TestSocket_2_1_InvalidAttachments(t *testing.T) {
	f := use(t, options{})
	const header = `451-["echo",{"_placeholder":true,"num":0}]`
	for name, play := range map[string]func(w *siotest.WS){
		"text while one is awaited":     func(w *siotest.WS) { w.Send(header, `42["echo"]`) },
		"a header while one is awaited": func(w *siotest.WS) { w.Send(header, header) },
		"an ack while one is awaited":   func(w *siotest.WS) { w.Send(header, `431[]`) },
		"binary when none is awaited":   func(w *siotest.WS) { w.SendBinary("x") },
		"one too many": func(w *siotest.WS) {
			w.Send(`451-["nobody",{"_placeholder":true,"num":0}]`)
			w.SendBinary("x")
			w.SendBinary("y")
		},
		"number out of range": func(w *siotest.WS) { w.Send(`451-["echo",{"_placeholder":true,"num":1}]`); w.SendBinary("x") },
		"negative number":     func(w *siotest.WS) { w.Send(`451-["echo",{"_placeholder":true,"num":-1}]`); w.SendBinary("x") },
		"number missing":      func(w *siotest.WS) { w.Send(`451-["echo",{"_placeholder":true}]`); w.SendBinary("x") },
		"number as a string":  func(w *siotest.WS) { w.Send(`451-["echo",{"_placeholder":true,"num":"0"}]`); w.SendBinary("x") },
		"number as a name":    func(w *siotest.WS) { w.Send(`451-["echo",{"_placeholder":true,"num":"length"}]`); w.SendBinary("x") },
	} {
		t.Run(name, func(t *testing.T) {
			w, c := f.joined(t)
			play(w)
			w.ExpectClose()
			f.wantDisconnect(t, c.SID, "forced close")
		})
	}
	t.Run("the placeholder's own key must be true", func(t *testing.T) {
		w, _ := f.joined(t)
		w.Send(`451-["echo",{"_placeholder":false,"num":5},{"_placeholder":true,"num":0,"other":1}]`)
		w.SendBinary("x")
		w.Expect(`451-["echo",{"_placeholder":false,"num":5},{"_placeholder":true,"num":0}]`)
		w.ExpectBinary("x")
	})
}

func TestSocket_2_1_ValuesThatJSONLacks(t *testing.T) {
	f := use(t, options{})
	w, _ := f.joined(t)
	w.Send(`42["values"]`)
	got := w.Text()
	if targetName() == "official" {
		want(t, "values", got, `42["values",null,null,{"b":null},null,0,1e+21,"<>&`+"\u2028"+`"]`)
		return
	}
	// What is left of it in Go: nothing is escaped for HTML.
	want(t, "unescaped", strings.Contains(got, `"<>&`+"\u2028"+`"`), true)
}

func TestSocket_2_1_NamespaceNames(t *testing.T) {
	f := use(t, options{})
	t.Run("the comma may be missing at the end", func(t *testing.T) {
		w := f.ws(t)
		w.Send("40/a")
		w.Connected("/a")
	})
	t.Run("a query string belongs to the name", func(t *testing.T) {
		w := f.ws(t)
		w.Send("40/?a=b,")
		w.Expect(`44/?a=b,{"message":"Invalid namespace"}`)
		w.Send("40/a?token=x,")
		w.Expect(`44/a?token=x,{"message":"Invalid namespace"}`)
	})
	t.Run("it is not URL decoded", func(t *testing.T) {
		w := f.ws(t)
		w.Send("40/%61,")
		w.Expect(`44/%61,{"message":"Invalid namespace"}`)
	})
	t.Run("case matters", func(t *testing.T) {
		w := f.ws(t)
		w.Send("40/A,")
		w.Expect(`44/A,{"message":"Invalid namespace"}`)
	})
	t.Run("names of the prototype", func(t *testing.T) {
		w := f.ws(t)
		w.Send("40/__proto__,", "40/constructor,")
		w.ExpectInAnyOrder(`44/__proto__,{"message":"Invalid namespace"}`, `44/constructor,{"message":"Invalid namespace"}`)
		w.Connect("/", "")
		echo(t, w)
	})
}

var connectReply = regexp.MustCompile(`^40\{"sid":"[A-Za-z0-9_-]{20}"\}$`)

func TestSocket_2_2_ConnectReply(t *testing.T) {
	t.Run("websocket", func(t *testing.T) {
		w := use(t, options{}).ws(t)
		w.Send("40")
		if got := w.Text(); !connectReply.MatchString(got) {
			t.Errorf("got %s", got)
		}
	})
	t.Run("polling", func(t *testing.T) {
		c := use(t, options{}).polling(t)
		c.Send("40")
		if got := c.Poll(); len(got) != 1 || !connectReply.MatchString(got[0]) {
			t.Errorf("got %q", got)
		}
	})
	t.Run("with recovery there is a private id", func(t *testing.T) {
		w := use(t, recovering).ws(t)
		w.Send("40")
		if got := w.Text(); !regexp.MustCompile(`^40\{"sid":"[A-Za-z0-9_-]{20}","pid":"[A-Za-z0-9_-]{20}"\}$`).MatchString(got) {
			t.Errorf("got %s", got)
		}
	})
}
