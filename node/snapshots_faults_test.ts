/** What removes a snapshot, and what does not. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { cacheKey, type KeyPart, Store } from "../base/store.ts";
import { withoutDescriptors } from "../test/descriptors.ts";
import { openCached } from "./snapshots.ts";
import { MEMORY, saveEmpty } from "./snapshots_testing.ts";

const REQUIRES = { warm: "deno" };

/** A good snapshot in a cache of its own. */
async function withSnapshot(
  requires: KeyPart,
  test: (entry: string, store: Store) => Promise<void>,
): Promise<void> {
  const directory = await Deno.makeTempDir();
  const store = new Store(directory);
  try {
    const entry = join(store.root, cacheKey(requires));
    await Deno.mkdir(entry, { recursive: true });
    await saveEmpty(entry, requires);
    await test(entry, store);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

async function opens(store: Store, requires: KeyPart = REQUIRES): Promise<boolean> {
  using snapshot = await openCached(requires, () => {}, store);
  return snapshot !== undefined;
}

Deno.test("a snapshot survives a process that has no descriptors left", () =>
  withSnapshot(REQUIRES, async (_entry, store) => {
    assert.equal(await opens(store), true);
    const { error, keys } = await withoutDescriptors({
      imports: `import { Store } from "@/base/store.ts";
        import { openCached } from "@/node/snapshots.ts";`,
      prepare: `
        const store = new Store(${JSON.stringify(store.root)});
        const open = () => openCached(${JSON.stringify(REQUIRES)}, () => {}, store);
        (await open())![Symbol.dispose]();`,
      attempt: "open()",
      report: "{ error: result?.message, keys: await store.keys() }",
    }) as { error?: string; keys: string[] };
    assert.deepEqual(keys, [cacheKey(REQUIRES)], "it is still there");
    assert.match(error ?? "", /^Cannot .*(too many|EMFILE)/i);
    assert.equal(await opens(store), true);
  }));

Deno.test("its memory file survives as well, when the last descriptor went to the state file", () =>
  withSnapshot(REQUIRES, async (entry) => {
    const error = await withoutDescriptors({
      imports: `import { openMemory } from "@/vmm/snapshot/memory_file.ts";
        import { Snapshot } from "@/vmm/snapshot/snapshot.ts";`,
      prepare: `
        const { facts } = await Snapshot.open(${JSON.stringify(entry)});
        const open = () => openMemory(${
        JSON.stringify(join(entry, "memory"))
      }, facts.memory, new Uint8Array(64));
        (await open())[Symbol.dispose]();`,
      attempt: "open()",
      report: "{ code: result?.code, message: result?.message }",
    }) as { code: string; message: string };
    assert.equal(error.code, "host", error.message);
  }));

for (
  const [what, damage] of [
    ["a damaged byte", (entry) => Deno.writeFile(join(entry, "state"), new Uint8Array(100))],
    ["another size", (entry) => Deno.truncate(join(entry, "memory"), MEMORY / 2)],
    ["no memory file", (entry) => Deno.remove(join(entry, "memory"))],
    ["no state file", (entry) => Deno.remove(join(entry, "state"))],
    ["a directory as its state file", async (entry) => {
      await Deno.remove(join(entry, "state"));
      await Deno.mkdir(join(entry, "state"));
    }],
  ] as [string, (entry: string) => Promise<void>][]
) {
  Deno.test(`a snapshot with ${what} is removed`, () =>
    withSnapshot(REQUIRES, async (entry, store) => {
      await damage(entry);
      assert.equal(await opens(store), false);
      assert.deepEqual(await store.keys(), []);
    }));
}

Deno.test("a snapshot of something else under the same key is removed", () =>
  withSnapshot(REQUIRES, async (entry, store) => {
    const other = { warm: "node" };
    await Deno.rename(entry, join(store.root, cacheKey(other)));
    assert.equal(await opens(store, other), false);
    assert.deepEqual(await store.keys(), []);
  }));
