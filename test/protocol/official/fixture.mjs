// The fixture of the raw-protocol suite on the official server. Its options are the JSON of the first
// argument; it prints one line of JSON, {"port", "control"}, when it listens, and ends with its stdin.
import { createServer } from "node:http";
import { Server as Engine } from "engine.io";
import { Server as IO } from "socket.io";

const options = JSON.parse(process.argv[2] ?? "{}");
const state = {
  closed: {},
  received: {},
  errors: [],
  asked: 0,
  disconnects: [],
  middleware: [],
  socketErrors: [],
  created: [],
};
const waiting = new Map(); // key of a held middleware -> how to go on

const engineOptions = {};
for (const name of [
  "pingInterval", "pingTimeout", "upgradeTimeout", "maxHttpBufferSize", "transports", "allowUpgrades",
  "cookie", "cors", "initialPacket", "path", "addTrailingSlash",
]) {
  if (options[name] !== undefined) engineOptions[name] = options[name];
}
if (options.httpCompression !== undefined) {
  engineOptions.httpCompression = options.httpCompression < 0 ? false : { threshold: options.httpCompression };
}
if (options.perMessageDeflate !== undefined) {
  engineOptions.perMessageDeflate = { threshold: options.perMessageDeflate };
}
if (options.allowRequest) {
  engineOptions.allowRequest = (req, done) => {
    state.asked++;
    const refusal = req.headers["x-refuse"];
    done(refusal === undefined ? null : refusal || null, refusal === undefined);
  };
}

const server = createServer((req, res) => {
  res.writeHead(404);
  res.end("app");
});

// {"$binary": "<base64>"} in the control's JSON stands for bytes.
function revive(v) {
  if (Array.isArray(v)) return v.map(revive);
  if (v === null || typeof v !== "object") return v;
  if (typeof v.$binary === "string") return Buffer.from(v.$binary, "base64");
  return Object.fromEntries(Object.entries(v).map(([k, x]) => [k, revive(x)]));
}

function watch(engine) {
  if (options.failingIDs) {
    const generateId = engine.generateId;
    engine.generateId = (req) => {
      if (req.headers["x-no-id"] !== undefined) throw new Error("no id");
      return generateId.call(engine, req);
    };
  }
  engine.on("connection_error", ({ code, message, context }) => {
    state.errors.push({ code, message, context: context?.name ?? "" });
  });
  engine.on("connection", (session) => {
    session.on("close", (reason, cause) => {
      state.closed[session.id] = { reason, description: String(cause?.description ?? cause?.message ?? "") };
    });
  });
  if (options.headerHooks) {
    engine.on("initial_headers", (headers) => (headers["x-initial"] = "1"));
    engine.on("headers", (headers) => (headers["x-every"] = "1"));
  }
}

const ops = {};
let engine;

function startEngine() {
  engine = new Engine(engineOptions);
  engine.attach(server, engineOptions);
  watch(engine);
  engine.on("connection", (session) => {
    const log = (state.received[session.id] = []);
    session.on("message", (data = "") => {
      log.push(typeof data === "string" ? data : { binary: Buffer.from(data).toString("hex") });
      session.send(data);
    });
  });
  ops.send = ({ sid, data, binary, compress }) => {
    for (const d of data) {
      engine.clients[sid].send(binary ? Buffer.from(d, "base64") : d, { compress: compress ?? true });
    }
  };
  ops.shutdown = () => engine.close();
}

function startSocketIO() {
  if (options.connectTimeout !== undefined) engineOptions.connectTimeout = options.connectTimeout;
  if (options.recovery) engineOptions.connectionStateRecovery = options.recovery;
  if (options.cleanupEmptyChildNamespaces) engineOptions.cleanupEmptyChildNamespaces = true;
  const io = new IO(server, engineOptions);
  engine = io.engine;
  watch(engine);
  io.on("new_namespace", (nsp) => state.created.push(nsp.name));

  const namespaces = new Map();
  const setUp = (nsp, label) => {
    nsp.use((socket, next) => {
      const { auth } = socket.handshake;
      state.middleware.push({ namespace: socket.nsp.name, id: socket.id, step: "first" });
      if (auth.early) socket.emit("early", 1);
      if (auth.room) socket.join(auth.room);
      if (auth.refuse) {
        const err = new Error("not authorized");
        if (auth.refuse === "data") err.data = { content: "retry", n: 1 };
        if (auth.refuse === "null") err.data = null;
        return next(err);
      }
      if (auth.wait) return waiting.set(auth.wait, next);
      next();
    });
    nsp.use((socket, next) => {
      state.middleware.push({ namespace: socket.nsp.name, id: socket.id, step: "second" });
      next();
    });
    nsp.on("connection", (socket) => onConnection(socket, label));
    namespaces.set(label, nsp);
  };
  for (const name of ["/", "/a", "/b"]) setUp(io.of(name), name);
  setUp(io.of(/^\/dynamic-\d+$/), "dynamic");
  setUp(
    io.of((name, auth, next) => {
      if (name === "/fn-error") return next(new Error("boom"), true);
      next(null, name === "/fn-ok" || (name === "/fn-auth" && auth.token === "ok"));
    }),
    "function",
  );
  setUp(io.of(/^\/(dynamic|late)-\d+$/), "late");

  function onConnection(socket, label) {
    const { auth } = socket.handshake;
    const events = [];
    socket.events = events;
    socket.label = label;
    socket.onAny((event) => events.push(String(event)));
    socket.use(([event], next) => next(event === "blocked" ? new Error("blocked") : undefined));
    socket.on("error", (err) => state.socketErrors.push({ id: socket.id, message: err.message }));
    socket.on("disconnecting", (reason) => {
      state.disconnects.push({ namespace: socket.nsp.name, id: socket.id, reason, rooms: [...socket.rooms], done: false });
    });
    socket.on("disconnect", () => {
      state.disconnects.findLast((d) => d.id === socket.id).done = socket.rooms.size === 0;
    });
    if (auth.greet) socket.emit("welcome", socket.id);

    socket.on("echo", (...args) => socket.emit("echo", ...args));
    socket.on("ack", (...args) => args.pop()(...args));
    socket.on("ack-twice", (done) => {
      done(1);
      done(2);
      socket.emit("after");
    });
    socket.on("ask", (event, ms, ...args) => {
      socket.timeout(ms).emit(event, ...args, (err, ...answer) => {
        socket.emit("answer", err ? err.message : null, ...answer);
      });
    });
    socket.on("join", (...rooms) => {
      const done = rooms.pop();
      socket.join(rooms);
      done();
    });
    socket.on("leave", (room, done) => {
      socket.leave(room);
      done();
    });
    socket.on("to", (rooms, except, event, ...args) => socket.to(rooms).except(except).emit(event, ...args));
    socket.on("others", (event, ...args) => socket.broadcast.emit(event, ...args));
    socket.on("set", (value, done) => {
      socket.data = value;
      done();
    });
    socket.on("handshake", (done) => done(socket.handshake));
    socket.on("disconnect-me", (close) => socket.disconnect(close));
    socket.on("message", (...args) => socket.send(...args));
    socket.on("blocked", () => socket.emit("reached"));
    socket.on("values", () => {
      socket.emit("values", undefined, () => 1, { a: undefined, b: NaN }, Infinity, -0, 1e21, "<>&\u2028");
    });
    socket.on("bytes", () => {
      socket.emit("bytes", { first: Buffer.of(1), list: [Buffer.of(2), { last: Buffer.of(3) }] }, Buffer.of(4));
    });
  }

  const select = ({ namespace = "/", to = [], except = [], local, volatile, timeout, compress }) => {
    let op = to.length ? io.of(namespace).to(to).except(except) : io.of(namespace).except(except);
    if (local) op = op.local;
    if (volatile) op = op.volatile;
    if (timeout !== undefined) op = op.timeout(timeout);
    if (compress !== undefined) op = op.compress(compress);
    return op;
  };
  const socketOf = ({ namespace = "/", id }) => io.of(namespace).sockets.get(id);
  ops.emit = (o) => void select(o).emit(o.event, ...o.args);
  ops.emitWithAck = (o) =>
    new Promise((resolve) => {
      select(o).emit(o.event, ...o.args, (err, responses) => resolve({ error: err?.message ?? "", responses }));
    });
  ops.fetch = async (o) =>
    (await select(o).fetchSockets()).map((s) => ({ id: s.id, rooms: [...s.rooms], data: s.data, query: s.handshake.query }));
  ops.join = (o) => select(o).socketsJoin(o.rooms);
  ops.leave = (o) => select(o).socketsLeave(o.rooms);
  ops.disconnect = (o) => select(o).disconnectSockets(o.close);
  ops.socket = (o) => {
    const socket = socketOf(o);
    (o.volatile ? socket.volatile : socket).emit(o.event, ...o.args);
  };
  ops.release = ({ key }) => {
    waiting.get(key)();
    waiting.delete(key);
  };
  ops.parent = (o) => void (o.to ? namespaces.get(o.parent).to(o.to) : namespaces.get(o.parent)).emit(o.event, ...o.args);
  ops.of = ({ namespace }) => void io.of(namespace);
  ops.shutdown = () => void io.close();

  return () =>
    Object.fromEntries(
      [...io._nsps].map(([name, nsp]) => [
        name,
        Object.fromEntries(
          [...nsp.sockets].map(([id, s]) => [
            id,
            {
              session: s.conn.id, rooms: [...s.rooms], recovered: s.recovered, data: s.data,
              events: s.events ?? [], label: s.label ?? "",
            },
          ]),
        ),
      ]),
    );
}

let namespaces = () => ({});
if (options.mode === "engine") startEngine();
else namespaces = startSocketIO();

ops.close = ({ sid }) => void engine.clients[sid].close();

const control = createServer(async (req, res) => {
  try {
    let answer;
    if (req.url === "/state") {
      const sessions = Object.fromEntries(
        Object.values(engine.clients).map((s) => [
          s.id,
          { transport: s.transport.name, polling: s.transport.name === "polling" && s.transport.writable },
        ]),
      );
      answer = { ...state, sessions, waiting: [...waiting.keys()], namespaces: namespaces() };
    } else {
      let body = "";
      for await (const chunk of req) body += chunk;
      const { op, ...rest } = JSON.parse(body);
      answer = (await ops[op](revive(rest))) ?? null;
    }
    res.setHeader("content-type", "application/json");
    res.end(JSON.stringify(answer));
  } catch (err) {
    res.writeHead(500);
    res.end(String(err?.stack ?? err));
  }
});

const listen = (s) => new Promise((done) => s.listen(0, "127.0.0.1", () => done(s.address().port)));
console.log(JSON.stringify({ port: await listen(server), control: await listen(control) }));
process.stdin.resume().on("end", () => process.exit(0));
