// Writes golden.json: what the official parser makes of our cases.
//
//   cd "$(mktemp -d)" && npm install socket.io-parser@4.2.7
//   node <here>/generate.mjs > <here>/golden.json
//
// "encode": values, by a name under which golden_test.go has the same ones in Go, and the messages they become.
// "decode": messages, and the packet or the error that comes of them. Binary is {"$bytes": base64}.

import { createRequire } from "node:module";

const { Encoder, Decoder, PacketType } = createRequire(process.cwd() + "/")("socket.io-parser");

const { CONNECT, DISCONNECT, EVENT, ACK, CONNECT_ERROR } = PacketType;
const b = (...bytes) => Buffer.from(bytes);
const event = (...data) => ({ type: EVENT, nsp: "/", data });

const shared = b(1, 2);
const packets = {
  "connect": { type: CONNECT, nsp: "/" },
  "connect with sid": { type: CONNECT, nsp: "/", data: { sid: "abc" } },
  "connect to namespace": { type: CONNECT, nsp: "/a" },
  "connect with auth": { type: CONNECT, nsp: "/a", data: { token: "x" } },
  "disconnect": { type: DISCONNECT, nsp: "/" },
  "disconnect from namespace": { type: DISCONNECT, nsp: "/a" },
  "connect error": { type: CONNECT_ERROR, nsp: "/err", data: { message: "no", data: { n: 1 } } },
  "connect error string": { type: CONNECT_ERROR, nsp: "/", data: "no" },
  "event without arguments": event("e"),
  "empty name": event(""),
  "event with id": { type: EVENT, nsp: "/", id: 0, data: ["e", 1] },
  "event in namespace with id": { type: EVENT, nsp: "/a/b", id: 123, data: ["e", "x"] },
  "ack": { type: ACK, nsp: "/", id: 0, data: [] },
  "ack with values": { type: ACK, nsp: "/n", id: 9007199254740991, data: ["a", null, false] },
  "scalars": event("e", null, true, false, 0, -1, 2147483647, 9007199254740991, "s"),
  "floats": event("e", 0.1, -0, 1.5, 1e21, -1e21, 1e20, 123456789012345680000, 1e-6, 1e-7, -1.5e-9, 5e-324,
    1.7976931348623157e308, 1e-10, 1e100, 100, 0.000001234),
  "not numbers": event("e", NaN, Infinity, -Infinity, [NaN], { x: Infinity }),
  "controls": event("e", Array.from({ length: 33 }, (_, i) => String.fromCharCode(i)).join("") + "\u007f\"\\/"),
  "html": event("e", "<a href='x'>&amp;</a>"),
  "separators": event("e", "a\u2028b\u2029c", "\\u2028"),
  "unicode": event("é", "日本語 👋 \ufffd\ufeff\u00a0"),
  "dates": event("e", new Date(0), new Date(1700000000123), new Date(-1), new Date(-62198755200000),
    new Date(253402300800000), new Date(8.64e15), new Date(-8.64e15), { at: new Date(1) }),
  "nested": event("e", [1, [2, [3, []]]], { a: { b: { c: {} } }, d: [null, { e: "f" }] }),
  "struct": event("e", { name: "<x>\u2028", n: 3, tags: ["a", "b"] }),
  "binary": event("e", b(1, 2, 3)),
  "empty binary": event("e", b()),
  "binary in namespace with id": { type: EVENT, nsp: "/n", id: 12, data: ["b", b(255)] },
  "binary ack": { type: ACK, nsp: "/", id: 7, data: [b(1), { a: b(2) }] },
  "binary everywhere": event("e", [b(1), "x", [b(2)]], { a: { b: b(3) }, c: [null, b(4)] }, b(5), 6),
  "binary twice": event("e", shared, shared),
  "binary in struct": event("e", { name: "f", data: b(1), parts: [b(2), b(3)], meta: { k: b(4) }, next: { name: "g", data: b(5), parts: null, meta: null, next: null } }),
  "toJSON": event("e", { toJSON: () => ({ b: 1 }) }),
  "placeholder without binary": event("e", { _placeholder: true, num: 0 }),
};

const texts = [
  "", "0", "1", "2", "3", "4", "5", "6", "7", "9", "-", "x", "/", " ", "0/", "0/a", "0/a,", "40", "0{}", '0{"sid":"x"}', '0/a,{"t":1}',
  "0[]", "0null", '0"x"', "01", "0/,", "0/,{}", "0/?a=b,", "0/a?b=c,{}", "0/é,",
  "1{}", "1/a", "1/a,", "1/a,1", "1null", "1false",
  "2[]", "2{}", "2null", '2"x"', '2["a"]', '2["a",1]', '2[ "a" , 1 ]', '2["a"', "2[1]", "2[-1.5]", "2[null]", "2[true]", '2[["a"]]', '2[{"a":1}]', '2[""]',
  '2["connect"]', '2["connect_error"]', '2["disconnect"]', '2["disconnecting"]', '2["newListener"]', '2["removeListener"]',
  '2["conn\\u0065ct"]', '2["Connect"]', '2["constructor"]', '2["__proto__"]', '2["message","connect"]',
  '21["a"]', '2007["a"]', '20["a"]', "21", "2/n,", '2/n,["a"]', '2/n,12["a"]', '2/n["a"]', '2/n,12', '2 ["a"]', '21 ["a"]', '2 1["a"]', '2\t["a"]',
  '29007199254740991["a"]', '29007199254740992["a"]', '218446744073709551616["a"]', '2' + "9".repeat(400) + '["a"]', '2-1["a"]', '21.5["a"]', '21e3["a"]', '2+1["a"]',
  '2["a",{"_placeholder":true,"num":0}]', '2["a","\\ud800"]', '2["\\ud800"]', '2["a","\\u0000"]', '2["a","\u0000"]', '2["a",01]', '2["a",]', '2["a"]x', '2["a"] ', "2['a']", '2["a",NaN]', '2["a",1.0,1e3]',
  '2["a",{"a":1,"a":2}]', '2["a","\\x"]', '2["a"]\n', '2\ufeff["a"]', '2["a","' + "x".repeat(100) + '"]',
  "3[]", "31[]", "31", '31["a",{}]', "31{}", "31null", "3/n,4[1]", '30["connect"]',
  "4", '4"no"', "4{}", '4{"message":"no"}', "4[]", "4null", "41", '4/a,{"message":"no"}',
  "5", "5-", "50-", "50-[]", '50-["a"]', "51", "51[]", '51["a"]', "51-[]", "51-{}", '5a-["a"]', '5-1-["a"]', '51.5-["a"]', '51.0-["a"]', '51e0-["a"]', '50x1-["a"]', '5 1-["a"]', '5+1-["a"]',
  '511-["a"]', '5999999999999-["a"]', '5' + "9".repeat(400) + '-["a"]', "6", "60-[]", "611-[]", '51-["connect"]', '51-[{"_placeholder":true,"num":0}]', "51-null", "51-[",
];

const ph = (num) => `{"_placeholder":true,"num":${num}}`;
const sequences = [
  ['51-["a",' + ph(0) + "]", b(1)],
  ['501-["a",' + ph(0) + "]", b(1)],
  ["51-", b(1)],
  ["61-", b(1)],
  ["51-/n,", b(1)],
  ['51-["a"]', b(1)],
  ['51-/n,12["a",' + ph(0) + "]", b()],
  ['52-["a",' + ph(1) + "," + ph(0) + "]", b(1), b(2)],
  ['51-["a",' + ph(0) + "," + ph(0) + "]", b(1)],
  ['52-["a",' + ph(1) + "]", b(1), b(2)],
  ['62-7[' + ph(0) + ',{"a":' + ph(1) + "}]", b(1), b(2)],
  ['61-7[[[{"x":[' + ph(0) + "]}]]]", b(9)],
  ['510-["a"' + Array.from({ length: 10 }, (_, i) => "," + ph(i)).join("") + "]", ...Array.from({ length: 10 }, (_, i) => b(i))],
  ['51-["a",' + ph(1) + "]", b(1)],
  ['51-["a",' + ph(-1) + "]", b(1)],
  ['51-["a",' + ph(0.5) + "]", b(1)],
  ['51-["a",' + ph("0.0") + "]", b(1)],
  ['51-["a",' + ph("-0") + "]", b(1)],
  ['51-["a",' + ph("0e5") + "]", b(1)],
  ['51-["a",' + ph("1e999") + "]", b(1)],
  ['51-["a",' + ph('"0"') + "]", b(1)],
  ['51-["a",' + ph("null") + "]", b(1)],
  ['51-["a",{"_placeholder":true}]', b(1)],
  ['51-["a",{"_placeholder":false,"num":7}]', b(1)],
  ['51-["a",{"_placeholder":"true","num":7}]', b(1)],
  ['51-["a",{"_placeholder":1,"num":7}]', b(1)],
  ['51-["a",{"num":0,"x":[1,{}],"_placeholder":true}]', b(1)],
  ['51-["a",{"_placeholder":true,"_placeholder":false,"num":7}]', b(1)],
  ['51-["a",{"_placeholder":false,"_placeholder":true,"num":7,"num":0}]', b(1)],
  ['51-["a",{"_pl\\u0061ceholder":true,"n\\u0075m":0}]', b(1)],
  ['51-["a",{ "_placeholder" : true , "num" : 0 }]', b(1)],
  ['51-["a",{"_placeholder":true,"num":0,"x":' + ph(0) + "}]", b(1)],
  ['51-["a",{"_placeholder":true,"num":0,"x":' + ph(9) + "}]", b(1)],
  ['51-["a","\\"_placeholder\\":true",' + ph(0) + "]", b(1)],
  ['51-["a",' + ph(0) + "]", "2[1]"],
  [b(1)],
  ['2["a"]', b(1)],
  ['51-["a",' + ph(0) + "]", b(1), b(2)],
];

const plain = (v) => {
  if (Buffer.isBuffer(v)) return { $bytes: v.toString("base64") };
  if (Array.isArray(v)) return v.map(plain);
  if (v && typeof v === "object") return Object.fromEntries(Object.entries(v).map(([k, x]) => [k, plain(x)]));
  return v;
};

const encode = Object.entries(packets).map(([name, p]) => ({ name, messages: plain(new Encoder().encode({ ...p })) }));

const decode = [...texts.map((t) => [t]), ...sequences].map((messages) => {
  const out = { messages: plain(messages), packets: [] };
  const decoder = new Decoder();
  decoder.on("decoded", ({ type, nsp, id, data }) => {
    out.packets.push({ type, nsp, ...(id !== undefined && { id }), ...(data !== undefined && { data: plain(data) }) });
  });
  try {
    messages.forEach((m) => decoder.add(m));
  } catch (e) {
    out.error = e.message;
  }
  return out;
});

// One case a line, so that a change of one shows as such.
const lines = (list) => list.map((c) => "    " + JSON.stringify(c)).join(",\n");
console.log(`{\n  "encode": [\n${lines(encode)}\n  ],\n  "decode": [\n${lines(decode)}\n  ]\n}`);
