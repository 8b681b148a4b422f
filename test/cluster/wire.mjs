// The control protocol of README.md, both ends of it: lines of JSON over a process's standard input and output.
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";

/** What JSON cannot say becomes an object with one key that begins with a dollar sign. */
export function encode(v) {
  switch (typeof v) {
    case "undefined":
      return { $undefined: true };
    case "number":
      return Number.isFinite(v) && !Object.is(v, -0) ? v : { $number: Object.is(v, -0) ? "-0" : `${v}` };
    case "object":
      if (v === null) return null;
      if (Array.isArray(v)) return v.map(encode);
      if (Buffer.isBuffer(v)) return { $bytes: v.toString("base64") };
      if (v instanceof Uint8Array) return { $uint8: Buffer.from(v).toString("base64") };
      if (v instanceof Date) return { $date: v.getTime() };
      return Object.fromEntries(Object.entries(v).map(([key, value]) => [key, encode(value)]));
    default:
      return v;
  }
}

export function decode(v) {
  if (v === null || typeof v !== "object") return v;
  if (Array.isArray(v)) return v.map(decode);
  const [[key, value] = []] = Object.entries(v);
  switch (key) {
    case "$undefined":
      return undefined;
    case "$number":
      return Number(value);
    case "$bytes":
      return Buffer.from(value, "base64");
    case "$uint8":
      return new Uint8Array(Buffer.from(value, "base64"));
    case "$date":
      return new Date(value);
    default:
      return Object.fromEntries(Object.entries(v).map(([key, value]) => [key, decode(value)]));
  }
}

/** Answers requests from standard input until that ends, and then ends the process. */
export function serve(ops) {
  const answer = (message) => process.stdout.write(`${JSON.stringify(message)}\n`);
  createInterface({ input: process.stdin })
    .on("line", async (line) => {
      const { id, op, ...params } = JSON.parse(line);
      try {
        if (!ops[op]) throw new Error(`no such op: ${op}`);
        answer({ id, result: encode(await ops[op](decode(params))) });
      } catch (e) {
        answer({ id, error: e.message });
      }
    })
    .on("close", () => process.exit());
}

/** A process that answers requests. */
export class Peer {
  #pending = new Map();
  #next = 0;

  constructor(name, command, args, env = {}) {
    this.name = name;
    // Its standard input ends with us, however we end, and it with that.
    this.process = spawn(command, args, { stdio: ["pipe", "pipe", "inherit"], env: { ...process.env, ...env } });
    this.ended = new Promise((resolve) => {
      this.process.on("error", (error) => resolve(error.message));
      this.process.on("close", (code, signal) => resolve(signal ?? code));
    });
    this.ended.then((how) => {
      for (const { reject } of this.#pending.values()) reject(new Error(`${name} has ended: ${how}`));
      this.#pending.clear();
    });
    this.process.stdin.on("error", () => {}); // told by its end
    createInterface({ input: this.process.stdout }).on("line", (line) => {
      const { id, result, error } = JSON.parse(line);
      const { resolve, reject } = this.#pending.get(id);
      this.#pending.delete(id);
      if (error === undefined) resolve(decode(result));
      else reject(new Error(`${name}: ${error}`));
    });
  }

  call(op, params = {}) {
    return new Promise((resolve, reject) => {
      const id = this.#next++;
      this.#pending.set(id, { resolve, reject });
      const given = Object.fromEntries(Object.entries(params).filter(([, value]) => value !== undefined));
      this.process.stdin.write(`${JSON.stringify({ id, op, ...encode(given) })}\n`);
    });
  }

  /** Lets it go; settles with its exit code or the signal that ended it. */
  end() {
    this.process.stdin.end();
    return this.ended;
  }
}
