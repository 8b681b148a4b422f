// Joining, leaving and disconnecting sockets of all nodes.
import { assert, clients, connect, fence, fromEach, key, multiplex, nodes, observe, selected, subscribed, until } from "./fleet.mjs";

const id = (name) => clients().find((client) => client.name === name).id;

/** The rooms that each socket is in, by the word of its node. */
async function roomsBySocket(nsp) {
  const lists = await Promise.all(nodes.map((node) => node.call("sockets", { nsp })));
  return new Map(lists.flat().map(({ id, rooms }) => [id, rooms.filter((room) => room !== id).sort()]));
}

/** Waits until everyone has done what the origin asked for: the last thing it asks for is a room for all. */
async function settled(origin, nsp = "/") {
  const room = key("settled");
  await origin.call("socketsJoin", { nsp, rooms: [room] });
  const rooms = await until(() => roomsBySocket(nsp), (all) => [...all.values()].every((rooms) => rooms.includes(room)));
  for (const list of rooms.values()) list.splice(list.indexOf(room), 1);
  return rooms;
}

/** Puts everyone back to where the tests expect them. */
async function reset(members = clients()) {
  await Promise.all(members.map((client) => client.setRooms(client.rooms)));
}

const selections = {
  "all": {},
  "a room": { to: ["red"] },
  "a room on one node": { to: ["only-1"] },
  "two rooms": { to: ["red", "green"] },
  "a room but for another": { to: ["red"], except: ["blue"] },
  "all but a room": { except: ["blue"] },
  "a room that nobody is in": { to: ["nobody"] },
  "a socket": { to: [id("b1")] },
  "sockets": { to: [id("a0"), id("b1"), id("c1")] },
  "all but a socket": { except: [id("b1")] },
  "nodes' own clients": { local: true },
};

for (const [name, spec] of Object.entries(selections)) {
  const except = spec.local ? { officialEmitter: "has no clients of its own", patchbayEmitter: "the same" } : {};
  fromEach(`rooms/join ${name}`, "socketsJoin", async (origin) => {
    const rooms = [key("joined"), key("é*")].sort();
    await origin.call("socketsJoin", { ...spec, rooms });
    const now = await settled(origin);
    for (const client of clients()) {
      const wanted = [...client.rooms, ...(selected(client, spec, origin) ? rooms : [])].sort();
      assert.deepEqual(now.get(client.id), wanted, client.name);
    }
    await reset();
  }, { except });

  fromEach(`rooms/leave ${name}`, "socketsLeave", async (origin) => {
    const rooms = [key("left"), key("left")];
    const kept = key("kept");
    await Promise.all(clients().map((client) =>
      nodes[client.node].call("setRooms", { socket: client.id, rooms: [...client.rooms, ...rooms, kept] })));
    await origin.call("socketsLeave", { ...spec, rooms: [...rooms, "never joined"] });
    const now = await settled(origin);
    for (const client of clients()) {
      const wanted = [...client.rooms, kept, ...(selected(client, spec, origin) ? [] : rooms)].sort();
      assert.deepEqual(now.get(client.id), wanted, client.name);
    }
    await reset();
  }, { except });
}

// A room that was joined from afar is a room like any other.
fromEach("rooms/joined and used", "socketsJoin", async (origin) => {
  const room = key("used");
  const members = clients().filter((client) => client.in("blue"));
  const received = (yes) => Object.fromEntries(clients().map((c) => [c.name, yes && members.includes(c) ? [["news", 1]] : []]));
  await origin.call("socketsJoin", { to: ["blue"], rooms: [room] });
  await settled(origin);
  await subscribed(...members.map((client) => ({ node: client.node, nsp: "/", id: client.id, rooms: [room] })));
  for (const node of nodes) {
    assert.deepEqual(await observe(node, "/", () => node.call("emit", { to: [room], event: "news", args: [1] })), received(true));
  }
  await origin.call("socketsLeave", { rooms: [room] });
  await settled(origin);
  for (const node of nodes) {
    assert.deepEqual(await observe(node, "/", () => node.call("emit", { to: [room], event: "news", args: [1] })), received(false));
  }
  await reset();
});

for (const close of [false, true]) {
  const how = close ? "with the connection" : "leaving the connection";
  const disconnections = {
    "by room": ([a, b]) => ({ to: [a.rooms[0]], gone: [a, b] }),
    "by id": ([a]) => ({ to: [a.id], gone: [a] }),
    "by room but for another": ([a, b]) => ({ to: [a.rooms[0]], except: [b.rooms[1]], gone: [a] }),
    "by room and id": ([a, , c]) => ({ to: [a.id, c.rooms[0]], gone: [a, c] }),
    "nobody": () => ({ to: ["nobody"], gone: [] }),
  };
  for (const [name, choose] of Object.entries(disconnections).slice(0, close ? 2 : undefined)) {
    fromEach(`rooms/disconnect ${name}, ${how}`, "disconnectSockets", async (origin) => {
      const rooms = [key("doomed"), key("spared"), key("other")];
      // On each node three, each with a second namespace on its connection.
      const there = await Promise.all(nodes.map(async (node) => {
        const [a, b, c] = await Promise.all([
          connect(node, { name: `a ${node.name}`, rooms: [rooms[0]] }),
          connect(node, { name: `b ${node.name}`, rooms: [rooms[0], rooms[1]] }),
          connect(node, { name: `c ${node.name}`, rooms: [rooms[2]] }),
        ]);
        const seconds = await Promise.all([a, b, c].map((client) => multiplex(client, "/chat")));
        return { all: [a, b, c], seconds, ...choose([a, b, c]) };
      }));
      const reasons = new Map();
      for (const client of there.flatMap(({ all, seconds }) => [...all, ...seconds])) {
        client.socket.on("disconnect", (reason) => reasons.set(client, reason));
      }
      try {
        await origin.call("disconnectSockets", {
          to: [...new Set(there.flatMap(({ to }) => to))], except: there[0].except, close,
        });
        await settled(origin);
        const gone = there.flatMap((node) => node.gone);
        const alsoGone = there.flatMap(({ all, seconds, gone }) => seconds.filter((_, i) => close && gone.includes(all[i])));
        await until(() => [...gone, ...alsoGone].every((client) => reasons.has(client)));
        // The others are there: what is sent to them comes.
        const left = there.flatMap((node) => node.all.filter((client) => !gone.includes(client)));
        const seconds = there.flatMap((node) => node.seconds.filter((client) => !alsoGone.includes(client)));
        await Promise.all([fence(nodes[0], "/", left), fence(nodes[0], "/chat", seconds)]);
        assert.deepEqual([...reasons.keys()].map((client) => client.nsp + client.name).sort(),
          [...gone, ...alsoGone].map((client) => client.nsp + client.name).sort());
        for (const [client, reason] of reasons) assert.equal(reason, "io server disconnect", client.name);
        for (const { all, seconds, gone } of there) {
          for (const [i, client] of all.entries()) {
            const closed = close && gone.includes(client);
            if (closed) await until(() => client.socket.io.engine.readyState === "closed");
            else assert.equal(seconds[i].socket.connected, true, client.name);
          }
        }
        const rest = await roomsBySocket("/");
        for (const client of left) assert.ok(rest.has(client.id), client.name);
        assert.equal(rest.size, clients().length + left.length);
      } finally {
        for (const { all } of there) for (const client of all) client.close();
        await until(() => roomsBySocket("/"), (all) => all.size === clients().length);
        await reset();
      }
    });
  }
}

fromEach("rooms/remote sockets", "remote", async (origin) => {
  for (const client of clients()) {
    const room = key("remote");
    await origin.call("remote", { socket: client.id, act: "join", rooms: [room] });
    const joined = await settled(origin);
    for (const c of clients()) assert.equal(joined.get(c.id).includes(room), c === client, c.name);
    const seen = await observe(origin, "/", () =>
      origin.call("remote", { socket: client.id, act: "emit", event: "news", args: [Buffer.from("x"), "é"] }));
    for (const c of clients()) assert.deepEqual(seen[c.name], c === client ? [["news", Buffer.from("x"), "é"]] : [], c.name);
    await origin.call("remote", { socket: client.id, act: "leave", rooms: [room] });
    const left = await settled(origin);
    for (const c of clients()) assert.equal(left.get(c.id).includes(room), false, c.name);
  }
  await reset();
  for (const node of nodes) {
    const doomed = await connect(node);
    const gone = new Promise((resolve) => doomed.socket.once("disconnect", resolve));
    await origin.call("remote", { socket: doomed.id, act: "disconnect", close: true });
    assert.equal(await gone, "io server disconnect");
    doomed.close();
  }
});
