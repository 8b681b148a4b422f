package msgpack_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"testing"
	"time"
	"unicode/utf8"

	oracle "github.com/vmihailenco/msgpack/v5"

	"github.com/seed-0b620db0/patchbay/pkg/adapter/internal/msgpack"
	"github.com/seed-0b620db0/patchbay/pkg/sio/sioproto"
)

// FuzzDecode: whatever comes, what is decoded is canonical JSON with its placeholders in range, no larger than it may be, and
// encodes to something that decodes to the same. What Skip takes for a value is what was decoded.
func FuzzDecode(f *testing.F) {
	g := loadGolden(f)
	for _, c := range append(g.Decode, g.Old...) {
		f.Add([]byte(c.Hex))
	}
	for _, c := range g.Encode {
		f.Add([]byte(c.Notepack))
	}
	f.Add([]byte("\xca\xdf\x00\x00\x00")) // -1<<63, whose text does not fit an int64
	f.Fuzz(func(t *testing.T, b []byte) {
		c, skipped := msgpack.NewCursor(b), msgpack.NewCursor(b)
		kind := c.Kind()
		text, atts, err := c.AppendJSON(nil, nil)
		value, skipErr := skipped.Value()
		if err != nil {
			if c.Len() != len(b) || text != nil || atts != nil {
				t.Fatal("went on in spite of an error")
			}
			return
		}
		if skipErr != nil || skipped.Len() != c.Len() || len(value)+c.Len() != len(b) || kind == msgpack.End || kind == msgpack.Never {
			t.Fatalf("skipped %d of %d bytes, %d left, %v", len(value), len(b), c.Len(), skipErr)
		}
		if !json.Valid(text) || !utf8.Valid(text) || len(text) > 40*len(b) {
			t.Fatalf("%x became %s", b, text)
		}
		// sioproto refuses placeholders out of range.
		var v any
		err = sioproto.Raw{JSON: text, Attachments: atts}.Decode(&v)
		if _, ok := errors.AsType[*json.UnmarshalTypeError](err); err != nil && !ok {
			t.Fatalf("%s: %v", text, err)
		}
		again, err := msgpack.AppendJSON(nil, text, atts)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if text2, atts2 := decode(t, again); !bytes.Equal(text2, text) || !slices.EqualFunc(atts2, atts, bytes.Equal) {
			t.Fatalf("%s became %s", text, text2)
		}
		checkOracle(t, value, text, atts)
	})
}

// checkOracle compares with another decoder, where that gives a tree.
func checkOracle(t *testing.T, value, text []byte, atts [][]byte) {
	t.Helper()
	if bytes.ContainsAny(value, "\xc7\xc8\xc9\xd4\xd5\xd6\xd7\xd8") || !utf8.Valid(text) {
		return // perhaps an extension: it has other ideas of these
	}
	d := oracle.NewDecoder(bytes.NewReader(value))
	tree, err := d.DecodeInterface()
	if err != nil {
		return // keys of a map that are no strings
	}
	var want any
	if err := (sioproto.Raw{JSON: text, Attachments: atts}).Decode(&want); err != nil {
		return // beyond a float64
	}
	if got := plain(tree); !reflect.DeepEqual(got, want) {
		t.Fatalf("%x is %#v, became %#v", value, got, want)
	}
}

// plain makes of v what encoding/json would have made of it.
func plain(v any) any {
	switch v := v.(type) {
	case []any:
		out := []any{}
		for _, e := range v {
			out = append(out, plain(e))
		}
		return out
	case map[string]any:
		out := map[string]any{}
		for k, e := range v {
			out[valid(k)] = plain(e)
		}
		return out
	case string:
		return valid(v)
	case []byte:
		if v == nil {
			return []byte{}
		}
		return v
	case nil, bool:
		return v
	}
	var f float64
	switch rv := reflect.ValueOf(v); {
	case rv.CanInt():
		f, _ = strconv.ParseFloat(strconv.FormatInt(rv.Int(), 10), 64)
	case rv.CanUint():
		f, _ = strconv.ParseFloat(strconv.FormatUint(rv.Uint(), 10), 64)
	case rv.CanFloat():
		f = rv.Float()
	default:
		panic(fmt.Sprintf("%T", v))
	}
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return nil
	}
	return f + 0 // -0 is 0
}

func valid(s string) string {
	c := msgpack.NewCursor(msgpack.AppendString(nil, s))
	s, _ = c.Text()
	return s
}

// FuzzJSON: JSON comes back as JSON that means the same; what is not JSON is refused.
func FuzzJSON(f *testing.F) {
	for _, c := range loadGolden(f).Encode {
		f.Add([]byte(c.JSON), uint8(len(c.Attachments)))
	}
	f.Fuzz(func(t *testing.T, text []byte, n uint8) {
		var atts [][]byte
		for i := range n % 4 {
			atts = append(atts, []byte{i})
		}
		var want any
		wantErr := sioproto.Raw{JSON: slices.Clip(text), Attachments: atts}.Decode(&want)
		b, err := msgpack.AppendJSON(nil, text, atts)
		if err != nil {
			if wantErr == nil && !errors.Is(err, sioproto.ErrDepth) && utf8.Valid(text) && json.Valid(text) && len(text) < 200 {
				t.Fatalf("%s: %v", text, err)
			}
			return
		}
		if !json.Valid(text) {
			t.Fatalf("%q is no JSON", text)
		}
		back, backAtts := decode(t, b)
		if wantErr != nil || !utf8.Valid(text) {
			return // a number beyond a float64, or what becomes U+FFFD
		}
		var got any
		if err := (sioproto.Raw{JSON: back, Attachments: backAtts}).Decode(&got); err != nil {
			t.Fatalf("%s became %s: %v", text, back, err)
		}
		if !reflect.DeepEqual(got, plain(want)) {
			t.Fatalf("%s became %s", text, back)
		}
		if len(atts) == 0 {
			var tree any
			if err := oracle.Unmarshal(b, &tree); err != nil || !reflect.DeepEqual(plain(tree), got) {
				t.Fatalf("%s is %#v, %v", text, tree, err)
			}
		}
	})
}

// FuzzOracle: what another encoder writes is read as what it was.
func FuzzOracle(f *testing.F) {
	f.Add("a", "k", []byte{1}, 1.5, int64(1), uint64(1), true, int64(0), uint8(3))
	f.Add("\xff", "_placeholder", []byte{}, 1e21, int64(math.MinInt64), uint64(math.MaxUint64), false, int64(1700000000123), uint8(40))
	f.Fuzz(func(t *testing.T, s, key string, bin []byte, fl float64, i int64, u uint64, yes bool, ms int64, n uint8) {
		list := make([]any, n)
		for j := range list {
			list[j] = i + int64(j)
		}
		at := time.UnixMilli(ms % 1e14).UTC()
		b, err := oracle.Marshal([]any{s, map[string]any{key: yes}, fl, float32(fl), i, u, yes, nil, list, at})
		if err != nil {
			t.Fatal(err)
		}
		text, atts := decode(t, b)
		var got []any
		if err := (sioproto.Raw{JSON: text, Attachments: atts}).Decode(&got); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		want := plain([]any{s, map[string]any{key: yes}, fl, float32(fl), i, u, yes, nil, list, at.Format("2006-01-02T15:04:05.000Z")})
		if !reflect.DeepEqual(any(got), want) {
			t.Fatalf("%s, want %v", text, want)
		}
		b, err = oracle.Marshal([]any{key, bin})
		if err != nil {
			t.Fatal(err)
		}
		text, atts = decode(t, b)
		if bin != nil && (len(atts) != 1 || !bytes.Equal(atts[0], bin)) {
			t.Fatalf("%s %x", text, atts)
		}
	})
}
