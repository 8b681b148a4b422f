package sio_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/seed-0b620db0/patchbay/pkg/eio"
	"github.com/seed-0b620db0/patchbay/pkg/sio"
)

// FuzzConn gives a connection any messages, one a line; those that begin with "bin:" are binary. No input makes the server
// panic, hang, or keep something.
func FuzzConn(f *testing.F) {
	for _, lines := range []string{
		"0\n20[\"echo\",1,{\"a\":[null]}]\n1",
		"0/child-1,{\"token\":\"x\"}\n2/child-1,1[\"join\",\"r\"]\n2/child-1,[\"leave\",\"r\"]\n0\n1/child-1,\n0/child-1,",
		"0\n52-3[\"echo\",{\"_placeholder\":true,\"num\":1},{\"_placeholder\":true,\"num\":0}]\nbin:a\nbin:bc",
		"0\n2[\"ask\"]\n30[1]\n31[]\n3[]\n30",
		"0{\"pid\":\"AAAAAAAAAAAAAAAAAAAA\",\"offset\":\"x.1\"}\n2[\"panic\"]\n2[\"echo\"]",
		"0/refused,\n0/nowhere,\n4{}\n2", "\n", "51-[\"e\",{\"_placeholder\":true,\"num\":7}]\nbin:", "0\n0",
	} {
		f.Add([]byte(lines), false)
		f.Add([]byte(lines), true)
	}
	f.Fuzz(func(t *testing.T, input []byte, recovery bool) {
		if len(input) > 4<<10 {
			return
		}
		panics := &panicLog{Handler: slog.DiscardHandler}
		opts := &sio.Options{MaxEvents: 4, MaxNamespaces: 4, MaxChildNamespaces: 3, MaxPendingAcks: 2, CleanupEmptyChildNamespaces: true}
		opts.Engine.Logger = slog.New(panics) // who catches what Handler.Message lets through
		if recovery {
			opts.Recovery = &sio.RecoveryOptions{MaxPackets: 4}
		}
		var connected, disconnected atomic.Int64
		opts.Hooks.Connected = func(*sio.Socket) { connected.Add(1) }
		opts.Hooks.Disconnected = func(*sio.Socket, sio.Reason) { disconnected.Add(1) }
		srv := sio.NewServer(opts)
		fuzzHandlers(t, srv.Handlers)
		srv.Of("/refused").Use(func(context.Context, *sio.Socket) (context.Context, error) { return nil, errors.New("no") })
		fuzzHandlers(t, srv.OfRegexp(regexp.MustCompile("^/child")).Handlers)

		sid := parseSID(t, fuzzRequest(srv, "GET", "", nil).Body.String())
		for i, line := range bytes.Split(input, []byte("\n")) {
			if i == 64 {
				break
			}
			body := append([]byte("4"), line...)
			if data, ok := bytes.CutPrefix(line, []byte("bin:")); ok {
				body = append([]byte("b"), base64.StdEncoding.EncodeToString(data)...)
			}
			if r := fuzzRequest(srv, "POST", sid, body); r.Code != http.StatusOK && srv.Engine().Session(sid) != nil {
				t.Errorf("%q: status %d, but the session lives", line, r.Code)
			}
		}
		if err := srv.Close(); err != nil {
			t.Error(err)
		}
		if n := panics.n.Load(); n != 0 {
			t.Errorf("%d panics", n)
		}
		if connected.Load() != disconnected.Load() {
			t.Errorf("%d connected, %d disconnected", connected.Load(), disconnected.Load())
		}
		for _, ns := range srv.Namespaces() {
			if ns.Len() != 0 || sio.Users(ns) != 0 || len(sio.Rooms(ns)) != 0 {
				t.Errorf("left in %s: %d sockets, %d users, rooms %q", ns.Name(), ns.Len(), sio.Users(ns), sio.Rooms(ns))
			}
		}
	})
}

func fuzzHandlers(t *testing.T, h *sio.Handlers) {
	t.Helper()
	h.Use(func(ctx context.Context, s *sio.Socket) (context.Context, error) {
		var auth map[string]any
		return ctx, s.Handshake().Auth(&auth)
	})
	h.On("join", sio.Receive(func(_ context.Context, s *sio.Socket, room string) error { s.Join(room); return nil }))
	h.On("leave", sio.Receive(func(_ context.Context, s *sio.Socket, room string) error { s.Leave(room); return nil }))
	h.On("panic", func(context.Context, *sio.Socket, *sio.Event) error { panic("on purpose") })
	h.On("ask", func(ctx context.Context, s *sio.Socket, _ *sio.Event) error {
		go func() { _, _ = s.EmitWithAck(s.Context(), "question") }() // ends with the socket
		return nil
	})
	h.On("typed", sio.Reply(func(_ context.Context, _ *sio.Socket, v map[string][]byte) (any, error) { return v, nil }))
	h.OnAny(func(ctx context.Context, s *sio.Socket, ev *sio.Event) {
		var v any
		_ = ev.Args().Decode(&v)
		if err := s.Namespace().To(s.ID()).Emit(ctx, "echo", ev.Args().Values()...); err != nil {
			t.Errorf("what came in cannot be sent: %v", err)
		}
		if b, err := json.Marshal(v); err != nil {
			t.Errorf("%s: %v", b, err)
		}
		if err := ev.Ack(ev.Args().Values()...); err != nil && !errors.Is(err, sio.ErrNoAck) && !errors.Is(err, sio.ErrDisconnected) {
			t.Errorf("what came in cannot be sent back: %v", err)
		}
	})
}

// fuzzRequest makes a request without a network.
func fuzzRequest(h http.Handler, method, sid string, body []byte) (w *httptest.ResponseRecorder) {
	var r io.Reader
	if body != nil {
		r = bytes.NewReader(body)
	}
	w = httptest.NewRecorder()
	defer func() {
		if v := recover(); v != nil && v != http.ErrAbortHandler { //nolint:errorlint // that very value
			panic(v)
		}
	}()
	target := strings.TrimPrefix(base, "http://memory") + string(eio.Polling)
	if sid != "" {
		target += "&sid=" + sid
	}
	h.ServeHTTP(w, httptest.NewRequest(method, target, r))
	return w
}

// panicLog counts the panics that were logged.
type panicLog struct {
	slog.Handler
	n atomic.Int64
}

func (*panicLog) Enabled(context.Context, slog.Level) bool { return true }

func (p *panicLog) Handle(_ context.Context, r slog.Record) error {
	if r.Message == "handler_panic" {
		p.n.Add(1)
	}
	return nil
}
