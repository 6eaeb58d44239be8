import assert from "node:assert/strict";
import { join } from "node:path";
import { CloudletError } from "../errors.ts";
import { parseSettings } from "../settings.ts";
import { scanCache } from "./scan.ts";
import { parseSize } from "./size.ts";
import { BYTES, holder, makeEntry, makeFile, Other, withCache } from "./testing.ts";
import { budgetOf, DEFAULT_BUDGET, keepWithinBudget, startUpkeep, tidy } from "./upkeep.ts";

async function ids(root: string): Promise<string> {
  return (await scanCache(root)).entries.map(({ id }) => id).sort().join(" ");
}

Deno.test("sizes are read as people write them", () => {
  const sizes = { "20GiB": 20 * 2 ** 30, "500M": 500 * 2 ** 20, "1.5 gb": 1.5 * 2 ** 30, 7: 7 };
  for (const [text, bytes] of Object.entries(sizes)) assert.equal(parseSize(text), bytes, text);
  for (const text of ["", "GiB", "-1G", "1X", "1e9", "9999999T", "1 2"]) {
    assert.equal(parseSize(text), undefined, text);
  }
});

Deno.test("the budget is the environment's, the settings', or the default", () => {
  const settings = (text: string) => parseSettings(`[cache]\n${text}\n`, "config.toml").cache;
  assert.equal(budgetOf(undefined), DEFAULT_BUDGET);
  assert.equal(budgetOf("", settings("")), DEFAULT_BUDGET);
  assert.equal(budgetOf("", settings('size = "3GiB"')), 3 * 2 ** 30);
  assert.equal(budgetOf(undefined, settings("size = false")), Infinity);
  assert.equal(budgetOf("500M", settings('size = "3GiB"')), 500 * 2 ** 20);
  assert.equal(budgetOf("none", settings('size = "3GiB"')), Infinity);
  assert.throws(() => budgetOf("much"), /CLOUDLET_CACHE_SIZE=much/);
  for (const wrong of ['"much"', "7", "true"]) {
    assert.throws(() => settings(`size = ${wrong}`), CloudletError);
  }
});

Deno.test("a cache beyond its budget is brought back within it, while others use what they use", async () => {
  await withCache(async (root) => {
    for (let i = 0; i < 10; i++) {
      await makeEntry(root, `images/i${i}`, { minutes: 100 - i });
      await makeEntry(root, `snapshots/s${i}`, { minutes: 90 - i, needs: [`images/i${i}`] });
      await makeFile(root, `debian/pool/${i}.deb`, 200);
    }
    await makeFile(root, "kernels/.tmp-of-000000000000/it");
    await makeEntry(root, "images/new"); // nobody holds it yet
    await using _one = await holder(root, "snapshots/s0");
    await using _two = await holder(root, "images/i1");
    const notes: string[] = [];
    const keep = (bytes: number) =>
      keepWithinBudget((note) => notes.push(note), root, () => Promise.resolve(bytes));
    await keep(8 * (BYTES + 8192));
    assert.equal(notes.length, 1);
    assert.match(
      notes[0]!,
      /^Removed 2\d unused entries of the cache, 2 MiB, to keep it below 1/,
    );
    const left = await ids(root);
    assert.equal(
      left,
      "images/i0 images/i1 images/i8 images/i9 images/new snapshots/s0 snapshots/s8 snapshots/s9",
    );
    await keep(8 * (BYTES + 8192));
    assert.equal(notes.length, 1, "there is nothing more to do");
    await keep(1);
    assert.equal(await ids(root), "images/i0 images/i1 images/new snapshots/s0");
    const { unfinished, locks } = await scanCache(root);
    assert.deepEqual([unfinished, locks], [0, []]);
  });
});

Deno.test("one process at a time collects: who only keeps the budget leaves it to the other", async () => {
  await withCache(async (root) => {
    await makeEntry(root, "images/a", { minutes: 9 });
    await using other = new Other(`import { withLock } from "@/files.ts";
      await withLock(${JSON.stringify(join(root, ".collect.lock"))}, () => {
        console.log("held");
        return new Promise((resolve) => setTimeout(resolve, 1e6));
      });`);
    await other.line();
    await keepWithinBudget(assert.fail, root, () => Promise.resolve(1));
    assert.equal(await ids(root), "images/a");
    const cleaning = tidy({}, { all: true }, root);
    await other[Symbol.asyncDispose]();
    assert.equal((await cleaning).removed.length, 1);
  });
});

Deno.test("a server keeps the budget from the beginning, and stops with what it is removing", async () => {
  await withCache(async (root) => {
    for (const key of ["a", "b", "c"]) await makeEntry(root, `images/${key}`, { minutes: 9 });
    const removed = Promise.withResolvers<string>();
    {
      await using _upkeep = startUpkeep(removed.resolve, root, () => Promise.resolve(1));
      assert.match(await removed.promise, /^Removed 3 /);
    }
    assert.equal(await ids(root), "");
    await makeEntry(root, "images/d", { minutes: 9 });
    {
      await using _upkeep = startUpkeep(assert.fail, root, () => Promise.resolve(1));
    }
    assert.equal(await ids(root), "images/d", "it was ended before the first");
  });
});
