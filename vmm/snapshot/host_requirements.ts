/**
 * What a host must have in common with the one that saved a snapshot.
 *
 * @module
 */
import { type KeyPart, sha256 } from "../../base/store.ts";
import { KVM_CAP_TSC_DEADLINE_TIMER } from "../../ffi/uapi/kvm.ts";
import { cpuidFor } from "../boot/cpu.ts";
import { hostKind } from "../kvm/host_probe.ts";
import { HOST_TRAITS } from "../host_traits.ts";
import { Kvm } from "../kvm/kvm.ts";
import { FORMAT_VERSION } from "./format.ts";

let host: Readonly<Record<string, KeyPart>> | undefined;

/** The format of snapshots, and what a guest sees of this host; the same throughout the process. */
export function hostRequirements(): Readonly<Record<string, KeyPart>> {
  if (host !== undefined) return host;
  using kvm = Kvm.open();
  const tscDeadline = kvm.capability(KVM_CAP_TSC_DEADLINE_TIMER) !== 0;
  // As one processor sees it: the set that KVM gives carries the number of the one that asked.
  const leaves = cpuidFor(kvm.supportedCpuid(), { id: 0, count: 1, tscDeadline });
  const kind = hostKind(kvm);
  return host = {
    "format version": FORMAT_VERSION,
    kvm: kind,
    "kernel parameters": HOST_TRAITS[kind].kernelParameters,
    "host kernel": Deno.osRelease(),
    processor: sha256(JSON.stringify(leaves)),
    ...(HOST_TRAITS[kind].hostTsc && {
      "start of the host": Deno.readTextFileSync("/proc/sys/kernel/random/boot_id").trim(),
    }),
  };
}
