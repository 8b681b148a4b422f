import { assert, call, collect, each, key, next, until } from "./harness.mjs";

/** Members a, b, c … with what each receives as "news", in the rooms given. */
async function members(c, ...rooms) {
  const sockets = await Promise.all(rooms.map(() => c.connect()));
  await Promise.all(sockets.map((socket, i) => call(socket, "join", rooms[i])));
  return sockets.map((socket) => ({ socket, news: collect(socket, "news") }));
}

/** What everybody has received, after each had an answer to a question asked later. */
async function received(all) {
  await Promise.all(all.map(({ socket }) => call(socket, "ack")));
  return all.map(({ news }) => news.map(([value]) => value));
}

const emit = (from, spec, ...args) => call(from.socket, "emitTo", spec, "news", ...args);

each("rooms/join, leave and list", async (c) => {
  const socket = await c.connect();
  assert.deepEqual(await call(socket, "rooms"), [[]]);
  await call(socket, "join", ["b", "a", "a"]);
  await call(socket, "join", "é\u{1f680}");
  assert.deepEqual(await call(socket, "rooms"), [["a", "b", "é\u{1f680}"]]);
  await call(socket, "leave", "a", "never joined");
  assert.deepEqual(await call(socket, "rooms"), [["b", "é\u{1f680}"]]);
});

each("rooms/to reaches the members", async (c) => {
  const [r, s] = [key(), key()];
  const all = await members(c, [r], [r, s], [s]);
  await emit(all[2], { from: "all", to: [r] }, 1, Buffer.from("b"));
  assert.deepEqual(await received(all), [[1], [1], []]);
  assert.deepEqual(all[0].news[0], [1, Buffer.from("b")]);
});

each("rooms/a union reaches each member once", async (c) => {
  const [r, s] = [key(), key()];
  const all = await members(c, [r], [r, s], [s], []);
  await emit(all[3], { from: "all", to: [r, s] }, 1);
  await emit(all[3], { from: "all", in: [r, s] }, 2);
  assert.deepEqual(await received(all), [[1, 2], [1, 2], [1, 2], []]);
});

each("rooms/except", async (c) => {
  const [r, s] = [key(), key()];
  const all = await members(c, [r], [r, s], [s]);
  await emit(all[0], { from: "all", to: [r], except: [s] }, 1);
  await emit(all[0], { from: "all", in: [r, s], except: [all[1].socket.id] }, 2);
  assert.deepEqual(await received(all), [[1, 2], [], [2]]);
});

each("rooms/from a socket excludes the sender", async (c) => {
  const r = key();
  const all = await members(c, [r], [r], []);
  await emit(all[0], { from: "others", to: [r] }, 1);
  await emit(all[2], { from: "others", to: [r] }, 2);
  await emit(all[0], { from: "all", to: [r] }, 3);
  assert.deepEqual(await received(all), [[2, 3], [1, 2, 3], []]);
});

each("rooms/broadcast reaches everybody else in the namespace", async (c) => {
  const nsp = `/dynamic-${Date.now()}${Math.floor(Math.random() * 1000)}`;
  const sockets = await Promise.all([c.connect(nsp), c.connect(nsp), c.connect(nsp)]);
  const outsider = { socket: await c.connect(), news: [] };
  outsider.news = collect(outsider.socket, "news");
  const all = [...sockets.map((socket) => ({ socket, news: collect(socket, "news") })), outsider];
  await emit(all[0], { from: "others" }, 1);
  await emit(all[0], { from: "all" }, 2);
  await emit(all[0], { from: "all", except: [sockets[1].id], local: true }, 3);
  assert.deepEqual(await received(all), [[2, 3], [1, 2], [1, 2, 3], []]);
});

each("rooms/a socket's id is its room", async (c) => {
  const all = await members(c, [], []);
  await emit(all[0], { from: "all", to: [all[1].socket.id] }, 1);
  assert.deepEqual(await received(all), [[], [1]]);
});

each("rooms/broadcast modifiers", async (c) => {
  const r = key();
  const all = await members(c, [r], [r]);
  const text = "x".repeat(5000);
  await emit(all[0], { from: "others", to: [r], compress: false, local: true }, text);
  assert.deepEqual(await received(all), [[], [text]]);
});

each("rooms/after leaving nothing arrives", async (c) => {
  const r = key();
  const all = await members(c, [r], [r]);
  await emit(all[0], { from: "all", to: [r] }, 1);
  await call(all[1].socket, "leave", r);
  await emit(all[0], { from: "all", to: [r] }, 2);
  assert.deepEqual(await received(all), [[1, 2], [1]]);
});

each("rooms/a disconnected member is gone", async (c) => {
  const r = key();
  const all = await members(c, [r], [r]);
  all[1].socket.disconnect();
  const ids = await until(
    async () => (await call(all[0].socket, "fetchSockets", { from: "all", in: [r] }))[0].map(({ id }) => id),
    ({ length }) => length < 2,
  );
  assert.deepEqual(ids, [all[0].socket.id]);
});

each("rooms/socketsJoin and socketsLeave", async (c) => {
  const [r, s] = [key(), key()];
  const all = await members(c, [r], [r], []);
  await call(all[2].socket, "socketsJoin", { from: "all", in: [r] }, [s]);
  assert.deepEqual(await Promise.all(all.map(({ socket }) => call(socket, "rooms"))), [[[r, s].sort()], [[r, s].sort()], [[]]]);
  await emit(all[2], { from: "all", to: [s] }, 1);
  await call(all[2].socket, "socketsLeave", { from: "all", in: [all[0].socket.id] }, [s]);
  await emit(all[2], { from: "all", to: [s] }, 2);
  assert.deepEqual(await received(all), [[1], [1, 2], []]);
});

each("rooms/fetchSockets with data, rooms and handshake", async (c) => {
  const r = key();
  const sockets = await Promise.all([0, 1].map((n) => c.connect("/", { auth: { n } })));
  for (const [n, socket] of sockets.entries()) {
    await call(socket, "join", [r, `${r}-${n}`]);
    await call(socket, "setData", { n, list: [null, "é"] });
  }
  const [found] = await call(sockets[0], "fetchSockets", { from: "all", in: [r] });
  assert.deepEqual(found.sort((a, b) => a.data.n - b.data.n), sockets.map((socket, n) => ({
    id: socket.id, rooms: [r, `${r}-${n}`], data: { n, list: [null, "é"] }, auth: { n },
  })));
  const [others] = await call(sockets[0], "fetchSockets", { from: "others", in: [r] });
  assert.deepEqual(others.map(({ id }) => id), [sockets[1].id]);
  assert.deepEqual(await call(sockets[0], "fetchSockets", { from: "all", in: [key()] }), [[]]);
});

each("rooms/disconnectSockets", async (c) => {
  const r = key();
  const all = await members(c, [r], [r], []);
  const gone = [next(all[0].socket, "disconnect"), next(all[1].socket, "disconnect")];
  await call(all[2].socket, "disconnectSockets", { from: "all", in: [r] }, false);
  for (const [reason] of await Promise.all(gone)) assert.equal(reason, "io server disconnect");
  assert.deepEqual(await call(all[2].socket, "fetchSockets", { from: "all", in: [r] }), [[]]);
  assert.equal(all[2].socket.connected, true);
});

each("rooms/disconnectSockets with the connection", async (c) => {
  const r = key();
  const all = await members(c, [r], []);
  const closed = next(all[0].socket.io, "close");
  const gone = next(all[0].socket, "disconnect");
  await call(all[1].socket, "disconnectSockets", { from: "all", in: [r] }, true);
  assert.equal((await gone)[0], "io server disconnect");
  await closed;
});

each("rooms/two hundred clients", async (c) => {
  const r = key();
  const all = [];
  for (let i = 0; i < 200; i += 25) {
    all.push(...await Promise.all(Array.from({ length: 25 }, async () => {
      const socket = c.client();
      const news = collect(socket, "news");
      await call(socket, "join", r);
      return { socket, news };
    })));
  }
  assert.equal((await call(all[0].socket, "fetchSockets", { from: "all", in: [r] }))[0].length, 200);
  for (let i = 0; i < 5; i++) await emit(all[i], { from: "all", to: [r] }, i, Buffer.from([i]));
  await Promise.all(all.map(({ news }) => news.reached(5)));
  for (const { news } of all) assert.deepEqual([...news], [0, 1, 2, 3, 4].map((i) => [i, Buffer.from([i])]));
  assert.deepEqual(new Set(all.map(({ socket }) => socket.id)).size, 200);
}, { timeout: 60_000 });
