// Values arrive everywhere as they do at a client of the sender's own node.
import { adapter, assert, clients, fromEach, observe } from "./fleet.mjs";

const nested = (depth) => (depth === 0 ? "bottom" : { down: [nested(depth - 1)] });

// name: [arguments, what arrives if that is something else]
const values = {
  "nothing": [[]],
  "null": [[null]],
  "undefined": [[undefined], [null]],
  "undefined at the end": [[1, undefined], [1, null]],
  "undefined inside": [[[undefined, 1], { a: undefined, b: 2 }], [[null, 1], { b: 2 }]],
  "booleans": [[true, false]],
  "integers": [[0, 1, -1, 31, 32, -32, -33, 127, 128, -128, -129, 255, 256, 32767, 32768, 65535, 65536, -32768, -32769]],
  "large integers": [[2 ** 31 - 1, 2 ** 31, -(2 ** 31), -(2 ** 31) - 1, 2 ** 32, 2 ** 53 - 1, -(2 ** 53) + 1, 2 ** 60, -(2 ** 60)]],
  "floats": [[0.1, -1.5, 1e-7, 5e-324, 1.7976931348623157e-300, 3.141592653589793, 1e5 + 0.1]],
  "negative zero": [[-0], [0]],
  "not a number": [[NaN, Infinity, -Infinity], [null, null, null]],
  "strings": [["", "text", "\0\b\n\r\t\u001f\"\\/", "</script>&<>", "{}", "[]"]],
  "unicode": [["é", "日本語", "\u{1f680}\u{1f468}\u200d\u{1f469}", "\u2028\u2029", "\ufeff", "e\u0301", "\u007f\u0080\uffff"]],
  "lengths of strings": [[31, 32, 255, 256, 65535, 65536].map((n) => "é".repeat(n / 2).padEnd(n, "x"))],
  "lengths of arrays": [[15, 16, 65536].map((n) => Array(n).fill(0))],
  "lengths of objects": [[15, 16, 300].map((n) => Object.fromEntries(Array(n).fill(0).map((_, i) => [`k${i}`, i])))],
  "empty array and object": [[[], {}, [[]], [{}], { a: {} }]],
  "objects": [[{ "": 1, "é": 2, "a b": 3, "42": 4, "type": 5, "nsp": 6, "toString": 7, "length": 8 }]],
  "deep": [[nested(40)]],
  "dates": [[new Date(1767323045678), new Date(1767323045000)], ["2026-01-02T03:04:05.678Z", "2026-01-02T03:04:05.000Z"]],
  "dates far away": [
    [new Date(0), new Date(-1), new Date(-123456789012), new Date(253402300799999), new Date(4294967296000)],
    [
      "1970-01-01T00:00:00.000Z", "1969-12-31T23:59:59.999Z", "1966-02-02T02:26:50.988Z", "9999-12-31T23:59:59.999Z",
      "2106-02-07T06:28:16.000Z",
    ],
  ],
  "a date inside": [[{ at: new Date(1767323045678), list: [new Date(0)] }], [
    { at: "2026-01-02T03:04:05.678Z", list: ["1970-01-01T00:00:00.000Z"] },
  ]],
  "binary": [[Buffer.from([0, 1, 0x7b, 0x80, 0xff])]],
  "empty binary": [[Buffer.alloc(0)]],
  "binary beside others": [[1, Buffer.from("a"), "x", Buffer.from("b"), null]],
  "binary inside": [[{ file: Buffer.from("a"), list: [{ deep: { er: Buffer.from("b") } }, Buffer.from("c")] }]],
  "binary with a date": [[{ file: Buffer.from("a"), at: new Date(1767323045678) }], [
    { file: Buffer.from("a"), at: "2026-01-02T03:04:05.678Z" },
  ]],
  "binary with everything": [
    [Buffer.from("a"), undefined, null, [1.5, -7, 2 ** 40, NaN, "é", true], {}, []],
    [Buffer.from("a"), null, null, [1.5, -7, 2 ** 40, null, "é", true], {}, []],
  ],
  "a typed array": [[new Uint8Array([1, 2, 255])], [Buffer.from([1, 2, 255])]],
  "the same binary twice": [Array(2).fill(Buffer.from("same"))],
  "ten attachments": [Array(10).fill(0).map((_, i) => Buffer.alloc(i, i))],
  "lengths of binary": [[255, 256, 65535, 65536, 300_000].map((n) => Buffer.alloc(n, n))],
  "a placeholder's double": [[{ _placeholder: true, num: 0 }]],
};

for (const [name, [args, arrives = args]] of Object.entries(values)) {
  fromEach(`values/${name}`, "emit", async (origin) => {
    const seen = await observe(origin, "/", () => origin.call("emit", { event: "value", args }));
    for (const client of clients()) assert.deepEqual(seen[client.name], [["value", ...arrives]], client.name);
  });
}

// notepack.io writes integers from 2^64 on modulo that.
const wraps = adapter.startsWith("classic") ? { official: "see above", officialEmitter: "see above" } : {};
fromEach("values/integers beyond 64 bits", "emit", async (origin) => {
  const args = [2 ** 64, -(2 ** 64), 1e21, -1e21, 1e300, Number.MAX_VALUE];
  const seen = await observe(origin, "/", () => origin.call("emit", { event: "value", args }));
  for (const client of clients()) assert.deepEqual(seen[client.name], [["value", ...args]], client.name);
}, { except: wraps });

for (const event of ["é \u{1f680}", "42", "", "with space", "x".repeat(300), "message", "error"]) {
  fromEach(`values/event ${event.slice(0, 20)}`, "emit", async (origin) => {
    const seen = await observe(origin, "/", () => origin.call("emit", { event, args: [1] }));
    for (const client of clients()) assert.deepEqual(seen[client.name], [[event, 1]], client.name);
  });
}

// What a client sends, and its node sends on.
fromEach("values/relayed", "sockets", async (origin) => {
  const sender = clients().find((client) => client.node === origin.index);
  for (const name of ["nothing", "large integers", "floats", "unicode", "objects", "empty binary", "binary inside", "ten attachments"]) {
    const [args, arrives = args] = values[name];
    const seen = await observe(origin, "/", () => sender.ask("relay", {}, "value", ...args));
    for (const client of clients()) {
      assert.deepEqual(seen[client.name], client === sender ? [] : [["value", ...arrives]], `${name} to ${client.name}`);
    }
  }
});
