// Writes what the official adapters hand to their Redis client, as vectors for the tests, beside this folder:
//   npm ci --ignore-scripts && node capture.mjs redis://127.0.0.1:6379
// "sharded": createShardedAdapter in its three modes. "streams": the streams adapter, and what it reads. Binary is hex.
import { createServer } from "node:http";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { createAdapter } from "@socket.io/redis-streams-adapter";
import { createShardedAdapter } from "@socket.io/redis-adapter";
import { createClient } from "redis";
import { Server } from "socket.io";
import { io as connect } from "socket.io-client";

const url = process.argv[2];
const twenty = "exactly-twenty-chars";
const open = [];
let log = [];

async function close() {
  for (const end of open.splice(0).reverse()) await end();
}

async function redis() {
  const client = await createClient({ url }).connect();
  // What the adapter calls is written down, then done.
  for (const [method, verb] of [["sPublish", "spublish"], ["publish", "publish"]]) {
    const real = client[method].bind(client);
    client[method] = (channel, payload) => {
      log.push({ verb, key: channel, ...(typeof payload === "string" ? { json: payload } : { msgpack: payload.toString("hex") }) });
      return real(channel, payload);
    };
  }
  const xAdd = client.xAdd.bind(client);
  client.xAdd = (key, id, fields, options) => {
    log.push({ verb: "xadd", key, fields: Object.entries(fields).flat(), trim: options.TRIM });
    return xAdd(key, id, fields, options);
  };
  return client;
}

async function start(adapter) {
  const http = createServer();
  const io = new Server(http, { adapter: await adapter(), serveClient: false });
  io.of("/admin");
  http.listen(0, "127.0.0.1");
  await once(http, "listening");
  open.push(() => io.close());
  return { io, uid: io.of("/").adapter.uid, admin: io.of("/admin").adapter.uid, url: `http://127.0.0.1:${http.address().port}` };
}

const values = [
  "text", "snow ☃ 😀", "", 0, -1, 4294967296, 9007199254740991, 1.5, -0.25, 1e-7, true, false, null, [], {}, [1, [2]], { a: { b: ["c"] } },
];
const binary = [Buffer.from([1, 2, 3]), { deep: [Buffer.from("x")] }, new Uint8Array([9])];

async function capture(adapter) {
  const a = await start(adapter);
  const b = await start(adapter);
  const client = connect(b.url, { transports: ["websocket"] });
  open.push(() => client.close());
  await once(client, "connect");
  const sid = client.id;
  const socket = b.io.of("/").sockets.get(sid);
  socket.data = { name: "Ann", n: 1 };
  socket.join(["r1", "r 2"]);
  client.on("ask", (...args) => args.at(-1)({ bin: Buffer.from([1, 2]) }, "ignored"));
  client.on("nothing", (...args) => args.at(-1)());
  b.io.on("hello", (value, ...rest) => typeof rest.at(-1) === "function" && rest.at(-1)({ got: value }));
  b.io.on("bytes", (done) => done(Buffer.from([1])));
  b.io.on("silent", (done) => done());
  while ((await a.io.of("/").adapter.serverCount()) !== 2) await new Promise((resolve) => setTimeout(resolve, 10));

  const vectors = [];
  async function act(names, action) {
    log = [];
    const result = action();
    const deadline = Date.now() + 5000;
    while (log.length < names.length) {
      if (Date.now() > deadline) throw new Error(`${names}: only ${log.length} messages`);
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    await result;
    log.forEach((entry, i) => vectors.push({ name: names[i], ...entry }));
  }
  await act(["broadcast"], () => a.io.emit("ev", 1, "two"));
  await act(["broadcast values"], () => a.io.emit("ev", ...values));
  await act(["broadcast binary"], () => a.io.emit("ev", ...binary));
  await act(["broadcast date"], () => a.io.emit("ev", new Date(1700000000000)));
  await act(["broadcast date and binary"], () => a.io.emit("ev", new Date(1700000000000), Buffer.from([1])));
  await act(["broadcast undefined"], () => a.io.emit("ev", undefined, { gone: undefined }, NaN));
  await act(["broadcast room"], () => a.io.to("r1").emit("ev"));
  await act(["broadcast room binary"], () => a.io.to("r1").emit("ev", Buffer.from([1])));
  await act(["broadcast twenty"], () => a.io.to(twenty).emit("ev"));
  await act(["broadcast twenty units"], () => a.io.to("😀".repeat(10)).emit("ev"));
  await act(["broadcast socket"], () => a.io.to(sid).emit("ev"));
  await act(["broadcast rooms"], () => a.io.to(["r1", "r2"]).except("r3").emit("ev"));
  await act(["broadcast except"], () => a.io.except(["r1", "r2"]).emit("ev"));
  await act(["broadcast flags"], () => a.io.volatile.compress(false).emit("ev"));
  await act(["broadcast namespace"], () => a.io.of("/admin").to("r1").emit("ev"));
  await act(["broadcast from socket"], () => socket.to("r1").emit("ev"));
  await act(["ack request", "ack count", "ack answer"], () => a.io.to("r1").timeout(1000).emitWithAck("ask", 1, Buffer.from([7])));
  await act(["ack request plain", "ack count plain", "ack nothing"], () => a.io.timeout(2000).emitWithAck("nothing"));
  await act(["join"], () => a.io.in("r1").except("r2").socketsJoin(["x", "y"]));
  await act(["leave"], () => a.io.socketsLeave("x"));
  await act(["disconnect"], () => a.io.in("nobody").disconnectSockets(true));
  await act(["fetch", "fetch response"], () => a.io.in("r1").fetchSockets());
  await act(["server event"], () => a.io.serverSideEmit("hello", "w"));
  await act(["server event binary"], () => a.io.serverSideEmit("hello", Buffer.from([1])));
  await act(["server event ack", "server event answer"], () => a.io.serverSideEmitWithAck("hello", "w"));
  await act(["server event ack binary", "server event answer binary"], () => a.io.serverSideEmitWithAck("bytes"));
  await act(["server event ack silent", "server event answer undefined"], () => a.io.serverSideEmitWithAck("silent"));
  await close();
  return { a: a.uid, b: b.uid, admin: a.admin, sid, vectors };
}

const write = (name, value) => writeFileSync(new URL(`../${name}.json`, import.meta.url), `${pretty(value)}\n`);
// One vector a line.
const pretty = (all) => `{\n${Object.entries(all).map(([name, { vectors, ...rest }]) =>
  `  ${JSON.stringify(name)}: ${JSON.stringify(rest).slice(0, -1)}, "vectors": [\n${vectors.map((v) => `    ${JSON.stringify(v)}`).join(",\n")}\n  ]}`).join(",\n")}\n}`;

const sharded = {};
for (const subscriptionMode of ["dynamic", "dynamic-private", "static"]) {
  sharded[subscriptionMode] = await capture(async () => createShardedAdapter(await redis(), await redis(), { subscriptionMode }));
}
write("sharded", sharded);

const streams = {};
streams.default = await capture(async () => createAdapter(await redis()));
streams.plaintext = await capture(async () => createAdapter(await redis(), { onlyPlaintext: true, useShardedPubSub: true }));
// Which stream each namespace is written to.
const names = { streamCount: 4, vectors: [] };
const four = await start(async () => createAdapter(await redis(), { streamCount: 4 }));
for (const nsp of ["/", "/a", "/admin", "/notifications", "/chat", "/😀", "/users/42", "/é", "/polygenelubricants", "/AaAaAa", "/a/very/long/name/of/a/namespace"]) {
  log = [];
  four.io.of(nsp).emit("ev");
  names.vectors.push({ name: nsp, key: log[0].key });
}
streams.names = names;
write("streams", streams);
process.exit();
