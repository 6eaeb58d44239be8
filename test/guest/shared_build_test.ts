/** Snapshots belong to the service: a client that gives up does not end the one that the next needs. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { collect } from "../../agent/harness_test.ts";
import { type Progress, silentProgress } from "../../base/progress.ts";
import { SharedWork } from "../../base/shared_work.ts";
import { ExecuteRequest_Action as Action } from "../../proto/gen/cloudlet/agent/agent_pb.ts";
import { microVms } from "../../node/microvms.ts";
import { snapshotStore } from "../../node/snapshots.ts";
import { readFacts } from "../../vmm/snapshot/snapshot.ts";
import { hasKvm, testKernel } from "./fixtures.ts";

/** MiB; no other test has it, so that the snapshot is missing. */
const MEMORY = 261;

/** Removes the snapshots of such machines. */
async function forget(): Promise<void> {
  const store = snapshotStore();
  for (const key of await store.keys()) {
    try {
      const { requires } = readFacts(join(store.root, key));
      if ((requires as { memory?: number }).memory === MEMORY << 20) await store.remove(key);
    } catch {
      // another process removed it
    }
  }
}

/** Tells of the tasks that begin. */
function listener(begun: (title: string) => void): Progress {
  return {
    ...silentProgress,
    task(title, options) {
      begun(title);
      return silentProgress.task(title, options);
    },
  };
}

Deno.test({
  name: "a snapshot whose client gave up is finished for the next one, which boots nothing",
  ignore: !hasKvm(),
  async fn() {
    await forget();
    try {
      await using shared = new SharedWork({ abandoned: 1 });
      const factory = microVms({ kernel: testKernel(), shared });
      const take = (id: string, signal: AbortSignal, progress: Progress) =>
        factory({
          id,
          language: "bash",
          memory: MEMORY,
          vcpus: 1,
          packages: [],
          signal,
          progress,
        });
      const giveUp = new AbortController();
      const first = take(
        "first",
        giveUp.signal,
        listener((title) => title === "Boot the microVM" && giveUp.abort(new Error("enough"))),
      );
      await assert.rejects(first, /^Error: enough$/);
      assert.equal(shared.size, 1, "the boot goes on");
      const heard: string[] = [];
      const { signal } = new AbortController();
      await using machine = await take("second", signal, listener((title) => heard.push(title)));
      const { out } = await collect(machine.agent.execute({
        language: "bash",
        code: "echo $HOSTNAME",
        action: Action.PREPARE_AND_RUN,
      }));
      assert.equal(out, "second\n");
      const boots = heard.filter((title) => title === "Boot the microVM");
      assert.equal(boots.length, 1, "it hears of the boot that the first began, and of no other");
      assert.equal(shared.size, 0);
    } finally {
      await forget();
    }
  },
});
