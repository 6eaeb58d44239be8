/**
 * What a VM is made of, and what of it is possible here.
 *
 * @module
 */
import { CloudletError } from "../base/errors.ts";
import { KVM_CAP_MAX_VCPUS } from "../ffi/uapi/kvm.ts";
import type { DevicesConfig } from "./devices/registry.ts";
import type { Kvm } from "./kvm/kvm.ts";
import { MAX_MEMORY, MAX_VCPUS, MIB, MIN_MEMORY, PAGE_SIZE } from "./layout.ts";

/** What a VM is made of. */
export interface VmConfig {
  /** Path of a vmlinux or bzImage. */
  readonly kernel: string;
  /** A cpio archive, or several that the kernel unpacks one after the other: bytes or paths. */
  readonly initramfs?: string | Uint8Array | readonly (string | Uint8Array)[];
  /** Kernel parameters added to the default ones. */
  readonly cmdline?: string;
  /** Number of vCPUs; 1 when left out. */
  readonly vcpus?: number;
  /** Bytes of memory, a multiple of 4096; 256 MiB when left out. */
  readonly memory?: number;
  /** Virtio devices. */
  readonly devices?: DevicesConfig;
  /** Called with what the guest writes to the serial console. */
  readonly serialOutput?: (chunk: Uint8Array<ArrayBuffer>) => void;
  /** Called with remarks of the devices. */
  readonly warning?: (message: string) => void;
}

/** What a VM is made of that gets its guest from a snapshot. */
export type ShellConfig = Omit<VmConfig, "kernel" | "initramfs" | "cmdline">;

function invalid(what: string, remedy: string): CloudletError {
  return new CloudletError(`Cannot make the VM: ${what}`, { code: "invalid-input", remedy });
}

/**
 * Checks what was asked for against what is possible.
 *
 * @throws {CloudletError} `invalid-input`
 */
export function checkConfig(kvm: Kvm, vcpus: number, memory: number): void {
  const most = Math.min(MAX_VCPUS, kvm.capability(KVM_CAP_MAX_VCPUS) || MAX_VCPUS);
  if (!Number.isInteger(vcpus) || vcpus < 1 || vcpus > most) {
    throw invalid(`${vcpus} vCPUs are not possible here`, `ask for 1 to ${most} vCPUs`);
  }
  if (!Number.isInteger(memory) || memory % PAGE_SIZE !== 0) {
    throw invalid(`${memory} bytes of memory are no whole pages`, "ask for a multiple of 4096");
  }
  if (memory < MIN_MEMORY || memory > MAX_MEMORY) {
    throw invalid(
      `${Math.floor(memory / MIB)} MiB of memory are ${
        memory < MIN_MEMORY ? "too little" : "too much"
      }`,
      `ask for ${MIN_MEMORY / MIB} to ${MAX_MEMORY / MIB} MiB`,
    );
  }
}

/**
 * The parts of an initramfs.
 *
 * @throws {CloudletError} `not-found` or `invalid-input` for one that cannot be read
 */
export async function readInitramfs(initramfs: VmConfig["initramfs"]): Promise<Uint8Array[]> {
  const parts = initramfs === undefined
    ? []
    : typeof initramfs === "string" || initramfs instanceof Uint8Array
    ? [initramfs]
    : initramfs;
  return await Promise.all(parts.map(async (part) => {
    if (typeof part !== "string") return part;
    try {
      return await Deno.readFile(part);
    } catch (cause) {
      const missing = cause instanceof Deno.errors.NotFound;
      throw new CloudletError(
        `Cannot read the initramfs ${part}: ${
          missing ? "there is no such file" : (cause as Error).message
        }`,
        {
          code: missing ? "not-found" : "invalid-input",
          remedy: "give the path of a cpio archive (newc) that you can read",
          cause,
        },
      );
    }
  }));
}
