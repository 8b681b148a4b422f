// Runs test files on one fleet: those that CLUSTER_FILES names, or all.
import { readdirSync } from "node:fs";

const wanted = process.env.CLUSTER_FILES && process.env.CLUSTER_FILES.split(",");
for (const file of readdirSync(new URL(".", import.meta.url)).sort()) {
  const name = /^(.*)\.test\.mjs$/.exec(file)?.[1];
  if (name && (!wanted || wanted.includes(name))) await import(`./${file}`);
}
