/**
 * arch/x86/include/uapi/asm/bootparam.h of Linux 6.1, under the kernel's names; the fields are
 * explained in Documentation/x86/boot.rst and zero-page.rst.
 *
 * @module
 */
import { array, layout, type Struct, struct, u16, u32, u64, u8 } from "../struct.ts";

/** setup_data.type: a seed for the random number generator. */
export const SETUP_RNG_SEED = 9;
/** setup_header.loadflags: the protected-mode code is loaded high. */
export const LOADED_HIGH = 1 << 0;
/** setup_header.xloadflags: there is a 64-bit entry point at 0x200. */
export const XLF_KERNEL_64 = 1 << 0;
/** setup_header.xloadflags: kernel and initramfs may lie above 4 GiB. */
export const XLF_CAN_BE_LOADED_ABOVE_4G = 1 << 1;
/** boot_e820_entry.type: usable memory. */
export const E820_RAM = 1;
/** boot_e820_entry.type: not to be touched. */
export const E820_RESERVED = 2;
/** Entries that fit into boot_params. */
export const E820_MAX_ENTRIES_ZEROPAGE = 128;

/** struct setup_header. */
export const setup_header = struct("setup_header", {
  setup_sects: u8,
  root_flags: u16,
  syssize: u32,
  ram_size: u16,
  vid_mode: u16,
  root_dev: u16,
  boot_flag: u16,
  jump: u16,
  header: u32,
  version: u16,
  realmode_swtch: u32,
  start_sys_seg: u16,
  kernel_version: u16,
  type_of_loader: u8,
  loadflags: u8,
  setup_move_size: u16,
  code32_start: u32,
  ramdisk_image: u32,
  ramdisk_size: u32,
  bootsect_kludge: u32,
  heap_end_ptr: u16,
  ext_loader_ver: u8,
  ext_loader_type: u8,
  cmd_line_ptr: u32,
  initrd_addr_max: u32,
  kernel_alignment: u32,
  relocatable_kernel: u8,
  min_alignment: u8,
  xloadflags: u16,
  cmdline_size: u32,
  hardware_subarch: u32,
  hardware_subarch_data: u64,
  payload_offset: u32,
  payload_length: u32,
  setup_data: u64,
  pref_address: u64,
  init_size: u32,
  handover_offset: u32,
  kernel_info_offset: u32,
}, { packed: true });

/** struct boot_e820_entry. */
export const boot_e820_entry = struct("boot_e820_entry", { addr: u64, size: u64, type: u32 }, {
  packed: true,
});

/** struct setup_data without its flexible array `data`. */
export const setup_data = struct("setup_data", { next: u64, type: u32, len: u32 });

/** struct boot_params: the members that a 64-bit boot uses. */
export const boot_params = layout("boot_params", 4096, {
  acpi_rsdp_addr: [0x070, u64],
  ext_ramdisk_image: [0x0c0, u32],
  ext_ramdisk_size: [0x0c4, u32],
  ext_cmd_line_ptr: [0x0c8, u32],
  e820_entries: [0x1e8, u8],
  sentinel: [0x1ef, u8],
  hdr: [0x1f1, setup_header],
  e820_table: [0x2d0, array(boot_e820_entry, E820_MAX_ENTRIES_ZEROPAGE)],
});

/** Every struct of this header, for the layout test. */
export const structs: readonly Struct<never>[] = [
  setup_header,
  boot_e820_entry,
  setup_data,
  boot_params,
] as unknown as readonly Struct<never>[];
