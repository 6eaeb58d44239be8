import assert from "node:assert/strict";
import { join } from "node:path";
import { removeEntry } from "../base/cache/remove.ts";
import { scanCache } from "../base/cache/scan.ts";
import { makeEntry, withCache } from "../base/cache/testing.ts";
import { tidy } from "../base/cache/upkeep.ts";
import { cacheKey, Store } from "../base/store.ts";
import { saveEmpty } from "./snapshots_testing.ts";
import { keepSnapshot, listSnapshots, openCached, openOrMake } from "./snapshots.ts";

const READY = { warm: "deno" };

/** Has a test use a cache of its own. */
async function withSnapshots(test: (root: string, store: Store) => Promise<void>): Promise<void> {
  await withCache((root) => test(root, new Store(join(root, "snapshots"))));
}

async function ids(root: string): Promise<string[]> {
  return (await scanCache(root)).entries.map(({ id }) => id).sort();
}

Deno.test("a snapshot that is open stays in the cache, with what its machine was booted from", async () => {
  await withSnapshots(async (root, store) => {
    const image = await makeEntry(root, "images/i", { minutes: 9 });
    const kernel = await makeEntry(root, "kernels/k", { minutes: 9 });
    await makeEntry(root, "kernels/other", { minutes: 9 });
    const parts = [join(kernel, "vmlinux"), "/boot/initrd", join(image, "root.erofs")];
    const make = (directory: string) => saveEmpty(directory, READY);
    {
      using _snapshot = await openOrMake(READY, { make, parts, note: () => {} }, store);
      await tidy({}, { all: true }, root);
      const own = `snapshots/${cacheKey(READY)}`;
      assert.deepEqual(await ids(root), ["images/i", "kernels/k", own]);
    }
    const found = await openCached(READY, (note) => assert.fail(note), store);
    await tidy({}, { all: true }, root);
    assert.equal((await ids(root)).length, 3, "as if it had just been made");
    found![Symbol.dispose]();
    await tidy({}, { all: true }, root);
    assert.deepEqual(await ids(root), []);
  });
});

Deno.test("snapshots of one program say so", async () => {
  await withSnapshots(async (root, store) => {
    for (const more of [{}, { main: "a.ts" }, { workload: "1" }]) {
      const requires = { ...READY, ...more };
      await keepSnapshot(requires, { make: (path) => saveEmpty(path, requires), parts: [] }, store);
    }
    const kinds = (await scanCache(root)).entries.map(({ ofProgram }) => ofProgram);
    assert.deepEqual(kinds.sort(), [false, true, true]);
  });
});

Deno.test("a snapshot that is removed before it could be opened is made again, but not for ever", async () => {
  await withSnapshots(async (root, store) => {
    let made = 0;
    const entries = () => scanCache(root).then(({ entries }) => entries);
    const open = (times: number) =>
      openOrMake(
        READY,
        {
          make: async (directory) => {
            made++;
            await saveEmpty(directory, READY);
          },
          parts: [],
          note: () => {},
        },
        removing(store, times, async () => {
          for (const entry of await entries()) await removeEntry(entry, { anyUse: true });
        }),
      );
    using snapshot = await open(1);
    assert.equal(made, 2);
    snapshot[Symbol.dispose]();
    await store.remove(cacheKey(READY));
    made = 0;
    await assert.rejects(open(100), /^CloudletError: Cannot open the snapshot: it is removed/);
    assert.equal(made, 3);
  });
});

/** A store whose entries are removed so many times as soon as they were made. */
function removing(store: Store, times: number, remove: () => Promise<void>): Store {
  return new class extends Store {
    override async getOrMake(...args: Parameters<Store["getOrMake"]>): Promise<string> {
      const path = await super.getOrMake(...args);
      if (times-- > 0) await remove();
      return path;
    }
  }(store.root);
}

Deno.test("snapshots are listed with what they take, the one used last first", async () => {
  await withSnapshots(async (root, store) => {
    for (const [minutes, key] of ["a", "b", "c"].entries()) {
      await makeEntry(root, `snapshots/${key}`, { minutes });
    }
    const list = await listSnapshots(store);
    assert.deepEqual(list.map(({ key }) => key), ["a", "b", "c"]);
    assert.ok(list.every(({ bytes }) => bytes >= 64 * 1024));
  });
});
