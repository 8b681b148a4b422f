// Small helpers to build the page. Strings become text nodes: nothing a peer says is ever parsed as HTML.

export const $ = (id) => document.getElementById(id);

export function h(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(props)) {
    if (value === undefined || value === false) continue;
    if (key in node) node[key] = value;
    else node.setAttribute(key, value === true ? '' : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

export function badge(text, kind) {
  return h('span', { className: `badge ${kind} ${kind === 'node' ? hue(text) : text}`, title: kind }, text);
}

export function nodeBadge(node) {
  return node ? badge(node, 'node') : null;
}

export function transportBadge(transport) {
  return transport ? badge(transport, 'transport') : null;
}

export function avatar(name, id) {
  const initials = name.trim().split(/\s+/).slice(0, 2).map((word) => [...word][0] ?? '').join('').toUpperCase();
  return h('span', { className: `avatar ${hue(id)}`, 'aria-hidden': 'true' }, initials || '?');
}

// hue gives a name one of the eight colours of the style sheet, the same in every tab.
export function hue(text) {
  let sum = 0;
  for (const char of text) sum = (sum * 31 + char.codePointAt(0)) >>> 0;
  return `hue-${sum % 8}`;
}

export function clock(ms) {
  const date = new Date(Number.isFinite(ms) ? ms : Date.now());
  return h('time', { dateTime: date.toISOString() }, date.toLocaleTimeString([], { hour: '2-digit', minute: '2-digit', second: '2-digit', hour12: false }));
}

export function size(bytes) {
  if (bytes < 1000) return `${bytes}\u00a0B`;
  if (bytes < 1e6) return `${(bytes / 1000).toFixed(1)}\u00a0kB`;
  return `${(bytes / 1e6).toFixed(2)}\u00a0MB`;
}

export function millis(ms) {
  return ms < 10 ? ms.toFixed(1) : Math.round(ms).toString();
}

// The space does not break, so that a figure keeps its unit.
export function duration(ms) {
  return ms < 1000 ? `${millis(ms)}\u00a0ms` : `${(ms / 1000).toFixed(1)}\u00a0s`;
}

const longest = 20000;

export function clip(text) {
  return text.length > longest ? `${text.slice(0, longest)}\n… ${text.length - longest} characters more` : text;
}

// pretty prints a value for people; binary is named, not shown.
export function pretty(value) {
  const text = JSON.stringify(value, (_, part) => (part instanceof ArrayBuffer ? `<binary, ${size(part.byteLength)}>` : part), 2);
  return clip(text ?? 'null');
}

const names = {
  first: ['Amber', 'Brisk', 'Clever', 'Coral', 'Dapper', 'Fern', 'Golden', 'Indigo', 'Jolly', 'Lucky', 'Misty', 'Quiet', 'Rosy', 'Silver', 'Sunny', 'Velvet'],
  second: ['Badger', 'Crane', 'Dolphin', 'Falcon', 'Finch', 'Fox', 'Heron', 'Lynx', 'Marten', 'Otter', 'Panda', 'Puffin', 'Raven', 'Seal', 'Swift', 'Wren'],
};

export function randomName() {
  const pick = (list) => list[Math.floor(Math.random() * list.length)];
  return `${pick(names.first)} ${pick(names.second)}`;
}
