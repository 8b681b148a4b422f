package peers_test

import (
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/seed-0b620db0/patchbay/internal/peers"
	"github.com/seed-0b620db0/patchbay/internal/siotest"
)

func TestCheck(t *testing.T) {
	l := newLab(t)
	a := l.start("a")
	secret := l.opts.Secret
	got, err := peers.Check(t.Context(), secret, a.self)
	if err != nil || got.ID != a.self.ID || got.Took <= 0 || got.Skew.Abs() > time.Second {
		t.Errorf("%+v, %v", got, err)
	}
	other := httptest.NewServer(http.NotFoundHandler())
	defer other.Close()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	at := func(addr, tag string) peers.Node { return peers.Node{Tag: tag, Addr: addr} }
	for name, c := range map[string]struct {
		secret string
		node   peers.Node
		result peers.Result
		text   string
	}{
		"another secret":  {"another secret of enough bytes", a.self, peers.Refused, "same secret?"},
		"another node":    {string(secret), at(a.self.Addr, "b"), peers.Refused, "wrong signature"},
		"another program": {string(secret), at(other.Listener.Addr().String(), "a"), peers.Refused, "another program"},
		"nobody":          {string(secret), at("127.0.0.1:1", "a"), peers.Unreachable, "refused"},
		"silence":         {string(secret), at(silent.Addr().String(), "a"), peers.Failed, "no answer within 2s"},
		"nonsense":        {string(secret), at("no address", "a"), peers.Unreachable, "its address is none"},
	} {
		_, err := peers.Check(t.Context(), []byte(c.secret), c.node)
		failed, ok := errors.AsType[*peers.CheckError](err)
		if !ok || failed.Result != c.result || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if v := a.verdicts(); len(v) > 0 {
		t.Errorf("counted: %v", v)
	}
}

// Whose clock is wrong is told so.
func TestCheckClock(t *testing.T) {
	l := newLab(t)
	a := l.start("a")
	const path = peers.Prefix + "/.check"
	for _, c := range []struct {
		age    time.Duration
		status int
		word   string
	}{
		{0, http.StatusOK, "taken by a"},
		{peers.MaxSkew - 5*time.Second, http.StatusOK, "taken by a"},
		{peers.MaxSkew + time.Second, http.StatusForbidden, "too old: are the clocks right?"},
		{-peers.MaxSkew - 5*time.Second, http.StatusForbidden, "too old: are the clocks right?"},
	} {
		s := peers.Stamp{Tag: "check", ID: "x", Seq: 1, Time: time.Now().Add(-c.age), Addr: "-"}
		h := http.Header{peers.Header: {peers.Sign(string(l.opts.Secret), s, "a", http.MethodGet, path)}}
		r := siotest.New(t, "", "").Do(http.MethodGet, "http://"+a.self.Addr+path, h, nil)
		if r.Err != nil || r.Status != c.status || r.Header.Get(peers.Header) != c.word {
			t.Errorf("%v old: %d %q %v", c.age, r.Status, r.Header.Get(peers.Header), r.Err)
		}
	}
}
