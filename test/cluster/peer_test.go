package cluster_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/seed-0b620db0/patchbay/internal/siotest"
)

// peer is a node that a Go test steers.
type peer struct {
	name string
	url  string
	cmd  *exec.Cmd
	done chan struct{} // it has ended

	mu sync.Mutex
	// guarded by mu
	in      io.Writer
	pending map[int]chan<- answer
	next    int
	ended   error // set when no more answers come
}

type answer struct {
	Result json.RawMessage
	Error  string
}

// startPeer runs a node of a kind, "patchbay" or "official", until the end of the test.
func startPeer(t *testing.T, kind, name, adapter, busURL string) *peer {
	t.Helper()
	var cmd *exec.Cmd
	if kind == "patchbay" {
		self, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		cmd = exec.Command(self)
	} else {
		cmd = javaScript(t.Context(), t, "official.mjs")
	}
	cmd.Env = append(cmd.Environ(), "CLUSTER_NODE="+kind)
	cmd.Stderr = t.Output()
	in, out := siotest.Pipes(t, cmd)
	p := &peer{name: name, cmd: cmd, in: in, done: make(chan struct{}), pending: map[int]chan<- answer{}}
	go p.read(out) // ends with the process
	t.Cleanup(func() {
		_ = in.Close() // already closed when the process has ended by itself
		select {
		case <-p.done:
		case <-time.After(siotest.Patience):
			t.Errorf("%s does not end", name)
			p.kill()
		}
	})
	p.url = result[struct{ URL string }](t, p, "listen", map[string]any{
		"adapter": adapter, "bus": busURL, "connections": 5, "namespaces": []string{}, "dynamic": []string{},
	}).URL
	return p
}

func (p *peer) read(out io.Reader) {
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var a struct {
			ID int
			answer
		}
		if err := json.Unmarshal(lines.Bytes(), &a); err != nil {
			a.Error = err.Error()
		}
		p.mu.Lock()
		if c := p.pending[a.ID]; c != nil {
			delete(p.pending, a.ID)
			c <- a.answer
		}
		p.mu.Unlock()
	}
	err := p.cmd.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = fmt.Errorf("%s has ended: %w", p.name, errors.Join(err, io.EOF))
	for _, c := range p.pending {
		c <- answer{Error: p.ended.Error()}
	}
	close(p.done)
}

// kill ends it at once.
func (p *peer) kill() {
	_ = p.cmd.Process.Kill() // it has ended by itself, else
	<-p.done
}

// call asks for an op and waits for the answer.
func (p *peer) call(op string, params map[string]any) (json.RawMessage, error) {
	c := make(chan answer, 1)
	request := map[string]any{"op": op}
	maps.Copy(request, params)
	p.mu.Lock()
	if p.ended != nil {
		p.mu.Unlock()
		return nil, p.ended
	}
	p.next++
	request["id"] = p.next
	p.pending[p.next] = c
	err := json.NewEncoder(p.in).Encode(request)
	p.mu.Unlock()
	if err != nil {
		return nil, err
	}
	a := <-c
	if a.Error != "" {
		return nil, fmt.Errorf("%s: %s: %s", p.name, op, a.Error)
	}
	return a.Result, nil
}

// result asks for an op and returns what it gives.
func result[T any](t *testing.T, p *peer, op string, params map[string]any) T {
	t.Helper()
	var v T
	raw, err := p.call(op, params)
	if err == nil {
		err = json.Unmarshal(raw, &v)
	}
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// awaitServers waits until each peer counts them all.
func awaitServers(t *testing.T, peers ...*peer) {
	t.Helper()
	for _, p := range peers {
		eventually(t, p.name+" counts its peers", siotest.Patience, func() bool {
			raw, err := p.call("serverCount", nil)
			return err == nil && string(raw) == fmt.Sprint(len(peers))
		})
	}
}

// eventually asks until the answer is yes, and returns how long that took.
func eventually(t *testing.T, what string, patience time.Duration, ok func() bool) time.Duration {
	t.Helper()
	for began := time.Now(); ; time.Sleep(5 * time.Millisecond) { // another process does not tell
		if ok() {
			return time.Since(began)
		}
		if time.Since(began) > patience {
			t.Fatalf("%s: not within %v", what, patience)
		}
	}
}

// client is a client of a peer, which notes what it receives and whether it lost its connection.
type client struct {
	ws *siotest.WS

	mu sync.Mutex
	// guarded by mu
	last map[string]int // the last number that each sender has sent
	gaps map[string]int // how often that was not the next one
	lost error
}

func connect(t *testing.T, p *peer) *client {
	t.Helper()
	c := &client{ws: siotest.New(t, p.url, "/socket.io/").Open(), last: map[string]int{}, gaps: map[string]int{}}
	c.ws.Connect("/", "")
	ended := make(chan struct{})
	go func() { // ends with the connection
		defer close(ended)
		for c.read() {
		}
	}()
	t.Cleanup(func() {
		c.ws.Drop()
		<-ended
	})
	return c
}

func (c *client) read() bool {
	f, err := c.ws.TryRecv(time.Hour)
	if f.Data == "2" { // a ping
		err = c.ws.Conn.Write(context.Background(), websocket.MessageText, []byte("3"))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	var sender string
	var n int
	switch {
	case err != nil:
		c.lost = err
	case strings.HasPrefix(f.Data, "41"):
		c.lost = errors.New("told to leave")
	case json.Unmarshal([]byte(strings.TrimPrefix(f.Data, "42")), &[]any{nil, &sender, &n}) == nil && sender != "":
		if n != c.last[sender]+1 {
			c.gaps[sender]++
		}
		c.last[sender] = n
	}
	return c.lost == nil
}

// heard returns the last number that came from a sender, and how often one was missing before.
func (c *client) heard(sender string) (last, gaps int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.last[sender], c.gaps[sender]
}

func (c *client) disconnected() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lost
}
