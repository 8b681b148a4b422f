import { assert, call, collect, each, key, next } from "./harness.mjs";

async function proxied(c, options) {
  const log = key();
  const proxy = await c.proxy(options?.server);
  const socket = await c.connect("/", { url: proxy.url, auth: { log }, ...options });
  await call(socket, "ack"); // the server has switched transports too, and will notice a cut
  return { log, proxy, socket };
}

each("reconnect/after a cut", async (c) => {
  const { log, proxy, socket } = await proxied(c);
  const first = socket.id;
  const gone = next(socket, "disconnect");
  const back = c.back(socket);
  await proxy.cut();
  assert.equal((await gone)[0], c.mode === "polling" ? "transport error" : "transport close");
  await back;
  assert.notEqual(socket.id, first);
  assert.ok(!socket.recovered);
  const entries = await c.log(socket, log, (l) => l.length === 4);
  assert.match(entries[2][1], /^transport (close|error)$/);
  assert.deepEqual(entries.map(([what]) => what).sort(), ["connect", "connect", "disconnect", "disconnecting"]);
});

each("reconnect/attempts are counted", async (c) => {
  const { proxy, socket } = await proxied(c);
  const attempts = collect(socket.io, "reconnect_attempt");
  const errors = collect(socket.io, "reconnect_error");
  const done = next(socket.io, "reconnect");
  await proxy.cut({ refuse: true });
  await attempts.reached(3);
  proxy.refuse = false;
  const [n] = await done;
  assert.deepEqual(attempts.map(([i]) => i), Array.from({ length: n }, (_, i) => i + 1));
  assert.equal(errors.length, n - 1);
  assert.ok(n >= 3);
});

each("reconnect/gives up", async (c) => {
  const { proxy, socket } = await proxied(c, { reconnectionAttempts: 2 });
  const failed = next(socket.io, "reconnect_failed");
  await proxy.cut({ refuse: true });
  await failed;
  assert.equal(socket.connected, false);
});

each("reconnect/emits meanwhile are sent once, in order", async (c) => {
  const { log, proxy, socket } = await proxied(c);
  const gone = next(socket, "disconnect");
  await proxy.cut({ refuse: true });
  await gone;
  for (let i = 0; i < 50; i++) socket.emit("record", `${log}-sent`, i);
  const answer = call(socket, "ack", Buffer.from("b"));
  proxy.refuse = false;
  assert.deepEqual(await answer, [Buffer.from("b")]);
  assert.deepEqual((await call(socket, "recorded", `${log}-sent`))[0], [...Array(50).keys()]);
});

each("reconnect/again and again", async (c) => {
  const { proxy, socket } = await proxied(c);
  const ids = new Set([socket.id]);
  for (let i = 0; i < 5; i++) {
    const back = c.back(socket);
    await proxy.cut();
    await back;
    assert.deepEqual(await call(socket, "ack", i), [i]);
    ids.add(socket.id);
  }
  assert.equal(ids.size, 6);
});

each("reconnect/all namespaces come back", async (c) => {
  const { proxy, socket } = await proxied(c);
  const other = socket.io.socket("/dynamic-9");
  await next(other, "connect");
  const back = [c.back(socket), next(other, "connect")];
  await proxy.cut();
  await Promise.all(back);
  assert.deepEqual(await call(other, "namespace"), ["/dynamic-9"]);
  assert.deepEqual(await call(socket, "namespace"), ["/"]);
});

each("reconnect/rooms and data are not kept without recovery", async (c) => {
  const { proxy, socket } = await proxied(c);
  await call(socket, "join", "a");
  const back = c.back(socket);
  await proxy.cut();
  await back;
  assert.deepEqual(await call(socket, "rooms"), [[]]);
});

each("reconnect/a middleware runs again", async (c) => {
  const proxy = await c.proxy();
  const socket = await c.connect("/auth", { url: proxy.url, auth: { token: "secret" } });
  socket.auth = { token: "revoked" };
  const refused = next(socket, "connect_error");
  await proxy.cut();
  assert.equal((await refused)[0].message, "not authorized");
  assert.equal(socket.connected, false);
});

each("reconnect/after a silent link", async (c) => {
  const { proxy, socket } = await proxied(c, { server: "short" });
  const gone = next(socket, "disconnect");
  const back = c.back(socket);
  proxy.stall();
  assert.equal((await gone)[0], "ping timeout");
  proxy.unstall();
  await back;
  assert.deepEqual(await call(socket, "ack", 1), [1]);
});

each("reconnect/after a cut in the middle of the upgrade", async (c) => {
  // The client may have paused polling by then, and notices by the missing pings only.
  const { socket, proxy, upgrading } = await c.connectSlowly({ server: "short" });
  await upgrading;
  const back = next(socket, "connect");
  proxy.reset();
  await back;
  assert.deepEqual(await call(socket, "ack", 1), [1]);
}, { only: ["upgrade"] });
