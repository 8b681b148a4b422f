package preflight

import (
	"context"
	"errors"
	"net"
	"regexp"
	"strconv"
	"strings"
	"syscall"

	"github.com/seed-0b620db0/patchbay/internal/gateway"
)

// running is the node, as it runs on this host.
type running struct {
	maxFiles    int64 // 0: it does not say
	memoryLimit int64
	sessions    int64
}

var (
	buildInfo    = regexp.MustCompile(`(?m)^patchbay_build_info\{[^}]*\bnode="([^"]*)"`)
	sessionCount = regexp.MustCompile(`(?m)^patchbay_sessions\{[^}]*\} (\S+)`)
)

// self looks who has this node's addresses: nobody, or the node itself, or another program.
func (c *checker) self(ctx context.Context) {
	cfg := c.cfg
	admin := listen(ctx, cfg.AdminAddr)
	public := listen(ctx, cfg.Addr)
	other := ""
	if errors.Is(admin, syscall.EADDRINUSE) {
		other = c.findNode(ctx)
	}
	if c.node == nil {
		c.address("node.addr", "GATEWAY_ADDR", cfg.Addr, public, "")
		c.address("node.admin_addr", "GATEWAY_ADMIN_ADDR", cfg.AdminAddr, admin, other)
		return
	}
	if public == nil && !strings.HasSuffix(cfg.Addr, ":0") {
		c.warn("node.addr", "does it run with this environment?", "the node runs, but nothing listens on GATEWAY_ADDR=%s", cfg.Addr)
	}
	base, err := adminURL(cfg)
	if err == nil {
		err = gateway.ProbeHealth(ctx, base, true)
	}
	switch not, ok := errors.AsType[*gateway.NotReadyError](err); {
	case err == nil:
		c.ok("node.running", "this node runs here, is ready, and has %s sessions", number(c.node.sessions))
	case ok:
		c.warn("node.running", "see what is said of it below", "this node runs here, and is not ready: %s", not)
	default:
		c.fail("node.running", "look at its log", "this node runs here, and does not answer: %s", c.text(err))
	}
}

func adminURL(cfg *gateway.Config) (string, error) {
	return gateway.AdminURL([]string{"GATEWAY_ADMIN_ADDR=" + cfg.AdminAddr})
}

// address judges what came of listening to an address.
func (c *checker) address(check, name, addr string, err error, other string) {
	switch {
	case err == nil:
		c.ok(check, "%s=%s can be listened to", name, addr)
		c.dialedPort(check, name, addr)
	case errors.Is(err, syscall.EADDRINUSE):
		c.fail(check, "end it, or take another port", "%s=%s is taken by another program%s", name, addr, other)
	case errors.Is(err, syscall.EACCES):
		c.fail(check, "take a port from 1024 on, or grant CAP_NET_BIND_SERVICE", "%s=%s is not for this user", name, addr)
	default:
		c.fail(check, "", "%s: %s", name, c.text(err))
	}
}

// dialedPort tells of a port that a connection to elsewhere may have before the node wants it.
func (c *checker) dialedPort(check, name, addr string) {
	_, from, to, ok := c.host.ports()
	_, port, err := net.SplitHostPort(addr)
	n, failed := strconv.ParseInt(port, 10, 64)
	if ok && err == nil && failed == nil && n >= from && n <= to {
		c.warn(check, "take another, or set net.ipv4.ip_local_reserved_ports", "%s=%s is one of the ports that connections to elsewhere get: one may have it when the node starts", name, addr)
	}
}

// listen tells whether an address can be listened to.
func listen(ctx context.Context, addr string) error {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	return l.Close()
}

// findNode asks who is at the internal address. If it is not this node, it returns what is known of the other.
func (c *checker) findNode(ctx context.Context) string {
	base, err := adminURL(c.cfg)
	if err != nil {
		return ""
	}
	text, err := gateway.Scrape(ctx, base)
	if err != nil {
		return ""
	}
	tag := buildInfo.FindStringSubmatch(text)
	if tag == nil {
		return ""
	}
	if tag[1] != c.cfg.Node {
		return ": the node " + tag[1]
	}
	c.node = &running{maxFiles: metric(text, "process_max_fds"), memoryLimit: metric(text, "go_gc_gomemlimit_bytes")}
	for _, m := range sessionCount.FindAllStringSubmatch(text, -1) {
		n, _ := strconv.ParseFloat(m[1], 64) // of our own making
		c.node.sessions += int64(n)
	}
	return ""
}

// metric returns the value of a series without labels, 0 if there is none.
func metric(text, name string) int64 {
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			f, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil || f >= 1<<62 {
				return unlimited
			}
			return int64(f)
		}
	}
	return 0
}
