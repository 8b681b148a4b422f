package preflight

import (
	"math"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
)

// host reads what this host allows. Everything is in files, so that a test can be another host. What cannot be read is not known.
type host struct{ root string }

// unlimited is what is larger than anything.
const unlimited = math.MaxInt64

func (h *host) read(name string) (string, bool) {
	root := h.root
	if root == "" {
		root = "/"
	}
	text, err := os.ReadFile(filepath.Join(root, name))
	return strings.TrimSpace(string(text)), err == nil
}

// number reads the first, or a later, number of a file.
func (h *host) number(name string, field int) (int64, bool) {
	text, ok := h.read(name)
	fields := strings.Fields(text)
	if !ok || field >= len(fields) {
		return 0, false
	}
	return parseLimit(fields[field])
}

// parseLimit reads a number, or a word for none. The kernel writes what is unlimited in many ways.
func parseLimit(s string) (int64, bool) {
	if s == "max" || s == "unlimited" || s == "-1" {
		return unlimited, true
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return 0, false
	}
	if n >= 1<<62 {
		return unlimited, true
	}
	return int64(n), true
}

// limit returns the soft and the hard limit of this process, by its name in /proc/self/limits.
func (h *host) limit(name string) (soft, hard int64, ok bool) {
	text, _ := h.read("proc/self/limits")
	for line := range strings.Lines(text) {
		rest, found := strings.CutPrefix(line, name)
		fields := strings.Fields(rest)
		if !found || len(fields) < 2 {
			continue
		}
		soft, ok1 := parseLimit(fields[0])
		hard, ok2 := parseLimit(fields[1])
		return soft, hard, ok1 && ok2
	}
	return 0, 0, false
}

// cgroup reads a limit of the cgroups that this process is in: the lowest of its own and those around it. v1 is the controller and
// file of version 1.
func (h *host) cgroup(file, v1 string, parse func(string) (int64, bool)) (least int64, ok bool) {
	least = unlimited
	text, _ := h.read("proc/self/cgroup")
	look := func(mount, inside, file string) {
		// In a container the path is that of the host, where it may not be found; the mount itself is the container's group.
		for dir := path.Clean("/" + inside); ; dir = path.Dir(dir) {
			if value, found := h.read(path.Join(mount, dir, file)); found {
				if n, good := parse(value); good {
					least, ok = min(least, n), true
				}
			}
			if dir == "/" {
				return
			}
		}
	}
	controller, file1, _ := strings.Cut(v1, "/")
	for line := range strings.Lines(text) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) != 3 {
			continue
		}
		switch {
		case parts[0] == "0" && parts[1] == "":
			look("sys/fs/cgroup", parts[2], file)
		case strings.Contains(","+parts[1]+",", ","+controller+","):
			look("sys/fs/cgroup/"+controller, parts[2], file1)
		}
	}
	return least, ok
}

// memory returns what the cgroup allows, and what the host has and has left.
func (h *host) memory() (group, total, available int64) {
	group, _ = h.cgroup("memory.max", "memory/memory.limit_in_bytes", parseLimit)
	total, available = unlimited, unlimited
	text, _ := h.read("proc/meminfo")
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		n, err := strconv.ParseInt(fields[1], 10, 64)
		switch {
		case err != nil:
		case fields[0] == "MemTotal:":
			total = n << 10
		case fields[0] == "MemAvailable:":
			available = n << 10
		}
	}
	if group >= total { // version 1 writes a huge number, and a limit above what there is is none
		group = unlimited
	}
	return group, total, available
}

// cpus returns the CPUs that the cgroup lets this process use, in thousandths.
func (h *host) cpus() (milli int64, limited bool) {
	quota := func(quota, period int64) (int64, bool) {
		if quota <= 0 || quota == unlimited || period <= 0 {
			return unlimited, false
		}
		return quota * 1000 / period, true
	}
	milli, _ = h.cgroup("cpu.max", "cpu/", func(value string) (int64, bool) {
		fields := strings.Fields(value)
		if len(fields) != 2 {
			return 0, false
		}
		q, ok1 := parseLimit(fields[0])
		p, ok2 := parseLimit(fields[1])
		if !ok1 || !ok2 {
			return 0, false
		}
		return quota(q, p)
	})
	q, ok := h.cgroup("", "cpu/cpu.cfs_quota_us", parseLimit)
	p, _ := h.cgroup("", "cpu/cpu.cfs_period_us", parseLimit)
	if n, good := quota(q, p); ok && good {
		milli = min(milli, n)
	}
	return milli, milli != unlimited
}

// ports returns how many ports there are for connections that this host opens to one address, and the range.
func (h *host) ports() (n, from, to int64, ok bool) {
	from, ok1 := h.number("proc/sys/net/ipv4/ip_local_port_range", 0)
	to, ok2 := h.number("proc/sys/net/ipv4/ip_local_port_range", 1)
	return to - from + 1, from, to, ok1 && ok2 && to >= from
}

// synchronised tells whether something keeps the kernel's clock right.
func (h *host) synchronised() (yes, known bool) {
	if h.root != "" && h.root != "/" { // another host's clock is not at hand
		return false, false
	}
	return clockSynchronised()
}

// goMemoryLimit returns GOMEMLIMIT.
func goMemoryLimit() int64 { return debug.SetMemoryLimit(-1) }

// What a host should have.
const (
	fewFiles    = 65_536
	shortQueue  = 1024 // connections that wait to be accepted: Linux's own default is 4096 since 5.4
	fewThreads  = 100
	smallMargin = 0.95
)

// thisHost looks at what does not depend on the number of clients.
func (c *checker) thisHost() {
	h := c.host
	if _, ok := h.read("proc/self/limits"); !ok {
		c.note("host.limits", "", "the limits of %s cannot be read here", runtime.GOOS)
		return
	}
	c.files()
	c.backlog()
	c.clock()
	c.memory()
	if milli, limited := h.cpus(); limited {
		cpus := float64(milli) / 1000
		if milli < 1000 {
			c.warn("host.cpu", "give it at least one", "%.2f CPUs: a broadcast makes all other clients wait for the next period", cpus)
		} else {
			c.ok("host.cpu", "%.2f CPUs by the cgroup, GOMAXPROCS %d", cpus, runtime.GOMAXPROCS(0))
		}
	} else {
		c.ok("host.cpu", "%d CPUs, no limit of the cgroup", runtime.NumCPU())
	}
	c.threads()
	if _, from, to, ok := h.ports(); ok {
		c.ok("host.ports", "ports %d to %d for connections that this host opens", from, to)
	}
	if limit, ok := h.number("proc/sys/net/netfilter/nf_conntrack_max", 0); ok {
		used, _ := h.number("proc/sys/net/netfilter/nf_conntrack_count", 0)
		if float64(used) > 0.8*float64(limit) {
			c.fail("host.conntrack", "raise net.netfilter.nf_conntrack_max: when it is full, packets are dropped", "the firewall tracks %s of %s connections", number(used), number(limit))
		} else {
			c.ok("host.conntrack", "the firewall tracks %s of %s connections", number(used), number(limit))
		}
	}
}

func (c *checker) files() {
	soft, hard, ok := c.host.limit("Max open files")
	if !ok {
		return
	}
	const advice = "LimitNOFILE of systemd, ulimits of docker, ulimit -n of a shell"
	text := "open files: " + number(hard) + " (hard limit), which is what counts: the node raises the soft one to it at its start"
	if soft != hard {
		text += ", which is " + number(soft)
	}
	if hard == unlimited {
		text = "open files: no limit"
	}
	if hard < fewFiles {
		c.warn("host.files", advice, "%s", text)
	} else {
		c.ok("host.files", "%s", text)
	}
	most, ok1 := c.host.number("proc/sys/fs/file-max", 0)
	used, ok2 := c.host.number("proc/sys/fs/file-nr", 0)
	if ok1 && ok2 && float64(used) > 0.8*float64(most) {
		c.fail("host.files", "raise fs.file-max", "this host has %s of %s files open", number(used), number(most))
	}
}

func (c *checker) backlog() {
	somaxconn, ok := c.host.number("proc/sys/net/core/somaxconn", 0)
	if !ok {
		return
	}
	syn, known := c.host.number("proc/sys/net/ipv4/tcp_max_syn_backlog", 0)
	text := "net.core.somaxconn " + number(somaxconn)
	if known {
		text += ", net.ipv4.tcp_max_syn_backlog " + number(syn)
	}
	if somaxconn < shortQueue || known && syn < shortQueue/2 {
		c.warn("host.backlog", "sysctl -w net.core.somaxconn=4096 net.ipv4.tcp_max_syn_backlog=4096",
			"%s: when many clients come back at once, those beyond are tried again after 1 s, 3 s, 7 s", text)
		return
	}
	c.ok("host.backlog", "%s: that many connections may wait to be accepted", text)
}

func (c *checker) memory() {
	group, total, _ := c.host.memory()
	limit := goMemoryLimit()
	if c.node != nil && c.node.memoryLimit > 0 {
		limit = c.node.memoryLimit
	}
	switch {
	case group == unlimited && total == unlimited:
		c.note("host.memory", "", "the memory of this host cannot be read")
	case group == unlimited:
		c.ok("host.memory", "%s, no limit of the cgroup", bytes(total))
	case limit == unlimited:
		c.warn("host.memory", "set GOMEMLIMIT to "+mib(group/10*7)+", and leave the rest to the kernel's part of each connection",
			"the cgroup allows %s, of which Go knows nothing without GOMEMLIMIT: the process is killed before it collects", bytes(group))
	case float64(limit) > smallMargin*float64(group):
		c.warn("host.memory", "set GOMEMLIMIT to "+mib(group/10*7), "GOMEMLIMIT is %s, and the cgroup allows %s for that and the kernel's part of each connection", bytes(limit), bytes(group))
	default:
		c.ok("host.memory", "the cgroup allows %s, GOMEMLIMIT is %s", bytes(group), bytes(limit))
	}
}

func mib(n int64) string { return strconv.FormatInt(n>>20, 10) + "MiB" }

func (c *checker) threads() {
	pids, _ := c.host.cgroup("pids.max", "pids/pids.max", parseLimit)
	if _, hard, ok := c.host.limit("Max processes"); ok {
		pids = min(pids, hard)
	}
	if n, ok := c.host.number("proc/sys/kernel/threads-max", 0); ok {
		pids = min(pids, n)
	}
	switch {
	case pids == unlimited:
		c.ok("host.threads", "no limit of threads")
	case pids < fewThreads:
		c.warn("host.threads", "raise pids.max of the cgroup, --pids-limit of docker", "%d threads are allowed: Go ends the process when it cannot have one more", pids)
	default:
		c.ok("host.threads", "%s threads are allowed; a node needs a few dozen, however many its clients are", number(pids))
	}
}
