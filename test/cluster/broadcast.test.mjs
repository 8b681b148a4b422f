// Who gets what is emitted to many, and who does not.
import { adapter, assert, clients, each, expected, fence, fromEach, key, nodes, observe, oddRooms, origins } from "./fleet.mjs";

const id = (name) => clients().find((client) => client.name === name).id;

const selections = {
  "all": {},
  "a room": { to: ["red"] },
  "a room on one node": { to: ["only-1"] },
  "a room of polling clients": { to: ["green"] },
  "two rooms": { to: ["red", "blue"] },
  "rooms on different nodes": { to: ["only-0", "only-1"] },
  "a room that nobody is in": { to: ["nobody"] },
  "a room but for another": { to: ["red"], except: ["blue"] },
  "all but a room": { except: ["blue"] },
  "all but two rooms": { except: ["blue", "green"] },
  "all but a room that nobody is in": { except: ["nobody"] },
  "a room but for itself": { to: ["red"], except: ["red"] },
  "a socket": { to: [id("b1")] },
  "two sockets": { to: [id("a0"), id("c1")] },
  "a socket and a room": { to: [id("a0"), "only-1"] },
  "all but a socket": { except: [id("b1")] },
  "a room but for a socket": { to: ["red"], except: [id("b0")] },
  "nodes' own clients": { local: true },
  "nodes' own clients in a room": { local: true, to: ["red"] },
  "websockets, volatile": { volatile: true, except: ["green"] },
  "a room, volatile": { volatile: true, to: ["blue"] },
  "all, not compressed": { compress: false },
};
for (const room of oddRooms) {
  selections[`room ${room}`] = { to: [room] };
  selections[`all but room ${room}`] = { except: [room] };
}

for (const [name, spec] of Object.entries(selections)) {
  const except = spec.local ? { officialEmitter: "has no clients of its own", patchbayEmitter: "the same" } : {};
  fromEach(`broadcast/to ${name}`, "emit", async (origin) => {
    const seen = await observe(origin, "/", () => origin.call("emit", { ...spec, event: "news", args: [name, 1] }));
    assert.deepEqual(seen, expected("/", spec, origin, ["news", name, 1]));
  }, { except });
}

// From the handler of a client's event, the client is left out.
const relayed = {
  "others": {},
  "others in a room": { to: ["red"] },
  "others in two rooms": { to: ["red", "blue"] },
  "others but a room": { except: ["blue"] },
  "others in a room but for another": { to: ["red"], except: ["blue"] },
  "others on the node": { local: true },
  "another socket": { to: [id("b1")] },
  "itself": { to: [id("b0"), id("b1")] },
};
for (const [name, spec] of Object.entries(relayed)) {
  fromEach(`broadcast/by a client to ${name}`, "sockets", async (origin) => {
    const sender = clients().find((client) => client.node === origin.index && client.name.startsWith("b"));
    const args = [name, Buffer.from([1, 2]), { date: "x" }];
    const seen = await observe(origin, "/", () => sender.ask("relay", spec, "news", ...args));
    assert.deepEqual(seen, expected("/", { ...spec, from: sender.id }, origin, ["news", ...args]));
  });
}

each("broadcast/in order", async () => {
  const count = 150;
  const ways = [{}, { to: ["red"] }, { to: ["red", "blue"] }, { except: ["green"] }, { volatile: true }];
  for (const client of clients()) client.log.length = 0;
  const event = key("burst");
  await Promise.all([...nodes, ...origins.filter((origin) => !nodes.includes(origin))].map(async (origin) => {
    for (let i = 0; i < count; i++) {
      const pad = i % 7 === 0 ? Buffer.alloc(100, i) : "x".repeat(i % 11 === 0 ? 9000 : i % 50);
      const way = ways[i % ways.length];
      // A client that is behind may miss a volatile event.
      origin.call("emit", { ...way, event: way.volatile ? "volatile" : event, args: [origin.name, i, pad] });
    }
    await fence(origin);
  }));
  const senders = new Map([...nodes, ...origins].map((origin) => [origin.name, origin]));
  for (const client of clients()) {
    for (const [sender, { kind }] of senders) {
      const got = client.log.filter(([name, from]) => name === event && from === sender).map(([, , i]) => i);
      const wanted = [];
      for (let i = 0; i < count; i++) {
        const { to, except = [], volatile } = ways[i % ways.length];
        if (!volatile && (!to || to.some((room) => client.in(room))) && !except.some((room) => client.in(room))) wanted.push(i);
      }
      // On PostgreSQL official nodes keep no order between what is small and what is not, neither as senders nor as receivers.
      const shuffled = adapter.startsWith("postgres") && [kind, nodes[client.node].kind].some((kind) => kind.startsWith("official"));
      assert.deepEqual(shuffled ? got.sort((a, b) => a - b) : got, wanted, `to ${client.name} from ${sender}`);
    }
  }
});
