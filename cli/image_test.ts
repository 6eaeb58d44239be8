import assert from "node:assert/strict";
import { join } from "node:path";
import { makeKey, startMirror } from "../builder/debian/fixtures_test.ts";
import { withCache } from "../test/command_line.ts";
import { checkoutPath, denoDir } from "../test/paths.ts";

const GOOD = "1".repeat(32);
/** What can happen to an entry behind our back. */
const DAMAGES: Readonly<Record<string, (entry: string) => Promise<void>>> = {
  "no JSON": (entry) => Deno.writeTextFile(join(entry, "manifest.json"), ""),
  "another JSON": (entry) => Deno.writeTextFile(join(entry, "manifest.json"), '{"name":3}'),
  "no manifest": (entry) => Deno.remove(join(entry, "manifest.json")),
  "no image": (entry) => Deno.remove(join(entry, "root.erofs")),
  "half an image": (entry) => Deno.truncate(join(entry, "root.erofs"), 2),
};
const DAMAGED = Object.keys(DAMAGES).map((_, i) => `${i}`.padStart(2, "a").padEnd(32, "f"));

async function makeEntry(cache: string, key: string): Promise<string> {
  const entry = join(cache, "cloudlet/images", key);
  await Deno.mkdir(entry, { recursive: true });
  await Deno.writeTextFile(join(entry, "root.erofs"), "erofs");
  const manifest = { name: "docker.io/library/good:1", size: 5, sha256: "", packages: [] };
  await Deno.writeTextFile(join(entry, "manifest.json"), JSON.stringify(manifest));
  return entry;
}

async function image(cache: string, ...args: string[]) {
  const config = cache.replace(/\/cloudlet\/disk$/, "");
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--quiet", checkoutPath("../mod.ts"), "image", ...args],
    env: {
      ...{ XDG_CACHE_HOME: cache, XDG_CONFIG_HOME: config },
      ...{ DENO_DIR: denoDir(), NO_COLOR: "1" },
      CLOUDLET_DEBIAN_MIRROR: "",
    },
  }).output();
  const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  return { code, stdout: text(stdout), stderr: text(stderr) };
}

Deno.test("damaged images keep nobody from the others, and can be removed", async () => {
  await withCache(async (cache) => {
    await makeEntry(cache, GOOD);
    for (const [i, damage] of Object.values(DAMAGES).entries()) {
      await damage(await makeEntry(cache, DAMAGED[i]!));
    }
    const listed = await image(cache, "ls");
    assert.equal(listed.code, 0, listed.stderr);
    assert.match(listed.stdout, /docker\.io\/library\/good:1 +│? *1{12}/);
    for (const key of DAMAGED) {
      assert.ok(listed.stdout.includes(key.slice(0, 12)), listed.stdout);
    }
    const rows = (await image(cache, "ls", "--json")).stdout.trimEnd().split("\n")
      .map((line) => JSON.parse(line));
    assert.deepEqual(rows.map(({ key }) => key), [GOOD, ...DAMAGED]);
    assert.equal(rows.filter(({ damaged }) => typeof damaged === "string").length, DAMAGED.length);

    const inspected = await image(cache, "inspect", "good:1");
    assert.equal(inspected.code, 0, inspected.stderr);
    assert.equal(JSON.parse(inspected.stdout).key, GOOD);
    const refused = await image(cache, "inspect", DAMAGED[0]!);
    assert.notEqual(refused.code, 0);
    assert.match(refused.stderr, /Cannot use the image .*manifest\.json is no JSON/);
    assert.match(refused.stderr, /image rm/);

    const removed = await image(cache, "rm", "good:1", ...DAMAGED);
    assert.equal(removed.code, 0, removed.stderr);
    assert.equal((await image(cache, "ls", "--json")).stdout, "");
  });
});

const BUSYBOX = "/bin/busybox";
const hasBusybox = (await Deno.stat(BUSYBOX).catch(() => undefined))?.isFile === true;

/** A cache whose settings lead to a mirror with what the image `tiny` is made of. */
async function withTiny(test: (cache: string) => Promise<void>): Promise<void> {
  await withCache(async (cache) => {
    const key = await makeKey();
    await using mirror = await startMirror(key, [{
      name: "busybox-static",
      files: [{ name: "./bin/busybox", content: await Deno.readFile(BUSYBOX), mode: 0o755 }],
    }]);
    const keyring = join(cache, "keyring.asc");
    await Deno.writeTextFile(keyring, key.armoredPublicKey);
    await Deno.mkdir(join(cache, "cloudlet"));
    await Deno.writeTextFile(
      join(cache, "cloudlet/config.toml"),
      `[debian]\nmirror = "${mirror.url}"\nsuite = "bookworm"\nsecurity = false\n` +
        `keyring = "${keyring}"\n`,
    );
    await test(cache);
  });
}

Deno.test({
  name: "a damaged image is built again",
  ignore: !hasBusybox,
  fn: () =>
    withTiny(async (cache) => {
      const first = await image(cache, "build", "tiny");
      assert.equal(first.code, 0, first.stderr);
      const path = first.stdout.trimEnd();
      const { size } = await Deno.stat(path);
      let refresh = false;
      for (const damage of Object.values(DAMAGES)) {
        refresh = !refresh;
        await damage(join(path, ".."));
        // Asked to look for newer packages, it does not look for the image by its name first.
        const again = await image(cache, "build", ...refresh ? ["--refresh"] : [], "tiny");
        assert.equal(again.code, 0, again.stderr);
        assert.equal(again.stdout, first.stdout);
        assert.equal((await Deno.stat(path)).size, size);
      }
    }),
});

/** Names of all that is unfinished below a directory. */
function unfinishedIn(directory: string): string[] {
  return [...Deno.readDirSync(directory)].flatMap(({ name, isDirectory }) => {
    if (/^\.tmp-|\.part$/.test(name)) return [name];
    return isDirectory ? unfinishedIn(join(directory, name)) : [];
  });
}

Deno.test({
  name: "a disk that becomes full, at whatever moment, leaves nothing half-made",
  ignore: !hasBusybox || Deno.uid() !== 0, // a small file system has to be mounted
  fn: () =>
    withTiny(async (cache) => {
      const disk = join(cache, "cloudlet/disk");
      await Deno.mkdir(disk);
      const { size } = await Deno.stat(BUSYBOX);
      let failures = 0;
      // The package, its files and the image, each about as large as busybox.
      for (let kilobytes = 256;; kilobytes += size / 2048) {
        const mount = new Deno.Command("mount", {
          args: ["-t", "tmpfs", "-o", `size=${Math.floor(kilobytes)}k`, "tmpfs", disk],
          stderr: "null",
        });
        if (!(await mount.output()).success) return console.log("skipped: no tmpfs can be mounted");
        try {
          const { code, stderr } = await image(disk, "build", "tiny");
          if (code === 0) break;
          failures++;
          assert.match(stderr, /free some disk space or point XDG_CACHE_HOME/);
          assert.deepEqual(unfinishedIn(disk), [], `${kilobytes} KiB`);
          const images = [
            ...await Array.fromAsync(Deno.readDir(join(disk, "cloudlet/images")))
              .catch(() => []),
          ];
          assert.ok(images.every(({ name }) => name.startsWith(".")), `${kilobytes} KiB`);
        } finally {
          await new Deno.Command("umount", { args: [disk] }).output();
        }
        assert.ok(kilobytes < 10 * size / 1024, "the image is never made");
      }
      assert.ok(failures >= 3, `${failures} sizes were too small`);
    }),
});
