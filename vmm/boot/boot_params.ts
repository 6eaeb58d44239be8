/**
 * The "zero page" that tells the kernel about memory, command line and initramfs:
 * Documentation/x86/zero-page.rst.
 *
 * @module
 */
import { CloudletError } from "../../base/errors.ts";
import {
  boot_e820_entry,
  boot_params,
  E820_RAM,
  E820_RESERVED,
  LOADED_HIGH,
  setup_data,
  setup_header,
  SETUP_RNG_SEED,
} from "../../ffi/uapi/bootparam.ts";
import {
  BOOT_PARAMS_ADDRESS,
  CMDLINE_ADDRESS,
  CMDLINE_SIZE,
  EBDA_ADDRESS,
  HIGH_MEMORY_ADDRESS,
  ramRanges,
} from "../layout.ts";
import type { GuestMemory } from "../memory/guest_memory.ts";
import type { LoadedInitramfs, LoadedKernel } from "./loader.ts";

const BOOT_FLAG = 0xaa55;
const HDRS = 0x5372_6448;
const LOADER_UNDEFINED = 0xff; // boot.rst: "undefined" boot loader
const KERNEL_ALIGNMENT = 0x100_0000;
const SEED_SIZE = 32;
/** Behind the command line; the kernel reserves it while it needs it. */
const SETUP_DATA_ADDRESS = CMDLINE_ADDRESS + CMDLINE_SIZE;

/** An entry of the memory map. */
export interface E820Entry {
  /** First address. */
  readonly addr: bigint;
  /** Bytes. */
  readonly size: bigint;
  /** `E820_*`. */
  readonly type: number;
}

/** The memory map for `ram` bytes: all of it but the EBDA and the PC's ROM hole. */
export function memoryMap(ram: number): E820Entry[] {
  const [low, ...high] = ramRanges(ram);
  const entry = (start: number, end: number, type: number): E820Entry => ({
    addr: BigInt(start),
    size: BigInt(end - start),
    type,
  });
  return [
    entry(0, EBDA_ADDRESS, E820_RAM),
    entry(EBDA_ADDRESS, HIGH_MEMORY_ADDRESS, E820_RESERVED),
    entry(HIGH_MEMORY_ADDRESS, low!.size, E820_RAM),
    ...high.map((range) => entry(range.start, range.start + range.size, E820_RAM)),
  ];
}

/**
 * Writes the command line.
 *
 * @throws {CloudletError} `invalid-input` when it is longer than the kernel takes
 */
export function writeCommandLine(memory: GuestMemory, commandLine: string): void {
  const bytes = new TextEncoder().encode(`${commandLine}\0`);
  if (bytes.length > CMDLINE_SIZE || bytes.indexOf(0) < bytes.length - 1) {
    throw new CloudletError(
      bytes.length > CMDLINE_SIZE
        ? `Cannot boot: the kernel command line has ${
          bytes.length - 1
        } bytes, and the kernel takes ${CMDLINE_SIZE - 1}`
        : "Cannot boot: the kernel command line has a NUL in it",
      { code: "invalid-input", remedy: "shorten the command line" },
    );
  }
  memory.write(CMDLINE_ADDRESS, bytes);
}

/** What {@linkcode writeBootParams} tells the kernel. */
export interface BootInformation {
  /** The kernel. */
  readonly kernel: LoadedKernel;
  /** The initramfs, if there is one. */
  readonly initramfs: LoadedInitramfs | undefined;
  /** Fresh random bytes, 32 of them. */
  readonly seed: Uint8Array;
  /** Guest-physical address of the ACPI root pointer, when there are ACPI tables. */
  readonly acpiRsdp?: number;
}

/** Writes boot_params and the random seed. */
export function writeBootParams(memory: GuestMemory, information: BootInformation): void {
  const { kernel, initramfs, seed } = information;
  const bytes = new Uint8Array(boot_params.size);
  const page = new DataView(bytes.buffer);
  if (kernel.setupHeader !== undefined) bytes.set(kernel.setupHeader, boot_params.offsets.hdr);
  setup_header.update(page, boot_params.offsets.hdr, {
    boot_flag: BOOT_FLAG,
    header: HDRS,
    type_of_loader: LOADER_UNDEFINED,
    loadflags: LOADED_HIGH,
    cmd_line_ptr: CMDLINE_ADDRESS,
    cmdline_size: CMDLINE_SIZE - 1,
    ramdisk_image: initramfs?.start ?? 0, // low RAM ends below 4 GiB, so 32 bits do
    ramdisk_size: initramfs?.size ?? 0,
    setup_data: BigInt(SETUP_DATA_ADDRESS),
    ...(kernel.setupHeader === undefined ? { kernel_alignment: KERNEL_ALIGNMENT } : {}),
  });
  const map = memoryMap(memory.ramSize);
  boot_params.update(page, 0, {
    e820_entries: map.length,
    acpi_rsdp_addr: BigInt(information.acpiRsdp ?? 0),
  });
  map.forEach((entry, i) => {
    boot_e820_entry.set(page, boot_params.offsets.e820_table + i * boot_e820_entry.size, {
      ...entry,
    });
  });
  memory.write(BOOT_PARAMS_ADDRESS, bytes);
  // A kernel that knows its seed is ready to give out random numbers before it has seen a device.
  memory.write(SETUP_DATA_ADDRESS, setup_data.encode({ type: SETUP_RNG_SEED, len: SEED_SIZE }));
  memory.write(SETUP_DATA_ADDRESS + setup_data.size, seed.subarray(0, SEED_SIZE));
}
