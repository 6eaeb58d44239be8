import assert from "node:assert/strict";
import { join } from "node:path";
import { makeKey, startMirror } from "../builder/debian/fixtures_test.ts";
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

async function withCache(test: (cache: string) => Promise<void>): Promise<void> {
  const cache = await Deno.makeTempDir({ prefix: "cloudlet-test-" });
  try {
    await test(cache);
  } finally {
    await Deno.remove(cache, { recursive: true });
  }
}

async function image(cache: string, ...args: string[]) {
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--quiet", checkoutPath("../mod.ts"), "image", ...args],
    env: {
      ...{ XDG_CACHE_HOME: cache, XDG_CONFIG_HOME: cache, DENO_DIR: denoDir(), NO_COLOR: "1" },
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

Deno.test({
  name: "a damaged image is built again",
  ignore: !(await Deno.stat(BUSYBOX).catch(() => undefined))?.isFile,
  fn: () =>
    withCache(async (cache) => {
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
