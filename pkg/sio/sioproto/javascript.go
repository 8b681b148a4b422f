package sioproto

import "time"

// AppendNumber appends f as JSON.stringify writes it: without a fraction if it is whole, NaN and the infinities as null.
func AppendNumber(dst []byte, f float64) []byte { return appendFloat(dst, f, 64) }

// AppendTime appends t as JSON.stringify writes a Date: in UTC, to the millisecond.
func AppendTime(dst []byte, t time.Time) []byte { return appendTime(dst, t) }
