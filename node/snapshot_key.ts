/**
 * What a snapshot is of: the guest, and what a host must have to restore it.
 *
 * @module
 */
import type { KeyPart } from "../base/store.ts";
import { hostRequirements } from "../vmm/snapshot/host_requirements.ts";

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

/** Everything that must be the same for a snapshot to be used; its key in the cache is made of it. */
export function snapshotRequirements(guest: GuestParts): KeyPart {
  return { ...hostRequirements(), ...guest };
}
