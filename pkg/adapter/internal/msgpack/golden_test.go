package msgpack_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/seed-0b620db0/patchbay/pkg/adapter/internal/msgpack"
	"github.com/seed-0b620db0/patchbay/pkg/sio/sioproto"
)

// golden is what the JavaScript encoders and decoders made: see testdata/generate.mjs.
type golden struct {
	Encode []struct {
		JSON        string
		Attachments []hexBytes
		Notepack    hexBytes
		Msgpack     hexBytes // nil: as Notepack
	}
	Sizes []struct {
		Kind   string
		N      int
		Start  hexBytes
		SHA256 hexBytes
	}
	Decode, Old []decoding
}

type decoding struct {
	Name     string
	Hex      hexBytes
	Notepack decoded
	Msgpack  *decoded // nil: as Notepack
}

type decoded struct {
	JSON        string
	Attachments []hexBytes
	Error       bool
}

type hexBytes []byte

func (h *hexBytes) UnmarshalText(src []byte) (err error) {
	*h, err = hex.AppendDecode([]byte{}, src)
	return err
}

func loadGolden(t testing.TB) golden {
	t.Helper()
	text, err := os.ReadFile("testdata/golden.json")
	if err != nil {
		t.Fatal(err)
	}
	var g golden
	if err := json.Unmarshal(text, &g); err != nil {
		t.Fatal(err)
	}
	return g
}

func attachments(list []hexBytes) [][]byte {
	var out [][]byte
	for _, b := range list {
		out = append(out, b)
	}
	return out
}

// encodings has what we write in another way than both JavaScript encoders.
var encodings = map[string]string{
	// JSON.parse rounds these, or the encoder writes an integer modulo 2^64; we are exact.
	"9007199254740993":     "cf0020000000000001",
	"-9007199254740993":    "d3ffdfffffffffffff",
	"9223372036854775807":  "cf7fffffffffffffff",
	"18446744073709551615": "cfffffffffffffffff",
	// Half a surrogate pair is no UTF-8: one swallows the next character, the other writes it nevertheless.
	`"\ud800"`:       "a3efbfbd",
	`"\ud800x"`:      "a4efbfbd78",
	`"\udc00\ud800"`: "a6efbfbdefbfbd",
	`"\ud83d\u0041"`: "a4efbfbd41",
	// JSON.parse has sorted or dropped keys.
	`{"1":0,"0":1}`: "82a13100a13001",
	`{"a":1,"a":2}`: "82a16101a16102",
}

// onlyMsgpack has what we write as the other encoder does: notepack writes integers modulo 2^64.
var onlyMsgpack = []string{
	"1.7976931348623157e308", "18446744073709551616", "-9223372036854775809", "1e20", "-1e20", "1e21", "123456789012345678901234567890",
}

func TestGoldenEncode(t *testing.T) {
	differ := 0
	for _, c := range loadGolden(t).Encode {
		want := []byte(c.Notepack)
		if text, ok := encodings[c.JSON]; ok {
			want, _ = hex.DecodeString(text)
			differ++
		} else if slices.Contains(onlyMsgpack, c.JSON) {
			want = c.Msgpack
			differ++
		}
		got, err := msgpack.AppendJSON([]byte("x"), []byte(c.JSON), attachments(c.Attachments))
		if err != nil || string(got) != "x"+string(want) {
			t.Errorf("%s: %x, %v, want %x", c.JSON, got, err, want)
		}
	}
	if differ != len(encodings)+len(onlyMsgpack) {
		t.Errorf("%d cases differ", differ)
	}
}

func TestGoldenSizes(t *testing.T) {
	for _, c := range loadGolden(t).Sizes {
		var text []byte
		var atts [][]byte
		switch c.Kind {
		case "string":
			text = []byte(`"` + strings.Repeat("a", c.N) + `"`)
		case "array":
			text = []byte("[" + strings.Repeat("1,", c.N-1) + "1]")
		case "map":
			text = []byte("{")
			for i := range c.N {
				text = append(text, `"k`+strconv.Itoa(i)+`":1,`...)
			}
			text[len(text)-1] = '}'
		case "bin":
			text, atts = []byte(`{"_placeholder":true,"num":0}`), [][]byte{bytes.Repeat([]byte{1}, c.N)}
		}
		got, err := msgpack.AppendJSON(nil, text, atts)
		if sum := sha256.Sum256(got); err != nil || !bytes.HasPrefix(got, c.Start) || !bytes.Equal(sum[:], c.SHA256) {
			t.Errorf("%s of %d: %x..., %v", c.Kind, c.N, got[:min(8, len(got))], err)
		}
		back, backAtts := decode(t, got)
		if string(back) != string(text) || !slices.EqualFunc(backAtts, atts, bytes.Equal) {
			t.Errorf("%s of %d came back otherwise", c.Kind, c.N)
		}
	}
}

// decodings has what we read in another way, as JSON or as an error.
var decodings = map[string]any{
	// Integers are exact; JavaScript rounds them when it reads this text.
	"cfffffffffffffffff": "18446744073709551615",
	"d37fffffffffffffff": "9223372036854775807",
	"d38000000000000000": "-9223372036854775808",
	// The last of equal keys counts, whoever reads it.
	"82a16101a16102": `{"a":1,"a":2}`,
	// Keys that only notepack takes.
	"81c002": msgpack.ErrKey, "81c302": msgpack.ErrKey, "81c4016102": msgpack.ErrKey, "819002": msgpack.ErrKey, "818002": msgpack.ErrKey,
	// Unknown extensions are an array of the one, an object of the other.
	"c7022a0102": msgpack.ErrExt, "d42a01": msgpack.ErrExt, "d52a0102": msgpack.ErrExt, "d62a01020304": msgpack.ErrExt,
	"d72a0102030405060708": msgpack.ErrExt, "d82a0102030405060708090a0b0c0d0e0f10": msgpack.ErrExt, "c800012a01": msgpack.ErrExt, "c9000000012a01": msgpack.ErrExt,
	"d500ffff": msgpack.ErrExt, "d60000000000": msgpack.ErrExt, "d80000000000000000000000000000000000": msgpack.ErrExt, "d5ff0000": msgpack.ErrExt,
	// Timestamps of another form than notepack writes.
	"c704ff6553f100": `"2023-11-14T22:13:20.000Z"`, "c708ff0000000000000001": `"1970-01-01T00:00:01.000Z"`, "c80004ff6553f100": `"2023-11-14T22:13:20.000Z"`,
	// Somebody who did not mean an attachment would get one.
	"9281ac5f706c616365686f6c646572c3c40101": sioproto.ErrPlaceholder,
	"d40000":                                 "null",
}

func TestGoldenDecode(t *testing.T) {
	g := loadGolden(t)
	differ := 0
	for _, c := range append(g.Decode, g.Old...) {
		key := hex.EncodeToString(c.Hex)
		cur := msgpack.NewCursor(c.Hex)
		got, atts, err := cur.AppendJSON(nil, nil)
		if err == nil {
			err = cur.End()
		}
		want := c.Notepack
		if d, ok := decodings[key]; ok {
			differ++
			if e, ok := d.(error); ok {
				if !errors.Is(err, e) {
					t.Errorf("%s: %s, %v, want %v", key, got, err, e)
				}
				continue
			}
			want = decoded{JSON: d.(string)}
		}
		if want.Error != (err != nil) || !want.Error && string(got) != want.JSON || !slices.EqualFunc(atts, attachments(want.Attachments), bytes.Equal) {
			t.Errorf("%s %s: %s %x, %v, want %+v", c.Name, key, got, atts, err, want)
		}
	}
	if differ != len(decodings) {
		t.Errorf("%d cases differ", differ)
	}
}

// decode returns the one value in b.
func decode(t testing.TB, b []byte) (text []byte, atts [][]byte) {
	t.Helper()
	c := msgpack.NewCursor(b)
	text, atts, err := c.AppendJSON(nil, nil)
	if err != nil {
		t.Fatalf("%x: %v", b, err)
	}
	if err := c.End(); err != nil {
		t.Fatalf("%x: %v", b, err)
	}
	return text, atts
}
