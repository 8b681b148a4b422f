// usage: node swarm.mjs URL APPLICATION
//
// Many stock clients at URL, a third each on long-polling, through an upgrade, and on WebSocket alone, and an application at the
// other address, which is a client too, in the room "inbox". Clients send to that room with acknowledgements and retries: what
// has been sent must arrive there, whatever happens to nodes meanwhile. calls.mjs tells how they are told what to do.
import { io, kinds, serve, tag, until as untilWithin } from "./calls.mjs";

const [url, application] = process.argv.slice(2);
const patience = 60_000;
const roomSize = 10;
const clients = [];
let troubles = []; // failed attempts to connect, since they were last asked for
let outages = []; // from being disconnected to being in its room again, likewise

const until = (what, condition) => untilWithin(patience, what, condition);

const call = async (socket, ...args) => {
  const { ok, error } = await socket.emitWithAck(...args);
  if (!ok) throw new Error(`${args[0]} ${args[1]}: ${error}`);
};

// The application: what has come from whom.
const inbox = new Map();
let duplicates = 0;
const app = io(application, { transports: ["websocket"] });
app.on("connect", () => call(app, "join", "inbox").catch((err) => troubles.push({ kind: "application", what: "join", text: err.message })));
app.on("disconnect", (reason) => troubles.push({ kind: "application", what: "disconnect", text: reason }));
app.on("order", (from, n) => {
  if (!inbox.has(from)) inbox.set(from, new Set());
  if (inbox.get(from).has(n)) duplicates++;
  inbox.get(from).add(n);
});

const connect = (kind) => {
  const id = clients.length;
  const socket = io(url, { forceNew: true, transports: kinds[kind], retries: 1000, ackTimeout: 5000 });
  const client = { id, kind, socket, room: `room-${Math.floor(id / roomSize)}`, joined: false, sent: 0, waiting: 0, refused: [], got: [] };
  clients.push(client);
  socket.on("connect_error", (err) =>
    troubles.push({ kind, node: client.node, what: "connect_error", text: `${err.message} ${err.context?.status ?? ""} ${err.context?.responseText ?? ""}` }),
  );
  socket.on("disconnect", (reason) => {
    client.joined = false;
    client.lost ??= { kind, from: client.node, reason, at: Date.now() };
  });
  socket.on("connect", () => {
    client.node = tag(socket);
    const session = socket.id;
    call(socket, "join", client.room).then(
      () => {
        client.joined = socket.id === session;
        if (!client.joined || !client.lost) return;
        outages.push({ ...client.lost, to: client.node, took: Date.now() - client.lost.at });
        client.lost = undefined;
      },
      (err) => troubles.push({ kind, node: client.node, what: "join", text: err.message }),
    );
  });
  socket.on("hello", (from) => client.got.push(from));
};

const order = (client) => {
  const n = ++client.sent;
  client.waiting++;
  client.socket.emit("publish", "inbox", "order", client.id, n, (err, answer) => {
    client.waiting--;
    if (err || !answer.ok) client.refused.push(`${n}: ${err?.message ?? answer.error}`);
  });
};

const settled = ({ kind, socket, joined }) =>
  joined && socket.connected && (kind === "polling" || socket.io.engine.transport.name === "websocket");

let timer;

const calls = {
  // open: so many clients, some at a time, as the machine is small. It says how many each node has.
  async open(count) {
    const names = Object.keys(kinds);
    for (let i = 0; i < count; i++) {
      connect(names[i % names.length]);
      if (i % 25 === 24) await until(() => `${clients.length} are connected`, () => clients.every(({ socket }) => socket.connected));
    }
    return calls.settle();
  },
  async settle() {
    const who = () => clients.filter((c) => !settled(c)).map(({ id, kind, node, joined, socket }) => ({ id, kind, node, joined, connected: socket.connected }));
    await until(() => `all are back: ${JSON.stringify([who().slice(0, 5), troubles.slice(-5)])}`, () => app.connected && clients.every(settled));
    const nodes = {};
    for (const { socket } of clients) nodes[tag(socket)] = (nodes[tag(socket)] ?? 0) + 1;
    return nodes;
  },
  // lost: so many have lost their connection since outages were last asked for, or are without one, and all have one again.
  async lost(count) {
    const gone = () => outages.length + clients.filter((c) => c.lost).length;
    await until(() => `${count} have lost their connection: ${gone()}`, () => gone() >= count);
    return calls.settle();
  },
  // rooms: each says hello in its room, and all others in it hear it, once.
  async rooms() {
    for (const client of clients) client.got = [];
    await Promise.all(clients.map(({ id, socket, room }) => call(socket, "publish", room, "hello", id)));
    const missing = () =>
      clients.flatMap(({ id, room, got }) => clients.filter((c) => c.room === room && c.id !== id && !got.includes(c.id)).map((c) => `${id} has not heard ${c.id}`));
    await until(() => missing().slice(0, 5).join(", "), () => missing().length === 0);
    const twice = clients.filter(({ got }) => new Set(got).size < got.length);
    if (twice.length > 0) throw new Error(`${twice.length} have heard something twice`);
  },
  // start: each client sends an order in each interval (ms).
  async start(interval) {
    let next = 0;
    timer = setInterval(() => {
      for (let i = 0; i < Math.ceil(clients.length / (interval / 20)); i++) order(clients[next++ % clients.length]);
    }, 20);
  },
  // stop: no more of them. It returns when all have been acknowledged and have come, with what there was.
  async stop() {
    clearInterval(timer);
    await until(
      () => `acknowledged: ${JSON.stringify(clients.filter((c) => c.waiting > 0).slice(0, 5).map(({ id, kind, node, waiting, sent }) => ({ id, kind, node, waiting, sent })))}`,
      () => clients.every(({ waiting }) => waiting === 0),
    );
    // What the application gets last comes behind all else that its own node has heard by then.
    const missing = () =>
      clients.flatMap(({ id, kind, sent }) => Array.from({ length: sent }, (_, i) => i + 1).filter((n) => !inbox.get(id)?.has(n)).map((n) => `${kind} ${id}: ${n} of ${sent}`));
    for (const deadline = Date.now() + 3000; missing().length > 0 && Date.now() < deadline; ) await new Promise((resolve) => setTimeout(resolve, 20));
    return {
      sent: clients.reduce((sum, c) => sum + c.sent, 0),
      duplicates,
      missing: missing(),
      refused: clients.flatMap((c) => c.refused),
    };
  },
  async troubles() {
    const all = troubles;
    troubles = [];
    return all;
  },
  async outages() {
    const all = outages;
    outages = [];
    return all;
  },
};

await serve(calls);
for (const { socket } of clients) socket.disconnect();
app.disconnect();
