package postgres_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/seed-0b620db0/patchbay/pkg/adapter/postgres"
)

func TestChannelName(t *testing.T) {
	for _, c := range []struct{ prefix, ns, want string }{
		{"socket.io", "/", "socket.io#/"},
		{"socket.io", "/admin", "socket.io#/admin"},
		{"p", `/"; DROP TABLE users; --`, `p#/"; DROP TABLE users; --`},
		{"socket.io", "/" + strings.Repeat("x", 52), "socket.io#/" + strings.Repeat("x", 52)},
		// printf '/%053d' 0 | tr 0 x | openssl dgst -sha256 -binary | head -c 16 | basenc --base64url
		{"socket.io", "/" + strings.Repeat("x", 53), "socket.io#~Ym6YE5BErjdBsHIT7FlBXg"},
	} {
		if got := postgres.ChannelName(c.prefix, c.ns); got != c.want {
			t.Errorf("%q %q: %q, want %q", c.prefix, c.ns, got, c.want)
		}
	}
	seen := map[string]string{}
	longest := strings.Repeat("p", 39)
	for _, ns := range []string{"/\x00", "/\xff", "/\xfe", "/\ufffd", "/" + strings.Repeat("é", 31), "/" + strings.Repeat("é", 32), "/~", "/#~"} {
		name := postgres.ChannelName(longest, ns)
		if other, ok := seen[name]; ok {
			t.Errorf("%q and %q share %q", ns, other, name)
		}
		seen[name] = ns
		if len(name) > 63 || !utf8.ValidString(name) || strings.Contains(name, "\x00") {
			t.Errorf("%q: %q", ns, name)
		}
	}
}
