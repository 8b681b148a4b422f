package preflight_test

import (
	"maps"
	"testing"

	"github.com/seed-0b620db0/patchbay/internal/preflight"
)

const limits = `Limit                     Soft Limit           Hard Limit           Units     
Max processes             unlimited            unlimited            processes 
Max open files            1024                 1048576              files     `

// big is a host that nothing is wrong with.
var big = map[string]string{
	"proc/self/limits":                          limits,
	"proc/self/cgroup":                          "0::/",
	"proc/meminfo":                              "MemTotal:       65536000 kB\nMemFree:  1 kB\nMemAvailable:   60000000 kB",
	"proc/sys/fs/file-max":                      "9223372036854775807",
	"proc/sys/fs/file-nr":                       "1000\t0\t9223372036854775807",
	"proc/sys/fs/epoll/max_user_watches":        "14000000",
	"proc/sys/kernel/threads-max":               "500000",
	"proc/sys/net/core/somaxconn":               "4096",
	"proc/sys/net/ipv4/tcp_max_syn_backlog":     "4096",
	"proc/sys/net/ipv4/ip_local_port_range":     "32768\t60999",
	"proc/sys/net/netfilter/nf_conntrack_max":   "262144",
	"proc/sys/net/netfilter/nf_conntrack_count": "2144",
	"sys/fs/cgroup/memory.max":                  "max",
	"sys/fs/cgroup/cpu.max":                     "max 100000",
	"sys/fs/cgroup/pids.max":                    "max",
}

// with is big with other files; an empty one is not there.
func with(t *testing.T, files ...string) string {
	t.Helper()
	all := maps.Clone(big)
	for i := 0; i < len(files); i += 2 {
		all[files[i]] = files[i+1]
		if files[i+1] == "" {
			delete(all, files[i])
		}
	}
	return fakeHost(t, all)
}

func TestHost(t *testing.T) {
	r := check(t, preflight.Options{Root: with(t)})
	none(t, r, preflight.Warn, "host.")
	none(t, r, preflight.Fail, "host.")
	want(t, r, preflight.OK, "host.files", "1,048,576 (hard limit)", "which is 1,024")
	want(t, r, preflight.OK, "host.memory", "62 GB, no limit of the cgroup")
	want(t, r, preflight.OK, "host.ports", "32768 to 60999")
	want(t, r, preflight.OK, "host.conntrack", "2,144 of 262,144")

	const mb = "1048576"
	for name, c := range map[string]struct {
		files  []string
		status preflight.Status
		check  string
		words  []string
	}{
		"files":           {[]string{"proc/self/limits", "Max open files            1024                 4096                 files"}, preflight.Warn, "host.files", []string{"4,096", "LimitNOFILE"}},
		"no limit":        {[]string{"proc/self/limits", "Max open files  unlimited  unlimited  files"}, preflight.OK, "host.files", []string{"no limit"}},
		"files of all":    {[]string{"proc/sys/fs/file-max", "10000", "proc/sys/fs/file-nr", "9000 0 10000"}, preflight.Fail, "host.files", []string{"9,000 of 10,000"}},
		"backlog":         {[]string{"proc/sys/net/core/somaxconn", "128"}, preflight.Warn, "host.backlog", []string{"somaxconn 128", "sysctl"}},
		"syn backlog":     {[]string{"proc/sys/net/ipv4/tcp_max_syn_backlog", "256"}, preflight.Warn, "host.backlog", []string{"tcp_max_syn_backlog 256"}},
		"conntrack":       {[]string{"proc/sys/net/netfilter/nf_conntrack_count", "250000"}, preflight.Fail, "host.conntrack", []string{"250,000 of 262,144", "packets are dropped"}},
		"cgroup 2":        {[]string{"sys/fs/cgroup/memory.max", "1073741824"}, preflight.Warn, "host.memory", []string{"1.0 GB", "GOMEMLIMIT to 716MiB"}},
		"cgroup 2 nested": {[]string{"proc/self/cgroup", "0::/a/b", "sys/fs/cgroup/a/memory.max", "536870912", "sys/fs/cgroup/a/b/memory.max", "max"}, preflight.Warn, "host.memory", []string{"512 MB"}},
		"cgroup 1": {[]string{
			"proc/self/cgroup", "5:devices:/x\n4:memory:/docker/abc\n1:cpu,cpuacct:/", "sys/fs/cgroup/memory/memory.limit_in_bytes", "268435456",
			"sys/fs/cgroup/memory.max", "",
		}, preflight.Warn, "host.memory", []string{"256 MB"}},
		"cgroup 1 without": {[]string{
			"proc/self/cgroup", "4:memory:/", "sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712", "sys/fs/cgroup/memory.max", "",
		}, preflight.OK, "host.memory", []string{"no limit of the cgroup"}},
		"cpu":           {[]string{"sys/fs/cgroup/cpu.max", "50000 100000"}, preflight.Warn, "host.cpu", []string{"0.50 CPUs"}},
		"cpus":          {[]string{"sys/fs/cgroup/cpu.max", "250000 100000"}, preflight.OK, "host.cpu", []string{"2.50 CPUs"}},
		"cpu 1":         {[]string{"proc/self/cgroup", "1:cpu,cpuacct:/x", "sys/fs/cgroup/cpu/cpu.cfs_quota_us", "20000", "sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000"}, preflight.Warn, "host.cpu", []string{"0.20 CPUs"}},
		"cpu 1 without": {[]string{"proc/self/cgroup", "1:cpu:/", "sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1", "sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000"}, preflight.OK, "host.cpu", []string{"no limit"}},
		"threads":       {[]string{"sys/fs/cgroup/pids.max", "32"}, preflight.Warn, "host.threads", []string{"32 threads", "--pids-limit"}},
		"no /proc":      {[]string{"proc/self/limits", ""}, preflight.Note, "host.limits", nil},
		"nonsense":      {[]string{"proc/sys/net/core/somaxconn", "many", "proc/meminfo", "MemTotal: much", "sys/fs/cgroup/memory.max", mb + "x"}, preflight.Note, "host.memory", []string{"cannot be read"}},
	} {
		t.Run(name, func(t *testing.T) {
			want(t, check(t, preflight.Options{Root: with(t, c.files...)}), c.status, c.check, c.words...)
		})
	}
}

// A container with 1 GiB on a host with the usual settings.
func TestCapacity(t *testing.T) {
	root := with(t, "sys/fs/cgroup/memory.max", "1073741824", "proc/self/limits", "Max open files  20100  20100  files")
	r := check(t, preflight.Options{Root: root, Clients: 30_000}, "MAX_SESSIONS=60000")
	const none = -1
	got := map[string][2]int64{}
	last := int64(0)
	for _, l := range r.Capacity.Limits {
		n := [2]int64{none, none}
		lowest := int64(1 << 62)
		for i, p := range []*int64{l.Direct, l.BehindNginx} {
			if p != nil {
				n[i] = *p
				lowest = min(lowest, *p)
			}
		}
		if got[l.Name] = n; lowest < last {
			t.Errorf("%s is not in its place", l.Name)
		}
		last = lowest
	}
	const base, idle, poll = 40 << 20, 11 << 10, 37 << 10
	for name, want := range map[string][2]int64{
		"files": {20_000, 10_000}, "ports": {none, 28_232}, "sessions": {60_000, 60_000}, "conntrack": {260_000, 130_000}, "epoll": {7_000_000, 3_500_000},
		"memory": {(1<<30 - base) / idle, (1<<30 - base) / idle}, "memory-polling": {(1<<30 - base) / poll, (1<<30 - base) / poll},
	} {
		if got[name] != want {
			t.Errorf("%s: got %v, want %v", name, got[name], want)
		}
	}
	if len(got) != 7 {
		t.Errorf("got %v", got)
	}
	if b := r.Capacity.Direct; b.Clients != 20_000 || b.Limit != "files" {
		t.Errorf("direct: %+v", b)
	}
	if b := r.Capacity.BehindNginx; b.Clients != 10_000 || b.Limit != "files" {
		t.Errorf("behind nginx: %+v", b)
	}
	want(t, r, preflight.Warn, "capacity.clients", "30,000 clients that reach it from other hosts: breaks at 20,000", "LimitNOFILE")
	want(t, r, preflight.Warn, "capacity.clients", "30,000 clients behind an nginx on this host: breaks at 28,232", "proxy_bind")
	want(t, r, preflight.Warn, "capacity.clients", "breaks at 27,232", "all on long-polling", "GATEWAY_TRANSPORTS=websocket")
	want(t, r, preflight.Note, "capacity.storm", "4,096 wait")

	r = check(t, preflight.Options{Root: root, Clients: 10_000})
	want(t, r, preflight.OK, "capacity.clients", "holds 10,000, and at most 20,000")
	want(t, r, preflight.OK, "capacity.clients", "holds 10,000, and at most 10,000", "files")
	r = check(t, preflight.Options{Root: root})
	want(t, r, preflight.OK, "capacity.clients", "holds at most 20,000")
}
