package peers_test

import (
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/seed-0b620db0/patchbay/internal/peers"
)

func TestWindow(t *testing.T) {
	var w peers.Window
	take := func(seq uint64, want bool) {
		t.Helper()
		if got := w.Take(seq); got != want {
			t.Errorf("%d: %v", seq, got)
		}
	}
	take(1, true)
	take(1, false)
	take(3, true)
	take(2, true)
	take(2, false)
	take(peers.WindowSize, true)
	take(4, true)
	take(4+peers.WindowSize, true)
	take(4, false) // too old to know
	take(5, true)
	take(5, false)
	take(1<<40, true) // all before it is forgotten
	take(4+peers.WindowSize, false)
	take(1<<40-1, true)
	take(1<<40-1, false)
	take(1<<40-peers.WindowSize, false)
	take(1<<40-peers.WindowSize+1, true)
	take(0, false)
	take(^uint64(0)-1, true)
	take(^uint64(0), true)
	take(^uint64(0), false)
}

// Against a map that remembers everything.
func TestWindowRandom(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var w peers.Window
	seen := map[uint64]bool{}
	top := uint64(peers.WindowSize)
	for range 300_000 {
		if rng.IntN(1000) == 0 {
			top += rng.Uint64N(peers.WindowSize)
		}
		seq := top - rng.Uint64N(peers.WindowSize/2)
		if rng.IntN(3) == 0 {
			top++
			seq = top
		}
		if got := w.Take(seq); got == seen[seq] {
			t.Fatalf("%d: taken %v, seen %v", seq, got, seen[seq])
		}
		seen[seq] = true
	}
}

func TestOwnerOf(t *testing.T) {
	random := "lv_VI97HAXpY6yYWAAAB"
	for target, want := range map[string]string{
		"/":                                               "",
		"/?EIO=4&transport=polling":                       "",
		"/?sid=" + random:                                 "",
		"/?sid=" + random + ".":                           "",
		"/?sid=" + random + ".gateway-2":                  "gateway-2",
		"/?EIO=4&sid=" + random + ".a&t=x":                "a",
		"/?sid=" + random + "%2Ea":                        "a",
		"/?sid=" + random + ".a.b":                        "a.b",
		"/?sid=x" + random + ".a":                         "",
		"/?sid=." + random + ".a":                         "",
		"/?sid=" + random + ".a&sid=":                     "",
		"/?sid=&sid=" + random + ".b":                     "b",
		"/?sid=" + random + ".a&sid=" + random:            "",
		"/?xsid=" + random + ".a":                         "",
		"/?sid=" + random + "." + strings.Repeat("x", 63): strings.Repeat("x", 63),
		"/?sid=" + random + "." + strings.Repeat("x", 64): "",
		"/?sid=" + strings.Repeat(".", 30):                strings.Repeat(".", 9),
		"/?%zz&sid=" + random + ".a":                      "a",
	} {
		if got := peers.OwnerOf(httptest.NewRequest(http.MethodGet, target, nil)); got != want {
			t.Errorf("%s: %q, want %q", target, got, want)
		}
	}
}

// Whatever is in the header, nothing panics, and only what was signed is taken.
func FuzzHeader(f *testing.F) {
	s := peers.Stamp{Tag: "b", ID: "id", Seq: 1, Time: time.UnixMilli(1), Addr: "192.0.2.1:1"}
	const target = "/peer/engine.io/?sid=lv_VI97HAXpY6yYWAAAB.a"
	good := peers.Sign(secret, s, "a", http.MethodGet, target)
	f.Add(good)
	f.Add("v1 b id 1 1 192.0.2.1:1 false ")
	f.Fuzz(func(t *testing.T, header string) {
		if peers.Authentic(secret, header, "a", http.MethodGet, target) && header != good {
			t.Errorf("taken: %q", header)
		}
	})
}
