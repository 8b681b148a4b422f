// Rooms that are numbers, as official servers allow: to them 7 is not "7", to ours it is.
import {
  assert, clients, counted, each, fence, fromEach, key, multiplex, nodes, observe, subscribed, until,
} from "./fleet.mjs";

const nsp = "/dyn-7";
const members = await Promise.all(clients().filter(({ name }) => "ab".includes(name[0])).map((client) => multiplex(client, nsp)));
await counted(nodes, nsp, nodes.length);

const official = (client) => nodes[client.node].kind === "official";
/** The same room on either kind of node. */
const own = (client, room) => (official(client) ? room : `${room}`);
const inRoom = (client) => client.name[0] === "a";

for (const client of members) if (inRoom(client)) await client.setRooms([own(client, 7), own(client, -1.5)]);
await subscribed(...members);
// Streams: an official node that has come to know its first entry is past that.
await fence(nodes[0], nsp, members);

const except = { patchbay: "has strings only", patchbayEmitter: "has strings only" };

for (const [name, spec] of Object.entries({
  "a number": { to: [7] },
  "a negative fraction": { to: [-1.5] },
  "two numbers": { to: [7, -1.5] },
  "a number and a name": { to: [7, "nobody"] },
})) {
  fromEach(`numbers/emit to ${name}`, "emit", async (origin) => {
    const args = [Buffer.from("x"), 1];
    const seen = await observe(origin, nsp, () => origin.call("emit", { nsp, ...spec, event: "news", args }), members);
    for (const client of members) assert.deepEqual(seen[client.name], inRoom(client) ? [["news", ...args]] : [], client.name);
  }, { except });

  fromEach(`numbers/emit but for ${name}`, "emit", async (origin) => {
    const seen = await observe(origin, nsp, () => origin.call("emit", { nsp, except: spec.to, event: "news", args: [] }), members);
    for (const client of members) assert.deepEqual(seen[client.name], inRoom(client) ? [] : [["news"]], client.name);
  }, { except });

  fromEach(`numbers/acks of ${name}`, "emitWithAck", async (origin) => {
    const { timedOut, responses } = await origin.call("emitWithAck", { nsp, ...spec, timeout: 10_000, event: "ask", args: [] });
    assert.deepEqual([timedOut, responses.sort()], [false, members.filter(inRoom).map(({ name }) => name).sort()]);
  }, { except });

  fromEach(`numbers/fetch ${name}`, "fetchSockets", async (origin) => {
    const found = await origin.call("fetchSockets", { nsp, ...spec });
    assert.deepEqual(found.map(({ id }) => id).sort(), members.filter(inRoom).map(({ id }) => id).sort());
  }, { except });
}

fromEach("numbers/fetch all", "fetchSockets", async (origin) => {
  const found = await origin.call("fetchSockets", { nsp });
  const rooms = Object.fromEntries(found.map(({ id, rooms }) => [id, rooms.map(String).sort()]));
  assert.deepEqual(rooms, Object.fromEntries(members.map((c) => [c.id, [c.id, ...(inRoom(c) ? ["7", "-1.5"] : [])].sort()])));
});

fromEach("numbers/join and leave", "socketsJoin", async (origin) => {
  const rooms = async () => {
    const sockets = (await Promise.all(nodes.map((node) => node.call("sockets", { nsp })))).flat();
    return new Map(sockets.map(({ id, rooms }) => [id, rooms]));
  };
  const last = [key("last"), key("last")];
  await origin.call("socketsJoin", { nsp, to: [7], rooms: [8] });
  await origin.call("socketsJoin", { nsp, rooms: [last[0]] });
  let now = await until(rooms, (all) => [...all.values()].every((list) => list.includes(last[0])));
  for (const client of members) assert.equal(now.get(client.id).includes(own(client, 8)), inRoom(client), client.name);
  await origin.call("socketsLeave", { nsp, rooms: [8] });
  await origin.call("socketsJoin", { nsp, rooms: [last[1]] });
  now = await until(rooms, (all) => [...all.values()].every((list) => list.includes(last[1])));
  for (const client of members) assert.equal(now.get(client.id).includes(own(client, 8)), false, client.name);
}, { except });

each("numbers/rooms of ours", async () => {
  // What a node of ours is told, its clients are in, by name.
  for (const node of nodes.filter(({ kind }) => kind === "patchbay")) {
    const seen = await observe(node, nsp, () => node.call("emit", { nsp, to: ["7"], event: "news", args: [] }), members);
    for (const client of members) {
      assert.deepEqual(seen[client.name], inRoom(client) && !official(client) ? [["news"]] : [], client.name);
    }
  }
});
