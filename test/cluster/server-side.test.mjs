// Events from server to server.
import { adapter, assert, clients, each, fromEach, key, nodes, observe, until } from "./fleet.mjs";

const listen = (event, how = () => ({})) => Promise.all(nodes.map((node) => node.call("onServerEvent", { event, ...how(node) })));

const records = (event) => Promise.all(nodes.map((node) => node.call("serverEvents", { event })));

const sorted = (list) => [...list].sort((a, b) => (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1));

// name: [arguments, what arrives if that is something else]
const values = {
  "nothing": [[]],
  "values": [[1, -1.5, 2 ** 53 - 1, "é\u{1f680}\0", true, null, [], {}, { a: [{ b: null }] }, "x".repeat(10_000)]],
  "null": [[null]],
};
if (adapter.startsWith("streams")) {
  // Official ones use MessagePack for these, which has dates, but that clients are to get them is not said.
  values.undefined = [[[undefined, 1]], [[null, 1]]];
} else {
  values["what JSON has not"] = [[undefined, NaN, new Date(0), [undefined]], [null, null, "1970-01-01T00:00:00.000Z", [null]]];
}
// On classic pub/sub there is no binary.
if (!adapter.startsWith("classic")) values.binary = [[Buffer.from([0, 123, 255]), { inside: [Buffer.alloc(0)] }, 2 ** 40, "é"]];

for (const [name, [args, arrives = args]] of Object.entries(values)) {
  // Official streams emitters put these into the stream, all others use pub/sub: fenced by more of the same.
  fromEach(`server side/${name}`, "serverSideEmit", async (origin) => {
    const [event, last] = [key("server"), key("last")];
    await Promise.all([listen(event), listen(last)]);
    const seen = await observe(origin, "/", async () => {
      await origin.call("serverSideEmit", { event, args });
      await origin.call("serverSideEmit", { event: key("nobody listens"), args });
      await origin.call("serverSideEmit", { event: last, args: [] });
      await until(() => records(last), (all) => all.every((calls, i) => calls.length === (nodes[i] === origin ? 0 : 1)));
    });
    for (const [i, calls] of (await records(event)).entries()) {
      assert.deepEqual(calls, nodes[i] === origin ? [] : [arrives], nodes[i].name);
    }
    for (const client of clients()) assert.deepEqual(seen[client.name], []);
  });

  fromEach(`server side/answered: ${name}`, "serverSideEmitWithAck", async (origin) => {
    const event = key("question");
    await listen(event, (node) => ({ reply: [[node.name, ...args]] }));
    const { timedOut, responses } = await origin.call("serverSideEmitWithAck", { event, args });
    const others = nodes.filter((node) => node !== origin);
    assert.deepEqual([timedOut, sorted(responses)], [false, sorted(others.map((node) => [node.name, ...arrives]))]);
    for (const [i, calls] of (await records(event)).entries()) {
      assert.deepEqual(calls, nodes[i] === origin ? [] : [arrives], nodes[i].name);
    }
  });
}

for (const [name, reply] of Object.entries({ "nothing": [], "null": [null], "false": [false], "only the first": [1, 2] })) {
  fromEach(`server side/answered with ${name}`, "serverSideEmitWithAck", async (origin) => {
    const event = key("question");
    await listen(event, () => ({ reply }));
    const { timedOut, responses } = await origin.call("serverSideEmitWithAck", { event, args: [] });
    const wanted = nodes.filter((node) => node !== origin).map(() => reply[0] ?? null);
    assert.deepEqual([timedOut, responses.map((r) => r ?? null)], [false, wanted]);
  });
}

each("server side/many at a time", async () => {
  const event = key("question");
  await listen(event, (node) => ({ reply: [node.name] }));
  await Promise.all(nodes.flatMap((node) => Array(20).fill(0).map(async (_, i) => {
    const { timedOut, responses } = await node.call("serverSideEmitWithAck", { event, args: [i] });
    assert.deepEqual([timedOut, sorted(responses)], [false, sorted(nodes.filter((n) => n !== node).map((n) => n.name))]);
  })));
  for (const calls of await records(event)) assert.equal(calls.length, (nodes.length - 1) * 20);
});

each("server side/in order", async () => {
  const [event, count] = [key("ordered"), 60];
  await listen(event);
  await Promise.all(nodes.map(async (node) => {
    for (let i = 0; i < count; i++) node.call("serverSideEmit", { event, args: [node.name, i] });
  }));
  await until(() => records(event), (all) => all.every((calls) => calls.length === (nodes.length - 1) * count));
  for (const [i, calls] of (await records(event)).entries()) {
    for (const node of nodes.filter((node) => node !== nodes[i])) {
      assert.deepEqual(calls.filter(([name]) => name === node.name).map(([, n]) => n), Array(count).fill(0).map((_, n) => n), node.name);
    }
  }
});

// The official time limit is 5 s.
const slow = { background: true, timeout: 20_000 };

fromEach("server side/nobody listens", "serverSideEmitWithAck", async (origin) => {
  const { timedOut, responses } = await origin.call("serverSideEmitWithAck", { event: key("nobody listens"), args: [] });
  assert.deepEqual({ timedOut, responses }, { timedOut: true, responses: [] });
}, slow);

fromEach("server side/some do not answer", "serverSideEmitWithAck", async (origin) => {
  const event = key("question");
  const others = nodes.filter((node) => node !== origin);
  await Promise.all(others.map((node, i) => node.call("onServerEvent", { event, ...(i === 0 ? {} : { reply: [node.name] }) })));
  const { timedOut, responses } = await origin.call("serverSideEmitWithAck", { event, args: [] });
  assert.deepEqual([timedOut, sorted(responses)], [true, sorted(others.slice(1).map((node) => node.name))]);
}, slow);
