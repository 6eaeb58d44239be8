/**
 * What a snapshot is of, and what a host must have to use it.
 *
 * @module
 */
import { KVM_CAP_TSC_DEADLINE_TIMER } from "../../ffi/uapi/kvm.ts";
import { type KeyPart, sha256 } from "../../base/store.ts";
import { cpuidFor } from "../boot/cpu.ts";
import { hostKind } from "../kvm/host_probe.ts";
import { HOST_TRAITS } from "../host_traits.ts";
import { Kvm } from "../kvm/kvm.ts";
import { FORMAT_VERSION } from "./format.ts";

/** The guest in a snapshot. */
export interface GuestParts {
  /** What identifies the kernel, such as its digest. */
  readonly kernel: string;
  /** What identifies the initramfs. */
  readonly initramfs: string;
  /** What identifies the root image, with the agent in it. */
  readonly image: string;
  /** The devices, in the order of their windows. */
  readonly devices: string;
  /** Kernel parameters. */
  readonly cmdline: string;
  /** Bytes of memory. */
  readonly memory: number;
  /** Number of processors. */
  readonly vcpus: number;
  /** The language whose interpreter waits in it. */
  readonly warm: string;
  /** Main file of the program that it waits for, if that is more than one of its language. */
  readonly main?: string;
  /** Files that it has read already. */
  readonly files?: KeyPart;
  /** The workload that is prepared in it, if any. */
  readonly workload?: string;
}

let host: KeyPart | undefined;

/** What of this host a guest gets to see. */
function hostRequirements(): KeyPart {
  if (host !== undefined) return host;
  using kvm = Kvm.open();
  const tscDeadline = kvm.capability(KVM_CAP_TSC_DEADLINE_TIMER) !== 0;
  // As one processor sees it: the set that KVM gives carries the number of the one that asked.
  const leaves = cpuidFor(kvm.supportedCpuid(), { id: 0, count: 1, tscDeadline });
  const cpu = sha256(JSON.stringify(leaves));
  const kind = hostKind(kvm);
  return host = {
    kvm: kind,
    "kernel parameters": HOST_TRAITS[kind].kernelParameters,
    "host kernel": Deno.osRelease(),
    processor: cpu,
    ...(HOST_TRAITS[kind].hostTsc && {
      "start of the host": Deno.readTextFileSync("/proc/sys/kernel/random/boot_id").trim(),
    }),
  };
}

/** Everything that must be the same for a snapshot to be used; also what its cache key is made of. */
export function requirements(guest: GuestParts): KeyPart {
  return { "format version": FORMAT_VERSION, ...hostRequirements() as object, ...guest };
}
