package redis

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf16"

	"github.com/seed-0b620db0/patchbay/pkg/adapter"
	"github.com/seed-0b620db0/patchbay/pkg/adapter/internal/envelope"
)

var (
	errEntryID   = errors.New("redis: not the id of an entry")
	errEntryType = errors.New("redis: an entry without a type")
)

// streamID is the id of an entry: the time in milliseconds, and a number.
type streamID struct{ ms, seq uint64 }

func parseStreamID(s string) (streamID, error) {
	ms, seq, ok := strings.Cut(s, "-")
	if ok {
		a, err1 := strconv.ParseUint(ms, 10, 64)
		b, err2 := strconv.ParseUint(seq, 10, 64)
		if err1 == nil && err2 == nil {
			return streamID{a, b}, nil
		}
	}
	return streamID{}, fmt.Errorf("%w: %.50q", errEntryID, s)
}

func (id streamID) String() string {
	return strconv.FormatUint(id.ms, 10) + "-" + strconv.FormatUint(id.seq, 10)
}

func (id streamID) less(other streamID) bool {
	return id.ms < other.ms || id.ms == other.ms && id.seq < other.seq
}

// next returns the least id beyond. (Redis before 6.2 has no other way to leave one out of a range.)
func (id streamID) next() streamID {
	if id.seq++; id.seq == 0 {
		id.ms++
	}
	return id
}

// streamNames returns the names of the streams that a namespace's entries may be in. Official servers read streams 0 to
// count-1, and write to the remainder of a hash that may be negative: what they write to a stream like name--3 none of them
// reads. We write where they read, and read both.
func streamNames(name string, count int, ns string) (write string, read []string) {
	if count <= 1 {
		return name, []string{name}
	}
	for i := range count {
		read = append(read, name+"-"+strconv.Itoa(i))
	}
	i := int(hashCode(ns)) % count // of the sign that it has in JavaScript
	if i < 0 {
		read = append(read, name+"-"+strconv.Itoa(i))
		i = -i
	}
	return read[i], read
}

// hashCode is the hash that the official adapter has for names.
func hashCode(s string) int32 {
	var h int32
	for _, unit := range utf16.Encode([]rune(s)) {
		h = h*31 + int32(unit)
	}
	return h
}

// ephemeral tells whether m goes over pub/sub rather than into a stream.
func ephemeral(m *adapter.Message) bool {
	switch m.Type {
	case adapter.FetchSockets, adapter.ServerSideEmit:
		return true
	case adapter.Broadcast:
		return m.RequestID != ""
	default:
		return m.Type.Response()
	}
}

// streamFields returns the fields of an entry, and their values.
func streamFields(m *adapter.Message, ns string, plaintext bool) ([]any, error) {
	fields := []any{"uid", string(m.From), "nsp", ns, "type", strconv.Itoa(int(m.Type))}
	if !envelope.HasData(m.Type) {
		return fields, nil
	}
	if plaintext || !envelope.HasBinary(m) {
		data, err := envelope.AppendDataJSON(nil, m)
		return append(fields, "data", data), err
	}
	data, err := envelope.AppendDataMsgpack(nil, m)
	return append(fields, "data", base64.StdEncoding.AppendEncode(nil, data)), err
}

// parseEntry parses an entry, whose namespace the caller has looked at.
func parseEntry(uid, kind, data string) (*adapter.Message, error) {
	n, err := strconv.ParseUint(kind, 10, 8)
	if err != nil || n == 0 {
		return nil, fmt.Errorf("%w: %.50q", errEntryType, kind)
	}
	b := []byte(data)
	if data != "" && data[0] != '{' {
		if b, err = base64.RawStdEncoding.DecodeString(anyBase64.Replace(data)); err != nil {
			return nil, fmt.Errorf("redis: data of an entry: %w", err)
		}
	}
	m, err := envelope.ParseData(adapter.Type(n), b)
	if err != nil {
		return nil, err
	}
	m.From = adapter.NodeID(uid)
	return m, nil
}

// anyBase64 makes of what Node.js takes for base64 what Go does.
var anyBase64 = strings.NewReplacer("-", "+", "_", "/", "=", "")
