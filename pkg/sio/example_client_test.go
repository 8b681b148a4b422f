package sio_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"regexp"
	"strings"

	"github.com/coder/websocket"

	"github.com/seed-0b620db0/patchbay/internal/siotest"
	"github.com/seed-0b620db0/patchbay/pkg/sio"
)

// What the examples show is the server. This is the client that they need: it sends and prints packets.

func listen() *siotest.Listener { return siotest.Listen(0) }

// serve runs io until stop is called.
func serve(io *sio.Server) (lis *siotest.Listener, stop func()) {
	lis = listen()
	srv, done := &http.Server{Handler: io}, make(chan struct{})
	go func() { // ends with Close
		defer close(done)
		_ = srv.Serve(lis)
	}()
	return lis, func() {
		_ = io.Close()
		_ = srv.Close()
		<-done
	}
}

type exampleClient struct {
	ws   *websocket.Conn
	conn net.Conn
}

func dial(lis *siotest.Listener) *exampleClient {
	conn, err := lis.Dial(context.Background())
	if err != nil {
		panic(err)
	}
	ws, _, err := websocket.Dial(context.Background(), base+"websocket", &websocket.DialOptions{HTTPClient: oneConn(conn)})
	if err != nil {
		panic(err)
	}
	c := &exampleClient{ws, conn}
	c.skip(1) // the open packet
	return c
}

func (c *exampleClient) send(packets ...string) {
	for _, p := range packets {
		if err := c.ws.Write(context.Background(), websocket.MessageText, []byte("4"+p)); err != nil {
			panic(err)
		}
	}
}

func (c *exampleClient) receive() string {
	ctx, cancel := context.WithTimeout(context.Background(), siotest.Patience)
	defer cancel()
	kind, data, err := c.ws.Read(ctx)
	switch {
	case err != nil:
		return err.Error()
	case kind == websocket.MessageBinary:
		return "bin:" + string(data)
	default:
		return strings.TrimPrefix(string(data), "4")
	}
}

func (c *exampleClient) skip(n int) {
	for range n {
		c.receive()
	}
}

// random is what differs from run to run.
var random = regexp.MustCompile(`"[\w-]{20}"|"[\w-]{8}\.\w+"`)

func (c *exampleClient) print(n int) {
	for range n {
		fmt.Fprintln(os.Stdout, random.ReplaceAllString(c.receive(), `"…"`))
	}
}

func (c *exampleClient) connected() (j joined) {
	if err := json.Unmarshal([]byte(strings.TrimPrefix(c.receive(), "0")), &j); err != nil {
		panic(err)
	}
	return j
}

// answer acknowledges the next event, if there is anything to say.
func (c *exampleClient) answer(value string) {
	packet := c.receive()
	if id, _, ok := strings.Cut(strings.TrimPrefix(packet, "2"), "["); ok && value != "" {
		c.send("3" + id + "[" + value + "]")
	}
}

func (c *exampleClient) cut() { _ = c.conn.Close() }
