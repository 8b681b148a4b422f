// The cluster of docker-compose.yml in a project of its own: up, down, and what Docker knows of it.
import { spawn } from "node:child_process";
import { createServer } from "node:net";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

export const root = fileURLToPath(new URL("../..", import.meta.url));

/** Runs a program to its end. It rejects if that is not 0, unless `codes` allows it. */
export function run(program, args, { codes = [0], timeout = 600_000, env = process.env, cwd = root } = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { cwd, env, stdio: ["ignore", "pipe", "pipe"], timeout });
    let stdout = "";
    let all = "";
    child.stdout.setEncoding("utf8").on("data", (s) => ((stdout += s), (all += s)));
    child.stderr.setEncoding("utf8").on("data", (s) => (all += s));
    child.on("error", reject);
    child.on("close", (code, signal) => {
      if (codes.includes(code)) resolve({ code, stdout, all });
      else reject(new Error(`${program} ${args.join(" ")}: ${signal ?? code}\n${all.slice(-8000)}`));
    });
  });
}

export const docker = (...args) => run("docker", args);

/** Asks again until the answer satisfies. */
export async function until(what, question, satisfies = Boolean, patience = 30_000) {
  const end = Date.now() + patience;
  for (;;) {
    let answer;
    try {
      answer = await question();
      if (satisfies(answer)) return answer;
    } catch (err) {
      answer = err;
    }
    if (Date.now() > end) throw new Error(`${what}: not within ${patience} ms, last: ${answer instanceof Error ? answer.stack : JSON.stringify(answer)}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

function freePort() {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.on("error", reject).listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}

/** A /24 that no network of this engine has, and no other run of this test is likely to take. */
async function freeNet() {
  const ids = (await docker("network", "ls", "-q")).stdout.split("\n").filter(Boolean);
  const format = "{{range .IPAM.Config}}{{.Subnet}} {{end}}";
  const taken = ids.length ? (await docker("network", "inspect", "-f", format, ...ids)).stdout : "";
  for (let i = 0; i < 200; i++) {
    const net = `10.214.${(process.pid + i) % 250}`;
    if (!taken.includes(`${net}.`)) return net;
  }
  throw new Error("no network is free");
}

/** What a process may open in a container: as many files as the compose file says, or what this engine can give. */
async function files() {
  const wanted = 131072;
  const image = "redis:7-alpine";
  const able = await run("docker", ["run", "--rm", "--network=none", `--ulimit=nofile=${wanted}`, "--entrypoint=/bin/true", image], { codes: [0, 125, 126, 127] });
  if (able.code === 0) return wanted;
  const { stdout } = await run("sh", ["-c", "ulimit -Hn"]);
  console.log(`compose-test: this engine cannot raise the limit of files to ${wanted}; ${stdout.trim()} instead`);
  return Number(stdout);
}

export class Cluster {
  static async make(name, { profiles = [], envFiles = [], vars = {} } = {}) {
    const c = new Cluster();
    c.project = `patchbay-test-${name}-${process.pid}`;
    c.port = await freePort();
    c.prometheusPort = await freePort();
    c.grafanaPort = await freePort();
    c.net = await freeNet();
    c.image = `${c.project}/gateway:test`;
    c.vars = {
      PATCHBAY_PORT: `127.0.0.1:${c.port}`, // here too, only loopback
      PROMETHEUS_PORT: c.prometheusPort,
      GRAFANA_PORT: c.grafanaPort,
      PATCHBAY_NET: c.net,
      PATCHBAY_NOFILE: await files(),
      PATCHBAY_IMAGE: c.image,
      ...vars,
    };
    c.dir = mkdtempSync(join(tmpdir(), "compose-test-"));
    const file = join(c.dir, "env");
    writeFileSync(file, Object.entries(c.vars).map(([k, v]) => `${k}=${v}\n`).join(""));
    c.options = ["-p", c.project, ...[...envFiles, file].flatMap((f) => ["--env-file", f]), ...profiles.flatMap((p) => ["--profile", p])];
    // What a developer has set is not what is tested, and would win over the files.
    c.env = Object.fromEntries(Object.entries(process.env).filter(([k]) => !/^(GATEWAY_|PATCHBAY_|COMPOSE_|REDIS_|POSTGRES_|PROMETHEUS_|GRAFANA_|VERSION$|COMMIT$)/.test(k)));
    return c;
  }

  get url() {
    return `http://127.0.0.1:${this.port}`;
  }

  compose(args, options) {
    return run("docker", ["compose", ...this.options, ...args], { env: this.env, ...options });
  }

  container(service) {
    return `${this.project}-${service}-1`;
  }

  async inspect(service) {
    return JSON.parse((await docker("inspect", this.container(service))).stdout)[0];
  }

  /** The state of each service, by its name. */
  async states() {
    const { stdout } = await this.compose(["ps", "-a", "--format", "json"]);
    const rows = stdout.trim().split("\n").filter(Boolean).map((line) => JSON.parse(line));
    return Object.fromEntries(rows.map((r) => [r.Service, r.Health ? `${r.State} ${r.Health}` : `${r.State} ${r.ExitCode}`]));
  }

  /** Waits until a service is up and healthy. */
  healthy(service, patience) {
    return until(`${service} healthy`, () => this.inspect(service), (i) => i.State.Health?.Status === "healthy", patience);
  }

  async logs(service) {
    return (await this.compose(["logs", "--no-log-prefix", "--no-color", service])).all;
  }

  async prometheus(path) {
    const answer = await fetch(`http://127.0.0.1:${this.prometheusPort}/api/v1/${path}`);
    const body = await answer.json();
    if (body.status !== "success") throw new Error(JSON.stringify(body));
    return body.data;
  }

  /** Removes all that the project has made. */
  async remove() {
    await this.compose(["--profile", "*", "down", "--volumes", "--remove-orphans", "--timeout", "5"]);
    await run("docker", ["image", "rm", this.image], { codes: [0, 1] });
    rmSync(this.dir, { recursive: true });
  }
}
