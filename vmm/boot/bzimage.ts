/**
 * Compressed kernels (bzImage): Documentation/x86/boot.rst, the 64-bit boot protocol.
 *
 * @module
 */
import { boot_params, setup_header, XLF_KERNEL_64 } from "../../ffi/uapi/bootparam.ts";
import { HIGH_MEMORY_ADDRESS } from "../layout.ts";
import { invalidKernel, type KernelFile, type LoadPlan } from "./kernel_file.ts";

const BOOT_FLAG = 0xaa55;
const HDRS = 0x5372_6448; // "HdrS"
const MIN_VERSION = 0x020c; // boot protocol 2.12 (Linux 3.8): xloadflags
const SECTOR = 512;
const ENTRY_64 = 0x200; // boot.rst: "the 64-bit entry point is at 0x200 from the load address"
const JUMP_OFFSET = 0x201; // "the end of the setup header is 0x202 + the byte value at 0x201"
const HEADER_START = boot_params.offsets.hdr;

/** Whether the file begins as a bzImage does. */
export function isBzImage(start: Uint8Array): boolean {
  if (start.length < HEADER_START + setup_header.size) return false;
  const header = setup_header.decode(start.subarray(HEADER_START));
  return header.boot_flag === BOOT_FLAG && header.header === HDRS;
}

/**
 * Reads a bzImage's setup header and says what to put where.
 *
 * @throws {CloudletError} `invalid-input` when it is not a kernel that a microVM can run
 */
export function planBzImage(file: KernelFile): LoadPlan {
  const start = file.read(0, HEADER_START + setup_header.size);
  const header = setup_header.decode(start.subarray(HEADER_START));
  if (header.version < MIN_VERSION) {
    throw invalidKernel(file, "its boot protocol is older than 2.12 (Linux 3.8)");
  }
  if ((header.xloadflags & XLF_KERNEL_64) === 0) {
    throw invalidKernel(file, "it is a 32-bit kernel");
  }
  const setupSectors = header.setup_sects === 0 ? 4 : header.setup_sects; // "4 if it is 0"
  const offset = (setupSectors + 1) * SECTOR;
  const codeSize = header.syssize * 16; // "the size of the protected-mode code in 16-byte units"
  if (codeSize <= ENTRY_64) throw invalidKernel(file, "it has no code");
  if (offset + codeSize > file.size) throw invalidKernel(file, "it is truncated");
  // "the end of the header": later members are the boot loader's, or not there at all.
  const headerEnd = Math.min(0x202 + start[JUMP_OFFSET]!, start.length);
  if (headerEnd <= HEADER_START) throw invalidKernel(file, "its setup header is damaged");
  const unpackAt = Number(header.pref_address);
  return {
    format: "bzImage",
    segments: [{ address: HIGH_MEMORY_ADDRESS, offset, fileSize: codeSize, memorySize: codeSize }],
    entry: HIGH_MEMORY_ADDRESS + ENTRY_64,
    setupHeader: start.slice(HEADER_START, headerEnd),
    end: Math.max(unpackAt, HIGH_MEMORY_ADDRESS) + header.init_size,
  };
}
