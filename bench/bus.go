//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// bus is what joins the nodes of a cluster.
type bus struct {
	url     string
	product string                        // with its version; "" is unknown
	cpu     func() (time.Duration, error) // that all its processes have used
	stop    func()
}

// startBus starts the server of a bus, with nothing in it, on a free port.
func startBus(ctx context.Context, kind string) (*bus, error) {
	switch kind {
	case "redis":
		return startRedis(ctx)
	case "postgres":
		return startPostgres(ctx)
	}
	return nil, fmt.Errorf("no bus is called %q", kind)
}

func startRedis(ctx context.Context) (*bus, error) {
	addr, err := freeAddress(ctx)
	if err != nil {
		return nil, err
	}
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command("redis-server", "--bind", "127.0.0.1", "--port", port, "--save", "", "--appendonly", "no", "--loglevel", "warning")
	cmd.Stderr = os.Stderr
	cmd.Dir = os.TempDir()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	b := &bus{
		url: "redis://" + addr,
		cpu: func() (time.Duration, error) { return processCPU(cmd.Process.Pid) },
		stop: func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait() // it was killed
		},
	}
	if err := until(ctx, func() bool { return answers(ctx, addr) }); err != nil {
		b.stop()
		return nil, errors.Join(errors.New("redis-server does not answer"), err)
	}
	return b, nil
}

func freeAddress(ctx context.Context) (string, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer func() { _ = l.Close() }() // nothing was accepted
	return l.Addr().String(), nil
}

// answers tells whether a Redis is there.
func answers(ctx context.Context, addr string) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	c, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return false
	}
	defer func() { _ = c.Close() }() // it was only looked at
	_ = c.SetDeadline(time.Now().Add(time.Second))
	if _, err := c.Write([]byte("PING\r\n")); err != nil {
		return false
	}
	answer := make([]byte, 7)
	n, err := c.Read(answer)
	return err == nil && string(answer[:n]) == "+PONG\r\n"
}
