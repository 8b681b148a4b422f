// Runs test files on one fleet: those that CLUSTER_FILES names, or all.
import { readdirSync } from "node:fs";
import { test } from "node:test";

const wanted = process.env.CLUSTER_FILES && process.env.CLUSTER_FILES.split(",");

async function load() {
  for (const file of readdirSync(new URL(".", import.meta.url)).sort()) {
    const name = /^(.*)\.test\.mjs$/.exec(file)?.[1];
    if (name && (!wanted || wanted.includes(name))) await import(`./${file}`);
  }
}

// Files wait for something before they define more tests. If all defined until then had ended, Node would take them for all
// there are, and run the hooks that end the fleet.
const loaded = load();
test("all files are loaded", () => loaded);
await loaded;
