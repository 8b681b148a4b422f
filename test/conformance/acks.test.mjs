import { assert, call, collect, each, key, next } from "./harness.mjs";

each("acks/to the client, several values", async (c) => {
  const socket = await c.connect();
  assert.deepEqual(await call(socket, "ack"), []);
  assert.deepEqual(await call(socket, "ack", null, "a", [1], Buffer.from("b")), [null, "a", [1], Buffer.from("b")]);
});

each("acks/emitWithAck", async (c) => {
  const socket = await c.connect();
  assert.deepEqual(await socket.emitWithAck("ack", { a: Buffer.from("b") }), { a: Buffer.from("b") });
  assert.equal(await socket.timeout(20_000).emitWithAck("ack", 7), 7);
});

each("acks/to the server, several values", async (c) => {
  const socket = await c.connect();
  socket.on("question", (a, b, ack) => ack(b, a, Buffer.from("c"), null));
  assert.deepEqual(await call(socket, "ask", 20_000, "question", 1, { x: "é" }), [
    { values: [{ x: "é" }, 1, Buffer.from("c"), null] },
  ]);
});

each("acks/to the server, no values", async (c) => {
  const socket = await c.connect();
  socket.on("question", (ack) => ack());
  assert.deepEqual(await call(socket, "ask", 20_000, "question"), [{ values: [] }]);
});

each("acks/many at once, in both directions", async (c) => {
  const socket = await c.connect();
  socket.on("question", (n, ack) => ack(-n));
  const numbers = [...Array(200).keys()];
  const up = numbers.map((n) => call(socket, "ack", n));
  const down = numbers.map((n) => call(socket, "ask", 10_000, "question", n + 1));
  assert.deepEqual(await Promise.all(up), numbers.map((n) => [n]));
  assert.deepEqual(await Promise.all(down), numbers.map((n) => [{ values: [-n - 1] }]));
});

each("acks/out of order", async (c) => {
  const socket = await c.connect();
  const order = [];
  const ask = async (ms, name) => order.push(...(await call(socket, "ackLate", ms, name)));
  await Promise.all([ask(200, "late"), ask(0, "early")]);
  assert.deepEqual(order, ["early", "late"]);
});

each("acks/only the first one counts", async (c) => {
  const socket = await c.connect();
  const seen = [];
  socket.emit("ackTwice", 1, 2, (value) => seen.push(value));
  assert.deepEqual(await call(socket, "ack", 3), [3]);
  assert.deepEqual(seen, [1]);
  socket.on("question", (ack) => {
    ack(1);
    ack(2);
  });
  assert.deepEqual(await call(socket, "ask", 20_000, "question"), [{ values: [1] }]);
});

each("acks/timeout of the client", async (c) => {
  const socket = await c.connect();
  await assert.rejects(socket.timeout(50).emitWithAck("noAck"), /operation has timed out/);
});

each("acks/late ack at the client is ignored", async (c) => {
  const socket = await c.connect();
  const calls = [];
  socket.timeout(50).emit("ackLate", 200, "late", (...args) => calls.push(args));
  assert.deepEqual(await call(socket, "ackLate", 300, "later"), ["later"]);
  assert.equal(calls.length, 1);
  assert.equal(calls[0][0].message, "operation has timed out");
});

each("acks/timeout of the server", async (c) => {
  const socket = await c.connect();
  assert.deepEqual(await call(socket, "ask", 50, "nobody answers"), [{ timeout: true }]);
});

each("acks/late ack at the server is ignored", async (c) => {
  const socket = await c.connect();
  let late;
  socket.on("question", (n, ack) => (n === 1 ? (late = ack) : (late("wrong"), ack("right"))));
  assert.deepEqual(await call(socket, "ask", 50, "question", 1), [{ timeout: true }]);
  assert.deepEqual(await call(socket, "ask", 20_000, "question", 2), [{ values: ["right"] }]);
});

each("acks/an unknown ack id is ignored", async (c) => {
  const socket = await c.connect();
  socket.packet({ type: 3, id: 987654, data: ["nobody asked"] });
  assert.deepEqual(await call(socket, "ack", 1), [1]);
});

each("acks/the client's ackTimeout", async (c) => {
  const hasty = await c.connect("/", { ackTimeout: 50 });
  await assert.rejects(hasty.emitWithAck("noAck"), /operation has timed out/);
  const patient = await c.connect("/", { ackTimeout: 20_000 });
  assert.equal(await patient.emitWithAck("ack", 1), 1);
});

each("acks/retries until the server answers", async (c) => {
  const name = key();
  const socket = await c.connect("/", { retries: 3, ackTimeout: 2000 });
  assert.equal(await socket.emitWithAck("nth", name, 3), 3);
});

each("acks/retries keep the order", async (c) => {
  const [name, log] = [key(), key()];
  const socket = await c.connect("/", { retries: 3, ackTimeout: 2000 });
  const first = socket.emitWithAck("nth", name, 2).then(() => "first");
  const second = socket.emitWithAck("record", log, 1).then(() => "second");
  assert.equal(await Promise.race([first, second]), "first");
  await second;
  assert.deepEqual(await socket.emitWithAck("recorded", log), [1]);
});

each("acks/retries give up", async (c) => {
  const name = key();
  const socket = await c.connect("/", { retries: 1, ackTimeout: 2000 });
  await assert.rejects(socket.emitWithAck("nth", name, 100), /operation has timed out/);
  assert.equal(await socket.emitWithAck("nth", name, 3), 3, "two tries were made before");
});

each("acks/retries go on after a reconnection", async (c) => {
  const log = key();
  const proxy = await c.proxy();
  const socket = await c.connect("/", { url: proxy.url, retries: 5, ackTimeout: 4000 });
  const gone = next(socket, "disconnect");
  await proxy.cut({ refuse: true });
  await gone;
  const answers = [1, 2, 3].map((n) => socket.emitWithAck("record", log, n));
  proxy.refuse = false;
  await Promise.all(answers);
  assert.deepEqual(await socket.emitWithAck("recorded", log), [1, 2, 3]);
});

each("acks/pending ones fail when the client disconnects", async (c) => {
  const socket = await c.connect();
  const pending = socket.emitWithAck("noAck");
  socket.disconnect();
  await assert.rejects(pending, /socket has been disconnected/);
});

each("acks/of a broadcast", async (c) => {
  const room = key();
  const members = await Promise.all([c.connect(), c.connect(), c.connect()]);
  const asker = await c.connect();
  for (const [i, member] of members.entries()) {
    await call(member, "join", room);
    member.on("poll", (arg, ack) => ack({ i, arg, b: Buffer.from([i]) }, "only the first value counts"));
  }
  const [{ timeout, responses }] = await call(asker, "emitWithAckTo", { from: "all", to: [room], timeout: 20_000 }, "poll", "x");
  assert.equal(timeout, false);
  assert.deepEqual(responses.sort((a, b) => a.i - b.i), [0, 1, 2].map((i) => ({ i, arg: "x", b: Buffer.from([i]) })));
});

each("acks/of a broadcast, partial at the timeout", async (c) => {
  const room = key();
  const members = await Promise.all([c.connect(), c.connect(), c.connect()]);
  await Promise.all(members.map((member) => call(member, "join", room)));
  members[0].on("poll", (ack) => ack("a"));
  members[2].on("poll", (ack) => ack("c"));
  const [{ timeout, responses }] = await call(members[0], "emitWithAckTo", { from: "all", to: [room], timeout: 3000 }, "poll");
  assert.equal(timeout, true);
  assert.deepEqual(responses.sort(), ["a", "c"]);
});

each("acks/of a broadcast to nobody", async (c) => {
  const socket = await c.connect();
  const spec = { from: "all", to: [key()], timeout: 20_000 };
  assert.deepEqual(await call(socket, "emitWithAckTo", spec, "poll"), [{ timeout: false, responses: [] }]);
});

each("acks/of a broadcast exclude the sender", async (c) => {
  const room = key();
  const [a, b] = await Promise.all([c.connect(), c.connect()]);
  const polled = collect(a, "poll");
  b.on("poll", (ack) => ack("b"));
  await Promise.all([call(a, "join", room), call(b, "join", room)]);
  const spec = { from: "others", to: [room], timeout: 20_000 };
  assert.deepEqual(await call(a, "emitWithAckTo", spec, "poll"), [{ timeout: false, responses: ["b"] }]);
  assert.equal(polled.length, 0);
});
