// The official adapters and emitters under test, by the names that fleets go by. Each is loaded when it is needed.

export async function connectRedis(url) {
  const { createClient } = await import("redis");
  const client = createClient({ url });
  client.on("error", () => {}); // it connects again by itself
  return client.connect();
}

const redisAdapter = () => import("@socket.io/redis-adapter");

const classic = (options) => ({
  adapter: async (url) => (await redisAdapter()).createAdapter(await connectRedis(url), await connectRedis(url), options),
  emitter: async (url) => new (await import("@socket.io/redis-emitter")).Emitter(await connectRedis(url)),
});

const sharded = (subscriptionMode) => ({
  adapter: async (url) =>
    (await redisAdapter()).createShardedAdapter(await connectRedis(url), await connectRedis(url), { subscriptionMode }),
});

const streams = (options) => ({
  adapter: async (url) => (await import("@socket.io/redis-streams-adapter")).createAdapter(await connectRedis(url), options),
  emitter: async (url) => new (await import("./streams-emitter.mjs")).StreamsEmitter(await connectRedis(url)),
});

async function connectPostgres(url, max) {
  const { default: pg } = await import("pg");
  const pool = new pg.Pool({ connectionString: url, max });
  pool.on("error", () => {}); // it connects again by itself
  pool.on("connect", (client) => client.on("error", () => {})); // the listening one would end the process
  return pool;
}

// Nodes that know each other by heartbeats are forgotten soon, as in node/node.go. The old ones say no goodbye.
const beats = { heartbeatInterval: 1000, heartbeatTimeout: 4000, errorHandler: () => {} };

// One connection listens. With more than one other, what a server emits overtakes itself; with no more, it may publish nothing
// any more after PostgreSQL was away.
const postgres = (name) => ({
  adapter: async (url, connections = 2) => (await import(name)).createAdapter(await connectPostgres(url, connections), beats),
});

// adapter makes the option of the server, emitter an emitter if there is an official one that these servers understand.
export const adapters = {
  "classic": classic(),
  "classic-specific": classic({ publishOnSpecificResponseChannel: true }),
  "sharded": sharded("dynamic"),
  "sharded-static": sharded("static"),
  "sharded-dynamic-private": sharded("dynamic-private"),
  "streams": streams(),
  "streams-sharded": streams({ useShardedPubSub: true }),
  "postgres": postgres("@socket.io/postgres-adapter"),
  "postgres-0.4": postgres("postgres-adapter-0.4"),
  "postgres-0.3": {
    ...postgres("postgres-adapter-0.3"),
    emitter: async (url) => new (await import("@socket.io/postgres-emitter")).Emitter(await connectPostgres(url, 1)),
  },
};
