// Stands in for @socket.io/redis-streams-emitter 0.1.1, which the registry does not have: the same entries, with the fields
// in the same order.
import { encode } from "@msgpack/msgpack";

const hasBinary = (v) =>
  v !== null && typeof v === "object" && (ArrayBuffer.isView(v) || v instanceof ArrayBuffer || Object.values(v).some(hasBinary));

export class StreamsEmitter {
  constructor(client, nsp = "/", opts = { rooms: [], flags: {}, except: [] }) {
    Object.assign(this, { client, nsp, opts });
  }

  #with(change) {
    return new StreamsEmitter(this.client, this.nsp, { ...this.opts, ...change });
  }

  of(nsp) {
    return new StreamsEmitter(this.client, nsp);
  }

  to(rooms) {
    return this.#with({ rooms: [...this.opts.rooms, ...rooms] });
  }

  except(rooms) {
    return this.#with({ except: [...this.opts.except, ...rooms] });
  }

  get volatile() {
    return this.#with({ flags: { ...this.opts.flags, volatile: true } });
  }

  compress(compress) {
    return this.#with({ flags: { ...this.opts.flags, compress } });
  }

  emit(...data) {
    return this.#add(3, { packet: { type: 2, data, nsp: this.nsp }, opts: this.opts });
  }

  socketsJoin(rooms) {
    return this.#add(4, { opts: { ...this.opts, flags: {} }, rooms });
  }

  socketsLeave(rooms) {
    return this.#add(5, { opts: { ...this.opts, flags: {} }, rooms });
  }

  disconnectSockets(close) {
    return this.#add(6, { opts: { ...this.opts, flags: {} }, close });
  }

  serverSideEmit(...packet) {
    return this.#add(9, { packet });
  }

  #add(type, data) {
    const text = hasBinary(data) ? Buffer.from(encode(data)).toString("base64") : JSON.stringify(data);
    return this.client.xAdd("socket.io", "*", { uid: "emitter", nsp: this.nsp, type: `${type}`, data: text }, {
      TRIM: { strategy: "MAXLEN", strategyModifier: "~", threshold: 10_000 },
    });
  }
}
