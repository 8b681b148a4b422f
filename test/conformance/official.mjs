// The control: the official server with the handlers that README.md describes.
import { createServer } from "node:http";
import { Server as Engine } from "engine.io";
import { Server } from "socket.io";

const logs = new Map();
const record = (key, entry) => {
  if (key === undefined) return;
  if (!logs.has(key)) logs.set(key, []);
  logs.get(key).push(entry);
};
const tries = new Map();

const roomsOf = (socket) => [...socket.rooms].filter((room) => room !== socket.id).sort();

function select(socket, spec) {
  let b = spec.from === "others" ? socket.broadcast : socket.nsp;
  if (spec.to) b = b.to(spec.to);
  for (const room of spec.in ?? []) b = b.in(room);
  if (spec.except) b = b.except(spec.except);
  if (spec.local) b = b.local;
  if (spec.volatile) b = b.volatile;
  if (spec.compress === false) b = b.compress(false);
  if (spec.timeout) b = b.timeout(spec.timeout);
  return b;
}

function describe(remote) {
  return { id: remote.id, rooms: roomsOf(remote), data: remote.data, auth: remote.handshake.auth };
}

const handlers = {
  echo: (s, args) => s.emit("echo", ...args),
  ack: (s, args, ack) => ack(...args),
  ackTwice: (s, [a, b], ack) => (ack(a), ack(b)),
  ackLate: (s, [ms, value], ack) => setTimeout(() => ack(value), ms),
  noAck: () => {},
  nth: (s, [key, n], ack) => {
    const count = (tries.get(key) ?? 0) + 1;
    tries.set(key, count);
    if (count >= n) ack(count);
  },
  values: (s, args, ack) =>
    ack(null, true, false, 0, -1, 1.5, 1e21, 1e-7, 9007199254740991, "", "</script>&<>", "\u2028\u2029", "\u{1f680}é",
      [], {}, { a: [{ b: null }] }, Buffer.from([0, 1, 2, 255]), { nested: [Buffer.from("x")] }, Buffer.alloc(0)),
  handshake: (s, args, ack) => {
    const { query, headers, auth, secure, xdomain, issued, url } = s.handshake;
    ack({
      query: { ...query }, header: headers["x-conformance"] ?? null, auth, secure, xdomain,
      issued: Math.abs(Date.now() - issued) < 60_000, path: url.split("?")[0],
    });
  },
  ask: (s, [ms, event, ...args], ack) =>
    s.timeout(ms).emit(event, ...args, (err, ...values) => ack(err ? { timeout: true } : { values })),
  record: (s, [key, value], ack) => (record(key, value), ack?.()),
  recorded: (s, [key], ack) => ack(logs.get(key) ?? []),
  join: (s, [rooms], ack) => (s.join(rooms), ack()),
  leave: (s, rooms, ack) => (rooms.forEach((room) => s.leave(room)), ack()),
  rooms: (s, args, ack) => ack(roomsOf(s)),
  setData: (s, [value], ack) => ((s.data = value), ack()),
  getData: (s, args, ack) => ack(s.data),
  namespace: (s, args, ack) => ack(s.nsp.name),
  send: (s, [spec, event, ...args]) => {
    if (spec.volatile) s = s.volatile;
    if (spec.compress === false) s = s.compress(false);
    s.emit(event, ...args);
  },
  burst: (s, [n, pad]) => {
    for (let i = 0; i < n; i++) s.emit("burst", i, "x".repeat(pad));
  },
  burstThenDisconnect: (s, [n, close]) => {
    for (let i = 0; i < n; i++) s.emit("burst", i);
    s.disconnect(close);
  },
  emitTo: (s, [spec, event, ...args], ack) => {
    for (let i = 0; i < (spec.times ?? 1); i++) select(s, spec).emit(event, ...args);
    ack?.();
  },
  emitWithAckTo: (s, [spec, event, ...args], ack) =>
    select(s, spec).emit(event, ...args, (err, responses) => ack({ timeout: !!err, responses })),
  socketsJoin: (s, [spec, rooms], ack) => (select(s, spec).socketsJoin(rooms), ack()),
  socketsLeave: (s, [spec, rooms], ack) => (select(s, spec).socketsLeave(rooms), ack()),
  disconnectSockets: (s, [spec, close], ack) => (select(s, spec).disconnectSockets(close), ack()),
  fetchSockets: async (s, [spec], ack) => ack((await select(s, spec).fetchSockets()).map(describe)),
  disconnectMe: (s, [close]) => s.disconnect(close),
};

function install(nsp, extra = () => {}) {
  nsp.on("connection", (socket) => {
    const key = socket.handshake.auth.log;
    record(key, ["connect", socket.recovered]);
    socket.on("disconnecting", (reason) => record(key, ["disconnecting", reason, roomsOf(socket)]));
    socket.on("disconnect", (reason) => record(key, ["disconnect", reason]));
    for (const [event, handler] of Object.entries(handlers)) {
      socket.on(event, (...args) => {
        const ack = typeof args.at(-1) === "function" ? args.pop() : undefined;
        return handler(socket, args, ack);
      });
    }
    extra(socket, key);
  });
}

function refusal(message, data) {
  return Object.assign(new Error(message), { data });
}

function serveSocketIO(http, o) {
  const { recovery, ...options } = o;
  if (recovery) options.connectionStateRecovery = { maxDisconnectionDuration: recovery.maxDisconnection };
  const io = new Server(http, options);
  install(io.of("/"));

  const auth = io.of("/auth");
  auth.use((socket, next) => {
    const { token } = socket.handshake.auth;
    if (token === "secret") return next();
    if (token === "plain") return next(new Error("plain refusal"));
    next(refusal("not authorized", { code: 401, given: token ?? null, list: [1, null, "é"] }));
  });
  install(auth);

  const greet = io.of("/greet");
  greet.use((socket, next) => {
    socket.emit("early", 1);
    next();
  });
  install(greet, (socket) => socket.emit("welcome", socket.id));

  const slow = io.of("/slow");
  slow.use((socket, next) => setTimeout(next, 100));
  install(slow);

  install(io.of("/any"), (socket, key) => {
    socket.onAny((event, ...args) => record(key, ["in", event, args.filter((a) => typeof a !== "function")]));
    socket.onAnyOutgoing((event, ...args) => record(key, ["out", event, args]));
    socket.use(([event], next) => next(event === "blocked" ? new Error("blocked") : undefined));
    socket.on("error", () => {});
    socket.on("blocked", () => record(key, ["blocked ran"]));
  });

  const dynamic = io.of(/^\/dynamic-\d+$/);
  dynamic.use((socket, next) => next(socket.handshake.auth.refuse ? refusal("refused", { nsp: socket.nsp.name }) : undefined));
  install(dynamic);
  install(io.of((name, auth, next) => next(null, name.startsWith("/tenant/") && auth.tenant === name.slice(8))));
}

function serveEngine(http, o) {
  const { engine: _, ...options } = o;
  const engine = new Engine(options);
  engine.attach(http);
  engine.on("connection", (session) => {
    const key = session.request._query.log;
    session.on("close", (reason) => record(key, reason));
    session.on("message", (data) => {
      const [command, arg] = typeof data === "string" ? data.split(":") : [];
      switch (command) {
        case "close": return session.close();
        case "text": return session.send("x".repeat(arg));
        case "binary": return session.send(Buffer.alloc(Number(arg), 7));
        case "burst":
        case "burstThenClose":
          for (let i = 0; i < Number(arg); i++) session.send(`${i}`);
          return command === "burst" ? undefined : session.close();
        case "recorded": return session.send(JSON.stringify(logs.get(arg) ?? []));
        default: session.send(data);
      }
    });
  });
}

const urls = {};
for (const [name, o] of Object.entries(JSON.parse(process.env.CONFORMANCE_SERVERS))) {
  const http = createServer((req, res) => res.writeHead(404).end());
  (o.engine ? serveEngine : serveSocketIO)(http, o);
  await new Promise((resolve) => http.listen(0, "127.0.0.1", resolve));
  urls[name] = `http://127.0.0.1:${http.address().port}`;
}
console.log(JSON.stringify(urls));
// The parent holds our standard input: when it goes, so do we.
process.stdin.resume().on("end", () => process.exit(0));
