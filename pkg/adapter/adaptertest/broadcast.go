package adaptertest

import (
	"encoding/json"
	"fmt"
	"math/big"
	"reflect"
	"slices"
	"strings"
	"sync"

	"github.com/seed-0b620db0/patchbay/pkg/adapter/internal/lab"
	"github.com/seed-0b620db0/patchbay/pkg/sio"
)

func broadcastTargets(s *suite) {
	a := s.client(s.nodes[0], "/", "a")
	ab := s.client(s.nodes[1], "/", "a", "b")
	b := s.client(s.nodes[2], "/", "b")
	none := s.client(s.nodes[0], "/")
	s.reachable(ab, "/", ab.ID)
	for name, c := range map[string]struct {
		target func(sio.Broadcast) sio.Broadcast
		want   []*lab.Client
	}{
		"all":              {func(all sio.Broadcast) sio.Broadcast { return all }, []*lab.Client{a, ab, b, none}},
		"room":             {func(all sio.Broadcast) sio.Broadcast { return all.To("a") }, []*lab.Client{a, ab}},
		"rooms":            {func(all sio.Broadcast) sio.Broadcast { return all.To("a", "b", "c") }, []*lab.Client{a, ab, b}},
		"empty room":       {func(all sio.Broadcast) sio.Broadcast { return all.To("empty") }, nil},
		"except":           {func(all sio.Broadcast) sio.Broadcast { return all.Except("a") }, []*lab.Client{b, none}},
		"except several":   {func(all sio.Broadcast) sio.Broadcast { return all.Except("a", "b") }, []*lab.Client{none}},
		"room but room":    {func(all sio.Broadcast) sio.Broadcast { return all.To("a").Except("b") }, []*lab.Client{a}},
		"rooms but socket": {func(all sio.Broadcast) sio.Broadcast { return all.To("a", "b").Except(ab.ID) }, []*lab.Client{a, b}},
		"socket":           {func(all sio.Broadcast) sio.Broadcast { return all.To(ab.ID) }, []*lab.Client{ab}},
		"sockets":          {func(all sio.Broadcast) sio.Broadcast { return all.To(a.ID, b.ID) }, []*lab.Client{a, b}},
	} {
		for i, n := range s.nodes {
			what := fmt.Sprintf("%s of node %d", name, i)
			s.must(c.target(n.To()).Emit(s.ctx(), "e", what))
			s.reaches(what, n, fmt.Sprintf(`2["e",%q]`, what), c.want...)
		}
	}
	s.must(s.nodes[0].Local().Emit(s.ctx(), "e"))
	s.reaches("local", s.nodes[0], `2["e"]`, a, none)
	s.must(ab.Socket().Broadcast().Emit(s.ctx(), "e"))
	s.reaches("all but the sender", s.nodes[1], `2["e"]`, a, b, none)
	s.must(ab.Socket().To("b").Emit(s.ctx(), "e"))
	s.reaches("a room but the sender", s.nodes[1], `2["e"]`, b)
}

// broadcastOddRooms has names that mean something to a bus, or look as if.
func broadcastOddRooms(s *suite) {
	rooms := []string{
		"", " ", "ü 🚀", "a#b", "a", "a#", "#", "*", "?", "[a]", `\`, `"`, "'; --", "\n", "\x00", "%s", "$1", "null", "42", "-1", "1e3",
		"{room}", "01234567890123456789", strings.Repeat("r", 200),
	}
	far := s.client(s.nodes[1], "/")
	for i, room := range rooms {
		far.Socket().Join(room)
		s.reachable(far, "/", room)
		s.must(s.nodes[0].To(room).Emit(s.ctx(), "e", i))
		s.reaches(fmt.Sprintf("room %q", room), s.nodes[0], fmt.Sprintf(`2["e",%d]`, i), far)
		s.must(s.nodes[0].Except(room).Emit(s.ctx(), "not"))
		s.reaches(fmt.Sprintf("all but room %q", room), s.nodes[0], "")
		far.Socket().Leave(room)
		s.must(s.nodes[0].To(room).Emit(s.ctx(), "not"))
		s.reaches(fmt.Sprintf("left room %q", room), s.nodes[0], "")
	}
}

// broadcastValues has remote clients get what those of the same node get.
func broadcastValues(s *suite) {
	clients := s.one("/", "room")
	type m = map[string]any
	deep := any("bottom")
	for range 50 {
		deep = []any{m{"deep": deep}}
	}
	for what, args := range map[string][]any{
		"none":          {},
		"null":          {nil, true, false},
		"strings":       {"", "text", "ü ä 中文 🚀 \u2028\u2029", "\x00\x01\x1f\x7f", "<a href=\"x\">&amp;</a>", "\\\"/\b\f", "\ufffd"},
		"numbers":       {0, 1, -1, 127, 128, 255, 256, -32, -33, -128, -129, 65535, 65536, 1 << 31, -1 << 31, 1<<53 - 1, -1 << 53},
		"big numbers":   {int64(1<<63 - 1), int64(-1 << 63), uint64(1<<64 - 1), 1e300, -1e-300, json.Number("9007199254740993")},
		"fractions":     {0.1, -2.5, 1e21, 1e-7, 3.0, 1.7976931348623157e308, 5e-324},
		"lists":         {[]any{}, []any{[]any{}, []any{nil}}, []int{1, 2, 3}, make([]int, 16), make([]int, 70_000)},
		"objects":       {m{}, m{"": m{"": nil}}, m{"a": 1, "b": []any{m{"c": "d"}}, "ü": "ü", "__proto__": 1, "constructor": 2}},
		"deep":          {deep},
		"placeholder":   {m{"_placeholder": true, "num": 0}, m{"_placeholder": "x"}},
		"binary":        {[]byte("binary\x00\xff")},
		"empty binary":  {[]byte{}},
		"binaries":      {[]byte("a"), "text", []byte("b"), []byte("a")},
		"nested binary": {m{"x": []any{1, []byte("deep"), m{"y": []byte("deeper"), "z": nil}}}, "and", []any{[]byte("last")}},
		"raw":           {json.RawMessage(`{"a" : [ 1.0 , -0, 1e2 ]}`), sio.Raw{JSON: []byte(`{"z":1,"a":2,"m":3}`)}},
		"long strings":  {strings.Repeat("x", 31), strings.Repeat("x", 32), strings.Repeat("ü", 128), strings.Repeat("x", 70_000)},
	} {
		for _, room := range []bool{false, true} {
			to := s.nodes[0].To()
			if room {
				to = to.To("room")
			}
			s.must(to.Emit(s.ctx(), what, args...))
			got := s.got(s.nodes[0], "/")
			here := got[clients[0]]
			for i, c := range clients[1:] {
				if there := got[c]; len(here) == 0 || len(there) == 0 || !reflect.DeepEqual(value(here), value(there)) {
					s.Errorf("%s: node %d got %.1000q, want %.1000q", what, i+1, there, here)
				}
			}
		}
	}
}

// value returns the event in packets in a form to compare: with its attachments where they belong, and numbers that may be
// written otherwise.
func value(packets []string) any {
	head, payload, _ := strings.Cut(packets[0], "[")
	d := json.NewDecoder(strings.NewReader("[" + payload))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return err.Error()
	}
	if !strings.HasPrefix(head, "5") {
		packets = packets[:1]
	}
	return plain(v, packets[1:])
}

func plain(v any, attachments []string) any {
	switch v := v.(type) {
	case json.Number:
		if v == "0" { // there are many of them
			return "0"
		}
		if f, _, err := big.ParseFloat(string(v), 10, 200, big.ToNearestEven); err == nil {
			if f.Sign() == 0 { // -0, which MessagePack writes as an integer
				return "0"
			}
			return f.Text('g', 60)
		}
	case []any:
		for i := range v {
			v[i] = plain(v[i], attachments)
		}
	case map[string]any:
		if num, ok := v["num"].(json.Number); ok && v["_placeholder"] == true && len(attachments) > 0 {
			if i, err := num.Int64(); err == nil && int(i) < len(attachments) {
				return attachments[i]
			}
		}
		for k := range v {
			v[k] = plain(v[k], attachments)
		}
	}
	return v
}

// broadcastVolatile checks that it comes over the bus; a client may miss it at any time.
func broadcastVolatile(s *suite) {
	clients := s.one("/")
	for _, n := range s.nodes {
		missing := slices.Clone(clients)
		s.Until("a volatile event comes", func() bool {
			s.must(n.Volatile().Emit(s.ctx(), "v"))
			got := s.got(n, "/")
			missing = slices.DeleteFunc(missing, func(c *lab.Client) bool { return slices.Equal(got[c], []string{`2["v"]`}) })
			return len(missing) == 0
		})
	}
}

// broadcastLarge has sizes around limits that buses have.
func broadcastLarge(s *suite) {
	clients := s.one("/")
	for _, size := range []int{7_000, 7_900, 8_000, 8_100, 65_535, 65_536, 1 << 20} {
		text, blob := strings.Repeat("t", size), []byte(strings.Repeat("b", size))
		s.must(s.nodes[1].Emit(s.ctx(), "large", text))
		s.must(s.nodes[1].Emit(s.ctx(), "large", blob))
		got := s.got(s.nodes[1], "/")
		for i, c := range clients {
			want := []string{`2["large","` + text + `"]`, `51-["large",{"_placeholder":true,"num":0}]`, "bin:" + string(blob)}
			if !slices.Equal(got[c], want) {
				s.Errorf("%d bytes: node %d got %.100q", size, i, got[c])
			}
		}
	}
}

// broadcastOrder has all nodes emit at once. What one sends comes in its order everywhere: to all, to a room, large or small.
func broadcastOrder(s *suite) {
	const each = 300
	clients := s.one("/", "room")
	var all sync.WaitGroup
	for i, n := range s.nodes {
		all.Go(func() {
			for k := range each {
				to := n.To()
				if k%2 == 1 {
					to = to.To("room")
				}
				if err := to.Emit(s.ctx(), "o", i, k, strings.Repeat("x", k%7*1500)); err != nil {
					s.Error(err)
				}
			}
		})
	}
	all.Wait()
	for _, c := range clients {
		next := make([]int, len(s.nodes))
		for range each * len(s.nodes) {
			p, ok := c.Next()
			var i, k int
			if _, err := fmt.Sscanf(p, `2["o",%d,%d,`, &i, &k); !ok || err != nil || k != next[i] {
				s.Fatalf("got %.40q, want number %v", p, next)
			}
			next[i]++
		}
	}
	s.got(s.nodes[0], "/")
}
