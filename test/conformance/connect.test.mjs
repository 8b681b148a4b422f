import { Socket } from "engine.io-client";
import { assert, call, each, key, next, urls } from "./harness.mjs";

each("connect/default namespace", async (c) => {
  const socket = await c.connect();
  assert.equal(socket.connected, true);
  assert.match(socket.id, /^[\w-]{20}$/);
  assert.ok(!socket.recovered);
  assert.equal(socket.io.engine.transport.name, c.mode === "polling" ? "polling" : "websocket");
  assert.notEqual(socket.id, socket.io.engine.id);
});

each("connect/auth object", async (c) => {
  const auth = { user: "é\u{1f680}</script>", n: 1.5, list: [null, true], deep: { a: {} } };
  const socket = await c.connect("/", { auth });
  const [handshake] = await call(socket, "handshake");
  assert.deepEqual(handshake.auth, auth);
});

each("connect/auth function", async (c) => {
  const socket = await c.connect("/auth", { auth: (cb) => setTimeout(cb, 5, { token: "secret" }) });
  assert.deepEqual((await call(socket, "handshake"))[0].auth, { token: "secret" });
});

each("connect/no auth", async (c) => {
  const socket = await c.connect();
  assert.deepEqual((await call(socket, "handshake"))[0].auth, {});
});

each("connect/refused with data", async (c) => {
  const socket = c.client("/auth", { auth: { token: "é" } });
  const [error] = await next(socket, "connect_error");
  assert.equal(error.message, "not authorized");
  assert.deepEqual(error.data, { code: 401, given: "é", list: [1, null, "é"] });
  assert.equal(socket.connected, false);
  assert.equal(socket.active, false);
});

each("connect/refused without data", async (c) => {
  const socket = c.client("/auth", { auth: { token: "plain" } });
  const [error] = await next(socket, "connect_error");
  assert.equal(error.message, "plain refusal");
  assert.equal(error.data, undefined);
});

each("connect/refused, then accepted with other auth", async (c) => {
  const socket = c.client("/auth", { auth: { token: "wrong" } });
  await next(socket, "connect_error");
  socket.auth = { token: "secret" };
  socket.connect();
  await c.ready(socket);
  assert.deepEqual(await call(socket, "ack", 1), [1]);
});

each("connect/refused repeatedly on one connection", async (c) => {
  const socket = c.client("/auth", { auth: { token: "wrong" } });
  for (let i = 0; i < 5; i++) {
    const [error] = await next(socket, "connect_error");
    assert.equal(error.message, "not authorized");
    socket.connect();
  }
});

each("connect/emits before the connection are sent after it", async (c) => {
  const socket = c.client("/slow");
  const answers = [1, 2, 3].map((n) => call(socket, "ack", n));
  assert.deepEqual(await Promise.all(answers), [[1], [2], [3]]);
});

each("connect/packets of a middleware arrive before those of the connection", async (c) => {
  const socket = c.client("/greet");
  const seen = [];
  const done = new Promise((resolve) => socket.onAny((event, value) => seen.push([event, value]) === 2 && resolve()));
  await done;
  assert.deepEqual(seen, [["early", 1], ["welcome", socket.id]]);
});

each("connect/query and extra headers are in the handshake", async (c) => {
  const socket = await c.connect("/", { query: { a: "1", b: "é &=" }, extraHeaders: { "X-Conformance": "yes" } });
  const [handshake] = await call(socket, "handshake");
  assert.equal(handshake.query.a, "1");
  assert.equal(handshake.query.b, "é &=");
  assert.equal(handshake.query.EIO, "4");
  assert.equal(handshake.query.transport, c.transports[0]);
  assert.equal(handshake.header, "yes");
  assert.equal(handshake.secure, false);
  assert.equal(handshake.xdomain, false);
  assert.equal(handshake.issued, true);
  assert.equal(handshake.path, "/socket.io/");
});

each("connect/Origin header makes the handshake cross-domain", async (c) => {
  const socket = await c.connect("/", { extraHeaders: { Origin: "http://app.example" } });
  assert.equal((await call(socket, "handshake"))[0].xdomain, true);
});

each("connect/path option without trailing slash", async (c) => {
  const socket = await c.connect("/", { server: "variant", path: "/custom/socket", addTrailingSlash: false });
  const [handshake] = await call(socket, "handshake");
  assert.equal(handshake.path, "/custom/socket");
  assert.deepEqual(await call(socket, "ack", Buffer.from("b")), [Buffer.from("b")]);
});

each("connect/default path without trailing slash is not found", async (c) => {
  const socket = c.client("/", { addTrailingSlash: false, reconnection: false });
  const [error] = await next(socket, "connect_error");
  assert.equal(socket.connected, false);
  assert.equal(error.type, "TransportError");
});

each("connect/wrong path", async (c) => {
  const socket = c.client("/", { path: "/nowhere", reconnection: false });
  const [error] = await next(socket, "connect_error");
  assert.equal(error.message, c.mode === "websocket" ? "websocket error" : "xhr poll error");
});

each("connect/tryAllTransports falls back to the one that works", async (c) => {
  const socket = c.client("/", { server: "pollonly", transports: ["websocket", "polling"], tryAllTransports: true });
  await next(socket, "connect");
  assert.equal(socket.io.engine.transport.name, "polling");
  assert.deepEqual(await call(socket, "ack", 1), [1]);
}, { only: ["websocket"] });

each("connect/server without websocket offers no upgrade", async (c) => {
  const socket = c.client("/", { server: "pollonly" });
  await next(socket, "connect");
  assert.deepEqual(await call(socket, "ack", 1), [1]);
  assert.equal(socket.io.engine.transport.name, "polling");
}, { only: ["polling", "upgrade"] });

each("connect/upgrade:false stays on polling", async (c) => {
  const socket = await c.connect("/", { transports: ["polling", "websocket"], upgrade: false });
  for (let i = 0; i < 20; i++) assert.deepEqual(await call(socket, "ack", i), [i]);
  assert.equal(socket.io.engine.transport.name, "polling");
}, { only: ["upgrade"] });

each("connect/forceBase64", async (c) => {
  const socket = await c.connect("/", { forceBase64: true });
  const value = { a: Buffer.from([0, 1, 2, 253, 254, 255]), b: [Buffer.alloc(0), "text"] };
  assert.deepEqual(await call(socket, "ack", value), [value]);
});

each("connect/rememberUpgrade connects the second time over websocket", async (c) => {
  const socket = await c.connect("/", { rememberUpgrade: true });
  const reconnected = next(socket, "connect");
  socket.io.engine.close();
  socket.connect();
  await reconnected;
  assert.equal(socket.io.engine.transport.name, "websocket");
}, { only: ["upgrade"] });

each("connect/two sockets get different ids", async (c) => {
  const [a, b] = await Promise.all([c.connect(), c.connect()]);
  assert.notEqual(a.id, b.id);
  assert.notEqual(a.io.engine.id, b.io.engine.id);
});

each("connect/a client that joins no namespace is closed", async (c) => {
  const engine = new Socket(urls.short, { path: "/socket.io/", transports: c.transports });
  c.cleanups.push(() => engine.close());
  const reason = await new Promise((resolve) => engine.on("close", resolve));
  assert.equal(reason, "transport close");
});

each("connect/the connection is logged once", async (c) => {
  const log = key();
  const socket = await c.connect("/", { auth: { log } });
  assert.deepEqual(await c.log(socket, log), [["connect", false]]);
});
