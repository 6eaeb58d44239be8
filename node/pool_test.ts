import assert from "node:assert/strict";
import { silentProgress } from "../base/progress.ts";
import { HostProcessMachines } from "../test/host_process_machine.ts";
import type { Machine, MachineRequest } from "./machine_factory.ts";
import { MachinePool } from "./pool.ts";

const request: MachineRequest = {
  id: "run",
  language: "bash",
  memory: 64,
  vcpus: 1,
  packages: [],
  signal: new AbortController().signal,
  progress: silentProgress,
};

Deno.test("machines wait, are handed out to requests that they fit, and are replaced", async () => {
  await using machines = new HostProcessMachines();
  {
    const kinds = [{ language: "bash", count: 2, memory: 64 }];
    await using pool = new MachinePool(machines.factory, kinds, silentProgress);
    await pool.filled();
    assert.deepEqual([machines.count, pool.waiting], [2, 2]);

    await using first = await pool.factory(request);
    assert.equal((await first.agent.info({})).running, 0);
    await pool.filled();
    assert.deepEqual([machines.count, pool.waiting, machines.running], [3, 2, 3]);

    for (
      const other of [{ language: "python" }, { memory: 65 }, { vcpus: 2 }, { packages: ["x"] }]
    ) {
      await using machine = await pool.factory({ ...request, ...other });
      assert(machine !== first);
      assert.equal(pool.waiting, 2);
    }

    machines.crash();
    while (machines.count < 9) await new Promise((resolve) => setTimeout(resolve, 10));
    await pool.filled();
    assert.equal(pool.waiting, 2, "those that ended were replaced");
  }
  assert.equal(machines.running, 0);
});

Deno.test("a pool that is closed ends what is being made, and one that cannot make says so", async () => {
  const said: string[] = [];
  const failed = Promise.withResolvers<void>();
  const progress = {
    ...silentProgress,
    info(message: string) {
      said.push(message);
      failed.resolve();
    },
  };
  const make = (): Promise<Machine> => Promise.reject(new Error("no memory"));
  {
    const kinds = [{ language: "node", count: 1, memory: 64 }];
    await using _pool = new MachinePool(make, kinds, progress);
    await failed.promise;
  }
  assert.deepEqual(said, ["No node microVM can wait: no memory"]);
});
