import assert from "node:assert/strict";
import { join } from "node:path";
import { testDirectory } from "../archive/fixtures_test.ts";

const MODULE = new URL("./kernel.ts", import.meta.url).href;
const KEY = "0".repeat(32);

/** What is found of an entry, in a process of its own, since the cache is named by its environment. */
async function find(cache: string): Promise<unknown> {
  const code = `import { findByKey } from ${JSON.stringify(MODULE)};
    console.log(JSON.stringify(await findByKey(${JSON.stringify(KEY)}) ?? null));`;
  const { stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["eval", "--quiet", code],
    cwd: new URL("../..", import.meta.url).pathname,
    env: { XDG_CACHE_HOME: cache },
  }).output();
  const text = new TextDecoder();
  assert.equal(text.decode(stderr), "");
  return JSON.parse(text.decode(stdout));
}

Deno.test("a damaged kernel is removed from the cache and counts as missing", async () => {
  using cache = testDirectory();
  const entry = join(cache.path, "cloudlet/kernels", KEY);
  const manifest = JSON.stringify({ version: "6.1", modules: true });
  const whole = { "manifest.json": manifest, vmlinux: "", "modules.cpio": "" };
  const make = async (files: Readonly<Record<string, string>>) => {
    await Deno.mkdir(entry, { recursive: true });
    for (const [name, text] of Object.entries(files)) {
      await Deno.writeTextFile(join(entry, name), text);
    }
  };
  await make(whole);
  assert.deepEqual(await find(cache.path), {
    key: KEY,
    vmlinux: join(entry, "vmlinux"),
    modules: join(entry, "modules.cpio"),
    version: "6.1",
  });
  await Deno.remove(entry, { recursive: true });
  const { "modules.cpio": _, ...withoutModules } = whole;
  for (
    const damaged of [
      {},
      withoutModules,
      { "manifest.json": manifest },
      { ...whole, "manifest.json": "" },
      { ...whole, "manifest.json": "null" },
    ]
  ) {
    await make(damaged);
    assert.equal(await find(cache.path), null, JSON.stringify(damaged));
    await assert.rejects(Deno.stat(entry), Deno.errors.NotFound);
  }
});
