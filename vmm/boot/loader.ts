/**
 * Puts a kernel and an initramfs into guest memory.
 *
 * @module
 */
import { CloudletError } from "../../base/errors.ts";
import { HIGH_MEMORY_ADDRESS, MIB, PAGE_SIZE, ramRanges } from "../layout.ts";
import type { GuestMemory } from "../memory/guest_memory.ts";
import { isBzImage, planBzImage } from "./bzimage.ts";
import { isElf, planElf } from "./elf.ts";
import { invalidKernel, type KernelFile, type LoadPlan, OpenKernelFile } from "./kernel_file.ts";

/** A kernel in guest memory. */
export interface LoadedKernel {
  /** Guest-physical address of the 64-bit entry point. */
  readonly entry: number;
  /** First address behind the kernel. */
  readonly end: number;
  /** The setup header of a bzImage, for boot_params. */
  readonly setupHeader?: Uint8Array<ArrayBuffer>;
}

/** An initramfs in guest memory. */
export interface LoadedInitramfs {
  /** Guest-physical address. */
  readonly start: number;
  /** Bytes. */
  readonly size: number;
}

const HEADER_BYTES = 0x290; // up to the end of a bzImage's setup header

/** What the kernel needs beside itself and the initramfs before it can free anything. */
const BOOT_SLACK = 8 * MIB;

/** Recognises the format and reads the headers. */
export function planKernel(file: KernelFile): LoadPlan {
  const start = file.read(0, Math.min(file.size, HEADER_BYTES));
  if (isElf(start)) return planElf(file);
  if (isBzImage(start)) return planBzImage(file);
  throw invalidKernel(file, "it is neither an ELF file nor a bzImage");
}

/**
 * Loads a kernel.
 *
 * @param memory RAM, still zero
 * @param path a vmlinux or bzImage
 * @throws {CloudletError} when the file is not a kernel, or RAM is too small for it
 */
export function loadKernel(memory: GuestMemory, path: string): LoadedKernel {
  using file = OpenKernelFile.open(path);
  return placeKernel(memory, file, planKernel(file));
}

/** The second half of {@linkcode loadKernel}: carries a plan out. */
export function placeKernel(memory: GuestMemory, file: KernelFile, plan: LoadPlan): LoadedKernel {
  let end = plan.end ?? 0;
  for (const segment of plan.segments) {
    if (!(segment.address >= HIGH_MEMORY_ADDRESS)) {
      throw invalidKernel(file, "it wants to be loaded below 1 MiB");
    }
    end = Math.max(end, segment.address + segment.memorySize);
  }
  const ram = ramRanges(memory.ramSize)[0]!.size;
  if (!(end <= ram)) throw tooLittle(`the kernel needs ${mib(end)} MiB`, memory.ramSize, end);
  for (const segment of plan.segments) {
    const whole = memory.lend(
      segment.address,
      segment.fileSize,
      (target) => file.readInto(segment.offset, target),
    );
    if (!whole) throw invalidKernel(file, "it is truncated");
  }
  return {
    entry: plan.entry,
    end,
    ...(plan.setupHeader === undefined ? {} : { setupHeader: plan.setupHeader }),
  };
}

/**
 * Copies an initramfs to the end of low RAM, where the kernel's early allocations do not go.
 *
 * @param parts one after the other; the kernel unpacks concatenated archives
 * @throws {CloudletError} when RAM is too small for it
 */
export function loadInitramfs(
  memory: GuestMemory,
  kernel: Pick<LoadedKernel, "end">,
  parts: readonly Uint8Array[],
): LoadedInitramfs | undefined {
  const size = parts.reduce((sum, part) => sum + part.length, 0);
  if (size === 0) return undefined;
  const ram = ramRanges(memory.ramSize)[0]!.size;
  const start = Math.floor((ram - size) / PAGE_SIZE) * PAGE_SIZE;
  // The kernel unpacks it beside the packed form, so it is there twice for a while.
  const needed = kernel.end + 2 * size + BOOT_SLACK;
  if (needed > ram) {
    throw tooLittle(
      `kernel and initramfs (${mib(size)} MiB, twice while it is unpacked) need ${mib(needed)} MiB`,
      memory.ramSize,
      needed,
    );
  }
  let address = start;
  for (const part of parts) {
    memory.write(address, part);
    address += part.length;
  }
  return { start, size };
}

function mib(bytes: number): number {
  return Math.ceil(bytes / MIB);
}

function tooLittle(why: string, have: number, needed: number): CloudletError {
  return new CloudletError(
    `Cannot boot with ${mib(have)} MiB of memory: ${why}`,
    {
      code: "invalid-input",
      remedy: `give the VM at least ${mib(needed)} MiB`,
    },
  );
}
