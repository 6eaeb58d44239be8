/** Machines that are kept ready: paused clones, and prewarmed VMs whose agent has answered. */
import assert from "node:assert/strict";
import { collect } from "../../agent/harness_test.ts";
import { silentProgress } from "../../base/progress.ts";
import type { Clone } from "../../node/clone.ts";
import { LocalNode } from "../../node/local_node.ts";
import { microVms } from "../../node/microvms.ts";
import type { Machine } from "../../node/node.ts";
import { PAUSED_MEMORY } from "../../node/pool.ts";
import { ExecuteRequest_Action as Action } from "../../proto/gen/cloudlet/agent/agent_pb.ts";
import { hasKvm, testKernel } from "./fixtures.ts";

const MEMORY = 1024; // as the other guest tests: they share the snapshot

function nodeOf(prewarmed: number): LocalNode<Clone> {
  return new LocalNode<Clone>({
    machines: (pool) => microVms({ kernel: testKernel(), pool }),
    admission: { machines: 10, memory: 10 * MEMORY, queue: 10, wait: 1e6 },
    prewarmed: [{ language: "python", count: prewarmed, memory: MEMORY }],
    paused: { each: 2, total: 3 },
    progress: silentProgress,
  });
}

async function take(node: LocalNode<Clone>, id: string): Promise<Machine> {
  const request = { id, language: "python", memory: MEMORY, vcpus: 1, packages: [] };
  for await (const event of node.create(request)) {
    if (event.kind === "machine") return event.machine;
  }
  throw new Error("there is no machine");
}

async function answer(machine: Machine): Promise<string> {
  const code = "import os; print(os.uname().nodename, os.urandom(8).hex())";
  const action = Action.PREPARE_AND_RUN;
  return (await collect(machine.execute({ language: "python", code, action }))).out;
}

/** Mappings of guest memory that this process has. */
function guests(): number {
  return Deno.readTextFileSync("/proc/self/maps").match(/kvm-vcpu/g)?.length ?? 0;
}

Deno.test({
  name: "paused clones and prewarmed VMs wait, are handed out once, and are replaced",
  ignore: !hasKvm(),
  async fn(t) {
    const answers: string[] = [];
    await t.step("paused clones", async () => {
      await using node = nodeOf(0);
      await using first = await take(node, "first");
      answers.push(await answer(first));
      await node.pool.filled();
      assert.deepEqual(node.pool.waiting, { prewarmed: 0, paused: 2 });
      assert.deepEqual(node.capacity.idle, { machines: 0, memory: 2 * PAUSED_MEMORY });
      await using second = await take(node, "second");
      answers.push(await answer(second));
      await node.pool.filled();
      assert.equal(node.pool.waiting.paused, 2);
      assert.deepEqual([node.capacity.machines, node.capacity.memory], [2, 2 * MEMORY]);
      await first.end();
      assert.equal(node.capacity.machines, 1);
    });
    assert.equal(guests(), 0, "nothing is left of those that waited");

    await t.step("prewarmed VMs", async () => {
      await using node = nodeOf(1);
      await node.pool.filled();
      assert.equal(node.pool.waiting.prewarmed, 1);
      await using third = await take(node, "third");
      answers.push(await answer(third));
      await node.pool.filled();
      assert.equal(node.pool.waiting.prewarmed, 1);
      assert.deepEqual([node.capacity.machines, node.capacity.idle.machines], [1, 1]);
    });
    assert.equal(guests(), 0, "nothing is left of those that waited");

    const words = answers.map((text) => text.trim().split(" "));
    assert.deepEqual(words.map(([name]) => name), ["first", "second", "waiting-1"]);
    assert.equal(new Set(words.map(([, random]) => random)).size, 3);
  },
});
