// The playground in Chromium: its own tests, against the cluster, and two tabs that are on different nodes.
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { run, root } from "./cluster.mjs";

const { chromium } = createRequire(new URL("../browser/package.json", import.meta.url))("playwright-core");
const executablePath = process.env.CHROMIUM || "/usr/bin/chromium";
const args = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];

/** All but what needs recovery, which a cluster does not have yet. */
export async function playground(url) {
  const { all } = await run("node", ["--test-reporter=tap", "playground.test.mjs"], {
    cwd: `${root}/test/browser`,
    env: { ...process.env, PLAYGROUND_URL: url, PLAYGROUND_RECOVERY: "false", CHROMIUM: executablePath },
  });
  const passed = (all.match(/^ *ok \d+ - (?!transport)/gm) ?? []).length;
  assert.ok(passed >= 15, `${passed} tests of the playground have passed:\n${all}`);
}

export async function twoNodes(url) {
  const browser = await chromium.launch({ executablePath, args });
  try {
    const tabs = new Map(); // by node
    for (let i = 0; tabs.size < 2; i++) {
      assert.ok(i < 20, `20 tabs are all on ${[...tabs.keys()]}`);
      const page = await browser.newPage(); // a window of its own
      page.setDefaultTimeout(15_000);
      await page.goto(`${url}/#${new URLSearchParams({ name: `tab ${i}`, transport: "upgrade", room: "two nodes" })}`);
      await page.locator('#status[data-state="connected"]').waitFor();
      const node = await page.locator("#status-node").innerText();
      assert.match(node, /^gateway-[123]$/);
      if (tabs.has(node)) await page.context().close();
      else tabs.set(node, page);
    }
    const [[one, first], [two, second]] = tabs;
    for (const [page, from, text] of [[second, first, `from ${one}`], [first, second, `from ${two}`]]) {
      await from.fill("#text", text);
      await from.press("#text", "Enter");
      await page.locator(".message:not(.own)", { hasText: text }).waitFor();
    }
    if (process.env.COMPOSE_SCREENSHOT) await first.screenshot({ path: process.env.COMPOSE_SCREENSHOT });
  } finally {
    await browser.close();
  }
}
