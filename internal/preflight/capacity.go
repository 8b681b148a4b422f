package preflight

import (
	"slices"
	"strings"

	"github.com/seed-0b620db0/patchbay/pkg/eio"
)

// What a client costs this node, in bytes, by bench/RESULTS.md: an idle one on a WebSocket, and one whose poll waits. The kernel has
// its part for each socket: the socket itself, its file, and what epoll keeps.
const (
	idleClient    = 7 << 10
	waitingClient = 33 << 10
	kernelSocket  = 4 << 10
	// What a node takes without clients, and the files that it has open beside theirs.
	baseMemory = 40 << 20
	baseFiles  = 100
)

// Capacity is how many clients this node can hold.
type Capacity struct {
	Clients int64   `json:"clients,omitempty"` // asked for
	Limits  []Limit `json:"limits"`            // lowest first
	// What breaks first, and at how many clients; behind nginx: on the same host.
	Direct      *Bound `json:"direct"`
	BehindNginx *Bound `json:"behind_nginx"`
}

// Bound is the lowest of the limits.
type Bound struct {
	Clients int64  `json:"clients"`
	Limit   string `json:"limit"` // its name
}

// Limit is one of what bounds the clients of this node.
type Limit struct {
	Name        string `json:"name"`
	Text        string `json:"text"`
	Value       int64  `json:"value"`                  // of the limit itself, in its own unit
	Direct      *int64 `json:"direct,omitempty"`       // clients at which it breaks; missing if it does not
	BehindNginx *int64 `json:"behind_nginx,omitempty"` // the same, with nginx on this host in front of this node alone
}

// limits lists what bounds the number of clients.
func (c *checker) limits() (all []Limit) {
	h := c.host
	add := func(name, text string, value, direct, nginx int64) {
		l := Limit{Name: name, Text: text, Value: value}
		if direct != unlimited {
			l.Direct = new(max(direct, 0))
		}
		if nginx != unlimited {
			l.BehindNginx = new(max(nginx, 0))
		}
		if direct != unlimited || nginx != unlimited {
			all = append(all, l)
		}
	}
	share := func(value, per int64) int64 {
		if value == unlimited {
			return unlimited
		}
		return value / per
	}
	less := func(value, base int64) int64 {
		if value == unlimited {
			return unlimited
		}
		return value - base
	}
	add("sessions", "GATEWAY_MAX_SESSIONS", int64(c.cfg.MaxSessions), int64(c.cfg.MaxSessions), int64(c.cfg.MaxSessions))
	_, files, ok := h.limit("Max open files")
	whose := "of this shell"
	if c.node != nil && c.node.maxFiles > 0 {
		files, ok, whose = c.node.maxFiles, true, "of the node that runs"
	}
	if ok {
		// nginx has two for each client, in one of its workers.
		add("files", "open files (ulimit -n) "+whose+"; nginx needs two a client in worker_rlimit_nofile", files, less(files, baseFiles), share(less(files, baseFiles), 2))
	}
	if n, ok := h.number("proc/sys/fs/file-max", 0); ok && n != unlimited {
		used, _ := h.number("proc/sys/fs/file-nr", 0)
		add("host-files", "fs.file-max of the host", n, n-used, (n-used)/3)
	}
	if n, from, to, ok := h.ports(); ok {
		add("ports", "net.ipv4.ip_local_port_range, "+number(from)+" to "+number(to)+", for nginx to one address of this node", n, unlimited, n)
	}
	if n, ok := h.number("proc/sys/net/netfilter/nf_conntrack_max", 0); ok && n != unlimited {
		used, _ := h.number("proc/sys/net/netfilter/nf_conntrack_count", 0)
		add("conntrack", "nf_conntrack_max of the firewall", n, n-used, (n-used)/2)
	}
	if n, ok := h.number("proc/sys/fs/epoll/max_user_watches", 0); ok && n != unlimited {
		add("epoll", "fs.epoll.max_user_watches, of all processes of the user", n, n/2, n/4)
	}
	c.memoryLimits(add)
	slices.SortStableFunc(all, func(a, b Limit) int {
		switch x, y := lowest(a), lowest(b); {
		case x < y:
			return -1
		case x > y:
			return 1
		}
		return 0
	})
	return all
}

// nginxClient is what nginx takes for an idle client's WebSocket: 18 KB with its default buffers (1.22, of 5,000), and two sockets.
const nginxClient = 18<<10 + 2*kernelSocket

func (c *checker) memoryLimits(add func(name, text string, value, direct, nginx int64)) {
	const websocket, poll = idleClient + kernelSocket, waitingClient + kernelSocket
	group, _, available := c.host.memory()
	all := add
	add = func(name, text string, value, direct, nginx int64) {
		needs := string(eio.WebSocket)
		if strings.HasSuffix(name, "-polling") {
			needs = string(eio.Polling)
		}
		if slices.Contains(c.cfg.Transports, needs) {
			all(name, text, value, direct, nginx)
		}
	}
	if group != unlimited {
		// nginx has a cgroup of its own.
		n := group - baseMemory
		add("memory", "memory of the cgroup, idle on WebSockets", group, n/websocket, n/websocket)
		add("memory-polling", "memory of the cgroup, all on long-polling", group, n/poll, n/poll)
	} else if available != unlimited {
		n, now := available-baseMemory, int64(0)
		if c.node != nil { // what it has is not available any more
			n, now = available, c.node.sessions
		}
		add("memory", "memory that this host has left, idle on WebSockets", available, now+n/websocket, now+n/(websocket+nginxClient))
		add("memory-polling", "memory that this host has left, all on long-polling", available, now+n/poll, now+n/(poll+nginxClient))
	}
	limit := goMemoryLimit()
	if c.node != nil && c.node.memoryLimit > 0 {
		limit = c.node.memoryLimit
	}
	if limit != unlimited {
		n := limit - baseMemory
		add("gomemlimit", "GOMEMLIMIT, idle on WebSockets; beyond, Go does little but collect", limit, n/idleClient, n/idleClient)
		add("gomemlimit-polling", "GOMEMLIMIT, all on long-polling", limit, n/waitingClient, n/waitingClient)
	}
}

func lowest(l Limit) int64 {
	n := int64(unlimited)
	for _, p := range []*int64{l.Direct, l.BehindNginx} {
		if p != nil {
			n = min(n, *p)
		}
	}
	return n
}

// capacity says what will break, at how many clients.
func (c *checker) capacity() {
	r := &Capacity{Clients: c.opts.Clients, Limits: c.limits()}
	for _, l := range r.Limits {
		r.Direct = lower(r.Direct, l.Direct, l.Name)
		r.BehindNginx = lower(r.BehindNginx, l.BehindNginx, l.Name)
	}
	c.report.Capacity = r
	for _, side := range []struct {
		where string
		bound *Bound
		of    func(Limit) *int64
	}{
		{"clients that reach it from other hosts", r.Direct, func(l Limit) *int64 { return l.Direct }},
		{"clients behind an nginx on this host", r.BehindNginx, func(l Limit) *int64 { return l.BehindNginx }},
	} {
		if side.bound == nil {
			continue
		}
		if c.opts.Clients <= side.bound.Clients {
			what := "holds at most"
			if c.opts.Clients > 0 {
				what = "holds " + number(c.opts.Clients) + ", and at most"
			}
			c.ok("capacity.clients", "this node %s %s %s; what gives out first: %s", what, number(side.bound.Clients), side.where, side.bound.Limit)
			continue
		}
		for _, l := range r.Limits {
			if n := side.of(l); n != nil && *n < c.opts.Clients {
				c.warn("capacity.clients", remedies[l.Name], "%s %s: breaks at %s, by %s", number(c.opts.Clients), side.where, number(*n), l.Text)
			}
		}
	}
	c.storm()
}

// storm looks at what happens when all clients come at once.
func (c *checker) storm() {
	if somaxconn, ok := c.host.number("proc/sys/net/core/somaxconn", 0); ok && c.opts.Clients > somaxconn {
		c.note("capacity.storm", "GATEWAY_HANDSHAKE_RATE, and net.core.somaxconn above what comes within some 100 ms",
			"when all %s come back in the same moment, %s wait to be accepted, and the others try again after a second", number(c.opts.Clients), number(somaxconn))
	}
}

func lower(b *Bound, n *int64, name string) *Bound {
	if n == nil || b != nil && b.Clients <= *n {
		return b
	}
	return &Bound{Clients: *n, Limit: name}
}

// remedies say what to do about a limit.
var remedies = map[string]string{
	"sessions":           "raise GATEWAY_MAX_SESSIONS",
	"files":              "raise the hard limit: LimitNOFILE of systemd, ulimits of docker; of nginx: worker_rlimit_nofile and worker_connections",
	"host-files":         "raise fs.file-max",
	"ports":              "give nginx several addresses of this node (127.0.0.1, 127.0.0.2 and so on), or proxy_bind; widen net.ipv4.ip_local_port_range",
	"conntrack":          "raise net.netfilter.nf_conntrack_max, or do not track these ports",
	"epoll":              "raise fs.epoll.max_user_watches",
	"memory":             "more memory, or more nodes",
	"memory-polling":     "more memory, more nodes, or GATEWAY_TRANSPORTS=websocket",
	"gomemlimit":         "raise GOMEMLIMIT, and the memory of the cgroup with it",
	"gomemlimit-polling": "raise GOMEMLIMIT, and the memory of the cgroup with it, or GATEWAY_TRANSPORTS=websocket",
}
