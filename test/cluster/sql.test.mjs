// Events from SQL, by the function that pkg/adapter/postgres has for that.
import { readFile } from "node:fs/promises";
import { adapter, assert, bus, clients, each, expected, observe } from "./fleet.mjs";

if (adapter.startsWith("postgres")) {
  const { default: pg } = await import("pg");
  const client = new pg.Client({ connectionString: bus });
  await client.connect();
  await client.query(await readFile(new URL("../../pkg/adapter/postgres/sql/sio_emit.sql", import.meta.url), "utf8"));
  client.unref(); // it keeps nobody alive

  const emit = (nsp, { to, except = [] }, event, args) =>
    client.query("SELECT sio_emit($1, $2, $3, $4, except_rooms => $5)", [nsp, to ?? null, event, JSON.stringify(args), except]);

  // What is large goes another way, and is behind all that went before.
  const sql = { call: (_, { nsp = "/", event, args: [id] }) => emit(nsp, {}, event, [id, "x".repeat(9000)]) };

  const values = {
    "small": [1, -1.5, 2 ** 40, "é\u{1f680}\n\"\\", true, null, [], {}, { a: [{ b: [null] }] }],
    "large": [{ text: "é".repeat(5000), list: Array(300).fill({ n: 1 }), number: -2147483649 }],
  };
  for (const [name, args] of Object.entries(values)) {
    for (const nsp of ["/", "/chat", "/dyn-1"]) {
      each(`sql/${name} in ${nsp}`, async () => {
        for (const spec of [{}, { to: ["red"] }, { to: ["red", "blue"], except: ["green", "only-1"] }, { except: ["red"] }]) {
          const seen = await observe(sql, nsp, () => emit(nsp, spec, "news", args));
          assert.deepEqual(seen, expected(nsp, spec, sql, ["news", ...args]), JSON.stringify(spec));
        }
      });
    }
  }

  each("sql/by the commit", async () => {
    const seen = await observe(sql, "/", async () => {
      await client.query("BEGIN");
      await emit("/", {}, "news", ["rolled back"]);
      await client.query("ROLLBACK");
      await client.query("BEGIN");
      for (let i = 0; i < 3; i++) await emit("/", {}, "news", ["the same"]);
      await client.query("COMMIT");
    });
    for (const { name } of clients()) assert.deepEqual(seen[name], Array(3).fill(["news", "the same"]), name);
  });
}
