// Two tabs of one Chromium use the playground as people would.
//
// PLAYGROUND_URL names the server under test; without it the mock relay is started. CHROMIUM names the browser.
// PLAYGROUND_RECOVERY=false leaves out what needs connection state recovery.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { readFile } from 'node:fs/promises';
import { chromium } from 'playwright-core';
import { endWithParent, startMock } from './mock-relay.mjs';

const patience = 15000;
const recovery = process.env.PLAYGROUND_RECOVERY !== 'false';
const executablePath = process.env.CHROMIUM || '/usr/bin/chromium';
const args = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'];

let browser;
let mock;
let url;

endWithParent(() => process.exit(1)); // with the browser, which playwright kills on exit

before(async () => {
  browser = await chromium.launch({ executablePath, args });
  if (!process.env.PLAYGROUND_URL) mock = await startMock();
  url = process.env.PLAYGROUND_URL || mock.url;
});
after(async () => {
  await browser?.close();
  await mock?.close();
});

// A tab with everything the browser complained about. A violated policy is reported on the console too.
// Each is a window of its own: the browser slows down a tab behind another, and the test with it.
async function open(address) {
  const page = await browser.newPage();
  page.setDefaultTimeout(patience);
  page.complaints = [];
  page.on('console', (line) => {
    if (['error', 'warning'].includes(line.type())) page.complaints.push(line.text());
  });
  page.on('pageerror', (err) => page.complaints.push(String(err)));
  await page.addInitScript(() => {
    addEventListener('securitypolicyviolation', (event) => console.error(`policy: ${event.violatedDirective} ${event.blockedURI}`));
  });
  const answer = await page.goto(address);
  assert.equal(answer.status(), 200);
  page.policy = answer.headers()['content-security-policy'];
  return page;
}

async function inTabs(body, address = url) {
  const tabs = [];
  try {
    await body(async (hash) => {
      tabs.push(await open(`${address}/#${hash}`));
      return tabs.at(-1);
    });
    for (const tab of tabs) assert.deepEqual(tab.complaints, []);
  } finally {
    for (const tab of tabs) await tab.context().close();
  }
}

const hash = (name, transport, room) => new URLSearchParams({ name, transport, room }).toString();
// A room nobody else is in: a server may take a while to miss the tabs of an earlier test.
let rooms = 0;
const freshRoom = () => `room ${++rooms} of ${process.pid}`;
const state = (page, ...wanted) => page.locator(wanted.map((name) => `#status[data-state="${name}"]`).join(',')).waitFor();
const member = (page, name) => page.locator('#members li', { has: page.locator('.name', { hasText: name }) });
const kind = (page, name) => page.locator(`.composer input[value="${name}"] + span`).click();
const own = (page, text) => page.locator('.message.own', { hasText: text }).last();
const received = (page, text) => page.locator('.message:not(.own)', { hasText: text });

async function say(page, text) {
  await kind(page, 'text');
  await page.fill('#text', text);
  await page.press('#text', 'Enter');
}

async function acknowledged(page, text) {
  const ack = own(page, text).locator('.ack[data-state="ok"]');
  await ack.waitFor();
  assert.match(await ack.innerText(), /acknowledged in [\d.]+\s(ms|s)/);
}

async function badges(page, name) {
  const item = member(page, name);
  await item.waitFor();
  return { node: await item.locator('.badge.node').innerText(), transport: await item.locator('.badge.transport').innerText() };
}

async function shown(page, name, transport) {
  await member(page, name).locator('.badge.transport', { hasText: transport }).waitFor();
  const { node } = await badges(page, name);
  assert.match(node, /^[a-z0-9-]{1,63}$/);
  return node;
}

// Every byte value, in an order that no encoding keeps by chance.
const bytes = Buffer.from(Array.from({ length: 70000 }, (_, i) => (i * 31 + (i >> 8)) & 255));
const png = Buffer.from('iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg==', 'base64');

async function sendFile(from, to, name, mimeType, buffer) {
  await kind(from, 'file');
  await from.setInputFiles('#file', { name, mimeType, buffer });
  await from.click('#send');
  await acknowledged(from, name);
  const link = received(to, name).last().locator('a.file');
  const [download] = await Promise.all([to.waitForEvent('download'), link.click()]);
  assert.equal(download.suggestedFilename(), name);
  assert.ok((await readFile(await download.path())).equals(buffer), `${name} arrives byte by byte`);
}

for (const transport of ['polling', 'websocket', 'upgrade']) {
  describe(`transport ${transport}`, () => {
    const settled = transport === 'polling' ? 'polling' : 'websocket';
    const pair = (body) => inTabs(async (tab) => {
      const room = freshRoom();
      const ada = await tab(hash('Ada', transport, room));
      const grace = await tab(hash('Grace', transport, room));
      await state(ada, 'connected');
      await state(grace, 'connected');
      await member(ada, 'Grace').waitFor();
      await member(grace, 'Ada').waitFor();
      await ada.locator(`#status-transport:text-is("${settled}")`).waitFor();
      await grace.locator(`#status-transport:text-is("${settled}")`).waitFor();
      await body(ada, grace, room);
    });

    test('both see each other with node and transport', () => pair(async (ada, grace) => {
      const node = await ada.locator('#status-node').innerText();
      assert.equal(await shown(grace, 'Ada', settled), node);
      assert.equal(await shown(ada, 'Ada', settled), node);
      assert.equal(await shown(ada, 'Grace', settled), await grace.locator('#status-node').innerText());
      assert.equal(await member(ada, 'Ada').locator('.you').count(), 1);
      assert.equal(await member(ada, 'Grace').locator('.you').count(), 0);
      assert.equal(await ada.locator('#member-count').innerText(), '2');
      if (transport === 'upgrade') await ada.locator('#timeline li', { hasText: 'Upgraded to websocket' }).waitFor();
    }));

    test('text, JSON and files travel both ways', () => pair(async (ada, grace) => {
      const json = { list: [1, 2.5, null], nested: { text: 'ünï 😀' }, yes: true };
      for (const [from, to] of [[ada, grace], [grace, ada]]) {
        await say(from, '<b>bold</b> & 😀');
        await acknowledged(from, '<b>bold</b>');
        const text = received(to, '<b>bold</b> & 😀');
        await text.waitFor();
        assert.equal(await text.locator('b').count(), 0, 'text of a peer is not markup');

        await kind(from, 'json');
        await from.fill('#json', JSON.stringify(json));
        await from.click('#send');
        await acknowledged(from, 'nested');
        assert.deepEqual(JSON.parse(await received(to, 'nested').locator('pre').innerText()), json);

        await sendFile(from, to, 'all-bytes.bin', 'application/octet-stream', bytes);
        await sendFile(from, to, 'dot.png', 'image/png', png);
        const image = received(to, 'dot.png').locator('img.preview');
        await image.waitFor();
        await to.waitForFunction((node) => node.complete && node.naturalWidth === 1, await image.elementHandle());
      }
      assert.match(await ada.locator('#latency').innerText(), /^[\d.]+$/);
      assert.equal(await ada.locator('#count-out').innerText(), '4');
      assert.equal(await ada.locator('#count-in').innerText(), '4');
    }));

    if (recovery) test('a cut connection recovers and misses nothing', () => pair(async (ada, grace) => {
      await say(grace, 'before the cut'); // recovery starts from an event received
      await received(ada, 'before the cut').waitFor();
      await ada.selectOption('#cut-delay', '3000');
      await ada.click('#cut');
      await state(ada, 'reconnecting');
      await member(grace, 'Ada').waitFor({ state: 'detached' });
      await say(grace, 'during the cut');
      await acknowledged(grace, 'during the cut');
      await say(ada, 'written offline');
      await own(ada, 'written offline').locator('.ack[data-state="waiting"]').waitFor();

      await state(ada, 'recovered');
      await received(ada, 'during the cut').locator('.late').waitFor();
      await acknowledged(ada, 'written offline');
      await received(grace, 'written offline').waitFor();
      await member(grace, 'Ada').waitFor();
      await say(grace, 'after the cut');
      await received(ada, 'after the cut').waitFor();
      assert.equal(await received(ada, 'during the cut').count(), 1);
      assert.equal(await ada.locator('#count-reconnects').innerText(), '1');
      assert.equal(await ada.locator('#count-recovered').innerText(), '1');
      for (const text of ['Cut on request', 'Disconnected:', 'Reconnect attempt 1', 'Session recovered']) {
        assert.ok(await ada.locator('#timeline li', { hasText: text }).count(), text);
      }
    }));

    test('leaving and disconnecting update the members', () => pair(async (ada, grace, room) => {
      await ada.click('#leave');
      await member(grace, 'Ada').waitFor({ state: 'detached' });
      await ada.fill('#room', room);
      await ada.press('#room', 'Enter');
      await member(grace, 'Ada').waitFor();
      await ada.click('#connect'); // reads Disconnect now
      await state(ada, 'idle');
      await member(grace, 'Ada').waitFor({ state: 'detached' });
    }));
  });
}

test('the page is served with a policy, and names what it is', () => inTabs(async (tab) => {
  const page = await tab('');
  assert.match(page.policy, /default-src 'self'/);
  assert.equal(await page.title(), 'Patchbay playground');
  await state(page, 'idle');
}));

test('two tabs from the same link talk, and rooms are apart', () => inTabs(async (tab) => {
  const link = 'room=one&room=two&name=Same&transport=websocket';
  const first = await tab(link);
  await state(first, 'connected');
  const second = await tab(link);
  await state(second, 'connected');
  await first.locator('#members li').nth(1).waitFor();
  assert.deepEqual(await first.locator('#tabs .room-name').allInnerTexts(), ['one', 'two']);
  await second.click('#tabs [data-room="two"][data-state="joined"]');
  await say(second, 'only in two');
  await acknowledged(second, 'only in two');
  await first.locator('#tabs [data-room="two"] .unread').waitFor();
  assert.equal(await received(first, 'only in two').count(), 0);
  await first.focus('#tabs [data-room="one"]');
  await first.keyboard.press('ArrowRight');
  await received(first, 'only in two').waitFor();
}));

test('wrong JSON and files too large are refused with a message', () => inTabs(async (tab) => {
  const page = await tab(hash('Ada', 'websocket', 'refusals'));
  await page.locator('#tabs [data-state="joined"]').waitFor();
  await kind(page, 'json');
  await page.fill('#json', '{"open": ');
  await page.click('#send');
  assert.match(await page.locator('#composer-error').innerText(), /^This is not JSON/);
  assert.equal(await page.getAttribute('#json', 'aria-invalid'), 'true');
  await page.fill('#json', '{"closed": true}');
  assert.equal(await page.locator('#composer-error').innerText(), '');

  await kind(page, 'file');
  await page.setInputFiles('#file', { name: 'big.bin', mimeType: 'application/octet-stream', buffer: Buffer.alloc(1_000_000) });
  assert.match(await page.locator('#composer-error').innerText(), /^big\.bin has 1\.00\sMB\. One message carries/);
  await page.click('#send');
  assert.equal(await page.locator('.message').count(), 0);
}));

for (const transport of ['polling', 'websocket']) {
  test(`the largest file allowed passes over ${transport}`, () => inTabs(async (tab) => {
    const room = freshRoom();
    const ada = await tab(hash('Ada', transport, room));
    const grace = await tab(hash('Grace', transport, room));
    await member(ada, 'Grace').waitFor();
    await member(grace, 'Ada').waitFor();
    const limit = transport === 'polling' ? Math.floor((1e6 - 4096) / 4) * 3 : 1e6 - 4096;
    await sendFile(ada, grace, 'large.bin', 'application/octet-stream', Buffer.alloc(limit, 'patchbay'));
  }));
}

test('a namespace nobody serves is refused with the server\'s message', () => inTabs(async (tab) => {
  const page = await tab(`${hash('Ada', 'websocket', 'lobby')}&namespace=/nobody-serves-this`);
  await state(page, 'refused');
  assert.match(await page.locator('#notice-text').innerText(), /^The server refused the connection: ./);
  assert.equal(await page.locator('#connect').innerText(), 'Connect');
}));

test('a server without a relay is named as such', async () => {
  const bare = await startMock({ relay: false });
  try {
    await inTabs(async (tab) => {
      const page = await tab(hash('Ada', 'websocket', 'lobby'));
      await state(page, 'connected');
      await page.locator('#notice-text', { hasText: 'This gateway has no relay' }).waitFor();
    }, bare.url);
  } finally {
    await bare.close();
  }
});
