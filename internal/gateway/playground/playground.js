// The playground: what the page shows and how it answers its buttons. The wire is in connection.js.
import { Connection, NoAnswer } from './connection.js';
import { $, avatar, badge, clip, clock, duration, h, millis, nodeBadge, pretty, randomName, size, transportBadge } from './view.js';

const maxEntries = 500;
const maxFileBytes = 64e6; // kept for download, all rooms together
const maxTimeline = 200;
const pingEvery = 5000;
const upgradeTakes = 1500; // a newcomer's transport is asked for once more after this
const sparkPoints = 40;
// Only these are shown and typed; anything else a peer calls its file stays an opaque download.
const imageTypes = new Set(['image/png', 'image/jpeg', 'image/gif', 'image/webp', 'image/avif']);

const transportHints = {
  polling: 'Long-polling only, as behind a proxy that knows no WebSocket.',
  websocket: 'WebSocket from the first byte.',
  upgrade: 'Long-polling at first, then a WebSocket: the default of every client.',
};

let connection = null;
let state = 'idle';
let active = ''; // name of the room shown
let rooms = new Map(); // name -> { name, state, members: Map, unread, entries: [] }
let entries = []; // all rooms, oldest first
let outbox = []; // own messages that wait for their room
let settings = {};
const counts = { in: 0, out: 0, reconnects: 0, recovered: 0 };
const latencies = [];

/* ---------- set-up and link ---------- */

function radio(name) {
  return document.querySelector(`input[name="${name}"]:checked`).value;
}

function readLink() {
  const link = new URLSearchParams(location.hash.length > 1 ? location.hash.slice(1) : location.search);
  $('server').value = link.get('server') ?? '';
  $('server').placeholder = location.origin;
  $('namespace').value = link.get('namespace') ?? '/';
  $('name').value = link.get('name') ?? randomName();
  const transport = link.get('transport');
  if (transport in transportHints) document.querySelector(`input[name="transport"][value="${transport}"]`).checked = true;
  const wanted = link.getAll('room').filter(validRoom);
  for (const name of wanted.length ? wanted : ['lobby']) addRoom(name);
  show(rooms.keys().next().value);
  showTransportHint();
  return link.size > 0;
}

function readForm() {
  const namespace = $('namespace').value.trim() || '/';
  return {
    server: ($('server').value.trim() || location.origin).replace(/\/+$/, ''),
    transport: radio('transport'),
    namespace: namespace.startsWith('/') ? namespace : `/${namespace}`,
    name: $('name').value.trim() || randomName(),
    token: $('token').value.trim(),
  };
}

// The token is a secret and stays out of the link. An invitation leaves out the name too: the other tab is someone else.
function link(withName) {
  const form = readForm();
  const params = new URLSearchParams();
  for (const name of rooms.keys()) params.append('room', name);
  params.set('namespace', form.namespace);
  params.set('transport', form.transport);
  if (form.server !== location.origin) params.set('server', form.server);
  if (withName) params.set('name', form.name);
  return `${location.origin}${location.pathname}#${params}`;
}

function updateLink() {
  history.replaceState(null, '', link(true));
  $('second-tab').href = link(false);
}

function showTransportHint() {
  $('transport-hint').textContent = transportHints[radio('transport')];
}

async function copyLink() {
  const button = $('copy-link');
  try {
    await navigator.clipboard.writeText(link(false));
    button.textContent = 'Copied';
  } catch {
    button.textContent = 'Copy the address bar';
  }
  setTimeout(() => { button.textContent = 'Copy link'; }, 2000);
}

/* ---------- connection ---------- */

function connect() {
  if (!window.io) {
    notice('The Socket.IO client could not be loaded from /socket.io/socket.io.min.js. Is this page served by a gateway?');
    return;
  }
  settings = readForm();
  if (!URL.canParse(settings.server)) {
    notice('The server is not an address like https://gateway.example.com.');
    return;
  }
  $('name').value = settings.name;
  $('namespace').value = settings.namespace;
  updateLink();
  notice('');
  connection = new Connection(settings, { state: setState, note, connected, upgraded, trouble, message, presence });
}

function disconnect() {
  connection?.close();
  connection = null;
  setState('idle');
  note('info', 'Disconnected on request');
}

const stateTexts = {
  idle: 'Not connected',
  connecting: 'Connecting…',
  connected: 'Connected',
  recovered: 'Recovered',
  reconnecting: 'Reconnecting…',
  refused: 'Refused',
  closed: 'Closed by the server',
};

function setState(next, detail) {
  state = next;
  const open = next === 'connected' || next === 'recovered';
  $('status').dataset.state = next;
  $('status-text').textContent = next === 'reconnecting' && detail > 0 ? `Reconnecting, attempt ${detail}` : stateTexts[next];
  showWhere();
  if (next === 'refused' || next === 'closed') {
    notice(next === 'refused' ? `The server refused the connection: ${detail}` : detail);
    connection?.close();
    connection = null;
  } else if (open) {
    notice('');
  }
  const busy = connection !== null || next === 'connecting';
  $('settings').disabled = busy;
  $('connect').textContent = busy ? 'Disconnect' : 'Connect';
  $('connect').classList.toggle('primary', !busy);
  $('cut').disabled = !open;
  $('members').classList.toggle('stale', !open);
  for (const room of rooms.values()) {
    if (open) continue; // connected() joins them
    room.state = 'waiting';
    if (!busy) room.members.clear();
  }
  showRoom();
}

function showWhere() {
  const open = state === 'connected' || state === 'recovered';
  for (const [id, kind, value] of [['status-node', 'node', connection?.node], ['status-transport', 'transport', connection?.transport]]) {
    const made = badge(value || 'none', kind);
    $(id).hidden = !open || !value;
    $(id).className = made.className;
    $(id).textContent = made.textContent;
  }
}

function connected(again, recovered) {
  if (again) counts.reconnects++;
  if (again && recovered) counts.recovered++;
  if (!again && matchMedia('(max-width: 760px)').matches) showPanel('chat');
  showCounts();
  // Also after a recovery, when the server has put us back into our rooms: others may have moved meanwhile.
  for (const room of rooms.values()) enter(room);
}

function upgraded() {
  showWhere();
  for (const room of rooms.values()) if (room.state === 'joined') enter(room);
}

function trouble(text) {
  notice(`Cannot reach the server: ${text}. Trying again.`);
}

function notice(text) {
  $('notice').hidden = !text;
  $('notice-text').textContent = text;
}

/* ---------- rooms ---------- */

function validRoom(name) {
  const length = [...name].length;
  return length >= 1 && length <= 128;
}

function addRoom(name) {
  if (!rooms.has(name)) rooms.set(name, { name, state: 'waiting', members: new Map(), unread: 0, entries: [] });
  return rooms.get(name);
}

// enter joins a room, or asks for its members again when it is joined already.
async function enter(room) {
  const via = connection;
  if (room.state !== 'joined') room.state = 'joining';
  showRoom();
  try {
    const { answer, rtt } = await via.join(room.name);
    if (via !== connection || !rooms.has(room.name)) return;
    if (room.state !== 'joined') note('ok', `Joined ${room.name} in ${duration(rtt)}`);
    room.state = 'joined';
    room.members = new Map(answer.members.map(memberOf).map((member) => [member.id, member]));
    if (!room.members.has(via.id)) room.members.set(via.id, { id: via.id, user: settings.name, node: via.node });
    room.members.get(via.id).transport = via.transport;
    measured(rtt);
    flush(room);
    showRoom();
  } catch (err) {
    if (via !== connection || !via?.connected || !rooms.has(room.name)) return;
    if (room.state === 'joined') {
      note('warn', `No answer from ${room.name}: ${err.message}`);
    } else {
      room.state = 'failed';
      note('bad', `Could not join ${room.name}: ${err.message}`);
      notice(err instanceof NoAnswer
        ? 'This gateway has no relay: nobody answered “join”. Start it with GATEWAY_RELAY=true to let clients talk to each other.'
        : `Could not join ${room.name}: ${err.message}`);
    }
    showRoom();
  }
}

function joinRoom(name) {
  if (!validRoom(name)) {
    notice('A room name has 1 to 128 characters.');
    return;
  }
  const known = rooms.has(name);
  const room = addRoom(name);
  show(name);
  updateLink();
  if (connection?.connected && (!known || room.state !== 'joined')) enter(room);
}

async function leaveRoom(name) {
  const room = rooms.get(name);
  rooms.delete(name);
  for (const entry of room.entries) dropEntry(entry);
  entries = entries.filter((entry) => entry.room !== room);
  outbox = outbox.filter((waiting) => waiting.room !== room);
  show(rooms.keys().next().value ?? '');
  updateLink();
  if (room.state !== 'joined') return;
  try {
    const { rtt } = await connection.leave(name);
    note('info', `Left ${name} in ${duration(rtt)}`);
  } catch (err) {
    note('warn', `Left ${name}, but ${err.message}`);
  }
}

function show(name) {
  active = name;
  const room = rooms.get(name);
  if (room) room.unread = 0;
  $('log').replaceChildren(...(room?.entries.map((entry) => entry.element) ?? []));
  scrollDown();
  showRoom();
  ping();
}

function showRoom() {
  const room = rooms.get(active);
  showTabs();
  showMembers(room);
  $('leave').disabled = !room;
  $('send').disabled = !room || !connection;
  $('welcome').hidden = Boolean(room?.entries.length);
  const alone = room?.state === 'joined';
  $('welcome-title').textContent = alone ? `This is ${room.name}` : 'Two tabs, one room';
  $('welcome-text').textContent = alone
    ? 'Open a second tab from the same link, or send it to a colleague, and say hello.'
    : 'Connect, then open a second tab from the same link. Whatever one says the other hears, whichever node each is on.';
  const unread = [...rooms.values()].reduce((sum, { unread }) => sum + unread, 0);
  document.title = unread ? `(${unread}) Patchbay playground` : 'Patchbay playground';
}

function showTabs() {
  const focused = document.activeElement?.closest('#tabs') ? document.activeElement.dataset.room : null;
  $('tabs').replaceChildren(...[...rooms.values()].map((room) => {
    const selected = room.name === active;
    const tab = h('button', { type: 'button', role: 'tab', 'aria-selected': String(selected), 'aria-controls': 'room-panel', tabIndex: selected ? 0 : -1 },
      h('span', { className: 'room-dot', 'aria-hidden': 'true' }),
      h('span', { className: 'room-name' }, room.name),
      room.unread ? h('span', { className: 'unread', 'aria-label': `${room.unread} unread` }, String(room.unread)) : null);
    tab.dataset.room = room.name;
    tab.dataset.state = room.state;
    tab.title = room.state === 'joined' ? 'Joined' : room.state === 'failed' ? 'Not joined' : 'Joins as soon as the connection is up';
    return tab;
  }));
  if (focused !== null) $('tabs').querySelector('[aria-selected="true"]')?.focus();
}

function showMembers(room) {
  const me = connection?.id;
  const members = [...(room?.members.values() ?? [])].sort((a, b) => (b.id === me) - (a.id === me) || a.user.localeCompare(b.user) || a.id.localeCompare(b.id));
  $('member-count').textContent = members.length;
  $('members-title').textContent = room ? `In ${room.name}` : 'In the room';
  $('members-empty').hidden = members.length > 0;
  $('members').replaceChildren(...members.map((member) => {
    const item = h('li', {},
      avatar(member.user, member.id),
      h('div', { className: 'who' },
        h('p', {}, h('span', { className: 'name' }, member.user), member.id === me ? h('span', { className: 'you' }, 'you') : null),
        h('p', { className: 'where' }, nodeBadge(member.node), transportBadge(member.transport), h('code', { title: member.id }, member.id.slice(0, 6)))));
    item.dataset.id = member.id;
    return item;
  }));
}

function memberOf({ id, user, node, transport }) {
  return { id: String(id), user: String(user || 'anonymous'), node: String(node ?? ''), transport: String(transport ?? '') };
}

let refresh;
function presence({ room: name, action, member: announced }) {
  const room = rooms.get(name);
  const member = memberOf(announced);
  if (!room || member.id === connection?.id) return;
  const known = room.members.has(member.id);
  const here = action !== 'leave'; // join, or update when the transport has changed
  if (here) room.members.set(member.id, member);
  else room.members.delete(member.id);
  if (action === 'join') {
    clearTimeout(refresh);
    refresh = setTimeout(ping, upgradeTakes);
  }
  if (known !== here) {
    const text = `${member.user} ${here ? 'joined' : 'left'}`;
    note('info', `${text} ${name}`);
    addEntry(room, h('p', { className: 'system' }, h('span', {}, text), nodeBadge(member.node), transportBadge(member.transport), clock()));
  }
  showRoom();
}

/* ---------- messages ---------- */

function message({ event, args, meta }) {
  counts.in++;
  showCounts();
  const room = rooms.get(meta?.room ?? active);
  if (!room) return;
  if (meta && !room.members.has(meta.from) && room.state === 'joined') {
    room.members.set(meta.from, memberOf({ id: meta.from, user: meta.user, node: meta.node }));
    showMembers(rooms.get(active));
  }
  const late = state === 'reconnecting'; // what a recovery replays comes before its CONNECT
  const from = meta ? { ...memberOf({ ...meta, id: meta.from }), time: meta.time } : { id: 'server', user: 'Server push' };
  const entry = makeEntry(from, body(event, args), late ? h('span', { className: 'late' }, 'delivered after recovery') : null);
  addEntry(room, entry.element, entry.file);
  if (room.name !== active || document.hidden) {
    room.unread++;
    showRoom();
  }
}

// body turns an event into what is shown of it. Apps in the same room may send anything.
function body(event, args) {
  const [first, second] = args;
  if (event === 'text' && typeof first === 'string' && args.length === 1) return { element: h('p', { className: 'text' }, clip(first)) };
  if (event === 'file' && second instanceof ArrayBuffer) return fileBody(first, second);
  const value = args.length === 1 ? first : args;
  const pre = h('pre', { tabIndex: 0 }, pretty(value));
  return { element: h('div', { className: 'json' }, event === 'json' ? null : h('span', { className: 'event' }, event), pre) };
}

function fileBody(info, bytes) {
  const name = String(info?.name ?? 'file').slice(0, 120) || 'file';
  const image = imageTypes.has(info?.type);
  const url = URL.createObjectURL(new Blob([bytes], { type: image ? info.type : 'application/octet-stream' }));
  const download = h('a', { className: 'file', href: url, download: name },
    h('span', { className: 'file-icon', 'aria-hidden': 'true' }, '↓'),
    h('span', { className: 'file-name' }, name),
    h('span', { className: 'file-size' }, size(bytes.byteLength)));
  const element = h('div', {}, image ? h('img', { className: 'preview', src: url, alt: name }) : null, download);
  element.querySelector('img')?.addEventListener('load', keepDown);
  const file = {
    size: bytes.byteLength,
    release() {
      URL.revokeObjectURL(url);
      element.replaceChildren(h('p', { className: 'hint' }, `${name} (${size(bytes.byteLength)}) is no longer kept.`));
    },
  };
  return { element, file };
}

function makeEntry(from, { element: content, file }, footer) {
  const element = h('article', { className: from.own ? 'message own' : 'message' },
    avatar(from.user, from.id),
    h('div', { className: 'bubble' },
      h('header', {}, h('span', { className: 'name' }, from.own ? 'You' : from.user), nodeBadge(from.node), clock(from.time)),
      content,
      footer));
  return { element, file };
}

function addEntry(room, element, file) {
  const entry = { room, element, file };
  room.entries.push(entry);
  entries.push(entry);
  if (room.name === active) {
    $('log').append(element);
    $('welcome').hidden = true;
    if (following) scrollDown();
    else $('newer').hidden = false;
  }
  while (entries.length > maxEntries) {
    const oldest = entries.shift();
    oldest.room.entries.shift();
    dropEntry(oldest);
  }
  let bytes = entries.reduce((sum, { file }) => sum + (file?.size ?? 0), 0);
  for (const old of entries) {
    if (bytes <= maxFileBytes) break;
    if (!old.file) continue;
    bytes -= old.file.size;
    old.file.release();
    old.file = null;
  }
}

function dropEntry(entry) {
  entry.element.remove();
  entry.file?.release();
}

function atBottom() {
  const log = $('log');
  return log.scrollHeight - log.scrollTop - log.clientHeight < 80;
}

// While the reader is at the end, what makes the log longer or its window smaller must not take them away from it.
let following = true;
function keepDown() {
  if (following) scrollDown();
}

function scrollDown() {
  following = true;
  $('log').scrollTop = $('log').scrollHeight;
  $('newer').hidden = true;
}

/* ---------- sending ---------- */

function post(event, ...args) {
  const room = rooms.get(active);
  const ack = h('span', { className: 'ack' });
  setAck(ack, 'sending', 'sending…');
  const { element, file } = makeEntry({ own: true, id: connection.id, user: settings.name, node: connection.node }, body(event, args), ack);
  addEntry(room, element, file);
  scrollDown();
  const own = { room, event, args, ack };
  if (room.state === 'joined' && connection.connected) transmit(own);
  else {
    setAck(ack, 'waiting', 'waiting for the connection');
    outbox.push(own);
  }
}

async function transmit({ room, event, args, ack }) {
  setAck(ack, 'sending', 'sending…');
  counts.out++;
  showCounts();
  try {
    const { rtt } = await connection.publish(room.name, event, ...args);
    setAck(ack, 'ok', `acknowledged in ${duration(rtt)}`);
    measured(rtt);
  } catch (err) {
    setAck(ack, 'failed', `not confirmed: ${err.message}`);
    note('warn', `Message to ${room.name} not confirmed: ${err.message}`);
  }
}

function flush(room) {
  const ready = outbox.filter((own) => own.room === room);
  outbox = outbox.filter((own) => own.room !== room);
  for (const own of ready) transmit(own);
}

function setAck(ack, kind, text) {
  ack.dataset.state = kind;
  ack.textContent = text;
}

async function send() {
  composerError('');
  if (!rooms.has(active) || !connection) return composerError('Connect and join a room first.');
  const kind = radio('kind');
  if (kind === 'text') {
    const text = $('text').value.trim();
    if (!text) return composerError('There is nothing to send.');
    if (new Blob([text]).size > connection.fileLimit) return composerError(`The text is too long: ${size(connection.fileLimit)} fit into one message.`);
    $('text').value = '';
    post('text', text);
  } else if (kind === 'json') {
    const value = parseJSON();
    if (value === undefined) return $('json').focus();
    if (new Blob([$('json').value]).size > connection.fileLimit) return composerError(`The JSON is too long: ${size(connection.fileLimit)} fit into one message.`);
    post('json', value);
  } else {
    const [file] = $('file').files;
    if (!file) return composerError('Choose a file first.');
    if (!fits(file)) return;
    post('file', { name: file.name, type: file.type, size: file.size }, await file.arrayBuffer());
    $('file').value = '';
    chooseFile();
  }
}

function parseJSON() {
  const text = $('json').value;
  try {
    const value = JSON.parse(text);
    composerError('');
    $('json').removeAttribute('aria-invalid');
    return value;
  } catch (err) {
    composerError(text.trim() ? `This is not JSON: ${err.message}` : 'There is nothing to send.');
    $('json').setAttribute('aria-invalid', 'true');
    return undefined;
  }
}

function fits(file) {
  const limit = connection?.fileLimit ?? Infinity;
  if (file.size <= limit) return true;
  composerError(`${file.name} has ${size(file.size)}. One message carries ${size(limit)} at most${connection.transport === 'polling' ? ' over polling, where binary travels as base64' : ''}.`);
  return false;
}

function chooseFile() {
  composerError('');
  const [file] = $('file').files;
  $('file-name').textContent = file ? `${file.name}, ${size(file.size)}` : 'Choose a file, or drop it here';
  if (file) fits(file);
}

function composerError(text) {
  $('composer-error').textContent = text;
}

const composerHints = {
  text: 'Enter sends, Shift+Enter starts a new line',
  json: 'Any JSON value, Ctrl+Enter sends',
  file: 'Binary, images are previewed',
};

function showComposer() {
  const kind = radio('kind');
  $('text').hidden = kind !== 'text';
  $('json').hidden = kind !== 'json';
  $('drop').hidden = kind !== 'file';
  $('composer-hint').textContent = composerHints[kind];
  composerError('');
}

/* ---------- figures and timeline ---------- */

function showCounts() {
  for (const [name, value] of Object.entries(counts)) $(`count-${name}`).textContent = value;
}

function measured(rtt) {
  latencies.push(rtt);
  if (latencies.length > sparkPoints) latencies.shift();
  $('latency').textContent = millis(rtt);
  const top = Math.max(...latencies, 5);
  const points = latencies.map((value, i) => `${(120 * i) / (sparkPoints - 1)},${(30 - (28 * value) / top).toFixed(1)}`);
  $('spark').firstElementChild.setAttribute('points', points.join(' '));
}

// Joining the shown room again changes nothing there: it measures the round trip, and tells who has upgraded since.
function ping() {
  const room = rooms.get(active);
  if (connection?.connected && room?.state === 'joined') enter(room);
}

const marks = { ok: '✓', info: '·', quiet: '♥', warn: '!', bad: '×' };

function note(kind, text) {
  const item = h('li', {}, h('span', { className: 'mark', 'aria-hidden': 'true' }, marks[kind]), h('span', { className: 'what' }, text), clock());
  item.dataset.kind = kind;
  $('timeline').prepend(item);
  while ($('timeline').childElementCount > maxTimeline) $('timeline').lastElementChild.remove();
  $('timeline-empty').hidden = true;
}

/* ---------- wiring ---------- */

// On a small screen one panel is shown at a time; a wide one shows them all.
function showPanel(name) {
  $('app').dataset.panel = name;
  for (const button of document.querySelectorAll('[data-show]')) button.setAttribute('aria-pressed', String(button.dataset.show === name));
}

$('connection').addEventListener('submit', (event) => {
  event.preventDefault();
  if (connection) disconnect();
  else connect();
});
$('connection').addEventListener('change', () => {
  showTransportHint();
  updateLink();
});
$('cut').addEventListener('click', () => connection?.cut(Number($('cut-delay').value)));
$('join').addEventListener('submit', (event) => {
  event.preventDefault();
  joinRoom($('room').value.trim());
  $('room').value = '';
});
$('leave').addEventListener('click', () => leaveRoom(active));
$('tabs').addEventListener('click', (event) => {
  const tab = event.target.closest('[role="tab"]');
  if (tab) show(tab.dataset.room);
});
$('tabs').addEventListener('keydown', (event) => {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!step) return;
  const names = [...rooms.keys()];
  show(names[(names.indexOf(active) + step + names.length) % names.length]);
  event.preventDefault();
});
$('composer').addEventListener('submit', (event) => {
  event.preventDefault();
  send();
});
$('composer').addEventListener('change', (event) => {
  if (event.target.name === 'kind') showComposer();
  if (event.target.id === 'file') chooseFile();
});
$('text').addEventListener('keydown', (event) => {
  if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  send();
});
$('json').addEventListener('keydown', (event) => {
  if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) send();
});
$('json').addEventListener('input', parseJSON);
$('drop').addEventListener('dragover', (event) => {
  event.preventDefault();
  $('drop').classList.add('over');
});
$('drop').addEventListener('dragleave', () => $('drop').classList.remove('over'));
$('drop').addEventListener('drop', (event) => {
  event.preventDefault();
  $('drop').classList.remove('over');
  $('file').files = event.dataTransfer.files;
  chooseFile();
});
$('log').addEventListener('scroll', () => {
  following = atBottom();
  if (following) $('newer').hidden = true;
});
new ResizeObserver(keepDown).observe($('log'));
$('newer').addEventListener('click', () => scrollDown());
$('notice-close').addEventListener('click', () => notice(''));
$('clear-timeline').addEventListener('click', () => {
  $('timeline').replaceChildren();
  $('timeline-empty').hidden = false;
});
$('copy-link').addEventListener('click', copyLink);
for (const button of document.querySelectorAll('[data-show]')) {
  button.addEventListener('click', () => showPanel(button.dataset.show));
}
document.addEventListener('visibilitychange', () => {
  const room = rooms.get(active);
  if (document.hidden || !room) return;
  room.unread = 0;
  showRoom();
});
addEventListener('hashchange', () => location.reload());
addEventListener('beforeunload', () => connection?.close());

$('json').value = '{\n  "hello": "patchbay"\n}';
const shared = readLink();
showComposer();
setState('idle');
updateLink();
setInterval(ping, pingEvery);
showPanel('setup');
if (shared) connect();
