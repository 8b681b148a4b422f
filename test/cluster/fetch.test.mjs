// What nodes know of each other's sockets.
import { adapter, assert, clients, connect, each, fromEach, nodes, selected } from "./fleet.mjs";

const byId = (a, b) => (a.id < b.id ? -1 : 1);
const id = (name) => clients().find((client) => client.name === name).id;

const data = {
  a: { text: "é\u{1f680}", n: 1.5, big: 2 ** 53 - 1, list: [1, [null], { "": true }], nothing: null },
  b: ["an", "array"],
  c: "text",
  // d has none
};
for (const client of clients()) {
  const value = data[client.name[0]];
  if (value !== undefined) await nodes[client.node].call("setData", { socket: client.id, data: value });
}

const selections = {
  "all": {},
  "a room": { to: ["red"] },
  "a room on one node": { to: ["only-1"] },
  "two rooms": { to: ["red", "blue"] },
  "a room but for another": { to: ["red"], except: ["blue"] },
  "all but a room": { except: ["blue"] },
  "a room that nobody is in": { to: ["nobody"] },
  "a socket": { to: [id("b1")] },
  "all but a socket": { except: [id("b1")] },
  "nodes' own": { local: true },
  "nodes' own in a room": { local: true, to: ["red"] },
};
for (const [name, spec] of Object.entries(selections)) {
  fromEach(`fetch/${name}`, "fetchSockets", async (origin) => {
    const found = await origin.call("fetchSockets", spec);
    const wanted = clients().filter((client) => selected(client, spec, origin));
    assert.deepEqual(
      found.map(({ id, rooms, data }) => ({ id, rooms: rooms.sort(), data })).sort(byId),
      wanted.map((c) => ({ id: c.id, rooms: [c.id, ...c.rooms].sort(), data: data[c.name[0]] ?? {} })).sort(byId),
    );
  });
}

// Whoever is asked says the same of a socket, wherever that is.
each("fetch/the same everywhere", async () => {
  const answers = await Promise.all(nodes.map(async (node) => (await node.call("fetchSockets")).sort(byId)));
  for (const sockets of answers) for (const socket of sockets) socket.rooms.sort();
  for (const [i, answer] of answers.entries()) assert.deepEqual(answer, answers[0], nodes[i].name);
});

fromEach("fetch/handshake", "fetchSockets", async (origin) => {
  const found = new Map((await origin.call("fetchSockets")).map(({ id, handshake }) => [id, handshake]));
  const kinds = (value) => Object.fromEntries(Object.entries(value).map(([name, v]) => [name, typeof v]).sort());
  for (const client of clients()) {
    const { headers, time, address, xdomain, secure, issued, url, query, auth, ...more } = found.get(client.id);
    assert.deepEqual(more, {});
    assert.equal(typeof headers.host, "string");
    for (const [name, value] of Object.entries(headers)) {
      assert.deepEqual([name, typeof value], [name.toLowerCase(), "string"]);
    }
    assert.match(time, /^[A-Z][a-z]{2} [A-Z][a-z]{2} \d\d \d{4} \d\d:\d\d:\d\d GMT[+-]\d{4}/);
    assert.ok(Math.abs(new Date(time) - issued) < 2000, time);
    assert.ok(Math.abs(Date.now() - issued) < 200_000, `${issued}`);
    assert.equal(Number.isInteger(issued), true);
    assert.equal(address, "127.0.0.1");
    assert.deepEqual({ xdomain, secure }, { xdomain: false, secure: false });
    assert.match(url, /^\/socket\.io\/\?.*EIO=4/);
    const { EIO, transport, t, ...rest } = query;
    assert.deepEqual({ EIO, transport }, { EIO: "4", transport: client.name[0] === "d" ? "polling" : "websocket" });
    assert.deepEqual(rest, client.name[0] === "a" ? { of: `${client.node}` } : {});
    assert.deepEqual(auth, { client: `é${client.node}` });
    // A socket of another kind of node looks the same.
    assert.deepEqual(kinds(found.get(client.id)), kinds(found.get(clients()[0].id)));
  }
});

each("fetch/many at a time", async () => {
  await Promise.all(nodes.flatMap((node) => Array(20).fill(0).map(async (_, i) => {
    const spec = i % 2 ? { to: ["red"] } : { except: ["red"] };
    const found = await node.call("fetchSockets", spec);
    assert.deepEqual(found.map(({ id }) => id).sort(), clients().filter((c) => selected(c, spec)).map((c) => c.id).sort());
  })));
});

each("fetch/a client comes and goes", async () => {
  const before = clients().length;
  for (const node of nodes) {
    const client = await connect(node);
    for (const asked of nodes) {
      const found = await asked.call("fetchSockets");
      assert.equal(found.length, before + 1, asked.name);
    }
    // The client is told after the node has forgotten it.
    const gone = new Promise((resolve) => client.socket.once("disconnect", resolve));
    await node.call("disconnectSockets", { to: [client.id], local: true, close: true });
    await gone;
    for (const asked of nodes) {
      const found = await asked.call("fetchSockets");
      assert.equal(found.length, before, asked.name);
    }
    client.close();
  }
});

// Asked by official servers on classic Redis pub/sub only.
if (adapter.startsWith("classic")) {
  fromEach("fetch/rooms", "allRooms", async (origin) => {
    const wanted = new Set(clients().flatMap((client) => [client.id, ...client.rooms]));
    assert.deepEqual((await origin.call("allRooms")).sort(), [...wanted].sort());
  });
}
