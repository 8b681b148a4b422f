package postgres_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/vmihailenco/msgpack/v5"

	ours "github.com/seed-0b620db0/patchbay/pkg/adapter/internal/msgpack"
)

// encodeSQL returns what the database makes of a value, and its text there.
func encodeSQL(t testing.TB, conn *pgx.Conn, value string) (encoded []byte, text string) {
	t.Helper()
	err := conn.QueryRow(t.Context(), "SELECT sio_msgpack($1::jsonb), $1::jsonb::text", value).Scan(&encoded, &text)
	if err != nil {
		t.Fatalf("%.200s: %v", value, err)
	}
	return encoded, text
}

// checkSQL compares that with another decoder and, where numbers allow, with our encoder.
func checkSQL(t testing.TB, conn *pgx.Conn, value string) {
	t.Helper()
	got, text := encodeSQL(t, conn, value)
	var decoded, want any
	must(t, msgpack.Unmarshal(got, &decoded))
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	must(t, d.Decode(&want))
	if decoded, want := plain(decoded), plain(want); !reflect.DeepEqual(decoded, want) {
		t.Errorf("%.300s: %x is\n%.300v\nwant\n%.300v", value, got[:min(len(got), 100)], decoded, want)
	}
	b, err := ours.AppendJSON(nil, []byte(text), nil)
	must(t, err)
	if !strings.Contains(text, ".0") && !bytes.Equal(got, b) {
		t.Errorf("%.300s: %x, want %x", value, got[:min(len(got), 100)], b[:min(len(b), 100)])
	}
}

// plain makes text of all numbers, as different types hold them.
func plain(v any) any {
	switch v := v.(type) {
	case []any:
		for i := range v {
			v[i] = plain(v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = plain(v[k])
		}
	case json.Number:
		if n, err := strconv.ParseUint(v.String(), 10, 64); err == nil {
			return plain(n)
		}
		if n, err := strconv.ParseInt(v.String(), 10, 64); err == nil {
			return plain(n)
		}
		f, _ := strconv.ParseFloat(v.String(), 64) // infinite beyond its range
		return plain(f)
	case float64:
		if v == math.Trunc(v) && math.Abs(v) < 1<<53 {
			return plain(int64(v))
		}
		return "float " + strconv.FormatFloat(v, 'g', -1, 64)
	case int8, int16, int32, int64, uint8, uint16, uint32, uint64:
		return fmt.Sprint("number ", v)
	}
	return v
}

func TestSQLMsgpack(t *testing.T) {
	_, conn := startSQL(t)
	values := []string{
		`[]`, `{}`, `[[]]`, `[{}]`, `{"":[]}`, `[null,true,false,"",0]`, `{"a":{"b":{"c":[1,{"d":"e"}]}},"é":"☃😀"}`,
		`["\"\\\/\b\f\n\r\t\u0001\u007f\u2028\ud83d\ude00, : {}"]`, `{"\"\\\n":"x, y: z"}`, `["_placeholder", {"_placeholder":true,"num":0}]`,
	}
	for _, n := range []int{0, 1, 15, 16, 31, 32, 33, 127, 128, 255, 256, 257, 65535, 65536, 65537} {
		s := strings.Repeat("x", n)
		values = append(values, `["`+s+`"]`, `{"`+s+`":1}`)
		if n > 1 {
			values = append(values, `["é`+s[2:]+`"]`, "["+strings.Repeat("0,", n-1)+"[7]]")
		}
		if n <= 257 || n >= 65535 && n <= 65536 {
			var keys []string
			for i := range n {
				keys = append(keys, fmt.Sprintf(`"k%d":%d`, i, i))
			}
			values = append(values, "{"+strings.Join(keys, ",")+"}")
		}
	}
	for _, n := range []string{
		"0", "-0", "1", "-1", "9007199254740991", "9007199254740993", "-9007199254740993", "9223372036854775807", "9223372036854775808",
		"-9223372036854775808", "-9223372036854775809", "18446744073709551615", "18446744073709551616", "1e3", "1.0", "1.50", "-0.0", "0.1", "1e-7", "-2.5e-300",
		"1e22", "1e23", "1.7976931348623157e308", "1.79769313486231580e308", "1e309", "-1e400", "5e-324", "3e-324", "2e-324", "-1e-400", "123456789.123456789123456789",
	} {
		values = append(values, "["+n+"]")
	}
	for bits := range 65 {
		for d := -2; d <= 2; d++ {
			n := new(json.Number)
			*n = json.Number(strconv.FormatUint(uint64(1)<<min(bits, 63)+uint64(d), 10))
			values = append(values, "["+n.String()+"]", "[-"+n.String()+"]")
		}
	}
	values = append(values, strings.Repeat("[", 199)+"1"+strings.Repeat("]", 199), strings.Repeat(`{"a":`, 199)+"1"+strings.Repeat("}", 199))
	for _, v := range values {
		checkSQL(t, conn, v)
	}
}

func TestSQLMsgpackRandom(t *testing.T) {
	_, conn := startSQL(t)
	seed := rand.Uint64()
	t.Log("seed", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	var value func(depth int) any
	value = func(depth int) any {
		switch k := r.IntN(10); {
		case k < 2 && depth > 0:
			list := make([]any, r.IntN(20))
			for i := range list {
				list[i] = value(depth - 1)
			}
			return list
		case k < 4 && depth > 0:
			m := map[string]any{}
			for range r.IntN(20) {
				m[string([]rune{rune(1 + r.IntN(0xd000)), rune(1 + r.IntN(100))})] = value(depth - 1)
			}
			return m
		case k == 4:
			return nil
		case k == 5:
			return r.IntN(2) == 0
		case k == 6:
			return int64(r.Uint64()) >> r.IntN(64)
		case k == 7:
			return math.Ldexp(r.NormFloat64(), r.IntN(2000)-1000)
		default:
			runes := make([]rune, r.IntN(40))
			for i := range runes {
				runes[i] = []rune{'a', ' ', ',', ':', '"', '\\', '\n', 'é', '☃', '😀', rune(1 + r.IntN(0xd000))}[r.IntN(11)]
			}
			return string(runes)
		}
	}
	for range 100 {
		b, err := json.Marshal([]any{value(3), value(3)})
		must(t, err)
		checkSQL(t, conn, string(b))
	}
}

// large are arguments of about a megabyte.
var large = map[string]string{
	"text":    `"` + strings.Repeat("x", 1<<20) + `"`,
	"numbers": "[" + strings.Repeat("12,", 1<<20/3) + "1]",
	"texts":   "[" + strings.Repeat(`"abcdefgh",`, 1<<20/11) + "1]",
	"objects": "[" + strings.Repeat(`{"id":12345,"name":"Ann","tags":["a","b"]},`, 1<<20/43) + "1]",
}

// TestEmitFunctionLarge emits a megabyte of each kind.
func TestEmitFunctionLarge(t *testing.T) {
	s, conn := startSQL(t)
	ear := listen(t, s, "socket.io#/")
	for name, arg := range large {
		start := time.Now()
		do(t, conn, "SELECT sio_emit('/', NULL, 'ev', jsonb_build_array($1::jsonb))", arg)
		took := time.Since(start)
		m, _, row := ear.message("socket.io", "/")
		t.Logf("%s: %d bytes in %v", name, len(row), took)
		if got := string(m.Event.Payload); len(row) < 300<<10 || got != `["ev",`+compact(t, arg)+`]` {
			t.Errorf("%s: row of %d, payload of %d", name, len(row), len(got))
		}
		if took > 20*time.Second {
			t.Errorf("%s took %v", name, took)
		}
	}
}

func BenchmarkEmitFunction(b *testing.B) {
	_, conn := startSQL(b)
	args := map[string]string{"bytes=100": `{"id":12345,"name":"` + strings.Repeat("x", 50) + `"}`, "bytes=7000": `"` + strings.Repeat("x", 7000) + `"`}
	for name, arg := range large {
		args["1MiB="+name] = "[" + arg + "]"
	}
	for name, arg := range args {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				do(b, conn, "SELECT sio_emit('/', NULL, 'ev', $1::jsonb)", arg)
			}
		})
	}
}
