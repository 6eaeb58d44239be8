/**
 * Headers of 64-bit ELF files: System V ABI, chapters 4 and 5; names as in Linux
 * include/uapi/linux/elf.h.
 *
 * @module
 */
import { array, struct, u16, u32, u64, u8 } from "../struct.ts";

export const Elf64_Ehdr = struct("Elf64_Ehdr", {
  e_ident: array(u8, 16),
  e_type: u16,
  e_machine: u16,
  e_version: u32,
  e_entry: u64,
  e_phoff: u64,
  e_shoff: u64,
  e_flags: u32,
  e_ehsize: u16,
  e_phentsize: u16,
  e_phnum: u16,
  e_shentsize: u16,
  e_shnum: u16,
  e_shstrndx: u16,
});

export const Elf64_Phdr = struct("Elf64_Phdr", {
  p_type: u32,
  p_flags: u32,
  p_offset: u64,
  p_vaddr: u64,
  p_paddr: u64,
  p_filesz: u64,
  p_memsz: u64,
  p_align: u64,
});

export const Elf64_Shdr = struct("Elf64_Shdr", {
  sh_name: u32,
  sh_type: u32,
  sh_flags: u64,
  sh_addr: u64,
  sh_offset: u64,
  sh_size: u64,
  sh_link: u32,
  sh_info: u32,
  sh_addralign: u64,
  sh_entsize: u64,
});

/** The first four bytes, big-endian: 0x7f and "ELF". */
export const ELFMAG = 0x7f45_4c46;
export const EI_CLASS = 4;
export const EI_DATA = 5;
export const ELFCLASS64 = 2;
export const ELFDATA2LSB = 1;
export const ET_EXEC = 2;
export const EM_X86_64 = 62;
export const PT_LOAD = 1;
export const PF_W = 2;
export const ET_DYN = 3;
export const PT_DYNAMIC = 2;
export const DT_NULL = 0;
export const DT_STRTAB = 5;
export const DT_SONAME = 14;
