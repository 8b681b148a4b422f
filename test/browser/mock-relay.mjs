// The relay's contract on the official server: the control against which the playground is developed and tested.
//
//   node mock-relay.mjs [--port 3000] [--no-relay]
import { createReadStream, fstatSync } from 'node:fs';
import { createServer } from 'node:http';
import { fileURLToPath } from 'node:url';
import { Server } from 'socket.io';

const files = new Map([
  ['/', ['index.html', 'text/html; charset=utf-8']],
  ['/playground.css', ['playground.css', 'text/css; charset=utf-8']],
  ['/playground.js', ['playground.js', 'text/javascript; charset=utf-8']],
  ['/connection.js', ['connection.js', 'text/javascript; charset=utf-8']],
  ['/view.js', ['view.js', 'text/javascript; charset=utf-8']],
  ['/icon.svg', ['icon.svg', 'image/svg+xml']],
]);
const playground = new URL('../../internal/gateway/playground/', import.meta.url);
const policy = "default-src 'self'; connect-src *; img-src 'self' blob: data:";
// A peer that publishes one of these would fire the receiver's own life-cycle listeners.
const reserved = new Set(['connect', 'connect_error', 'disconnect', 'disconnecting', 'newListener', 'removeListener']);

export async function startMock({ port = 0, relay = true } = {}) {
  const http = createServer((req, res) => {
    const file = files.get(new URL(req.url, 'http://localhost').pathname);
    if (!file) return res.writeHead(404).end();
    res.writeHead(200, { 'Content-Type': file[1], 'Content-Security-Policy': policy });
    createReadStream(fileURLToPath(new URL(file[0], playground))).pipe(res);
  });
  const io = new Server(http, { connectionStateRecovery: {}, serveClient: true });

  // Sessions take turns, so that two tabs are on two nodes as behind a balancer.
  const generateId = io.engine.generateId;
  let handshakes = 0;
  io.engine.generateId = async (req) => `${await generateId.call(io.engine, req)}.mock-${'ab'[handshakes++ % 2]}`;

  if (relay) for (const name of ['/', '/chat']) serveRelay(io.of(name));
  await new Promise((resolve) => http.listen(port, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${http.address().port}`,
    close: () => new Promise((resolve) => io.close(resolve)),
  };
}

function serveRelay(namespace) {
  const member = (socket) => ({
    id: socket.id,
    user: socket.data.user,
    node: socket.conn.id.split('.')[1],
    transport: socket.conn.transport.name,
  });
  const joined = (socket) => [...socket.rooms].filter((room) => room !== socket.id);
  const announce = (socket, room, action) => socket.to(room).emit('presence', { room, action, member: member(socket) });

  namespace.use((socket, next) => {
    if (socket.handshake.auth.token === 'refuse me') return next(new Error('token refused'));
    socket.data.user = String(socket.handshake.auth.user ?? 'anonymous');
    next();
  });

  namespace.on('connection', (socket) => {
    if (socket.recovered) for (const room of joined(socket)) announce(socket, room, 'join');

    socket.on('join', async (room, ack) => {
      if (typeof room !== 'string' || room.length < 1 || room.length > 128) {
        return ack({ ok: false, error: 'a room has 1 to 128 characters' });
      }
      const back = socket.rooms.has(room);
      socket.join(room);
      if (!back) announce(socket, room, 'join');
      const members = [];
      for (const id of namespace.adapter.rooms.get(room)) members.push(member(namespace.sockets.get(id)));
      ack({ ok: true, room, members });
    });
    socket.on('leave', (room, ack) => {
      if (socket.rooms.has(room)) {
        announce(socket, room, 'leave');
        socket.leave(room);
      }
      ack({ ok: true, room });
    });
    socket.on('publish', (room, event, ...args) => {
      const ack = args.pop();
      if (!socket.rooms.has(room)) return ack({ ok: false, error: 'join the room first' });
      if (typeof event !== 'string' || reserved.has(event)) return ack({ ok: false, error: 'this event name is reserved' });
      const { id, user, node } = member(socket);
      socket.to(room).emit(event, ...args, { room, from: id, user, node, time: Date.now() });
      ack({ ok: true });
    });
    socket.on('disconnecting', () => {
      for (const room of joined(socket)) announce(socket, room, 'leave');
    });
  });
}

/** Calls stop when the standard input ends, if it is a pipe: then a test binary holds it, and has gone. */
export function endWithParent(stop) {
  if (fstatSync(0).isFIFO()) process.stdin.on('end', stop).resume().unref();
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const flag = process.argv.indexOf('--port');
  const port = flag < 0 ? 0 : Number(process.argv[flag + 1]);
  const mock = await startMock({ port, relay: !process.argv.includes('--no-relay') });
  console.log(mock.url);
  const stop = () => mock.close().then(() => process.exit(0));
  for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, stop);
  endWithParent(stop);
}
