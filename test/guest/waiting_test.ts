/** Interpreters that wait in a snapshot for a program of a certain name. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { run } from "../../mod.ts";
import { listSnapshots, snapshotStore } from "../../vmm/snapshot/cache.ts";
import { Snapshot } from "../../vmm/snapshot/snapshot.ts";
import { hasKvm, testKernel } from "./fixtures.ts";

const NAME = "waiting test.sh";

/** Names of the programs that snapshots wait for. */
async function waitedFor(): Promise<unknown[]> {
  return (await listSnapshots()).map(({ key }) => {
    using snapshot = Snapshot.open(join(snapshotStore().root, key));
    return (snapshot.facts.requires as { readonly main?: string }).main;
  });
}

Deno.test({
  name: "a bash script of any name finds a bash that waits for it, whatever is in it",
  ignore: !hasKvm(),
  async fn() {
    const directory = await Deno.makeTempDir();
    try {
      const source = join(directory, NAME);
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
      }
      assert.equal((await waitedFor()).filter((main) => main === NAME).length, 1);
    } finally {
      await Deno.remove(directory, { recursive: true });
    }
  },
});
