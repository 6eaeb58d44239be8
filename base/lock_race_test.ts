/** A lock whose file is removed by each of its holders, while others wait for it. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { Other, withCache } from "./cache/testing.ts";

const ROUNDS = 100;

Deno.test("of many processes one at a time holds a lock, though its file is removed each time", async () => {
  await withCache(async (root) => {
    await Deno.mkdir(root, { recursive: true });
    const counter = join(root, "counter");
    await Deno.writeTextFile(counter, "0");
    const code = `import { withLock } from "@/files.ts";
      let waited = 0;
      for (let i = 0; i < ${ROUNDS}; i++) {
        await withLock(${JSON.stringify(join(root, ".lock"))}, async () => {
          const count = Number(await Deno.readTextFile(${JSON.stringify(counter)}));
          await Deno.writeTextFile(${JSON.stringify(counter)}, String(count + 1));
        }, () => waited++);
      }
      console.log(waited);
      Deno.exit(0);`;
    const others = Array.from({ length: 3 }, () => new Other(code));
    let waited = 0;
    for (const other of others) {
      await using each = other;
      waited += Number(await each.line());
    }
    assert.equal(await Deno.readTextFile(counter), String(3 * ROUNDS));
    assert.ok(waited > 0, "none ever waited: there was no race");
    assert.deepEqual([...Deno.readDirSync(root)].map(({ name }) => name), ["counter"]);
  });
});
