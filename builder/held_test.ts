import assert from "node:assert/strict";
import { join } from "node:path";
import { isInUse } from "../base/cache/remove.ts";
import { scanCache } from "../base/cache/scan.ts";
import { makeFile, withCache } from "../base/cache/testing.ts";
import { DamagedEntry, Store } from "../base/store.ts";
import { Held } from "./held.ts";

/** What is in use, by id. */
async function inUse(root: string): Promise<string[]> {
  return (await scanCache(root)).entries.filter((one) => isInUse(one)).map(({ id }) => id);
}

Deno.test("what a build found and made from stays until the build has ended", async () => {
  await withCache(async (root) => {
    await makeFile(root, "debian/pool/a.deb");
    const store = new Store(join(root, "images"));
    const find = async () => {
      await store.getOrMake("k", () => Promise.resolve());
      return { key: "k", found: true };
    };
    {
      using held = new Held(root);
      assert.deepEqual(await held.entry(store, find), { key: "k", found: true });
      assert.deepEqual(await inUse(root), ["images/k"]);
      await held.files("debian");
      await held.files("debian");
      assert.deepEqual((await inUse(root)).sort(), ["debian/pool/a.deb", "images/k"]);
    }
    assert.deepEqual(await inUse(root), []);
  });
});

Deno.test("what is gone before it could be held is found again, but not for ever", async () => {
  await withCache(async (root) => {
    const store = new Store(join(root, "images"));
    let asked = 0;
    const find = (gone: number, damaged = 0) => async () => {
      asked++;
      await store.getOrMake("k", () => Promise.resolve());
      if (asked <= gone) await store.remove("k");
      if (asked <= damaged) throw new DamagedEntry("the image", "its manifest.json is gone");
      return { key: "k" };
    };
    using held = new Held(root);
    await held.entry(store, find(1));
    assert.equal(asked, 2);
    asked = 0;
    await held.entry(store, find(0, 2));
    assert.equal(asked, 3);
    asked = 0;
    await assert.rejects(held.entry(store, find(9)), /it is removed each time/);
    assert.equal(asked, 3);
    asked = 0;
    await assert.rejects(held.entry(store, find(0, 9)), DamagedEntry);
    asked = 0;
    const fault = new Error("the mirror is down");
    await assert.rejects(held.entry(store, () => Promise.reject(fault)), fault);
  });
});
