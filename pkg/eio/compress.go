package eio

import (
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"io"
	"strconv"
	"strings"
)

// acceptedEncoding picks the content coding for a response (RFC 9110, section 12.5.3): gzip, then deflate, as the official
// server does.
func acceptedEncoding(header string) string {
	best, bestQ := "", 0.0
	for part := range strings.SplitSeq(header, ",") {
		name, params, _ := strings.Cut(part, ";")
		name = strings.ToLower(strings.TrimSpace(name))
		if name != "gzip" && name != "deflate" {
			continue
		}
		q := 1.0
		if v, ok := strings.CutPrefix(strings.ReplaceAll(params, " ", ""), "q="); ok {
			var err error
			if q, err = strconv.ParseFloat(v, 64); err != nil {
				q = 0
			}
		}
		if q > bestQ || q == bestQ && q > 0 && name == "gzip" {
			best, bestQ = name, q
		}
	}
	return best
}

type resetWriter interface {
	io.WriteCloser
	Reset(io.Writer)
}

// Compressors are some hundred KB each: they are shared by all sessions and used for one response at a time.
var compressors = map[string]*pool[resetWriter]{
	"gzip":    newPool(func() resetWriter { w, _ := gzip.NewWriterLevel(io.Discard, flate.BestSpeed); return w }),
	"deflate": newPool(func() resetWriter { w, _ := zlib.NewWriterLevel(io.Discard, flate.BestSpeed); return w }),
}

// compressTo writes body to w in the coding enc. "deflate" is the zlib format (RFC 9110, section 8.4.1.2).
func compressTo(w io.Writer, enc string, body []byte) error {
	pool := compressors[enc]
	z := pool.get()
	defer pool.put(z)
	z.Reset(w)
	if _, err := z.Write(body); err != nil {
		return err
	}
	return z.Close()
}
