package peers

import (
	"crypto/tls"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// takenBy is what an owner says in the header of its answers, so that nobody else is taken for it.
func takenBy(tag string) string { return "taken by " + tag }

// Owner returns a handler for the internal listener, below [Prefix]: what other nodes forward goes to local, as if the client
// were here. reroute is called for sessions that another node does not want to forward any longer; tunnel: over the WebSocket, not
// the poll that waits.
func (f *Forwarder) Owner(local http.Handler, reroute func(sid string, tunnel bool)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == checkPath {
			f.check(w, r)
			return
		}
		s, err := f.verify(r)
		f.opts.Accepted(err)
		if err != nil {
			f.opts.Logger.Debug("peer_refused", "remote_addr", r.RemoteAddr, "error", err)
			w.Header().Set(Header, err.Error())
			http.Error(w, err.Error(), http.StatusForbidden)
			return
		}
		w.Header().Set(Header, takenBy(f.opts.Tag))
		if r.URL.Path == Prefix+reroutePath {
			reroute(sidOf(r.URL.RawQuery), r.URL.Query().Get("transport") == tunnelPassage)
			w.WriteHeader(http.StatusNoContent)
			return
		}
		direct := r.Clone(r.Context())
		direct.URL = new(url.URL)
		*direct.URL = *r.URL
		direct.URL.Path = strings.TrimPrefix(r.URL.Path, Prefix)
		direct.URL.RawPath = strings.TrimPrefix(r.URL.RawPath, Prefix)
		direct.RequestURI = strings.TrimPrefix(r.RequestURI, Prefix)
		direct.RemoteAddr = s.addr
		if s.secure {
			direct.TLS = new(tls.ConnectionState)
		}
		direct.Header.Del(Header)
		local.ServeHTTP(w, direct)
	})
}

// verify checks all that makes a forwarded request one.
func (f *Forwarder) verify(r *http.Request) (*stamp, error) {
	s, err := authentic(f.opts.Secret, r.Header, f.opts.Tag, r.Method, r.RequestURI)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	if !s.fresh(now) {
		return nil, errOld
	}
	peer := f.dir.Lookup(r.Context(), s.Tag)
	if peer != nil && peer.ID != s.ID { // it may have been started again
		peer = f.dir.lookup(r.Context(), s.Tag, peer)
	}
	if peer == nil || peer.ID != s.ID {
		return nil, errStranger
	}
	if !f.windows.of(s.ID, now).take(s.seq) {
		return nil, errReplayed
	}
	if ownerOf(r) != f.opts.Tag {
		return nil, errOther
	}
	return s, nil
}
