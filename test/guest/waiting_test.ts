/** Interpreters that wait in a snapshot for a program of a certain name. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { run } from "../../mod.ts";
import { listSnapshots, snapshotStore } from "../../vmm/snapshot/cache.ts";
import { Snapshot } from "../../vmm/snapshot/snapshot.ts";
import { hasKvm, testKernel } from "./fixtures.ts";

const NAME = "waiting test.sh";

/** Keys of the snapshots that wait for the program. */
async function waiting(): Promise<string[]> {
  const keys: string[] = [];
  for (const { key } of await listSnapshots()) {
    using snapshot = await Snapshot.open(join(snapshotStore().root, key));
    if ((snapshot.facts.requires as { readonly main?: string }).main === NAME) keys.push(key);
  }
  return keys.sort();
}

Deno.test({
  name: "a bash script of any name finds a bash that waits for it, whatever is in it",
  ignore: !hasKvm(),
  async fn() {
    const directory = await Deno.makeTempDir();
    try {
      const source = join(directory, NAME);
      const kept: string[][] = [];
      for (const number of [1, 2]) {
        await Deno.writeTextFile(source, `echo ${number} "$0" "$1"; exit ${number}`);
        const program = run({ source, args: ["x"], kernel: testKernel() });
        const { stdout, stderr, exitCode } = await program.output();
        assert.equal(exitCode, number, new TextDecoder().decode(stderr));
        // The directory of an interpreter that started before its program came.
        assert.match(
          new TextDecoder().decode(stdout),
          new RegExp(`^${number} /\\S+/workload/project/${NAME} x\\n$`),
        );
        kept.push(await waiting());
      }
      assert(kept[0]!.length > 0);
      assert.deepEqual(kept[1], kept[0], "the second run makes no snapshot");
    } finally {
      await Deno.remove(directory, { recursive: true });
    }
  },
});
