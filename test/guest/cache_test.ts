/** What a machine holds of the cache while it is there. */
import assert from "node:assert/strict";
import { dirname } from "node:path";
import { cacheDir } from "../../base/dirs.ts";
import { hasKvm, testMachine } from "./fixtures.ts";

/** Kinds of the entries whose directories this process has open, as leases have. */
async function held(): Promise<string[]> {
  const kinds: string[] = [];
  for (const { name } of Deno.readDirSync("/proc/self/fd")) {
    const path = await Deno.readLink(`/proc/self/fd/${name}`).catch(() => "");
    if (dirname(dirname(path)) === await Deno.realPath(cacheDir())) {
      kinds.push(path.split("/").at(-2)!);
    }
  }
  return kinds.sort();
}

Deno.test({
  name: "a machine holds its kernel, its initramfs, its image and its snapshot until it ends",
  ignore: !hasKvm(),
  async fn() {
    {
      await using _one = await testMachine("python", "cache-1");
      assert.deepEqual(await held(), ["images", "initramfs", "kernels", "snapshots"]);
      await using _two = await testMachine("python", "cache-2");
      assert.deepEqual(await held(), ["images", "initramfs", "kernels", "snapshots"]);
    }
    assert.deepEqual(await held(), []);
  },
});
