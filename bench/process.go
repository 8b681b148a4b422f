//go:build linux

package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"
)

// process is a server under test.
type process struct {
	url   string
	cmd   *exec.Cmd
	stdin io.Closer
	ended chan struct{}
}

// start runs a server, which prints its address.
func start(ctx context.Context, command ...string) (*process, error) {
	p := &process{cmd: exec.Command(command[0], command[1:]...), ended: make(chan struct{})}
	p.cmd.Stderr = os.Stderr
	var err error
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	address := make(chan string, 1)
	go func() { // ends with the process
		defer close(p.ended)
		line, _ := bufio.NewReader(stdout).ReadString('\n') // "" is none
		address <- strings.TrimSpace(line)
		_ = p.cmd.Wait() // however it ends
	}()
	select {
	case addr := <-address:
		if addr == "" {
			<-p.ended
			return nil, fmt.Errorf("%s: did not start: %v", command[0], p.cmd.ProcessState)
		}
		p.url = "http://" + addr
		return p, nil
	case <-ctx.Done():
	case <-time.After(20 * time.Second):
	}
	p.stop()
	return nil, fmt.Errorf("%s: prints no address", command[0])
}

// stop ends the server. It is not asked to be orderly: the clients are gone.
func (p *process) stop() {
	_ = p.stdin.Close()
	select {
	case <-p.ended:
	case <-time.After(5 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.ended
	}
}

// cpu returns the time that all threads of the process have used.
func (p *process) cpu() (time.Duration, error) { return processCPU(p.cmd.Process.Pid) }

// rss returns the resident memory of the process in bytes.
func (p *process) rss() (float64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	_, after, _ := strings.Cut(string(status), "VmRSS:")
	var kb float64
	if _, err := fmt.Sscan(after, &kb); err != nil {
		return 0, err
	}
	return kb * 1024, nil
}
