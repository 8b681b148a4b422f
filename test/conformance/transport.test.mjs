import { assert, call, collect, each, key, next, upgraded } from "./harness.mjs";

/** Sends n numbers both ways at once and checks that all arrive, in order. */
async function flood(socket, n) {
  const log = key();
  const burst = collect(socket, "burst");
  const echo = collect(socket, "echo");
  socket.emit("burst", n, 20);
  for (let i = 0; i < n; i++) {
    socket.emit("record", log, i);
    if (i % 10 === 0) socket.emit("echo", i, Buffer.from(`${i}`));
    if (i % 50 === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  await Promise.all([burst.reached(n), echo.reached(n / 10)]);
  const numbers = [...Array(n).keys()];
  assert.deepEqual(burst.map(([i]) => i), numbers);
  assert.deepEqual(echo.map(([i, b]) => [i, b.toString()]), numbers.filter((i) => i % 10 === 0).map((i) => [i, `${i}`]));
  assert.deepEqual((await call(socket, "recorded", log))[0], numbers);
}

each("transport/thousands of messages both ways", async (c) => flood(await c.connect(), 3000));

each("transport/thousands of messages both ways while upgrading", async (c) => {
  const { socket } = await c.connectSlowly();
  const done = upgraded(socket.io.engine);
  await flood(socket, 3000);
  await done;
  await flood(socket, 500);
}, { only: ["upgrade"] });

for (let round = 0; round < 3; round++) {
  each(`transport/upgrade over a link that delays at random, ${round}`, async (c) => {
    const proxy = await c.proxy();
    proxy.delay = () => Math.random() * 40;
    const socket = c.client("/", { url: proxy.url });
    await next(socket, "connect");
    await flood(socket, 1000);
    await c.settled(socket);
    await flood(socket, 500);
    assert.equal(socket.io.engine.transport.name, c.mode === "polling" ? "polling" : "websocket");
  });
}

each("transport/messages keep flowing from the probe to the upgrade", async (c) => {
  const { socket, upgrading } = await c.connectSlowly();
  const echo = collect(socket, "echo");
  let sent = 0;
  const timer = setInterval(() => socket.emit("echo", sent++), 2);
  c.cleanups.push(() => clearInterval(timer));
  await upgrading;
  await upgraded(socket.io.engine);
  const atUpgrade = sent;
  await echo.reached(atUpgrade + 20);
  clearInterval(timer);
  await echo.reached(sent);
  assert.deepEqual(echo.map(([i]) => i), [...Array(sent).keys()]);
}, { only: ["upgrade"] });

each("transport/an idle upgrade takes less than a second", async (c) => {
  const start = Date.now();
  await c.connect();
  assert.ok(Date.now() - start < 1000, `${Date.now() - start} ms`);
}, { only: ["upgrade"] });

each("transport/a websocket that never opens leaves polling alone", async (c) => {
  const proxy = await c.proxy("short");
  proxy.hold = (head) => /^upgrade: websocket/im.test(head);
  const socket = c.client("/", { url: proxy.url });
  await next(socket, "connect");
  await collect(socket.io, "ping").reached(3);
  await flood(socket, 200);
  assert.equal(socket.io.engine.transport.name, "polling");
}, { only: ["upgrade"] });

each("transport/a probe that is never confirmed leaves polling alone", async (c) => {
  const { socket, proxy } = await c.connectSlowly({ server: "short" });
  const failed = next(socket.io.engine, "upgradeError");
  // The server gives a probe one second; the answer is still on its way then.
  proxy.delay = (head) => (/^upgrade: websocket/im.test(head) ? 2500 : 0);
  await failed;
  await flood(socket, 200);
  assert.equal(socket.io.engine.transport.name, "polling");
}, { only: ["upgrade"] });

each("transport/heartbeat", async (c) => {
  const socket = await c.connect("/", { server: "short" });
  const pings = collect(socket.io, "ping");
  await pings.reached(5);
  assert.equal(socket.connected, true);
  assert.deepEqual(await call(socket, "ack", 1), [1]);
});

each("transport/heartbeat under load", async (c) => {
  const socket = await c.connect("/", { server: "short" });
  const pings = collect(socket.io, "ping");
  const gone = collect(socket, "disconnect");
  for (let i = 0; pings.length < 5; i++) assert.deepEqual(await call(socket, "ack", i), [i]);
  assert.equal(gone.length, 0);
});

each("transport/a slow link", async (c) => {
  const proxy = await c.proxy("short");
  const socket = c.client("/", { url: proxy.url });
  proxy.delay = () => 60;
  await next(socket, "connect");
  await collect(socket.io, "ping").reached(3);
  await c.settled(socket);
  assert.deepEqual(await call(socket, "ack", Buffer.from("b")), [Buffer.from("b")]);
});

each("transport/a stall shorter than the timeout loses nothing", async (c) => {
  const proxy = await c.proxy();
  const socket = await c.connect("/", { url: proxy.url });
  const burst = collect(socket, "burst");
  proxy.stall();
  const answers = Array.from({ length: 50 }, (_, i) => call(socket, "ack", i));
  socket.emit("burst", 100, 1000);
  await new Promise((resolve) => setTimeout(resolve, 300));
  proxy.unstall();
  assert.deepEqual((await Promise.all(answers)).flat(), [...Array(50).keys()]);
  await burst.reached(100);
  assert.deepEqual(burst.map(([i]) => i), [...Array(100).keys()]);
});

each("transport/a large message while upgrading", async (c) => {
  const { socket, upgrading } = await c.connectSlowly();
  const text = "x".repeat(700_000);
  const early = call(socket, "ack", text);
  await upgrading;
  const late = call(socket, "ack", text, Buffer.alloc(100_000, 1));
  assert.ok((await early)[0] === text);
  const [got, data] = await late;
  assert.ok(got === text && data.equals(Buffer.alloc(100_000, 1)));
}, { only: ["upgrade"] });

each("transport/a hundred connections come and go", async (c) => {
  for (let i = 0; i < 100; i += 20) {
    const sockets = Array.from({ length: 20 }, () => c.client());
    await Promise.all(sockets.map((socket) => next(socket, "connect")));
    sockets.forEach((socket, j) => (j % 2 ? socket.disconnect() : socket.io.engine.close()));
  }
  const last = await c.connect();
  assert.deepEqual(await call(last, "ack", 1), [1]);
});
