package redis_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/seed-0b620db0/patchbay/pkg/adapter/redis"
)

func TestStreamsGolden(t *testing.T) {
	all := readCapture(t, "streams.json")
	for _, name := range []string{"default", "plaintext"} {
		c := all[name]
		for _, v := range c.Vectors {
			t.Run(name+"/"+v.Name, func(t *testing.T) {
				ns, _, _ := strings.Cut(strings.TrimPrefix(v.Key, "socket.io#"), "#")
				var fields map[string]any
				if v.Verb == "xadd" {
					fields = map[string]any{}
					for i := 0; i < len(v.Fields); i += 2 {
						fields[v.Fields[i]] = v.Fields[i+1]
					}
					ns, _ = fields["nsp"].(string)
				}
				payload, err := hex.DecodeString(v.Msgpack)
				if err != nil {
					t.Fatal(err)
				}
				self := c.A
				if fields["uid"] == string(c.A) || bytes.Contains(payload, []byte("uid\xb0"+string(c.A))) {
					self = c.B
				}
				m, err := redis.ParseStreams(v.Key, string(payload), fields, ns, self)
				if err != nil {
					t.Fatal(err)
				}
				if (m.Offset != "") != (fields != nil) {
					t.Errorf("offset %q", m.Offset)
				}
				if name == "default" || !strings.Contains(v.Name, "binary") {
					looks(t, v.Name, m, c)
				}
				if _, err := redis.ParseStreams(v.Key, string(payload), fields, ns, m.From); err == nil {
					t.Error("a node takes its own message")
				}
				gotFields, channel, got, err := redis.EncodeStreams(m, ns, name == "plaintext")
				if err != nil {
					t.Fatal(err)
				}
				differs := ourForm[v.Name] != "" && (name == "default" || v.Verb != "xadd")
				if v.Verb != "xadd" {
					if channel != v.Key || bytes.Equal(got, payload) == differs {
						t.Errorf("got %q on %q, want %q on %q", got, channel, payload, v.Key)
					}
					return
				}
				var texts []string
				for _, f := range gotFields {
					texts = append(texts, fmt.Sprintf("%s", f))
				}
				if slices.Equal(texts, v.Fields) == differs {
					t.Errorf("got %q, want %q", texts, v.Fields)
				}
			})
		}
	}
	// Names of streams: as official nodes have them, save that what they write to a negative one is written to another.
	for _, v := range all["names"].Vectors {
		write, read := redis.StreamNames(4, v.Name)
		if !slices.Contains(read, v.Key) || strings.ReplaceAll(v.Key, "--", "-") != write || !slices.Contains(read[:4], write) {
			t.Errorf("%s: official nodes write to %s, we write to %s and read %s", v.Name, v.Key, write, read)
		}
	}
	if write, read := redis.StreamNames(1, "/"); write != "socket.io" || !slices.Equal(read, []string{"socket.io"}) {
		t.Error(write, read)
	}
}

// What an entry says of itself takes memory too, as long as it waits and in what is known of nodes.
func TestStreamsLongHead(t *testing.T) {
	data := `{"packet":["e"],"requestId":"1"}`
	for _, fields := range []map[string]any{
		{"uid": strings.Repeat("x", 1<<20), "nsp": "/", "type": "9", "data": data},
		{"uid": "x", "nsp": "/", "type": strings.Repeat("0", 1<<20) + "9", "data": data},
	} {
		if m, err := redis.ParseStreams("socket.io", "", fields, "/", "me"); err == nil {
			t.Errorf("%d bytes of a name were taken", len(m.From))
		}
	}
	if _, err := redis.ParseStreams("socket.io", "", map[string]any{"uid": "x", "nsp": "/", "type": "9", "data": data}, "/", "me"); err != nil {
		t.Error(err)
	}
}

// Whatever is in a stream, it is taken or refused, and what is taken can be written again.
func FuzzStreamsEntry(f *testing.F) {
	for _, kind := range []string{"3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "", "-1", "256"} {
		f.Add("x", kind, `{"packet":{"type":2,"data":["e"]},"opts":{"rooms":["r"],"except":[],"flags":{}},"rooms":[],"requestId":"1"}`)
		f.Add("emitter", kind, "gqZwYWNrZXSCpHR5cGUCpGRhdGGSomV2xAEBpG9wdHODpXJvb21zkaJyMaZleGNlcHSQpWZsYWdzgA==")
		f.Add("", kind, "")
	}
	f.Fuzz(func(t *testing.T, uid, kind, data string) {
		m, err := redis.ParseStreams("socket.io", "", map[string]any{"uid": uid, "nsp": "/", "type": kind, "data": data}, "/", "me")
		if err != nil {
			return
		}
		fields, _, _, err := redis.EncodeStreams(m, "/", false)
		if err != nil || fields == nil {
			return // what is a response, or a heartbeat, has another form
		}
		again := map[string]any{}
		for i := 0; i < len(fields); i += 2 {
			name, _ := fields[i].(string)
			again[name] = fmt.Sprintf("%s", fields[i+1])
		}
		if _, err := redis.ParseStreams("socket.io", "", again, "/", "me"); err != nil {
			t.Errorf("%q: %v", again, err)
		}
	})
}
