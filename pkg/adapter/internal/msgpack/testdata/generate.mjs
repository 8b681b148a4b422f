// Writes golden.json: what the encoders of the official adapters make of our cases.
//
//   cd "$(mktemp -d)" && npm install notepack.io@3.0.1 @msgpack/msgpack@2.8.0 notepack2@npm:notepack.io@2.3.0
//   node <here>/generate.mjs > <here>/golden.json
//
// "encode": JSON texts with attachments, and the bytes that the encoders make of what JSON.parse makes of them.
// "sizes": the same for values of a size: the first bytes and a hash.
// "decode": bytes, and the JSON of what the decoders make of them. "old" is what notepack 2 wrote.
// All bytes are in hex; an error is only that. Where the two encoders agree there is only "notepack".

import { createHash } from "node:crypto";
import { createRequire } from "node:module";

const require = createRequire(process.cwd() + "/");
const notepack = require("notepack.io");
const notepack2 = require("notepack2");
const msgpack = require("@msgpack/msgpack");

const hex = (bytes) => Buffer.from(bytes).toString("hex");
const attempt = (f) => {
  try {
    return f();
  } catch {
    return { error: true };
  }
};
// What both say, or what each says.
const both = (f, g) => {
  const a = attempt(f), b = attempt(g);
  return JSON.stringify(a) === JSON.stringify(b) ? { notepack: a } : { notepack: a, msgpack: b };
};
const encodings = (value) => both(() => hex(notepack.encode(value)), () => hex(msgpack.encode(value)));

const ph = (n) => `{"_placeholder":true,"num":${n}}`;
const revive = (attachments) => (_, v) => (attachments.length && v?._placeholder === true ? Buffer.from(attachments[v.num], "hex") : v);

const texts = [
  "null", "true", "false", '""', '"a"', "[]", "{}",
  ...[0, 1, 127, 128, 255, 256, 65535, 65536, 2147483647, 2147483648, 4294967295, 4294967296, 9007199254740991].map(String),
  ...[-1, -31, -32, -33, -127, -128, -129, -32768, -32769, -2147483648, -2147483649, -4294967296, -9007199254740991].map(String),
  "-0", "0.0", "-0.0", "1.0", "1e3", "-1e2", "1E+2", "10e-1", "0.1", "-1.5", "1e-7", "5e-324", "1.7976931348623157e308", "1e400", "-1e400", "1e-400",
  "9007199254740992", "9007199254740993", "-9007199254740993", "9223372036854775807", "9223372036854775808", "18446744073709551615", "-9223372036854775808",
  "18446744073709551616", "-9223372036854775809", "1e18", "1e19", "1e20", "-1e20", "1e21", "123456789012345678901234567890",
  '"\\u0000\\b\\t\\n\\f\\r\\"\\\\\\/\\u001f"', '"\\u00e9\\u20ac\\ud83d\\udc4b"', '"é€👋\ufeff"', '"\\ud800"', '"\\ud800x"', '"\\udc00\\ud800"', '"\\ud83d\\u0041"', '"a\\u2028"',
  `"${"a".repeat(31)}"`, `"${"a".repeat(32)}"`, `"${"\\n".repeat(31)}"`, `"${"\\n".repeat(32)}"`, `"${"\\u0000".repeat(43)}"`, `"${"\\u20ac".repeat(90)}"`,
  "[1,[2,[3,[]]],{}]", '{"a":{"b":{"c":{}}},"d":[null,{"e":"f"}]}', '{"b":1,"a":2}', '{"":0}', '{"1":0,"0":1}', '{"a":1,"a":2}', '{"\\u0061":1}', ' [ 1 , { "a" : [ ] } ] ',
  `[${Array(15).fill("1")}]`, `[${Array(16).fill("1")}]`, `[[${Array(16).fill("[]")}],1]`,
  JSON.stringify(Object.fromEntries(Array.from({ length: 15 }, (_, i) => ["k" + i, i]))),
  JSON.stringify(Object.fromEntries(Array.from({ length: 16 }, (_, i) => ["k" + i, i]))),
  JSON.stringify({ deep: Array.from({ length: 20 }, (_, i) => ({ list: Array(17).fill(i) })) }),
  '{"_placeholder":true,"num":0}',
];
const binaries = [
  [ph(0), "010203"], [ph(0), ""], [`["e",${ph(0)},{"a":${ph(1)}},${ph(0)}]`, "01", "02"], [`{"num":1,"_placeholder":true}`, "01", "02"],
  ['{"_placeholder":true,"num":0,"x":[1]}', "ff"], ['{"_placeholder":false,"num":0}', "ff"], ['{"_placeholder":1,"num":0}', "ff"],
  ['[{"_placeholder":true,"num":0.0},{"\\u005fplaceholder":true,"num":1e0}]', "01", "02"],
];

const sizes = [];
for (const n of [32, 255, 256, 65535, 65536]) {
  for (const kind of ["string", "array", "map", "bin"]) {
    const value = {
      string: () => "a".repeat(n),
      array: () => Array(n).fill(1),
      map: () => Object.fromEntries(Array.from({ length: n }, (_, i) => ["k" + i, 1])),
      bin: () => Buffer.alloc(n, 1),
    }[kind]();
    const a = notepack.encode(value), b = Buffer.from(msgpack.encode(value));
    if (!a.equals(b)) throw new Error("they differ");
    sizes.push({ kind, n, start: hex(a.subarray(0, 8)), sha256: createHash("sha256").update(a).digest("hex") });
  }
}

const dates = [0, 1, -1, 1700000000000, 1700000000123, -1500, 4294967295000, 4294967296000, 17179869183999, 17179869184000, -62198755200000, 253402300800000, 8.64e15, -8.64e15];
const bytes = [
  "00", "01", "7f",
  ...Array.from({ length: 128 }, (_, i) => (128 + i).toString(16)), // first bytes with nothing behind them
  "cc80", "ccff", "cd0001", "cdffff", "ce00000001", "ceffffffff", "cf0000000000000001", "cf001fffffffffffff", "cf0020000000000000", "cfffffffffffffffff",
  "d0ff", "d07f", "d1ffff", "d17fff", "d2ffffffff", "d27fffffff", "d3ffffffffffffffff", "d37fffffffffffffff", "d38000000000000000",
  "ca00000000", "ca3fc00000", "ca3dcccccd", "ca80000000", "ca7f800000", "ca7fc00000", "ca4b800001",
  "cb3ff8000000000000", "cb8000000000000000", "cb7ff0000000000000", "cbfff0000000000000", "cb7ff8000000000000", "cb3fb999999999999a", "cb444b1ae4d6e2ef50", "cb3e7ad7f29abcaf48", "cb4059000000000000", "cb0000000000000001",
  "a161", "a2c3a9", "a0", "d90161", "da000161", "db0000000161", "a4f09f918b", "a3e282ac",
  "a0ff", "a1", "a3e282", "da", "d9", "d905", "db7fffffff", "c6ffffffff", "ddffffffff", "dfffffffff", "dcffff", "deffff",
  "c400", "c40101", "c5000101", "c60000000101",
  "90", "9101", "dc000101", "dd0000000101", "80", "81a16101", "de0001a16101", "df00000001a16101", "9281a16101c0", "81a1", "81a161",
  "810102", "81ff02", "81cb3ff800000000000002", "81cf002000000000000002", "81c002", "81c302", "81c4016102", "819002", "818002",
  "82a16101a16102", "81ac5f706c616365686f6c646572c3", "82ac5f706c616365686f6c646572c3a36e756d00", "9281ac5f706c616365686f6c646572c3c40101", "9281ac5f706c616365686f6c646572c2c40101",
  "9381c7022a0102c0", "c7022a0102", "d42a01", "d52a0102", "d62a01020304", "d72a0102030405060708", "d82a0102030405060708090a0b0c0d0e0f10", "c800012a01", "c9000000012a01",
  "d40000", "9ad40000", "92d4000001", "82a161d40000a16201", "81a161d40000", "d500", "d500ffff", "d60000000000", "d80000000000000000000000000000000000",
  "d7000000000000000000", "d7ffffffffffffffffff", "d700fffffffffffffa24", "d7007fffffffffffffff",
  "d6ff6553f100", "d6ffffffffff", "d7ff1d5cc8006553f100", "d7ffee6b27ff00000000", "d7ff0000000000000001", "c70cff075bca00000000006553f100", "c70cff1e848000fffffffffffffffe", "c70cff000000007fffffffffffffff", "c70cffffffffff0000000000000000",
  "c704ff6553f100", "c708ff0000000000000001", "c705ff0000000000", "c700ff", "d5ff0000", "c80004ff6553f100",
  "c70000", "c70300010203", "c8000300010203", "c90000000100ff", "c7010000", "c708000102030405060708",
  "0102", "c0c0", "c1", "91c1",
];
const old = [
  ["undefined in an array", [1, undefined, 2]], ["undefined in an object", { a: undefined, b: 1 }], ["date", new Date(1700000000123)], ["date before 1970", new Date(-1500)],
  ["ArrayBuffer", new Uint8Array([1, 2, 3]).buffer], ["buffer", [Buffer.from([1])]], ["numbers", [1.5, -1, 2 ** 40]],
];

const json = (value) => {
  const attachments = [];
  const walk = (v) => {
    if (v instanceof ArrayBuffer || ArrayBuffer.isView(v)) {
      attachments.push(hex(v instanceof ArrayBuffer ? new Uint8Array(v) : v));
      return { _placeholder: true, num: attachments.length - 1 };
    }
    if (Array.isArray(v)) return v.map(walk);
    if (v && typeof v === "object" && !(v instanceof Date)) return Object.fromEntries(Object.entries(v).map(([k, e]) => [k, walk(e)]));
    return v;
  };
  const text = JSON.stringify(walk(value));
  return { json: text === undefined ? "undefined" : text, attachments };
};
const decodings = (buf) => both(() => json(notepack.decode(buf)), () => json(msgpack.decode(buf)));

const line = (list) => "[\n" + list.map((e) => "  " + JSON.stringify(e)).join(",\n") + "\n]";
process.stdout.write(`{
"encode": ${line([...texts.map((t) => [t]), ...binaries].map(([text, ...attachments]) => ({ json: text, attachments, ...encodings(JSON.parse(text, revive(attachments))) })))},
"sizes": ${line(sizes)},
"decode": ${line([
  ...bytes.map((h) => ({ hex: h, ...decodings(Buffer.from(h, "hex")) })),
  ...dates.flatMap((ms) => [notepack.encode(new Date(ms)), msgpack.encode(new Date(ms))].map((b) => ({ hex: hex(b), ...decodings(Buffer.from(b)) }))),
])},
"old": ${line(old.map(([name, value]) => { const b = notepack2.encode(value); return { name, hex: hex(b), ...decodings(b) }; }))}
}
`);
