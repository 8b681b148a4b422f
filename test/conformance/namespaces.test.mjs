import { Manager } from "socket.io-client";
import { assert, call, collect, each, key, next, urls } from "./harness.mjs";

function manager(c, options) {
  const m = new Manager(urls.main, { transports: c.transports, reconnectionDelay: 50, ...options });
  c.cleanups.push(() => m._close());
  return m;
}

const connected = async (socket) => socket.connected || next(socket, "connect");

each("namespaces/static", async (c) => {
  const socket = await c.connect("/slow");
  assert.deepEqual(await call(socket, "namespace"), ["/slow"]);
});

each("namespaces/unknown is refused, the connection stays", async (c) => {
  const m = manager(c);
  const root = m.socket("/");
  await connected(root);
  const [error] = await next(m.socket("/nowhere"), "connect_error");
  assert.equal(error.message, "Invalid namespace");
  assert.equal(error.data, undefined);
  assert.deepEqual(await call(root, "ack", 1), [1]);
});

each("namespaces/refusal by a middleware leaves the others alone", async (c) => {
  const m = manager(c);
  const root = m.socket("/");
  const engine = (await connected(root), m.engine.id);
  const auth = m.socket("/auth", { auth: { token: "wrong" } });
  assert.equal((await next(auth, "connect_error"))[0].message, "not authorized");
  auth.auth = { token: "secret" };
  auth.connect();
  await connected(auth);
  assert.deepEqual(await call(auth, "namespace"), ["/auth"]);
  assert.equal(m.engine.id, engine, "both share the first connection");
});

each("namespaces/dynamic by regular expression", async (c) => {
  const [a, b, again] = await Promise.all([c.connect("/dynamic-1"), c.connect("/dynamic-2"), c.connect("/dynamic-1")]);
  assert.deepEqual(await call(a, "namespace"), ["/dynamic-1"]);
  assert.deepEqual(await call(b, "namespace"), ["/dynamic-2"]);
  const seen = [collect(a, "news"), collect(b, "news"), collect(again, "news")];
  const tag = key();
  await call(a, "emitTo", { from: "all" }, "news", tag);
  await Promise.all([a, b, again].map((socket) => call(socket, "ack")));
  assert.deepEqual(seen.map((news) => news.filter(([t]) => t === tag).length), [1, 0, 1]);
});

each("namespaces/dynamic, name that does not match", async (c) => {
  const [error] = await next(c.client("/dynamic-x"), "connect_error");
  assert.equal(error.message, "Invalid namespace");
});

each("namespaces/dynamic, refused by the parent's middleware", async (c) => {
  const socket = c.client("/dynamic-77", { auth: { refuse: true } });
  const [error] = await next(socket, "connect_error");
  assert.equal(error.message, "refused");
  assert.deepEqual(error.data, { nsp: "/dynamic-77" });
});

each("namespaces/dynamic by function of the auth", async (c) => {
  const socket = await c.connect("/tenant/é b", { auth: { tenant: "é b" } });
  assert.deepEqual(await call(socket, "namespace"), ["/tenant/é b"]);
  const [error] = await next(c.client("/tenant/a", { auth: { tenant: "b" } }), "connect_error");
  assert.equal(error.message, "Invalid namespace");
});

each("namespaces/many on one connection", async (c) => {
  const m = manager(c);
  const names = ["/", "/slow", "/any", "/dynamic-1", "/dynamic-2"];
  const sockets = names.map((name) => m.socket(name));
  await Promise.all(sockets.map(connected));
  assert.equal(new Set(sockets.map((s) => s.id)).size, names.length);
  const answers = await Promise.all(sockets.map((s) => call(s, "namespace")));
  assert.deepEqual(answers.flat(), names);
  const data = Buffer.from("b");
  const echoes = sockets.map((s) => next(s, "echo"));
  sockets.forEach((s, i) => s.emit("echo", i, data));
  assert.deepEqual(await Promise.all(echoes), names.map((_, i) => [i, data]));
});

each("namespaces/io() shares the connection of an equal url", async (c) => {
  const options = { forceNew: false, multiplex: true, query: { cache: key() } };
  const a = c.client("/", { ...options, url: urls.main.replace("127.0.0.1", "localhost") });
  const b = c.client("/slow", { ...options, url: urls.main.replace("127.0.0.1", "localhost") });
  await Promise.all([connected(a), connected(b)]);
  assert.equal(a.io, b.io);
  assert.notEqual(a.id, b.id);
}, { only: ["websocket"] });

each("namespaces/rooms of one are not those of another", async (c) => {
  const m = manager(c);
  const [a, b] = [m.socket("/dynamic-1"), m.socket("/dynamic-2")];
  await Promise.all([connected(a), connected(b)]);
  const room = key();
  await Promise.all([call(a, "join", room), call(b, "join", room)]);
  const [newsA, newsB] = [collect(a, "news"), collect(b, "news")];
  await call(a, "emitTo", { from: "all", to: [room] }, "news", 1);
  await Promise.all([call(a, "ack"), call(b, "ack")]);
  assert.deepEqual([newsA.length, newsB.length], [1, 0]);
});

each("namespaces/leaving one keeps the others", async (c) => {
  const m = manager(c);
  const [root, other] = [m.socket("/"), m.socket("/dynamic-3")];
  await Promise.all([connected(root), connected(other)]);
  const engine = m.engine.id;
  const first = other.id;
  other.disconnect();
  assert.deepEqual(await call(root, "ack", 1), [1]);
  other.connect();
  await connected(other);
  assert.notEqual(other.id, first);
  assert.equal(m.engine.id, engine);
});

each("namespaces/server disconnects one and keeps the others", async (c) => {
  const m = manager(c);
  const [root, other] = [m.socket("/"), m.socket("/dynamic-3")];
  await Promise.all([connected(root), connected(other)]);
  const gone = next(other, "disconnect");
  other.emit("disconnectMe", false);
  assert.equal((await gone)[0], "io server disconnect");
  assert.equal(root.connected, true);
  assert.deepEqual(await call(root, "ack", 1), [1]);
});
