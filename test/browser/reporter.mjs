// Prints each finished test as one line of JSON for browser_test.go.
import { inspect } from 'node:util';

export default async function* reporter(events) {
  const path = [];
  for await (const { type, data } of events) {
    if (type === 'test:start') {
      path.length = data.nesting;
      path.push(data.name);
    }
    if (type !== 'test:pass' && type !== 'test:fail') continue;
    const error = data.details.error;
    yield `${JSON.stringify({
      name: [...path.slice(0, data.nesting), data.name].join('/'),
      suite: data.details.type === 'suite',
      passed: type === 'test:pass',
      skipped: data.skip !== undefined || data.todo !== undefined,
      error: error && inspect(error.cause ?? error),
    })}\n`;
  }
}
