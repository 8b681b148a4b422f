package eio_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/seed-0b620db0/patchbay/pkg/eio"
)

// shouter answers each message in capitals.
type shouter struct{ session *eio.Session }

func (h *shouter) Message(data []byte, binary bool) {
	_ = h.session.Send(eio.NewMessage(eio.Frame{Data: []byte(strings.ToUpper(string(data))), Binary: binary}))
}

func (h *shouter) Closed(reason eio.CloseReason, _ error) {
	fmt.Println("closed:", reason)
}

func ExampleNewServer() {
	srv := eio.NewServer(func(s *eio.Session) eio.Handler { return &shouter{s} }, nil)
	mux := http.NewServeMux()
	mux.Handle("/engine.io/", srv)
	ts := httptest.NewServer(mux)
	defer ts.Close()

	// A client of the polling transport, by hand.
	open := httpDo("GET", ts.URL+"/engine.io/?EIO=4&transport=polling", "")
	sid := strings.Split(open, `"`)[3]
	session := ts.URL + "/engine.io/?EIO=4&transport=polling&sid=" + sid
	fmt.Println(httpDo("POST", session, "4hello"))
	fmt.Println(httpDo("GET", session, ""))
	fmt.Println(httpDo("POST", session, "1"))
	// Output:
	// ok
	// 4HELLO
	// closed: transport close
	// ok
}

func ExampleSession_Send() {
	srv := eio.NewServer(func(s *eio.Session) eio.Handler {
		// Frames of one message are sent with nothing in between.
		_ = s.Send(eio.NewMessage(eio.Frame{Data: []byte("a picture")}, eio.Frame{Data: []byte{1, 2, 3}, Binary: true}))
		return &shouter{s}
	}, nil)
	ts := httptest.NewServer(srv)
	defer ts.Close()

	open := httpDo("GET", ts.URL+"/engine.io/?EIO=4&transport=polling", "")
	sid := strings.Split(open, `"`)[3]
	payload := httpDo("GET", ts.URL+"/engine.io/?EIO=4&transport=polling&sid="+sid, "")
	fmt.Println(strings.ReplaceAll(payload, "\x1e", " | "))
	_ = srv.Close()
	// Output:
	// 4a picture | bAQID
	// closed: server shutting down
}

func httpDo(method, url, body string) string {
	req, err := http.NewRequest(method, url, strings.NewReader(body)) //nolint:noctx // an example
	if err != nil {
		return err.Error()
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err.Error()
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		return err.Error()
	}
	return string(b)
}
