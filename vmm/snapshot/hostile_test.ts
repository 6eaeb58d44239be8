/** Snapshots whose checksums are right and which say what none of ours does. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { CloudletError } from "../../base/errors.ts";
import { encodeState } from "./format.ts";
import { Snapshot } from "./snapshot.ts";

Deno.test("facts that are none are refused", async () => {
  const directory = Deno.makeTempDirSync();
  try {
    Deno.writeFileSync(join(directory, "memory"), new Uint8Array(4096));
    for (
      const facts of ["null", "1", "[]", "{}", '{"requires":null}', '{"requires":{},"memory":7}']
    ) {
      const pieces = new Map([
        ["facts", new TextEncoder().encode(facts)],
        ["memory.digests", new Uint8Array(32)],
      ]);
      Deno.writeFileSync(join(directory, "state"), encodeState(pieces));
      await assert.rejects(
        () => Snapshot.open(directory, {}),
        (error) => error instanceof CloudletError && /facts are malformed/.test(error.message),
        facts,
      );
    }
  } finally {
    Deno.removeSync(directory, { recursive: true });
  }
});
