package peers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

// redisRegistry keeps all nodes in one hash, tag to JSON, so that one command tells of all of them and a Redis Cluster has
// them in one place. The times are Redis's own.
type redisRegistry struct {
	rdb goredis.UniversalClient
	key string
}

var (
	_ Registry = (*redisRegistry)(nil)
	_ Trial    = (*redisRegistry)(nil)
)

// NewRedis returns a registry in the key prefix + ":nodes".
func NewRedis(rdb goredis.UniversalClient, prefix string) Registry {
	return &redisRegistry{rdb, prefix + ":nodes"}
}

// maxNodes bounds what is read from where others may write to.
const maxNodes = 4096

const luaNow = `
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local function living(v)
  local ok, e = pcall(cjson.decode, v)
  return ok and type(e) == 'table' and type(e.expires) == 'number' and e.expires > now and e
end
`

// The scripts are short and touch no more than the nodes that there are.
var (
	// tag, node, ttl in ms, succeed -> {1 if renewed} or {0, the entry of another}
	registerScript = goredis.NewScript(luaNow + `
local all = redis.call('HGETALL', KEYS[1])
local old
for i = 1, #all, 2 do
  local e = living(all[i + 1])
  if not e then redis.call('HDEL', KEYS[1], all[i])
  elseif all[i] == ARGV[1] then old = e end
end
local new = cjson.decode(ARGV[2])
if old and old.id ~= new.id and not (ARGV[4] == '1' and old.addr == new.addr) then
  return {0, redis.call('HGET', KEYS[1], ARGV[1])}
end
new.expires = now + ARGV[3]
redis.call('HSET', KEYS[1], ARGV[1], cjson.encode(new))
redis.call('PEXPIRE', KEYS[1], ARGV[3] * 10)
if old and old.id == new.id then return {1} end
return {0}
`)
	// field: one that no tag can be, with what is no entry
	tryScript = goredis.NewScript(luaNow + `
redis.call('HGETALL', KEYS[1])
local ttl = redis.call('PTTL', KEYS[1])
redis.call('HSET', KEYS[1], ARGV[1], '')
if ttl > 0 then redis.call('PEXPIRE', KEYS[1], ttl)
elseif ttl == -2 then redis.call('PEXPIRE', KEYS[1], 1000) end
redis.call('HDEL', KEYS[1], ARGV[1])
return now
`)
	// tag, id
	removeScript = goredis.NewScript(`
local ok, e = pcall(cjson.decode, redis.call('HGET', KEYS[1], ARGV[1]) or '')
if ok and type(e) == 'table' and e.id == ARGV[2] then return redis.call('HDEL', KEYS[1], ARGV[1]) end
return 0
`)
	// limit -> entries
	listScript = goredis.NewScript(luaNow + `
local out = {}
for _, v in ipairs(redis.call('HVALS', KEYS[1])) do
  if #out < tonumber(ARGV[1]) and living(v) then out[#out + 1] = v end
end
return out
`)
)

// Register implements Registry.
func (r *redisRegistry) Register(ctx context.Context, n Node, ttl time.Duration, succeed bool) (renewed bool, err error) {
	entry, err := json.Marshal(n)
	if err != nil {
		return false, fmt.Errorf("registry: %w", err)
	}
	out, err := registerScript.Run(ctx, r.rdb, []string{r.key}, n.Tag, entry, ttl.Milliseconds(), succeed).Slice()
	if err != nil {
		return false, fmt.Errorf("registry: %w", err)
	}
	if len(out) > 1 {
		var by Node
		if s, ok := out[1].(string); ok {
			err = json.Unmarshal([]byte(s), &by)
		}
		return false, errors.Join(&TakenError{By: by}, err)
	}
	return len(out) == 1 && out[0] == int64(1), nil
}

// Try implements Trial. A script is one step to all others.
func (r *redisRegistry) Try(ctx context.Context) error {
	if err := tryScript.Run(ctx, r.rdb, []string{r.key}, "/try").Err(); err != nil {
		return fmt.Errorf("registry: %w", err)
	}
	return nil
}

// Remove implements Registry.
func (r *redisRegistry) Remove(ctx context.Context, n Node) error {
	if err := removeScript.Run(ctx, r.rdb, []string{r.key}, n.Tag, n.ID).Err(); err != nil {
		return fmt.Errorf("registry: %w", err)
	}
	return nil
}

// List implements Registry.
func (r *redisRegistry) List(ctx context.Context) ([]Node, error) {
	entries, err := listScript.Run(ctx, r.rdb, []string{r.key}, maxNodes).StringSlice()
	if err != nil {
		return nil, fmt.Errorf("registry: %w", err)
	}
	all := make([]Node, 0, len(entries))
	for _, e := range entries {
		var n Node
		if err := json.Unmarshal([]byte(e), &n); err == nil && n.Tag != "" && n.ID != "" { // else it is not ours
			all = append(all, n)
		}
	}
	return all, nil
}
