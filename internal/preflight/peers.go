package preflight

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/seed-0b620db0/patchbay/internal/peers"
)

// Bounds on how other nodes are asked.
const (
	maxAsked = 256 // of a larger cluster only these
	atOnce   = 16
)

// peers looks at who is registered, and whether they and this node reach each other.
func (c *checker) peers(ctx context.Context, registry peers.Registry) {
	all, err := registry.List(ctx)
	if err != nil {
		c.fail("peers.list", "", "%s", c.text(err))
		return
	}
	slices.SortFunc(all, func(a, b peers.Node) int { return strings.Compare(a.Tag, b.Tag) })
	admin, err := net.ResolveTCPAddr("tcp", c.cfg.AdminAddr)
	if err != nil {
		c.fail("peers.address", "", "GATEWAY_ADMIN_ADDR: %s", c.text(err))
		return
	}
	if admin.IP == nil { // as the address of a listener has it
		admin.IP = net.IPv6unspecified
	}
	ours := c.cfg.Advertised(ctx, admin, c.towards...)
	var others []peers.Node
	var self *peers.Node
	tags := []string{}
	for _, n := range all {
		if n.Tag == c.cfg.Node {
			self = &n
		} else {
			others = append(others, n)
		}
		tags = append(tags, n.Tag+" at "+n.Addr)
	}
	c.ok("peers.list", "registered: %s", join(tags, "nobody"))
	c.tag(self, ours)
	c.ownAddress(ctx, self, ours, others)
	asked := c.askAll(ctx, all)
	var skews []time.Duration
	for i, n := range all {
		p := Peer{Tag: n.Tag, Addr: n.Addr, Started: n.Started, Self: n.Tag == c.cfg.Node}
		if a := asked[i]; a != nil {
			p.Reachable = new(a.err == nil)
			if a.err == nil {
				p.Latency, p.Skew = float64(a.took)/1e6, float64(a.Skew)/1e6
				skews = append(skews, a.Skew)
			}
			if !p.Self {
				c.reached(n, a)
			}
		}
		c.report.Peers = append(c.report.Peers, p)
	}
	if len(skews) > 1 {
		if apart := slices.Max(skews) - slices.Min(skews); apart >= peers.MaxSkew/2 {
			c.warn("peers.clock", "run chrony or another NTP client on all hosts", "the clocks of the nodes are up to %s apart; at %s they refuse each other's requests", ms(apart), peers.MaxSkew)
		}
	}
	if c.cfg.PeerSecret == "" && len(others) > 0 {
		c.note("peers.reach", "set GATEWAY_PEER_SECRET", "the other nodes are not asked: without GATEWAY_PEER_SECRET nothing is forwarded")
	}
	if len(all) > maxAsked {
		c.note("peers.reach", "", "of %d nodes %d were asked", len(all), maxAsked)
	}
}

// tag looks whether this node can have its tag.
func (c *checker) tag(self *peers.Node, ours string) {
	const check = "peers.tag"
	switch {
	case self == nil && c.node != nil:
		c.fail(check, "has it the same GATEWAY_REDIS_KEY or GATEWAY_POSTGRES_CHANNEL_PREFIX? see its log", "this node runs, and is not registered")
	case self == nil:
		c.ok(check, "the tag %s is free", c.cfg.Node)
	case c.node != nil:
		c.ok(check, "the tag %s is this node's, which runs since %s", c.cfg.Node, self.Started.UTC().Format(time.RFC3339))
	case self.Addr == ours:
		c.ok(check, "the tag %s is that of a former run at this address, which a new one takes over", c.cfg.Node)
	default:
		c.fail(check, "set GATEWAY_NODE to a name that no other node has", "the tag %s is that of another node, at %s, since %s: this one would not become ready", c.cfg.Node, self.Addr, self.Started.UTC().Format(time.RFC3339))
	}
}

// ownAddress looks whether others can reach what this node says.
func (c *checker) ownAddress(ctx context.Context, self *peers.Node, ours string, others []peers.Node) {
	const check = "peers.address"
	const advice = "set GATEWAY_PEER_ADDR to this host's address as the others see it"
	host, port, err := net.SplitHostPort(ours)
	if err != nil {
		c.fail(check, advice, "the others are told %q, which is no address", ours)
		return
	}
	if bound, _, err := net.SplitHostPort(c.cfg.AdminAddr); err == nil && loopback(bound) && !loopback(host) {
		c.fail(check, "GATEWAY_ADMIN_ADDR=:"+port, "the others are told %s, but GATEWAY_ADMIN_ADDR=%s is for this host only", ours, c.cfg.AdminAddr)
		return
	}
	if loopback(host) {
		s := Note
		if slices.ContainsFunc(others, func(n peers.Node) bool { return distant(n.Addr) }) {
			s = Fail
		}
		c.add(s, check, advice, "the others are told %s, which is reached from this host only", ours)
		return
	}
	lookup, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	ips, err := net.DefaultResolver.LookupIPAddr(lookup, host)
	if err != nil {
		c.fail(check, advice, "the others are told %s: %s", ours, c.text(err))
		return
	}
	if self != nil && c.node != nil && c.cfg.PeerSecret != "" { // it can be tried
		if _, err := peers.Check(ctx, []byte(c.cfg.PeerSecret), peers.Node{Tag: self.Tag, Addr: ours}); err != nil {
			c.fail(check, advice, "the others are told %s, where this node does not answer: %s", ours, c.text(err))
			return
		}
		c.ok(check, "the others are told %s, where this node answers", ours)
		return
	}
	if !slices.ContainsFunc(ips, func(a net.IPAddr) bool { return local(a.IP) }) {
		c.note(check, "", "the others are told %s, which is no address of this host: whether it leads here is not known", ours)
		return
	}
	c.ok(check, "the others are told %s", ours)
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// local tells whether an address is one of this host's.
func local(ip net.IP) bool {
	addrs, _ := net.InterfaceAddrs() // none
	return slices.ContainsFunc(addrs, func(a net.Addr) bool {
		n, ok := a.(*net.IPNet)
		return ok && n.IP.Equal(ip)
	})
}

// asked is what a node has answered.
type asked struct {
	peers.Checked
	took time.Duration
	err  error
}

// askAll asks the nodes; what was not asked is nil.
func (c *checker) askAll(ctx context.Context, all []peers.Node) []*asked {
	answers := make([]*asked, len(all))
	if c.cfg.PeerSecret == "" {
		return answers
	}
	slots := make(chan struct{}, atOnce)
	var running sync.WaitGroup
	for i, n := range all[:min(len(all), maxAsked)] {
		if n.Tag == c.cfg.Node && c.node == nil {
			continue // its run is over, or it is another's, which was said
		}
		slots <- struct{}{}
		running.Go(func() {
			defer func() { <-slots }()
			got, err := peers.Check(ctx, []byte(c.cfg.PeerSecret), n)
			answers[i] = &asked{got, got.Took, err}
		})
	}
	running.Wait()
	return answers
}

// reached says what came of asking another node.
func (c *checker) reached(n peers.Node, a *asked) {
	const check = "peers.reach"
	if a.err == nil {
		c.ok(check, "%s at %s takes what this node forwards, and answers within %s", n.Tag, n.Addr, ms(a.took))
		return
	}
	failed, _ := errors.AsType[*peers.CheckError](a.err)
	advice := "look at its log"
	switch {
	case failed != nil && failed.Result == peers.Unreachable:
		advice = "is its GATEWAY_PEER_ADDR one that this host reaches, and does a firewall let its internal port through? A node that was killed is gone within 15 s"
	case strings.Contains(a.err.Error(), "clocks"):
		advice = "run chrony or another NTP client on both hosts"
	case failed != nil && failed.Result == peers.Refused:
		advice = "GATEWAY_PEER_SECRET is the same on all nodes, and GATEWAY_PEER_ADDR leads to the node itself"
	}
	c.fail(check, advice, "%s at %s: %s", n.Tag, n.Addr, c.text(a.err))
}
