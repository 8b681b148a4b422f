package envelope

import (
	"fmt"
	"math"
	"strings"

	"github.com/seed-0b620db0/patchbay/pkg/sio"
	"github.com/seed-0b620db0/patchbay/pkg/sio/sioproto"
)

// Sockets writes descriptions of sockets.
func (w *Writer) Sockets(list []sio.RemoteSocket) {
	w.Array(len(list))
	for i := range list {
		s := &list[i]
		w.Object(3 + count(s.Data != nil))
		w.Key("id")
		w.Text(s.ID)
		w.Key("handshake")
		w.handshake(s.Handshake)
		w.Key("rooms")
		w.Strings(s.Rooms)
		if s.Data != nil {
			w.Key("data")
			w.raw(s.Data, nil)
		}
		w.End()
	}
	w.EndArray()
}

func (w *Writer) handshake(h sio.HandshakeData) {
	if h.Headers == nil {
		h.Headers = map[string]string{}
	}
	if h.Query == nil {
		h.Query = map[string]string{}
	}
	array, _, err := sioproto.AppendArgs(nil, nil, h)
	if err != nil {
		w.fail(fmt.Errorf("envelope: handshake: %w", err))
		return
	}
	w.raw(array[1:len(array)-1], nil)
}

// Sockets reads descriptions of sockets. Binary in their data, which only MessagePack can have, becomes what JSON.stringify
// makes of a Buffer.
func (r *Reader) Sockets() (list []sio.RemoteSocket) {
	if r.err == nil && r.msgpack {
		b, err := r.c.AppendBufferJSON(nil)
		if err != nil {
			r.wrong(err)
			return nil
		}
		text := Reader{src: b, key: r.key}
		list = text.Sockets()
		r.err = text.err
		return list
	}
	for a := r.Array(); r.Next(&a); {
		list = append(list, r.socket())
	}
	if r.err != nil {
		return nil
	}
	return list
}

var errNoSocketID = fmt.Errorf("envelope: socket: %w", errKind)

func (r *Reader) socket() (s sio.RemoteSocket) {
	haveID := false
	s.Handshake = sio.HandshakeData{Headers: map[string]string{}, Query: map[string]string{}}
	for o := r.Object(); r.Next(&o); {
		switch string(r.Key()) {
		case "id":
			haveID = true
			s.ID = r.Text()
		case "handshake":
			r.handshake(&s.Handshake)
		case "rooms":
			s.Rooms = r.Strings()
		case "data":
			s.Data = r.Value().JSON
		default:
			r.Skip()
		}
	}
	if !haveID {
		r.fail(errNoSocketID)
	}
	return s
}

// handshake reads what is as it should be. Applications of JavaScript may put anything there, and nothing depends on it.
func (r *Reader) handshake(h *sio.HandshakeData) {
	if r.Kind() != Object {
		r.Skip()
		return
	}
	for o := r.Object(); r.Next(&o); {
		switch key, kind := string(r.Key()), r.Kind(); {
		case key == "headers" && kind == Object:
			r.stringMap(h.Headers, ", ")
		case key == "time" && kind == Text:
			h.Time = r.Text()
		case key == "address" && kind == Text:
			h.Address = r.Text()
		case key == "xdomain" && kind == Bool:
			h.XDomain = r.Bool()
		case key == "secure" && kind == Bool:
			h.Secure = r.Bool()
		case key == "issued" && kind == Number:
			if f := r.Float(); math.Abs(f) <= 1<<53 {
				h.Issued = int64(f)
			}
		case key == "url" && kind == Text:
			h.URL = r.Text()
		case key == "query" && kind == Object:
			r.stringMap(h.Query, "")
		case key == "auth" && kind != Null:
			h.Auth = r.Value().JSON
		default:
			r.Skip()
		}
	}
}

// stringMap reads an object into m. Of an array it takes the elements, joined by sep, or the last one if that is empty; other
// values it leaves as JSON.
func (r *Reader) stringMap(m map[string]string, sep string) {
	for o := r.Object(); r.Next(&o); {
		key := string(r.Key())
		switch r.Kind() {
		case Text:
			m[key] = r.Text()
		case Array:
			m[key] = r.joined(sep)
		default:
			m[key] = string(r.Value().JSON)
		}
	}
}

func (r *Reader) joined(sep string) string {
	var parts []string
	for a := r.Array(); r.Next(&a); {
		if r.Kind() == Text {
			parts = append(parts, r.Text())
		} else {
			parts = append(parts, string(r.Value().JSON))
		}
	}
	if sep == "" && len(parts) > 0 {
		return parts[len(parts)-1]
	}
	return strings.Join(parts, sep)
}
