/** Machines that are kept ready: paused clones, and restored ones whose agent has answered. */
import assert from "node:assert/strict";
import { collect } from "../../agent/harness_test.ts";
import { silentProgress } from "../../base/progress.ts";
import { ExecuteRequest_Action as Action } from "../../proto/gen/cloudlet/agent/agent_pb.ts";
import type { Machine, MachineFactory } from "../../node/machine_factory.ts";
import { microVms } from "../../node/microvm.ts";
import { MachinePool } from "../../node/pool.ts";
import { Shells } from "../../node/shells.ts";
import { hasKvm, testKernel } from "./fixtures.ts";

const MEMORY = 1024; // as the other guest tests: they share the snapshot

function take(factory: MachineFactory, id: string): Promise<Machine> {
  return factory({
    id,
    language: "python",
    memory: MEMORY,
    vcpus: 1,
    packages: [],
    signal: new AbortController().signal,
    progress: silentProgress,
  });
}

async function answer({ agent }: Machine): Promise<string> {
  const code = "import os; print(os.uname().nodename, os.urandom(8).hex())";
  const action = Action.PREPARE_AND_RUN;
  return (await collect(agent.execute({ language: "python", code, action }))).out;
}

/** Mappings of guest memory that this process has. */
function guests(): number {
  return Deno.readTextFileSync("/proc/self/maps").match(/kvm-vcpu/g)?.length ?? 0;
}

Deno.test({
  name: "paused clones and restored machines wait, are handed out once, and are replaced",
  ignore: !hasKvm(),
  async fn() {
    {
      await using shells = new Shells({ each: 2, total: 3 }, silentProgress);
      const factory = microVms({ kernel: testKernel(), shells });
      const answers: string[] = [];
      {
        await using first = await take(factory, "first");
        answers.push(await answer(first));
        await shells.filled();
        assert.equal(shells.waiting, 2);
        await using second = await take(factory, "second");
        answers.push(await answer(second));
        await shells.filled();
        assert.equal(shells.waiting, 2);
      }
      await using pool = new MachinePool(
        factory,
        [{ language: "python", count: 1, memory: MEMORY }],
        silentProgress,
      );
      await pool.filled();
      assert.equal(pool.waiting, 1);
      await using third = await take(pool.factory, "third");
      answers.push(await answer(third));
      await pool.filled();
      assert.equal(pool.waiting, 1);
      const words = answers.map((text) => text.trim().split(" "));
      assert.deepEqual(words.map(([name]) => name), ["first", "second", "waiting-1"]);
      assert.equal(new Set(words.map(([, random]) => random)).size, 3);
    }
    assert.equal(guests(), 0, "nothing is left of those that waited");
  },
});
