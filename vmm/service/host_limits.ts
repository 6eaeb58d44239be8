/**
 * Limits that suit the host.
 *
 * @module
 */
import type { AdmissionLimits } from "../../node/admission.ts";
import type { RunLimits } from "./workload.ts";

/** Memory of a microVM that asks for none, in MiB. */
const DEFAULT_MEMORY = 1024;
/** With less, the kernel, the agent and its Deno do not start. */
const MIN_MEMORY = 192;
/** Share of the host's memory that microVMs may have together. */
const SHARE = 0.75;
const HOUR = 3_600_000;

/** Limits for a service that has the host to itself; each can be set instead. */
export function hostLimits(): { readonly admission: AdmissionLimits; readonly limits: RunLimits } {
  const memory = Math.floor(Deno.systemMemoryInfo().total * SHARE / 2 ** 20);
  const machines = Math.max(1, Math.floor(memory / DEFAULT_MEMORY));
  return {
    admission: { machines, memory, queue: 1000, wait: HOUR },
    limits: {
      defaultMemory: Math.min(DEFAULT_MEMORY, memory),
      minMemory: MIN_MEMORY,
      maxVcpus: navigator.hardwareConcurrency,
      maxTime: 24 * HOUR,
    },
  };
}
