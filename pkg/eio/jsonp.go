package eio

import (
	"bytes"
	"encoding/json"
	"net/url"
	"strings"
)

// jsonpIndex returns the callback index of a request's j parameter: its digits, as the official server keeps them.
// It is put in brackets, so that an empty index is not the same as none.
func jsonpIndex(q url.Values) string {
	if !q.Has("j") {
		return ""
	}
	return "[" + strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' {
			return r
		}
		return -1
	}, q.Get("j")) + "]"
}

// jsonpBody wraps a payload into a call of the client's callback.
func jsonpBody(index string, payload []byte) []byte {
	var b bytes.Buffer
	b.WriteString("___eio" + index + "(")
	enc := json.NewEncoder(&b) // writes U+2028 and U+2029 escaped: they end a line in older JavaScript
	enc.SetEscapeHTML(false)
	_ = enc.Encode(string(payload)) // a string can always be encoded
	b.Truncate(b.Len() - 1)         // the encoder's newline
	b.WriteString(");")
	return b.Bytes()
}

// jsonpData takes the payload out of a form post. Browsers turn newlines of a form field into CRLF, so clients send them
// as \n, and a real \n as \\n.
func jsonpData(body []byte) []byte {
	form, _ := url.ParseQuery(string(body)) // what can be read of it; nothing is an empty packet
	return []byte(jsonpNewlines.Replace(form.Get("d")))
}

var jsonpNewlines = strings.NewReplacer(`\\n`, `\n`, `\n`, "\n")
