import assert from "node:assert/strict";
import { join } from "node:path";
import { writeFileAtomic } from "../files.ts";
import { scanCache } from "./scan.ts";
import { makeEntry, makeFile, withCache } from "./testing.ts";

async function du(path: string): Promise<number> {
  const { stdout } = await new Deno.Command("du", { args: ["-s", "--block-size=1", path] })
    .output();
  return Number(new TextDecoder().decode(stdout).split("\t")[0]);
}

/** A cache with everything that may be in one. */
async function fill(root: string): Promise<void> {
  const image = await makeEntry(root, "images/aa", { bytes: 100_000 });
  await makeEntry(root, "images/bb", { bytes: 1 });
  await makeEntry(root, "snapshots/cc", { needs: ["images/aa"], ofProgram: true });
  await makeEntry(root, "workloads/w");
  await makeFile(root, "debian/pool/x.deb");
  await makeFile(root, "oci/tags/t.json");
  await makeFile(root, "agents/a.js");
  const sparse = join(root, "snapshots/cc/memory");
  await Deno.writeFile(sparse, new Uint8Array(4096).fill(1));
  await Deno.truncate(sparse, 1 << 30);
  await Deno.link(join(image, "content"), join(root, "images/bb/linked")); // counts once
  await Deno.symlink("/usr", join(image, "link"));
  await Deno.mkdir(join(image, "below/deeper"), { recursive: true });
  await writeFileAtomic(join(root, `images/.name-python-${"0".repeat(32)}`), "aa\n");
  await writeFileAtomic(join(root, "images/.aa.lock"), "");
  await makeFile(root, "kernels/.tmp-of-000000000000/it");
  await makeFile(root, "leases/l.json");
  await makeFile(root, "kernel-build.log");
  // what nobody here makes
  await makeFile(root, "notes.txt");
  await makeFile(root, "images/.DS_Store");
  await makeFile(root, "images/plain-file");
  await makeFile(root, "debian/pool/deep/er");
  await makeFile(root, "later/thing/content");
}

Deno.test("the sizes of all that is found add up to what du(1) says", async () => {
  await withCache(async (root) => {
    await fill(root);
    const contents = await scanCache(root);
    const { entries, unknown, unfinished, overhead, total } = contents;
    const sum = [...entries, ...unknown].reduce((sum, { bytes }) => sum + bytes, 0);
    assert.equal(total, await du(root));
    assert.equal(sum + unfinished + overhead, total);
    assert.ok(unfinished >= 64 * 1024);
  });
});

Deno.test("entries, names and locks are found, and what is unknown is told from them", async () => {
  await withCache(async (root) => {
    await fill(root);
    const { entries, names, locks, unknown } = await scanCache(root);
    assert.deepEqual(entries.map(({ id }) => id).sort(), [
      "agents/a.js",
      "debian/pool/x.deb",
      "images/aa",
      "images/bb",
      "oci/tags/t.json",
      "snapshots/cc",
      "workloads/w",
    ]);
    const by = (key: string) => entries.find(({ id }) => id === key)!;
    assert.deepEqual(by("snapshots/cc").needs, ["images/aa"]);
    assert.deepEqual(
      entries.filter(({ ofProgram }) => ofProgram).map(({ id }) => id).sort(),
      ["snapshots/cc", "workloads/w"],
    );
    assert.ok(by("snapshots/cc").bytes < 1 << 20, "holes take no room");
    assert.deepEqual(names.map(({ name, id }) => [name, id]), [["python", "images/aa"]]);
    assert.deepEqual(locks, [join(root, "images/.aa.lock")]);
    assert.deepEqual(unknown.map(({ path }) => path.slice(root.length + 1)).sort(), [
      "debian/pool/deep",
      "images/.DS_Store",
      "images/plain-file",
      "later",
      "notes.txt",
    ]);
  });
});

Deno.test("links out of the cache are not followed, and a cache that is not there is empty", async () => {
  await withCache(async (root) => {
    assert.deepEqual([...(await scanCache(root)).entries], []);
    await makeEntry(join(root, "elsewhere"), "images/a");
    await Deno.symlink(join(root, "elsewhere/images"), join(root, "images"));
    const { entries, unknown, total } = await scanCache(root);
    assert.deepEqual(entries, []);
    assert.equal(unknown.length, 2);
    assert.equal(total, await du(root));
  });
});

Deno.test("what an entry says of itself leads nowhere else, and is not believed when it is damaged", async () => {
  await withCache(async (root) => {
    const path = await makeEntry(root, "snapshots/s");
    const read = async () => {
      const { needs, ofProgram } = (await scanCache(root)).entries[0]!;
      return { needs, ofProgram };
    };
    const nothing = { needs: [], ofProgram: false };
    for (
      const text of [
        "",
        "{",
        "null",
        "[]",
        '{"needs":7}',
        '{"needs":["../x","images/../../x","/etc","images/a/b",3,"images/.x"]}',
        `"${"x".repeat(100_000)}"`,
      ]
    ) {
      await Deno.writeTextFile(join(path, "about.json"), text);
      assert.deepEqual(await read(), nothing, text.slice(0, 50));
    }
    await Deno.remove(join(path, "about.json"));
    assert.deepEqual(await read(), nothing);
    await Deno.mkdir(join(path, "about.json"));
    assert.deepEqual(await read(), nothing);
  });
});
