/** Processes that use the cache against those that collect it, many times over. */
import assert from "node:assert/strict";
import { Store } from "../store.ts";
import { scanCache } from "./scan.ts";
import { Other, withCache } from "./testing.ts";
import { tidy } from "./upkeep.ts";

const ROUNDS = 150;

/**
 * Makes what it needs where it is missing, leases it, and looks at it for a moment: all of it has to be
 * there all the time.
 */
const user = (root: string, seed: number) => `
  import { lease } from "@/cache/lease.ts";
  import { writeAbout } from "@/cache/about.ts";
  import { Store } from "@/store.ts";
  const root = ${JSON.stringify(root)};
  let random = ${seed};
  const next = (n) => (random = (random * 48271) % 0x7fffffff) % n;
  let used = 0;
  let gone = 0;
  for (let round = 0; round < ${ROUNDS}; round++) {
    const key = "k" + next(3);
    const make = (kind, needs) => new Store(root + "/" + kind).getOrMake(key, async (directory) => {
      for (let i = 0; i < 4; i++) await Deno.writeTextFile(directory + "/" + i, "x");
      await writeAbout(directory, { needs, ofProgram: false });
    });
    await make("images", []);
    const path = await make("snapshots", ["images/" + key]);
    const own = await lease(path);
    if (own === undefined) {
      gone++;
      continue;
    }
    const image = await lease(root + "/images/" + key);
    for (let look = 0; look < 3; look++) {
      const seen = [...Deno.readDirSync(path)].length;
      if (seen !== 5) throw new Error("half of it is there: " + seen);
      if (image !== undefined && [...Deno.readDirSync(root + "/images/" + key)].length !== 5) {
        throw new Error("half of what it needs is there");
      }
      await new Promise((resolve) => setTimeout(resolve, next(3)));
    }
    image?.[Symbol.dispose]();
    own[Symbol.dispose]();
    used++;
  }
  console.log(JSON.stringify({ used, gone }));
  Deno.exit(0);`;

/** Cleans the cache again and again until there is a file beside it that says so, and tells what it did. */
const collector = (root: string) => `
  import { tidy } from "@/cache/upkeep.ts";
  let removed = 0;
  let kept = 0;
  for (let round = 0;; round++) {
    const done = await tidy({}, { all: true }, ${JSON.stringify(root)});
    removed += done.removed.length;
    kept += done.kept.length;
    if (round < 2) console.log("collects");
    try {
      Deno.statSync(${JSON.stringify(root + "-end")});
      break;
    } catch {}
  }
  console.log(JSON.stringify({ removed, kept }));
  Deno.exit(0);`;

Deno.test("while others collect, what a process has leased is whole, and what is gone is made again", async () => {
  await withCache(async (root) => {
    await using one = new Other(collector(root));
    await using _two = new Other(collector(root));
    await one.line();
    await using user1 = new Other(user(root, 1));
    await using user2 = new Other(user(root, 2));
    for (const each of [user1, user2]) {
      const { used, gone } = JSON.parse(await each.line());
      assert.equal(used + gone, ROUNDS);
      assert.ok(used > ROUNDS / 10, `it had something to use ${used} times only`);
      assert.equal(await each.ended(), 0);
    }
    await Deno.writeTextFile(`${root}-end`, "");
    await one.line();
    const { removed, kept } = JSON.parse(await one.line());
    assert.ok(removed > 10, `${removed} removed: there was no race`);
    assert.ok(kept > 0, "nothing was ever in use: there was no race");
  });
});

Deno.test("a collector that is killed leaves nothing that is taken for an entry", async () => {
  await withCache(async (root) => {
    await using user1 = new Other(user(root, 3));
    for (let i = 0; i < 5; i++) {
      await using killed = new Other(collector(root));
      await killed.line();
    }
    assert.equal(await user1.line().then((line) => JSON.parse(line).used > 0), true);
    await using last = new Other(collector(root));
    await last.line();
    await last.line();
    assert.deepEqual((await scanCache(root)).entries, []);
    const left = ["images", "snapshots"].flatMap((
      kind,
    ) => [...Deno.readDirSync(`${root}/${kind}`)]);
    assert.deepEqual(left, []);
  });
});

Deno.test("an entry of many files is there as a whole or not at all, also when its removal is cut off", async () => {
  await withCache(async (root) => {
    const FILES = 3000;
    const path = `${root}/toolchains/t`;
    await new Store(`${root}/toolchains`).getOrMake("t", async (directory) => {
      for (let i = 0; i < FILES; i++) await Deno.create(`${directory}/${i}`).then((f) => f.close());
    });
    /** How many files it has; undefined when it is not there. */
    const look = () => {
      try {
        const count = [...Deno.readDirSync(path)].length;
        Deno.statSync(path); // otherwise it was moved away while it was listed
        return count;
      } catch {
        return undefined;
      }
    };
    await using killed = new Other(collector(root));
    let looks = 0;
    for (let seen = look(); seen !== undefined; seen = look()) {
      assert.equal(seen, FILES);
      looks++;
      await new Promise((resolve) => setTimeout(resolve));
    }
    assert.ok(looks > 0);
    await killed[Symbol.asyncDispose]();
    assert.deepEqual((await scanCache(root)).entries, []);
    await tidy({}, {}, root);
    assert.equal((await scanCache(root)).unfinished, 0);
    assert.deepEqual([...Deno.readDirSync(`${root}/toolchains`)], []);
  });
});
