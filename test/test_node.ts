/**
 * A node over machines that a test makes.
 *
 * @module
 */
import { silentProgress } from "../base/progress.ts";
import type { AdmissionLimits } from "../node/admission.ts";
import { LocalNode } from "../node/local_node.ts";
import type { HostMachineFactory } from "../node/host_machine.ts";
import type { Node } from "../node/node.ts";

/** Such a node; who disposes of it may come before or after the service. */
export function testNode(
  machines: HostMachineFactory,
  admission: Partial<AdmissionLimits> = {},
): Node {
  return new LocalNode({
    machines: () => machines,
    admission: { machines: 4, memory: 4096, queue: 4, wait: 60_000, ...admission },
    progress: silentProgress,
  });
}
