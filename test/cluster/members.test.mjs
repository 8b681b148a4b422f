// Nodes that come and go.
import { adapter, assert, clients, connect, counted, each, fence, nodes, observe, spawn, subscribed } from "./fleet.mjs";

for (const kind of new Set(nodes.map((node) => node.kind))) {
  each(`members/comes and goes/${kind}`, async () => {
    const extra = await spawn(kind);
    try {
      await comeAndGo(extra);
    } finally {
      extra.process.kill("SIGKILL"); // if it is still there
    }
  });
}

async function comeAndGo(extra) {
  const everyone = [...nodes, extra];
  await counted(everyone, "/", everyone.length);
  const client = await connect(extra, { name: "extra", rooms: ["red"] });
  const members = [...clients(), client];
  await subscribed(...members);
  if (adapter.startsWith("streams")) {
    // An official node may miss entries until it has read its first.
    while (!client.log.length) {
      await nodes[0].call("emit", { event: "warm", args: [] });
      for (let i = 0; i < 20 && !client.log.length; i++) await new Promise((resolve) => setTimeout(resolve, 5));
    }
    await fence(nodes[0], "/", members);
  }
  for (const origin of everyone) {
    const seen = await observe(origin, "/", () => origin.call("emit", { to: ["red"], event: "news", args: [1] }), members);
    for (const member of members) assert.deepEqual(seen[member.name], member.in("red") ? [["news", 1]] : [], member.name);
    const { timedOut, responses } = await origin.call("emitWithAck", { timeout: 10_000, event: "ask", args: [] });
    assert.deepEqual([timedOut, responses.sort()], [false, members.map((member) => member.name).sort()], origin.name);
    assert.equal((await origin.call("fetchSockets")).length, members.length);
  }

  const gone = new Promise((resolve) => client.socket.once("disconnect", resolve));
  await extra.call("close");
  assert.equal(await gone, "transport close");
  assert.equal(await extra.end(), 0);
  client.close();
  // Nobody waits for it any longer.
  for (const nsp of ["/", "/chat", "/cha"]) await counted(nodes, nsp, nodes.length);
  await Promise.all(nodes.map(async (node) => {
    const started = performance.now();
    const { timedOut, responses } = await node.call("emitWithAck", { timeout: 10_000, event: "ask", args: [] });
    assert.deepEqual([timedOut, responses.sort()], [false, clients().map((member) => member.name).sort()]);
    assert.equal((await node.call("fetchSockets")).length, clients().length);
    assert.ok(performance.now() - started < 2000);
  }));
}
