package sioproto_test

import (
	"encoding/json"
	"errors"
	"math"
	"net"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/seed-0b620db0/patchbay/pkg/sio/sioproto"
)

type inner struct {
	Data []byte `json:"data,omitempty"`
}

type bytesMarshaler []byte

func (bytesMarshaler) MarshalJSON() ([]byte, error) { return []byte(`"own"`), nil }

type pointerMarshaler struct{ Data []byte }

func (*pointerMarshaler) MarshalJSON() ([]byte, error) { return []byte("\"\xff\""), nil }

type recursive struct {
	Data []byte     `json:"data"`
	Next *recursive `json:"next,omitempty"`
}

func TestAppendArgs(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 6_789_000, time.FixedZone("", 3600))
	shared := []byte{7}
	type row struct {
		values []any
		want   string
		atts   [][]byte
	}
	for name, c := range map[string]row{
		"none":                 {nil, `[]`, nil},
		"nil":                  {[]any{nil, []byte(nil), []any(nil), map[string]any(nil), []string(nil), json.RawMessage(nil), sioproto.Raw{}, (*sioproto.Raw)(nil), (*int)(nil)}, `[null,null,null,null,null,null,null,null,null]`, nil},
		"integers":             {[]any{int8(-128), int16(-1), int32(1), int64(math.MinInt64), uint8(255), uint16(1), uint32(1), uint64(math.MaxUint64), uint(1)}, `[-128,-1,1,-9223372036854775808,255,1,1,18446744073709551615,1]`, nil},
		"float32":              {[]any{float32(0.1), float32(1e-7), float32(1e21), float32(1e20), float32(math.Inf(1))}, `[0.1,1e-7,1e+21,100000000000000000000,null]`, nil},
		"strings":              {[]any{[]string{"a", "<"}, "\xff\xc3", ""}, `[["a","<"],"��",""]`, nil},
		"sorted keys":          {[]any{map[string]any{"b": 1, "a": map[string]any{"\n": 2}, "": 3}}, `[{"":3,"a":{"\n":2},"b":1}]`, nil},
		"raw message":          {[]any{json.RawMessage(` { "a" : "<b> " } `), map[string]any{"x": json.RawMessage(`[1, 2]`)}}, `[{"a":"<b> "},{"x":[1,2]}]`, nil},
		"marshalers":           {[]any{marshaler{}, net.IPv4(1, 2, 3, 4), netip.MustParseAddr("::1"), bytesMarshaler{1}, map[string]any{"a": bytesMarshaler{1}}}, `[{"b":1},"1.2.3.4","::1","own",{"a":"own"}]`, nil},
		"pointer marshaler":    {[]any{&pointerMarshaler{}, []pointerMarshaler{{[]byte{1}}}}, `["` + "\ufffd" + `",["` + "\ufffd" + `"]]`, nil},
		"separators in struct": {[]any{tagged{Name: "<\u2028\u2029\\u2028\xff>"}}, `[{"name":"<` + "\u2028\u2029" + `\\u2028` + "\ufffd" + `>","n":0,"tags":null}]`, nil},
		"time":                 {[]any{at, []any{at}, map[string]any{"t": at}, struct{ T any }{at}, time.Date(300000, 1, 1, 0, 0, 0, 0, time.UTC)}, `["2026-01-02T02:04:05.006Z",["2026-01-02T02:04:05.006Z"],{"t":"2026-01-02T02:04:05.006Z"},{"T":"2026-01-02T02:04:05.006Z"},null]`, nil},
		"NaN in any":           {[]any{struct{ F any }{nan}, []any{negativeZero}}, `[{"F":null},[0]]`, nil},
		"not nil in any":       {[]any{struct{ E error }{}, struct{ A any }{}}, `[{"E":null},{"A":null}]`, nil},

		"bytes":            {[]any{[]byte{1}, blob{2}, new([]byte{3}), []blob{{4}, nil}, [1]blob{{5}}}, `[` + ph(0) + `,` + ph(1) + `,` + ph(2) + `,[` + ph(3) + `,null],[` + ph(4) + `]]`, [][]byte{{1}, {2}, {3}, {4}, {5}}},
		"maps":             {[]any{map[int]blob{2: {2}, 1: {1}}, map[string]any{"z": []byte{4}, "a": []byte{3}}}, `[{"1":` + ph(0) + `,"2":` + ph(1) + `},{"a":` + ph(2) + `,"z":` + ph(3) + `}]`, [][]byte{{1}, {2}, {3}, {4}}},
		"embedded":         {[]any{struct{ inner }{inner{[]byte{1}}}, struct{ *inner }{}, struct{ inner }{}}, `[{"data":` + ph(0) + `},{},{}]`, [][]byte{{1}}},
		"empty, omitempty": {[]any{inner{[]byte{}}, recursive{Data: []byte{}}}, `[{},{"data":` + ph(0) + `}]`, [][]byte{{}}},
		"hidden fields": {[]any{struct {
			A []byte `json:"-"`
			b []byte
			C []byte
		}{[]byte{1}, []byte{2}, []byte{3}}}, `[{"C":` + ph(0) + `}]`, [][]byte{{3}}},
		"interfaces":          {[]any{struct{ A, B any }{[]byte{1}, map[string]any{"x": []any{blob{2}, 1.5, "s"}}}}, `[{"A":` + ph(0) + `,"B":{"x":[` + ph(1) + `,1.5,"s"]}}]`, [][]byte{{1}, {2}}},
		"recursive":           {[]any{&recursive{[]byte{1}, &recursive{Data: []byte{2}}}}, `[{"data":` + ph(0) + `,"next":{"data":` + ph(1) + `}}]`, [][]byte{{1}, {2}}},
		"same twice":          {[]any{shared, []any{shared}}, `[` + ph(0) + `,[` + ph(1) + `]]`, [][]byte{{7}, {7}}},
		"array of uint8":      {[]any{[2]byte{1, 2}, []byte{1}}, `[[1,2],` + ph(0) + `]`, [][]byte{{1}}},
		"not quite a trigger": {[]any{map[string]any{"_placeholder": false, "num": 0}, map[string]any{"_placeholder": "true"}, "_placeholder", []byte{1}}, `[{"_placeholder":false,"num":0},{"_placeholder":"true"},"_placeholder",` + ph(0) + `]`, [][]byte{{1}}},

		"raw renumbered":       {[]any{[]byte{9}, sioproto.Raw{JSON: []byte(`[` + ph(1) + `,` + ph(0) + `, ` + ph(1) + `]`), Attachments: [][]byte{{1}, {2}, {3}}}}, `[` + ph(0) + `,[` + ph(1) + `,` + ph(2) + `,` + ph(1) + `]]`, [][]byte{{9}, {2}, {1}}},
		"raw pointer":          {[]any{&sioproto.Raw{JSON: []byte(ph(0)), Attachments: [][]byte{{1}}}}, `[` + ph(0) + `]`, [][]byte{{1}}},
		"raw in struct":        {[]any{[]byte{9}, struct{ R sioproto.Raw }{sioproto.Raw{JSON: []byte(`[` + ph(1) + `,` + ph(1) + `]`), Attachments: [][]byte{{1}, {2}}}}}, `[` + ph(0) + `,{"R":[` + ph(1) + `,` + ph(1) + `]}]`, [][]byte{{9}, {2}}},
		"raw in map":           {[]any{map[string]*sioproto.Raw{"r": {JSON: []byte(ph(0)), Attachments: [][]byte{{1}}}}}, `[{"r":` + ph(0) + `}]`, [][]byte{{1}}},
		"raw, lone look-alike": {[]any{sioproto.Raw{JSON: []byte(ph(0))}, map[string]any{"_placeholder": true}}, `[` + ph(0) + `,{"_placeholder":true}]`, nil},
		"raw, unused":          {[]any{sioproto.Raw{JSON: []byte(`1`), Attachments: [][]byte{{1}}}}, `[1]`, nil},
		"raw, keys disappear":  {[]any{sioproto.Raw{JSON: []byte(`{"x":` + ph(0) + `,"_placeholder":true,"num":0}`), Attachments: [][]byte{{1}}}}, `[` + ph(0) + `]`, [][]byte{{1}}},
	} {
		t.Run(name, func(t *testing.T) {
			got, atts, err := sioproto.AppendArgs([]byte("x"), nil, c.values...)
			if err != nil || string(got) != "x"+c.want || !reflect.DeepEqual(atts, c.atts) {
				t.Errorf("got  %s %v, %v\nwant x%s %v", got, atts, err, c.want, c.atts)
			}
		})
	}
}

func ph(n int) string { return strings.Replace(placeholder0, "0", string(rune('0'+n)), 1) }

func TestAppendArgsLeavesValuesAlone(t *testing.T) {
	type deep struct {
		M map[string][]byte
		S []blob
		A any
		P *recursive
		R sioproto.Raw
	}
	value := func() deep {
		return deep{
			map[string][]byte{"a": {1}},
			[]blob{{2}},
			[]any{[]byte{3}},
			&recursive{Data: []byte{4}, Next: &recursive{Data: []byte{5}}},
			sioproto.Raw{JSON: []byte(placeholder0), Attachments: [][]byte{{6}}},
		}
	}
	v := value()
	_, atts, err := sioproto.AppendArgs(nil, nil, v, &v)
	if err != nil || len(atts) != 12 {
		t.Fatal(atts, err)
	}
	if !reflect.DeepEqual(v, value()) {
		t.Errorf("changed to %+v", v)
	}
	if &atts[4][0] != &v.P.Next.Data[0] {
		t.Error("the attachment was copied")
	}
}

func TestAppendArgsAttachmentsGiven(t *testing.T) {
	given := [][]byte{{1}}
	got, atts, err := sioproto.AppendEvent(nil, given, "e", []byte{2})
	if err != nil || string(got) != `["e",`+placeholder1+`]` || len(atts) != 2 {
		t.Fatalf("%s %v %v", got, atts, err)
	}
	if _, _, err := sioproto.AppendEvent(nil, given, "e", sioproto.Raw{JSON: []byte(placeholder0)}); !errors.Is(err, sioproto.ErrPlaceholder) {
		t.Error(err)
	}
}

func TestAppendErrors(t *testing.T) {
	ring := &recursive{Data: []byte{1}}
	ring.Next = ring
	slice := make([]any, 1)
	slice[0] = slice
	object := map[string]any{}
	object["a"] = object
	var pointer any
	pointer = &pointer
	held := &struct{ A any }{}
	held.A = held
	_, _, err := sioproto.AppendArgs(nil, nil, func() {})
	if _, ok := errors.AsType[*json.UnsupportedTypeError](err); !ok {
		t.Error(err)
	}
	for name, c := range map[string]struct {
		want   error // nil for any
		values []any
	}{
		"ring":              {sioproto.ErrDepth, []any{ring}},
		"slice of itself":   {sioproto.ErrDepth, []any{slice}},
		"map of itself":     {sioproto.ErrDepth, []any{object}},
		"pointer to itself": {sioproto.ErrDepth, []any{pointer}},
		"held by itself":    {sioproto.ErrDepth, []any{held}},
		"NaN in struct":     {nil, []any{struct{ F float64 }{nan}}},
		"channel":           {nil, []any{1, []any{make(chan int)}}},
		"embedded pointer":  {nil, []any{struct{ *inner }{&inner{[]byte{1}}}}},
		"bad raw message":   {nil, []any{json.RawMessage(`{`)}},
		"empty raw message": {nil, []any{json.RawMessage{}}},
		"two values":        {nil, []any{json.RawMessage(`1,2`)}},
		"raw not UTF-8":     {nil, []any{sioproto.Raw{JSON: []byte("\"\xff\"")}}},
		"raw out of range":  {sioproto.ErrIllegalAttachments, []any{sioproto.Raw{JSON: []byte(placeholder1), Attachments: [][]byte{{1}}}}},
		"raw in struct":     {sioproto.ErrIllegalAttachments, []any{struct{ R sioproto.Raw }{sioproto.Raw{JSON: []byte(placeholder1), Attachments: [][]byte{{1}}}}}},

		"look-alike in map":       {sioproto.ErrPlaceholder, []any{[]byte{1}, map[string]any{"_placeholder": true}}},
		"look-alike in map[bool]": {sioproto.ErrPlaceholder, []any{map[string]bool{"_placeholder": true}, []byte{1}}},
		"look-alike raw":          {sioproto.ErrPlaceholder, []any{sioproto.Raw{JSON: []byte(placeholder0)}, []byte{1}}},
		"look-alike escaped":      {sioproto.ErrPlaceholder, []any{json.RawMessage(`[{"x":1,"\u005fplaceholder":true}]`), []byte{1}}},
		"look-alike around":       {sioproto.ErrPlaceholder, []any{map[string]any{"_placeholder": true, "num": 0, "x": []byte{1}}}},
		"look-alike in struct":    {sioproto.ErrPlaceholder, []any{[]byte{1}, struct{ R sioproto.Raw }{sioproto.Raw{JSON: []byte(placeholder0)}}}},
	} {
		t.Run(name, func(t *testing.T) {
			got, atts, err := sioproto.AppendArgs([]byte("x"), [][]byte{}, c.values...)
			if err == nil || c.want != nil && !errors.Is(err, c.want) {
				t.Errorf("error %v, want %v", err, c.want)
			}
			if string(got) != "x" || len(atts) != 0 {
				t.Errorf("returned %s %v", got, atts)
			}
			if err != nil && strings.Count(err.Error(), "sioproto: ") != 1 {
				t.Errorf("text %q", err)
			}
		})
	}
	for _, name := range []string{"connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"} {
		if _, _, err := sioproto.AppendEvent(nil, nil, name); !errors.Is(err, sioproto.ErrReserved) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
