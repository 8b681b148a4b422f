package rawjson_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/seed-0b620db0/patchbay/pkg/adapter/internal/rawjson"
)

func TestPlain(t *testing.T) {
	const filler = "abcdefgh~\x7f\x80\xff é#![] xyz"
	for c := range 256 {
		for at := range 20 {
			s := []byte(filler[:at] + string([]byte{byte(c)}) + filler)
			want := at
			if c >= 0x20 && c != '"' && c != '\\' {
				want = len(s)
			}
			if got := rawjson.Plain(s); got != want {
				t.Fatalf("%q: %d, want %d", s, got, want)
			}
		}
	}
}

// replaced has what TextDecoder makes of bytes, in hex, that are not UTF-8.
var replaced = map[string]string{
	"ff": "?", "80": "?", "c3": "?", "c328": "?(", "c0af": "??", "e282": "?", "e28241": "?A", "e2": "?", "e241": "?A", "eda080": "???", "eda080edb080": "??????",
	"f09f91": "?", "f09f9141": "?A", "f09f": "?", "f4908080": "????", "f08080af": "????", "f5808080": "????", "fe": "?", "61ff62": "a?b", "e0809f": "???", "e0a0": "?",
	"c2e282acff": "?€?", "f09f91f09f918b": "?👋", "efbbbf61": "\ufeffa", "ed9f": "?", "f0908f": "?",
}

func TestReplacement(t *testing.T) {
	for in, want := range replaced {
		b, err := hex.DecodeString(in)
		if err != nil {
			t.Fatal(err)
		}
		want = strings.ReplaceAll(want, "?", "\ufffd")
		if got := rawjson.Text(b); got != want {
			t.Errorf("%s: %q, want %q", in, got, want)
		}
		if got := rawjson.AppendQuoted(nil, b); string(got) != `"`+want+`"` {
			t.Errorf("%s: %q, want %q", in, got, want)
		}
		if got := rawjson.AppendUnquoted(nil, b); string(got) != want {
			t.Errorf("%s: %q, want %q", in, got, want)
		}
	}
}

func TestDepth(t *testing.T) {
	for _, s := range []string{"[[]]", `{"a":{}}`, `[{"a":1}]`} {
		if _, err := rawjson.Check([]byte(s), 2); err != nil {
			t.Errorf("%s: %v", s, err)
		}
		if _, err := rawjson.Check([]byte(s), 1); !errors.Is(err, rawjson.ErrDepth) {
			t.Errorf("%s: %v", s, err)
		}
	}
}

// FuzzCheck: what is valid is so for encoding/json too, and what is not is not.
func FuzzCheck(f *testing.F) {
	for _, s := range []string{
		"", "null", "true", "false", "0", "-0", "01", "-", "1.", "1.5e+10", "1E-2", "1e", ".5", "+1", `"a\u00e9\ud83d\udc4b\n"`, `"\x"`, `"\u12"`, "\"\n\"", `"`, "[]", "[1,2 ]", "[1,]", "[,1]",
		"{}", `{"a":1, "b" : [ {} ] }`, `{"a"}`, `{"a":1,}`, `{1:2}`, " [ ] ", "[]]", "[}", "nul", "truex", "\ufeff1", "\x00", "0\x00", "\"\xff\"", strings.Repeat("[", 30),
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		const depth = 20
		spaced, err := rawjson.Check(src, depth)
		if errors.Is(err, rawjson.ErrDepth) {
			if bytes.Count(src, []byte{'['})+bytes.Count(src, []byte{'{'}) <= depth {
				t.Fatalf("%q: %v", src, err)
			}
			return
		}
		if (err == nil) != json.Valid(src) {
			t.Fatalf("%q: %v", src, err)
		}
		if err != nil {
			return
		}
		var buf bytes.Buffer
		if err := json.Compact(&buf, src); err != nil || spaced == bytes.Equal(buf.Bytes(), src) {
			t.Fatalf("%q spaced: %v, %v", src, spaced, err)
		}
		i := rawjson.Space(src, 0)
		if _, integer, err := rawjson.Number(src, i); src[i] == '-' || src[i]-'0' <= 9 {
			if err != nil || integer == bytes.ContainsAny(src, ".eE") {
				t.Fatalf("%q integer: %v, %v", src, integer, err)
			}
		}
		end, escaped, err := rawjson.String(src, i)
		if (err == nil) != (src[i] == '"') {
			t.Fatalf("%q string: %v", src, err)
		}
		if err == nil && utf8.Valid(src) {
			var want string
			if err := json.Unmarshal(src, &want); err != nil {
				t.Fatal(err)
			}
			got := rawjson.AppendUnquoted(nil, src[i+1:end-1])
			if string(got) != want || escaped != bytes.ContainsRune(src, '\\') {
				t.Fatalf("%q became %q", src, got)
			}
		}
	})
}

// FuzzText: any text comes back, with what is not UTF-8 replaced as in a Go string that is ranged over, but less often.
func FuzzText(f *testing.F) {
	f.Add([]byte("a\x00\x1f\"\\/\b\f\n\r\t\u2028<é👋\ufffd"))
	for in := range replaced {
		b, err := hex.DecodeString(in)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, s []byte) {
		want := rawjson.Text(s)
		if utf8.Valid(s) != (want == string(s)) || !utf8.ValidString(want) {
			t.Fatalf("%q became %q", s, want)
		}
		squeeze := func(s string) string {
			for strings.Contains(s, "\ufffd\ufffd") {
				s = strings.ReplaceAll(s, "\ufffd\ufffd", "\ufffd")
			}
			return s
		}
		if squeeze(want) != squeeze(strings.ToValidUTF8(string(s), "\ufffd")) {
			t.Fatalf("%q became %q", s, want)
		}
		quoted := rawjson.AppendQuoted([]byte("x"), s)[1:]
		var got string
		if err := json.Unmarshal(quoted, &got); err != nil || got != want {
			t.Fatalf("%q became %s, %v", s, quoted, err)
		}
		if back := rawjson.AppendUnquoted(nil, quoted[1:len(quoted)-1]); string(back) != want {
			t.Fatalf("%q became %q", s, back)
		}
	})
}
