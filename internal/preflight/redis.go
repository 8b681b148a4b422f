package preflight

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/seed-0b620db0/patchbay/internal/gateway"
	"github.com/seed-0b620db0/patchbay/internal/peers"
)

// stepTimeout bounds what a server is asked.
const stepTimeout = 3 * time.Second

// roundTrips are sent to measure how long one takes.
const roundTrips = 5

// slowRoundTrip is one that is not that of a server nearby.
const slowRoundTrip = 50 * time.Millisecond

// redis checks the Redis of the configuration. The registry is nil if there is none to be had.
func (c *checker) redis(ctx context.Context) (peers.Registry, func()) {
	place, err := c.cfg.RedisPlace()
	var rdb goredis.UniversalClient
	if err == nil {
		rdb, err = c.cfg.RedisClient()
	}
	if err != nil { // the configuration was fine a moment ago
		c.fail("redis.connect", "", "%s", c.text(err))
		return nil, func() {}
	}
	closeBus := func() { _ = rdb.Close() } // nothing of it is used any more
	if place.Kind != gateway.RedisUnix {
		c.towards = place.Addrs
	}
	if place.Kind == gateway.RedisSentinel {
		c.sentinels(ctx, place)
	}
	if !c.redisConnect(ctx, rdb, place) {
		return nil, closeBus
	}
	if !place.TLS && slices.ContainsFunc(place.Addrs, distant) {
		c.note("redis.tls", "rediss://", "what goes to Redis, the password too, is not encrypted")
	}
	registry := peers.NewRedis(rdb, c.cfg.RedisKey)
	c.bounded(ctx, stepTimeout, func(ctx context.Context) { c.count(ctx, registry) })
	servers := mastersOf(ctx, rdb)
	found := make([][]Finding, len(servers))
	var asked sync.WaitGroup
	for i, s := range servers {
		asked.Go(func() { found[i] = c.redisServer(ctx, s) })
	}
	asked.Wait()
	c.merge(found, servers)
	if cluster, ok := rdb.(*goredis.ClusterClient); ok {
		c.redisCluster(ctx, cluster)
	}
	c.redisRoundTrip(ctx, rdb)
	c.redisRights(ctx, rdb)
	if c.cfg.Adapter == adapterStreams {
		c.redisStream(ctx, rdb)
	}
	c.tryRegistry(ctx, "redis.scripts", registry, "scripts run (EVALSHA), and the hash "+c.cfg.RedisKey+":nodes can be written",
		"the user needs EVALSHA and EVAL, and HSET, HDEL, HGET, HGETALL, HVALS, PEXPIRE and TIME on this hash")
	return registry, closeBus
}

// tryRegistry does what a node does to register, without a trace.
func (c *checker) tryRegistry(ctx context.Context, check string, registry peers.Registry, good, advice string) {
	trial, ok := registry.(peers.Trial)
	if !ok {
		return
	}
	c.bounded(ctx, stepTimeout, func(ctx context.Context) {
		if err := trial.Try(ctx); err != nil {
			c.fail(check, advice, "a node could not register: %s", c.text(err))
			return
		}
		c.ok(check, "%s", good)
	})
}

// distant tells whether an address is not on this host.
func distant(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	ip := net.ParseIP(host)
	return err == nil && host != "localhost" && (ip == nil || !ip.IsLoopback())
}

// mastersOf returns a client of each master.
func mastersOf(ctx context.Context, rdb goredis.UniversalClient) []*goredis.Client {
	switch rdb := rdb.(type) {
	case *goredis.Client:
		return []*goredis.Client{rdb}
	case *goredis.ClusterClient:
		var mu sync.Mutex
		var all []*goredis.Client
		_ = rdb.ForEachMaster(ctx, func(_ context.Context, m *goredis.Client) error { // who is not there is told by CLUSTER INFO
			mu.Lock()
			defer mu.Unlock()
			all = append(all, m)
			return nil
		})
		slices.SortFunc(all, func(a, b *goredis.Client) int { return strings.Compare(a.Options().Addr, b.Options().Addr) })
		return all
	}
	return nil
}

// merge reports what several servers have in common once.
func (c *checker) merge(found [][]Finding, servers []*goredis.Client) {
	for i, findings := range found {
		for _, f := range findings {
			where := ""
			if len(servers) > 1 {
				where = servers[i].Options().Addr + ": "
			}
			same := 0
			for j, others := range found {
				if slices.Contains(others, f) {
					same++
					if j < i {
						same = -len(found) // it was said there
					}
				}
			}
			switch {
			case same < 0:
				continue
			case same > 1:
				where = fmt.Sprintf("%d of %d masters: ", same, len(servers))
			}
			f.Text = where + f.Text
			c.report.add(f)
		}
	}
}

// redisConnect tells whether Redis answers, and what to do if not.
func (c *checker) redisConnect(ctx context.Context, rdb goredis.UniversalClient, place gateway.RedisPlace) bool {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout+time.Second)
	defer cancel()
	begun := time.Now()
	err := rdb.Ping(ctx).Err()
	if err == nil {
		c.ok("redis.connect", "%s answers (%s), after %s with what it takes to connect", strings.Join(place.Addrs, ", "), place.Kind, ms(time.Since(begun)))
		return true
	}
	text := c.text(err)
	advice := "is it the right address, does Redis run, does a firewall let this host through?"
	switch {
	case contains(text, "NOAUTH", "WRONGPASS", "AUTH failed", "invalid password", "invalid username"):
		advice = "correct the user or the password in GATEWAY_REDIS_URL"
	case contains(text, "NOPERM"):
		advice = "let the user run PING: ACL SETUSER name +ping"
	case contains(text, "x509", "certificate"):
		advice = "GATEWAY_REDIS_TLS_CA_FILE names the CA that has signed its certificate, GATEWAY_REDIS_TLS_SERVER_NAME the name in it"
	case contains(text, "tls:", "EOF", "first record"), place.TLS && errors.Is(err, context.DeadlineExceeded):
		advice = "does it speak TLS? rediss:// is with, redis:// without"
	case contains(text, "cluster support disabled"):
		advice = "it is no Redis Cluster: redis:// instead of redis+cluster://"
	case contains(text, "sentinel"):
		advice = "do the sentinels know the master by the name in GATEWAY_REDIS_URL, and is their password sentinel_password?"
	}
	c.fail("redis.connect", advice, "%s (%s): %s", strings.Join(place.Addrs, ", "), place.Kind, text)
	return false
}

func contains(text string, words ...string) bool {
	return slices.ContainsFunc(words, func(w string) bool { return strings.Contains(strings.ToLower(text), strings.ToLower(w)) })
}

// redisServer looks at one server.
func (c *checker) redisServer(ctx context.Context, rdb *goredis.Client) (found []Finding) {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	add := func(s Status, check, advice, format string, args ...any) {
		found = append(found, Finding{Check: check, Status: s, Text: fmt.Sprintf(format, args...), Advice: advice})
	}
	text, err := rdb.Info(ctx).Result()
	if err != nil {
		add(Note, "redis.version", "let the user run INFO, or look at version, memory and clients yourself", "INFO is not to be had: %s", c.text(err))
	}
	info := make(map[string]string)
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			info[name] = value
		}
	}
	if err == nil {
		c.redisVersion(info, add)
		c.redisMemory(info, add)
		c.redisClients(ctx, rdb, info, add)
	}
	c.redisBuffer(ctx, rdb, add)
	begun := time.Now()
	if now, err := rdb.Time(ctx).Result(); err == nil {
		took := time.Since(begun)
		sub := &checker{report: &Report{Counts: map[Status]int{}}}
		sub.skew("redis.clock", now.Sub(begun.Add(took/2)), took/2)
		found = append(found, sub.report.Findings...)
	} else {
		add(Note, "redis.clock", "let the user run TIME", "its clock is not to be had: %s", c.text(err))
	}
	return found
}

type adder func(s Status, check, advice, format string, args ...any)

func (c *checker) redisVersion(info map[string]string, add adder) {
	version := info["redis_version"]
	major, _ := strconv.Atoi(strings.SplitN(version, ".", 2)[0])
	name := "Redis " + version
	if v := info["valkey_version"]; v != "" {
		name = "Valkey " + v
	}
	switch {
	case c.cfg.Adapter == adapterSharded && major < 7:
		add(Fail, "redis.version", "GATEWAY_ADAPTER=redis, or Redis 7", "%s has no sharded pub/sub", name)
	case versionBelow(version, 6, 2):
		add(Warn, "redis.version", "use 6.2 or later", "%s is older than what is tested", name)
	default:
		add(OK, "redis.version", "", "%s, %s", name, info["redis_mode"])
	}
	if info["role"] == "slave" {
		add(Fail, "redis.role", "let GATEWAY_REDIS_URL lead to the master, or to the sentinels", "this is a replica, which nobody can register at")
	}
	if _, cluster := info["cluster_enabled"]; cluster && info["cluster_enabled"] == "1" && c.redisKind() != gateway.RedisCluster {
		add(Warn, "redis.role", "redis+cluster://", "this is one server of a Redis Cluster: keys of the others are out of reach, and it may fail alone")
	}
}

func (c *checker) redisKind() string {
	place, _ := c.cfg.RedisPlace() // it was read before
	return place.Kind
}

func versionBelow(version string, major, minor int) bool {
	parts := strings.SplitN(version, ".", 3)
	if len(parts) < 2 {
		return false
	}
	a, err1 := strconv.Atoi(parts[0])
	b, err2 := strconv.Atoi(parts[1])
	return err1 == nil && err2 == nil && (a < major || a == major && b < minor)
}

func (c *checker) redisMemory(info map[string]string, add adder) {
	used, _ := strconv.ParseInt(info["used_memory"], 10, 64)
	most, _ := strconv.ParseInt(info["maxmemory"], 10, 64)
	policy := info["maxmemory_policy"]
	what := "the list of nodes"
	if c.cfg.Adapter == adapterStreams {
		what = "the stream and the list of nodes"
	}
	switch {
	case most == 0:
		add(OK, "redis.memory", "", "uses %s, and has no maxmemory", bytes(used))
	case policy != "noeviction":
		add(Warn, "redis.memory", "maxmemory-policy noeviction, and an instance for the gateway alone", "maxmemory-policy %s: Redis may throw away %s when it has %s", policy, what, bytes(most))
	case float64(used) > 0.8*float64(most):
		add(Warn, "redis.memory", "raise maxmemory", "uses %s of %s: when it is full, nodes cannot register or write", bytes(used), bytes(most))
	default:
		add(OK, "redis.memory", "", "uses %s of %s, and throws nothing away (noeviction)", bytes(used), bytes(most))
	}
}

func (c *checker) redisClients(ctx context.Context, rdb *goredis.Client, info map[string]string, add adder) {
	const subscribed = 2 // connections, at most
	need := int64(rdb.Options().PoolSize + subscribed)
	now, _ := strconv.ParseInt(info["connected_clients"], 10, 64)
	most, err := strconv.ParseInt(info["maxclients"], 10, 64)
	if err != nil {
		text, failed := rdb.ConfigGet(ctx, "maxclients").Result()
		if most, err = strconv.ParseInt(text["maxclients"], 10, 64); failed != nil || err != nil {
			return
		}
	}
	text := fmt.Sprintf("%s of %s clients are connected; %s need %s at most", number(now), number(most), c.nodesText(), number(int64(c.nodes)*need))
	if most-now < 2*need || most < int64(c.nodes)*need {
		add(Warn, "redis.clients", "raise maxclients", "%s", text)
		return
	}
	add(OK, "redis.clients", "", "%s", text)
}

// nodesText says how many nodes there are.
func (c *checker) nodesText() string {
	if c.nodes == 1 {
		return "1 node may"
	}
	return strconv.Itoa(c.nodes) + " nodes may"
}

// redisBuffer looks at what Redis keeps for a subscriber that is slow.
func (c *checker) redisBuffer(ctx context.Context, rdb *goredis.Client, add adder) {
	const check = "redis.output_buffer"
	const advice = "client-output-buffer-limit pubsub 256mb 64mb 60, if Redis has the memory for it"
	got, err := rdb.ConfigGet(ctx, "client-output-buffer-limit").Result()
	hard, soft, seconds, ok := pubsubLimit(got["client-output-buffer-limit"])
	if err != nil || !ok {
		add(Note, check, "look up client-output-buffer-limit pubsub yourself: 256mb 64mb 60 is fine", "CONFIG GET is not to be had: the limit of slow subscribers is not known")
		return
	}
	largest := int64(c.cfg.MaxHTTPBufferSize)
	switch {
	case hard == 0 && soft == 0:
		add(OK, check, "", "a subscriber that is slow is never cut off, whatever memory that takes")
	case hard > 0 && hard < 4*largest || soft > 0 && soft < 2*largest:
		add(Warn, check, advice, "Redis cuts off a node that is %s behind (or %s for %d s), and messages have up to %s (GATEWAY_MAX_HTTP_BUFFER_SIZE)", bytes(hard), bytes(soft), seconds, bytes(largest))
	case hard > 0 && hard <= 32<<20:
		add(Warn, check, advice, "Redis cuts off a node that is %s behind (or %s for %d s), its default: what the node had not read is lost", bytes(hard), bytes(soft), seconds)
	default:
		add(OK, check, "", "Redis cuts off a node that is %s behind (or %s for %d s)", bytes(hard), bytes(soft), seconds)
	}
}

// pubsubLimit reads "normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60".
func pubsubLimit(text string) (hard, soft, seconds int64, ok bool) {
	fields := strings.Fields(text)
	i := slices.Index(fields, "pubsub")
	if i < 0 || i+3 >= len(fields) {
		return 0, 0, 0, false
	}
	hard, err1 := strconv.ParseInt(fields[i+1], 10, 64)
	soft, err2 := strconv.ParseInt(fields[i+2], 10, 64)
	seconds, err3 := strconv.ParseInt(fields[i+3], 10, 64)
	return hard, soft, seconds, errors.Join(err1, err2, err3) == nil
}

func (c *checker) redisCluster(ctx context.Context, rdb *goredis.ClusterClient) {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	text, err := rdb.ClusterInfo(ctx).Result()
	switch {
	case err != nil:
		c.note("redis.cluster", "let the user run CLUSTER INFO", "its state is not to be had: %s", c.text(err))
	case !strings.Contains(text, "cluster_state:ok"):
		c.fail("redis.cluster", "redis-cli --cluster check", "it says that it is not whole: %s", strings.Join(strings.Fields(firstLines(text, 5)), " "))
	default:
		c.ok("redis.cluster", "it says that it is whole")
	}
	if c.cfg.Adapter == adapterRedis {
		c.note("redis.cluster", "GATEWAY_ADAPTER=redis-sharded on all nodes, if load on it is high", "each message goes to all servers of the Redis Cluster")
	}
}

func firstLines(text string, n int) string {
	lines := strings.SplitAfter(text, "\n")
	return strings.Join(lines[:min(n, len(lines))], "")
}

// sentinels asks each of those in the URL.
func (c *checker) sentinels(ctx context.Context, place gateway.RedisPlace) {
	masters := make([]string, len(place.Addrs))
	errs := make([]error, len(place.Addrs))
	var asked sync.WaitGroup
	for i, addr := range place.Addrs {
		asked.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, stepTimeout)
			defer cancel()
			sentinel, err := c.cfg.SentinelClient(addr)
			if err != nil {
				errs[i] = err
				return
			}
			defer func() { _ = sentinel.Close() }() // nothing is under way
			master, err := sentinel.GetMasterAddrByName(ctx, place.Master).Result()
			if errors.Is(err, goredis.Nil) {
				err = fmt.Errorf("it knows no master %q", place.Master)
			}
			if errs[i] = err; err == nil {
				masters[i] = strings.Join(master, ":")
			}
		})
	}
	asked.Wait()
	agreed := make(map[string]struct{})
	for i, addr := range place.Addrs {
		if errs[i] != nil {
			c.warn("redis.sentinels", "a node tries the others, until none is left", "the sentinel at %s: %s", addr, c.text(errs[i]))
			continue
		}
		agreed[masters[i]] = struct{}{}
	}
	switch {
	case len(agreed) > 1:
		c.fail("redis.sentinels", "SENTINEL RESET on those that are wrong", "the sentinels do not agree who the master is: %s", strings.Join(sorted(agreed), ", "))
	case len(agreed) == 1:
		c.ok("redis.sentinels", "the master of %s is at %s", place.Master, sorted(agreed)[0])
	}
	if len(place.Addrs) == 1 {
		c.warn("redis.sentinels", "name three of them in GATEWAY_REDIS_URL", "one sentinel is named: without it no node can start or follow a failover")
	}
}

func sorted(set map[string]struct{}) (all []string) {
	for s := range set {
		all = append(all, s)
	}
	slices.Sort(all)
	return all
}

// redisRoundTrip publishes to itself, on a channel that is nobody else's.
func (c *checker) redisRoundTrip(ctx context.Context, rdb goredis.UniversalClient) {
	const check = "redis.pubsub"
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	channel := c.cfg.RedisKey + "-check#" + peers.NewID() + "#"
	subscribe, publish, kind := rdb.Subscribe, rdb.Publish, "pub/sub"
	if c.cfg.Adapter == adapterSharded {
		subscribe, publish, kind = rdb.SSubscribe, rdb.SPublish, "sharded pub/sub"
	}
	sub := subscribe(ctx, channel)
	defer func() { _ = sub.Close() }() // the connection goes with it
	_, err := sub.Receive(ctx)
	var took []time.Duration
	for i := 0; err == nil && i < roundTrips; i++ {
		begun := time.Now()
		text := strconv.Itoa(i)
		if err = publish(ctx, channel, text).Err(); err != nil {
			break
		}
		for {
			var got any
			if got, err = sub.ReceiveTimeout(ctx, stepTimeout); err != nil {
				break
			}
			if m, ok := got.(*goredis.Message); ok && m.Payload == text {
				took = append(took, time.Since(begun))
				break
			}
		}
	}
	if err != nil {
		advice := "let messages through"
		if contains(err.Error(), "NOPERM") {
			advice = "ACL SETUSER name &" + c.cfg.RedisKey + "* with the commands of pub/sub"
		}
		c.fail(check, advice, "a message to itself by %s: %s", kind, c.text(err))
		return
	}
	c.latency(check, took, "a message to itself by "+kind)
}

// latency judges round trips.
func (c *checker) latency(check string, took []time.Duration, what string) {
	slices.Sort(took)
	median, worst := took[len(took)/2], took[len(took)-1]
	if median > slowRoundTrip {
		c.warn(check, "run the nodes where it is", "%s takes %s (of %d; at worst %s): clients of other nodes get each event that much later", what, ms(median), len(took), ms(worst))
		return
	}
	c.ok(check, "%s takes %s (of %d; at worst %s)", what, ms(median), len(took), ms(worst))
}

// redisRights asks whether the user may do what a node does, on its own channels and keys. A transaction that is discarded has
// its commands checked, and runs none.
func (c *checker) redisRights(ctx context.Context, rdb goredis.UniversalClient) {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	forbidden := make(map[string]struct{})
	for _, command := range c.redisCommands() {
		name, _ := command[0].(string)
		key, _ := command[1].(string)
		on := rdb
		if cluster, ok := rdb.(*goredis.ClusterClient); ok {
			master, err := cluster.MasterForKey(ctx, key)
			if err != nil {
				continue // the cluster is not whole, which was said
			}
			on = master
		}
		single, ok := on.(*goredis.Client)
		if !ok {
			return
		}
		conn := single.Conn()
		if conn.Do(ctx, "multi").Err() == nil {
			if err := conn.Do(ctx, command...).Err(); err != nil && contains(err.Error(), "NOPERM") {
				forbidden[name+" "+key] = struct{}{}
			}
			_ = conn.Do(ctx, "discard").Err() // it ends with the connection too
		}
		_ = conn.Close()
	}
	if len(forbidden) > 0 {
		advice := "ACL SETUSER name ~" + c.cfg.RedisKey + "* &" + c.cfg.RedisKey + "* with these commands"
		if c.cfg.Adapter == adapterRedis { // Redis compares the text of a pattern with the text of the rule
			advice = "ACL SETUSER name allchannels, or, as a rule for a pattern has to be the pattern itself, &" + c.cfg.RedisKey + "* and for each namespace &" +
				c.cfg.RedisKey + "#" + c.cfg.Namespaces[0] + "#*"
		}
		c.fail("redis.rights", advice, "the user may not: %s", strings.Join(sorted(forbidden), "; "))
		return
	}
	c.ok("redis.rights", "the user may do what a node does on the channels and keys of %s", c.cfg.RedisKey)
}

// redisCommands are those that a node uses, each with its key or channel.
func (c *checker) redisCommands() [][]any {
	cfg := c.cfg
	ns := cfg.Namespaces[0]
	key := cfg.RedisKey
	main := key + "#" + ns + "#"
	canary := key + "-canary#check#"
	switch cfg.Adapter {
	case adapterSharded:
		return [][]any{{"ssubscribe", main}, {"ssubscribe", canary}, {"spublish", main, ""}, {"spublish", canary, ""}, {"pubsub", "shardnumsub", main}}
	case adapterStreams:
		stream := cfg.RedisStreamName
		return [][]any{
			{"xadd", stream, "*", "check", "check"},
			{"xread", "count", 1, "streams", stream, "0"},
			{"xrange", stream, "-", "+", "count", 1},
			{"subscribe", main},
			{"subscribe", canary},
			{"publish", main, ""},
			{"publish", canary, ""},
			{"pubsub", "numsub", main},
		}
	default:
		request, response := key+"-request#"+ns+"#", key+"-response#"+ns+"#"
		return [][]any{
			{"psubscribe", main + "*"},
			{"subscribe", request},
			{"subscribe", response},
			{"subscribe", canary},
			{"publish", main, ""},
			{"publish", request, ""},
			{"publish", response, ""},
			{"publish", canary, ""},
			{"pubsub", "numsub", request},
		}
	}
}

// redisStream writes to a stream that is nobody else's, and reads it.
func (c *checker) redisStream(ctx context.Context, rdb goredis.UniversalClient) {
	const check = "redis.streams"
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	stream := c.cfg.RedisStreamName + "-check-" + peers.NewID()
	defer func() { _ = rdb.Del(context.WithoutCancel(ctx), stream).Err() }() // below it is given an end anyway
	var took []time.Duration
	var err error
	last := "0"
	for i := 0; err == nil && i < roundTrips; i++ {
		begun := time.Now()
		if _, err = rdb.XAdd(ctx, &goredis.XAddArgs{Stream: stream, MaxLen: 10, Approx: true, Values: []any{"check", i}}).Result(); err != nil {
			break
		}
		var got []goredis.XStream
		got, err = rdb.XRead(ctx, &goredis.XReadArgs{Streams: []string{stream, last}, Block: stepTimeout}).Result()
		if err == nil && len(got) == 1 && len(got[0].Messages) > 0 {
			last = got[0].Messages[len(got[0].Messages)-1].ID
			took = append(took, time.Since(begun))
		}
	}
	if err != nil {
		c.fail(check, "ACL SETUSER name ~"+c.cfg.RedisStreamName+"* +xadd +xread +xrange", "an entry of a stream: %s", c.text(err))
		return
	}
	_ = rdb.Expire(ctx, stream, time.Minute).Err() // in case it may not delete
	c.latency(check, took, "an entry of a stream")
	if n, err := rdb.XLen(ctx, c.cfg.RedisStreamName).Result(); err == nil {
		c.ok(check, "%s has %s entries; about %s are kept", c.cfg.RedisStreamName, number(n), number(int64(c.cfg.RedisStreamMaxLen)))
	}
}
