// The official adapters and emitters under test, by the names that fleets go by.
import { createAdapter, createShardedAdapter } from "@socket.io/redis-adapter";
import { Emitter } from "@socket.io/redis-emitter";
import { createAdapter as createStreamsAdapter } from "@socket.io/redis-streams-adapter";
import { createClient } from "redis";
import { StreamsEmitter } from "./streams-emitter.mjs";

async function connect(url) {
  const client = createClient({ url });
  client.on("error", () => {}); // it connects again by itself
  return client.connect();
}

const classic = (options) => ({
  adapter: async (url) => createAdapter(await connect(url), await connect(url), options),
  emitter: async (url) => new Emitter(await connect(url)),
});

const sharded = (subscriptionMode) => ({
  adapter: async (url) => createShardedAdapter(await connect(url), await connect(url), { subscriptionMode }),
});

const streams = (options) => ({
  adapter: async (url) => createStreamsAdapter(await connect(url), options),
  emitter: async (url) => new StreamsEmitter(await connect(url)),
});

// adapter makes the option of the server, emitter an emitter if there is an official one.
export const adapters = {
  "classic": classic(),
  "classic-specific": classic({ publishOnSpecificResponseChannel: true }),
  "sharded": sharded("dynamic"),
  "sharded-static": sharded("static"),
  "sharded-dynamic-private": sharded("dynamic-private"),
  "streams": streams(),
  "streams-sharded": streams({ useShardedPubSub: true }),
};
