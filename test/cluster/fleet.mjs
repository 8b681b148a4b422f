// The fleet under test: its nodes and emitters, and clients that stay connected from the first test to the last.
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import { inspect } from "node:util";
import { io } from "socket.io-client";
import { adapters, connectRedis } from "./adapters.mjs";
import { Peer } from "./wire.mjs";

const { CLUSTER_ADAPTER: adapter, CLUSTER_BUS: bus, CLUSTER_NODES, CLUSTER_PATCHBAY, CLUSTER_RUN } = process.env;
if (!CLUSTER_NODES) throw new Error("CLUSTER_NODES is not set: run `go test ./test/cluster`");
export { adapter, assert, bus };

// The test binary holds our standard input: when it goes, so do we. Until then it keeps nobody alive.
process.stdin.on("end", () => process.exit(1)).resume().unref();

const script = (name) => [process.execPath, [fileURLToPath(new URL(name, import.meta.url))]];
const commands = {
  official: () => script("official.mjs"),
  patchbay: () => [CLUSTER_PATCHBAY, []],
  officialEmitter: () => script("emitter.mjs"),
  patchbayEmitter: () => [CLUSTER_PATCHBAY, []],
};

// Every node has "/" and these.
const namespaces = ["/chat", "/cha"];
const dynamic = ["^/dyn-\\d+$"];

async function start(kind, name) {
  const [command, args] = commands[kind]();
  const peer = new Peer(name, command, args, { CLUSTER_NODE: kind });
  const { url, ops } = await peer.call("listen", { adapter, bus, namespaces, dynamic });
  return Object.assign(peer, { kind, url, ops: new Set(ops) });
}

/** Starts one more node, for the test that gets it. */
export const spawn = (kind) => start(kind, `extra ${kind}`);

const kinds = CLUSTER_NODES.split(",");
export const nodes = await Promise.all(kinds.map((kind, i) => start(kind, `${kind} ${i}`)));
nodes.forEach((node, i) => (node.index = i));

const emitterKinds = [];
if (adapters[adapter].emitter) emitterKinds.push("officialEmitter");
if (kinds.includes("patchbay")) emitterKinds.push("patchbayEmitter");
const emitters = await Promise.all(emitterKinds.map((kind) => start(kind, kind)));

// One of each kind: what any other node of a kind sends is the same.
export const origins = [...new Set(kinds)].map((kind) => nodes.find((node) => node.kind === kind)).concat(emitters);

/** A client of the bus, if that is Redis. */
export const redis = await (bus.startsWith("redis:") ? connectRedis(bus) : undefined);

const unsatisfied = new Set(); // what is asked again at the moment

/** Asks again until the answer satisfies; the test's own time limit ends it. */
export async function until(question, satisfies = Boolean) {
  const asked = { question };
  unsatisfied.add(asked);
  try {
    for (let pause = 2; ; pause = Math.min(2 * pause, 50)) {
      asked.answer = await question();
      if (satisfies(asked.answer)) return asked.answer;
      await new Promise((resolve) => setTimeout(resolve, pause));
    }
  } finally {
    unsatisfied.delete(asked);
  }
}

/** Waits until these nodes count so many, themselves included. A node that is not connected yet says so. */
export async function counted(members, nsp, count) {
  for (const node of members) {
    // This one forgets who has gone when it asks for something.
    const look = adapter === "postgres-0.3" && node.kind === "official" ? () => node.call("fetchSockets", { nsp }).catch(() => {}) : () => {};
    await until(async () => {
      await look();
      return node.call("serverCount", { nsp }).catch((e) => e.message);
    }, (n) => n === count);
  }
}

let unique = 0;
export const key = (prefix) => `${prefix}-${unique++}`;

/** A socket in a namespace, and what it has received. */
export class Client {
  log = [];
  answer = null; // what it does about "ask", if not to say its name
  #fences = new Map();

  constructor(name, node, socket, rooms = []) {
    Object.assign(this, { name, node, nsp: socket.nsp, socket, rooms });
    this.connected = new Promise((resolve, reject) => {
      socket.once("connect", resolve);
      socket.once("connect_error", reject);
    });
    socket.onAny((event, ...args) => {
      if (event === "fence") return this.#fence(args[0])[1]();
      this.log.push([event, ...args.filter((arg) => typeof arg !== "function")]);
    });
    socket.on("ask", (...args) => {
      const ack = args.pop();
      this.answer ? this.answer(ack, ...args) : ack(this.name);
    });
  }

  get id() {
    return this.socket.id;
  }

  in(room) {
    return room === this.id || this.rooms.includes(room);
  }

  #fence(id) {
    if (!this.#fences.has(id)) {
      let reached;
      this.#fences.set(id, [new Promise((resolve) => (reached = resolve)), () => reached()]);
    }
    return this.#fences.get(id);
  }

  fenced(id) {
    return this.#fence(id)[0];
  }

  /** Emits and waits for the acknowledgement. */
  ask(...args) {
    return new Promise((resolve) => this.socket.emit(...args, resolve));
  }

  /** Has its node put it into exactly these rooms. */
  async setRooms(rooms) {
    this.rooms = rooms;
    await nodes[this.node].call("setRooms", { nsp: this.nsp, socket: this.id, rooms });
  }

  close() {
    this.socket.io._close();
  }
}

/** A connected client of a node, beside those that are always there. */
export async function connect(node, { name = "extra", nsp = "/", rooms = [], ...options } = {}) {
  const socket = io(node.url + nsp, { transports: ["websocket"], forceNew: true, reconnection: false, ...options });
  const client = new Client(name, node.index, socket, rooms);
  await client.connected;
  if (rooms.length) await node.call("setRooms", { nsp, socket: client.id, rooms });
  return client;
}

/** The same connection's client in another namespace. */
export async function multiplex(client, nsp, rooms = [], name = client.name) {
  const other = new Client(name, client.node, client.socket.io.socket(nsp), rooms);
  await other.connected;
  if (rooms.length) await other.setRooms(rooms);
  return other;
}

// Names that are hard on somebody: a number, a pattern with the separator of channels, one as long as an id.
export const oddRooms = ["42", "é*[ab]?#\\1", "room-of-20-character"];

const standing = [];
export const clients = (nsp = "/") => standing.filter((client) => client.nsp === nsp);

await Promise.all(nodes.map(async (node, i) => {
  const auth = { client: `é${i}` };
  const [a, b, c, d] = await Promise.all([
    connect(node, { name: `a${i}`, rooms: ["red"], auth, query: { of: `${i}` } }),
    connect(node, { name: `b${i}`, rooms: ["red", "blue"], auth }),
    connect(node, { name: `c${i}`, rooms: ["blue", `only-${i}`, ...oddRooms], auth }),
    // One of each kind of node has one that polls, which is much work.
    origins.includes(node) && connect(node, { name: `d${i}`, rooms: ["green"], auth, transports: ["polling"] }),
  ]);
  if (d) standing.push(d);
  standing.push(a, b, c, ...await Promise.all([
    multiplex(a, "/chat", ["red"]), multiplex(b, "/chat", ["blue"]),
    multiplex(a, "/cha", ["red"]),
    multiplex(a, "/dyn-1", ["red"]), multiplex(b, "/dyn-1"),
    // Not every node has this one.
    ...(i === 0 || i === nodes.length - 1 ? [multiplex(a, "/dyn-2", ["red"])] : []),
  ]));
}));
standing.sort((a, b) => (a.name < b.name ? -1 : 1));

/** The nodes that have a client in a namespace, and so the namespace. */
export const nodesOf = (nsp) => nodes.filter((node) => clients(nsp).some((client) => client.node === node.index));

/** Waits until the nodes of these clients, and no others, listen for what is sent to their rooms, where rooms have channels. */
export async function subscribed(...members) {
  if (!["sharded", "sharded-dynamic-private"].includes(adapter)) return;
  const wanted = new Map();
  for (const client of members) {
    // Names that look like ids are only then used.
    const rooms = adapter === "sharded" ? client.rooms.filter((room) => room.length !== 20) : [...client.rooms, client.id];
    for (const room of rooms) {
      const channel = `socket.io#${client.nsp}#${room}#`;
      if (!wanted.has(channel)) wanted.set(channel, new Set());
      wanted.get(channel).add(client.node);
    }
  }
  for (const [channel, on] of wanted) {
    await until(async () => (await redis.sendCommand(["PUBSUB", "SHARDNUMSUB", channel]))[1], (n) => Number(n) === on.size);
  }
}

// On PostgreSQL what is binary takes longer, as official nodes write and read it in another place: only more of it is behind it.
const followed = adapter.startsWith("postgres") ? [Buffer.alloc(1)] : [];

/** Waits until everyone has what the origin has sent: what follows it on the same way has come. */
export async function fence(origin, nsp, members = clients(nsp)) {
  const id = key("fence");
  await origin.call("emit", { nsp, event: "fence", args: [id, ...followed] });
  await Promise.all(members.map((client) => client.fenced(id)));
}

/** What each client gets of what act has the origin send. */
export async function observe(origin, nsp, act, members = clients(nsp)) {
  for (const client of members) client.log.length = 0;
  await act();
  await fence(origin, nsp, members);
  return Object.fromEntries(members.map((client) => [client.name, client.log.splice(0)]));
}

/** What each client should get: the event if it is selected, else nothing. */
export function expected(nsp, spec, origin, ...received) {
  return Object.fromEntries(clients(nsp).map((client) => [client.name, selected(client, spec, origin) ? received : []]));
}

export function selected(client, { from, to, except = [], local }, origin) {
  return (!to || to.some((room) => client.in(room))) && !except.some((room) => client.in(room)) &&
    client.id !== from && (!local || client.node === origin.index);
}

for (const nsp of ["/", ...namespaces, "/dyn-1", "/dyn-2"]) {
  await counted(nodesOf(nsp), nsp, nodesOf(nsp).length);
}
await subscribed(...standing);
if (adapter.startsWith("streams")) {
  // An official node may miss entries until it has read its first.
  for (const node of nodes) {
    const warm = () => clients().every(({ log }) => log.some(([, name]) => name === node.name));
    while (!warm()) {
      await node.call("emit", { event: "warm", args: [node.name] });
      for (let i = 0; i < 20 && !warm(); i++) await new Promise((resolve) => setTimeout(resolve, 5));
    }
    await fence(node);
  }
}

/** Defines a test. The time limit is ours: after its own, Node runs no hooks. */
export function each(name, run, { timeout = 15_000, background = false } = {}) {
  if (CLUSTER_RUN && !name.includes(CLUSTER_RUN)) return;
  // One that mostly waits starts at once, beside the others.
  const started = background && run();
  started && started.catch(() => {});
  test(name, async () => {
    let timer;
    const late = new Promise((_, reject) => {
      timer = setTimeout(() => {
        const asked = [...unsatisfied].map(({ question, answer }) => `\n${question} is ${inspect(answer, { depth: 4 })}`);
        reject(new Error(`not done after ${timeout} ms${asked.join("")}`));
      }, timeout);
    });
    try {
      await Promise.race([started || run(), late]);
    } finally {
      clearTimeout(timer);
    }
  });
}

/** Defines a test for each origin that has the op. except gives reasons, by kind, why an origin is left out. */
export function fromEach(name, op, run, { except = {}, ...options } = {}) {
  for (const origin of origins) {
    if (origin.ops.has(op) && !except[origin.kind]) each(`${name}/${origin.kind}`, () => run(origin), options);
  }
}

after(async () => {
  for (const client of standing) client.close();
  const peers = [...nodes, ...emitters];
  await Promise.all(peers.map((peer) => peer.call("close").catch((e) => console.error(e))));
  for (const peer of peers) {
    const code = await peer.end();
    if (code !== 0) {
      console.error(`${peer.name} ended with ${code}`);
      process.exitCode = 1;
    }
  }
  await redis?.quit();
});
