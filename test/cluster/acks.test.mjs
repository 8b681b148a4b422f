// Acknowledgements of broadcasts, by clients of all nodes.
import { assert, clients, connect, counted, each, fromEach, key, multiplex, nodes, observe, selected } from "./fleet.mjs";

const id = (name) => clients().find((client) => client.name === name).id;
const long = 10_000;

/** Has the clients answer as asked; by default each says its name. */
async function answering(answer, run) {
  for (const client of clients()) client.answer = (ack, ...args) => answer(client, ack, ...args);
  try {
    return await run();
  } finally {
    for (const client of clients()) client.answer = null;
  }
}

// They come in any order; one of no value is null or undefined.
const sorted = (responses) => responses.map((value) => value ?? null).sort((a, b) => (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1));

function assertResponses({ timedOut, responses }, wanted, wantedTimeout = false) {
  assert.deepEqual({ timedOut, responses: sorted(responses) }, { timedOut: wantedTimeout, responses: sorted(wanted) });
}

const selections = {
  "all": {},
  "a room": { to: ["red"] },
  "a room on one node": { to: ["only-1"] },
  "polling clients": { to: ["green"] },
  "two rooms": { to: ["red", "blue"] },
  "a room but for another": { to: ["red"], except: ["blue"] },
  "all but a room": { except: ["blue"] },
  "a room that nobody is in": { to: ["nobody"] },
  "a socket": { to: [id("b1")] },
  "nodes' own clients": { local: true },
  "nodes' own clients in a room": { local: true, to: ["red"] },
};
for (const [name, spec] of Object.entries(selections)) {
  fromEach(`acks/of ${name}`, "emitWithAck", async (origin) => {
    let result;
    const seen = await observe(origin, "/", async () => {
      result = await origin.call("emitWithAck", { ...spec, timeout: long, event: "ask", args: [name] });
    });
    const asked = clients().filter((client) => selected(client, spec, origin));
    assertResponses(result, asked.map((client) => client.name));
    for (const client of clients()) assert.deepEqual(seen[client.name], asked.includes(client) ? [["ask", name]] : [], client.name);
  }, spec.local && { except: localAcks() });
}

/** The official server waits for the acknowledgements that other nodes would have to announce. */
function localAcks() {
  return { official: "io.local.timeout().emit() with an acknowledgement always times out" };
}

fromEach("acks/of others", "emitWithAck", async (origin) => {
  const sender = clients().find((client) => client.node === origin.index);
  const result = await origin.call("emitWithAck", { from: sender.id, timeout: long, event: "ask", args: [] });
  assertResponses(result, clients().filter((client) => client !== sender).map((client) => client.name));
});

const values = {
  "nothing": [],
  "null": [null],
  "more than one": [1, 2, 3],
  "numbers": [[0, -1, 1.5, 2 ** 53 - 1, -(2 ** 40)]],
  "text": ["é\u{1f680}\0\""],
  "objects": [{ list: [1, { a: null }], "": {} }],
  "an error": [{ error: "refused" }],
  "binary": [Buffer.from([0, 123, 255])],
  "empty binary": [Buffer.alloc(0)],
  "binary inside": [{ file: Buffer.from("a"), list: [Buffer.from("b"), 1.5, "é"] }],
};
for (const [name, answer] of Object.entries(values)) {
  fromEach(`acks/answers: ${name}`, "emitWithAck", async (origin) => {
    const result = await answering((client, ack) => ack(...answer), () =>
      origin.call("emitWithAck", { timeout: long, event: "ask", args: [] }));
    assertResponses(result, clients().map(() => answer[0]));
  });
  fromEach(`acks/questions: ${name}`, "emitWithAck", async (origin) => {
    const result = await answering((client, ack, ...args) => ack(args), () =>
      origin.call("emitWithAck", { timeout: long, event: "ask", args: answer }));
    assertResponses(result, clients().map(() => answer));
  });
}

each("acks/many at a time", async () => {
  const askers = nodes.filter((node) => node.ops.has("emitWithAck"));
  await answering((client, ack, n) => ack(`${client.name} ${n}`), async () => {
    await Promise.all(askers.flatMap((origin) => Array(15).fill(0).map(async (_, i) => {
      const n = `${origin.name} ${i}`;
      const to = i % 2 ? ["red"] : ["blue"];
      const result = await origin.call("emitWithAck", { to, timeout: long, event: "ask", args: [n] });
      assertResponses(result, clients().filter((client) => client.in(to[0])).map((client) => `${client.name} ${n}`));
    })));
  });
});

fromEach("acks/of one remote socket", "remote", async (origin) => {
  for (const client of clients()) {
    const result = await origin.call("remote", { socket: client.id, act: "emitWithAck", timeout: long, event: "ask", args: [] });
    assert.deepEqual(result, { timedOut: false, response: client.name });
  }
}, { except: { patchbay: "has no such method" } });

// What waits for a time limit has a namespace to itself, and goes on beside all else.
const apart = "/dyn-9000";
const slow = { background: true, timeout: 20_000 };
const timeout = 3000; // enough for all who answer
const there = await Promise.all(clients().map((client) => multiplex(client, apart)));
await counted(nodes, apart, nodes.length);

// One answers, even twice, one does so later, and one does not at all.
fromEach("acks/late, twice, and never", "emitWithAck", async (origin) => {
  const [event, late] = [key("question"), []];
  for (const client of there) {
    client.socket.on(event, (ack) => {
      switch (client.name[0]) {
        case "b": return late.push(ack);
        case "c": return;
        default: return ack(client.name), ack("again");
      }
    });
  }
  const first = await origin.call("emitWithAck", { nsp: apart, timeout, event, args: [] });
  const answered = there.filter((client) => "ad".includes(client.name[0])).map((client) => client.name);
  assertResponses(first, answered, true);
  // What comes too late is nobody's answer.
  late.forEach((ack) => ack("late"));
  const second = await origin.call("emitWithAck", { nsp: apart, timeout: long, event: "ask", args: [] });
  assertResponses(second, there.map((client) => client.name));
}, slow);

fromEach("acks/none", "emitWithAck", async (origin) => {
  const result = await origin.call("emitWithAck", { nsp: apart, timeout: 500, event: key("nobody listens"), args: [] });
  assertResponses(result, [], true);
}, slow);

// Whether the others are waited for until the time is up is not the same everywhere.
fromEach("acks/a client leaves", "emitWithAck", async (origin) => {
  const nsp = "/dyn-9001";
  const [stayers, leavers] = await Promise.all(["stays", "leaves"].map((name) =>
    Promise.all(nodes.map((node) => connect(node, { nsp, name: `${node.name} ${name}`, rooms: [`of ${origin.name}`] })))));
  await counted(nodes, nsp, nodes.length);
  for (const leaver of leavers) leaver.answer = () => leaver.close();
  const { responses } = await origin.call("emitWithAck", { nsp, to: [`of ${origin.name}`], timeout, event: "ask", args: [] });
  assert.deepEqual(sorted(responses), sorted(stayers.map((client) => client.name)));
  for (const stayer of stayers) stayer.close();
}, slow);
