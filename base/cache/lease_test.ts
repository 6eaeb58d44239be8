import assert from "node:assert/strict";
import { join } from "node:path";
import { Store } from "../store.ts";
import { leaseFiles, noteUse } from "./kinds.ts";
import { entriesOf, lease, leaseAll } from "./lease.ts";
import { isInUse, removeEntry } from "./remove.ts";
import { scanCache } from "./scan.ts";
import { holder, makeEntry, makeFile, withCache } from "./testing.ts";

async function entry(root: string, id: string) {
  return (await scanCache(root)).entries.find((entry) => entry.id === id)!;
}

async function remove(root: string, id: string): Promise<string> {
  return await removeEntry(await entry(root, id));
}

/**
 * The same of what nobody here uses any more. A child that another thread of this process has just forked has
 * its descriptors, and with them its locks, until it executes its program.
 */
async function removeSoon(root: string, name: string): Promise<string> {
  for (let tries = 0;; tries++) {
    const how = await remove(root, name);
    if (how !== "in use" || tries === 100) return how;
    await new Promise((go) => setTimeout(go, 20));
  }
}

Deno.test("what a process has leased stays until it gives it back, however often it has it", async () => {
  await withCache(async (root) => {
    const path = await makeEntry(root, "images/a", { minutes: 5 });
    const one = await lease(path);
    const two = await lease(path);
    assert.equal(await remove(root, "images/a"), "in use");
    one![Symbol.dispose]();
    one![Symbol.dispose](); // the second time there is nothing to give back
    assert.equal(await remove(root, "images/a"), "in use");
    two![Symbol.dispose]();
    assert.equal(await removeSoon(root, "images/a"), "removed");
    assert.equal(await lease(path), undefined);
    assert.deepEqual([...Deno.readDirSync(join(root, "images"))], []); // no lock, nothing half
  });
});

Deno.test("a lease is a use, and what was used since it was looked at stays", async () => {
  await withCache(async (root) => {
    const path = await makeEntry(root, "images/a", { minutes: 5 });
    const before = await entry(root, "images/a");
    assert.ok(Date.now() - before.used > 4 * 60_000);
    (await lease(path))![Symbol.dispose]();
    assert.equal(await removeEntry(before), "used since");
    assert.ok(Date.now() - (await entry(root, "images/a")).used < 60_000);
    assert.equal(await removeEntry(before, { anyUse: true, dryRun: true }), "removed");
    assert.equal(await removeEntry(before, { anyUse: true }), "removed");
    assert.equal(await removeEntry(before, { anyUse: true }), "gone");
  });
});

Deno.test("a lease of another process ends with it, also by SIGKILL", async () => {
  await withCache(async (root) => {
    await makeEntry(root, "kernels/a", { minutes: 5 });
    {
      await using _other = await holder(root, "kernels/a");
      const found = await entry(root, "kernels/a");
      assert.equal(isInUse(found), true);
      assert.equal(await removeEntry(found, { anyUse: true }), "in use");
    }
    const found = await entry(root, "kernels/a");
    assert.equal(isInUse(found), false);
    assert.equal(await removeEntry(found), "removed");
  });
});

Deno.test("a lease covers what the entry needs, as far as that is there", async () => {
  await withCache(async (root) => {
    for (const id of ["images/i", "kernels/k", "kernels/other"]) await makeEntry(root, id);
    const needs = ["images/i", "kernels/k", "kernels/gone"];
    const path = await makeEntry(root, "snapshots/s", { needs });
    const own = await lease(path);
    const inUse = async () =>
      (await scanCache(root)).entries.filter((one) => isInUse(one)).map(({ id }) => id).sort();
    assert.deepEqual(await inUse(), ["images/i", "kernels/k", "snapshots/s"]);
    own![Symbol.dispose]();
    assert.deepEqual(await inUse(), []);
  });
});

Deno.test("a lease is of what was there: what comes to its place has its own", async () => {
  await withCache(async (root) => {
    const path = await makeEntry(root, "images/a");
    const store = new Store(join(root, "images"));
    const old = await lease(path);
    await store.replace("a", (directory) => Deno.writeTextFile(join(directory, "new"), ""));
    assert.equal(isInUse(await entry(root, "images/a")), false);
    const own = await lease(path);
    old![Symbol.dispose]();
    assert.equal(isInUse(await entry(root, "images/a")), true);
    own![Symbol.dispose]();
    assert.equal(isInUse(await entry(root, "images/a")), false);
  });
});

Deno.test("of several entries all are leased, or none", async () => {
  await withCache(async (root) => {
    for (const id of ["images/a", "kernels/k"]) await makeEntry(root, id);
    const files = [`${root}/images/a/root.erofs`, "/boot/vmlinux", `${root}/kernels/k/vmlinux`];
    assert.deepEqual(entriesOf([...files, `${root}-other/x/y`], root), ["images/a", "kernels/k"]);
    const both = await leaseAll(files, root);
    assert.equal(await remove(root, "kernels/k"), "in use");
    both![Symbol.dispose]();
    assert.equal(await removeSoon(root, "kernels/k"), "removed");
    assert.equal(await leaseAll(files, root), undefined);
    assert.equal(await removeSoon(root, "images/a"), "removed");
  });
});

Deno.test("files of a kind are in use together", async () => {
  await withCache(async (root) => {
    await makeFile(root, "debian/pool/a.deb", 5);
    await makeFile(root, "oci/blobs/b", 5);
    const files = await leaseFiles(root, "debian");
    assert.equal(await remove(root, "debian/pool/a.deb"), "in use");
    assert.equal(await removeSoon(root, "oci/blobs/b"), "removed");
    files[Symbol.dispose]();
    const before = await entry(root, "debian/pool/a.deb");
    const { mtime } = await Deno.stat(before.path);
    await noteUse(before.path);
    assert.deepEqual((await Deno.stat(before.path)).mtime, mtime, "it may say something else");
    assert.equal(await removeEntry(before), "used since");
    assert.equal(await removeSoon(root, "debian/pool/a.deb"), "removed");
  });
});
