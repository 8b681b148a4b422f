package node

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"math"
	"strconv"
	"time"
)

// value is any value, with what JSON cannot say as objects of one key that begins with a dollar sign.
type value struct{ v any }

// UnmarshalJSON implements json.Unmarshaler.
func (v *value) UnmarshalJSON(b []byte) error {
	var in any
	if err := json.Unmarshal(b, &in); err != nil {
		return err
	}
	var err error
	v.v, _, err = untag(in)
	return err
}

// untag returns the value that in stands for; defined is false for JavaScript's undefined.
func untag(in any) (out any, defined bool, err error) {
	switch in := in.(type) {
	case []any:
		for i := range in {
			if in[i], _, err = untag(in[i]); err != nil {
				return nil, false, err
			}
		}
	case map[string]any:
		for name, v := range in {
			switch name {
			case "$undefined":
				return nil, false, nil
			case "$bytes", "$uint8":
				s, _ := v.(string)
				b, err := base64.StdEncoding.DecodeString(s)
				return b, true, err
			case "$number":
				s, _ := v.(string)
				f, err := strconv.ParseFloat(s, 64)
				return f, true, err
			case "$date":
				ms, _ := v.(float64)
				return time.UnixMilli(int64(ms)), true, nil
			}
			u, defined, err := untag(v)
			if err != nil {
				return nil, false, err
			}
			in[name] = u
			if !defined {
				delete(in, name)
			}
		}
	}
	return in, true, nil
}

// tag is the way back, for values as encoding/json makes them, and []byte.
func tag(v any) any {
	switch v := v.(type) {
	case []byte:
		return map[string]any{"$bytes": base64.StdEncoding.EncodeToString(v)}
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = tag(v[i])
		}
		return out
	case map[string]any:
		out := make(map[string]any, len(v))
		for name := range v {
			out[name] = tag(v[name])
		}
		return out
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return map[string]any{"$number": strconv.FormatFloat(v, 'g', -1, 64)}
		}
	}
	return v
}

var errUnsupported = errors.New("not supported")
