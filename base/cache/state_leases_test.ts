import assert from "node:assert/strict";
import { dirname, join } from "node:path";
import { CloudletError } from "../errors.ts";
import { lease } from "./lease.ts";
import { scanCache } from "./scan.ts";
import { forgetState, keepForState, readStateLeases } from "./state_leases.ts";
import { makeEntry, withCache } from "./testing.ts";
import { keepWithinBudget, tidy } from "./upkeep.ts";

const DAY = 24 * 60 * 60 * 1000;

async function ids(root: string): Promise<string[]> {
  return (await scanCache(root)).entries.map(({ id }) => id).sort();
}

/** A cache with two images and two kernels, and something below a state directory. */
async function withState(test: (root: string, holder: string) => Promise<void>): Promise<void> {
  await withCache(async (root) => {
    for (const id of ["images/a", "images/b", "kernels/k", "kernels/l"]) {
      await makeEntry(root, id, { minutes: 100 });
    }
    const holder = join(dirname(root), "state/named/mine");
    await Deno.mkdir(holder, { recursive: true });
    await test(root, holder);
  });
}

Deno.test("neither a collection nor a cleaning takes what state needs, while it is there", async () => {
  await withState(async (root, holder) => {
    await keepForState(root, { holder, entries: ["images/a", "kernels/k"] });
    await tidy({ bytes: 1 }, {}, root);
    assert.deepEqual(await ids(root), ["images/a", "kernels/k"]);
    await tidy({}, { all: true }, root);
    assert.deepEqual(await ids(root), ["images/a", "kernels/k"]);
    await keepForState(root, { holder, entries: ["kernels/k"] }); // in place of the other
    await tidy({}, { all: true }, root);
    assert.deepEqual(await ids(root), ["kernels/k"]);
    await forgetState(root, holder);
    await forgetState(root, holder);
    await tidy({}, { all: true }, root);
    assert.deepEqual(await ids(root), []);
  });
});

Deno.test("a record is written before what it is for, and goes when that is removed", async () => {
  await withState(async (root, holder) => {
    await Deno.remove(holder);
    await keepForState(root, { holder, entries: ["images/a"] });
    const needed = (days: number) =>
      [...readStateLeases(root, Date.now() + days * DAY)].map(([id]) => id);
    assert.deepEqual(needed(0.5), ["images/a"], "it may be being made");
    await Deno.mkdir(holder);
    assert.deepEqual(needed(1000), ["images/a"]);
    await Deno.remove(join(dirname(root), "state"), { recursive: true }); // all of the state
    assert.deepEqual(needed(2), []);
    assert.deepEqual([...Deno.readDirSync(join(root, "leases"))], []);
  });
});

Deno.test("state on a file system that is not mounted keeps what it needs", async () => {
  await withState(async (root, holder) => {
    await keepForState(root, { holder, entries: ["images/a"] });
    const [{ name }] = [...Deno.readDirSync(join(root, "leases"))] as [Deno.DirEntry];
    const path = join(root, "leases", name);
    const record = JSON.parse(await Deno.readTextFile(path));
    await Deno.writeTextFile(path, JSON.stringify({ ...record, device: record.device + 1 }));
    await Deno.remove(holder);
    const now = Date.now() + 1000 * DAY;
    assert.deepEqual([...readStateLeases(root, now)], [["images/a", holder]]);
  });
});

Deno.test("where a record cannot be read, nothing is removed, and the file is named", async () => {
  await withState(async (root, holder) => {
    await keepForState(root, { holder, entries: ["images/a"] });
    const bad = join(root, "leases/bad.json");
    for (const text of ["", "{}", '{"holder":"/x","entries":["../.."]}', "null"]) {
      await Deno.writeTextFile(bad, text);
      await assert.rejects(tidy({}, { all: true }, root), (error) => {
        return error instanceof CloudletError && error.message.includes(bad) &&
          error.remedy !== undefined;
      });
      const notes: string[] = [];
      await keepWithinBudget((note) => notes.push(note), root);
      assert.match(notes.join(), /not kept within its budget: .*bad\.json/);
    }
    assert.equal((await ids(root)).length, 4);
  });
});

Deno.test("only entries and absolute paths are kept for state", async () => {
  await withState(async (root, holder) => {
    for (const entries of [["images"], ["../images/a"], ["images/a/b"]]) {
      await assert.rejects(keepForState(root, { holder, entries }), CloudletError);
    }
    await assert.rejects(keepForState(root, { holder: "named/mine", entries: [] }), CloudletError);
    using _lease = await lease(join(root, "images/a")); // as its maker has one meanwhile
    await keepForState(root, { holder, entries: ["images/a"] });
  });
});
