// Prints what the official adapter and emitter publish, as vectors for the tests: npm ci && node capture.mjs redis://… > ../classic.json
import { createServer } from "node:http";
import { once } from "node:events";
import { createAdapter } from "@socket.io/redis-adapter";
import { Emitter } from "@socket.io/redis-emitter";
import { createClient } from "redis";
import { Server } from "socket.io";
import { io as connect } from "socket.io-client";

const url = process.argv[2];
const clients = [];
const redis = async () => {
  const client = await createClient({ url }).connect();
  clients.push(client);
  return client;
};

async function start(options) {
  const http = createServer();
  const io = new Server(http, { adapter: createAdapter(await redis(), await redis(), options), serveClient: false });
  io.of("/admin");
  http.listen(0, "127.0.0.1");
  await once(http, "listening");
  return { io, uid: io.of("/").adapter.uid, url: `http://127.0.0.1:${http.address().port}` };
}

const log = [];
const subscriber = await redis();
await subscriber.pSubscribe("*", (payload, channel) => log.push({ channel: channel.toString(), payload }), true);

const a = await start();
const b = await start({ publishOnSpecificResponseChannel: true });
const client = connect(b.url, { transports: ["websocket"] });
await once(client, "connect");
const sid = client.id;
b.io.of("/").sockets.get(sid).data = { name: "Ann", n: 1 };
b.io.of("/").sockets.get(sid).join(["r1", "r 2"]);
client.on("ask", (...args) => args.at(-1)({ bin: Buffer.from([1, 2]) }, "ignored"));
client.on("nothing", (...args) => args.at(-1)());
a.io.on("hello", (value, ...rest) => typeof rest.at(-1) === "function" && rest.at(-1)({ got: value }));
a.io.on("silent", (done) => done());
while ((await a.io.of("/").adapter.serverCount()) < 2) await new Promise((resolve) => setTimeout(resolve, 10));

const vectors = [];
// act runs an action and takes what is published until there are n messages; names are for these, in turn.
async function act(names, action, details = {}) {
  log.length = 0;
  const result = action();
  const deadline = Date.now() + 5000;
  while (log.length < names.length) {
    if (Date.now() > deadline) throw new Error(`${names}: only ${log.length} messages`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  await result;
  log.forEach(({ channel, payload }, i) => {
    const text = payload[0] === 0x7b;
    vectors.push({ name: names[i], channel, [text ? "json" : "msgpack"]: text ? payload.toString() : payload.toString("hex"), ...details });
  });
}

const emitter = new Emitter(await redis());
const values = [
  "text", "snow ☃ 😀", "", 0, 1, -1, 127, 128, 255, 256, 65535, 65536, 4294967296, -32, -33, -129, -32769, -2147483649,
  9007199254740991, 1.5, -0.25, 1e-7, true, false, null, [], {}, [1, [2, [3]]], { a: { b: ["c"] }, "": 1 },
];
const binary = [Buffer.from([1, 2, 3]), { deep: [Buffer.from("x")] }, new Uint8Array([9])];

await act(["broadcast"], () => a.io.emit("ev", 1, "two"));
await act(["broadcast values"], () => a.io.emit("ev", ...values));
await act(["broadcast binary"], () => a.io.emit("ev", ...binary));
await act(["broadcast undefined"], () => a.io.emit("ev", undefined, { gone: undefined }, NaN, Infinity));
await act(["broadcast date"], () => a.io.emit("ev", new Date(1700000000000), new Date(1700000000123)));
await act(["broadcast room"], () => a.io.to("r1").emit("ev"));
await act(["broadcast rooms"], () => a.io.to(["r1", "r2"]).except("r3").emit("ev"));
await act(["broadcast except"], () => a.io.except(["r1", "r2"]).emit("ev"));
await act(["broadcast flags"], () => a.io.volatile.compress(false).emit("ev"));
await act(["broadcast namespace"], () => a.io.of("/admin").to("r1").emit("ev"));
await act(["broadcast from socket"], () => b.io.of("/").sockets.get(sid).to("r1").emit("ev"));
await act(["ack request", "ack count", "ack answer"], () => a.io.to("r1").timeout(1000).emitWithAck("ask", 1, Buffer.from([7])));
await act(["ack request plain", "ack count plain", "ack nothing"], () => a.io.timeout(2000).emitWithAck("nothing"));
await act(["join"], () => a.io.in("none").except("other").socketsJoin(["a", "b"]));
await act(["leave"], () => a.io.in("none").socketsLeave("a"));
await act(["disconnect"], () => a.io.in("none").disconnectSockets());
await act(["disconnect close"], () => a.io.in("none").disconnectSockets(true));
await act(["fetch", "fetch answer"], () => a.io.in("r1").fetchSockets());
await act(["fetch none", "fetch none answer"], () => a.io.in("none").except("r1").fetchSockets());
await act(["all rooms", "all rooms answer"], () => a.io.of("/").adapter.allRooms());
await act(["event"], () => b.io.serverSideEmit("hello", "w", { n: [1, null] }));
await act(["event binary"], () => b.io.serverSideEmit("hello", Buffer.from([1, 2])));
await act(["event ack", "event answer"], () => b.io.serverSideEmitWithAck("hello", "w"));
await act(["event ack silent", "event answer undefined"], () => b.io.serverSideEmitWithAck("silent"));
const raw = await redis();
const ask = (request) => () => raw.publish("socket.io-request#/#", JSON.stringify(request));
await act(["old sockets", "old sockets answer 1", "old sockets answer 2"], ask({ uid: "OLDNOD", requestId: "REQ001", type: 0, rooms: ["r1"] }));
await act(["old join", "old join answer"], ask({ uid: "OLDNOD", requestId: "REQ002", type: 2, sid, room: "x" }));
await act(["old leave", "old leave answer"], ask({ uid: "OLDNOD", requestId: "REQ003", type: 3, sid, room: "x" }));
await act(["emitter broadcast"], () => emitter.emit("ev", 1, Buffer.from([1])));
await act(["emitter room"], () => emitter.of("admin").to("r1").volatile.emit("ev"));
await act(["emitter rooms"], () => emitter.to(["r1", "r2"]).except("r3").compress(false).emit("ev"));
await act(["emitter join"], () => emitter.in("none").socketsJoin("z"));
await act(["emitter leave"], () => emitter.in("none").socketsLeave(["z"]));
await act(["emitter disconnect"], () => emitter.in("none").disconnectSockets(true));
await act(["emitter event"], () => emitter.serverSideEmit("hello", 1));
await act(["old disconnect", "old disconnect answer"], ask({ uid: "OLDNOD", requestId: "REQ004", type: 4, sid, close: true }));

const lines = vectors.map((v) => `    ${JSON.stringify(v)}`).join(",\n");
process.stdout.write(`{\n  "a": "${a.uid}", "b": "${b.uid}", "sid": "${sid}",\n  "vectors": [\n${lines}\n  ]\n}\n`);
process.exit();
