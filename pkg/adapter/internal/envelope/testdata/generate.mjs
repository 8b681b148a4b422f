// Writes golden.json: what the official adapters and emitters put on their buses, taken at the clients that they are given.
//
//   cd "$(mktemp -d)" && npm install socket.io@4.8.4 socket.io-adapter@2.5.8 @socket.io/redis-adapter@8.3.0 \
//     @socket.io/redis-streams-adapter@0.3.1 @socket.io/postgres-adapter@0.5.0 @socket.io/redis-emitter@5.1.0 @socket.io/postgres-emitter@0.1.1
//   node <here>/generate.mjs > <here>/golden.json
//
// Each entry has the name of a case, who sent it, and what: "text", or "hex" if it was binary. Of an entry of a Redis stream
// that is "data", with "type" beside it. The uid of each sender is 01…01, its first request is 02…02.

import { createRequire } from "node:module";

const require = createRequire(process.cwd() + "/");
const crypto = require("node:crypto");
let ids = 0;
crypto.randomBytes = (n) => Buffer.alloc(n, ++ids);

const { Server } = require("socket.io");
const redis = require("@socket.io/redis-adapter");
const streams = require("@socket.io/redis-streams-adapter");
const postgres = require("@socket.io/postgres-adapter");
const redisEmitter = require("@socket.io/redis-emitter");
const postgresEmitter = require("@socket.io/postgres-emitter");

const out = [];
let sent = [];
const tick = () => new Promise((resolve) => setTimeout(resolve, 5));
const payload = (p) => (typeof p === "string" ? { text: p } : { hex: Buffer.from(p).toString("hex") });

// A client of the "redis" package, and a pool of the "pg" package, that keep what they are told to publish.
const client = (numSub) => ({
  on() {}, off() {}, listenerCount: () => 2, subscribe() {}, pSubscribe() {}, sSubscribe() {}, connect: async () => {}, disconnect() {},
  xRead: () => new Promise(() => {}),
  duplicate: () => client(numSub),
  sendCommand: async () => ["channel", String(numSub)],
  publish: async (channel, p) => void sent.push({ channel, ...payload(p) }),
  sPublish: async (channel, p) => void sent.push({ channel, ...payload(p) }),
  xAdd: async (_, __, entry) => (sent.push({ type: +entry.type, ...(entry.data?.startsWith("{") ? { text: entry.data } : { hex: Buffer.from(entry.data, "base64").toString("hex") }) }), "1-0"),
});
const pool = {
  connect: async () => ({ on() {}, removeAllListeners() {}, query: async () => {}, release() {} }),
  query: async (sql, [a, p] = []) => {
    if (sql.startsWith("INSERT")) sent.push(payload(a));
    else if (sql.startsWith("SELECT pg_notify")) sent.push({ channel: a, ...payload(p) });
    return { rows: [{ id: "1" }] };
  },
};
const pg = (numSub) => function (nsp) {
  const adapter = postgres.createAdapter(pool)(nsp);
  for (let i = 1; i < numSub; i++) adapter.nodesMap.set("peer" + i, Date.now());
  return adapter;
};
const adapters = {
  classic: (n) => redis.createAdapter(client(n), client(n)),
  sharded: (n) => redis.createShardedAdapter(client(n), client(n)),
  streams: (n) => streams.createAdapter(client(n), {}),
  postgres: pg,
};
const numSub = 2;
const uid = (sender) => (sender === "classic" ? "peer01" : "ffffffffffffffff");

const b = (...bytes) => Buffer.from(bytes);
const dates = { at: new Date(1700000000123) };
const cases = {
  "broadcast": (io) => io.emit("ev", 1, "é<\u2028\"", { a: [null, true, -1.5] }),
  "broadcast in namespace": (io) => io.of("/admin").emit("ev"),
  "broadcast to room": (io) => io.to("r1").emit("ev"),
  "broadcast to rooms": (io) => io.to(["r1", "r2"]).except("r3").emit("ev", "x"),
  "broadcast to numbers": (io) => io.to([1, 2.5]).emit("ev"),
  "broadcast volatile": (io) => io.volatile.emit("ev"),
  "broadcast uncompressed": (io) => io.compress(false).emit("ev"),
  "broadcast with both": (io) => io.volatile.compress(false).emit("ev"),
  "broadcast compressed": (io) => io.compress(true).emit("ev"),
  "broadcast number": (io) => io.emit(7, "x"),
  "broadcast binary": (io) => io.to("r1").emit("ev", b(1, 2, 3), { file: b(), list: [b(255)] }),
  "broadcast date": (io) => io.emit("ev", dates),
  "broadcast undefined": (io) => io.emit("ev", undefined, { a: undefined, b: 1 }),
  "broadcast with ack": (io) => io.to("r1").timeout(1000).emit("ev", 1, () => {}),
  "broadcast binary with ack": (io) => io.volatile.timeout(1000).emit("ev", b(1), () => {}),
  "join": (io) => io.in("r1").except("r2").socketsJoin(["a", "b"]),
  "join all": (io) => io.socketsJoin("a"),
  "leave": (io) => io.in(["r1", "r2"]).socketsLeave("a"),
  "disconnect": (io) => io.in("r1").disconnectSockets(),
  "disconnect and close": (io) => io.disconnectSockets(true),
  "fetch": (io) => io.in("r1").except("r2").fetchSockets(),
  "fetch with timeout": (io) => io.timeout(1500).fetchSockets(),
  "server side emit": (io) => io.serverSideEmit("hello", "w", { a: 1 }),
  "server side emit binary": (io) => io.serverSideEmit("hello", b(1, 2)),
  "server side emit with ack": (io) => io.serverSideEmit("hello", "w", () => {}),
};
// Answers to a request that adapter.onMessage is given.
const request = (type, data) => (io, sender) => io.of("/").adapter.onMessage({ uid: uid(sender), nsp: "/", type, data });
const opts = { rooms: [], except: [], flags: {} };
const answers = {
  "fetch response": { sockets: {}, ask: request(7, { opts, requestId: "r" }), classic: { type: 5, requestId: "r", opts } },
  "fetch response binary": { sockets: { b: b(1, 2), n: [1.5, dates] }, ask: request(7, { opts, requestId: "r" }), classic: { type: 5, requestId: "r", opts } },
  "fetch response of none": { ask: request(7, { opts, requestId: "r" }), classic: { type: 5, requestId: "r", opts } },
};
for (const [name, value] of Object.entries({ "": { got: "w" }, " undefined": undefined, " null": null, " binary": [b(1), { x: b(2, 3) }], " date": dates })) {
  answers["server side emit response" + name] = {
    serve: (io) => io.on("hello", (_, ack) => ack(value)),
    ask: request(9, { packet: ["hello", 1], requestId: "r" }),
    classic: { type: 6, requestId: "r", data: ["hello", 1] },
  };
  answers["broadcast ack" + name] = {
    sockets: {}, acked: [value],
    ask: request(3, { packet: { type: 2, data: ["ev"] }, opts, requestId: "r" }),
    classic: { type: 7, requestId: "r", packet: { type: 2, data: ["ev"] }, opts },
  };
}
answers["all rooms response"] = { sockets: {}, classic: { type: 1, requestId: "r" } };
answers["all sockets response"] = { sockets: {}, classic: { type: 0, requestId: "r", rooms: [] } };

const handshake = {
  headers: { "accept-language": "de<é", host: "localhost:3000" }, time: "Tue Nov 14 2023 22:13:20 GMT+0000 (UTC)", address: "127.0.0.1", xdomain: false, secure: true,
  issued: 1700000000123, url: "/socket.io/?EIO=4&transport=polling", query: { EIO: "4", transport: "polling" }, auth: { token: "x", list: [1, null] },
  sessionStore: {},
};
const socket = (data) => ({ id: "sid00000000000000001", handshake, rooms: new Set(["sid00000000000000001", "r1"]), data, acks: new Map(), client: { writeToEngine() {} } });

const run = async (name, sender, make, f) => {
  sent = [];
  ids = 0;
  const io = new Server({ adapter: make });
  await tick();
  await f(io);
  await tick();
  return sent.map((s) => out.push({ name, sender, ...s }));
};

for (const [sender, make] of Object.entries(adapters)) {
  if (sender === "postgres") {
    await run("initial heartbeat", sender, make(1), () => {});
    await run("heartbeat", sender, make(1), (io) => { sent = []; request(1)(io, sender); });
    await run("close", sender, make(1), async (io) => { sent = []; io.of("/").adapter.close(); });
  }
  for (const [name, emit] of Object.entries(cases)) {
    await run(name, sender, make(numSub), async (io) => {
      if (name.includes("namespace")) {
        io.of("/admin");
        await tick();
        io._nsps.get("/admin").adapter.uid = io.of("/").adapter.uid;
      }
      sent = [];
      ids = 1;
      const done = emit(io);
      done?.catch?.(() => {});
    });
  }
  for (const [name, a] of Object.entries(answers)) {
    if (!a.ask && sender !== "classic") continue;
    await run(name, sender, make(numSub), async (io) => {
      sent = [];
      const nsp = io.of("/"), s = a.sockets && socket(a.sockets);
      if (s) {
        nsp.sockets.set(s.id, s);
        nsp.adapter.addAll(s.id, s.rooms);
      }
      a.serve?.(io);
      sent = [];
      if (sender === "classic") {
        const channel = "socket.io-request#/#";
        await nsp.adapter.onrequest(channel, Buffer.from(JSON.stringify({ uid: uid(sender), ...a.classic })));
      } else {
        a.ask(io, sender);
      }
      await tick();
      if (a.acked) s.acks.forEach((ack) => ack(...a.acked));
    });
  }
}
await run("all rooms", "classic", adapters.classic(numSub), (io) => { sent = []; ids = 1; io.of("/").adapter.allRooms().catch(() => {}); });

const emitters = {
  "emit": (e) => e.emit("fromEmitter", 1),
  "emit to room": (e) => e.to("r1").except("r2").volatile.compress(false).emit("fromEmitter", "x"),
  "emit in namespace": (e) => e.of("/admin").emit("fromEmitter"),
  "emit binary": (e) => e.emit("fromEmitter", b(1, 2)),
  "emitter joins": (e) => e.in("r1").socketsJoin(["a"]),
  "emitter leaves": (e) => e.in("r1").except("r2").socketsLeave("a"),
  "emitter disconnects": (e) => e.disconnectSockets(true),
  "emitter to servers": (e) => e.serverSideEmit("hello", 1),
};
for (const [name, emit] of Object.entries(emitters)) {
  for (const [sender, emitter] of [["redis-emitter", new redisEmitter.Emitter(client(1))], ["postgres-emitter", new postgresEmitter.Emitter(pool)]]) {
    sent = [];
    emit(emitter);
    await tick();
    sent.forEach((s) => out.push({ name, sender, ...s }));
  }
}

process.stdout.write("[\n" + out.map((e) => "  " + JSON.stringify(e)).join(",\n") + "\n]\n");
process.exit(0);
