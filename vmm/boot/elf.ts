/**
 * ELF kernels (vmlinux): System V ABI chapters 4 and 5, 64-bit little-endian x86-64 only.
 *
 * The file is data that anybody may have made: every offset and size is checked against the file
 * and against guest memory before it is used.
 *
 * @module
 */
import {
  EI_CLASS,
  EI_DATA,
  Elf64_Ehdr,
  Elf64_Phdr,
  ELFCLASS64,
  ELFDATA2LSB,
  EM_X86_64,
  ET_EXEC,
  PT_LOAD,
} from "../../ffi/uapi/elf.ts";
import { invalidKernel, type KernelFile, type LoadPlan } from "./kernel_file.ts";

const MAX_PROGRAM_HEADERS = 64; // a kernel has about five

const MACHINES: Readonly<Record<number, string>> = {
  3: "i386",
  8: "MIPS",
  21: "PowerPC 64",
  22: "S/390",
  40: "ARM",
  183: "AArch64",
  243: "RISC-V",
  258: "LoongArch",
};

/** Whether the file begins as ELF files do. */
export function isElf(start: Uint8Array): boolean {
  return start.length >= 4 && start[0] === 0x7f && start[1] === 0x45 && start[2] === 0x4c &&
    start[3] === 0x46;
}

/**
 * Reads an ELF kernel's headers and says what to put where.
 *
 * @throws {CloudletError} `invalid-input` when it is not a kernel that a microVM can run
 */
export function planElf(file: KernelFile): LoadPlan {
  const header = Elf64_Ehdr.decode(file.read(0, Elf64_Ehdr.size));
  if (header.e_ident[EI_CLASS] !== ELFCLASS64 || header.e_ident[EI_DATA] !== ELFDATA2LSB) {
    throw invalidKernel(file, "it is not a 64-bit little-endian ELF file");
  }
  if (header.e_machine !== EM_X86_64) {
    const name = MACHINES[header.e_machine] ?? `ELF machine ${header.e_machine}`;
    throw invalidKernel(file, `it is for ${name}, not for x86-64`);
  }
  if (header.e_type !== ET_EXEC) {
    throw invalidKernel(file, "it is an ELF file but not an executable with fixed addresses");
  }
  if (header.e_phentsize !== Elf64_Phdr.size || header.e_phnum === 0) {
    throw invalidKernel(file, "it has no program headers");
  }
  if (header.e_phnum > MAX_PROGRAM_HEADERS) {
    throw invalidKernel(file, `it has ${header.e_phnum} program headers`);
  }
  const table = file.read(Number(header.e_phoff), header.e_phnum * Elf64_Phdr.size);
  const segments = [];
  for (let i = 0; i < header.e_phnum; i++) {
    const segment = Elf64_Phdr.decode(table.subarray(i * Elf64_Phdr.size));
    if (segment.p_type !== PT_LOAD || segment.p_memsz === 0n) continue;
    if (segment.p_filesz > segment.p_memsz) {
      throw invalidKernel(file, `segment ${i} is larger in the file than in memory`);
    }
    if (segment.p_offset + segment.p_filesz > BigInt(file.size)) {
      throw invalidKernel(file, `it is truncated: segment ${i} goes on behind the file's end`);
    }
    segments.push({
      address: Number(segment.p_paddr),
      offset: Number(segment.p_offset),
      fileSize: Number(segment.p_filesz),
      memorySize: Number(segment.p_memsz),
    });
  }
  if (segments.length === 0) throw invalidKernel(file, "it has nothing to load");
  const entry = Number(header.e_entry);
  const inside = segments.some((s) => entry >= s.address && entry < s.address + s.fileSize);
  if (!inside) throw invalidKernel(file, "its entry point is outside its segments");
  return { format: "elf", segments, entry };
}
