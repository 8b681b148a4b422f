package redistest

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const masterName = "main"

// Sentinel is one that watches over a master and its replica, and puts the one into the place of the other once.
type Sentinel struct {
	Servers []*Server // two; which is the master changes

	sentinel *Server
}

// StartSentinel runs a master, a replica and a sentinel until the end of the test.
func StartSentinel(t testing.TB) *Sentinel {
	t.Helper()
	master := Start(t, "--repl-diskless-sync-delay", "0")
	replica := Start(t, "--repl-diskless-sync-delay", "0", "--replicaof", loopback, strconv.Itoa(master.port))
	replica.awaitInfo(t, "master_link_status:up")
	s := &Sentinel{Servers: []*Server{master, replica}}
	s.sentinel = start(t, strings.Join([]string{
		fmt.Sprintf("sentinel monitor %s %s %d 1", masterName, loopback, master.port),
		"sentinel down-after-milliseconds " + masterName + " 1000",
		"sentinel failover-timeout " + masterName + " 10000",
		"",
	}, "\n"), nil)
	await(t, "the sentinel knows the replica", func() error {
		v, err := s.sentinel.Do("SENTINEL", "REPLICAS", masterName)
		if text := fmt.Sprint(v); err == nil && !strings.Contains(text, "master-link-status:ok") {
			err = errors.New(text)
		}
		return err
	})
	return s
}

// URL returns the address as GATEWAY_REDIS_URL has it.
func (s *Sentinel) URL() string { return "redis+sentinel://" + s.sentinel.Addr() + "/" + masterName }

// Failover makes the replica the master. Who was it before, and has not died, hears of that about ten seconds later.
func (s *Sentinel) Failover(t testing.TB) {
	t.Helper()
	old := s.Master(t)
	if _, err := s.sentinel.Do("SENTINEL", "FAILOVER", masterName); err != nil {
		t.Fatal(err)
	}
	s.await(t, 1-old)
}

// Kill ends the master at once and returns when the replica has taken its place.
func (s *Sentinel) Kill(t testing.TB) {
	t.Helper()
	old := s.Master(t)
	s.Servers[old].Kill()
	s.await(t, 1-old)
}

// Master returns the index of the server that the sentinel names.
func (s *Sentinel) Master(t testing.TB) int {
	t.Helper()
	i, err := s.master()
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func (s *Sentinel) await(t testing.TB, i int) {
	t.Helper()
	await(t, "master", func() error {
		got, err := s.master()
		if err == nil && got != i {
			err = fmt.Errorf("it is %d", got)
		}
		return err
	})
	s.Servers[i].awaitInfo(t, "role:master")
}

func (s *Sentinel) master() (int, error) {
	v, err := s.sentinel.Do("SENTINEL", "GET-MASTER-ADDR-BY-NAME", masterName)
	if err != nil {
		return 0, err
	}
	addr, _ := v.([]any)
	if len(addr) != 2 {
		return 0, fmt.Errorf("redistest: master %v", v)
	}
	i := slices.IndexFunc(s.Servers, func(o *Server) bool { return o.Addr() == net.JoinHostPort(fmt.Sprint(addr[0]), fmt.Sprint(addr[1])) })
	if i < 0 {
		return 0, fmt.Errorf("redistest: master %v", v)
	}
	return i, nil
}
