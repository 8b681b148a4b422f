import { inspect } from "node:util";

// One JSON line per finished test, for conformance_test.go.
export default async function* reporter(source) {
  for await (const { type, data } of source) {
    // An error outside of any test is told this way only. What goes here is shown when something failed.
    if (type === "test:diagnostic") console.error(data.message);
    if (type !== "test:pass" && type !== "test:fail") continue;
    const error = data.details?.error;
    yield JSON.stringify({
      name: data.name,
      pass: type === "test:pass",
      skipped: data.skip !== undefined || data.todo !== undefined,
      error: error && (error.cause?.stack ?? inspect(error.cause ?? error)),
    }) + "\n";
  }
}
