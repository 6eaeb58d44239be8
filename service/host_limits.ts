/**
 * Limits that suit the host.
 *
 * @module
 */
import { type HostResources, hostResources } from "../base/control_group.ts";
import type { AdmissionLimits } from "../node/admission.ts";
import type { RunLimits } from "./workload.ts";

/** Memory of a microVM that asks for none, in MiB. */
const DEFAULT_MEMORY = 1024;
/** With less, the kernel, the agent and its Deno do not start. */
const MIN_MEMORY = 192;
/** Share of the memory that microVMs may have together. */
const SHARE = 0.75;
const HOUR = 3_600_000;

/**
 * Limits for a service that has the host, or its control group, to itself; each can be set instead.
 *
 * @param host what there is to share out
 */
export function hostLimits(
  host: HostResources = hostResources(),
): { readonly admission: AdmissionLimits; readonly limits: RunLimits } {
  const memory = Math.floor(host.memory * SHARE / 2 ** 20);
  const machines = Math.max(1, Math.floor(memory / DEFAULT_MEMORY));
  return {
    admission: { machines, memory, queue: 1000, wait: HOUR },
    limits: {
      defaultMemory: Math.min(DEFAULT_MEMORY, memory),
      minMemory: MIN_MEMORY,
      maxVcpus: host.processors,
      maxTime: 24 * HOUR,
    },
  };
}
