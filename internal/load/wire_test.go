package load_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/seed-0b620db0/patchbay/internal/load"
)

func TestAppendPacket(t *testing.T) {
	blob := [][]byte{{1}, {2}}
	for _, c := range []struct {
		m            load.Message
		prefix, want string
	}{
		{load.Message{Type: load.Event, ID: load.NoAck, Data: []byte(`["a"]`)}, "", `42["a"]`},
		{load.Message{Type: load.Event, ID: 12, Data: []byte(`["a"]`)}, "/x,", `42/x,12["a"]`},
		{load.Message{Type: load.Ack, ID: 0, Data: []byte(`[]`)}, "", `430[]`},
		{load.Message{Type: load.Event, ID: load.NoAck, Data: []byte(`["a"]`), Attachments: blob}, "/x,", `452-/x,["a"]`},
		{load.Message{Type: load.Ack, ID: 7, Data: []byte(`[]`), Attachments: blob}, "", `462-7[]`},
	} {
		if got := load.AppendPacket(nil, c.prefix, &c.m); string(got) != c.want {
			t.Errorf("got %s, want %s", got, c.want)
		}
	}
}

func TestParsePacket(t *testing.T) {
	for _, c := range []struct{ in, prefix, want string }{
		{`2["a"]`, "", `2 0 -1 ["a"]`},
		{`212["a",1]`, "", `2 0 12 ["a",1]`},
		{`2/x,["a"]`, "/x,", `2 0 -1 ["a"]`},
		{`0/x,{"sid":"y"}`, "/x,", `0 0 -1 {"sid":"y"}`},
		{`1/x`, "/x,", `1 0 -1 `},
		{`52-3["a"]`, "", `5 2 3 ["a"]`},
		{`61-/x,0[]`, "/x,", `6 1 0 []`},
		{`44`, "", `4 0 4 `},
	} {
		kind, attachments, id, data, err := load.ParsePacket(c.in, c.prefix)
		if got := fmt.Sprintf("%c %d %d %s", kind, attachments, id, data); err != nil || got != c.want {
			t.Errorf("%s: got %q, %v, want %q", c.in, got, err, c.want)
		}
	}
	for _, bad := range []string{"", "5[]", "5x-[]", "50-[]", "59999-[]", "299999999999999999999[]"} {
		if kind, _, id, data, err := load.ParsePacket(bad, ""); err == nil {
			t.Errorf("%q was parsed: %c %d %s", bad, kind, id, data)
		}
	}
	if _, _, _, _, err := load.ParsePacket(`2/y,["a"]`, "/x,"); err == nil {
		t.Error("a packet of another namespace was parsed")
	}
}

// frame makes a frame as a server sends it.
func frame(first byte, payload string) []byte {
	b := []byte{first}
	switch n := len(payload); {
	case n < 126:
		b = append(b, byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 127), uint64(n))
	}
	return append(b, payload...)
}

// However reads cut the stream, the same messages come out.
func TestFrames(t *testing.T) {
	long, huge := strings.Repeat("l", 200), strings.Repeat("h", 70_000)
	var stream []byte
	var want []string
	for _, c := range []struct {
		first   byte
		payload string
		message string
	}{
		{0x81, "hello", "1 hello"},
		{0x01, "be", ""},
		{0x00, "tw", ""},
		{0x89, "ping", "9 ping"},
		{0x80, "een", "1 between"},
		{0x82, long, "2 " + long},
		{0x81, "", "1 "},
		{0x02, "x", ""},
		{0x80, huge, "2 x" + huge},
		{0x82, huge, "2 " + huge},
		{0x88, "\x03\xe8", "8 \x03\xe8"},
	} {
		stream = append(stream, frame(c.first, c.payload)...)
		if c.message != "" {
			want = append(want, c.message)
		}
	}
	for _, size := range []int{1, 2, 3, 7, 100, 4096, len(stream)} {
		var f load.Frames
		var got []string
		for piece := range slices.Chunk(stream, size) {
			err := f.Feed(bytes.Clone(piece), func(op byte, payload []byte) error {
				got = append(got, fmt.Sprintf("%d %s", op, payload))
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("in pieces of %d: got %.300q", size, got)
		}
	}
}

func TestBadFrames(t *testing.T) {
	for name, bad := range map[string][]byte{
		"a masked frame":          {0x81, 0x81, 0, 0, 0, 0, 'x'},
		"a reserved bit":          {0xc1, 0},
		"a continuation alone":    {0x80, 0},
		"two messages at once":    {0x01, 1, 'a', 0x81, 1, 'b'},
		"more bytes than allowed": {0x82, 127, 0, 0, 0, 1, 0, 0, 0, 0},
	} {
		var f load.Frames
		if err := f.Feed(bad, func(byte, []byte) error { return nil }); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}

// What is sent, unmasked by the rules of RFC 6455, is what was to be sent.
func TestMaskedFrames(t *testing.T) {
	for _, n := range []int{0, 1, 7, 8, 125, 126, 127, 1000, 65535, 65536, 100_000} {
		payload := bytes.Repeat([]byte("0123456789abc"), n/13+1)[:n]
		got := load.CloseFrame(append(load.OpenFrame(nil), payload...), 2)
		head := 2
		size := uint64(got[1] & 0x7f)
		switch size {
		case 126:
			head, size = 4, uint64(binary.BigEndian.Uint16(got[2:]))
		case 127:
			head, size = 10, binary.BigEndian.Uint64(got[2:])
		}
		if got[0] != 0x82 || got[1]&0x80 == 0 || size != uint64(n) || len(got) != head+4+n {
			t.Fatalf("%d bytes: header % x", n, got[:head])
		}
		key, masked := got[head:head+4], got[head+4:]
		for i := range masked {
			masked[i] ^= key[i%4]
		}
		if !bytes.Equal(masked, payload) || bytes.Equal(key, []byte{0, 0, 0, 0}) {
			t.Errorf("%d bytes: the payload is another", n)
		}
	}
}
