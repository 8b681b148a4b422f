// Requests of official servers before 8.0, on classic Redis pub/sub: what official nodes answer, ours do.
import { adapter, assert, clients, each, key, nodes, redis, until } from "./fleet.mjs";

if (adapter.startsWith("classic")) {
  const requests = "socket.io-request#/#";
  const uid = "legacy";
  const responses = [];
  const subscriber = await redis.duplicate().connect();
  subscriber.unref();
  // By a pattern, which does not count: nobody takes it for a node.
  await subscriber.pSubscribe("socket.io-response#/#*", (message, channel) => {
    if (message[0] === "{") responses.push({ channel, ...JSON.parse(message) });
  });

  /** Asks, and returns what count nodes answer. */
  const ask = async (request, count) => {
    const requestId = key("legacy");
    await redis.publish(requests, JSON.stringify({ uid, requestId, ...request }));
    const answered = () => responses.filter((response) => response.requestId === requestId);
    await until(answered, (list) => list.length >= count);
    // What all nodes answer is behind what one may have said too much.
    const fence = key("legacy");
    await redis.publish(requests, JSON.stringify({ uid, requestId: fence, type: 1 }));
    await until(() => responses.filter((response) => response.requestId === fence), (list) => list.length === nodes.length);
    assert.equal(answered().length, count);
    return answered();
  };
  const roomsOf = async (client) => {
    const sockets = await nodes[client.node].call("sockets");
    return sockets.find(({ id }) => id === client.id).rooms;
  };

  for (const rooms of [[], ["red"], ["red", "green"], ["nobody"], ["only-1"]]) {
    each(`legacy/sockets in ${rooms}`, async () => {
      const answers = await ask({ type: 0, rooms }, nodes.length);
      const wanted = clients().filter((client) => rooms.length === 0 || rooms.some((room) => client.in(room)));
      assert.deepEqual(answers.flatMap(({ sockets }) => sockets).sort(), wanted.map(({ id }) => id).sort());
    });
  }

  each("legacy/rooms", async () => {
    const answers = await ask({ type: 1 }, nodes.length);
    const wanted = new Set(clients().flatMap((client) => [client.id, ...client.rooms]));
    assert.deepEqual([...new Set(answers.flatMap(({ rooms }) => rooms))].sort(), [...wanted].sort());
  });

  each("legacy/join and leave", async () => {
    for (const client of clients()) {
      const room = key("legacy");
      const [joined] = await ask({ type: 2, sid: client.id, room }, 1);
      assert.equal((await roomsOf(client)).includes(room), true, client.name);
      const [left] = await ask({ type: 3, sid: client.id, room }, 1);
      assert.equal((await roomsOf(client)).includes(room), false, client.name);
      for (const { channel, requestId, ...more } of [joined, left]) {
        const specific = adapter === "classic-specific" ? `${uid}#` : "";
        assert.equal(channel, `socket.io-response#/#${specific}`, client.name);
        // Ours tell who they are.
        delete more.uid;
        assert.deepEqual(more, {}, client.name);
      }
    }
  });

  each("legacy/nobody has it", async () => {
    for (const type of [2, 3, 4]) assert.deepEqual(await ask({ type, sid: "nobody", room: "red", close: true }, 0), []);
  });
}
