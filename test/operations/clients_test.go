package operations_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/seed-0b620db0/patchbay/internal/siotest"
)

// clients are stock ones: see clients.mjs.
type clients struct {
	t     *testing.T
	stdin io.WriteCloser
	lines *bufio.Scanner
}

// startClients runs them until the end of the test.
func startClients(t *testing.T, base string) *clients {
	t.Helper()
	return startScript(t, "clients.mjs", base)
}

// startScript runs a script that takes calls.
func startScript(t *testing.T, args ...string) *clients {
	t.Helper()
	cmd, err := siotest.NodeJS(t.Context(), "../conformance", []string{"socket.io-client"}, args...)
	if err != nil {
		siotest.Missing(t, err.Error())
	}
	var stderr bytes.Buffer // read when it has ended
	cmd.Stderr = &stderr
	stdin, stdout := siotest.Pipes(t, cmd)
	c := &clients{t: t, stdin: stdin, lines: bufio.NewScanner(stdout)}
	c.lines.Buffer(nil, 16<<20)
	t.Cleanup(func() {
		_ = stdin.Close() // it has ended, or does so now
		_ = cmd.Wait()    // killed if the test has failed; else nobody is interested any more
		if stderr.Len() > 0 {
			t.Errorf("clients: %s", stderr.String())
		}
	})
	return c
}

// call fails the test if the clients do. result may be nil.
func (c *clients) call(name string, argument, result any) {
	c.t.Helper()
	line, err := json.Marshal([]any{name, argument})
	if err != nil {
		c.t.Fatal(err)
	}
	if _, err := fmt.Fprintf(c.stdin, "%s\n", line); err != nil {
		c.t.Fatal(err)
	}
	if !c.lines.Scan() {
		c.t.Fatalf("%s: the clients have ended: %v", name, c.lines.Err())
	}
	var answer struct {
		Result json.RawMessage
		Error  string
	}
	if err := json.Unmarshal(c.lines.Bytes(), &answer); err != nil {
		c.t.Fatalf("%s: %v: %s", name, err, c.lines.Text())
	}
	if answer.Error != "" {
		c.t.Fatal(answer.Error)
	}
	if result == nil {
		return
	}
	if err := json.Unmarshal(answer.Result, result); err != nil {
		c.t.Fatalf("%s: %v: %s", name, err, answer.Result)
	}
}

// open connects n of each kind, and returns how many each node has.
func (c *clients) open(n int) (nodes map[string]int) {
	c.t.Helper()
	c.call("open", n, &nodes)
	return nodes
}

// settle waits until all are connected, and none to the node that is gone.
func (c *clients) settle(gone string) {
	c.t.Helper()
	c.call("settle", gone, nil)
}

// trouble is a request that failed, or a connection that was lost, of a client that was on a node.
type trouble struct{ Kind, Node, What, Text string }

func (t trouble) String() string {
	return strings.Join([]string{t.Kind, t.Node, t.What, t.Text}, " ")
}

// troubles returns those since it was last called.
func (c *clients) troubles() (all []trouble) {
	c.t.Helper()
	c.call("troubles", nil, &all)
	return all
}

// quiet fails the test if there was trouble, save on a node that is named.
func (c *clients) quiet(but string) {
	c.t.Helper()
	for _, tr := range c.troubles() {
		if tr.Node != but || but == "" {
			c.t.Errorf("trouble: %v", tr)
		}
	}
}
