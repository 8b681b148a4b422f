import { Socket } from "engine.io-client";
import { assert, each, key, upgraded, urls } from "./harness.mjs";

function engine(c, options) {
  const socket = new Socket(urls.engine, { transports: c.transports, ...options });
  socket.binaryType = "nodebuffer";
  c.cleanups.push(() => socket.close());
  socket.seen = [];
  socket.waiting = [];
  socket.on("message", (data) => {
    socket.seen.push(data ?? ""); // the client decodes an empty message as undefined
    for (const w of socket.waiting.splice(0)) w();
  });
  socket.reached = async (n) => {
    while (socket.seen.length < n) await new Promise((resolve) => socket.waiting.push(resolve));
    return socket.seen;
  };
  socket.closed = new Promise((resolve) => socket.once("close", resolve));
  return socket;
}

const event = (socket, name) => new Promise((resolve) => socket.once(name, resolve));

async function open(c, options) {
  const socket = engine(c, options);
  await event(socket, "open");
  if (c.mode === "upgrade") await upgraded(socket);
  return socket;
}

async function reasons(c, name) {
  const observer = engine(c);
  await event(observer, "open");
  for (let n = 1; ; n++) {
    observer.send(`recorded:${name}`);
    const list = JSON.parse((await observer.reached(n)).at(-1));
    if (list.length > 0) return list;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

each("engine/handshake", async (c) => {
  const socket = engine(c);
  const handshake = await event(socket, "handshake");
  assert.equal(typeof handshake.sid, "string");
  assert.ok(handshake.sid.length >= 20);
  assert.deepEqual(handshake, {
    sid: handshake.sid,
    upgrades: c.mode === "websocket" ? [] : ["websocket"],
    pingInterval: 300,
    pingTimeout: 3000,
    maxPayload: 1_000_000,
  });
});

each("engine/text and binary, in order", async (c) => {
  const socket = await open(c);
  const sent = ["a", "é\u{1f680}\u2028", "", Buffer.from([0, 255, 30, 1]), "b", Buffer.alloc(0), "4", "\"x\"\n\\n"];
  for (const data of sent) socket.send(data);
  assert.deepStrictEqual(await socket.reached(sent.length), sent);
});

each("engine/upgrade", async (c) => {
  const socket = engine(c);
  await event(socket, "open");
  const id = socket.id;
  await upgraded(socket);
  assert.equal(socket.transport.name, "websocket");
  assert.equal(socket.id, id);
  socket.send("x");
  assert.deepEqual(await socket.reached(1), ["x"]);
}, { only: ["upgrade"] });

each("engine/messages while upgrading", async (c) => {
  const proxy = await c.proxy("engine");
  proxy.delay = () => Math.random() * 30;
  const socket = new Socket(proxy.url, { transports: c.transports });
  c.cleanups.push(() => socket.close());
  const seen = [];
  const all = new Promise((resolve) => socket.on("message", (data) => seen.push(data) === 2000 && resolve()));
  await event(socket, "open");
  for (let i = 0; i < 2000; i++) {
    socket.send(`${i}`);
    if (i % 20 === 0) await new Promise((resolve) => setTimeout(resolve, 5));
  }
  await all;
  assert.deepEqual(seen, Array.from({ length: 2000 }, (_, i) => `${i}`));
}, { only: ["upgrade"] });

each("engine/closed by the client", async (c) => {
  const log = key();
  const socket = await open(c, { query: { log } });
  socket.close();
  assert.equal(await socket.closed, "forced close");
  assert.deepEqual(await reasons(c, log), ["transport close"]);
});

each("engine/closed by the server", async (c) => {
  const log = key();
  const socket = await open(c, { query: { log } });
  socket.send("close");
  assert.equal(await socket.closed, "transport close");
  assert.deepEqual(await reasons(c, log), ["forced close"]);
});

each("engine/closed by the server after many messages loses none", async (c) => {
  const socket = await open(c);
  socket.send("burstThenClose:500");
  assert.equal(await socket.closed, "transport close");
  assert.deepEqual(socket.seen, Array.from({ length: 500 }, (_, i) => `${i}`));
});

each("engine/closed by the client while upgrading", async (c) => {
  const log = key();
  const socket = engine(c, { query: { log } });
  await event(socket, "upgrading");
  socket.close();
  assert.equal(await socket.closed, "forced close");
  assert.deepEqual(await reasons(c, log), ["transport close"]);
}, { only: ["upgrade"] });

each("engine/closed by the server while upgrading", async (c) => {
  const socket = engine(c);
  await event(socket, "open");
  socket.send("burstThenClose:100");
  assert.equal(await socket.closed, "transport close");
  assert.deepEqual(socket.seen, Array.from({ length: 100 }, (_, i) => `${i}`));
}, { only: ["upgrade"] });

each("engine/many messages down", async (c) => {
  const socket = await open(c);
  socket.send("burst:5000");
  assert.deepEqual(await socket.reached(5000), Array.from({ length: 5000 }, (_, i) => `${i}`));
});

each("engine/large messages", async (c) => {
  const socket = await open(c);
  socket.send("text:1000000");
  socket.send("binary:1000000");
  const [text, data] = await socket.reached(2);
  assert.equal(text.length, 1_000_000);
  assert.ok(Buffer.alloc(1_000_000, 7).equals(data));
  socket.send("y".repeat(999_000));
  assert.ok((await socket.reached(3))[2] === "y".repeat(999_000));
});

each("engine/heartbeat", async (c) => {
  const socket = await open(c);
  for (let i = 0; i < 5; i++) await event(socket, "ping");
  assert.equal(socket.readyState, "open");
});

each("engine/ping timeout of a silent link", async (c) => {
  const log = key();
  const proxy = await c.proxy("engine");
  const socket = new Socket(proxy.url, { transports: c.transports, query: { log } });
  c.cleanups.push(() => socket.close());
  const closed = event(socket, "close");
  await event(socket, "open");
  if (c.mode === "upgrade") await upgraded(socket);
  proxy.stall();
  assert.equal(await closed, "ping timeout");
  assert.deepEqual(await reasons(c, log), ["ping timeout"]);
});

each("engine/unknown transport and session are refused", async (c) => {
  const get = async (query) => {
    const response = await fetch(`${urls.engine}/engine.io/?EIO=4${query}`);
    return [response.status, await response.json()];
  };
  assert.deepEqual(await get("&transport=tube"), [400, { code: 0, message: "Transport unknown" }]);
  assert.deepEqual(await get("&transport=polling&sid=nobody"), [400, { code: 1, message: "Session ID unknown" }]);
  assert.ok(c);
}, { only: ["polling"] });
