import assert from "node:assert/strict";
import { join } from "node:path";
import { holder, makeEntry, makeFile } from "../base/cache/testing.ts";
import { forgetState, keepForState } from "../base/cache/state_leases.ts";
import { writeFileAtomic } from "../base/files.ts";
import { cloudlet, withCache } from "../test/command_line.ts";
import { parseAge } from "./cache.ts";

/** A command of a cache with an image, its snapshot, a package and something unknown. */
async function withFilled(
  test: (run: (...args: string[]) => ReturnType<typeof cloudlet>, root: string) => Promise<void>,
): Promise<void> {
  await withCache(async (cache) => {
    const root = join(cache, "cloudlet");
    await makeEntry(root, "images/i", { minutes: 60 * 24 * 10 });
    await makeEntry(root, "images/j", { minutes: 60 });
    await makeEntry(root, "snapshots/s", { minutes: 60 * 24 * 9, needs: ["images/i"] });
    await makeFile(root, "debian/pool/p.deb", 5);
    await makeFile(root, "notes.txt");
    await writeFileAtomic(join(root, `images/.name-python-${"0".repeat(32)}`), "i\n");
    await test((...args) => cloudlet(cache, "cache", ...args), root);
  });
}

function objects(stdout: string): Record<string, unknown>[] {
  return stdout.trim().split("\n").map((line) => JSON.parse(line));
}

Deno.test("ages are read in days, hours and minutes", () => {
  assert.equal(parseAge("7d"), 7 * 24 * 3_600_000);
  assert.equal(parseAge("1.5h"), 5_400_000);
  for (const text of ["", "7", "d", "-1d", "1w", "99999999d"]) {
    assert.throws(() => parseAge(text), /as an age/, text);
  }
});

Deno.test("cache du adds up to what du(1) says, by kind and by entry", () =>
  withFilled(async (run, root) => {
    const { stdout } = await new Deno.Command("du", { args: ["-s", "--block-size=1", root] })
      .output();
    const disk = Number(new TextDecoder().decode(stdout).split("\t")[0]);
    const rows = objects((await run("du", "--json")).stdout);
    assert.equal(rows.reduce((sum, { bytes }) => sum + Number(bytes), 0), disk);
    const image = rows.find(({ entry }) => entry === "images/i")!;
    assert.equal(image.name, "python");
    assert.equal(image.inUse, undefined);
    assert.ok(rows.some(({ unknown }) => unknown === join(root, "notes.txt")));
    const summary = (await run("du")).stdout;
    assert.match(summary, /^KIND +ENTRIES +ON DISK +LAST USED/);
    assert.match(summary, /^images +2 +1\d\d KiB +1h ago|^images +2 +/m);
    assert.match(summary, /unknown: left alone/);
    assert.match(summary, /KiB (of [\d.]+ \w+|without a limit) in /);
    await using _other = await holder(root, "snapshots/s");
    await keepForState(root, { holder: "/state/x", entries: ["images/j"] });
    const images = objects((await run("du", "--json", "images")).stdout);
    assert.deepEqual(
      images.map(({ entry, inUse, neededBy }) => [entry, inUse, neededBy]).sort(),
      [["images/i", true, undefined], ["images/j", undefined, "/state/x"]],
    );
    assert.match((await run("du", "images")).stdout, /images\/i +python .*in use/);
  }));

Deno.test("cache prune removes by size and age, and says so before it does", () =>
  withFilled(async (run) => {
    const dry = await run("prune", "--older-than", "7d", "--dry-run");
    assert.match(dry.stdout, /^snapshots\/s {2}.*\nimages\/i {2}.*\n$/);
    assert.match(dry.stderr, /^Would remove 2 entries, 1\d\d KiB/m);
    const done = await run("prune", "--older-than", "7d");
    assert.equal(done.stdout, dry.stdout);
    assert.match(done.stderr, /^Removed 2 entries/m);
    assert.equal((await run("prune", "--older-than", "7d")).stdout, "");
    const small = objects((await run("prune", "--size", "80K", "--json")).stdout);
    assert.deepEqual(small.map(({ removed }) => removed), ["images/j"]);
    assert.equal((await run("prune", "--size", "much")).code, 2);
  }));

Deno.test("cache clean removes the kinds that are named, or all, but nothing in use or unknown", () =>
  withFilled(async (run, root) => {
    {
      await using _other = await holder(root, "images/j");
      const images = await run("clean", "images");
      assert.match(images.stdout, /^snapshots\/s {2}.*\nimages\/i {2}.*\n$/);
      assert.match(images.stderr, /^Kept 1 \(in use\)$/m);
    }
    const wrong = await run("clean", "imagines");
    assert.equal(wrong.code, 2);
    assert.match(wrong.stderr, /it is no kind\n {2}-> name some of images, kernels/);
    assert.equal((await run("clean")).code, 0);
    assert.deepEqual(
      objects((await run("du", "--json")).stdout).filter(({ entry }) => entry !== undefined),
      [],
    );
    assert.equal((await Deno.stat(join(root, "notes.txt"))).isFile, true);
    assert.equal((await run("dir")).stdout, `${root}\n`);
  }));

Deno.test("what state needs is not removed by name either", () =>
  withFilled(async (run, root) => {
    const key = "a".repeat(32);
    await makeEntry(root, `images/${key}`);
    await makeEntry(root, `snapshots/${key}`);
    await keepForState(root, {
      holder: "/state/x",
      entries: [`images/${key}`, `snapshots/${key}`],
    });
    const remove = (kind: string) => cloudlet(join(root, ".."), kind, "rm", key);
    for (const kind of ["image", "snapshot"]) {
      const { code, stderr } = await remove(kind);
      assert.equal(code, 1);
      assert.match(stderr, /^cloudlet: Cannot remove \w+\/a+ from the cache: \/state\/x needs it/);
    }
    await forgetState(root, "/state/x");
    for (const kind of ["image", "snapshot"]) assert.equal((await remove(kind)).code, 0);
    assert.equal((await run("du", "images")).stdout.includes("aaaa"), false);
  }));
