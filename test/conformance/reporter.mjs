import { inspect } from "node:util";

// One JSON line per finished test, for conformance_test.go.
export default async function* reporter(source) {
  for await (const { type, data } of source) {
    if (type !== "test:pass" && type !== "test:fail") continue;
    // Node 18 reports each file as a test around its tests; only a file that broke is worth a line.
    if (type === "test:pass" && data.name.endsWith(".mjs")) continue;
    const error = data.details?.error;
    yield JSON.stringify({
      name: data.name,
      pass: type === "test:pass",
      skipped: data.skip !== undefined || data.todo !== undefined,
      error: error && (error.cause?.stack ?? inspect(error.cause ?? error)),
    }) + "\n";
  }
}
