// What every test file shares: the servers under test, one test per transport, clients and proxies that clean up.
import assert from "node:assert/strict";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { io } from "socket.io-client";
import { Proxy } from "./proxy.mjs";

if (!process.env.CONFORMANCE_URLS) {
  throw new Error("CONFORMANCE_URLS is not set: run `go test ./test/conformance`");
}
export const urls = JSON.parse(process.env.CONFORMANCE_URLS);

// The test binary holds our standard input: when it goes, so do we. Until then it keeps nobody alive.
process.stdin.on("end", () => process.exit(1)).resume().unref();

const differences = JSON.parse(readFileSync(new URL("differences.json", import.meta.url)));

/** What the target under test does at a deliberate difference, by its heading in docs/compatibility.md. */
export function expected(slug) {
  const value = differences[slug]?.[process.env.CONFORMANCE_TARGET];
  assert.notEqual(value, undefined, `differences.json does not say ${slug}`);
  return value;
}

export const modes = { polling: ["polling"], websocket: ["websocket"], upgrade: ["polling", "websocket"] };

let unfinished = 0;

/** Defines one test per transport, named name/mode. The time limit is ours: after its own, Node runs no hooks. */
export function each(name, run, { only = Object.keys(modes), timeout = 20_000 } = {}) {
  for (const mode of only) {
    unfinished++;
    test(`${name}/${mode}`, async () => {
      const bench = new Bench(mode);
      let timer;
      const late = new Promise((_, reject) => {
        timer = setTimeout(() => reject(new Error(`not done after ${timeout} ms`)), timeout);
      });
      try {
        await Promise.race([run(bench), late]);
      } finally {
        clearTimeout(timer);
        for (const f of bench.cleanups.reverse()) f();
        // A client that was closed in the middle of an upgrade, or a request that nobody answers, would keep us alive.
        if (--unfinished === 0) setTimeout(() => process.exit(), 1000).unref();
      }
    });
  }
}

let unique = 0;
export const key = (prefix = "key") => `${prefix}-${process.pid}-${unique++}`;

/** Settles with the arguments of the next event of a socket.io emitter. */
export function next(emitter, event) {
  return new Promise((resolve) => emitter.once(event, (...args) => resolve(args)));
}

/** Collects the arguments of every event from now on; `at(n)` settles when n have arrived. */
export function collect(emitter, event) {
  const seen = [];
  const waiting = [];
  emitter.on(event, (...args) => {
    seen.push(args);
    for (const w of waiting.splice(0)) w();
  });
  seen.reached = async (n) => {
    while (seen.length < n) await new Promise((resolve) => waiting.push(resolve));
    return seen;
  };
  return seen;
}

/** Asks again until the answer satisfies; the test's own timeout is the limit. */
export async function until(question, satisfies = Boolean) {
  for (;;) {
    const answer = await question();
    if (satisfies(answer)) return answer;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/** An emit answered by an acknowledgement of any number of values. */
export function call(socket, event, ...args) {
  return new Promise((resolve) => socket.emit(event, ...args, (...values) => resolve(values)));
}

export async function upgraded(engine) {
  if (engine.transport.name !== "websocket") await next(engine, "upgrade");
}

export class Bench {
  cleanups = [];

  constructor(mode) {
    this.mode = mode;
    this.transports = modes[mode];
  }

  /** A client that was told to connect and may not have done so yet. */
  client(nsp = "/", { server = "main", url = urls[server], ...options } = {}) {
    const socket = io(url + nsp, {
      transports: this.transports,
      forceNew: true,
      reconnectionDelay: 50,
      reconnectionDelayMax: 100,
      ...options,
    });
    this.cleanups.push(() => socket.io._close());
    return socket;
  }

  /** A connected client, on its final transport. */
  async connect(nsp, options) {
    const socket = this.client(nsp, options);
    await this.ready(socket);
    return socket;
  }

  async ready(socket) {
    await new Promise((resolve, reject) => {
      if (socket.connected) return resolve();
      socket.once("connect", resolve);
      socket.once("connect_error", reject);
    });
    await this.settled(socket);
  }

  /** Waits for the upgrade, in the mode that has one. */
  async settled(socket) {
    const { engine, opts } = socket.io;
    if (this.mode === "upgrade" && opts.upgrade !== false) await upgraded(engine);
  }

  /** A connected client whose upgrade is under way and will take a while; `upgrading` settles when the probe is answered. */
  async connectSlowly({ server, ...options } = {}) {
    const proxy = await this.proxy(server);
    proxy.delay = (head) => (/^upgrade: websocket/im.test(head) ? 100 : 0);
    const socket = this.client("/", { url: proxy.url, ...options });
    const upgrading = next(socket.io.engine, "upgrading");
    await next(socket, "connect");
    return { socket, proxy, upgrading };
  }

  /** Waits until the client is back, on its final transport, and the server knows. */
  async back(socket) {
    await next(socket, "connect");
    await this.settled(socket);
    await call(socket, "ack");
  }

  /** What the fixture logged under a key, once it satisfies. */
  async log(observer, name, satisfies) {
    return until(async () => (await call(observer, "recorded", name))[0], satisfies);
  }

  /** A proxy in front of a server; its url stands in for the server's. */
  async proxy(server = "main") {
    const proxy = new Proxy(new URL(urls[server]).port);
    await proxy.listen();
    this.cleanups.push(() => proxy.close());
    return proxy;
  }
}

export { assert, once };
