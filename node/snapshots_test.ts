import assert from "node:assert/strict";
import { join } from "node:path";
import { Store } from "../base/store.ts";
import { collect, listSnapshots } from "./snapshots.ts";
import { encodeState } from "../vmm/snapshot/format.ts";

const BYTES = 1 << 20;
const DAY = 24 * 60 * 60 * 1000;

/** Snapshots of a megabyte each in a cache of their own; the first was used last, a day ago. */
async function withSnapshots(
  all: Readonly<Record<string, Readonly<Record<string, string>> | undefined>>,
  test: (store: Store) => Promise<void>,
): Promise<void> {
  const directory = await Deno.makeTempDir();
  const store = new Store(directory);
  try {
    let used = Date.now();
    for (const [key, requires] of Object.entries(all)) {
      const entry = join(store.root, key);
      await Deno.mkdir(entry, { recursive: true });
      const facts = new TextEncoder().encode(JSON.stringify({ requires, memory: {} }));
      const state = requires === undefined
        ? new Uint8Array(100)
        : encodeState(new Map([["facts", facts]]));
      await Deno.writeFile(join(entry, "state"), state);
      await Deno.writeFile(join(entry, "memory"), new Uint8Array(BYTES).fill(1));
      used -= DAY;
      await Deno.utime(entry, new Date(used), new Date(used));
    }
    await test(store);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

const ROOM = 1.1 * BYTES; // of one, with its state file

async function keys(store: Store): Promise<string> {
  return (await listSnapshots(store)).map(({ key }) => key).join(" ");
}

const ready = { warm: "deno" };
const waits = { warm: "deno", main: "a.ts" };
const prepared = { warm: "rust", workload: "1" };

Deno.test("snapshots of one program each push out one another, but none that serves all of them", async () => {
  const all = { w1: waits, p1: prepared, w2: waits, p2: prepared, w3: waits, r1: ready, r2: ready };
  await withSnapshots(all, async (store) => {
    assert.equal(await keys(store), "w1 p1 w2 p2 w3 r1 r2");
    const removed = await collect({ bytes: 7 * ROOM, age: 30 * DAY }, undefined, store);
    assert.equal(removed.map(({ key }) => key).join(" "), "p2 w3");
    assert.equal(await keys(store), "w1 p1 w2 r1 r2");
    await collect({ bytes: 4 * ROOM, age: 30 * DAY }, undefined, store);
    assert.equal(await keys(store), "w1 p1 r1 r2");
  });
});

Deno.test("what was used longest ago goes first, whatever it is, but never the one that was just made", async () => {
  const all = { r1: ready, r2: ready, w1: waits, r3: ready };
  await withSnapshots(all, async (store) => {
    await collect({ bytes: 3 * ROOM, age: 30 * DAY }, "r3", store);
    assert.equal(await keys(store), "r1 r2 w1 r3");
    await collect({ bytes: 3 * ROOM, age: 30 * DAY }, undefined, store);
    assert.equal(await keys(store), "r1 r2 w1");
    await collect({ bytes: 3 * ROOM, age: 1.5 * DAY }, undefined, store);
    assert.equal(await keys(store), "r1");
  });
});

Deno.test("a snapshot that cannot be read counts as one of a program", async () => {
  const all = { broken: undefined, w1: waits, r1: ready };
  await withSnapshots(all, async (store) => {
    await collect({ bytes: 2 * ROOM, age: 30 * DAY }, undefined, store);
    assert.equal(await keys(store), "broken r1");
  });
});
