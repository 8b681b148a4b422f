package redis_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/seed-0b620db0/patchbay/pkg/adapter"
	"github.com/seed-0b620db0/patchbay/pkg/adapter/redis"
)

// capture is what official nodes a and b have handed to their client: testdata/sharded-streams/capture.mjs.
type capture struct {
	A, B, Admin adapter.NodeID
	SID         string
	Vectors     []struct {
		Name, Verb, Key, JSON, Msgpack string
		Fields                         []string
	}
}

func readCapture(t *testing.T, file string) map[string]*capture {
	t.Helper()
	b, err := os.ReadFile("testdata/" + file)
	if err != nil {
		t.Fatal(err)
	}
	var all map[string]*capture
	if err := json.Unmarshal(b, &all); err != nil {
		t.Fatal(err)
	}
	return all
}

// ourForm has what we write in another way than an official node.
var ourForm = map[string]string{
	"broadcast date and binary": "a date is a string here",
	"fetch response":            "members of a handshake are in another order",
}

// What official nodes write is understood, and written by us as they do.
func TestShardedGolden(t *testing.T) {
	for name, c := range readCapture(t, "sharded.json") {
		mode := map[string]redis.Mode{"dynamic": redis.Dynamic, "dynamic-private": redis.DynamicPrivate, "static": redis.Static}[name]
		for _, v := range c.Vectors {
			t.Run(name+"/"+v.Name, func(t *testing.T) {
				ns, _, _ := strings.Cut(strings.TrimPrefix(v.Key, "socket.io#"), "#")
				payload := []byte(v.JSON)
				if v.Msgpack != "" {
					payload, _ = hex.DecodeString(v.Msgpack)
				}
				reader := c.B
				if strings.Contains(v.Name, "answer") || strings.Contains(v.Name, "count") || strings.Contains(v.Name, "response") ||
					v.Name == "ack nothing" || strings.Contains(v.Name, "from socket") {
					reader = c.A
				}
				m, err := redis.ParseSharded(v.Key, string(payload), ns, reader)
				if err != nil {
					t.Fatal(err)
				}
				looks(t, v.Name, m, c)
				if _, err := redis.ParseSharded(v.Key, string(payload), ns, m.From); err == nil {
					t.Error("a node takes its own message")
				}
				channel, got, err := redis.EncodeSharded(mode, m, ns)
				if err != nil || channel != v.Key {
					t.Errorf("%v: on %q, want %q", err, channel, v.Key)
				}
				if bytes.Equal(got, payload) != (ourForm[v.Name] == "") {
					t.Errorf("got\n%q, want\n%q", got, payload)
				}
			})
		}
	}
}

// looks checks the gist of a message by its name.
func looks(t *testing.T, name string, m *adapter.Message, c *capture) {
	t.Helper()
	var got string
	switch m.Type {
	case adapter.Broadcast, adapter.ServerSideEmit:
		got = fmt.Sprintf("%s %q -%q %v", m.Event.Payload, m.Target.Rooms, m.Target.Except, len(m.Event.Attachments))
	case adapter.SocketsJoin, adapter.SocketsLeave:
		got = fmt.Sprintf("%q -%q %q", m.Target.Rooms, m.Target.Except, m.Rooms)
	case adapter.DisconnectSockets:
		got = fmt.Sprintf("%q %v", m.Target.Rooms, m.CloseTransport)
	case adapter.FetchSockets:
		got = fmt.Sprintf("%q", m.Target.Rooms)
	case adapter.FetchSocketsResponse:
		got = fmt.Sprintf("%d %v %q %s", len(m.Sockets), m.Sockets[0].ID == c.SID, m.Sockets[0].Rooms[1:], m.Sockets[0].Data)
	case adapter.BroadcastClientCount:
		got = fmt.Sprint(m.Clients)
	default:
		got = fmt.Sprintf("%s %v", m.Value.JSON, len(m.Value.Attachments))
	}
	want, ok := map[string]string{
		"broadcast":                  `["ev",1,"two"] [] -[] 0`,
		"broadcast room":             `["ev"] ["r1"] -[] 0`,
		"broadcast room binary":      `["ev",{"_placeholder":true,"num":0}] ["r1"] -[] 1`,
		"broadcast rooms":            `["ev"] ["r1" "r2"] -["r3"] 0`,
		"broadcast undefined":        `["ev",null,{},null] [] -[] 0`,
		"ack request":                `["ask",1,{"_placeholder":true,"num":0}] ["r1"] -[] 1`,
		"ack count":                  `1`,
		"ack answer":                 `{"bin":{"_placeholder":true,"num":0}} 1`,
		"join":                       `["r1"] -["r2"] ["x" "y"]`,
		"leave":                      `[] -[] ["x"]`,
		"disconnect":                 `["nobody"] true`,
		"fetch":                      `["r1"]`,
		"fetch response":             `1 true ["r1" "r 2" "y"] {"name":"Ann","n":1}`,
		"server event":               `["hello","w"] [] -[] 0`,
		"server event answer":        `{"got":"w"} 0`,
		"server event answer binary": `{"_placeholder":true,"num":0} 1`,
	}[name]
	if ok && got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	asks := strings.Contains(name, "ack") || strings.Contains(name, "fetch") || strings.Contains(name, "answer")
	if (m.RequestID != "") != asks {
		t.Errorf("request %q", m.RequestID)
	}
	if m.Type.Response() != (m.To != "") {
		t.Errorf("to %q", m.To)
	}
}
