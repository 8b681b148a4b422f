// A process that only emits, by an official emitter: the ops of README.md as far as that has them.
import { adapters } from "./adapters.mjs";
import { serve } from "./wire.mjs";

let emitter;

function select({ nsp, to, except, volatile, compress }) {
  let b = emitter.of(nsp ?? "/").to(to ?? []);
  if (except) b = b.except(except);
  if (volatile) b = b.volatile;
  if (compress === false) b = b.compress(false);
  return b;
}

const ops = {
  async listen({ adapter, bus }) {
    emitter = await adapters[adapter].emitter(bus);
    return { ops: Object.keys(ops) };
  },
  emit: (p) => void select(p).emit(p.event, ...p.args),
  socketsJoin: (p) => void select(p).socketsJoin(p.rooms),
  socketsLeave: (p) => void select(p).socketsLeave(p.rooms),
  disconnectSockets: (p) => void select(p).disconnectSockets(p.close),
  serverSideEmit: ({ nsp, event, args }) => void emitter.of(nsp ?? "/").serverSideEmit(event, ...args),
  close: () => {},
};

serve(ops);
