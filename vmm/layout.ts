/**
 * Where things are in the guest's physical address space, each with its reason.
 *
 * ```text
 * 0x0000_0500            GDT, IDT
 * 0x0000_7000            boot_params ("zero page")
 * 0x0000_9000            page tables for the first 4 GiB
 * 0x0002_0000            kernel command line
 * 0x0009_fc00 .. 1 MiB   EBDA (MP table), then the hole of the PC's ROMs (ACPI tables)
 * 1 MiB ..               RAM: kernel, and the initramfs at its end
 * 3 GiB .. 4 GiB         hole: virtio-mmio windows, IOAPIC, local APIC, KVM's own pages
 * 4 GiB ..               the rest of RAM
 * 256 GiB ..             read-only files mapped for virtio-pmem
 * ```
 *
 * @module
 */

/** Bytes of a page. */
export const PAGE_SIZE = 4096;
/** 2^20. */
export const MIB: number = 1024 * 1024;
/** 2^30. */
export const GIB: number = 1024 * MIB;

/** Global descriptor table: the first free RAM behind the real-mode vectors and BIOS data area. */
export const GDT_ADDRESS = 0x500;
/** Interrupt descriptor table: empty, so any exception before the kernel sets one is fatal. */
export const IDT_ADDRESS = 0x520;
/** boot_params; any place below 640 KiB does. */
export const BOOT_PARAMS_ADDRESS = 0x7000;
/** Page map level 4; behind it one page directory pointer table and four page directories. */
export const PAGE_TABLES_ADDRESS = 0x9000;
/** Kernel command line; room up to the EBDA, the kernel takes COMMAND_LINE_SIZE. */
export const CMDLINE_ADDRESS = 0x2_0000;
/** COMMAND_LINE_SIZE of arch/x86/include/asm/setup.h, with the NUL. */
export const CMDLINE_SIZE = 2048;
/** Extended BIOS data area: the MP table is looked for in its first KiB (MP spec 1.4, 4). */
export const EBDA_ADDRESS = 0x9_fc00;
/** ACPI tables: where a BIOS has them, and a kernel that was told no address looks (ACPI 5.2.5.1). */
export const ACPI_ADDRESS = 0xe_0000;
/** Room for the ACPI tables; 32 processors and 17 devices take less than half. */
export const ACPI_SIZE = 0x4000;
/** End of the PC's ROM hole: here RAM goes on and kernels are loaded. */
export const HIGH_MEMORY_ADDRESS: number = MIB;
/** Largest MP table that fits before the ROM hole. */
export const EBDA_SIZE: number = 0xa_0000 - EBDA_ADDRESS;

/** Start of the hole below 4 GiB: RAM that would be here goes above 4 GiB. */
export const MMIO_GAP_START: number = 3 * GIB;
/** End of the hole. */
export const MMIO_GAP_END: number = 4 * GIB;
/** First virtio-mmio window; one page each. */
export const VIRTIO_MMIO_ADDRESS = 0xd000_0000;
/** Bytes of a virtio-mmio window: one page, so that one page of the guest is one device. */
export const VIRTIO_MMIO_SIZE: number = PAGE_SIZE;
/** First IOAPIC pin of a virtio device: behind the ISA interrupts that a PC has. */
export const VIRTIO_IRQ_FIRST = 5;
/** Where every PC has its IOAPIC. */
export const IOAPIC_ADDRESS = 0xfec0_0000;
/** Where every processor has its local APIC after reset. */
export const LOCAL_APIC_ADDRESS = 0xfee0_0000;
/** KVM_SET_IDENTITY_MAP_ADDR: one page "within the first 4 GiB" that no RAM overlaps. */
export const KVM_IDENTITY_MAP_ADDRESS = 0xfffb_c000;
/** KVM_SET_TSS_ADDR: three pages behind it. */
export const KVM_TSS_ADDRESS = 0xfffb_d000;

/** First pmem window: above any RAM that a VM can have here, aligned for 1 GiB pages. */
export const PMEM_ADDRESS: number = 256 * GIB;

/** Interrupt line of the first serial port. */
export const SERIAL_IRQ = 4;
/** I/O ports of the first serial port, as on every PC. */
export const SERIAL_PORT = 0x3f8;
/** Number of its ports. */
export const SERIAL_PORTS = 8;
/** Port by which a kernel with ACPI switches the machine off (ACPI 4.8.3.7); no PC has one there. */
export const SLEEP_CONTROL_PORT = 0x600;
/** The status register that belongs to it. */
export const SLEEP_STATUS_PORT = 0x601;
/** A kernel that is emulated has memory copied here, and filled by way of {@linkcode FILL_PORT}. */
export const COPY_PORT = 0x610;
/** The port that follows: its distance is the kernel's HOST_STRINGS_FILL. */
export const FILL_PORT = COPY_PORT + 4;
/** Sleep type "off", as the DSDT's `\\_S5` names it. */
export const SLEEP_TYPE_OFF = 5;

/** Least RAM: a kernel, its page array and an initramfs need about this. */
export const MIN_MEMORY: number = 32 * MIB;
/** Most RAM: the windows for pmem begin at 256 GiB. */
export const MAX_MEMORY: number = 128 * GIB;
/** Most vCPUs: the MP table has to fit into the EBDA's KiB, and APIC ids into 8 bits. */
export const MAX_VCPUS = 32;

/** A range of guest-physical addresses. */
export interface Range {
  /** First address. */
  readonly start: number;
  /** Bytes. */
  readonly size: number;
}

/**
 * Where RAM of `size` bytes lies: below the hole, and above 4 GiB what does not fit there.
 *
 * @param size bytes, a multiple of the page size
 */
export function ramRanges(size: number): Range[] {
  const low = Math.min(size, MMIO_GAP_START);
  const ranges = [{ start: 0, size: low }];
  if (size > low) ranges.push({ start: MMIO_GAP_END, size: size - low });
  return ranges;
}
