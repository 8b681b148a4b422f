package sioproto_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/seed-0b620db0/patchbay/pkg/sio/sioproto"
)

func TestEventName(t *testing.T) {
	for payload, want := range map[string]string{
		`["a"]`: "a", `["",1]`: "", `["a\"],b",1]`: `a"],b`, `["\u0061\ud83d\ude00"]`: "a😀", `["\ud800"]`: "\ufffd", `["\u0000"]`: "\x00",
		`[1]`: "1", `[-1.50,"a"]`: "-1.5", `[1e21]`: "1e+21", `[1e3]`: "1000", `[-0]`: "0", `[1e400]`: "1e400",
	} {
		if got, err := sioproto.EventName([]byte(payload)); got != want || err != nil {
			t.Errorf("%s: %q, %v; want %q", payload, got, err, want)
		}
	}
	for _, payload := range []string{``, `[]`, `{}`, `"a"`, `[null]`, `[[1]]`, `["a`, `["a]`, `[,]`} {
		if got, err := sioproto.EventName([]byte(payload)); err == nil {
			t.Errorf("%s: %q, want an error", payload, got)
		}
	}
}

func TestSplit(t *testing.T) {
	for payload, want := range map[string][]string{
		`[]`:                               {},
		`[1]`:                              {`1`},
		`["a,]",[1,[2]],{"b":[3,4]},null]`: {`"a,]"`, `[1,[2]]`, `{"b":[3,4]}`, `null`},
		`["\\",""]`:                        {`"\\"`, `""`},
	} {
		got, err := sioproto.Split([]byte(payload))
		if err != nil || fmt.Sprintf("%s", got) != fmt.Sprint(want) {
			t.Errorf("%s: %s, %v", payload, got, err)
		}
		n := 0
		for i, e := range sioproto.Elements([]byte(payload)) {
			if i != n || string(e) != want[i] {
				t.Errorf("%s: element %d is %s", payload, i, e)
			}
			n++
		}
		if n != len(want) {
			t.Errorf("%s: %d elements", payload, n)
		}
	}
	if _, err := sioproto.Split([]byte(`{}`)); !errors.Is(err, sioproto.ErrPayload) {
		t.Error(err)
	}
	for range sioproto.Elements(nil) {
		t.Error("an element of nothing")
	}
}

func TestDecodeArgs(t *testing.T) {
	payload := []byte(`["name","a\n😀",true,-42,1.5,{"x":[1,"y"]},null,"untouched"]`)
	var (
		s    string
		b    bool
		n    int64
		f    float64
		v    any
		p    = new(1)
		more = "more"
		gone = "as it was"
	)
	if err := sioproto.DecodeEvent(payload, nil, &s, &b, &n, &f, &v, &p, nil, &gone, &more); err != nil {
		t.Fatal(err)
	}
	if s != "a\n😀" || !b || n != -42 || f != 1.5 || p != nil || gone != "as it was" || more != "more" {
		t.Error(s, b, n, f, p, gone, more)
	}
	if want := map[string]any{"x": []any{1.0, "y"}}; !reflect.DeepEqual(v, want) {
		t.Error(v)
	}
	var name string
	if err := sioproto.DecodeArgs(payload, nil, &name); err != nil || name != "name" {
		t.Error(name, err)
	}
	if err := sioproto.DecodeArgs(nil, nil, &name); err != nil || name != "name" {
		t.Error(name, err)
	}
}

// TestDecodeAsEncodingJSON holds the fast paths to what encoding/json does.
func TestDecodeAsEncodingJSON(t *testing.T) {
	texts := []string{
		`""`, `"a"`, `"\ud800"`, `"a\u0000"`, "\"\xff\"", `"a`, `"`, `"a"b"`, "\"a\x01\"", `null`, `true`, `false`, `tru`, `[]`, `{}`, `[1,"2"]`, `{"a":1}`, ``,
		`0`, `-0`, `1`, `-1`, `01`, `-01`, `+1`, `1_0`, `1.5`, `1e2`, `9007199254740993`, `-9007199254740993`, `9223372036854775807`, `9223372036854775808`, `-9223372036854775808`, `-`, `--1`, `0x1`,
	}
	for _, text := range texts {
		for _, zero := range []any{"", false, 0, int8(0), int64(0), uint(0), 0.0, float32(0), []byte(nil), json.RawMessage(nil), map[string]any(nil), [2]any{}, struct{ A int }{}} {
			want, got := reflect.New(reflect.TypeOf(zero)), reflect.New(reflect.TypeOf(zero))
			wantErr := json.Unmarshal([]byte(text), want.Interface())
			gotErr := sioproto.Raw{JSON: []byte(text)}.Decode(got.Interface())
			if (gotErr == nil) != (wantErr == nil) || !reflect.DeepEqual(got.Interface(), want.Interface()) {
				t.Errorf("%s into %T: %v, %v; want %v, %v", text, zero, got.Elem(), gotErr, want.Elem(), wantErr)
			}
		}
	}
}

func TestDecodeAttachments(t *testing.T) {
	atts := [][]byte{{1}, {2}, {}, {4}}
	payload := []byte(`["e",` + ph(0) + `,{"name":"f","data":` + ph(1) + `,"parts":[` + ph(2) + `,` + ph(0) + `],"meta":{"k":` + ph(3) + `},"next":{"data":` + ph(1) + `}},[1,` + ph(0) + `,{"x":` + ph(2) + `}]]`)

	var data []byte
	var f file
	var list any
	if err := sioproto.DecodeEvent(payload, atts, &data, &f, &list); err != nil {
		t.Fatal(err)
	}
	if want := (file{"f", []byte{2}, []blob{{}, {1}}, map[string][]byte{"k": {4}}, &file{Data: []byte{2}}}); !reflect.DeepEqual(f, want) {
		t.Errorf("%+v", f)
	}
	if want := []any{1.0, []byte{1}, map[string]any{"x": []byte{}}}; !reflect.DeepEqual(list, want) {
		t.Errorf("%v", list)
	}
	if &data[0] != &atts[0][0] || &f.Data[0] != &atts[1][0] {
		t.Error("an attachment was copied")
	}

	var (
		named blob
		held  struct {
			inner
			Name  *string
			Parts [2]any
			Raw   sioproto.Raw
			Text  json.RawMessage
		}
		typed  map[string]*[]byte
		ptr    *[]byte
		anyPtr any = &inner{}
	)
	for _, c := range []struct {
		json      string
		dst, want any
	}{
		{ph(0), &named, new(blob{1})},
		{ph(1), &ptr, new(new([]byte{2}))},
		{`{"data":` + ph(3) + `}`, &anyPtr, new(any(&inner{[]byte{4}}))},
		{`{"k":` + ph(0) + `}`, &typed, new(map[string]*[]byte{"k": new([]byte{1})})},
		{`{"a":` + ph(0) + `}`, new(any), new(any(map[string]any{"a": []byte{1}}))},
		{ph(0), new(any), new(any([]byte{1}))},
		{`"text"`, new(any), new(any("text"))},
		{`[` + ph(1) + `,"x"]`, new(json.RawMessage), new(json.RawMessage(`[` + ph(1) + `,"x"]`))},
		{`[` + ph(1) + `]`, new(sioproto.Raw), &sioproto.Raw{JSON: []byte(`[` + ph(1) + `]`), Attachments: atts}},
		{`["x"]`, new(sioproto.Raw), &sioproto.Raw{JSON: []byte(`["x"]`)}},
		{`[` + ph(1) + `,"x",` + ph(1) + `]`, new([]sioproto.Raw), &[]sioproto.Raw{{JSON: []byte(ph(0)), Attachments: [][]byte{{2}}}, {JSON: []byte(`"x"`)}, {JSON: []byte(ph(0)), Attachments: [][]byte{{2}}}}},
		{
			`{"data":` + ph(0) + `,"Name":"n","Parts":[` + ph(1) + `,2],"Raw":{"a":` + ph(3) + `},"Text":` + ph(3) + `}`, &held,
			&struct {
				inner
				Name  *string
				Parts [2]any
				Raw   sioproto.Raw
				Text  json.RawMessage
			}{inner{[]byte{1}}, new("n"), [2]any{[]byte{2}, 2.0}, sioproto.Raw{JSON: []byte(`{"a":` + ph(0) + `}`), Attachments: [][]byte{{4}}}, json.RawMessage(ph(3))},
		},
	} {
		if err := (sioproto.Raw{JSON: []byte(c.json), Attachments: atts}).Decode(c.dst); err != nil || !reflect.DeepEqual(c.dst, c.want) {
			t.Errorf("%s: %+v, %v; want %+v", c.json, reflect.ValueOf(c.dst).Elem(), err, reflect.ValueOf(c.want).Elem())
		}
	}
}

func TestDecodeErrors(t *testing.T) {
	atts := [][]byte{{1}}
	for _, c := range []struct {
		payload string
		dst     any
	}{
		{`[` + ph(0) + `]`, new(string)},
		{`[` + ph(0) + `]`, new(int)},
		{`[{"name":` + ph(0) + `}]`, new(file)},
		{`[[` + ph(0) + `]]`, new([]string)},
		{`[{"a":` + ph(0) + `}]`, new(map[string]string)},
		{`[` + ph(1) + `]`, new(any)},
		{`[` + ph(1) + `]`, new([]byte)},
		{`[{"_placeholder":true}]`, new(any)},
		{`[x]`, new(any)},
		{`["a]`, new(string)},
		{`[1]`, new(string)},
		{`{}`, new(any)},
		{`[1]`, 7},
	} {
		err := sioproto.DecodeArgs([]byte(c.payload), atts, c.dst)
		if err == nil || strings.Count(err.Error(), "sioproto: ") != 1 {
			t.Errorf("%s into %T: %v", c.payload, c.dst, err)
		}
	}
	err := sioproto.DecodeEvent([]byte(`["e",1,"x"]`), nil, new(int), new(int))
	if want := "sioproto: decode argument 2: "; err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("%v, want %q", err, want)
	}
	ring := &recursive{}
	ring.Next = ring
	if err := (sioproto.Raw{JSON: []byte(`{"data":` + ph(0) + `}`), Attachments: atts}).Decode(ring); !errors.Is(err, sioproto.ErrDepth) {
		t.Errorf("%v, want %v", err, sioproto.ErrDepth)
	}
}

// TestPlainLookAlike: without attachments a placeholder is an object like any other, and goes on as such.
func TestPlainLookAlike(t *testing.T) {
	p, err := sioproto.NewDecoder(sioproto.Limits{}).Add([]byte(`2["e",`+ph(7)+`]`), false)
	if err != nil {
		t.Fatal(err)
	}
	var v any
	var r sioproto.Raw
	if err := sioproto.DecodeEvent(p.Payload, p.Attachments, &v); err != nil {
		t.Fatal(err)
	}
	if want := map[string]any{"_placeholder": true, "num": 7.0}; !reflect.DeepEqual(v, want) {
		t.Error(v)
	}
	if err := sioproto.DecodeEvent(p.Payload, p.Attachments, &r); err != nil {
		t.Fatal(err)
	}
	for _, value := range []any{v, r} {
		got, atts, err := sioproto.AppendEvent(nil, nil, "e", value)
		if err != nil || atts != nil || string(got) != string(p.Payload) {
			t.Errorf("%s %v %v", got, atts, err)
		}
	}
}

func TestRawJSON(t *testing.T) {
	got, err := json.Marshal([]sioproto.Raw{{}, {JSON: []byte(`1`)}})
	if err != nil || string(got) != `[null,1]` {
		t.Errorf("%s, %v", got, err)
	}
	if _, err := json.Marshal(sioproto.Raw{JSON: []byte(`1`), Attachments: [][]byte{{1}}}); err == nil {
		t.Error("attachments were lost")
	}
}

func TestDecodeKeepsWhatIsNotThere(t *testing.T) {
	kept := sioproto.Raw{JSON: []byte(ph(0)), Attachments: [][]byte{{9}}}
	v := struct {
		Kept sioproto.Raw
		New  sioproto.Raw
	}{Kept: kept}
	if err := (sioproto.Raw{JSON: []byte(`{"New":` + ph(0) + `}`), Attachments: [][]byte{{1}}}).Decode(&v); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(v.Kept, kept) || v.New.Attachments[0][0] != 1 {
		t.Errorf("%+v", v)
	}
}
