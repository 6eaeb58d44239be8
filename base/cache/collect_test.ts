import assert from "node:assert/strict";
import { join } from "node:path";
import { writeFileAtomic } from "../files.ts";
import { collect, type CollectOptions, type Limits } from "./collect.ts";
import { scanCache } from "./scan.ts";
import { BYTES, holder, makeEntry, makeFile, withCache } from "./testing.ts";

/** Bytes that an entry of the tests takes: its content, its directory and what it says of itself. */
const ENTRY = BYTES + 8192;
const NO_STATE = { state: () => new Map() };

async function run(root: string, limits: Limits, options: Partial<CollectOptions> = {}) {
  const contents = await scanCache(root);
  const { removed, kept, bytes } = await collect(contents, limits, { ...NO_STATE, ...options });
  return {
    removed: removed.map(({ id }) => id).join(" "),
    kept: kept.map(({ entry, why }) => `${entry.id}: ${why}`),
    bytes,
  };
}

async function ids(root: string): Promise<string> {
  return (await scanCache(root)).entries.map(({ id }) => id).sort().join(" ");
}

Deno.test("what was used longest ago goes first, of whatever kind, until the rest fits", async () => {
  await withCache(async (root) => {
    await makeEntry(root, "images/old", { minutes: 50 });
    await makeEntry(root, "kernels/older", { minutes: 60 });
    await makeFile(root, "debian/pool/oldest.deb", 70);
    await makeEntry(root, "snapshots/new", { minutes: 10 });
    assert.equal((await run(root, { bytes: 5 * ENTRY })).removed, "");
    const { removed, bytes } = await run(root, { bytes: 2 * ENTRY });
    assert.equal(removed, "debian/pool/oldest.deb kernels/older");
    assert.ok(bytes <= 2 * ENTRY);
    assert.equal(await ids(root), "images/old snapshots/new");
  });
});

Deno.test("what was not used for long goes, also where there is room", async () => {
  await withCache(async (root) => {
    await makeEntry(root, "images/a", { minutes: 50 });
    await makeEntry(root, "images/b", { minutes: 10 });
    assert.equal((await run(root, { age: 30 * 60_000 })).removed, "images/a");
  });
});

Deno.test("entries of one program each push out one another, but none that serves all of them", async () => {
  await withCache(async (root) => {
    for (const [minutes, key] of ["w1", "p1", "w2", "p2", "w3", "r1", "r2"].entries()) {
      await makeEntry(root, `snapshots/${key}`, { minutes, ofProgram: !key.startsWith("r") });
    }
    const { removed } = await run(root, { bytes: 7 * ENTRY });
    assert.equal(removed, "snapshots/w3 snapshots/p2");
    assert.equal((await run(root, { bytes: 5 * ENTRY })).removed, "snapshots/w2");
    assert.equal(await ids(root), "snapshots/p1 snapshots/r1 snapshots/r2 snapshots/w1");
  });
});

Deno.test("what a snapshot needs counts as used with it, and where it goes, the snapshot goes, too", async () => {
  await withCache(async (root) => {
    await makeEntry(root, "images/i", { minutes: 90 });
    await makeEntry(root, "images/unneeded", { minutes: 60 });
    await makeEntry(root, "snapshots/s1", { minutes: 20, needs: ["images/i"] });
    await makeEntry(root, "snapshots/s2", { minutes: 80, needs: ["images/i"] });
    const dry = await run(root, { bytes: 1 }, { dryRun: true });
    assert.equal(dry.removed, "snapshots/s2 images/unneeded snapshots/s1 images/i");
    assert.equal((await run(root, { kinds: ["images"], age: 70 * 60_000 })).removed, "");
    assert.equal((await run(root, { bytes: 3 * ENTRY })).removed, "snapshots/s2");
    const { removed } = await run(root, { kinds: ["images"], bytes: 0 });
    assert.equal(removed, "images/unneeded snapshots/s1 images/i");
    assert.equal(await ids(root), "");
  });
});

Deno.test("entries that need each other in a circle are removed all the same", async () => {
  await withCache(async (root) => {
    await makeEntry(root, "images/a", { needs: ["images/b"], minutes: 1 });
    await makeEntry(root, "images/b", { needs: ["images/a"], minutes: 1 });
    await run(root, {}, { all: true });
    assert.equal(await ids(root), "");
  });
});

Deno.test("nothing goes that two other processes use, nor what that needs", async () => {
  await withCache(async (root) => {
    for (let i = 0; i < 10; i++) {
      await makeEntry(root, `images/i${i}`, { minutes: 100 - i });
      await makeEntry(root, `kernels/k${i}`, { minutes: 100 - i });
      const needs = [`images/i${i}`, `kernels/k${i}`];
      await makeEntry(root, `snapshots/s${i}`, { minutes: 100 - i, needs });
    }
    await using _one = await holder(root, "snapshots/s0", "images/i5");
    await using _two = await holder(root, "kernels/k7");
    const { removed, kept, bytes } = await run(root, { bytes: 4 * ENTRY }, { all: true });
    assert.equal(removed.split(" ").length, 25);
    assert.deepEqual(kept.map((why) => why.split(" ")[0]).sort(), [
      ...["images/i0:", "images/i5:", "kernels/k0:", "kernels/k7:", "snapshots/s0:"],
    ]);
    assert.equal(await ids(root), "images/i0 images/i5 kernels/k0 kernels/k7 snapshots/s0");
    assert.equal(bytes, 5 * ENTRY);
  });
});

Deno.test("what needs an entry that is in use by itself may go, but not the entry", async () => {
  await withCache(async (root) => {
    await makeEntry(root, "images/i", { minutes: 100 });
    await makeEntry(root, "images/j", { minutes: 100 });
    await makeEntry(root, "snapshots/i", { minutes: 100, needs: ["images/i"] });
    await makeEntry(root, "snapshots/j", { minutes: 100, needs: ["images/j"] });
    await using _other = await holder(root, "images/i");
    const { removed } = await run(root, { kinds: ["images"] }, { all: true });
    assert.equal(removed, "snapshots/j images/j", "a snapshot does not go for an image that stays");
    assert.equal(await ids(root), "images/i snapshots/i");
  });
});

Deno.test("what state needs stays, with what that needs, and so does what was just used", async () => {
  await withCache(async (root) => {
    await makeEntry(root, "images/i", { minutes: 100 });
    await makeEntry(root, "images/new");
    await makeEntry(root, "kernels/k", { minutes: 100 });
    await makeEntry(root, "snapshots/s", { minutes: 100, needs: ["images/i"] });
    const state = () => new Map([["snapshots/s", "/state/named"]]);
    const { removed, kept } = await run(root, { bytes: 1 }, { state, grace: 60_000 });
    assert.equal(removed, "kernels/k");
    assert.deepEqual(kept, [
      "snapshots/s: /state/named needs it",
      "images/i: /state/named needs it",
      "images/new: just used",
    ]);
    const { removed: more } = await run(root, {}, { state, all: true });
    assert.equal(more, "images/new");
  });
});

Deno.test("what says that it was used in the future is collected as all else is", async () => {
  await withCache(async (root) => {
    await makeEntry(root, "images/i", { minutes: -9000 }); // the clock was wrong
    await makeEntry(root, "images/j", { minutes: 9 });
    assert.equal((await run(root, { bytes: 1 }, { grace: 60_000 })).removed, "images/j images/i");
  });
});

Deno.test("what a process leaves to state while others collect stays", async () => {
  await withCache(async (root) => {
    await makeEntry(root, "images/i", { minutes: 9 });
    await makeEntry(root, "images/j", { minutes: 8 });
    await makeEntry(root, "snapshots/s", { minutes: 7, needs: ["images/j"] });
    let asked = 0;
    const state = () =>
      new Map(asked++ === 0 ? [] : [["images/i", "/state/a"], ["snapshots/s", "/state/b"]]);
    const { removed, kept } = await run(root, {}, { all: true, state });
    assert.equal(removed, "");
    assert.deepEqual(kept.sort(), [
      "images/i: /state/a needs it",
      "images/j: /state/b needs it",
      "snapshots/s: /state/b needs it",
    ]);
  });
});

Deno.test("a dry run changes nothing and says what would go", async () => {
  await withCache(async (root) => {
    await makeEntry(root, "images/a", { minutes: 3 });
    await makeEntry(root, "images/b", { minutes: 2 });
    await writeFileAtomic(join(root, "images/.gone.lock"), "");
    await using _other = await holder(root, "images/b");
    const before = [...Deno.readDirSync(join(root, "images"))].map(({ name }) => name).sort();
    const { removed, kept } = await run(root, {}, { all: true, dryRun: true });
    assert.equal(removed, "images/a");
    assert.deepEqual(kept, ["images/b: in use"]);
    const after = [...Deno.readDirSync(join(root, "images"))].map(({ name }) => name).sort();
    assert.deepEqual(after, before);
  });
});

Deno.test("names and locks go with what they are of, and nothing unknown goes", async () => {
  await withCache(async (root) => {
    const images = join(root, "images");
    await makeEntry(root, "images/a", { minutes: 3 });
    await makeEntry(root, "images/b", { minutes: 2 });
    const hash = "0".repeat(32);
    const name = async (text: string, key: string, minutes: number) => {
      const path = join(images, `.name-${text}-${hash}`);
      await writeFileAtomic(path, `${key}\n`);
      await Deno.utime(path, new Date(), new Date(Date.now() - minutes * 60_000));
    };
    await name("a", "a", 5);
    await name("b", "b", 5);
    await name("gone", "gone", 5);
    await name("young", "gone", 0); // its entry may have been made since the cache was looked at
    await writeFileAtomic(join(images, ".gone.lock"), "");
    await writeFileAtomic(join(images, ".held.lock"), "");
    await writeFileAtomic(join(images, "of a user"), "");
    using held = await Deno.open(join(images, ".held.lock"));
    await held.lock(true);
    assert.equal((await run(root, { age: 2.5 * 60_000 })).removed, "images/a");
    assert.deepEqual([...Deno.readDirSync(images)].map(({ name }) => name).sort(), [
      ".held.lock",
      `.name-b-${hash}`,
      `.name-young-${hash}`,
      "b",
      "of a user",
    ]);
  });
});

Deno.test("an entry that is damaged, or of which not all can be entered, is removed as others are", async () => {
  await withCache(async (root) => {
    const path = await makeEntry(root, "toolchains/t", { minutes: 9 });
    await Deno.mkdir(join(path, "closed"), { mode: 0o700 });
    await Deno.writeTextFile(join(path, "closed", "content"), "");
    await Deno.chmod(join(path, "closed"), 0o500);
    const empty = await makeEntry(root, "images/empty", { minutes: 9 });
    for (const { name } of Deno.readDirSync(empty)) await Deno.remove(join(empty, name));
    await run(root, {}, { all: true });
    assert.equal(await ids(root), "");
    assert.deepEqual([...Deno.readDirSync(join(root, "toolchains"))], []);
  });
});
