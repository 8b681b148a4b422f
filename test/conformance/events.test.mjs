import { assert, call, collect, each, key, next } from "./harness.mjs";

const deep = (n) => (n === 0 ? [] : [deep(n - 1)]);

const values = {
  "null": [null],
  "booleans": [true, false],
  "integers": [0, 1, -1, 42, 2147483648, -9007199254740991],
  "floats": [0.1, -1.5, 1e-7, 5e-324, 1.7976931348623157e308],
  "big integers": [9007199254740991, 9007199254740992, 18446744073709551616, 1e21, 123456789012345680000],
  "strings": ["", "a", "with \"quotes\" and \\ and /", "\n\r\t\b\f\u0000\u001f"],
  "unicode": ["é", "日本語", "\u{1f680}\u{1f468}\u200d\u{1f469}\u200d\u{1f467}", "\u202ertl", "\ufeff", "\uffff"],
  "line separators": ["\u2028", "\u2029"],
  "record separator": ["a\u001eb"],
  "lone surrogates": ["\ud800", "a\udfffb", { "\udead": "\ud83d" }],
  "script end": ["</script><!-- & -->"],
  "empty": [[], {}, [[]], [{}], { a: {} }],
  "nested": [{ a: [1, { b: [null, { c: "d" }] }], e: { f: { g: [[], {}] } } }],
  "deeply nested": [deep(100)],
  "keys": [{ "": 1, "a b": 2, "é": 3, "1": 4, "__proto__x": 5, "_placeholder": false }],
  "placeholder look-alike": [{ _placeholder: true, num: 0 }],
  "no arguments": [],
  "many arguments": Array.from({ length: 100 }, (_, i) => i),
  "buffer": [Buffer.from([0, 1, 2, 127, 128, 255])],
  "empty buffer": [Buffer.alloc(0)],
  "nested binary": [{ a: Buffer.from("a"), b: [1, Buffer.from("b"), { c: Buffer.from("c") }] }, "x", Buffer.from("d")],
  "ten attachments": [Array.from({ length: 10 }, (_, i) => Buffer.from([i]))],
  "binary and text": ["é", Buffer.from("é"), null, { n: 1, b: Buffer.alloc(0), s: "\u2028" }],
};

for (const [name, args] of Object.entries(values)) {
  each(`events/${name}`, async (c) => {
    const socket = await c.connect();
    const back = next(socket, "echo");
    socket.emit("echo", ...args);
    assert.deepStrictEqual(await back, args);
    assert.deepStrictEqual(await call(socket, "ack", ...args), args);
  });
}

each("events/dates become strings", async (c) => {
  const socket = await c.connect();
  const date = new Date("2026-01-02T03:04:05.678Z");
  assert.deepEqual(await call(socket, "ack", date, { date }), [date.toISOString(), { date: date.toISOString() }]);
});

each("events/undefined and NaN become null", async (c) => {
  const socket = await c.connect();
  assert.deepEqual(await call(socket, "ack", undefined, NaN, -0, { a: undefined }), [null, null, 0, {}]);
});

each("events/binary views arrive as bytes", async (c) => {
  const socket = await c.connect();
  const bytes = Uint8Array.from([1, 2, 3, 4, 5, 6, 7, 8]);
  const views = [bytes.buffer, bytes, new Uint8Array(bytes.buffer, 2, 3), new Uint16Array([1, 256]),
    new Float64Array([1.5]), new DataView(bytes.buffer, 1, 2)];
  const got = await call(socket, "ack", ...views);
  assert.deepEqual(got.map((b) => [...b]), [
    [1, 2, 3, 4, 5, 6, 7, 8], [1, 2, 3, 4, 5, 6, 7, 8], [3, 4, 5], [1, 0, 0, 1], [0, 0, 0, 0, 0, 0, 248, 63], [2, 3],
  ]);
});

each("events/one buffer twice", async (c) => {
  const socket = await c.connect();
  const b = Buffer.from("same");
  assert.deepEqual(await call(socket, "ack", b, { b }), [b, { b }]);
});

each("events/values written by the server", async (c) => {
  const socket = await c.connect();
  assert.deepEqual(await call(socket, "values"), [
    null, true, false, 0, -1, 1.5, 1e21, 1e-7, 9007199254740991, "", "</script>&<>", "\u2028\u2029", "\u{1f680}é",
    [], {}, { a: [{ b: null }] }, Buffer.from([0, 1, 2, 255]), { nested: [Buffer.from("x")] }, Buffer.alloc(0),
  ]);
});

each("events/eleven attachments end the connection", async (c) => {
  const log = key();
  const [socket, observer] = await Promise.all([c.connect("/", { auth: { log }, reconnection: false }), c.connect()]);
  const gone = next(socket, "disconnect");
  socket.emit("echo", Array.from({ length: 11 }, () => Buffer.from("x")));
  assert.equal((await gone)[0], "transport close");
  const entries = await c.log(observer, log, (l) => l.length === 3);
  assert.match(entries[2][1], /^forced (server )?close$/);
});

each("events/names", async (c) => {
  const socket = await c.connect();
  for (const name of ["", "é\u{1f680}", "with space", "a,b", "[1]", "toString", "__proto__", "message"]) {
    const back = next(socket, name);
    socket.emit("emitTo", { from: "all", in: [socket.id] }, name, 1);
    assert.deepEqual(await back, [1], name);
  }
});

each("events/unknown ones are ignored", async (c) => {
  const socket = await c.connect();
  socket.emit("nobody listens", { a: Buffer.from("x") });
  assert.deepEqual(await call(socket, "ack", 1), [1]);
});

each("events/one megabyte up", async (c) => {
  const socket = await c.connect();
  const text = "x".repeat(999_900);
  const [got] = await call(socket, "ack", text);
  assert.ok(got === text);
});

each("events/one megabyte down", async (c) => {
  const socket = await c.connect();
  const burst = collect(socket, "burst");
  socket.emit("burst", 3, 1_000_000);
  await burst.reached(3);
  assert.deepEqual(burst.map(([i, pad]) => [i, pad.length]), [[0, 1_000_000], [1, 1_000_000], [2, 1_000_000]]);
});

each("events/one megabyte of binary", async (c) => {
  const socket = await c.connect();
  // Polling carries base64, which is a third longer.
  const data = Buffer.alloc(c.mode === "polling" ? 740_000 : 1_000_000);
  for (let i = 0; i < data.length; i++) data[i] = (i * 31) ^ (i >> 8);
  const [got] = await call(socket, "ack", data);
  assert.ok(data.equals(got));
});

each("events/a megabyte of unicode is measured in bytes", async (c) => {
  const socket = await c.connect();
  const text = "é".repeat(499_900);
  const [got] = await call(socket, "ack", text);
  assert.ok(got === text);
});

each("events/too large a message ends the connection", async (c) => {
  const log = key();
  const [socket, observer] = await Promise.all([c.connect("/", { auth: { log }, reconnection: false }), c.connect()]);
  const gone = next(socket, "disconnect");
  socket.emit("echo", "x".repeat(1_000_001));
  assert.equal((await gone)[0], c.mode === "polling" ? "transport error" : "transport close");
  assert.deepEqual(await call(observer, "ack", 1), [1], "others are not hurt");
});

each("events/many small ones stay in order", async (c) => {
  const log = key();
  const socket = await c.connect();
  const n = 2000;
  const burst = collect(socket, "burst");
  socket.emit("burst", n, 10);
  for (let i = 0; i < n; i++) socket.emit("record", log, i);
  await burst.reached(n);
  assert.deepEqual(burst.map(([i]) => i), [...Array(n).keys()]);
  assert.deepEqual((await call(socket, "recorded", log))[0], [...Array(n).keys()]);
});

each("events/binary and text interleaved stay in order", async (c) => {
  const socket = await c.connect();
  const echo = collect(socket, "echo");
  for (let i = 0; i < 300; i++) socket.emit("echo", i, i % 3 === 0 ? { b: Buffer.from(`${i}`) } : `${i}`);
  await echo.reached(300);
  for (let i = 0; i < 300; i++) {
    assert.deepEqual(echo[i], [i, i % 3 === 0 ? { b: Buffer.from(`${i}`) } : `${i}`]);
  }
});

each("events/volatile reaches an idle client", async (c) => {
  const socket = await c.connect();
  const seen = next(socket, "news");
  const timer = setInterval(() => socket.emit("send", { volatile: true }, "news", 1, Buffer.from("b")), 20);
  c.cleanups.push(() => clearInterval(timer));
  assert.deepEqual(await seen, [1, Buffer.from("b")]);
});

each("events/volatile from the client", async (c) => {
  const socket = await c.connect();
  const seen = next(socket, "echo");
  const timer = setInterval(() => socket.volatile.emit("echo", "v"), 20);
  c.cleanups.push(() => clearInterval(timer));
  assert.deepEqual(await seen, ["v"]);
});

each("events/volatile is dropped for a client that does not read", async (c) => {
  const log = key();
  const proxy = await c.proxy();
  const [socket, observer] = await Promise.all([c.connect("/", { url: proxy.url, auth: { log } }), c.connect()]);
  await call(socket, "join", log);
  const volatile = collect(socket, "volatile");
  proxy.stall();
  const pad = "x".repeat(50_000);
  await call(observer, "emitTo", { from: "all", to: [log], volatile: true, times: 300 }, "volatile", pad);
  await call(observer, "emitTo", { from: "all", to: [log] }, "end");
  const end = next(socket, "end");
  proxy.unstall();
  await end;
  assert.ok(volatile.length < 300, `${volatile.length} of 300 were kept`);
  assert.equal(socket.connected, true);
});

each("events/compress(false) in both directions", async (c) => {
  const socket = await c.connect();
  const text = "compressible ".repeat(500);
  const seen = next(socket, "plain");
  socket.emit("send", { compress: false }, "plain", text);
  assert.deepEqual(await seen, [text]);
  const back = next(socket, "echo");
  socket.compress(false).emit("echo", text);
  assert.deepEqual(await back, [text]);
});

each("events/permessage-deflate", async (c) => {
  const socket = await c.connect("/", {
    server: "variant", path: "/custom/socket", addTrailingSlash: false, perMessageDeflate: { threshold: 0 },
  });
  const text = "compressible é ".repeat(5000);
  assert.deepEqual(await call(socket, "ack", text, Buffer.alloc(5000, 7), 1), [text, Buffer.alloc(5000, 7), 1]);
});

each("events/catch-all handlers and middleware of the server", async (c) => {
  const log = key();
  const [socket, observer] = await Promise.all([c.connect("/any", { auth: { log } }), c.connect()]);
  const back = next(socket, "echo");
  socket.emit("echo", 1, { a: [2] });
  await back;
  socket.emit("unknown", "x");
  socket.emit("blocked", "y");
  assert.deepEqual(await call(socket, "ack", 3), [3]);
  assert.deepEqual(await c.log(observer, log, (l) => l.length >= 6), [
    ["connect", false],
    ["in", "echo", [1, { a: [2] }]],
    ["out", "echo", [1, { a: [2] }]],
    ["in", "unknown", ["x"]],
    ["in", "blocked", ["y"]],
    ["in", "ack", [3]],
  ]);
});

each("events/catch-all handlers see broadcasts", async (c) => {
  const log = key();
  const [socket, other] = await Promise.all([c.connect("/any", { auth: { log } }), c.connect("/any")]);
  const seen = next(socket, "news");
  await call(other, "emitTo", { from: "all", in: [socket.id] }, "news", 1);
  assert.deepEqual(await seen, [1]);
  const observer = await c.connect();
  assert.deepEqual(await c.log(observer, log, (l) => l.length >= 2), [["connect", false], ["out", "news", [1]]]);
});
