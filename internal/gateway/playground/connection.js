// One connection to a gateway and what the relay answers on it. No DOM here: everything seen is reported to `on`.
import { duration } from './view.js';

const joinTimeout = 5000;
const publishTimeout = 10000;
const defaults = { delay: 1000, delayMax: 5000, jitter: 0.5 }; // those of the stock client
const fallbackPayload = 1e6;
const connectPacket = 0;

const transports = {
  polling: ['polling'],
  websocket: ['websocket'],
  upgrade: ['polling', 'websocket'],
};

export class Connection {
  #manager;
  #socket;
  #on;
  #established = false;
  #lost = 0;
  #id = '';
  #offsets = false;
  #maxPayload = fallbackPayload;

  // settings: server, transport, namespace, name, token.
  // on: state(state, detail), note(kind, text), connected(again, recovered), upgraded(), trouble(text), message(m), presence(p).
  constructor(settings, on) {
    this.#on = on;
    const auth = { user: settings.name };
    if (settings.token) auth.token = settings.token;
    // A manager of our own, not io(url): the namespace then needs no escaping, and nothing is shared with an earlier connection.
    this.#manager = new window.io.Manager(settings.server, { transports: transports[settings.transport], autoConnect: false });
    this.#socket = this.#manager.socket(settings.namespace, { auth });
    this.#watchManager(settings.namespace);
    this.#watchSocket();
    on.state('connecting');
    on.note('info', `Connecting to ${settings.server}${settings.namespace} over ${transports[settings.transport].join(', then ')}`);
    this.#socket.connect();
    this.#watchEngine();
  }

  get id() { return this.#id; } // kept while the connection is lost
  get connected() { return this.#socket.connected; }
  get transport() { return this.#manager.engine?.transport?.name ?? ''; }
  get node() { return nodeOf(this.#manager.engine?.id); }

  // The largest file one packet may carry. Long-polling sends binary as base64, four bytes for three.
  get fileLimit() {
    const room = this.#maxPayload - 4096;
    return this.transport === 'polling' ? Math.floor(room / 4) * 3 : room;
  }

  join(room) { return this.#request(joinTimeout, 'join', room); }
  leave(room) { return this.#request(joinTimeout, 'leave', room); }
  publish(room, event, ...args) { return this.#request(publishTimeout, 'publish', room, event, ...args); }

  // cut closes the transport under the session, as a lost network would.
  cut(backAfter) {
    this.#backoff(backAfter ? { delay: backAfter, delayMax: Math.max(backAfter, defaults.delayMax), jitter: 0 } : { ...defaults, delay: 100 });
    this.#on.note('warn', backAfter ? `Cut on request, back in ${duration(backAfter)}` : 'Cut on request');
    this.#manager.engine.close();
  }

  close() {
    this.#on = null;
    this.#socket.disconnect();
  }

  async #request(timeout, ...args) {
    // Without this check the client would buffer the request, and send it before the room is joined again.
    if (!this.connected) throw new Error('not connected');
    const start = performance.now();
    let answer;
    try {
      answer = await this.#socket.timeout(timeout).emitWithAck(...args);
    } catch (err) {
      if (this.connected) throw new NoAnswer(args[0]);
      throw new Error('the connection was lost before the answer');
    }
    if (answer?.ok !== true) throw new Error(String(answer?.error ?? 'the answer is not one of a relay'));
    return { answer, rtt: performance.now() - start };
  }

  #backoff({ delay, delayMax, jitter }) {
    this.#manager.reconnectionDelayMax(delayMax);
    this.#manager.reconnectionDelay(delay);
    this.#manager.randomizationFactor(jitter);
  }

  // Each connection has an engine of its own. It is watched before it opens: the handshake is announced only once.
  #watchEngine() {
    const engine = this.#manager.engine;
    engine.on('handshake', ({ maxPayload }) => { this.#maxPayload = maxPayload || fallbackPayload; });
    engine.on('upgrade', (transport) => {
      this.#on?.note('ok', `Upgraded to ${transport.name}`);
      this.#on?.upgraded();
    });
    engine.on('upgradeError', (err) => this.#on?.note('warn', `Upgrade failed, staying on ${this.transport}: ${err.message}`));
  }

  #watchManager(namespace) {
    this.#manager.on('open', () => this.#backoff(defaults));
    this.#manager.on('reconnect_attempt', (attempt) => {
      this.#on?.state('reconnecting', attempt);
      this.#on?.note('info', `Reconnect attempt ${attempt}`);
      queueMicrotask(() => this.#watchEngine()); // the manager makes the engine right after this event
    });
    // A private id in the CONNECT packet says that recovery is on, and that events end in an offset.
    this.#manager.on('packet', ({ type, nsp, data }) => {
      if (type === connectPacket && nsp === namespace) this.#offsets = typeof data?.pid === 'string';
    });
    this.#manager.on('ping', () => this.#on?.note('quiet', 'Heartbeat from the server, answered'));
  }

  #watchSocket() {
    this.#socket.on('connect', () => {
      const recovered = this.#socket.recovered;
      this.#id = this.#socket.id;
      const where = `${this.#socket.id} on ${this.node || 'an unnamed node'}, ${this.transport}`;
      if (!this.#established) {
        this.#on?.note('ok', `Connected as ${where}`);
      } else if (recovered) {
        this.#on?.note('ok', `Session recovered after ${duration(performance.now() - this.#lost)}, still ${where}`);
      } else {
        this.#on?.note('warn', `New session after ${duration(performance.now() - this.#lost)}: ${where}`);
      }
      const again = this.#established;
      this.#established = true;
      this.#on?.state(recovered ? 'recovered' : 'connected');
      this.#on?.connected(again, recovered);
    });
    this.#socket.on('disconnect', (reason, details) => {
      this.#lost = performance.now();
      this.#on?.note('bad', `Disconnected: ${reason}${details?.description ? ` (${details.description})` : ''}`);
      if (this.#socket.active) this.#on?.state('reconnecting', 0);
      else this.#on?.state('closed', `The server ended the session: ${reason}`);
    });
    this.#socket.on('connect_error', (err) => {
      const text = explain(err);
      this.#on?.note('bad', `Could not connect: ${text}`);
      // An inactive socket was refused by the server itself; everything else is tried again.
      if (this.#socket.active) this.#on?.trouble(text);
      else this.#on?.state('refused', text);
    });
    this.#socket.onAny((event, ...args) => this.#receive(event, args));
  }

  #receive(event, args) {
    // With recovery the client hands on the packet's offset as a last argument of its own.
    if (this.#offsets && typeof args.at(-1) === 'string') args.pop();
    const meta = isMeta(args.at(-1)) ? args.pop() : null;
    if (event === 'presence' && !meta && args[0]?.member) this.#on?.presence(args[0]);
    else this.#on?.message({ event, args, meta });
  }
}

// NoAnswer tells a request that nobody answered from one that was refused.
export class NoAnswer extends Error {
  constructor(request) {
    super(`nobody answered “${request}” in time`);
  }
}

function nodeOf(id) {
  id ??= ''; // a closed engine has none
  const dot = id.indexOf('.');
  return dot < 0 ? '' : id.slice(dot + 1);
}

function isMeta(value) {
  return typeof value === 'object' && value !== null && typeof value.room === 'string' && typeof value.from === 'string';
}

// Engine errors say only "xhr poll error"; what the gateway answered is in their context.
function explain(err) {
  const parts = [err.message];
  if (typeof err.data === 'string') parts.push(err.data);
  else if (err.data?.message) parts.push(String(err.data.message));
  const body = err.context?.responseText;
  if (body) {
    try {
      parts.push(String(JSON.parse(body).message));
    } catch {
      parts.push(`HTTP ${err.description}`);
    }
  }
  return parts.join(': ').slice(0, 300);
}
