package envelope_test

import (
	"strings"
	"testing"

	"github.com/seed-0b620db0/patchbay/pkg/adapter/internal/envelope"
	"github.com/seed-0b620db0/patchbay/pkg/sio"
)

// part is one member of a message of the classic Redis adapter, or one element of its broadcasts.
type part struct {
	key   string
	write func(w *envelope.Writer)
}

// readClassic reads each member with the function for it.
func readClassic(b []byte) (parts []part, err error) {
	r := envelope.NewReader(b)
	if r.Kind() == envelope.Array { // [uid, packet, opts]
		for a := r.Array(); r.Next(&a); {
			parts = append(parts, readPart(&r, []string{"uid", "packet", "opts"}[len(parts)%3]))
		}
		return parts, r.End()
	}
	for o := r.Object(); r.Next(&o); {
		parts = append(parts, readPart(&r, string(r.Key())))
	}
	return parts, r.End()
}

func readPart(r *envelope.Reader, key string) part {
	switch key {
	case "uid", "requestId":
		s := r.Text()
		return part{key, func(w *envelope.Writer) { w.Text(s) }}
	case "type", "clientCount":
		n := r.Int()
		return part{key, func(w *envelope.Writer) { w.Int(n) }}
	case "close":
		b := r.Bool()
		return part{key, func(w *envelope.Writer) { w.Bool(b) }}
	case "rooms":
		list := r.Strings()
		return part{key, func(w *envelope.Writer) { w.Strings(list) }}
	case "opts":
		o := r.Opts()
		return part{key, func(w *envelope.Writer) { w.Opts(o) }}
	case "sockets":
		// The ids alone, or descriptions: the first element tells.
		later := r.Later()
		probe := later
		if a := probe.Array(); probe.Next(&a) && probe.Kind() == envelope.Text {
			ids := later.Strings()
			return part{key, func(w *envelope.Writer) { w.Strings(ids) }}
		}
		sockets := later.Sockets()
		return part{key, func(w *envelope.Writer) { w.Sockets(sockets) }}
	case "data":
		later := r.Later()
		if value := later; later.Kind() != envelope.Array || value.Event() == nil {
			v := later.Value()
			return part{key, func(w *envelope.Writer) { w.Value(v) }}
		}
		ev := later.Event()
		return part{key, func(w *envelope.Writer) { w.Event(ev) }}
	case "packet":
		later := r.Later()
		if probe := later; probe.Packet().Event == nil {
			v := later.Value()
			return part{key, func(w *envelope.Writer) { w.Value(v) }}
		}
		p := later.Packet()
		return part{key, func(w *envelope.Writer) { w.Packet(p.Event, p.NS) }}
	default:
		r.Skip()
		return part{key, func(*envelope.Writer) {}}
	}
}

// The parts are enough for the classic Redis adapter and its emitter.
func TestClassicParts(t *testing.T) {
	n := 0
	for _, c := range loadGolden(t) {
		if !classic(c) {
			continue
		}
		t.Run(c.Sender+"/"+c.Name, func(t *testing.T) {
			b, msgpack := c.bytes(t)
			parts, err := readClassic(b)
			if err != nil {
				t.Fatal(err)
			}
			w := envelope.NewWriter([]byte("x"), msgpack)
			if parts[0].key == "uid" && msgpack && len(parts) == 3 {
				w.Array(3)
				for _, p := range parts {
					p.write(&w)
				}
				w.EndArray()
			} else {
				w.Object(len(parts))
				for _, p := range parts {
					w.Key(p.key)
					p.write(&w)
				}
				w.End()
			}
			got, err := w.Bytes()
			if err != nil {
				t.Fatal(err)
			}
			if oneWay(c) || c.Sender == "redis-emitter" && msgpack {
				return // has flags before except
			}
			if n++; string(got) != "x"+string(b) {
				t.Errorf("%q, want %q", got, b)
			}
		})
	}
	if n < 40 {
		t.Errorf("only %d messages", n)
	}
}

// The flags of the emitter come before except.
func TestEmitterOrder(t *testing.T) {
	for _, c := range loadGolden(t) {
		if c.Sender != "redis-emitter" || c.Name != "emit to room" {
			continue
		}
		b, _ := c.bytes(t)
		r := envelope.NewReader(b)
		a := r.Array()
		r.Next(&a)
		uid := r.Text()
		r.Next(&a)
		p := r.Packet()
		r.Next(&a)
		o := r.Opts()
		if r.Next(&a) || r.End() != nil || uid != "emitter" || !p.HasNS || p.NS != "/" || string(p.Event.Payload) != `["fromEmitter","x"]` {
			t.Errorf("%s %+v, %v", uid, p, r.Err())
		}
		if !o.Volatile || !o.NoCompress || o.NoFlags || o.Target.Rooms[0] != "r1" || o.Target.Except[0] != "r2" {
			t.Errorf("%+v", o)
		}
	}
}

func TestWriter(t *testing.T) {
	for _, msgpack := range []bool{false, true} {
		w := envelope.NewWriter(nil, msgpack)
		w.Array(4)
		w.Object(1)
		w.Key("a")
		w.Strings([]string{"x\n", "\xff"})
		w.End()
		w.Value(sio.Raw{})
		w.Array(0)
		w.EndArray()
		w.Opts(envelope.Opts{Timeout: 1})
		w.EndArray()
		b, err := w.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		r := envelope.NewReader(b)
		v := r.Value()
		if want := `[{"a":["x\n","` + "\ufffd" + `"]},null,[],{"rooms":[],"except":[],"flags":{"timeout":1}}]`; r.End() != nil || string(v.JSON) != want {
			t.Errorf("%s, %v, want %s", v.JSON, r.Err(), want)
		}
	}

	w := envelope.NewWriter(nil, true)
	w.Value(sio.Raw{JSON: []byte("nonsense")})
	w.Event(nil)
	if _, err := w.Bytes(); err == nil || !strings.Contains(err.Error(), "not valid JSON") {
		t.Error(err)
	}
}
