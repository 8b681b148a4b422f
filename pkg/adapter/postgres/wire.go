package postgres

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/seed-0b620db0/patchbay/pkg/adapter"
	"github.com/seed-0b620db0/patchbay/pkg/adapter/internal/envelope"
	"github.com/seed-0b620db0/patchbay/pkg/adapter/internal/rawjson"
)

// maxPayload is how many bytes NOTIFY takes.
const maxPayload = 7999

var (
	errTooLong = errors.New("postgres: message is too long")
	errForeign = errors.New("postgres: message for another namespace")

	// why a notification was dropped
	errNoObject = errors.New("postgres: notification is no object")
	errID       = errors.New("postgres: not the id of an attachment")
)

// payloadThreshold returns how long a payload must be to go through the table. More than NOTIFY takes is no choice.
func payloadThreshold(n int) int {
	if n <= 0 || n > maxPayload+1 {
		return maxPayload + 1
	}
	return n
}

// wire encodes and parses the messages of one namespace for one node. It is read-only, and may be used from any goroutine.
type wire struct {
	channel   string
	ns        string // as envelopes have it
	self      adapter.NodeID
	threshold int

	ownHead, ownEnd string // what the notifications that this node sends begin or end with
}

func newWire(prefix, ns string, self adapter.NodeID, threshold int) *wire {
	w := &wire{channel: channelName(prefix, ns), ns: rawjson.Text([]byte(ns)), self: self, threshold: threshold}
	id := string(rawjson.AppendQuoted(nil, []byte(self)))
	w.ownHead = `{"uid":` + id + ","
	w.ownEnd = `,"uid":` + id + `,"nsp":` + string(rawjson.AppendQuoted(nil, []byte(w.ns))) + "}"
	return w
}

// outgoing is a message as it goes to PostgreSQL: a payload, or a row and what is notified of it.
type outgoing struct {
	payload    string // empty if there is an attachment
	attachment []byte // nil if there is a payload
	head, tail string // of the notification of an attachment; its id is between them
}

func (o *outgoing) size() int { return len(o.payload) + len(o.head) + len(o.attachment) + len(o.tail) }

// encode returns m as official nodes send it: as JSON or, with binary or if that is too long, as MessagePack through the table.
func (w *wire) encode(m *adapter.Message) (outgoing, error) {
	if !envelope.HasBinary(m) && !w.surelyLong(m) {
		payload, err := envelope.AppendJSON(nil, m, w.ns)
		if err != nil {
			return outgoing{}, fmt.Errorf("postgres: encode %s: %w", m.Type, err)
		}
		if len(payload) < w.threshold {
			return outgoing{payload: string(payload)}, nil
		}
	}
	attachment, err := envelope.AppendMsgpack(nil, m, w.ns)
	if err != nil {
		return outgoing{}, fmt.Errorf("postgres: encode %s: %w", m.Type, err)
	}
	h := envelope.NewWriter(nil, false)
	h.Object(3)
	h.Key("uid")
	h.Text(string(m.From))
	h.Key("type")
	h.Int(int64(m.Type))
	h.Key("attachmentId")
	h.Text("")
	h.End()
	header, err := h.Bytes()
	if err != nil {
		return outgoing{}, fmt.Errorf("postgres: encode %s: %w", m.Type, err)
	}
	n := len(header) - len(`"}`)
	return outgoing{attachment: attachment, head: string(header[:n]), tail: string(header[n:])}, nil
}

// surelyLong tells without encoding m that its JSON is too long, if that is plain to see.
func (w *wire) surelyLong(m *adapter.Message) bool {
	return m.Event != nil && len(m.Event.Payload) >= w.threshold || len(m.Value.JSON) >= w.threshold
}

// incoming is what a notification holds.
type incoming struct {
	own     bool             // this node sent it; nothing else is set
	message *adapter.Message // or nil: it is in the table

	// Of a message in the table, as the notification says.
	id   int64
	from adapter.NodeID
	kind adapter.Type // 0 if there is no such type
}

// parse parses what came over the channel of the namespace. Who names no namespace means that one.
func (w *wire) parse(payload string) (incoming, error) {
	if w.isOwn(payload) {
		return incoming{own: true}, nil
	}
	if payload == "" || payload[0] != '{' { // or it might be taken for MessagePack
		return incoming{}, fmt.Errorf("%w: %.50q", errNoObject, payload)
	}
	b := []byte(payload)
	if strings.Contains(payload, `"attachmentId"`) {
		if in, ok, err := w.parseHeader(b); ok || err != nil {
			return in, err
		}
	}
	m, _, err := w.parseRow(b)
	switch {
	case err != nil:
		return incoming{}, err
	case m.From == w.self:
		return incoming{own: true}, nil
	}
	return incoming{message: m}, nil
}

// isOwn tells without parsing it whether this node sent payload. Everybody hears all that he says.
func (w *wire) isOwn(payload string) bool {
	return strings.HasPrefix(payload, w.ownHead) || strings.HasSuffix(strings.TrimRight(payload, whiteSpace), w.ownEnd)
}

// parseHeader parses the notification of an attachment, or tells that it is none.
func (w *wire) parseHeader(b []byte) (in incoming, ok bool, err error) {
	r := envelope.NewReader(b)
	ns := w.ns
	for o := r.Object(); r.Next(&o); {
		key, kind := string(r.Key()), r.Kind()
		switch {
		case key == "uid" && kind == envelope.Text:
			in.from = adapter.NodeID(r.Text())
		case key == "type" && kind == envelope.Number:
			if n := r.Int(); n > 0 && n <= int64(adapter.Close) {
				in.kind = adapter.Type(n)
			}
		case key == "attachmentId" && kind != envelope.Null:
			ok = true
			if in.id, err = attachmentID(&r); err != nil {
				return incoming{}, false, err
			}
		case key == "nsp" && kind == envelope.Text:
			ns = r.Text()
		default:
			r.Skip()
		}
	}
	switch {
	case r.End() != nil:
		return incoming{}, false, fmt.Errorf("postgres: %w", r.Err())
	case !ok: // the word is somewhere else
		return incoming{}, false, nil
	case ns != w.ns:
		return incoming{}, false, fmt.Errorf("%w: %.100q", errForeign, ns)
	case in.from == w.self:
		return incoming{own: true}, true, nil
	}
	return in, true, nil
}

// attachmentID reads the id of a row, which is text as JavaScript has numbers of 53 bits.
func attachmentID(r *envelope.Reader) (int64, error) {
	if r.Kind() == envelope.Number {
		return r.Int(), nil
	}
	s := r.Text()
	id, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%w: %.50q", errID, s)
	}
	return id, nil
}

// parseRow parses a message in either encoding: an attachment mostly. named tells whether it says what namespace it is of. It
// shares memory with row.
func (w *wire) parseRow(row []byte) (m *adapter.Message, named bool, err error) {
	m, ns, named, err := envelope.Parse(row)
	switch {
	case err != nil:
		return nil, false, fmt.Errorf("postgres: %w", err)
	case named && ns != w.ns:
		return nil, true, fmt.Errorf("%w: %.100q", errForeign, ns)
	}
	return m, named, nil
}

// whiteSpace is what JSON has of it.
const whiteSpace = " \t\n\r"

// distinct returns the n-th of payloads that are equal, unlike the others by the white space at its end: PostgreSQL makes one
// of equal notifications in a transaction. The result may be longer than NOTIFY takes.
func distinct(payload string, n int) string {
	if n == 0 {
		return payload
	}
	b := []byte(payload)
	for ; n > 0; n = (n - 1) / len(whiteSpace) { // the digits of a number in base 4, none of which is zero
		b = append(b, whiteSpace[(n-1)%len(whiteSpace)])
	}
	return string(b)
}
