// Namespaces are apart, and those made on demand are on those nodes only that somebody asked.
import {
  assert, clients, connect, counted, each, fence, key, nodes, nodesOf, observe, origins, selected, subscribed, until,
} from "./fleet.mjs";

const all = ["/", "/chat", "/cha", "/dyn-1", "/dyn-2"];

/** Defines a test for each origin in some namespaces; of nodes the first of its kind that has the namespace. */
function inEach(name, op, run) {
  for (const nsp of ["/chat", "/dyn-1", "/dyn-2"]) {
    for (const { kind } of origins) {
      const origin = nodesOf(nsp).find((node) => node.kind === kind) ?? origins.find((o) => o.kind === kind && !nodes.includes(o));
      if (origin?.ops.has(op)) each(`namespaces/${name}${nsp}/${kind}`, () => run(nsp, origin));
    }
  }
}

/** What everyone in every namespace gets of what act does in one. */
async function observeAll(origin, act) {
  const fenced = new Map(all.map((nsp) => [nsp, clients(nsp)]));
  for (const client of [...fenced.values()].flat()) client.log.length = 0;
  await act();
  const seen = {};
  for (const [nsp, members] of fenced) {
    // What is not the origin's own namespace is fenced by somebody who has it.
    const by = nodes.includes(origin) && !nodesOf(nsp).includes(origin) ? nodesOf(nsp)[0] : origin;
    await fence(by, nsp);
    for (const client of members) seen[nsp + client.name] = client.log.splice(0);
  }
  return seen;
}

const selections = [{}, { to: ["red"] }, { except: ["red"] }, { to: ["red", "blue"], except: ["nobody"] }];

inEach("emit in ", "emit", async (nsp, origin) => {
  for (const spec of selections) {
    const args = [nsp, Buffer.from("x"), { n: 1 }];
    const seen = await observeAll(origin, () => origin.call("emit", { ...spec, nsp, event: "news", args }));
    for (const other of all) {
      for (const client of clients(other)) {
        const wanted = other === nsp && selected(client, spec, origin) ? [["news", ...args]] : [];
        assert.deepEqual(seen[other + client.name], wanted, `${other} ${client.name} ${JSON.stringify(spec)}`);
      }
    }
  }
});

inEach("acks in ", "emitWithAck", async (nsp, origin) => {
  for (const spec of selections) {
    const { timedOut, responses } = await origin.call("emitWithAck", { ...spec, nsp, timeout: 10_000, event: "ask", args: [] });
    const wanted = clients(nsp).filter((client) => selected(client, spec, origin)).map((client) => client.name);
    assert.deepEqual([timedOut, responses.sort()], [false, wanted.sort()], JSON.stringify(spec));
  }
});

inEach("fetch in ", "fetchSockets", async (nsp, origin) => {
  for (const spec of selections) {
    const found = await origin.call("fetchSockets", { ...spec, nsp });
    const wanted = clients(nsp).filter((client) => selected(client, spec, origin)).map((client) => client.id);
    assert.deepEqual(found.map(({ id }) => id).sort(), wanted.sort(), JSON.stringify(spec));
  }
});

inEach("join in ", "socketsJoin", async (nsp, origin) => {
  const [room, last] = [key("joined"), key("last")];
  await origin.call("socketsJoin", { nsp, to: ["red"], rooms: [room] });
  await origin.call("socketsJoin", { nsp, rooms: [last] });
  const rooms = async (nsp) => {
    const sockets = (await Promise.all(nodesOf(nsp).map((node) => node.call("sockets", { nsp })))).flat();
    return new Map(sockets.map(({ id, rooms }) => [id, rooms]));
  };
  await until(() => rooms(nsp), (all) => [...all.values()].every((list) => list.includes(last)));
  for (const other of all) {
    const now = await rooms(other);
    for (const client of clients(other)) {
      assert.equal(now.get(client.id).includes(room), other === nsp && client.in("red"), `${other} ${client.name}`);
      assert.equal(now.get(client.id).includes(last), other === nsp, `${other} ${client.name}`);
    }
  }
  await Promise.all(clients(nsp).map((client) => client.setRooms(client.rooms)));
});

inEach("server side in ", "serverSideEmitWithAck", async (nsp, origin) => {
  const event = key("question");
  await Promise.all(all.flatMap((nsp) => nodesOf(nsp).map((node) =>
    node.call("onServerEvent", { nsp, event: event + nsp, reply: [`${node.name} ${nsp}`] }))));
  const { timedOut, responses } = await origin.call("serverSideEmitWithAck", { nsp, event: event + nsp, args: [] });
  const others = nodesOf(nsp).filter((node) => node !== origin);
  assert.deepEqual([timedOut, responses.sort()], [false, others.map((node) => `${node.name} ${nsp}`).sort()]);
});

each("namespaces/counted", async () => {
  for (const nsp of all) {
    for (const node of nodesOf(nsp)) assert.equal(await node.call("serverCount", { nsp }), nodesOf(nsp).length, `${nsp} ${node.name}`);
  }
});

// It begins on one node after the other, each of which is a part of it from its first client on.
each("namespaces/on demand", async () => {
  const nsp = `/dyn-${Date.now()}`;
  const members = [];
  for (const [i, node] of nodes.entries()) {
    members.push(await connect(node, { nsp, name: `m${i}`, rooms: ["red"] }));
    const there = nodes.slice(0, i + 1);
    await counted(there, nsp, there.length);
    await subscribed(...members);
    for (const origin of there) {
      for (const spec of [{}, { to: ["red"] }]) {
        const seen = await observe(origin, nsp, () => origin.call("emit", { nsp, ...spec, event: "news", args: [1] }), members);
        assert.deepEqual(seen, Object.fromEntries(members.map((client) => [client.name, [["news", 1]]])));
      }
      const { responses } = await origin.call("emitWithAck", { nsp, timeout: 10_000, event: "ask", args: [] });
      assert.deepEqual(responses.sort(), members.map((client) => client.name).sort());
      const found = await origin.call("fetchSockets", { nsp });
      assert.deepEqual(found.map(({ id }) => id).sort(), members.map(({ id }) => id).sort());
    }
  }
  for (const client of members) client.close();
});
