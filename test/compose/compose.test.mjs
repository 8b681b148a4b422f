// docker-compose.yml for real: COMPOSE_BUS says whether on Redis or on PostgreSQL. Run it by scripts/compose-test.
import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { randomBytes } from "node:crypto";
import { after, before, test } from "node:test";
import { Cluster, docker, root, run, until } from "./cluster.mjs";
import { Crowd, modes } from "./clients.mjs";
import { playground, twoNodes } from "./tabs.mjs";

const bus = process.env.COMPOSE_BUS;
assert.ok(["redis", "postgres"].includes(bus), "COMPOSE_BUS is neither redis nor postgres: run scripts/compose-test");
const version = "v0.0.0-compose-test";
const nodes = ["gateway-1", "gateway-2", "gateway-3"];
const services = ["nginx", ...nodes, bus, "prometheus"];
const secret = () => randomBytes(16).toString("hex");
// One way with the defaults, the other with secrets, where one has what an URL would need encoded.
const secrets = bus === "redis" ? {} : { GATEWAY_PEER_SECRET: secret(), POSTGRES_PASSWORD: `${secret()}:/?#[]@%`, REDIS_PASSWORD: secret() };

let cluster;
let failed = false;

// A test that depends on those before it: the first that fails is the one to read.
function step(name, timeout, body) {
  test(name, { timeout }, async () => {
    assert.ok(!failed, "an earlier step has failed");
    try {
      await body();
    } catch (err) {
      failed = true;
      for (const s of [...services, "check-gateway-adapter"]) {
        const logs = await cluster.logs(s).catch((e) => e.message);
        console.error(`--- ${s}\n${logs.slice(-3000)}`);
      }
      throw err;
    }
  });
}

before(async () => {
  cluster = await Cluster.make(bus, {
    envFiles: bus === "postgres" ? ["deploy/compose/postgres.env"] : [],
    vars: { VERSION: version, COMMIT: "0123456789abcdef", ...secrets },
  });
});
after(() => cluster?.remove());

step("the image is built", 900_000, async () => {
  await cluster.compose(["build"], { timeout: 900_000 });
  const [image] = JSON.parse((await docker("image", "inspect", cluster.image)).stdout);
  assert.ok(image.Size < 25e6, `the image has ${image.Size} bytes`);
  assert.equal(image.Config.User, "65532:65532");
  assert.deepEqual(image.Config.Entrypoint, ["/gateway"]);
  assert.deepEqual(Object.keys(image.Config.ExposedPorts).sort(), ["3000/tcp", "9090/tcp"]);
  assert.deepEqual(image.Config.Healthcheck.Test, ["CMD", "/gateway", "health"]);
  assert.equal(image.Config.StopSignal, "SIGTERM");
  assert.equal(image.Config.Labels["org.opencontainers.image.version"], version);
  assert.equal(image.Config.Labels["org.opencontainers.image.revision"], "0123456789abcdef");
  const { stdout } = await docker("run", "--rm", "--read-only", "--network=none", "--cap-drop=ALL", cluster.image, "version", "-json");
  const said = JSON.parse(stdout);
  assert.equal(said.version, version);
  assert.equal(said.commit, "0123456789abcdef");
});

step("all is up and healthy within a minute", 120_000, async () => {
  const start = Date.now();
  await cluster.compose(["up", "--detach", "--wait"]);
  const took = Date.now() - start;
  console.log(`compose-test: up and healthy on ${bus} after ${took} ms`);
  assert.ok(took < 60_000, `${took} ms`);
  const want = Object.fromEntries(services.map((s) => [s, "running healthy"]));
  if (bus === "postgres") want["check-gateway-adapter"] = "exited 0";
  assert.deepEqual(await cluster.states(), want);
});

step("containers are held within limits, and only nginx is reached from outside", 60_000, async () => {
  for (const s of services) {
    const { Config, HostConfig, NetworkSettings } = await cluster.inspect(s);
    const networks = Object.keys(NetworkSettings.Networks).map((n) => n.replace(`${cluster.project}_`, "")).sort();
    assert.deepEqual(HostConfig.CapDrop, ["ALL"], s);
    assert.deepEqual(HostConfig.SecurityOpt, ["no-new-privileges:true"], s);
    assert.equal(HostConfig.RestartPolicy.Name, "unless-stopped", s);
    assert.ok(HostConfig.Memory > 0 && HostConfig.PidsLimit > 0, s);
    assert.deepEqual(HostConfig.LogConfig, { Type: "json-file", Config: { "max-size": "10m", "max-file": "3" } }, s);
    assert.equal(HostConfig.ReadonlyRootfs, s !== "postgres", s);
    assert.ok(Config.Healthcheck.Test.length > 1, s);
    assert.deepEqual(networks, { nginx: ["back", "front"], prometheus: ["back", "ops"] }[s] ?? ["back"], s);
    if (s === "nginx" || nodes.includes(s)) assert.ok(HostConfig.Ulimits[0].Soft >= 10_000, s);
  }
  const [back] = JSON.parse((await docker("network", "inspect", `${cluster.project}_back`)).stdout);
  assert.ok(back.Internal);

  // As a user has it: with no variable set, nginx alone is on all addresses.
  const { stdout } = await run("docker", ["compose", "--env-file", "/dev/null", "--profile", "*", "config", "--format", "json"], { env: cluster.env });
  const ports = Object.entries(JSON.parse(stdout).services).flatMap(([name, s]) => (s.ports ?? []).map((p) => `${name} ${p.host_ip ?? "*"}:${p.published}`));
  assert.deepEqual(ports.sort(), ["grafana 127.0.0.1:3001", "nginx *:8080", "prometheus 127.0.0.1:9091"]);

  // There is time to drain before Docker kills.
  for (const n of nodes) {
    const { Config } = await cluster.inspect(n);
    const seconds = (name) => Number(Config.Env.find((e) => e.startsWith(`${name}=`)).match(/=(\d+)s$/)[1]);
    assert.ok(Config.StopTimeout > seconds("GATEWAY_SHUTDOWN_DELAY") + seconds("GATEWAY_SHUTDOWN_TIMEOUT"), n);
  }
  const shell = await run("docker", ["exec", cluster.container("gateway-1"), "/bin/sh", "-c", "true"], { codes: [126, 127] });
  assert.match(shell.all, /no such file/);
});

step("the log warns of secrets that are public, and of no others", 30_000, async () => {
  for (const n of nodes) {
    const lines = (await cluster.logs(n)).split("\n").filter((l) => l.startsWith("{")).map((l) => JSON.parse(l));
    const warned = lines.filter((l) => l.msg === "development_secret").map((l) => l.name).sort();
    assert.deepEqual(warned, bus === "redis" ? ["GATEWAY_PEER_SECRET", "GATEWAY_REDIS_URL"] : [], n);
    assert.deepEqual(lines.filter((l) => l.msg === "unknown_variable").map((l) => l.name), [], n);
  }
});

step("the nodes say that they are well, from inside", 60_000, async () => {
  for (const n of nodes) {
    await cluster.compose(["exec", "-T", n, "/gateway", "health"]);
    await cluster.compose(["exec", "-T", n, "/gateway", "health", "-ready"]);
  }
});

step("gateway check, in a node's container, finds nothing in the way", 60_000, async () => {
  for (const n of nodes) {
    const { code, stdout } = await cluster.compose(["exec", "-T", n, "/gateway", "check", "-json", "-clients", "1000"], { codes: [0, 1] });
    assert.equal(code, 0, `${n}: ${stdout}`);
    const report = JSON.parse(stdout);
    assert.ok(report.ok && report.adapter === bus && report.build.version === version, stdout);
    assert.deepEqual(report.peers.map((p) => p.tag).sort(), nodes, n);
  }
});

step("Prometheus scrapes all three, and has the rules", 120_000, async () => {
  const up = await until(
    "three targets",
    () => cluster.prometheus(`query?query=${encodeURIComponent('up{job="patchbay"}')}`),
    ({ result }) => result.filter((r) => r.value[1] === "1").length === 3,
    60_000,
  );
  assert.deepEqual(up.result.map((r) => r.metric.instance).sort(), nodes);
  const { result } = await cluster.prometheus("query?query=patchbay_build_info");
  assert.deepEqual(result.map((r) => [r.metric.node, r.metric.version]).sort(), nodes.map((n) => [n, version]));
  const { groups } = await cluster.prometheus("rules");
  const written = existsSync(`${root}/deploy/prometheus/rules.yml`) ? readFileSync(`${root}/deploy/prometheus/rules.yml`, "utf8") : "";
  const names = (type) => groups.flatMap((g) => g.rules).filter((r) => r.type === type).map((r) => r.name).sort();
  assert.deepEqual(names("alerting"), [...written.matchAll(/^\s*- alert: *(\S+)/gm)].map((m) => m[1]).sort());
  assert.deepEqual(groups.flatMap((g) => g.rules).filter((r) => r.health === "err"), []);
});

for (const mode of Object.keys(modes)) {
  step(`stock clients meet in a room across nodes, by ${mode}`, 60_000, async () => {
    const crowd = new Crowd(cluster.url, `room ${mode}`, [mode], 12);
    try {
      await crowd.settled();
      assert.deepEqual([...crowd.nodes].sort(), nodes, "clients are on all nodes");
      await crowd.talk("hello");
      assert.deepEqual(crowd.clients.flatMap((c) => [...c.errors, ...c.disconnects]), []);
    } finally {
      crowd.close();
    }
  });
}

step("the playground works in Chromium", 300_000, () => playground(cluster.url));
step("two tabs on different nodes talk", 120_000, () => twoNodes(cluster.url));

step("a node that crashes comes back by its restart policy", 120_000, async () => {
  const crowd = new Crowd(cluster.url, "crash", Object.keys(modes), 8);
  try {
    await crowd.settled();
    await crowd.talk("before");
    const others = crowd.clients.filter((c) => c.node !== "gateway-2");
    assert.ok(others.length < crowd.clients.length && others.length > 0);
    // The restart policy does not heed what "docker kill" has killed. Its first process can be signalled from another container.
    await docker("run", "--rm", "--network=none", `--pid=container:${cluster.container("gateway-2")}`, "--entrypoint=/bin/sh", "redis:7-alpine", "-c", "kill -QUIT 1");
    const start = Date.now();
    await until("clients have noticed", () => crowd.clients.every((c) => others.includes(c) || c.disconnects.length > 0));
    await crowd.settled();
    console.log(`compose-test: clients of a crashed node are back after ${Date.now() - start} ms`);
    await crowd.talk("after");
    assert.deepEqual(others.flatMap((c) => [...c.errors, ...c.disconnects]), [], "clients of other nodes notice nothing");
    const { RestartCount } = await cluster.inspect("gateway-2");
    assert.equal(RestartCount, 1);
    await cluster.healthy("gateway-2");
  } finally {
    crowd.close();
  }
});

step("a node that was killed is started again, and gets clients", 120_000, async () => {
  const crowd = new Crowd(cluster.url, "kill", Object.keys(modes), 8);
  try {
    await crowd.settled();
    const others = crowd.clients.filter((c) => c.node !== "gateway-3");
    await docker("kill", cluster.container("gateway-3"));
    await until("clients have noticed", () => crowd.clients.every((c) => others.includes(c) || c.disconnects.length > 0));
    await crowd.settled();
    await crowd.talk("without it");
    assert.ok(!crowd.nodes.has("gateway-3"));
    assert.deepEqual(others.flatMap((c) => [...c.errors, ...c.disconnects]), [], "clients of other nodes notice nothing");
    await cluster.compose(["up", "--detach", "--wait", "--no-deps", "gateway-3"]);
    // nginx leaves a node alone for some seconds (fail_timeout) after it could not be reached.
    await until("it gets clients", async () => {
      const late = new Crowd(cluster.url, "kill", Object.keys(modes), 4);
      try {
        await late.settled();
        return late.nodes.has("gateway-3");
      } finally {
        late.close();
      }
    });
  } finally {
    crowd.close();
  }
});

step("a rolling restart loses no client", 300_000, async () => {
  const crowd = new Crowd(cluster.url, "rolling", Object.keys(modes), 10);
  try {
    await crowd.settled();
    await crowd.talk("before");
    for (const n of nodes) {
      await cluster.compose(["restart", n]);
      await cluster.healthy(n);
      await crowd.settled(60_000);
      await crowd.talk(`after ${n}`);
    }
    assert.deepEqual(crowd.clients.flatMap((c) => c.errors), [], "no client has met an error");
    assert.deepEqual(crowd.clients.filter((c) => c.disconnects.includes("io server disconnect")), []);
    const out = await cluster.logs("gateway-1");
    assert.match(out, /"msg":"stopped"/);
  } finally {
    crowd.close();
  }
});

step("nginx starts while a node is down", 120_000, async () => {
  await cluster.compose(["stop", "gateway-1"]);
  await cluster.compose(["restart", "nginx"]);
  await cluster.healthy("nginx");
  const crowd = new Crowd(cluster.url, "two of three", Object.keys(modes), 4);
  try {
    await crowd.settled();
    await crowd.talk("hello");
    assert.deepEqual(crowd.clients.flatMap((c) => c.errors), []);
  } finally {
    crowd.close();
  }
  await cluster.compose(["up", "--detach", "--wait", "--no-deps", "gateway-1"]);
});

if (process.env.COMPOSE_GRAFANA) {
  step("the profile observability adds Grafana with the dashboard", 180_000, async () => {
    await cluster.compose(["--profile", "observability", "up", "--detach", "--wait", "--no-deps", "grafana"]);
    const ask = async (path) => {
      const answer = await fetch(`http://127.0.0.1:${cluster.grafanaPort}/api/${path}`, { headers: { authorization: `Basic ${btoa("admin:patchbay-development-only")}` } });
      return answer.json();
    };
    const { uid } = JSON.parse(readFileSync(`${root}/deploy/grafana/patchbay.json`, "utf8"));
    const found = await until("the dashboard", () => ask("search?type=dash-db"), (list) => list.length > 0);
    assert.deepEqual(found.map((d) => d.uid), [uid]);
    assert.equal((await ask("datasources/uid/prometheus/health")).status, "OK");
    await cluster.compose(["rm", "--stop", "--force", "--volumes", "grafana"]);
  });
}

step("all ends in time, in good order, with clients on", 180_000, async () => {
  const crowd = new Crowd(cluster.url, "end", Object.keys(modes), 8);
  try {
    await crowd.settled();
    const start = Date.now();
    await cluster.compose(["stop"]);
    const took = Date.now() - start;
    console.log(`compose-test: stopped on ${bus} after ${took} ms`);
    const ours = services.filter((s) => s !== bus); // PostgreSQL's code is that of what has started it
    const codes = {};
    for (const s of ours) codes[s] = (await cluster.inspect(s)).State.ExitCode;
    assert.deepEqual(codes, Object.fromEntries(ours.map((s) => [s, 0])));
    assert.ok(took < 45_000, `${took} ms`);
  } finally {
    crowd.close();
  }
});

step("down leaves nothing but volumes, and those go with --volumes", 120_000, async () => {
  const left = async (kind) => (await docker(kind, "ls", ...(kind === "container" ? ["-a"] : []), "-q", "--filter", `label=com.docker.compose.project=${cluster.project}`)).stdout.split("\n").filter(Boolean).length;
  await cluster.compose(["down"]);
  assert.deepEqual([await left("container"), await left("network"), await left("volume")], [0, 0, bus === "redis" ? 1 : 2]);
  await cluster.compose(["down", "--volumes"]);
  assert.equal(await left("volume"), 0);
});

// Neither half of the switch does anything alone.
if (bus === "redis") {
  step("--profile postgres while the nodes are on Redis fails, and says why", 120_000, async () => {
    const up = await cluster.compose(["--profile", "postgres", "up", "--detach", "--wait"], { codes: [1] });
    assert.match(up.all, /check-gateway-adapter.* didn't complete successfully/);
    const states = await cluster.states();
    for (const n of nodes) assert.equal(states[n], "created 0");
    assert.match(await cluster.logs("check-gateway-adapter"), /GATEWAY_ADAPTER is redis.*\n.*deploy\/compose\/postgres\.env/);
    await cluster.compose(["--profile", "postgres", "down", "--volumes"]);
  });

  step("GATEWAY_ADAPTER=postgres without the profile fails", 180_000, async () => {
    await cluster.compose(["up", "--detach", "--wait"], { codes: [1], env: { ...cluster.env, GATEWAY_ADAPTER: "postgres" } });
    const states = await cluster.states();
    assert.equal(states.nginx, "created 0");
    assert.match(await cluster.logs("gateway-1"), /postgres/);
    await cluster.compose(["down", "--volumes"]);
  });
}
