import assert from "node:assert/strict";
import { hostLimits } from "./host_limits.ts";

const GIB = 2 ** 30;

Deno.test("microVMs share three quarters of what there is", () => {
  const { admission, limits } = hostLimits({ memory: 8 * GIB, processors: 6 });
  assert.equal(admission.memory, 6144);
  assert.equal(admission.machines, 6);
  assert.equal(limits.defaultMemory, 1024);
  assert.equal(limits.maxVcpus, 6);
});

Deno.test("with little memory a microVM gets less by default", () => {
  const { admission, limits } = hostLimits({ memory: GIB / 2, processors: 1 });
  assert.deepEqual([admission.memory, admission.machines], [384, 1]);
  assert.equal(limits.defaultMemory, 384);
});
