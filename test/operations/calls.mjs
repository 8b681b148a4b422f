// What the scripts of clients share: each line of standard input is a call, [name, argument], answered by a line: {result} or
// {error}.
import { createInterface } from "node:readline";
import { createRequire } from "node:module";

export const { io } = createRequire(new URL("../conformance/package.json", import.meta.url))("socket.io-client");

// The kinds of clients, and their transports.
export const kinds = { polling: ["polling"], upgrade: ["polling", "websocket"], websocket: ["websocket"] };

// The node that a client is on.
export const tag = (socket) => socket.io.engine?.id?.split(".").at(-1);

export const until = async (patience, what, condition) => {
  for (const deadline = Date.now() + patience; !condition(); ) {
    if (Date.now() > deadline) throw new Error(`still not: ${what()}`);
    await new Promise((resolve) => setTimeout(resolve, 5)); // no event tells of it
  }
};

// serve answers calls until standard input ends.
export const serve = async (calls) => {
  for await (const line of createInterface({ input: process.stdin })) {
    const [name, argument] = JSON.parse(line);
    let answer;
    try {
      answer = { result: (await calls[name](argument)) ?? null };
    } catch (err) {
      answer = { error: `${name}: ${err.message}` };
    }
    console.log(JSON.stringify(answer));
  }
};
