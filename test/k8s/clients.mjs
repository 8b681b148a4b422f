// Stock clients for live_test.go: node clients.mjs URL NUMBER. A third polls, a third has a WebSocket, a third upgrades.
// Each joins a room of ten and publishes to it, with acknowledgements and retries, until the end.
// Commands come as lines on standard input, and are answered by a line of JSON:
//   report   what there is now, and what was counted since the last mark
//   mark     the same, and counting begins anew
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const { io } = createRequire(new URL("../conformance/package.json", import.meta.url))("socket.io-client");

const [url, number] = process.argv.slice(2);
const kinds = [["polling"], ["websocket"], ["polling", "websocket"]];
const interval = 3000; // ms between what one client publishes

const counted = () => ({
  connects: 0, // beginning with the first
  disconnects: {}, // by reason
  errors: {}, // connect_error, and what else is wrong, by text
  failed: {}, // HTTP requests and WebSockets that failed, of those the errors and disconnects of which the client tells
  published: 0, acked: 0, received: 0, receivedFromElsewhere: 0,
  away: [], // ms from a disconnect to the next connect
  lag: 0, // ms that this process itself was late, at most
});
let counts = counted();
const add = (where, text) => { where[text] = (where[text] ?? 0) + 1; };

// failure names the request behind an error of engine.io-client, and what was answered.
function failure(err) {
  const status = typeof err?.description === "number" ? ` ${err.description}` : "";
  return `${err?.message ?? err}${status} ${err?.context?.responseText ?? ""}`.trim();
}

let due = performance.now();
setInterval(() => {
  counts.lag = Math.max(counts.lag, Math.round(performance.now() - due));
  due = performance.now() + 50;
}, 50).unref();

const clients = Array.from({ length: Number(number) }, (_, i) => {
  const transports = kinds[i % kinds.length];
  const room = `room:${Math.floor(i / 10)}`;
  const client = { kind: transports.join("+"), lost: 0 };
  const socket = io(url, {
    transports, forceNew: true, autoConnect: false, retries: 100, ackTimeout: 5000, auth: { user: `u${i}` },
  });
  client.socket = socket;
  socket.on("connect", () => {
    counts.connects++;
    if (client.lost) counts.away.push(Date.now() - client.lost);
    client.lost = 0;
    client.node = socket.io.engine.id.split(".")[1];
  });
  socket.on("disconnect", (reason, details) => {
    client.lost = Date.now();
    add(counts.disconnects, reason);
    if (reason === "transport error") add(counts.failed, `${client.kind}: ${failure(details)}`);
    if (reason === "parse error" || reason === "ping timeout") add(counts.failed, `${client.kind}: ${reason}`);
  });
  socket.on("connect_error", (err) => {
    add(counts.errors, err.message);
    add(counts.failed, `${client.kind}: connect: ${failure(err)}`);
  });
  socket.io.on("open", () => {
    socket.io.engine.on("upgradeError", (err) => {
      // What closes a transport also ends an upgrade that is under way: that is no request that failed.
      if (!/closed/.test(`${err.message}`)) add(counts.failed, `${client.kind}: upgrade: ${failure(err)}`);
    });
    // The rooms of a session end with it.
    socket.emit("join", room, (err, answer) => { if (err || !answer.ok) add(counts.errors, `join: ${err?.message ?? answer.error}`); });
  });
  socket.on("message", (text, meta) => {
    counts.received++;
    if (meta.node !== client.node) counts.receivedFromElsewhere++;
  });
  // With retries a client sends one after the other, and again what was not acknowledged.
  const publish = () => {
    counts.published++;
    socket.emit("publish", room, "message", `from ${i}`, (err, answer) => {
      if (err) add(counts.errors, `publish: ${err.message}`);
      else if (!answer.ok) add(counts.errors, `publish: ${answer.error}`);
      else counts.acked++;
      client.timer = setTimeout(publish, interval);
    });
  };
  setTimeout(() => socket.connect(), i * 10); // a storm is another test"s subject
  client.timer = setTimeout(publish, i * 10 + Math.random() * interval);
  return client;
});

function report() {
  const connected = clients.filter((c) => c.socket.connected);
  const nodes = {};
  const transports = {};
  for (const c of connected) {
    add(nodes, c.node);
    add(transports, c.socket.io.engine.transport.name);
  }
  const sorted = [...counts.away].sort((a, b) => a - b);
  const away = sorted.length && { p50: sorted[sorted.length >> 1], p99: sorted[Math.floor(sorted.length * 0.99)], max: sorted.at(-1) };
  return { connected: connected.length, nodes, transports, ...counts, away: away || undefined };
}

for await (const line of createInterface({ input: process.stdin })) {
  process.stdout.write(`${JSON.stringify(report())}\n`);
  if (line === "mark") counts = counted();
}
for (const c of clients) {
  clearTimeout(c.timer);
  c.socket.disconnect();
}
