import { assert, call, collect, each, expected, key, next, until } from "./harness.mjs";

async function logged(c, options) {
  const log = key();
  const [socket, observer] = await Promise.all([c.connect("/", { auth: { log }, ...options }), c.connect()]);
  return { socket, ended: () => c.log(observer, log, (entries) => entries.at(-1)?.[0] === "disconnect"), log, observer };
}

each("disconnect/by the client", async (c) => {
  const { socket, ended } = await logged(c);
  await call(socket, "join", ["b", "a"]);
  const gone = next(socket, "disconnect");
  socket.disconnect();
  assert.equal((await gone)[0], "io client disconnect");
  assert.deepEqual(await ended(), [
    ["connect", false],
    ["disconnecting", "client namespace disconnect", ["a", "b"]],
    ["disconnect", "client namespace disconnect"],
  ]);
});

for (const close of [false, true]) {
  const form = close ? "by the server with its connection" : "by the server";

  each(`disconnect/${form}`, async (c) => {
    const { socket, ended } = await logged(c);
    const attempts = collect(socket.io, "reconnect_attempt");
    const gone = next(socket, "disconnect");
    socket.emit("disconnectMe", close);
    assert.equal((await gone)[0], "io server disconnect");
    assert.equal(socket.active, false);
    assert.deepEqual((await ended()).slice(1), [
      ["disconnecting", "server namespace disconnect", []],
      ["disconnect", "server namespace disconnect"],
    ]);
    assert.equal(attempts.length, 0);
  });

  each(`disconnect/${form}, then the client connects again`, async (c) => {
    const socket = await c.connect();
    const first = socket.id;
    const gone = next(socket, "disconnect");
    socket.emit("disconnectMe", close);
    await gone;
    socket.connect();
    await c.ready(socket);
    assert.notEqual(socket.id, first);
    assert.deepEqual(await call(socket, "ack", 1), [1]);
  });

  each(`disconnect/${form} after many events loses none`, async (c) => {
    const socket = await c.connect();
    const burst = collect(socket, "burst");
    const gone = next(socket, "disconnect");
    socket.emit("burstThenDisconnect", 500, close);
    assert.equal((await gone)[0], "io server disconnect");
    assert.deepEqual(burst.map(([i]) => i), [...Array(500).keys()]);
  });

  each(`disconnect/${form} while upgrading loses nothing`, async (c) => {
    const { socket, upgrading } = await c.connectSlowly();
    const burst = collect(socket, "burst");
    const gone = next(socket, "disconnect");
    await upgrading;
    socket.emit("burstThenDisconnect", 100, close);
    assert.equal((await gone)[0], "io server disconnect");
    assert.deepEqual(burst.map(([i]) => i), [...Array(100).keys()]);
  }, { only: ["upgrade"] });
}

/** The numbers sent just before a disconnection arrive in order, and all of them where that is promised. */
function assertSent(sent, n) {
  if (expected("events-before-a-disconnect")) assert.equal(sent.length, n);
  assert.deepEqual(sent, [...Array(sent.length).keys()]);
}

each("disconnect/by the client after many events", async (c) => {
  const { socket, observer, log, ended } = await logged(c);
  for (let i = 0; i < 100; i++) socket.emit("record", `${log}-sent`, i);
  socket.disconnect();
  assert.equal((await ended()).at(-1)[1], "client namespace disconnect");
  assertSent((await call(observer, "recorded", `${log}-sent`))[0], 100);
});

each("disconnect/by the client while upgrading", async (c) => {
  const log = key();
  const { socket, upgrading } = await c.connectSlowly({ auth: { log } });
  await upgrading;
  for (let i = 0; i < 100; i++) socket.emit("record", `${log}-sent`, i);
  socket.disconnect();
  const observer = await c.connect();
  const entries = await c.log(observer, log, (l) => l.at(-1)[0] === "disconnect");
  assert.equal(entries.at(-1)[1], "client namespace disconnect");
  assertSent((await call(observer, "recorded", `${log}-sent`))[0], 100);
}, { only: ["upgrade"] });

each("disconnect/right after connecting", async (c) => {
  const log = key();
  const observer = await c.connect();
  for (let i = 0; i < 10; i++) {
    const socket = c.client("/", { auth: { log } });
    await next(socket, "connect");
    socket.disconnect();
  }
  const entries = await c.log(observer, log, (l) => l.filter(([what]) => what === "disconnect").length === 10);
  assert.equal(entries.filter(([what]) => what === "connect").length, 10);
});

each("disconnect/before the connection is made", async (c) => {
  const observer = await c.connect();
  for (let i = 0; i < 10; i++) c.client().disconnect();
  assert.deepEqual(await call(observer, "ack", 1), [1]);
});

each("disconnect/the transport closed by the client", async (c) => {
  const { socket, ended } = await logged(c, { reconnection: false });
  const gone = next(socket, "disconnect");
  socket.io.engine.close();
  assert.equal((await gone)[0], "forced close");
  assert.deepEqual((await ended()).slice(1), [["disconnecting", "transport close", []], ["disconnect", "transport close"]]);
});

each("disconnect/an invalid packet", async (c) => {
  const { socket, ended } = await logged(c, { reconnection: false });
  const gone = next(socket, "disconnect");
  socket.io.engine.write("2[]");
  assert.equal((await gone)[0], "transport close");
  assert.match((await ended()).at(-1)[1], /^forced (server )?close$/);
});

each("disconnect/an event for a namespace not joined", async (c) => {
  const { socket, ended } = await logged(c, { reconnection: false });
  const gone = next(socket, "disconnect");
  socket.io.engine.write('2/slow,["echo"]');
  assert.equal((await gone)[0], "transport close");
  assert.match((await ended()).at(-1)[1], /^forced (server )?close$/);
});

each("disconnect/a silent link is noticed by both sides", async (c) => {
  const log = key();
  const proxy = await c.proxy("short");
  const socket = await c.connect("/", { url: proxy.url, auth: { log }, reconnection: false });
  const observer = await c.connect("/", { server: "short" });
  const gone = next(socket, "disconnect");
  proxy.stall();
  assert.equal((await gone)[0], "ping timeout");
  const entries = await c.log(observer, log, (l) => l.at(-1)[0] === "disconnect");
  assert.equal(entries.at(-1)[1], "ping timeout");
});

each("disconnect/the server's answers stop, an ack is pending", async (c) => {
  const proxy = await c.proxy();
  const socket = await c.connect("/", { url: proxy.url, reconnection: false });
  proxy.stall();
  const pending = socket.timeout(100).emitWithAck("ack", 1);
  await assert.rejects(pending, /operation has timed out/);
  proxy.unstall();
  assert.deepEqual(await call(socket, "ack", 2), [2]);
  await until(() => socket.connected);
});
