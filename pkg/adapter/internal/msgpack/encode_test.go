package msgpack_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/seed-0b620db0/patchbay/pkg/adapter/internal/msgpack"
	"github.com/seed-0b620db0/patchbay/pkg/adapter/internal/rawjson"
	"github.com/seed-0b620db0/patchbay/pkg/sio/sioproto"
)

func nested(depth int) string {
	return strings.Repeat("[", depth) + strings.Repeat("]", depth)
}

func TestAppendJSONErrors(t *testing.T) {
	att := [][]byte{{1}}
	for _, c := range []struct {
		text string
		atts [][]byte
		want error
	}{
		{"", nil, rawjson.ErrSyntax},
		{"nul", nil, rawjson.ErrSyntax},
		{"[1,]", nil, rawjson.ErrSyntax},
		{"[1", nil, rawjson.ErrSyntax},
		{"[1 2]", nil, rawjson.ErrSyntax},
		{"{1:2}", nil, rawjson.ErrSyntax},
		{`{"a" 1}`, nil, rawjson.ErrSyntax},
		{`{"a":}`, nil, rawjson.ErrSyntax},
		{`{"a":1,}`, nil, rawjson.ErrSyntax},
		{`{"a":1]`, nil, rawjson.ErrSyntax},
		{`"a`, nil, rawjson.ErrSyntax},
		{`"\x"`, nil, rawjson.ErrSyntax},
		{"\"\n\"", nil, rawjson.ErrSyntax},
		{"01", nil, rawjson.ErrSyntax},
		{"1.", nil, rawjson.ErrSyntax},
		{"1 2", nil, rawjson.ErrSyntax},
		{"[]]", nil, rawjson.ErrSyntax},
		{"\x00", nil, rawjson.ErrSyntax},
		{"0\x00", nil, rawjson.ErrSyntax},
		{nested(msgpack.MaxDepth), nil, nil},
		{nested(msgpack.MaxDepth + 1), nil, sioproto.ErrDepth},
		{strings.Repeat(`{"a":`, msgpack.MaxDepth+1), nil, sioproto.ErrDepth},
		{`{"_placeholder":true,"num":1}`, att, sioproto.ErrIllegalAttachments},
		{`{"_placeholder":true,"num":-1}`, att, sioproto.ErrIllegalAttachments},
		{`{"_placeholder":true,"num":0.5}`, att, sioproto.ErrIllegalAttachments},
		{`{"_placeholder":true,"num":"0"}`, att, sioproto.ErrIllegalAttachments},
		{`{"_placeholder":true,"num":1e400}`, att, sioproto.ErrIllegalAttachments},
		{`{"_placeholder":true,"num":18446744073709551616}`, att, sioproto.ErrIllegalAttachments},
		{`{"_placeholder":true}`, att, sioproto.ErrIllegalAttachments},
		{`{"_placeholder":true,"num":0,"num":1}`, att, sioproto.ErrIllegalAttachments},
		{`{"_placeholder":true,"num":0,"x":{"_placeholder":true,"num":9}}`, att, sioproto.ErrIllegalAttachments},
		{`{"_placeholder":true,"num":01}`, att, rawjson.ErrSyntax},
		{`{"_placeholder":true,"num":0`, att, rawjson.ErrSyntax},
	} {
		got, err := msgpack.AppendJSON([]byte("x"), []byte(c.text), c.atts)
		if !errors.Is(err, c.want) || c.want != nil && string(got) != "x" {
			t.Errorf("%.60s: %q, %v, want %v", c.text, got, err, c.want)
		}
	}
}

// A short text may name a long attachment many times.
func TestRepeatedAttachment(t *testing.T) {
	const one = `{"_placeholder":true,"num":0}`
	atts := [][]byte{make([]byte, 1000)}
	for n, ok := range map[int]bool{1: true, 16: true, 17: false, 10000: false} {
		_, err := msgpack.AppendJSON(nil, []byte("["+strings.Repeat(one+",", n-1)+one+"]"), atts)
		if ok != (err == nil) {
			t.Errorf("%d times: %v", n, err)
		}
	}
}

// Headers grow when what follows them turns out longer, at every level.
func TestNestedHeaders(t *testing.T) {
	text := "1"
	for range 20 {
		text = `[{"a":1,"b":"` + strings.Repeat(`\n`, 40) + `","c":` + text + `},` + strings.Repeat("[],", 16) + "0]"
	}
	b, err := msgpack.AppendJSON(nil, []byte(text), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := decode(t, b); string(got) != text {
		t.Errorf("%s became %s", text, got)
	}
}

func TestPrimitives(t *testing.T) {
	b := msgpack.AppendMapHeader(nil, 6)
	b = msgpack.AppendInt(msgpack.AppendString(b, "int"), -129)
	b = msgpack.AppendUint(msgpack.AppendString(b, "uint"), 1<<63)
	b = msgpack.AppendFloat(msgpack.AppendString(b, "float"), 1.5)
	b = msgpack.AppendBin(msgpack.AppendString(b, "bin"), []byte{1})
	b = msgpack.AppendBool(msgpack.AppendString(b, "bool"), true)
	b = msgpack.AppendNil(msgpack.AppendArrayHeader(msgpack.AppendString(b, "list"), 1))
	got, _ := decode(t, b)
	const want = `{"int":-129,"uint":9223372036854775808,"float":1.5,"bin":{"_placeholder":true,"num":0},"bool":true,"list":[null]}`
	if string(got) != want {
		t.Errorf("%s, want %s", got, want)
	}
}
