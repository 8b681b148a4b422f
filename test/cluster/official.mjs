// A node of a fleet: the official server with an official adapter, as README.md describes it.
import { createServer } from "node:http";
import { Server } from "socket.io";
import { adapters } from "./adapters.mjs";
import { serve } from "./wire.mjs";

let io;
const serverEvents = new Map();
const of = (nsp = "/") => io.of(nsp);

function select({ nsp, from, to, except, local, volatile, compress, timeout }) {
  const socket = from && of(nsp).sockets.get(from);
  let b = to ? (socket ?? of(nsp)).to(to) : (socket?.broadcast ?? of(nsp).to([]));
  if (except) b = b.except(except);
  if (local) b = b.local;
  if (volatile) b = b.volatile;
  if (compress === false) b = b.compress(false);
  if (timeout) b = b.timeout(timeout);
  return b;
}

/** Answers with what came, whether that is all or not. */
const gather = (emit) => new Promise((resolve) => emit((err, responses) => resolve({ timedOut: !!err, responses })));

const describe = ({ id, handshake, rooms, data }) => {
  const { sessionStore: _, ...rest } = handshake;
  return { id, handshake: { ...rest, query: { ...rest.query } }, rooms: [...rooms], data };
};

function install(nsp) {
  nsp.on("connection", (socket) => {
    socket.on("relay", (spec, event, ...args) => {
      const ack = args.pop();
      select({ ...spec, nsp: socket.nsp.name, from: socket.id }).emit(event, ...args);
      ack();
    });
  });
}

const ops = {
  async listen({ adapter, bus, connections, namespaces, dynamic }) {
    const http = createServer((req, res) => res.writeHead(404).end());
    io = new Server(http, { adapter: await adapters[adapter].adapter(bus, connections) });
    install(io.of("/"));
    for (const name of namespaces) install(io.of(name));
    for (const pattern of dynamic) install(io.of(new RegExp(pattern)));
    await new Promise((resolve) => http.listen(0, "127.0.0.1", resolve));
    return { url: `http://127.0.0.1:${http.address().port}`, ops: Object.keys(ops) };
  },
  emit: (p) => void select(p).emit(p.event, ...p.args),
  emitWithAck: (p) => gather((done) => select(p).emit(p.event, ...p.args, done)),
  socketsJoin: (p) => void select(p).socketsJoin(p.rooms),
  socketsLeave: (p) => void select(p).socketsLeave(p.rooms),
  disconnectSockets: (p) => void select(p).disconnectSockets(p.close),
  fetchSockets: async (p) => (await select(p).fetchSockets()).map(describe),
  async remote({ nsp, socket, act, event, args, rooms, close, timeout }) {
    const [remote] = await of(nsp).in(socket).fetchSockets();
    switch (act) {
      case "emit": return void remote.emit(event, ...args);
      case "emitWithAck":
        return new Promise((resolve) =>
          remote.timeout(timeout).emit(event, ...args, (err, response) => resolve({ timedOut: !!err, response })));
      case "join": return void remote.join(rooms);
      case "leave": for (const room of rooms) remote.leave(room); return; // a local one takes no more
      case "disconnect": return void remote.disconnect(close);
    }
  },
  onServerEvent({ nsp, event, ...how }) {
    serverEvents.set(event, []);
    of(nsp).on(event, (...args) => {
      const ack = typeof args.at(-1) === "function" ? args.pop() : undefined;
      serverEvents.get(event).push(args);
      if ("reply" in how) ack?.(...how.reply);
    });
  },
  serverEvents: ({ event }) => serverEvents.get(event),
  serverSideEmit: ({ nsp, event, args }) => void of(nsp).serverSideEmit(event, ...args),
  serverSideEmitWithAck: ({ nsp, event, args }) => gather((done) => of(nsp).serverSideEmit(event, ...args, done)),
  serverCount: ({ nsp }) => of(nsp).adapter.serverCount(),
  allRooms: async ({ nsp }) => [...await of(nsp).adapter.allRooms()],
  sockets: ({ nsp }) => [...of(nsp).sockets.values()].map(({ id, rooms, data }) => ({ id, rooms: [...rooms], data })),
  setRooms({ nsp, socket, rooms }) {
    const s = of(nsp).sockets.get(socket);
    for (const room of s.rooms) if (room !== socket && !rooms.includes(room)) s.leave(room);
    s.join(rooms);
  },
  setData: ({ nsp, socket, data }) => void (of(nsp).sockets.get(socket).data = data),
  close: () => io.close(),
};

// The classic adapter does not look at what becomes of its publications; without Redis they would end the process.
process.on("unhandledRejection", () => {});

serve(ops);
