/**
 * ACPI tables (ACPI 6.4), by which a distribution's kernel finds processors, interrupt controller,
 * serial port and virtio devices. The machine is of the hardware-reduced kind (4.1): no SMI, no
 * power-management timer, no fixed registers but the one that switches it off.
 *
 * ```text
 * RSDP -> XSDT -> FADT -> DSDT (COM1, one LNRO0005 for each virtio-mmio window, \_S5)
 *              -> MADT (local APICs, IOAPIC)
 * ```
 *
 * @module
 */
import { bytes, struct, u16, u32, u64, u8 } from "../../ffi/struct.ts";
import type { MmioRegion } from "../vcpu/bus.ts";
import {
  ACPI_ADDRESS,
  ACPI_SIZE,
  IOAPIC_ADDRESS,
  LOCAL_APIC_ADDRESS,
  SERIAL_IRQ,
  SERIAL_PORT,
  SERIAL_PORTS,
  SLEEP_CONTROL_PORT,
  SLEEP_STATUS_PORT,
  SLEEP_TYPE_OFF,
} from "../layout.ts";
import * as aml from "./aml.ts";

const ascii = (text: string) => new TextEncoder().encode(text);

const OEM_ID = ascii("CLOUDL");
const OEM_TABLE_ID = ascii("MICROVM ");
const CREATOR_ID = ascii("CLDL");
const ALIGNMENT = 16; // the RSDP's (5.2.5.1); the others have none

/** 5.2.5.3 */
const root_pointer = struct("RSDP", {
  signature: bytes(8),
  checksum: u8, // of the first 20 bytes
  oem_id: bytes(6),
  revision: u8,
  rsdt_address: u32,
  length: u32,
  xsdt_address: u64,
  extended_checksum: u8, // of all
  reserved: bytes(3),
}, { packed: true });
const ACPI_1_SIZE = 20;

/** 5.2.6 */
const table_header = struct("ACPI table header", {
  signature: bytes(4),
  length: u32,
  revision: u8,
  checksum: u8,
  oem_id: bytes(6),
  oem_table_id: bytes(8),
  oem_revision: u32,
  creator_id: bytes(4),
  creator_revision: u32,
}, { packed: true });

/** 5.2.3.2 */
const generic_address = struct("GAS", {
  address_space_id: u8,
  register_bit_width: u8,
  register_bit_offset: u8,
  access_size: u8,
  address: u64,
}, { packed: true });

/** 5.2.9, without the header; what hardware-reduced ACPI ignores has no name. */
const fadt_body = struct("FADT", {
  firmware_ctrl: u32,
  dsdt: u32,
  fixed_hardware: bytes(109 - 44),
  iapc_boot_arch: u16,
  reserved: u8,
  flags: u32,
  reset_reg: generic_address,
  reset_value: u8,
  arm_boot_arch: u16,
  fadt_minor_version: u8,
  x_firmware_ctrl: u64,
  x_dsdt: u64,
  x_fixed_hardware: bytes(244 - 148),
  sleep_control_reg: generic_address,
  sleep_status_reg: generic_address,
  hypervisor_vendor_identity: bytes(8),
}, { packed: true });

const SYSTEM_IO = 1;
const BYTE_ACCESS = 1;

/** 5.2.9, table 5.10 */
const FLAG = {
  WBINVD: 1 << 0,
  PWR_BUTTON: 1 << 4, // no fixed power button
  SLP_BUTTON: 1 << 5,
  HW_REDUCED_ACPI: 1 << 20,
} as const;
/** 5.2.9.3, table 5.11; without bit 1 the kernel does not look for a keyboard controller. */
const BOOT_ARCH = {
  VGA_NOT_PRESENT: 1 << 2,
  MSI_NOT_SUPPORTED: 1 << 3,
  CMOS_RTC_NOT_PRESENT: 1 << 5, // ours has a time, but no alarm
} as const;

/** 5.2.12.2 */
const madt_local_apic = struct("MADT local APIC", {
  type: u8,
  length: u8,
  acpi_processor_uid: u8,
  apic_id: u8,
  flags: u32,
}, { packed: true });
/** 5.2.12.3 */
const madt_io_apic = struct("MADT I/O APIC", {
  type: u8,
  length: u8,
  io_apic_id: u8,
  reserved: u8,
  address: u32,
  global_system_interrupt_base: u32,
}, { packed: true });
const LOCAL_APIC_ENABLED = 1;

/** Makes the sum of all bytes zero. */
function checksum(table: Uint8Array): number {
  let sum = 0;
  for (const byte of table) sum += byte;
  return -sum & 0xff;
}

function table(signature: string, revision: number, body: readonly Uint8Array[]): Uint8Array {
  const length = body.reduce((sum, part) => sum + part.length, table_header.size);
  const result = new Uint8Array(length);
  result.set(table_header.encode({
    signature: ascii(signature),
    length,
    revision,
    oem_id: OEM_ID,
    oem_table_id: OEM_TABLE_ID,
    oem_revision: 1,
    creator_id: CREATOR_ID,
    creator_revision: 1,
  }));
  let at = table_header.size;
  for (const part of body) {
    result.set(part, at);
    at += part.length;
  }
  result[table_header.offsets.checksum] = checksum(result);
  return result;
}

/** What the tables describe. */
export interface AcpiMachine {
  /** Number of processors; their APIC ids count from 0. */
  readonly vcpus: number;
  /** virtio-mmio windows. */
  readonly devices: readonly Pick<MmioRegion, "base" | "size" | "irq">[];
}

function dsdt(devices: AcpiMachine["devices"]): Uint8Array {
  const serial = aml.device(
    "COM1",
    aml.name("_HID", aml.string("PNP0501")), // 16550A-compatible COM port
    aml.name("_UID", aml.integer(0)),
    aml.name(
      "_CRS",
      aml.resources(aml.ports(SERIAL_PORT, SERIAL_PORTS), aml.edgeInterrupt(SERIAL_IRQ)),
    ),
  );
  // drivers/virtio/virtio_mmio.c: virtio_mmio_acpi_match
  const virtio = devices.map(({ base, size, irq }, index) =>
    aml.device(
      `V${index.toString().padStart(3, "0")}`,
      aml.name("_HID", aml.string("LNRO0005")),
      aml.name("_UID", aml.integer(index)),
      aml.name("_CCA", aml.integer(1)), // 6.2.17: caches are coherent
      aml.name("_CRS", aml.resources(aml.memory32Fixed(base, size), aml.edgeInterrupt(irq))),
    )
  );
  // 7.4.2: SLP_TYPa is what is written to the sleep control register to switch off.
  const off = aml.packageOf(aml.integer(SLEEP_TYPE_OFF), aml.integer(0));
  return table("DSDT", 2, [aml.scope("_SB", serial, ...virtio), aml.name("_S5", off)]);
}

function fadt(dsdtAddress: number): Uint8Array {
  const port = (address: number) => ({
    address_space_id: SYSTEM_IO,
    register_bit_width: 8,
    register_bit_offset: 0,
    access_size: BYTE_ACCESS,
    address: BigInt(address),
  });
  return table("FACP", 6, [fadt_body.encode({
    iapc_boot_arch: BOOT_ARCH.VGA_NOT_PRESENT | BOOT_ARCH.MSI_NOT_SUPPORTED |
      BOOT_ARCH.CMOS_RTC_NOT_PRESENT,
    flags: FLAG.WBINVD | FLAG.PWR_BUTTON | FLAG.SLP_BUTTON | FLAG.HW_REDUCED_ACPI,
    fadt_minor_version: 4,
    x_dsdt: BigInt(dsdtAddress), // 5.2.9: "the DSDT field must be ignored" when this is not 0
    sleep_control_reg: port(SLEEP_CONTROL_PORT),
    sleep_status_reg: port(SLEEP_STATUS_PORT),
    hypervisor_vendor_identity: ascii("CLOUDLET"),
  })]);
}

function madt(vcpus: number): Uint8Array {
  const start = new Uint8Array(8); // 5.2.12: local APIC address, flags (no 8259)
  new DataView(start.buffer).setUint32(0, LOCAL_APIC_ADDRESS, true);
  const processors = Array.from({ length: vcpus }, (_, id) =>
    madt_local_apic.encode({
      type: 0,
      length: madt_local_apic.size,
      acpi_processor_uid: id,
      apic_id: id,
      flags: LOCAL_APIC_ENABLED,
    }));
  const ioApic = madt_io_apic.encode({
    type: 1,
    length: madt_io_apic.size,
    io_apic_id: vcpus,
    address: IOAPIC_ADDRESS,
  });
  return table("APIC", 5, [start, ...processors, ioApic]);
}

/**
 * All tables in one piece, to be written at {@linkcode ACPI_ADDRESS}; the root pointer comes first,
 * so that its address is the piece's.
 */
export function acpiTables(machine: AcpiMachine): Uint8Array<ArrayBuffer> {
  const image = new Uint8Array(ACPI_SIZE);
  let end = root_pointer.size;
  const place = (part: Uint8Array): number => {
    const at = Math.ceil(end / ALIGNMENT) * ALIGNMENT;
    end = at + part.length;
    if (end > ACPI_SIZE) throw new RangeError("the ACPI tables do not fit into their place");
    image.set(part, at);
    return ACPI_ADDRESS + at;
  };
  const tables = [place(fadt(place(dsdt(machine.devices)))), place(madt(machine.vcpus))];
  const pointers = new Uint8Array(new BigUint64Array(tables.map(BigInt)).buffer);
  const rsdp = root_pointer.encode({
    signature: ascii("RSD PTR "),
    oem_id: OEM_ID,
    revision: 2,
    length: root_pointer.size,
    xsdt_address: BigInt(place(table("XSDT", 1, [pointers]))),
  });
  rsdp[root_pointer.offsets.checksum] = checksum(rsdp.subarray(0, ACPI_1_SIZE));
  rsdp[root_pointer.offsets.extended_checksum] = checksum(rsdp);
  image.set(rsdp);
  return image.slice(0, end);
}
