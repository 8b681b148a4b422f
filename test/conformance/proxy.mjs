// A TCP proxy that misbehaves on request: cuts, stalls, delays, holds back chosen connections.
import { once } from "node:events";
import { connect, createServer } from "node:net";

const END = Symbol("end");

/** Resets a connection. One that is being shut down is only destroyed: Node 20 would never finish at its own end. */
function reset(socket) {
  if (socket.writableEnded) socket.destroy();
  else socket.resetAndDestroy();
}

/** One direction of a connection: chunks leave in the order they came, each no earlier than its time. */
class Lane {
  constructor(proxy, pair, from, to) {
    Object.assign(this, { proxy, pair, from, to, queue: [], timer: null });
    from.on("data", (chunk) => this.push(chunk));
    from.on("end", () => this.push(END));
  }

  push(chunk) {
    this.queue.push({ chunk, due: Date.now() + this.proxy.delay(this.pair.head) });
    if (this.proxy.stalled) this.from.pause();
    this.drain();
  }

  drain() {
    if (this.proxy.stalled || this.timer || this.to.destroyed) return;
    while (this.queue.length > 0) {
      const wait = this.queue[0].due - Date.now();
      if (wait > 0) {
        this.timer = setTimeout(() => {
          this.timer = null;
          this.drain();
        }, wait);
        return;
      }
      const { chunk } = this.queue.shift();
      if (chunk === END) this.to.end();
      else this.to.write(chunk);
      this.pair.passed(this.from, chunk);
    }
    this.from.resume();
  }
}

/** A connection of a client and ours to the server. */
class Pair {
  head = "";
  upstream = null;
  lanes = [];
  /** Whether it is an open WebSocket or a poll that the server holds: its end will be noticed by both sides. */
  live = false;

  constructor(client) {
    this.client = client;
  }

  passed(from, chunk) {
    if (chunk === END) return;
    if (from === this.upstream) this.live = this.websocket;
    else if (!this.websocket) this.live = chunk.toString("latin1", 0, 4) === "GET ";
  }

  get websocket() {
    return /^upgrade: websocket/im.test(this.head);
  }
}

export class Proxy {
  /** Milliseconds that the next chunk spends on the way; it is given the first chunk of the connection. */
  delay = () => 0;
  /** Whether a new connection, judged by its first chunk, never gets through to the server. */
  hold = () => false;
  /** Whether new connections are dropped at once. */
  refuse = false;
  stalled = false;
  #pairs = new Set();

  constructor(port) {
    this.port = port;
    this.server = createServer((client) => this.#accept(client));
  }

  async listen() {
    this.server.listen(0, "127.0.0.1");
    await once(this.server, "listening");
    this.url = `http://127.0.0.1:${this.server.address().port}`;
  }

  #accept(client) {
    client.on("error", () => {});
    if (this.refuse) return reset(client);
    client.setNoDelay();
    const pair = new Pair(client);
    this.#pairs.add(pair);
    client.on("close", () => {
      this.#pairs.delete(pair);
      pair.upstream?.destroy();
    });
    client.once("data", (head) => {
      pair.head = head.toString("latin1");
      if (this.hold(pair.head)) return;
      const upstream = connect(this.port, "127.0.0.1");
      upstream.setNoDelay();
      upstream.on("error", () => {});
      upstream.on("close", () => {
        if (pair.lanes[1].queue.length === 0) client.destroy(); // else the queued end closes it
      });
      pair.upstream = upstream;
      pair.lanes = [new Lane(this, pair, client, upstream), new Lane(this, pair, upstream, client)];
      pair.lanes[0].push(head);
    });
  }

  /** Resets every connection on both sides, at a moment when that ends the session, and may refuse those that follow. */
  async cut({ refuse = false } = {}) {
    while (![...this.#pairs].some((pair) => pair.live)) await new Promise((resolve) => setTimeout(resolve, 5));
    this.refuse = refuse;
    this.reset();
  }

  reset() {
    for (const { client, upstream } of this.#pairs) {
      reset(client);
      if (upstream) reset(upstream);
    }
  }

  /** Bytes stop moving in both directions, connections stay open. */
  stall() {
    this.stalled = true;
    for (const { lanes } of this.#pairs) for (const lane of lanes) lane.from.pause();
  }

  unstall() {
    this.stalled = false;
    for (const { lanes } of this.#pairs) for (const lane of lanes) lane.drain();
  }

  close() {
    this.refuse = true;
    this.reset();
    this.server.close();
  }
}
