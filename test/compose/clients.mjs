// Stock clients that talk through the relay, and know what has become of their connections.
import { createRequire } from "node:module";
import { until } from "./cluster.mjs";

const { io } = createRequire(new URL("../conformance/package.json", import.meta.url))("socket.io-client");

export const modes = { polling: ["polling"], websocket: ["websocket"], upgrade: ["polling", "websocket"] };

export class Client {
  heard = new Set();
  disconnects = [];
  errors = [];
  joined = false;

  constructor(url, mode, room) {
    this.mode = mode;
    this.room = room;
    this.socket = io(url, { transports: modes[mode], forceNew: true, reconnectionDelay: 200, reconnectionDelayMax: 1000 });
    this.socket.on("connect", () => this.join());
    this.socket.on("disconnect", (reason) => {
      this.joined = false;
      this.disconnects.push(reason);
    });
    this.socket.on("connect_error", (err) => this.errors.push(`${err.message}: ${err.description?.status ?? err.description?.message ?? ""} ${err.context?.responseText ?? ""}`));
    this.socket.on("message", (text) => this.heard.add(text));
  }

  async join() {
    try {
      const answer = await this.socket.timeout(10_000).emitWithAck("join", this.room);
      if (!answer.ok) throw new Error(answer.error);
      this.joined = true;
    } catch (err) {
      if (this.socket.connected) this.errors.push(`join: ${err.message}`); // else it joins when it is back
    }
  }

  get node() {
    return this.socket.io.engine?.id?.split(".").at(-1);
  }

  get settled() {
    return this.joined && this.socket.connected && (this.mode !== "upgrade" || this.socket.io.engine.transport.name === "websocket");
  }

  async publish(text) {
    const answer = await this.socket.timeout(10_000).emitWithAck("publish", this.room, "message", text);
    if (!answer.ok) throw new Error(answer.error);
  }
}

export class Crowd {
  constructor(url, room, modesOf, each) {
    this.clients = modesOf.flatMap((mode) => Array.from({ length: each }, () => new Client(url, mode, room)));
  }

  settled(patience) {
    return until("clients connected, upgraded and joined", () => this.clients.filter((c) => !c.settled).map((c) => [c.mode, c.socket.connected, c.errors.slice(-2)]), (left) => left.length === 0, patience);
  }

  /** Every client says something, and every other one hears it, once all have joined. */
  async talk(round) {
    await Promise.all(this.clients.map((c, i) => c.publish(`${round} ${i}`)));
    await until(`all hear all in ${round}`, () => this.clients.flatMap((c, i) => this.clients.map((_, j) => [i, j]).filter(([, j]) => j !== i && !c.heard.has(`${round} ${j}`))), (missing) => missing.length === 0);
  }

  get nodes() {
    return new Set(this.clients.map((c) => c.node));
  }

  /** What clients were told of, from now on. */
  forget() {
    for (const c of this.clients) c.errors.length = c.disconnects.length = 0;
  }

  close() {
    for (const c of this.clients) c.socket.disconnect();
  }
}
