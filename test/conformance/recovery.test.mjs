import { assert, call, collect, each, expected, key, next } from "./harness.mjs";

/** A client behind a proxy and one beside it, both of the server with recovery. */
async function setUp(c, options) {
  const log = key();
  const proxy = await c.proxy(options?.server ?? "recovery");
  const socket = await c.connect("/", { url: proxy.url, auth: { log }, ...options });
  const observer = await c.connect("/", { server: options?.server ?? "recovery" });
  const news = collect(socket, "news");
  await call(socket, "ack"); // the server has switched transports too, and will notice a cut
  return { log, proxy, socket, observer, news };
}

/** Cuts the client off until the server has noticed, and stays so while `meanwhile` runs. */
async function whileCut(c, { proxy, socket, observer, log }, meanwhile = () => {}) {
  const gone = next(socket, "disconnect");
  const count = (l) => l.filter(([what]) => what === "disconnect").length;
  const before = count(await c.log(observer, log));
  await proxy.cut({ refuse: true });
  await gone;
  await c.log(observer, log, (l) => count(l) > before);
  await meanwhile();
  const back = c.back(socket);
  proxy.refuse = false;
  await back;
}

const emit = (from, spec, ...args) => call(from, "emitTo", { from: "all", ...spec }, "news", ...args);
const first = (news) => news.map(([value]) => value);

each("recovery/missed events arrive once and in order", async (c) => {
  const bench = await setUp(c);
  const { socket, observer, news, log } = bench;
  const id = socket.id;
  await call(socket, "join", [log, `${log}-muted`]);
  await call(socket, "setData", { user: "é" });
  await emit(observer, { to: [log] }, "before");
  await news.reached(1);
  await whileCut(c, bench, async () => {
    await emit(observer, { to: [log] }, "room", { b: Buffer.from("b") });
    await emit(observer, { to: [id] }, "own id");
    await emit(observer, { to: [`${log}-other`] }, "another room");
    await emit(observer, { to: [log], except: [`${log}-muted`] }, "excepted");
    await emit(observer, { from: "others", to: [log] }, "from a socket");
    await emit(observer, { to: [log], volatile: true }, "volatile");
    for (let i = 0; i < 50; i++) await emit(observer, { to: [log] }, i);
  });
  assert.equal(socket.recovered, true);
  assert.equal(socket.id, id);
  assert.deepEqual(first(news), ["before", "room", "own id", "from a socket", ...Array(50).keys()]);
  assert.deepEqual(news[1][1], { b: Buffer.from("b") });
  assert.deepEqual((await call(socket, "rooms"))[0].slice(0, 2), [log, `${log}-muted`]);
  assert.deepEqual(await call(socket, "getData"), [{ user: "é" }]);
  const entries = await c.log(observer, log);
  assert.deepEqual(entries.at(-1), ["connect", true]);
});

each("recovery/new events after it arrive once", async (c) => {
  const bench = await setUp(c);
  const { socket, observer, news, log } = bench;
  await call(socket, "join", log);
  await emit(observer, { to: [log] }, 1);
  await news.reached(1);
  await whileCut(c, bench);
  assert.equal(socket.recovered, true);
  await emit(observer, { to: [log] }, 2);
  await call(socket, "ack");
  assert.deepEqual(first(news), [1, 2]);
});

each("recovery/several times in a row", async (c) => {
  const bench = await setUp(c);
  const { socket, observer, news, log } = bench;
  await call(socket, "join", log);
  await emit(observer, { to: [log] }, 0);
  await news.reached(1);
  for (let i = 1; i <= 3; i++) {
    await whileCut(c, bench, () => emit(observer, { to: [log] }, i));
    assert.equal(socket.recovered, true, `time ${i}`);
  }
  assert.deepEqual(first(news), [0, 1, 2, 3]);
});

each("recovery/events arrive before connect does", async (c) => {
  const bench = await setUp(c);
  const { socket, observer, log, news } = bench;
  await call(socket, "join", log);
  await emit(observer, { to: [log] }, 1);
  await news.reached(1);
  const order = [];
  socket.on("news", (value) => order.push(value));
  socket.on("connect", () => order.push("connect"));
  await whileCut(c, bench, () => emit(observer, { to: [log] }, 2));
  assert.deepEqual(order, [2, "connect"]);
});

each("recovery/events with acks are not kept", async (c) => {
  const bench = await setUp(c);
  const { socket, observer, log, news } = bench;
  await call(socket, "join", log);
  await emit(observer, { to: [log] }, 1);
  await news.reached(1);
  await whileCut(c, bench, async () => {
    const answer = await call(observer, "emitWithAckTo", { from: "all", to: [log], timeout: 20_000 }, "news", "with ack");
    assert.deepEqual(answer, [{ timeout: false, responses: [] }]);
    await emit(observer, { to: [log] }, 2);
  });
  assert.equal(socket.recovered, true);
  assert.deepEqual(first(news), [1, 2]);
});

each("recovery/acks work afterwards", async (c) => {
  const bench = await setUp(c);
  const { socket, observer, log, news } = bench;
  await call(socket, "join", log);
  await emit(observer, { to: [log] }, 1);
  await news.reached(1);
  await whileCut(c, bench);
  socket.on("question", (n, ack) => ack(n + 1));
  assert.deepEqual(await call(socket, "ask", 20_000, "question", 1), [{ values: [2] }]);
});

each("recovery/events that arrived are not sent again", async (c) => {
  const bench = await setUp(c);
  const { socket, observer, log, news } = bench;
  await call(socket, "join", log);
  for (let i = 0; i < 20; i++) await emit(observer, { to: [log] }, i);
  await news.reached(20);
  await whileCut(c, bench, () => emit(observer, { to: [log] }, 20));
  assert.deepEqual(first(news), [...Array(21).keys()]);
});

each("recovery/own echoes count as events", async (c) => {
  const bench = await setUp(c);
  const { socket } = bench;
  const back = next(socket, "echo");
  socket.emit("echo", 1);
  await back;
  await whileCut(c, bench);
  assert.equal(socket.recovered, true);
});

each("recovery/no event received before the cut", async (c) => {
  const want = expected("recovery-without-offset");
  const bench = await setUp(c);
  const { socket, observer, log, news } = bench;
  await call(socket, "join", log);
  const id = socket.id;
  await whileCut(c, bench, () => emit(observer, { to: [log] }, "missed"));
  assert.equal(socket.recovered ?? false, want);
  assert.equal(socket.id === id, want);
  assert.deepEqual(first(news), want ? ["missed"] : []);
});

for (const [form, args] of [["ending in a string", ["volatile", "no offset"]], ["without arguments", []]]) {
  each(`recovery/a volatile event ${form} before the cut`, async (c) => {
    const want = expected("recovery-after-volatile");
    const bench = await setUp(c);
    const { socket, observer, log, news } = bench;
    await call(socket, "join", log);
    await emit(observer, { to: [log] }, 1);
    await news.reached(1);
    const timer = setInterval(() => observer.emit("emitTo", { from: "all", to: [log], volatile: true }, "tick", ...args), 10);
    await next(socket, "tick").finally(() => clearInterval(timer));
    await whileCut(c, bench, () => emit(observer, { to: [log] }, 2));
    assert.equal(socket.recovered ?? false, want);
    assert.deepEqual(first(news), want ? [1, 2] : [1]);
  });
}

/** A client that claims the session of another. */
async function impostor(c, pid, offset) {
  const socket = c.client("/", { server: "recovery", autoConnect: false });
  Object.assign(socket, { _pid: pid, _lastOffset: offset });
  socket.connect();
  await c.ready(socket);
  return socket;
}

each("recovery/a session that ended after it was restored is gone", async (c) => {
  const want = expected("session-restored-once");
  const bench = await setUp(c);
  const { socket, observer, log, news } = bench;
  await call(socket, "join", log);
  await emit(observer, { to: [log] }, 1);
  await news.reached(1);
  const { id, _pid, _lastOffset } = socket;
  await whileCut(c, bench);
  assert.equal(socket.recovered, true);
  socket.disconnect();
  await c.log(observer, log, (l) => l.at(-1)[1] === "client namespace disconnect");
  const second = await impostor(c, _pid, _lastOffset);
  assert.equal(second.recovered, !want);
  assert.equal(second.id !== id, want);
});

each("recovery/a session that is in use has one socket", async (c) => {
  const want = expected("session-restored-once");
  const bench = await setUp(c);
  const { socket, observer, log, news } = bench;
  await call(socket, "join", log);
  await emit(observer, { to: [log] }, 1);
  await news.reached(1);
  await whileCut(c, bench);
  assert.equal(socket.recovered, true);
  socket.io.reconnection(false);
  const gone = next(socket, "disconnect");
  const { id } = socket;
  const second = await impostor(c, socket._pid, socket._lastOffset);
  if (want && second.id === id) assert.notEqual((await gone)[0], undefined); // taken over
  else assert.deepEqual([socket.connected, second.id === id], [true, !want]);
});

each("recovery/not with an unknown session", async (c) => {
  const socket = c.client("/", { server: "recovery", autoConnect: false });
  Object.assign(socket, { _pid: "AAAAAAAAAAAAAAAAAAAA", _lastOffset: "BBBBBBB" });
  socket.connect();
  await c.ready(socket);
  assert.equal(socket.recovered, false);
  assert.deepEqual(await call(socket, "ack", 1), [1]);
});

for (const by of ["client", "server"]) {
  each(`recovery/not after a disconnection by the ${by}`, async (c) => {
    const { socket } = await setUp(c);
    const id = socket.id;
    const back = next(socket, "echo");
    socket.emit("echo", 1);
    await back;
    const gone = next(socket, "disconnect");
    if (by === "client") socket.disconnect();
    else socket.emit("disconnectMe", false);
    await gone;
    socket.connect();
    await c.ready(socket);
    assert.equal(socket.recovered, false);
    assert.notEqual(socket.id, id);
  });
}

each("recovery/not after too long", async (c) => {
  const bench = await setUp(c, { server: "short" });
  const { socket } = bench;
  const back = next(socket, "echo");
  socket.emit("echo", 1);
  await back;
  const id = socket.id;
  await whileCut(c, bench, () => new Promise((resolve) => setTimeout(resolve, 500))); // the session lives for 300 ms
  assert.equal(socket.recovered, false);
  assert.notEqual(socket.id, id);
});

each("recovery/emits meanwhile are sent once", async (c) => {
  const bench = await setUp(c);
  const { socket, log } = bench;
  const back = next(socket, "echo");
  socket.emit("echo", 1);
  await back;
  await whileCut(c, bench, () => {
    for (let i = 0; i < 20; i++) socket.emit("record", `${log}-sent`, i);
  });
  assert.equal(socket.recovered, true);
  assert.deepEqual((await call(socket, "recorded", `${log}-sent`))[0], [...Array(20).keys()]);
});

each("recovery/cut while the upgrade is under way", async (c) => {
  const log = key();
  const proxy = await c.proxy("recovery");
  proxy.hold = (head) => /^upgrade: websocket/im.test(head);
  const socket = c.client("/", { url: proxy.url, auth: { log } });
  await next(socket, "connect");
  const observer = await c.connect("/", { server: "recovery" });
  const news = collect(socket, "news");
  await call(socket, "join", log);
  await emit(observer, { to: [log] }, 1);
  await news.reached(1);
  assert.equal(socket.io.engine.transport.name, "polling");
  await proxy.cut({ refuse: true });
  await c.log(observer, log, (l) => l.at(-1)[0] === "disconnect");
  await emit(observer, { to: [log] }, 2);
  proxy.hold = () => false;
  const back = c.back(socket);
  proxy.refuse = false;
  await back;
  assert.equal(socket.recovered, true);
  assert.deepEqual(first(news), [1, 2]);
}, { only: ["upgrade"] });
