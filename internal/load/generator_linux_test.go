package load_test

import (
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/seed-0b620db0/patchbay/internal/load"
)

// When a local address has given its ports, the next one is used. Only Linux has all of 127.0.0.0/8.
func TestAddresses(t *testing.T) {
	s := newServer(t, false, nil)
	from := make(chan string, 1)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, err := net.SplitHostPort(r.RemoteAddr)
		if err != nil {
			t.Error(err)
		}
		from <- host
		s.ServeHTTP(w, r)
	}))
	defer srv.Close()
	g, w := newGenerator(t, load.Options{URL: srv.URL}), newWitness(t, 1)
	for _, c := range []struct {
		dials uint64
		want  string
	}{{0, "127.0.0.1"}, {19_999, "127.0.0.1"}, {20_000, "127.0.0.2"}, {45_000, "127.0.0.3"}, {254 * 20_000, "127.0.0.1"}} {
		g.PretendDials(c.dials)
		connect(t, g, w)
		if got := <-from; got != c.want {
			t.Errorf("dial %d comes from %s, want %s", c.dials+1, got, c.want)
		}
	}
	w.end(g)
}
