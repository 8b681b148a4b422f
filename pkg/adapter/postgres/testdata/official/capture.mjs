// Writes what the official adapters and emitter send over a real PostgreSQL, as vectors for the tests, beside this folder:
//   npm ci --ignore-scripts && node capture.mjs postgres://…
// "json" is a notification as it was heard; "row" is the attachment that it names, in hex. The database is to be empty.
import { createServer } from "node:http";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import pg from "pg";
import { Server } from "socket.io";
import { io as connect } from "socket.io-client";
import { Emitter } from "@socket.io/postgres-emitter";

const connectionString = process.argv[2];
const channels = ["socket.io#/", "socket.io#/admin"];
const open = [];
let log = [];

const close = async () => {
  for (const end of open.splice(0).reverse()) await end();
};
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

async function pool() {
  const p = new pg.Pool({ connectionString });
  p.on("error", () => {});
  open.push(() => p.end());
  return p;
}

async function start({ createAdapter }) {
  const http = createServer();
  const adapter = createAdapter(await pool(), { heartbeatInterval: 1e6, heartbeatTimeout: 2e6, errorHandler: (err) => console.error(err) });
  const io = new Server(http, { adapter, serveClient: false });
  io.of("/admin");
  http.listen(0, "127.0.0.1");
  await once(http, "listening");
  open.push(() => io.close());
  return { io, uid: io.of("/").adapter.uid, admin: io.of("/admin").adapter.uid, url: `http://127.0.0.1:${http.address().port}` };
}

const db = new pg.Client({ connectionString });
await db.connect();
await db.query("CREATE TABLE socket_io_attachments (id bigserial UNIQUE, created_at timestamptz DEFAULT NOW(), payload bytea)");
const listener = new pg.Client({ connectionString });
await listener.connect();
for (const channel of channels) await listener.query(`LISTEN "${channel}"`);
listener.on("notification", ({ channel, payload }) => log.push({ channel, json: payload }));

const values = [
  "text", "snow ☃ 😀", "", 0, -1, 127, 128, 255, 256, 65535, 65536, 4294967295, 4294967296, 9007199254740991, -32, -33, -128, -129, -32768, -32769,
  -2147483648, -2147483649, 1.5, -0.25, 1e-7, true, false, null, [], {}, [1, [2]], { a: { b: ["c"] } },
];
const binary = [Buffer.from([1, 2, 3]), { deep: [Buffer.from("x")] }, new Uint8Array([9])];

// actor returns a function that runs an action and takes what is heard until there are as many messages as names.
function actor(vectors) {
  return async (names, action) => {
    log = [];
    const result = action();
    const deadline = Date.now() + 5000;
    while (log.length < names.length) {
      if (Date.now() > deadline) throw new Error(`${names}: only ${log.length} messages`);
      await sleep(5);
    }
    await result;
    for (const [i, { channel, json }] of log.entries()) {
      const vector = { name: names[i], channel, json };
      const { attachmentId } = JSON.parse(json);
      if (attachmentId) {
        const { rows } = await db.query("SELECT payload FROM socket_io_attachments WHERE id = $1", [attachmentId]);
        vector.row = rows[0].payload.toString("hex");
      }
      vectors.push(vector);
    }
  };
}

// fill returns text that makes a broadcast of it n bytes long; head is what it is without.
const fill = (head, n) => "x".repeat(n - head);

async function capture(adapter, named) {
  const vectors = [];
  const act = actor(vectors);
  log = [];
  const a = await start(adapter);
  while (log.length < 2) await sleep(5);
  await sleep(200); // for its LISTEN
  const hello = log.find(({ channel }) => channel === channels[0]);
  log = [];
  const b = await start(adapter);
  while (log.length < 4) await sleep(5);
  vectors.push({ name: "initial heartbeat", ...hello });
  const beat = log.find(({ channel, json }) => channel === channels[0] && JSON.parse(json).type === 2);
  vectors.push({ name: "heartbeat", ...beat });
  await sleep(200);

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

  const ask = (emit) => new Promise((resolve, reject) => emit((err, value) => (err ? reject(err) : resolve(value))));
  const empty = `{"type":3,"data":{"packet":{"type":2,"data":["ev",""]},"opts":{"rooms":[],"except":[],"flags":{}}},"uid":"0123456789abcdef"`.length
    + (named ? `,"nsp":"/"}`.length : `}`.length);
  await act(["broadcast"], () => a.io.emit("ev", 1, "two"));
  await act(["broadcast values"], () => a.io.emit("ev", ...values));
  await act(["broadcast binary"], () => a.io.emit("ev", ...binary));
  await act(["broadcast values and binary"], () => a.io.emit("ev", ...values, Buffer.from([1])));
  await act(["broadcast undefined"], () => a.io.emit("ev", undefined, { gone: undefined }, NaN, Infinity));
  await act(["broadcast date"], () => a.io.emit("ev", new Date(1700000000123)));
  await act(["broadcast of 7999 bytes"], () => a.io.emit("ev", fill(empty, 7999)));
  await act(["broadcast of 8001 bytes"], () => a.io.emit("ev", fill(empty, 8001)));
  await act(["broadcast room"], () => a.io.to("r1").emit("ev"));
  await act(["broadcast rooms"], () => a.io.to(["r1", "r2"]).except("r3").emit("ev"));
  await act(["broadcast flags"], () => a.io.volatile.compress(false).emit("ev"));
  await act(["broadcast namespace"], () => a.io.of("/admin").to("r1").emit("ev"));
  await act(["ack request", "ack count", "ack answer"], () => a.io.to("r1").timeout(1000).emitWithAck("ask", 1));
  await act(["ack request plain", "ack count plain", "ack nothing"], () => a.io.to("r1").timeout(2000).emitWithAck("nothing"));
  await act(["join"], () => a.io.in("none").except("other").socketsJoin(["a", "b"]));
  await act(["leave"], () => a.io.in("none").socketsLeave("a"));
  await act(["disconnect"], () => a.io.in("none").disconnectSockets());
  await act(["disconnect close"], () => a.io.in("none").disconnectSockets(true));
  await act(["fetch", "fetch answer"], () => a.io.in("r1").fetchSockets());
  await act(["fetch none", "fetch none answer"], () => a.io.in("none").except("r1").fetchSockets());
  await act(["event"], () => a.io.serverSideEmit("hello", "w", { n: [1, null] }));
  await act(["event binary"], () => a.io.serverSideEmit("hello", Buffer.from([1, 2])));
  await act(["event ack", "event answer"], () => ask((done) => a.io.serverSideEmit("hello", "w", done)));
  await act(["event ack binary", "event answer binary"], () => ask((done) => a.io.serverSideEmit("bytes", done)));
  await act(["event ack silent", "event answer undefined"], () => ask((done) => a.io.serverSideEmit("silent", done)));
  if (named) await act(["close"], () => a.io.of("/admin").adapter.close());
  await close();
  return { a: a.uid, b: b.uid, admin: a.admin, sid, vectors };
}

async function captureEmitter() {
  const vectors = [];
  const act = actor(vectors);
  const emitter = new Emitter(await pool());
  const empty = `{"type":3,"data":{"packet":{"type":2,"data":["ev",""],"nsp":"/"},"opts":{"rooms":[],"flags":{},"except":[]}},"uid":"emitter"}`.length;
  await act(["broadcast"], () => emitter.emit("ev", 1, "two"));
  await act(["broadcast values"], () => emitter.emit("ev", ...values));
  await act(["broadcast binary"], () => emitter.emit("ev", ...binary));
  await act(["broadcast of 7999 bytes"], () => emitter.emit("ev", fill(empty, 7999)));
  await act(["broadcast of 8001 bytes"], () => emitter.emit("ev", fill(empty, 8001)));
  await act(["broadcast room"], () => emitter.of("admin").to("r1").volatile.emit("ev"));
  await act(["broadcast rooms"], () => emitter.to(["r1", "r2"]).except("r3").compress(false).emit("ev"));
  await act(["join"], () => emitter.in("none").socketsJoin("z"));
  await act(["leave"], () => emitter.in("none").except("other").socketsLeave(["z"]));
  await act(["disconnect"], () => emitter.in("none").disconnectSockets(true));
  await act(["event"], () => emitter.serverSideEmit("hello", 1));
  await act(["event binary"], () => emitter.serverSideEmit("hello", Buffer.from([1, 2])));
  await close();
  return { a: "emitter", vectors };
}

const out = {};
for (const [name, named] of [["0.3", false], ["0.4", true], ["0.5", true]]) {
  out[name] = await capture(await import(`postgres-adapter-${name}`), named);
}
out.emitter = await captureEmitter();
const text = Object.entries(out).map(([name, { vectors, ...ids }]) => {
  const lines = vectors.map((v) => `    ${JSON.stringify(v)}`).join(",\n");
  return `  ${JSON.stringify(name)}: {${JSON.stringify(ids).slice(1, -1)}, "vectors": [\n${lines}\n  ]}`;
});
writeFileSync(new URL("../official.json", import.meta.url), `{\n${text.join(",\n")}\n}\n`);
process.exit();
