// usage: node clients.mjs URL
//
// Stock clients behind a balancer: a third each on long-polling, through an upgrade, and on WebSocket alone, with the defaults of
// socket.io-client. calls.mjs tells how they are told what to do; they leave when standard input ends.
import { io, kinds, serve, tag, until as untilWithin } from "./calls.mjs";

const url = process.argv[2];
const patience = 20000;
const clients = [];
let troubles = []; // since they were last asked for
let traffic; // while there is some

const until = (what, condition) => untilWithin(patience, what, condition);

const join = async (socket) => {
  const { ok, error } = await socket.timeout(patience).emitWithAck("join", "room");
  if (!ok) throw new Error(`join: ${error}`);
};

const connect = async (kind) => {
  const socket = io(url, { forceNew: true, transports: kinds[kind] });
  const client = { kind, socket, got: [], joined: false, node: undefined };
  clients.push(client);
  const trouble = (what, text) => troubles.push({ kind, node: client.node, what, text });
  socket.on("connect_error", (err) => trouble("connect_error", `${err.message} ${err.context?.status ?? ""} ${err.context?.responseText ?? ""}`));
  socket.on("disconnect", (reason) => {
    client.joined = false;
    if (reason !== "io client disconnect") trouble("disconnect", reason);
  });
  socket.on("connect", () => {
    client.node = tag(socket);
    join(socket).then(() => (client.joined = true), (err) => socket.connected && trouble("join", err.message));
  });
  socket.on("text", (text) => client.got.push(text));
  socket.on("bytes", (bytes) => client.got.push(Buffer.from(bytes).toString()));
};

const settled = ({ kind, socket, joined }) =>
  joined && socket.connected && (kind === "polling" || socket.io.engine.transport.name === "websocket");

const calls = {
  // open: n of each kind, which are connected, upgraded and in a room when it returns. It says how many each node has.
  async open(n) {
    for (let i = 0; i < n; i++) for (const kind of Object.keys(kinds)) connect(kind);
    return calls.settle();
  },
  // settle: all are connected, and none to the node that is named.
  async settle(gone) {
    await until(
      () => `all are back: ${JSON.stringify(troubles.slice(-5))}`,
      () => clients.every((client) => settled(client) && tag(client.socket) !== gone),
    );
    const nodes = {};
    for (const { socket } of clients) nodes[tag(socket)] = (nodes[tag(socket)] ?? 0) + 1;
    return nodes;
  },
  // talk: each publishes, text and binary in turn, and all others get it once, in order.
  async talk(rounds) {
    for (const client of clients) client.got = [];
    for (let i = 0; i < rounds; i++) {
      await Promise.all(
        clients.map(async ({ socket }, j) => {
          const data = i % 2 ? ["bytes", Buffer.from(`${j}-${i}`)] : ["text", `${j}-${i}`];
          const { ok, error } = await socket.timeout(patience).emitWithAck("publish", "room", ...data);
          if (!ok) throw new Error(`publish: ${error}`);
        }),
      );
    }
    const want = rounds * (clients.length - 1);
    await until(() => `${want} messages each: ${clients.map(({ got }) => got.length)}`, () => clients.every(({ got }) => got.length >= want));
    for (const [i, { got }] of clients.entries()) {
      if (got.length !== want || new Set(got).size !== want) throw new Error(`client ${i} got ${got.length}, ${new Set(got).size} of them different`);
      for (let j = 0; j < clients.length; j++) {
        const order = got.filter((text) => text.startsWith(`${j}-`)).map((text) => +text.slice(text.indexOf("-") + 1));
        if (order.some((round, k) => k > 0 && round < order[k - 1])) throw new Error(`client ${i} got ${order} of ${j}`);
      }
    }
    return want * clients.length;
  },
  // start: each client has a request under way all the time.
  async start() {
    traffic = { on: true, acked: 0, failed: [] };
    const t = traffic;
    t.done = Promise.all(
      clients.map(async ({ socket, kind }) => {
        while (t.on) {
          try {
            const { ok } = await socket.timeout(patience).emitWithAck("publish", "nobody", "text", "x".repeat(500));
            if (!ok) throw new Error("not ok");
            t.acked++;
          } catch (err) {
            if (t.on) t.failed.push(`${kind}: ${err.message}`);
          }
          await new Promise((resolve) => setTimeout(resolve, 2)); // a client, not a load generator
        }
      }),
    );
  },
  acked: async () => traffic.acked,
  async stop() {
    traffic.on = false;
    await traffic.done;
    return traffic.failed;
  },
  async troubles() {
    const all = troubles;
    troubles = [];
    return all;
  },
};

await serve(calls);
for (const { socket } of clients) socket.disconnect();
